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
//!
//! A database that saw one failed read or write, of a full disk say, refuses everything from then on. So it is
//! closed then, and the next call opens it again, as the next start would.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use redb::{Database, Durability, ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

use super::{Kind, Labels, Seal, Snapshot, Usage, record};
use crate::error::{Error, ErrorKind, Result};

/// Version of everything stored here. A database of another version is refused, not guessed at.
pub(super) const FORMAT: u64 = 1;

/// Bytes of database pages kept in memory: enough for the records of some hundred snapshots; a miss costs one
/// read of the page cache.
const CACHE: usize = 512 * 1024;

/// Key to [`record`].
const SNAPSHOTS: TableDefinition<&str, &[u8]> = TableDefinition::new("snapshots");
/// (ID of the parent, ID of the child): whether a snapshot has children, without looking at all of them.
const CHILDREN: TableDefinition<(u64, u64), ()> = TableDefinition::new("children");
/// Numbers by name: [`FORMAT_KEY`], [`NEXT_ID_KEY`].
const NUMBERS: TableDefinition<&str, u64> = TableDefinition::new("numbers");
const FORMAT_KEY: &str = "format";
/// The ID that the next snapshot gets; never decreases, so no acknowledged ID comes twice.
const NEXT_ID_KEY: &str = "next-id";

/// See the [module](self).
pub(super) struct Metadata {
    path: PathBuf,
    /// None after a failure, until the next call. Everybody who has a transaction reads this lock, so nobody opens
    /// the file a second time while one lives.
    db: RwLock<Option<Database>>,
}

type Opened<'a> = RwLockReadGuard<'a, Option<Database>>;

/// A snapshot with the IDs of its parents, nearest first: what its mounts follow from.
pub(super) struct Stacked {
    pub(super) snapshot: Snapshot,
    pub(super) parents: Vec<u64>,
}

impl Metadata {
    /// Opens or creates the database.
    ///
    /// # Errors
    /// `Unsupported` if another version of this program wrote it.
    pub(super) fn open(path: &Path) -> Result<Self> {
        Ok(Self { path: path.to_owned(), db: RwLock::new(Some(open(path)?)) })
    }

