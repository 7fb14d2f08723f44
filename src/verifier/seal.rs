// SPDX-License-Identifier: Apache-2.0
//! Sealing: the layer manifest of every committed snapshot, built after the commit was acknowledged.
//!
//! Invariant: a seal job cannot be lost. The jobs are the committed snapshots whose seal is pending, in the
//! metadata; a commit only wakes the worker, which asks for them anew. So nothing is queued in memory, a restart
//! goes on where it was, and a job that failed is tried again, later and later.
//!
//! A seal from the disk says what the layer was when it was sealed, not when it was committed. The layer's
//! filesystem is synced first, so what is sealed is what a crash leaves. One window remains: a commit does not wait
//! for the files, so a power cut between commit and seal may lose contents. A start that may follow one makes such
//! layers unproven (see [`crate::snapshotter`]): what the disk holds then is written down, but it is no seal before an
//! image has said the same. A change by somebody else in that window is found by that comparison, too, but later.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Escaped, Result};
use crate::ops::{self, BuildOptions};
use crate::snapshotter::{Kind, Seal, SealState, Snapshot, Snapshotter};
use crate::sys::memory;
use crate::tree::{Progress, Root};
use crate::verifier::backoff::{Backoff, Retry};
use crate::verifier::explain::Explainer;
use crate::verifier::{Inner, lock, mend, publishing};

/// A disk that was full should not need a restart of the daemon.
const RETRY: Backoff = Backoff { first: Duration::from_secs(1), last: Duration::from_secs(300) };

/// Failures of a seal, one after the other, after which its layer counts as one that cannot be checked: until then it
/// is pending, and pending layers are used. The first may be a matter of a moment.
const FAILURES_PENDING: u32 = 1;

/// How long no commit must come, and no layer be unpacked, before sealing begins: while an image is unpacked, its
/// layers should not be read by us and written by containerd at the same time. Longer leaves a fresh layer unsealed for
/// longer.
const QUIET: Duration = Duration::from_secs(1);

/// The longest wait for quiet: an endless stream of commits must not keep all of them unsealed, nor must an unpacking
/// that was given up and not collected yet.
const QUIET_LAST: Duration = Duration::from_secs(30);

/// What the worker is told from outside.
#[derive(Default)]
pub struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
    stopping: AtomicBool,
    /// The snapshot that is being sealed, and what cancels that.
    current: Mutex<Option<(String, Arc<Progress>)>>,
}

impl Bell {
    /// There may be a job.
    pub fn ring(&self) {
        *lock(&self.rung) = true;
        self.changed.notify_all();
    }

    /// No further job is begun, the present one is given up; the next start finds it again.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        if let Some((_, progress)) = &*lock(&self.current) {
            progress.cancel();
        }
        self.ring();
    }

    /// Cancels the seal of a snapshot, if it is the one that is being built.
    pub fn give_up(&self, key: &str) {
        if let Some((current, progress)) = &*lock(&self.current)
            && current == key
        {
            progress.cancel();
        }
    }

    pub(super) fn begin(&self, key: &str) -> Arc<Progress> {
        let progress = Arc::new(Progress::default());
        *lock(&self.current) = Some((key.to_owned(), Arc::clone(&progress)));
        // A stop that came before the line above found nothing to cancel.
        if self.stopping() {
            progress.cancel();
        }
        progress
    }

    pub(super) fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// After a ring: returns once the bell was quiet for [`QUIET`] and nobody is `busy`, at the latest after
    /// [`QUIET_LAST`], and at once if it is `urgent`.
    fn settle(&self, busy: impl Fn() -> bool, urgent: impl Fn() -> bool) {
        let last = Instant::now() + QUIET_LAST;
        let is_over = || self.stopping() || urgent() || Instant::now() >= last;
        while !is_over() && (self.wait(Some(Instant::now() + QUIET)) || busy()) {}
    }

    /// Returns when the bell rings, or at `until`; tells whether it rang.
    fn wait(&self, until: Option<Instant>) -> bool {
        let mut rung = lock(&self.rung);
        while !*rung {
            let Some(left) = until.map(|at| at.saturating_duration_since(Instant::now())) else {
                rung = self.changed.wait(rung).unwrap_or_else(std::sync::PoisonError::into_inner);
                continue;
            };
            if left.is_zero() {
                break;
            }
            rung = self.changed.wait_timeout(rung, left).unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
        std::mem::take(&mut *rung)
    }
}

/// Whether containerd is unpacking a layer.
fn is_unpacking(snapshotter: &Snapshotter) -> bool {
    let unpacks = |snapshot: &Snapshot| snapshot.kind == Kind::Active && snapshot.is_unpack();
    snapshotter.list(&[]).is_ok_and(|snapshots| snapshots.iter().any(unpacks))
}

/// Failed seals by the number of the snapshot.
type Retries = HashMap<u64, Retry>;

