// SPDX-License-Identifier: Apache-2.0
//! Snapshots as containerd knows them, on overlayfs.
//!
//! **A snapshot exists once its record is durable, and its directory exists before that**: what a crash leaves
//! is at worst a directory that nobody knows, or one under the name it was made with; the next
//! [`Snapshotter::open`] removes or renames it.
//!
//! ```text
//! <root>/lock               one process per root
//! <root>/metadata.redb      records: key, parent, kind, labels, times, usage, seal
//! <root>/snapshots/<id>/    fs (the snapshot's own files), work (overlayfs'); ahead-<id> for one to come
//! <root>/empty              a lower directory for a layer that is unpacked before its parent is known
//! ```
//! Keys are the caller's and opaque: they hold slashes and spaces and never become part of a path.
//!
//! Everything here is synchronous and may be called from any number of threads. Reads never wait. Writes go one
//! at a time, and none of them walks a tree while it holds the others up.

mod filter;
mod lock;
mod metadata;
mod overlay;
mod record;
mod removal;
mod run;
mod snapshot;
pub mod time;
mod usage;

pub use crate::labels::Labels;
pub use snapshot::{Kind, Seal, SealSource, SealState, Snapshot, Usage};

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use redb::Durability;

use crate::error::{Error, ErrorKind, Escaped, Result};
use crate::labels;
use crate::mount::Mount;
use filter::Filters;
use lock::RootLock;
use metadata::{Layer, Metadata};
use overlay::{Directories, KernelOptions};

/// Bytes of a label's key and value together: containerd's own limit.
pub const MAX_LABEL: usize = 4096;

/// Bytes of a key: the limit of containerd's own database, so that no key fits here and not there.
pub const MAX_KEY: usize = 32 * 1024;

/// Mode of a root that we create.
const ROOT_MODE: u32 = 0o700;

/// See the [module](self).
pub struct Snapshotter {
    root: PathBuf,
    metadata: Metadata,
    directories: Directories,
    /// One cleanup at a time: two would race for the same directories.
    cleanup: Mutex<()>,
    /// Last, so that it is released last.
    _lock: RootLock,
}

impl Snapshotter {
    /// Opens, or creates, the state beneath `root`, and removes what a crash left half made.
    ///
    /// # Errors
    /// `FailedPrecondition`, naming root and process, if another process has it open; `InvalidInput` for a root
    /// that overlayfs' options can't hold.
    pub fn open(root: &Path) -> Result<Self> {
        std::fs::create_dir_all(root.parent().unwrap_or(root)).map_err(|error| Error::io("mkdir", root, error))?;
        if !root.exists() {
            overlay::create_dir(root, ROOT_MODE, true)?;
        }
        // Mounts are performed by others, with another working directory.
        let root = root.canonicalize().map_err(|error| Error::io("realpath", root, error))?;
        let lock = RootLock::acquire(&root)?;
        let directories = Directories::open(&root, KernelOptions::detect())?;
        let metadata = Metadata::open(&root.join("metadata.redb"))?;
        overlay::sync(&root)?;
        if let Err(error) = metadata.begin_run(run::name(&root)) {
            // Nothing can be changed before it can be written down, so nothing is used by mistake; the rest can be
            // read.
            log::warn!("{}: the start cannot be written down: {error}", Escaped::path(&root));
        }
        let snapshotter = Self { root, metadata, directories, cleanup: Mutex::new(()), _lock: lock };
        if let Err(error) = snapshotter.cleanup() {
            // What can't be removed takes up space, what can't be renamed can't be used, no more; the next cleanup
            // tries again.
            log::warn!("what a crash has left: {error}");
        }
        Ok(snapshotter)
    }

    /// The clean stop: the files of layers that have no seal are made durable, and nothing is changed afterwards. A
    /// start that follows no clean stop, on a filesystem that was mounted anew since, makes such layers unproven.
    ///
    /// # Errors
    /// The layers could not be synced, or the stop not noted: then it is no clean one.
    pub fn close(&self) -> Result<()> {
        self.metadata.end_run(|| {
            let root = std::fs::File::open(&self.root).map_err(|error| Error::io("open", &self.root, error))?;
            rustix::fs::syncfs(root).map_err(|errno| Error::io("syncfs", &self.root, errno))
        })
    }

    /// The layers that a new snapshot `key` on top of `parent` would stand on, nearest first; nothing is created.
    ///
    /// # Errors
    /// As [`Snapshotter::prepare`], but for labels.
    pub fn creatable(&self, key: &str, parent: Option<&str>) -> Result<Vec<Snapshot>> {
        check_key(key)?;
        self.metadata.creatable(key, parent)
    }