    /// The database, opened again if it was closed.
    fn opened(&self) -> Result<Opened<'_>> {
        loop {
            let db = self.db.read().unwrap_or_else(PoisonError::into_inner);
            if db.is_some() {
                return Ok(db);
            }
            drop(db);
            let mut db = self.db.write().unwrap_or_else(PoisonError::into_inner);
            if db.is_none() {
                *db = Some(open(&self.path)?);
            }
        }
    }

    /// Closes the database if `error` is one after which it refuses everything.
    fn close_after(&self, error: &Error) -> bool {
        let broken = is_storage(error);
        if broken {
            log::warn!("{error}; closing the database, to open it again");
            *self.db.write().unwrap_or_else(PoisonError::into_inner) = None;
        }
        broken
    }

    /// Does `work`, once more if the database failed: it may have failed for an earlier call.
    fn attempt<T>(&self, work: impl Fn(&Database) -> Result<T>) -> Result<(Opened<'_>, T)> {
        let mut again = true;
        loop {
            let db = self.opened()?;
            let Some(result) = db.as_ref().map(&work) else { continue };
            match result {
                Ok(done) => return Ok((db, done)),
                Err(error) => {
                    drop(db);
                    if !(self.close_after(&error) && again) {
                        return Err(error);
                    }
                    again = false;
                }
            }
        }
    }

    fn read<T>(&self, body: impl Fn(&ReadOnlyTable<&'static str, &'static [u8]>) -> Result<T>) -> Result<T> {
        let read = |db: &Database| {
            let tx = db.begin_read().map_err(failed)?;
            body(&tx.open_table(SNAPSHOTS).map_err(failed)?)
        };
        self.attempt(read).map(|(_, value)| value)
    }

    fn write<T>(&self, durability: Durability, body: impl Fn(&WriteTransaction) -> Result<T>) -> Result<T> {
        let (db, (tx, value)) = self.attempt(|db| {
            let mut tx = db.begin_write().map_err(failed)?;
            tx.set_durability(durability).map_err(failed)?;
            let value = body(&tx)?;
            Ok((tx, value))
        })?;
        let committed = tx.commit().map_err(failed);
        drop(db);
        // Not tried again: whether a commit that failed is on the disk shows only in the database opened anew.
        committed.inspect_err(|error| _ = self.close_after(error))?;
        Ok(value)
    }

    /// Creates an active snapshot or a view. `make` makes its directory, given the snapshot and the IDs of its
    /// parents, before the record is committed.
    ///
    /// # Errors
    /// `AlreadyExists`: the key. `NotFound`: the parent. `InvalidInput`: the parent is not committed.
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
            if get(&snapshots, key)?.is_some() {
                return Err(Error::new(ErrorKind::AlreadyExists, format!("snapshot {key:?} already exists")));
            }
            let parents = parent.map_or(Ok(Vec::new()), |parent| parent_ids(&snapshots, parent))?;
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

    /// Turns the active snapshot `key`, if it still is number `id`, into the committed snapshot `name`.
    ///
    /// # Errors
    /// `AlreadyExists`: the name. `NotFound`: the key. `FailedPrecondition`: the key is not active.
    pub(super) fn commit(
        &self,
        name: &str,
        key: &str,
        id: u64,
        labels: Labels,
        usage: Usage,
        now: i64,
    ) -> Result<Snapshot> {
        self.write(Durability::Immediate, |tx| {
            let mut snapshots = tx.open_table(SNAPSHOTS).map_err(failed)?;
            let active = committable(&snapshots, name, key)?;
            if active.id != id {
                return Err(missing(key));
            }
            let seal = Some(Seal::PENDING);
            let snapshot = Snapshot {
                key: name.to_owned(),
                kind: Kind::Committed,
                labels: labels.clone(),
                created_at: now,
                updated_at: now,
                usage,
                seal,
                ..active
            };
            snapshots.remove(key).map_err(failed)?;
            put(&mut snapshots, &snapshot)?;
            Ok(snapshot)
        })
    }

    /// The active snapshot that a commit of `key` as `name` would take.
    ///
    /// # Errors
    /// As [`Metadata::commit`].
    pub(super) fn committable(&self, name: &str, key: &str) -> Result<Snapshot> {
        self.read(|snapshots| committable(snapshots, name, key))
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
                let message = format!("cannot remove snapshot {key:?}: it has children");
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
        self.read(|snapshots| require(snapshots, key))
    }

    /// One snapshot with the IDs of its parents.
    pub(super) fn stacked(&self, key: &str) -> Result<Stacked> {
        self.read(|snapshots| {
            let snapshot = require(snapshots, key)?;
            let parents = snapshot.parent.as_deref().map_or(Ok(Vec::new()), |parent| parent_ids(snapshots, parent))?;
            Ok(Stacked { snapshot, parents })
        })
    }

    /// The snapshot if it is committed, then its parents, nearest first, all of one moment.
    pub(super) fn chain(&self, key: &str) -> Result<Vec<Snapshot>> {
        let mut chain = self.read(|snapshots| ancestry(snapshots, require(snapshots, key)?))?;
        if chain.first().is_some_and(|first| first.kind != Kind::Committed) {
            chain.remove(0);
        }
        Ok(chain)
    }

    /// The snapshots that are `wanted`, by key, all of one moment.
    pub(super) fn list(&self, wanted: impl Fn(&Snapshot) -> bool) -> Result<Vec<Snapshot>> {
        self.read(|snapshots| select(snapshots, &wanted))
    }

    /// Calls `work` with the ID of every snapshot while nobody can add one; twice, if the database fails then.
    pub(super) fn exclusively<T>(&self, work: impl Fn(&HashSet<u64>) -> Result<T>) -> Result<T> {
        let done = self.attempt(|db| {
            let tx = db.begin_write().map_err(failed)?;
            let ids = select(&tx.open_table(SNAPSHOTS).map_err(failed)?, |_| true)?.iter().map(|s| s.id).collect();
            let result = work(&ids)?;
            tx.abort().map_err(failed)?;
            Ok(result)
        });
        done.map(|(_, result)| result)
    }
}

