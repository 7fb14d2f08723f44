// SPDX-License-Identifier: Apache-2.0
//! The database of snapshots: a record is there if and only if its snapshot was acknowledged, or was about to be.
//!
//! Every change is one transaction that is durable when its function returns; the database commits it
//! atomically, so a crash shows either all of it or nothing. What lives outside of the database, the
//! directories, follows one rule: **a directory exists, durably, before its record does, and goes after its
//! record is gone**. The crash windows that leaves:
//!
//! | crash | what the next start finds | what it does |
//! |---|---|---|
//! | directory made, record not committed | a directory without a record | removes it |
//! | record committed, the directory's new name not on disk | the directory as it was made ahead | renames it |
//! | record committed, answer not sent | a snapshot that its caller never heard of | keeps it; containerd collects it |
//! | record removed, directory not | a directory without a record | removes it |
//!
//! One writer at a time, and it holds the write transaction while it makes directories: so whoever holds it sees
//! directories and records in step. Readers see the last committed state and wait for nobody.

mod database;
mod records;

use std::collections::HashSet;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::{Durability, ReadableTable, WriteTransaction};

use super::{Kind, Labels, Seal, SealState, Snapshot, Usage};
use crate::error::{Error, ErrorKind, Escaped, Result};
use crate::snapshotter::snapshot::is_unsealed;
use database::{CHILDREN, Database, RUNNING_KEY, SNAPSHOTS, WORDS, failed};
use records::{ancestry, committable, creatable, missing, next_id, put, require, select};

/// See the [module](self).
pub(super) struct Metadata {
    db: Database,
    /// The name of this run, once it has one.
    run: OnceLock<String>,
    /// Whether the database knows of it.
    is_begun: AtomicBool,
}

/// A snapshot with the IDs of its parents, nearest first: what its mounts follow from.
pub(super) struct Stacked {
    pub(super) snapshot: Snapshot,
    pub(super) parents: Vec<u64>,
}

/// What a commit is asked to make.
pub(super) struct Layer<'a> {
    /// The key of the layer.
    pub(super) name: &'a str,
    /// The parent that it gets, or has; none says nothing about it.
    pub(super) parent: Option<&'a str>,
    pub(super) labels: Labels,
}

impl Metadata {
    /// Opens or creates the database.
    ///
    /// # Errors
    /// `Unsupported` if another version of this program wrote it.
    pub(super) fn open(path: &Path) -> Result<Self> {
        Ok(Self { db: Database::open(path)?, run: OnceLock::new(), is_begun: AtomicBool::new(false) })
    }

    /// Notes, durably, that `run` has begun. If the one before neither came to a clean stop nor was `run`, what its
    /// layers hold may be lost: those without a seal are unproven from then on, and their keys are returned.
    ///
    /// # Errors
    /// The database cannot be written, because the disk is full, say. Then the next write does it first.
    pub(super) fn begin_run(&self, run: String) -> Result<Vec<String>> {
        // It is the only one.
        let run = self.run.get_or_init(|| run);
        let cut = self.db.write(Durability::Immediate, |tx| begin(tx, run))?;
        self.is_begun.store(true, Ordering::SeqCst);
        Ok(cut)
    }

    /// Does `body` and commits; nothing is written before the run that writes it is.
    fn write<T>(&self, durability: Durability, body: impl Fn(&WriteTransaction) -> Result<T>) -> Result<T> {
        match self.run.get().filter(|_| !self.is_begun.load(Ordering::SeqCst)) {
            None => self.db.write(durability, body),
            Some(run) => {
                let value = self.db.write(Durability::Immediate, |tx| {
                    begin(tx, run)?;
                    body(tx)
                })?;
                self.is_begun.store(true, Ordering::SeqCst);
                Ok(value)
            }
        }
    }

    /// Notes, durably, that the run has come to a clean stop, after `sync` if layers have no seal yet. Nothing is
    /// written later: what were acknowledged then would not be covered.
    pub(super) fn end_run(&self, sync: impl Fn() -> Result<()>) -> Result<()> {
        // One that could not be begun ends no other either, whose power cut would be forgotten.
        let unbegun = self.run.get().filter(|_| !self.is_begun.load(Ordering::SeqCst));
        self.db.end(|tx| {
            unbegun.map_or(Ok(()), |run| begin(tx, run).map(drop))?;
            let pending = select(&tx.open_table(SNAPSHOTS).map_err(failed)?, is_unsealed)?;
            if !pending.is_empty() {
                sync()?;
            }
            tx.open_table(WORDS).map_err(failed)?.remove(RUNNING_KEY).map_err(failed)?;
            Ok(())
        })
    }

