// SPDX-License-Identifier: Apache-2.0
//! Sealing: the layer manifest of every committed snapshot, built after the commit was acknowledged.
//!
//! Invariant: a seal job cannot be lost. The jobs are the committed snapshots whose seal is pending, in the
//! metadata; a commit only wakes the worker, which asks for them anew. So nothing is queued in memory, a restart
//! goes on where it was, and a job that failed is tried again, later and later.
//!
//! A seal from the disk says what the layer was when it was sealed, not when it was committed. The layer's
//! filesystem is synced first, so what is sealed is what a crash leaves. One window remains: a commit does not wait
//! for the files, so a crash (or a change by somebody else) between commit and seal may lose contents, and what the
//! disk holds then becomes the seal. Who starts after that is told which snapshots it may concern.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Escaped, Result};
use crate::ops::{self, BuildOptions};
use crate::snapshotter::{Kind, Seal, SealSource, SealState, Snapshot, Snapshotter};
use crate::sys::memory;
use crate::tree::{Progress, Root};
use crate::verifier::explain::Explainer;
use crate::verifier::{Inner, lock, mend};

/// Wait before a failed seal is tried again; doubles with each failure.
const RETRY_FIRST: Duration = Duration::from_secs(1);

/// The longest wait: a disk that was full should not need a restart of the daemon.
const RETRY_LAST: Duration = Duration::from_secs(300);

/// How long no commit must come, and no layer be unpacked, before sealing begins: while an image is unpacked, its layers
/// should not be read by us and written by containerd at the same time. Longer leaves a fresh layer unsealed for longer.
const QUIET: Duration = Duration::from_secs(1);

/// The longest wait for quiet: an endless stream of commits must not keep all of them unsealed, nor must an unpacking
/// that was given up and not collected yet.
const QUIET_LAST: Duration = Duration::from_secs(30);

/// Begins what containerd calls the snapshot that it unpacks a layer in.
const UNPACKING: &str = "extract-";

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
    /// [`QUIET_LAST`].
    fn settle(&self, busy: impl Fn() -> bool) {
        let last = Instant::now() + QUIET_LAST;
        while !self.stopping() && Instant::now() < last && (self.wait(Some(Instant::now() + QUIET)) || busy()) {}
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

/// When a job that failed is due again.
struct Retry {
    due: Instant,
    wait: Duration,
}

/// Says which seals a stop or a crash left pending. Call it before anything can be committed.
///
/// # Errors
/// The metadata could not be read.
pub fn warn_of_left_over(snapshotter: &Snapshotter) -> Result<()> {
    for snapshot in snapshotter.pending()? {
        let key = Escaped(snapshot.key.as_bytes());
        log::warn!("snapshot {key} was not sealed before the daemon stopped: its seal says what is on the disk now");
    }
    Ok(())
}

/// Whether containerd is unpacking a layer.
fn is_unpacking(snapshotter: &Snapshotter) -> bool {
    let unpacks = |snapshot: &Snapshot| {
        // `<namespace>/<number>/<name>`
        let name = snapshot.key.splitn(3, '/').nth(2).unwrap_or(&snapshot.key);
        snapshot.kind == Kind::Active && name.starts_with(UNPACKING)
    };
    snapshotter.list(&[]).is_ok_and(|snapshots| snapshots.iter().any(unpacks))
}

/// Runs until [`Bell::stop`].
pub fn run(inner: &Inner) {
    let mut retries = HashMap::new();
    let mut explainer = Explainer::default();
    while !inner.bell.stopping() {
        let sealing = seal_pending(inner, &mut retries);
        let explaining = caught(|| Ok(explainer.run(inner))).unwrap_or_default();
        logged(caught(|| mend::run(inner)));
        memory::trim();
        if inner.bell.wait(sealing.into_iter().chain(explaining).min()) {
            inner.bell.settle(|| is_unpacking(&inner.snapshotter));
            explainer.hurry();
        }
    }
}

/// Seals what is pending and due; says when to look again even if no bell rings.
fn seal_pending(inner: &Inner, retries: &mut HashMap<u64, Retry>) -> Option<Instant> {
    let pending = match inner.snapshotter.pending() {
        Ok(pending) => pending,
        Err(error) => {
            log::error!("seal: the pending snapshots cannot be listed: {error}");
            return Some(Instant::now() + RETRY_LAST);
        }
    };
    retries.retain(|id, _| pending.iter().any(|snapshot| snapshot.id == *id));
    for snapshot in &pending {
        if inner.bell.stopping() {
            break;
        }
        let wait = retries.get(&snapshot.id).map(|retry| retry.wait);
        if retries.get(&snapshot.id).is_some_and(|retry| retry.due > Instant::now()) {
            continue;
        }
        match caught(|| seal_or_skip(inner, snapshot)) {
            Ok(()) => {
                retries.remove(&snapshot.id);
            }
            Err(error) if error.kind() == ErrorKind::Cancelled && inner.bell.stopping() => break,
            Err(error) => {
                let wait = wait.map_or(RETRY_FIRST, |wait| (wait * 2).min(RETRY_LAST));
                let key = Escaped(snapshot.key.as_bytes());
                log::error!("seal: snapshot {key} is not sealed, trying again in {} s: {error}", wait.as_secs());
                retries.insert(snapshot.id, Retry { due: Instant::now() + wait, wait });
            }
        }
    }
    retries.values().map(|retry| retry.due).min()
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
    let _publishing = inner.publishing.read().unwrap_or_else(std::sync::PoisonError::into_inner);
    let digest = manifest.publish()?;
    let seal = Seal { state: SealState::Sealed, manifest: Some(digest), source: SealSource::Disk, verified_at: None };
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
