// SPDX-License-Identifier: Apache-2.0
//! What a Prepare or a View waits for: the checks of the layers that it stands on.
//!
//! What is known of a layer decides what is asked, and past the deadline what follows:
//!
//! | state | asked | past the deadline |
//! |---|---|---|
//! | pending | nothing: it is sealed in a moment | – |
//! | pending, and sealing it failed twice | the seal worker, now | could not be checked |
//! | unproven | the seal worker: compared with its image, now | could not be checked |
//! | sealed, verified | a check against its seal | passes, the check goes on |
//! | damaged | a check against its seal: it may be repaired | damaged |
//! | damaged, as its image says, which could not be stored | nothing | damaged |

use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Escaped, Result};
use crate::snapshotter::{SealState, Snapshot};
use crate::verifier::check::Outcome;
use crate::verifier::guard::Ticket;
use crate::verifier::requests::Answer;
use crate::verifier::{Action, Check, Unproven, Use, Verifier};

/// Longer than any deadline that is meant; for those that no clock can express.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

impl Verifier {
    /// Checks the layers that `parent` consists of before something is put on top of them. The deadline counts from
    /// `asked`, when the call came in: what it waited for before it got here is waiting too.
    ///
    /// # Errors
    /// `FailedPrecondition`, naming snapshot, paths and findings, if a layer is damaged or could not be checked and
    /// the policy is to refuse; `Corrupt` if what it is checked against has rotted. `NotFound` if there is no such
    /// parent, or no more. `Unavailable` if the daemon stops first.
    pub fn before_use(&self, parent: &str, what: Use, asked: Instant) -> Result<()> {
        let policy = &self.inner.policy;
        if policy.check(what) == Check::Off {
            return Ok(());
        }
        let deadline = asked.checked_add(policy.deadline).unwrap_or_else(|| asked + NEVER);
        let chain = || self.inner.snapshotter.chain(parent);
        let ids = |layers: &[Snapshot]| layers.iter().map(|layer| layer.id).collect::<Vec<_>>();
        let mut layers = chain()?;
        loop {
            let checked = ids(&layers);
            let Err(error) = self.check_layers(parent, layers, deadline) else { return Ok(()) };
            // Of what was removed meanwhile nothing was found out; what has its name now is another one.
            layers = chain()?;
            if ids(&layers) == checked {
                return Err(error);
            }
        }
    }

    fn check_layers(&self, parent: &str, layers: Vec<Snapshot>, deadline: Instant) -> Result<()> {
        let layers = self.answered(layers, deadline)?;
        for layer in &layers {
            self.judge_contradicted(layer)?;
        }
        let layers = layers.into_iter().filter(has_proof);
        // What is known of a layer is what this caller just read, not what the one read who began the check.
        let tickets: Vec<_> = layers.map(|layer| (was_damaged(&layer), self.inner.flights.join(layer))).collect();
        let mut late = 0;
        for (was_damaged, ticket) in &tickets {
            match self.wait(ticket, deadline) {
                Some(outcome) => self.judge(ticket.flight.layer(), &outcome)?,
                None if *was_damaged => self.judge_late(ticket.flight.layer())?,
                None => late += 1,
            }
        }
        if late > 0 {
            log::warn!(
                "snapshot {}: {late} of {} layers not verified within {:?}: used unverified, the check goes on",
                Escaped(parent.as_bytes()),
                tickets.len(),
                self.inner.policy.deadline
            );
        }
        Ok(())
    }

    /// The layers as they are once the seal worker has looked at those that no check can say anything about.
    fn answered(&self, layers: Vec<Snapshot>, deadline: Instant) -> Result<Vec<Snapshot>> {
        let inner = &self.inner;
        let is_open = |layer: &Snapshot| match layer.seal.map(|seal| seal.state) {
            Some(SealState::Unproven) => true,
            Some(SealState::Pending) => inner.requests.reason(layer.id).is_some(),
            _ => false,
        };
        let open: Vec<u64> = layers.iter().filter(|layer| is_open(layer)).map(|layer| layer.id).collect();
        if open.is_empty() {
            return Ok(layers);
        }
        let answer = inner.requests.ask(open, || inner.bell.ring(), deadline);
        let mut now = Vec::with_capacity(layers.len());
        for layer in layers {
            let layer = inner.snapshotter.stat(&layer.key)?;
            if is_open(&layer) {
                self.judge_open(&layer, answer)?;
            }
            now.push(layer);
        }
        Ok(now)
    }