    /// Creates an active snapshot or a view. `make` makes its directory, given the snapshot and the IDs of its
    /// parents, before the record is committed.
    ///
    /// # Errors
    /// As [`Metadata::creatable`].
    pub(super) fn create(
        &self,
        key: &str,
        parent: Option<&str>,
        kind: Kind,
        labels: Labels,
        now: i64,
        make: impl Fn(&Stacked) -> Result<()>,
    ) -> Result<Stacked> {
        self.write(Durability::Immediate, |tx| {
            let mut snapshots = tx.open_table(SNAPSHOTS).map_err(failed)?;
            let parents: Vec<u64> = creatable(&snapshots, key, parent)?.iter().map(|parent| parent.id).collect();
            let id = next_id(tx)?;
            let snapshot = Snapshot {
                id,
                key: key.to_owned(),
                parent: parent.map(Into::into),
                kind,
                labels: labels.clone(),
                created_at: now,
                updated_at: now,
                usage: Usage::default(),
                seal: None,
            };
            put(&mut snapshots, &snapshot)?;
            if let Some(&parent) = parents.first() {
                tx.open_table(CHILDREN).map_err(failed)?.insert((parent, id), ()).map_err(failed)?;
            }
            let stacked = Stacked { snapshot, parents };
            make(&stacked)?;
            Ok(stacked)
        })
    }

    /// The layers that a new snapshot `key` on top of `parent` would stand on, nearest first.
    ///
    /// # Errors
    /// In this order: `NotFound`: the parent. `InvalidInput`: the parent is not committed. `AlreadyExists`: the key.
    pub(super) fn creatable(&self, key: &str, parent: Option<&str>) -> Result<Vec<Snapshot>> {
        self.db.read(|snapshots| creatable(snapshots, key, parent))
    }

    /// Turns the active snapshot `key`, if it still is number `id`, into a committed snapshot. `adopt` prepares the
    /// directory for a parent that it gets only now, given both numbers, before the record is committed.
    ///
    /// # Errors
    /// As [`Metadata::committable`].
    pub(super) fn commit(
        &self,
        layer: &Layer<'_>,
        key: &str,
        id: u64,
        usage: Usage,
        now: i64,
        adopt: impl Fn(u64, u64) -> Result<()>,
    ) -> Result<Snapshot> {
        self.write(Durability::Immediate, |tx| {
            let mut snapshots = tx.open_table(SNAPSHOTS).map_err(failed)?;
            let (active, gets) = committable(&snapshots, layer.name, key, layer.parent)?;
            if active.id != id {
                return Err(missing(key));
            }
            // Without the announcement there was no place for whiteouts: see `Snapshot::awaits_parent`.
            let is_blind = gets.is_some() && active.is_unpack() && !active.is_announced();
            let snapshot = Snapshot {
                key: layer.name.to_owned(),
                kind: Kind::Committed,
                labels: layer.labels.clone(),
                created_at: now,
                updated_at: now,
                usage,
                seal: Some(if is_blind { Seal::UNPROVEN } else { Seal::PENDING }),
                ..active
            };
            snapshots.remove(key).map_err(failed)?;
            put(&mut snapshots, &snapshot)?;
            if let Some(parent) = gets {
                tx.open_table(CHILDREN).map_err(failed)?.insert((parent.id, id), ()).map_err(failed)?;
                adopt(parent.id, id)?;
            }
            Ok(snapshot)
        })
    }

    /// The active snapshot that a commit of `key` would take.
    ///
    /// # Errors
    /// In this order: `NotFound`: the key. `AlreadyExists`: the name. `FailedPrecondition`: the key is not active.
    /// `InvalidInput`: it has another parent. `NotFound`, `FailedPrecondition`: the parent is missing, not committed.
    pub(super) fn committable(&self, name: &str, key: &str, parent: Option<&str>) -> Result<Snapshot> {
        self.db.read(|snapshots| committable(snapshots, name, key, parent).map(|(active, _)| active))
    }

