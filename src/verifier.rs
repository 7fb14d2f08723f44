// SPDX-License-Identifier: Apache-2.0
//! Seals committed snapshots, and holds them against their seals before they are used.
//!
//! Invariant: nothing here runs while containerd's metadata transaction is held. A commit only rings a bell; the
//! checks run inside Prepare and View, which hold no transaction but a lock that garbage collection waits for, so
//! they have a deadline.
//!
//! ```text
//! commit ── bell ──▶ seal worker ── ops::build ──▶ store ── set_seal(sealed) ── an image? ── explain
//! prepare, view ──▶ before_use ── one flight a layer ──▶ checkers ── ops::verify ──▶ set_seal(verified | damaged)
//!                            └──── unproven, not sealable ──▶ seal worker, at once
//! ```
//!
//! One thread seals, [`CHECKERS`] threads check; each reads with as many hashing threads as the policy says.

mod again;
mod backoff;
mod before_use;
mod check;
mod explain;
mod guard;
mod mend;
mod policy;
mod proof;
mod requests;
mod seal;
mod store;

pub use policy::{Action, Check, Policy, Repair, Unproven, Use};
pub use store::{Ingest, Store};

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::thread::JoinHandle;

use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Escaped, Result};
use crate::image::{ImageSettings, Images, RepairOptions};
use crate::mount::{self, Mount};
use crate::ops::{Finding, VerifyReport};
use crate::snapshotter::{Snapshot, Snapshotter};
use crate::tree::{Progress, Root};
use crate::verifier::check::Outcome;
use crate::verifier::guard::Flights;

/// Layers that are checked at the same time on behalf of Prepare and View. More would compete for one disk.
pub const CHECKERS: usize = 2;

/// What [`Verifier::verify_snapshot`] reports, in order.
#[derive(Debug)]
pub enum Event {
    /// A layer begins.
    Layer(String),
    /// It differs from its seal.
    Finding(Finding),
}

/// See the [module](self).
pub struct Verifier {
    inner: Arc<Inner>,
    /// An empty directory, on which helper threads mount where nobody sees it.
    mounting_place: PathBuf,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What the threads share.
struct Inner {
    snapshotter: Arc<Snapshotter>,
    store: Store,
    policy: Policy,
    /// Directory of the daemon's state.
    root: PathBuf,
    /// How containerd is asked for images, if it is.
    images: Option<ImageSettings>,
    repairs: mend::Repairs,
    bell: seal::Bell,
    requests: requests::Requests,
    again: again::Again,
    flights: Flights,
    recorded: check::Recorded,
    contradictions: check::Contradictions,
    /// Read: a manifest is stored and not yet referred to. Write: what nobody refers to is removed.
    publishing: RwLock<()>,
}

impl Verifier {
    /// Opens the manifest store beneath `root` and starts the threads. Seals that a crash or a stop left pending
    /// are taken up again.
    pub fn start(
        root: &Path,
        snapshotter: Arc<Snapshotter>,
        policy: Policy,
        images: Option<ImageSettings>,
    ) -> Result<Arc<Self>> {
        let inner = Arc::new(Inner {
            snapshotter,
            store: Store::open(root)?,
            policy,
            root: root.to_owned(),
            images,
            repairs: mend::Repairs::default(),
            bell: seal::Bell::default(),
            requests: requests::Requests::default(),
            again: again::Again::default(),
            flights: Flights::default(),
            recorded: check::Recorded::default(),
            contradictions: check::Contradictions::default(),
            publishing: RwLock::new(()),
        });
        let mounting_place = root.join("mnt");
        fs::create_dir_all(&mounting_place).map_err(|error| Error::io("mkdir", &mounting_place, error))?;
        let verifier = Arc::new(Self { inner: Arc::clone(&inner), mounting_place, threads: Mutex::default() });
        let sealing = Arc::clone(&inner);
        verifier.spawn("seal", move || seal::run(&sealing))?;
        for n in 0..CHECKERS {
            let inner = Arc::clone(&inner);
            verifier.spawn(&format!("check-{n}"), move || inner.run_checks())?;
        }
        Ok(verifier)
    }

    fn spawn(&self, name: &str, body: impl FnOnce() + Send + 'static) -> Result<()> {
        let thread = std::thread::Builder::new()
            .name(name.into())
            .spawn(body)
            .map_err(|error| Error::io("clone", "", error).context("starting a thread"))?;
        lock(&self.threads).push(thread);
        Ok(())
    }

    /// The images of one of containerd's namespaces, through a connection of its own.
    ///
    /// # Errors
    /// `FailedPrecondition` if no containerd is configured; as [`Images::connect`].
    pub fn images(&self, namespace: &str) -> Result<Images> {
        self.inner.images(namespace)
    }

    /// How images are repaired with the daemon's own directory for what is removed.
    pub fn repair_options(&self, dry_run: bool, force: bool) -> RepairOptions {
        RepairOptions { root: self.inner.root.clone(), dry_run, force }
    }

    /// Mounts a list of containerd's mounts read-only where nobody sees it; see [`mount`].
    pub fn mount(&self, mounts: &[Mount]) -> Result<Root> {
        mount::open(mounts, &self.mounting_place).map(Root::from_fd)
    }

    /// A snapshot was committed: it will be sealed. Returns at once.
    pub fn committed(&self, _snapshot: &Snapshot) {
        self.inner.bell.ring();
    }