    /// What follows for a layer of which the seal worker could say nothing.
    fn judge_open(&self, layer: &Snapshot, answer: Answer) -> Result<()> {
        let reason = match answer {
            Answer::Stopping => return Err(stopping()),
            Answer::Late => "its comparison with its image has not ended yet: try again".into(),
            Answer::Given => self.inner.requests.reason(layer.id).unwrap_or_else(|| "try again".into()),
        };
        let is_unproven = layer.seal.is_some_and(|seal| seal.state == SealState::Unproven);
        if is_unproven && answer == Answer::Given {
            let message = format!("nothing proves what it holds: {reason}");
            return match self.inner.policy.unproven {
                Unproven::Allow => {
                    let key = Escaped(layer.key.as_bytes());
                    log::warn!("snapshot {key}: {message}; used all the same (verify.unproven = \"allow\")");
                    Ok(())
                }
                Unproven::Refuse => {
                    let hint = "remove it and unpack it again, or take what is on the disk for it with \
                                verify.unproven = \"allow\"";
                    self.refuse(
                        layer,
                        ErrorKind::FailedPrecondition,
                        format!("could not be checked: {message}; {hint}"),
                    )
                }
            };
        }
        self.refuse(layer, ErrorKind::FailedPrecondition, format!("could not be checked: {reason}"))
    }

    /// Damage that the image told of, and that no check against what is stored can take back.
    fn judge_contradicted(&self, layer: &Snapshot) -> Result<()> {
        let known = self.inner.contradictions.get(layer.id);
        match (layer.seal.is_some_and(|seal| seal.contradicted), known) {
            (_, Some(damage)) => self.judge(layer, &Outcome::Damaged(damage)),
            (true, None) => {
                self.refuse(layer, ErrorKind::FailedPrecondition, "damaged: it is not what its image says".into())
            }
            (false, None) => Ok(()),
        }
    }

    /// Waits for a check. Damage seen by one that began before the caller asked is looked at again: it may have
    /// been repaired since.
    fn wait(&self, ticket: &Ticket, deadline: Instant) -> Option<Outcome> {
        let outcome = ticket.flight.wait(deadline)?;
        match outcome {
            Outcome::Damaged(_) if ticket.stale => {
                let again = self.inner.flights.join(ticket.flight.layer().clone());
                again.flight.wait(deadline).or(Some(outcome))
            }
            _ => Some(outcome),
        }
    }

    fn judge(&self, layer: &Snapshot, outcome: &Outcome) -> Result<()> {
        match outcome {
            Outcome::Intact => Ok(()),
            Outcome::Damaged(damage) => {
                let hint = self.inner.repair_hint(layer);
                self.refuse(layer, ErrorKind::FailedPrecondition, format!("damaged: {damage}{hint}"))
            }
            Outcome::Unchecked { reason, kind } => self.refuse(layer, *kind, format!("could not be checked: {reason}")),
            // A container that is asked for once more is as good as before: whoever asks must not take this for damage.
            Outcome::Stopped => Err(stopping()),
        }
    }

    fn judge_late(&self, layer: &Snapshot) -> Result<()> {
        let reason = "was damaged when it was last checked; the check that runs has not ended yet";
        self.refuse(layer, ErrorKind::FailedPrecondition, reason.into())
    }

    fn refuse(&self, layer: &Snapshot, kind: ErrorKind, reason: String) -> Result<()> {
        let message = format!("snapshot {}: {reason}", Escaped(layer.key.as_bytes()));
        match self.inner.policy.action {
            Action::Refuse => Err(Error::new(kind, message)),
            Action::Warn => {
                log::warn!("{message}; used all the same (verify.action = \"warn\")");
                Ok(())
            }
        }
    }
}

fn stopping() -> Error {
    Error::new(ErrorKind::Unavailable, "the daemon is stopping")
}

fn has_proof(layer: &Snapshot) -> bool {
    let has_proof = layer.seal.is_some_and(|seal| seal.proof().is_some());
    if !has_proof {
        log::debug!("snapshot {}: used before it was sealed", Escaped(layer.key.as_bytes()));
    }
    has_proof
}

fn was_damaged(layer: &Snapshot) -> bool {
    layer.seal.is_some_and(|seal| seal.state == SealState::Damaged)
}