    /// Removes the record of a snapshot that has no children.
    ///
    /// # Errors
    /// `NotFound`; `FailedPrecondition` if it has children.
    pub(super) fn remove(&self, key: &str) -> Result<()> {
        self.write(Durability::Immediate, |tx| {
            let mut snapshots = tx.open_table(SNAPSHOTS).map_err(failed)?;
            let snapshot = require(&snapshots, key)?;
            let mut children = tx.open_table(CHILDREN).map_err(failed)?;
            if children.range((snapshot.id, 0)..=(snapshot.id, u64::MAX)).map_err(failed)?.next().is_some() {
                let message = format!("cannot remove snapshot {}: it has children", Escaped(key.as_bytes()));
                return Err(Error::new(ErrorKind::FailedPrecondition, message));
            }
            if let Some(parent) = &snapshot.parent {
                let parent = require(&snapshots, parent)?;
                children.remove((parent.id, snapshot.id)).map_err(failed)?;
            }
            snapshots.remove(key).map_err(failed)?;
            Ok(())
        })
    }

    /// Changes the record of `key` as `change` says. What may be lost in a power cut goes to the disk with the next
    /// change that may not.
    pub(super) fn change(
        &self,
        key: &str,
        durability: Durability,
        change: impl Fn(&mut Snapshot) -> Result<()>,
    ) -> Result<Snapshot> {
        self.write(durability, |tx| {
            let mut snapshots = tx.open_table(SNAPSHOTS).map_err(failed)?;
            let mut snapshot = require(&snapshots, key)?;
            change(&mut snapshot)?;
            put(&mut snapshots, &snapshot)?;
            Ok(snapshot)
        })
    }

    /// One snapshot.
    pub(super) fn get(&self, key: &str) -> Result<Snapshot> {
        self.db.read(|snapshots| require(snapshots, key))
    }

    /// One snapshot with the IDs of its parents.
    pub(super) fn stacked(&self, key: &str) -> Result<Stacked> {
        self.db.read(|snapshots| {
            let mut chain = ancestry(snapshots, require(snapshots, key)?)?;
            let snapshot = chain.remove(0);
            Ok(Stacked { snapshot, parents: chain.iter().map(|parent| parent.id).collect() })
        })
    }

    /// The snapshot if it is committed, then its parents, nearest first, all of one moment.
    pub(super) fn chain(&self, key: &str) -> Result<Vec<Snapshot>> {
        let mut chain = self.db.read(|snapshots| ancestry(snapshots, require(snapshots, key)?))?;
        if chain.first().is_some_and(|first| first.kind != Kind::Committed) {
            chain.remove(0);
        }
        Ok(chain)
    }

    /// The snapshots that are `wanted`, by key, all of one moment.
    pub(super) fn list(&self, wanted: impl Fn(&Snapshot) -> bool) -> Result<Vec<Snapshot>> {
        self.db.read(|snapshots| select(snapshots, &wanted))
    }

    /// Calls `work` with the ID of every snapshot while nobody can add one; twice, if the database fails then.
    pub(super) fn exclusively<T>(&self, work: impl Fn(&HashSet<u64>) -> Result<T>) -> Result<T> {
        self.db.exclusively(|tx| {
            let snapshots = tx.open_table(SNAPSHOTS).map_err(failed)?;
            work(&select(&snapshots, |_| true)?.iter().map(|snapshot| snapshot.id).collect())
        })
    }
}

/// Notes that `run` has begun, and what that means for the layers that the one before has left.
fn begin(tx: &WriteTransaction, run: &str) -> Result<Vec<String>> {
    let mut words = tx.open_table(WORDS).map_err(failed)?;
    let before = words.insert(RUNNING_KEY, run).map_err(failed)?.map(|before| before.value().to_owned());
    // A run that cannot be told from others has no name, and may be another one.
    if before.is_none_or(|before| before == run && !run.is_empty()) {
        return Ok(Vec::new());
    }
    let mut snapshots = tx.open_table(SNAPSHOTS).map_err(failed)?;
    let is_pending = |seal: Seal| seal.state == SealState::Pending;
    let pending = select(&snapshots, |snapshot| snapshot.seal.is_some_and(is_pending))?;
    for snapshot in &pending {
        log::warn!(
            "snapshot {} was not sealed before an unclean stop: to be compared with its image before it is used",
            Escaped(snapshot.key.as_bytes())
        );
        put(&mut snapshots, &Snapshot { seal: Some(Seal::UNPROVEN), ..snapshot.clone() })?;
    }
    Ok(pending.into_iter().map(|snapshot| snapshot.key).collect())
}

#[cfg(test)]
mod tests;
