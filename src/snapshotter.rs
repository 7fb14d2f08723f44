// SPDX-License-Identifier: Apache-2.0
//! Snapshots as containerd knows them, on overlayfs.

mod snapshot;

pub use snapshot::{Kind, Mount, Seal, SealSource, SealState, Snapshot, Usage};

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::Result;

/// The caller's labels.
pub type Labels = BTreeMap<String, String>;

/// See the [module](self).
pub struct Snapshotter {}

impl Snapshotter {
    /// Opens, or creates, the state beneath `root`, and removes what a crash left half made.
    pub fn open(_root: &Path) -> Result<Self> {
        todo!()
    }

    /// Creates a writable snapshot on top of a committed one, or an empty one.
    pub fn prepare(&self, _key: &str, _parent: Option<&str>, _labels: Labels) -> Result<Vec<Mount>> {
        todo!()
    }

    /// Creates a read-only snapshot of a committed one, or an empty one.
    pub fn view(&self, _key: &str, _parent: Option<&str>, _labels: Labels) -> Result<Vec<Mount>> {
        todo!()
    }

    /// The mounts of an active snapshot or a view.
    pub fn mounts(&self, _key: &str) -> Result<Vec<Mount>> {
        todo!()
    }

    /// Turns the active snapshot `key` into the layer `name`; durable on return, its seal pending.
    pub fn commit(&self, _name: &str, _key: &str, _labels: Labels) -> Result<Snapshot> {
        todo!()
    }

    /// Forgets a snapshot without children; its directory goes in [`Snapshotter::cleanup`].
    pub fn remove(&self, _key: &str) -> Result<()> {
        todo!()
    }

    /// Removes the directories of snapshots that are gone.
    pub fn cleanup(&self) -> Result<()> {
        todo!()
    }

    /// One snapshot.
    pub fn stat(&self, _key: &str) -> Result<Snapshot> {
        todo!()
    }

    /// What the snapshot's own directory takes up: measured for an active one, as of the commit for a layer.
    pub fn usage(&self, _key: &str) -> Result<Usage> {
        todo!()
    }

    /// Changes labels: all of them with an empty mask, else those that the mask names.
    pub fn update(&self, _key: &str, _labels: Labels, _mask: &[String]) -> Result<Snapshot> {
        todo!()
    }

    /// The snapshots that match one of the filters, by key; all of them without a filter.
    pub fn list(&self, _filters: &[String]) -> Result<Vec<Snapshot>> {
        todo!()
    }

    /// The snapshot itself if it is committed, then its parents, nearest first.
    pub fn chain(&self, _key: &str) -> Result<Vec<Snapshot>> {
        todo!()
    }

    /// The directory that holds a snapshot's own files.
    pub fn layer_dir(&self, _id: u64) -> PathBuf {
        todo!()
    }

    /// Stores a seal. `NotFound` if that snapshot is gone; its `updated_at` stays.
    pub fn set_seal(&self, _key: &str, _id: u64, _seal: Seal) -> Result<()> {
        todo!()
    }

    /// Committed snapshots whose seal is pending: the seal jobs that survive a restart.
    pub fn pending(&self) -> Result<Vec<Snapshot>> {
        todo!()
    }
}