    /// Creates a writable snapshot on top of a committed one, or an empty one.
    ///
    /// # Errors
    /// In this order: `InvalidInput`: a label or the key is too long. `NotFound`: the parent. `InvalidInput`: the
    /// parent is not committed. `AlreadyExists`: the key.
    pub fn prepare(&self, key: &str, parent: Option<&str>, labels: Labels) -> Result<Vec<Mount>> {
        self.create(Kind::Active, key, parent, labels)
    }

    /// Creates a read-only snapshot of a committed one, or an empty one.
    ///
    /// # Errors
    /// As [`Snapshotter::prepare`].
    pub fn view(&self, key: &str, parent: Option<&str>, labels: Labels) -> Result<Vec<Mount>> {
        self.create(Kind::View, key, parent, labels)
    }

    fn create(&self, kind: Kind, key: &str, parent: Option<&str>, labels: Labels) -> Result<Vec<Mount>> {
        check_key(key)?;
        let labels = stored(labels)?;
        let stacked = self.metadata.create(key, parent, kind, labels, time::now(), |new| self.directories.make(new))?;
        self.directories.mounts(&stacked)
    }

    /// The mounts of an active snapshot or a view.
    ///
    /// # Errors
    /// `NotFound`; `FailedPrecondition` for a committed one.
    pub fn mounts(&self, key: &str) -> Result<Vec<Mount>> {
        self.directories.mounts(&self.metadata.stacked(key)?)
    }

    /// Turns the active snapshot `key` into the layer `name`, with these labels and no others; durable on return,
    /// its seal pending. The number, and so the directory, stays. One without a parent may get one now; what named its
    /// parent when it was created may name it again.
    ///
    /// # Errors
    /// In this order: `InvalidInput`: a label or the name is too long. `NotFound`: the key. `AlreadyExists`: the name.
    /// `FailedPrecondition`: the key is not active. `InvalidInput`: it has another parent. `NotFound`,
    /// `FailedPrecondition`: the parent is missing, is not committed.
    pub fn commit(&self, name: &str, key: &str, parent: Option<&str>, labels: Labels) -> Result<Snapshot> {
        check_key(name)?;
        let labels = stored(labels)?;
        let active = self.metadata.committable(name, key, parent)?;
        // Outside of the transaction: measuring takes as long as the layer is large.
        let usage = usage::measure(&self.directories.fs(active.id))?;
        let layer = Layer { name, parent, labels };
        self.metadata
            .commit(&layer, key, active.id, usage, time::now(), |parent, own| self.directories.adopt(parent, own))
    }

    /// Forgets a snapshot without children; its directory goes in [`Snapshotter::cleanup`].
    ///
    /// # Errors
    /// `NotFound`; `FailedPrecondition` if it has children, the only refusal that containerd's collector takes.
    pub fn remove(&self, key: &str) -> Result<()> {
        self.metadata.remove(key)
    }

    /// Removes the directories of snapshots that are gone.
    ///
    /// # Errors
    /// The first directory that can't be removed, after all others were.
    pub fn cleanup(&self) -> Result<()> {
        let _one_at_a_time = self.cleanup.lock().unwrap_or_else(PoisonError::into_inner);
        // A directory whose record is about to be committed looks like one whose record is gone, so nobody may
        // be creating snapshots while they are told apart; removing what is renamed then holds nobody up.
        let set_aside = self.metadata.exclusively(|ids| self.directories.set_aside(ids));
        set_aside.and(self.directories.remove_gone())
    }