/// Opens or creates the database and its tables.
fn open(path: &Path) -> Result<Database> {
    let db = Database::builder()
        .set_cache_size(CACHE)
        .create(path)
        .map_err(|error| failed(error).context(path.display()))?;
    let tx = db.begin_write().map_err(failed)?;
    let found = {
        tx.open_table(SNAPSHOTS).map_err(failed)?;
        tx.open_table(CHILDREN).map_err(failed)?;
        let mut numbers = tx.open_table(NUMBERS).map_err(failed)?;
        let found = numbers.get(FORMAT_KEY).map_err(failed)?.map(|format| format.value());
        if found.is_none() {
            numbers.insert(FORMAT_KEY, FORMAT).map_err(failed)?;
            numbers.insert(NEXT_ID_KEY, 1).map_err(failed)?;
        }
        found
    };
    match found {
        // Nothing to write: a full disk can still be read.
        Some(FORMAT) => tx.abort().map_err(failed)?,
        None => tx.commit().map_err(failed)?,
        Some(other) => {
            let message = format!("{}: format {other}, this program reads format {FORMAT}", path.display());
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
    }
    Ok(db)
}

type Snapshots<'a> = redb::Table<'a, &'static str, &'static [u8]>;

fn get(snapshots: &impl ReadableTable<&'static str, &'static [u8]>, key: &str) -> Result<Option<Snapshot>> {
    snapshots.get(key).map_err(failed)?.map(|bytes| record::decode(key, bytes.value())).transpose()
}

fn require(snapshots: &impl ReadableTable<&'static str, &'static [u8]>, key: &str) -> Result<Snapshot> {
    get(snapshots, key)?.ok_or_else(|| missing(key))
}

fn put(snapshots: &mut Snapshots<'_>, snapshot: &Snapshot) -> Result<()> {
    snapshots.insert(snapshot.key.as_str(), record::encode(snapshot)?.as_slice()).map_err(failed)?;
    Ok(())
}

fn select(
    snapshots: &impl ReadableTable<&'static str, &'static [u8]>,
    wanted: impl Fn(&Snapshot) -> bool,
) -> Result<Vec<Snapshot>> {
    let mut list = Vec::new();
    for entry in snapshots.iter().map_err(failed)? {
        let (key, bytes) = entry.map_err(failed)?;
        let snapshot = record::decode(key.value(), bytes.value())?;
        if wanted(&snapshot) {
            list.push(snapshot);
        }
    }
    Ok(list)
}

fn committable(snapshots: &impl ReadableTable<&'static str, &'static [u8]>, name: &str, key: &str) -> Result<Snapshot> {
    if get(snapshots, name)?.is_some() {
        return Err(Error::new(ErrorKind::AlreadyExists, format!("committed snapshot {name:?} already exists")));
    }
    let active = require(snapshots, key)?;
    if active.kind != Kind::Active {
        let message = format!("cannot commit snapshot {key:?}: it is {}, not active", active.kind);
        return Err(Error::new(ErrorKind::FailedPrecondition, message));
    }
    Ok(active)
}

/// `first` and its parents, nearest first. A chain is as long as its layers' IDs fall, so it ends.
fn ancestry(snapshots: &impl ReadableTable<&'static str, &'static [u8]>, first: Snapshot) -> Result<Vec<Snapshot>> {
    let mut chain = vec![first];
    while let Some(last) = chain.last() {
        let Some(key) = &last.parent else { break };
        let parent = require(snapshots, key)?;
        if parent.id >= last.id {
            return Err(Error::new(
                ErrorKind::Io,
                format!("the record of snapshot {key:?} is damaged: a later parent"),
            ));
        }
        chain.push(parent);
    }
    Ok(chain)
}

/// The ID of the committed snapshot `parent`, then those of its parents.
fn parent_ids(snapshots: &impl ReadableTable<&'static str, &'static [u8]>, parent: &str) -> Result<Vec<u64>> {
    let Some(first) = get(snapshots, parent)? else {
        return Err(Error::new(ErrorKind::NotFound, format!("parent snapshot {parent:?} does not exist")));
    };
    if first.kind != Kind::Committed {
        let message = format!("parent snapshot {parent:?} is {}, not committed", first.kind);
        return Err(Error::new(ErrorKind::InvalidInput, message));
    }
    Ok(ancestry(snapshots, first)?.iter().map(|snapshot| snapshot.id).collect())
}

fn next_id(tx: &WriteTransaction) -> Result<u64> {
    let mut numbers = tx.open_table(NUMBERS).map_err(failed)?;
    let id = numbers.get(NEXT_ID_KEY).map_err(failed)?.map_or(1, |id| id.value());
    numbers.insert(NEXT_ID_KEY, id + 1).map_err(failed)?;
    Ok(id)
}

fn missing(key: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("snapshot {key:?} does not exist"))
}

fn failed(error: impl Into<redb::Error>) -> Error {
    Error::new(ErrorKind::Io, "snapshot database").with_source(error.into())
}

/// Whether the database failed, rather than what was asked of it: it refuses everything from then on.
fn is_storage(error: &Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<redb::Error>());
    matches!(source, Some(redb::Error::Io(_) | redb::Error::Backend(_) | redb::Error::PreviousIo))
}

#[cfg(test)]
mod tests;
