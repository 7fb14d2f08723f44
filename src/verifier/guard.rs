// SPDX-License-Identifier: Apache-2.0
//! Checks of layers, each shared by everybody who waits for it.
//!
//! Invariant: at any moment at most one check of a layer is queued or running, and a check that was begun ends,
//! whether or not somebody still waits: its result is written down for the next caller. A fixed number of threads
//! does the checks, so a node that starts fifty containers at once reads its disk as one that starts two.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

use crate::error::{Error, ErrorKind};
use crate::snapshotter::Snapshot;
use crate::tree::Progress;
use crate::verifier::check::Outcome;
use crate::verifier::lock;

/// A check of one layer.
pub struct Flight {
    layer: Snapshot,
    outcome: Mutex<Option<Outcome>>,
    landed: Condvar,
    progress: Progress,
    began: AtomicBool,
}

/// A check as one of those who wait for it sees it.
pub struct Ticket {
    /// The check.
    pub flight: Arc<Flight>,
    /// It had begun before: what it says may be older than the question.
    pub stale: bool,
}

impl Flight {
    /// The layer that is checked.
    pub fn layer(&self) -> &Snapshot {
        &self.layer
    }

    /// Waits for the outcome; none if `deadline` comes first.
    pub fn wait(&self, deadline: Instant) -> Option<Outcome> {
        let mut outcome = lock(&self.outcome);
        while outcome.is_none() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            outcome = self.landed.wait_timeout(outcome, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        outcome.clone()
    }

    fn land(&self, outcome: Outcome) {
        *lock(&self.outcome) = Some(outcome);
        self.landed.notify_all();
    }
}

/// Checks that wait for a thread, and those that have one.
#[derive(Default)]
pub struct Flights {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    by_id: HashMap<u64, Arc<Flight>>,
    queue: VecDeque<Arc<Flight>>,
    stopping: bool,
}

impl Flights {
    /// The check of this layer that is under way, or a new one.
    pub fn join(&self, layer: Snapshot) -> Ticket {
        let mut state = lock(&self.state);
        if let Some(flight) = state.by_id.get(&layer.id) {
            return Ticket { flight: Arc::clone(flight), stale: flight.began.load(Ordering::Relaxed) };
        }
        let id = layer.id;
        let flight = Arc::new(Flight {
            layer,
            outcome: Mutex::default(),
            landed: Condvar::new(),
            progress: Progress::default(),
            began: AtomicBool::new(false),
        });
        if state.stopping {
            flight.land(Outcome::Stopped);
            return Ticket { flight, stale: false };
        }
        state.by_id.insert(id, Arc::clone(&flight));
        state.queue.push_back(Arc::clone(&flight));
        self.changed.notify_one();
        Ticket { flight, stale: false }
    }

