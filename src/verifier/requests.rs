// SPDX-License-Identifier: Apache-2.0
//! Layers that somebody wants to use, and of which only the seal worker can say whether they may be: unproven ones,
//! and those that could not be sealed.
//!
//! The worker answers in rounds. Who asks is answered by a round that began after the question, so an answer is never
//! older than what it is about.

use std::collections::{HashMap, HashSet};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Instant;

use crate::verifier::lock;

/// What a question came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The worker has done what it can: the layer's record says what that was, or [`Requests::reason`] why nothing.
    Given,
    /// Not before the deadline.
    Late,
    /// The daemon is stopping.
    Stopping,
}

/// See the [module](self).
#[derive(Default)]
pub struct Requests {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    wanted: HashSet<u64>,
    /// Why the worker could do nothing, by the layer's number.
    reasons: HashMap<u64, String>,
    /// Rounds.
    begun: u64,
    ended: u64,
    stopping: bool,
}

impl Requests {
    /// Asks for these layers, wakes the worker, and waits.
    pub fn ask(&self, ids: impl IntoIterator<Item = u64>, wake: impl FnOnce(), deadline: Instant) -> Answer {
        let mut state = lock(&self.state);
        state.wanted.extend(ids);
        let round = state.begun + 1;
        drop(state);
        wake();
        let mut state = lock(&self.state);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match () {
                // A round that a stop has cut short says nothing.
                () if state.stopping => return Answer::Stopping,
                () if state.ended >= round => return Answer::Given,
                () if left.is_zero() => return Answer::Late,
                () => state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
            }
        }
    }

    /// Whether somebody waits.
    pub fn are_there(&self) -> bool {
        !lock(&self.state).wanted.is_empty()
    }

    /// Does one round, if there is anything to do; it ends however `work` does.
    pub fn answer(&self, work: impl FnOnce(&HashSet<u64>)) {
        let wanted = {
            let mut state = lock(&self.state);
            if state.wanted.is_empty() {
                return;
            }
            state.begun += 1;
            std::mem::take(&mut state.wanted)
        };
        work(&wanted);
        let mut state = lock(&self.state);
        state.ended = state.begun;
        self.changed.notify_all();
    }

    /// The worker could not do anything for a layer.
    pub fn failed(&self, id: u64, reason: String) {
        lock(&self.state).reasons.insert(id, reason);
    }

    /// It could.
    pub fn succeeded(&self, id: u64) {
        lock(&self.state).reasons.remove(&id);
    }

    /// Why it could not, last time.
    pub fn reason(&self, id: u64) -> Option<String> {
        lock(&self.state).reasons.get(&id).cloned()
    }

    /// Keeps only the layers that there still are.
    pub fn retain(&self, ids: &HashSet<u64>) {
        lock(&self.state).reasons.retain(|id, _| ids.contains(id));
    }

    /// Whoever waits, or comes later, is told so.
    pub fn stop(&self) {
        lock(&self.state).stopping = true;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn an_answer_is_never_older_than_its_question() {
        let requests = Requests::default();
        let asked = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let first = scope.spawn(|| requests.ask([1], || asked.0.send(()).unwrap(), Instant::now() + LONG));
            asked.1.recv().unwrap();
            requests.answer(|wanted| {
                assert_eq!(*wanted, HashSet::from([1]));
                // Asked while the round runs: it is too late for this one.
                let late = requests.ask([2], || (), Instant::now() + Duration::from_millis(20));
                assert_eq!(late, Answer::Late);
                requests.failed(1, "why".into());
            });
            assert_eq!(first.join().unwrap(), Answer::Given);
        });
        assert_eq!(requests.reason(1).as_deref(), Some("why"));
        assert!(requests.are_there());
        requests.answer(|wanted| assert_eq!(*wanted, HashSet::from([2])));
        assert!(!requests.are_there());
        requests.succeeded(1);
        assert_eq!(requests.reason(1), None);
    }

    #[test]
    fn a_stop_is_told_to_everybody() {
        let requests = Requests::default();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| requests.ask([1], || (), Instant::now() + LONG));
            requests.stop();
            assert_eq!(waiting.join().unwrap(), Answer::Stopping);
        });
        assert_eq!(requests.ask([1], || (), Instant::now() + LONG), Answer::Stopping);
    }
}