    /// One snapshot.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn stat(&self, key: &str) -> Result<Snapshot> {
        self.metadata.get(key)
    }

    /// What the snapshot's own directory takes up: measured for an active one, as of the commit for a layer,
    /// nothing for a view.
    ///
    /// # Errors
    /// `NotFound`; `Changed` if directories were moved while it was measured.
    pub fn usage(&self, key: &str) -> Result<Usage> {
        let snapshot = self.metadata.get(key)?;
        match snapshot.kind {
            Kind::Active => usage::measure(&self.directories.fs(snapshot.id)),
            Kind::View | Kind::Committed => Ok(snapshot.usage),
        }
    }

    /// Changes labels: all of them with an empty mask or `labels`, with `labels.<key>` that one, removed if it is
    /// not in `labels`.
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` for any other path in the mask or a label that is too long. Then nothing changed.
    pub fn update(&self, key: &str, labels: Labels, mask: &[String]) -> Result<Snapshot> {
        self.metadata.change(key, Durability::Immediate, |snapshot| {
            snapshot.labels = stored(masked(std::mem::take(&mut snapshot.labels), &labels, mask)?)?;
            snapshot.updated_at = time::now();
            Ok(())
        })
    }

    /// The snapshots that match one of the filters, by key; all of them without a filter.
    ///
    /// # Errors
    /// `InvalidInput` for a bad filter.
    pub fn list(&self, filters: &[String]) -> Result<Vec<Snapshot>> {
        let filters = Filters::parse(filters)?;
        self.metadata.list(|snapshot| filters.matches(snapshot))
    }

    /// The snapshot itself if it is committed, then its parents, nearest first.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn chain(&self, key: &str) -> Result<Vec<Snapshot>> {
        self.metadata.chain(key)
    }

    /// The directory that holds the own files of the snapshot of that number.
    pub fn layer_dir(&self, id: u64) -> PathBuf {
        self.directories.fs(id)
    }

    /// Stores the seal of a committed snapshot; durable on return, unless it only says verified. Its `updated_at`
    /// stays: that is the caller's.
    ///
    /// # Errors
    /// `NotFound` if that snapshot, number included, is gone: another may have its key by now.
    pub fn set_seal(&self, key: &str, id: u64, seal: Seal) -> Result<()> {
        let set = |snapshot: &mut Snapshot| match snapshot.id == id && snapshot.kind == Kind::Committed {
            true => {
                // By now it may be known that a power cut came before this seal, which is of the disk.
                let is_unproven =
                    snapshot.seal.is_some_and(|now| now.state == SealState::Unproven && now.manifest.is_none());
                let is_of_disk = seal.state == SealState::Sealed && seal.source == SealSource::Disk;
                let state = if is_unproven && is_of_disk { SealState::Unproven } else { seal.state };
                snapshot.seal = Some(Seal { state, ..seal });
                Ok(())
            }
            false => {
                let key = Escaped(key.as_bytes());
                Err(Error::new(ErrorKind::NotFound, format!("committed snapshot {key}, number {id}, not found")))
            }
        };
        let durability = match seal.state {
            // Lost in a power cut, the next check finds it again; and a start of n layers would cost n fsyncs.
            SealState::Verified => Durability::None,
            _ => Durability::Immediate,
        };
        self.metadata.change(key, durability, set).map(|_| ())
    }

    /// Committed snapshots whose seal is still to be built: the seal jobs that survive a restart.
    pub fn pending(&self) -> Result<Vec<Snapshot>> {
        self.metadata.list(snapshot::is_unsealed)
    }
}

fn check_key(key: &str) -> Result<()> {
    match key.len() {
        1..=MAX_KEY => Ok(()),
        0 => Err(Error::new(ErrorKind::InvalidInput, "the key of a snapshot is empty")),
        n => Err(Error::new(ErrorKind::InvalidInput, format!("a key of {n} bytes; at most {MAX_KEY} are allowed"))),
    }
}

/// The labels that are kept: without those that show a seal, and without empty ones, which mean removal.
fn stored(mut labels: Labels) -> Result<Labels> {
    labels.retain(|key, value| !key.starts_with(labels::SEAL) && !value.is_empty());
    match labels.iter().find(|(key, value)| key.len() + value.len() > MAX_LABEL) {
        None => Ok(labels),
        Some((key, value)) => {
            let begin: String = key.chars().take(64).collect();
            let n = key.len() + value.len();
            let message = format!("label {begin:?}: key and value have {n} bytes; at most {MAX_LABEL} are allowed");
            Err(Error::new(ErrorKind::InvalidInput, message))
        }
    }
}

/// `old` with the changes that `mask` names.
fn masked(mut old: Labels, new: &Labels, mask: &[String]) -> Result<Labels> {
    if mask.is_empty() {
        return Ok(new.clone());
    }
    for path in mask {
        match path.strip_prefix("labels.") {
            Some(key) => match new.get(key) {
                Some(value) => drop(old.insert(key.to_owned(), value.clone())),
                None => drop(old.remove(key)),
            },
            None if path == "labels" => old = new.clone(),
            None => {
                return Err(Error::new(ErrorKind::InvalidInput, format!("cannot update {path:?} of a snapshot")));
            }
        }
    }
    Ok(old)
}

#[cfg(test)]
mod tests;