    /// Does checks until [`Flights::stop`]; several threads may.
    pub fn run(&self, check: impl Fn(&Snapshot, &Progress) -> Outcome) {
        while let Some(flight) = self.next() {
            let outcome =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&flight.layer, &flight.progress)))
                    .unwrap_or_else(|_| Outcome::of(&Error::new(ErrorKind::Io, "the check panicked")));
            // Out of the table first: who comes now wants a check that begins now.
            lock(&self.state).by_id.remove(&flight.layer.id);
            flight.land(outcome);
        }
    }

    /// Cancels the checks of a snapshot that is gone.
    pub fn give_up(&self, key: &str) {
        for flight in lock(&self.state).by_id.values().filter(|flight| flight.layer.key == key) {
            flight.progress.cancel();
        }
    }

    /// Cancels the checks that run and drops those that wait.
    pub fn stop(&self) {
        let mut state = lock(&self.state);
        state.stopping = true;
        for flight in std::mem::take(&mut state.queue) {
            state.by_id.remove(&flight.layer.id);
            flight.land(Outcome::Stopped);
        }
        for flight in state.by_id.values() {
            flight.progress.cancel();
        }
        self.changed.notify_all();
    }

    fn next(&self) -> Option<Arc<Flight>> {
        let mut state = lock(&self.state);
        loop {
            if state.stopping {
                return None;
            }
            if let Some(flight) = state.queue.pop_front() {
                flight.began.store(true, Ordering::Relaxed);
                return Some(flight);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::snapshotter::{Kind, Usage};

    const LONG: Duration = Duration::from_secs(30);

    fn layer(id: u64) -> Snapshot {
        Snapshot {
            id,
            key: id.to_string(),
            parent: None,
            kind: Kind::Committed,
            labels: Default::default(),
            created_at: 0,
            updated_at: 0,
            usage: Usage::default(),
            seal: None,
        }
    }

    #[test]
    fn a_layer_is_checked_once_for_all_who_wait() {
        let flights = Flights::default();
        let checks = AtomicUsize::new(0);
        let (go, gate) = mpsc::channel::<()>();
        let gate = Mutex::new(gate);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                flights.run(|_, _| {
                    checks.fetch_add(1, Ordering::Relaxed);
                    lock(&gate).recv().unwrap();
                    Outcome::Intact
                })
            });
            let all: Vec<_> = (0..50).map(|_| flights.join(layer(7)).flight).collect();
            assert!(all[0].wait(Instant::now() + Duration::from_millis(20)).is_none(), "a deadline ends the wait");
            go.send(()).unwrap();
            for flight in all {
                assert!(matches!(flight.wait(Instant::now() + LONG), Some(Outcome::Intact)));
            }
            assert_eq!(checks.load(Ordering::Relaxed), 1);
            go.send(()).unwrap();
            assert!(flights.join(layer(7)).flight.wait(Instant::now() + LONG).is_some());
            assert_eq!(checks.load(Ordering::Relaxed), 2, "who comes later has a check of his own");
            flights.stop();
        });
    }

    #[test]
    fn who_joins_a_check_that_runs_knows_it() {
        let flights = Flights::default();
        assert!(!flights.join(layer(1)).stale);
        assert!(!flights.join(layer(1)).stale, "it has not begun");
        let (began, running) = mpsc::channel();
        let (go, gate) = mpsc::channel::<()>();
        let gate = Mutex::new(gate);
        std::thread::scope(|scope| {
            let (flights, gate) = (&flights, &gate);
            scope.spawn(move || {
                flights.run(|_, _| {
                    began.send(()).unwrap();
                    lock(gate).recv().unwrap();
                    Outcome::Intact
                })
            });
            running.recv().unwrap();
            let late = flights.join(layer(1));
            assert!(late.stale);
            go.send(()).unwrap();
            assert!(late.flight.wait(Instant::now() + LONG).is_some());
            flights.stop();
        });
    }

    #[test]
    fn no_more_checks_run_than_threads() {
        let flights = Flights::default();
        let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    flights.run(|_, _| {
                        most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        std::thread::sleep(Duration::from_millis(5));
                        running.fetch_sub(1, Ordering::SeqCst);
                        Outcome::Intact
                    })
                });
            }
            let all: Vec<_> = (0..20).map(|id| flights.join(layer(id)).flight).collect();
            for flight in all {
                assert!(flight.wait(Instant::now() + LONG).is_some());
            }
            flights.stop();
        });
        assert_eq!(most.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn stopping_cancels_and_answers_everybody() {
        let flights = Flights::default();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                flights.run(|_, progress| {
                    while progress.check().is_ok() {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    Outcome::of(&progress.check().unwrap_err())
                })
            });
            let all: Vec<_> = (0..3).map(|id| flights.join(layer(id)).flight).collect();
            flights.stop();
            for flight in all.into_iter().chain([flights.join(layer(9)).flight]) {
                assert!(matches!(flight.wait(Instant::now() + LONG), Some(Outcome::Stopped)));
            }
        });
    }
}