/// Runs until [`Bell::stop`].
pub fn run(inner: &Inner) {
    let mut retries = Retries::new();
    let mut explainer = Explainer::default();
    while !inner.bell.stopping() {
        inner.requests.answer(|wanted| logged(caught(|| answer(inner, wanted, &mut retries, &mut explainer))));
        let sealing = seal_pending(inner, &mut retries);
        if inner.requests.are_there() {
            continue;
        }
        let explaining = caught(|| Ok(explainer.run(inner))).unwrap_or_default();
        logged(caught(|| mend::run(inner)));
        memory::trim();
        if inner.bell.wait(sealing.into_iter().chain(explaining).min()) {
            inner.bell.settle(|| is_unpacking(&inner.snapshotter), || inner.requests.are_there());
            explainer.hurry();
        }
    }
}

/// Does what can be done for layers that somebody waits for, whatever was to be done next.
fn answer(inner: &Inner, wanted: &HashSet<u64>, retries: &mut Retries, explainer: &mut Explainer) -> Result<()> {
    for snapshot in inner.snapshotter.pending()?.iter().filter(|snapshot| wanted.contains(&snapshot.id)) {
        if inner.bell.stopping() {
            return Ok(());
        }
        seal_once(inner, snapshot, retries);
    }
    explainer.answer(inner, wanted)
}

/// Seals what is pending and due; says when to look again even if no bell rings.
fn seal_pending(inner: &Inner, retries: &mut Retries) -> Option<Instant> {
    let pending = match inner.snapshotter.pending() {
        Ok(pending) => pending,
        Err(error) => {
            log::error!("seal: the pending snapshots cannot be listed: {error}");
            return Some(Instant::now() + RETRY.last);
        }
    };
    retries.retain(|id, _| pending.iter().any(|snapshot| snapshot.id == *id));
    for snapshot in &pending {
        if inner.bell.stopping() || inner.requests.are_there() {
            break;
        }
        if retries.get(&snapshot.id).is_none_or(Retry::is_due) {
            seal_once(inner, snapshot, retries);
        }
    }
    retries.values().map(|retry| retry.due).min()
}

/// Tries to seal a snapshot, and notes what came of it.
fn seal_once(inner: &Inner, snapshot: &Snapshot, retries: &mut Retries) {
    match caught(|| seal_or_skip(inner, snapshot)) {
        Ok(()) => {
            retries.remove(&snapshot.id);
            inner.requests.succeeded(snapshot.id);
        }
        Err(error) if error.kind() == ErrorKind::Cancelled && inner.bell.stopping() => {}
        Err(error) => {
            let retry = RETRY.after(retries.get(&snapshot.id));
            let key = Escaped(snapshot.key.as_bytes());
            log::error!("seal: snapshot {key} is not sealed, trying again in {} s: {error}", retry.wait.as_secs());
            if retry.failures > FAILURES_PENDING {
                inner.requests.failed(snapshot.id, format!("it cannot be sealed: {error}"));
            }
            retries.insert(snapshot.id, retry);
        }
    }
}

fn logged(worked: Result<()>) {
    if let Err(error) = worked {
        log::error!("seal: {error}");
    }
}

/// A panic over one snapshot must not leave all the others unsealed.
fn caught<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(Error::new(ErrorKind::Io, "the seal worker panicked")))
}

/// Seals; that the snapshot was removed meanwhile is no failure.
fn seal_or_skip(inner: &Inner, snapshot: &Snapshot) -> Result<()> {
    let started = Instant::now();
    let error = match seal(inner, snapshot) {
        Ok(()) => {
            let key = Escaped(snapshot.key.as_bytes());
            log::debug!("seal: snapshot {key} sealed in {} ms", started.elapsed().as_millis());
            return Ok(());
        }
        Err(error) => error,
    };
    match inner.snapshotter.stat(&snapshot.key) {
        Err(gone) if gone.kind() == ErrorKind::NotFound => Ok(()),
        Ok(other) if other.id != snapshot.id => Ok(()),
        _ => Err(error),
    }
}

fn seal(inner: &Inner, snapshot: &Snapshot) -> Result<()> {
    let directory = inner.snapshotter.layer_dir(snapshot.id);
    let root = Root::open(&directory)?;
    // What is read next may be in the page cache alone; a crash must not leave another layer than the sealed one.
    rustix::fs::syncfs(root.reopen()?).map_err(|errno| Error::io("syncfs", &directory, errno))?;
    let threads = inner.policy.threads;
    // What the host puts on files is not the layer's: a label that changes later is no damage.
    let options = BuildOptions { threads, include_root: true, without_hosts: true, ..BuildOptions::default() };
    let mut manifest = inner.store.create()?;
    let mut warn = |warning| log::warn!("seal: snapshot {}: {warning}", Escaped(snapshot.key.as_bytes()));
    ops::build(&root, &options, &inner.bell.begin(&snapshot.key), &mut manifest, &mut warn)?;
    // Between these two nothing refers to the manifest: the collection of manifests has to wait.
    let _publishing = publishing(inner);
    let digest = manifest.publish()?;
    let state = match snapshot.seal.map(|seal| seal.state) {
        Some(SealState::Unproven) => SealState::Unproven,
        _ => SealState::Sealed,
    };
    let seal = Seal { state, manifest: Some(digest), ..Seal::PENDING };
    inner.snapshotter.set_seal(&snapshot.key, snapshot.id, seal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_failure_that_is_tried_again() {
        caught(|| Ok(())).unwrap();
        assert_eq!(caught(|| -> Result<()> { panic!("for the test") }).unwrap_err().kind(), ErrorKind::Io);
    }
}