    /// A snapshot was removed: nobody needs its seal or its check any more.
    pub fn removed(&self, key: &str) {
        self.inner.bell.give_up(key);
        self.inner.flights.give_up(key);
    }

    /// The stored manifests.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// Holds every layer of `key` against its seal, now and in the calling thread, whatever the policy says.
    /// Layers come nearest first; a layer that cannot be checked does not keep the others from it.
    ///
    /// # Errors
    /// `NotFound` if there is no such snapshot; `FailedPrecondition` if no layer is to be checked; the first error
    /// of a layer, after all were tried; what `report` failed with, at once.
    pub fn verify_snapshot(
        &self,
        key: &str,
        threads: usize,
        progress: &Progress,
        report: &mut dyn FnMut(Event) -> Result<()>,
    ) -> Result<VerifyReport> {
        let inner = &self.inner;
        let chain = inner.snapshotter.chain(key)?;
        if chain.is_empty() {
            let message = format!("snapshot {} has no committed layer", Escaped(key.as_bytes()));
            return Err(Error::new(ErrorKind::FailedPrecondition, message));
        }
        let threads = if threads == 0 { inner.policy.threads } else { threads };
        let mut total = VerifyReport::default();
        let mut first_error = None;
        for layer in &chain {
            report(Event::Layer(layer.key.clone()))?;
            let mut findings = |finding| report(Event::Finding(finding));
            match check::verify(inner, layer, threads, progress, &mut findings) {
                Ok(one) => {
                    if one.findings > 0 {
                        inner.ask_for_repair(layer);
                        inner.ask_image_again(layer);
                    }
                    total.entries += one.entries;
                    total.bytes += one.bytes;
                    total.findings += one.findings;
                }
                Err(error) => {
                    progress.check()?;
                    let error = error.context(format!("snapshot {}", Escaped(layer.key.as_bytes())));
                    first_error.get_or_insert(error);
                }
            }
        }
        first_error.map_or(Ok(total), Err)
    }

    /// Removes a manifest that no seal refers to.
    ///
    /// # Errors
    /// `NotFound`; `FailedPrecondition`, naming a snapshot, if a seal refers to it.
    pub fn remove_manifest(&self, digest: &Digest) -> Result<()> {
        let _alone = self.inner.publishing.write().unwrap_or_else(PoisonError::into_inner);
        let refers = |snapshot: &Snapshot| snapshot.seal.is_some_and(|seal| seal.manifest == Some(*digest));
        if let Some(snapshot) = self.inner.snapshotter.list(&[])?.into_iter().find(refers) {
            let message = format!("manifest {digest} is the seal of snapshot {}", Escaped(snapshot.key.as_bytes()));
            return Err(Error::new(ErrorKind::FailedPrecondition, message));
        }
        self.inner.store.remove(digest)
    }

    /// Removes the manifests that no seal refers to any more.
    pub fn collect(&self) -> Result<()> {
        let _alone = self.inner.publishing.write().unwrap_or_else(PoisonError::into_inner);
        let snapshots = self.inner.snapshotter.list(&[])?;
        let kept: HashSet<_> = snapshots.iter().filter_map(|snapshot| snapshot.seal?.manifest).collect();
        let ids = snapshots.iter().map(|snapshot| snapshot.id).collect();
        self.inner.recorded.retain(&ids);
        self.inner.repairs.retain(&ids);
        self.inner.requests.retain(&ids);
        self.inner.again.retain(&ids);
        self.inner.contradictions.retain(&ids);
        for (digest, _) in self.inner.store.list()? {
            if !kept.contains(&digest) {
                self.inner.store.remove(&digest)?;
            }
        }
        Ok(())
    }

    /// Stops the threads: seals that are not done stay pending for the next start, checks are given up.
    pub fn shutdown(&self) {
        self.inner.bell.stop();
        self.inner.requests.stop();
        self.inner.flights.stop();
        // Held until they have ended: who comes second waits, too.
        for thread in lock(&self.threads).drain(..) {
            if thread.join().is_err() {
                log::error!("a thread of the verifier panicked");
            }
        }
    }
}

impl Drop for Verifier {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl Inner {
    fn images(&self, namespace: &str) -> Result<Images> {
        let Some(settings) = &self.images else {
            let message = "no containerd is configured to ask for images (containerd_address)";
            return Err(Error::new(ErrorKind::FailedPrecondition, message));
        };
        Images::connect(ImageSettings { namespace: namespace.to_owned(), ..settings.clone() })
    }

    fn run_checks(&self) {
        self.flights.run(|layer, progress| {
            let outcome = check::check(self, layer, progress);
            if let Outcome::Damaged(damage) = &outcome {
                // Logged here, because past the deadline nobody waits who could say it.
                log::error!("snapshot {} is damaged: {damage}", Escaped(layer.key.as_bytes()));
                self.ask_for_repair(layer);
                self.ask_image_again(layer);
            }
            outcome
        });
    }
}

/// While it is held, a manifest may be stored that nothing refers to yet.
fn publishing(inner: &Inner) -> RwLockReadGuard<'_, ()> {
    inner.publishing.read().unwrap_or_else(PoisonError::into_inner)
}

/// A lock whose holder panicked protects plain data that is whole at every moment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
