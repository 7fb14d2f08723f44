// SPDX-License-Identifier: Apache-2.0
//! The database file: its tables, and how it is opened anew after a failure.
//!
//! A database that saw one failed read or write, of a full disk say, refuses everything from then on. So it is
//! closed then, and the next call opens it again, as the next start would.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use redb::{Durability, ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

use crate::error::{Error, ErrorKind, Result};

/// Version of everything stored here. A database of another version is refused, not guessed at.
pub(super) const FORMAT: u64 = 1;

/// Bytes of database pages kept in memory: enough for the records of some hundred snapshots; a miss costs one
/// read of the page cache.
const CACHE: usize = 512 * 1024;

/// Key to record.
pub(super) const SNAPSHOTS: TableDefinition<&str, &[u8]> = TableDefinition::new("snapshots");
/// (ID of the parent, ID of the child): whether a snapshot has children, without looking at all of them.
pub(super) const CHILDREN: TableDefinition<(u64, u64), ()> = TableDefinition::new("children");
/// Numbers by name: [`FORMAT_KEY`], [`NEXT_ID_KEY`].
pub(super) const NUMBERS: TableDefinition<&str, u64> = TableDefinition::new("numbers");
pub(super) const FORMAT_KEY: &str = "format";
/// The ID that the next snapshot gets; never decreases, so no acknowledged ID comes twice.
pub(super) const NEXT_ID_KEY: &str = "next-id";
/// Words by name: [`RUNNING_KEY`]. An older version of this program neither knows nor misses it.
pub(super) const WORDS: TableDefinition<&str, &str> = TableDefinition::new("words");
/// What tells the run that has the database open from one after a power cut; there from start to clean stop.
pub(super) const RUNNING_KEY: &str = "running";

/// See the [module](self).
pub(super) struct Database {
    path: PathBuf,
    /// None after a failure, until the next call. Everybody who has a transaction reads this lock, so nobody opens
    /// the file a second time while one lives.
    db: RwLock<Option<redb::Database>>,
    /// Nothing is written any more.
    ended: AtomicBool,
}

type Opened<'a> = RwLockReadGuard<'a, Option<redb::Database>>;

impl Database {
    /// Opens or creates the database.
    ///
    /// # Errors
    /// `Unsupported` if another version of this program wrote it.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let db = RwLock::new(Some(open(path)?));
        Ok(Self { path: path.to_owned(), db, ended: AtomicBool::new(false) })
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
    fn attempt<T>(&self, work: impl Fn(&redb::Database) -> Result<T>) -> Result<(Opened<'_>, T)> {
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

    /// Does `body` with the records of one moment.
    pub(super) fn read<T>(&self, body: impl Fn(&ReadOnlyTable<&'static str, &'static [u8]>) -> Result<T>) -> Result<T> {
        let read = |db: &redb::Database| {
            let tx = db.begin_read().map_err(failed)?;
            body(&tx.open_table(SNAPSHOTS).map_err(failed)?)
        };
        self.attempt(read).map(|(_, value)| value)
    }

    /// Does `body` and commits, alone among writers.
    ///
    /// # Errors
    /// `Unavailable` after [`Database::end`].
    pub(super) fn write<T>(&self, durability: Durability, body: impl Fn(&WriteTransaction) -> Result<T>) -> Result<T> {
        let (db, (tx, value)) = self.attempt(|db| {
            let mut tx = db.begin_write().map_err(failed)?;
            if self.ended.load(Ordering::SeqCst) {
                return Err(Error::new(ErrorKind::Unavailable, "the daemon is stopping"));
            }
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

    /// Does `body` while nobody can write; twice, if the database fails then.
    pub(super) fn exclusively<T>(&self, body: impl Fn(&WriteTransaction) -> Result<T>) -> Result<T> {
        let done = self.attempt(|db| {
            let tx = db.begin_write().map_err(failed)?;
            let result = body(&tx)?;
            tx.abort().map_err(failed)?;
            Ok(result)
        });
        done.map(|(_, result)| result)
    }

    /// The last write: whatever comes later, or waits for this one, is refused.
    pub(super) fn end(&self, body: impl Fn(&WriteTransaction) -> Result<()>) -> Result<()> {
        let last = self.write(Durability::Immediate, |tx| {
            body(tx)?;
            self.ended.store(true, Ordering::SeqCst);
            Ok(())
        });
        self.ended.store(true, Ordering::SeqCst);
        last
    }
}

/// Opens or creates the database and its tables.
fn open(path: &Path) -> Result<redb::Database> {
    let db = redb::Database::builder()
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

pub(super) fn failed(error: impl Into<redb::Error>) -> Error {
    Error::new(ErrorKind::Io, "snapshot database").with_source(error.into())
}

/// Whether the database failed, rather than what was asked of it: it refuses everything from then on.
fn is_storage(error: &Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<redb::Error>());
    matches!(source, Some(redb::Error::Io(_) | redb::Error::Backend(_) | redb::Error::PreviousIo))
}
