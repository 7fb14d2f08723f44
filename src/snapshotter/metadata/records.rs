// SPDX-License-Identifier: Apache-2.0
//! The records inside of one transaction, and the rules that they keep. Which of several faults is named follows
//! containerd's own order, so that a client cannot tell us from its built-in snapshotters.

use std::collections::HashSet;

use redb::{ReadableTable, WriteTransaction};

use super::database::{NEXT_ID_KEY, NUMBERS, failed};
use crate::error::{Error, ErrorKind, Escaped, Result};
use crate::snapshotter::{Kind, Snapshot, record};

/// The table, for writing.
pub(super) type Snapshots<'a> = redb::Table<'a, &'static str, &'static [u8]>;

pub(super) fn get(snapshots: &impl ReadableTable<&'static str, &'static [u8]>, key: &str) -> Result<Option<Snapshot>> {
    snapshots.get(key).map_err(failed)?.map(|bytes| record::decode(key, bytes.value())).transpose()
}

pub(super) fn require(snapshots: &impl ReadableTable<&'static str, &'static [u8]>, key: &str) -> Result<Snapshot> {
    get(snapshots, key)?.ok_or_else(|| missing(key))
}

pub(super) fn put(snapshots: &mut Snapshots<'_>, snapshot: &Snapshot) -> Result<()> {
    snapshots.insert(snapshot.key.as_str(), record::encode(snapshot)?.as_slice()).map_err(failed)?;
    Ok(())
}

pub(super) fn select(
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

/// The chain of the parent that a new snapshot `key` would get, nearest first.
///
/// # Errors
/// In this order: `NotFound`: the parent. `InvalidInput`: the parent is not committed. `AlreadyExists`: the key.
pub(super) fn creatable(
    snapshots: &impl ReadableTable<&'static str, &'static [u8]>,
    key: &str,
    parent: Option<&str>,
) -> Result<Vec<Snapshot>> {
    let parents = match parent {
        None => Vec::new(),
        Some(parent) => ancestry(snapshots, committed(snapshots, parent, ErrorKind::InvalidInput)?)?,
    };
    match get(snapshots, key)? {
        None => Ok(parents),
        Some(_) => Err(exists(key)),
    }
}

/// What a commit of `key` as `name` onto `parent` would take: the active snapshot as it becomes the layer, but for its
/// key, and the parent that it gets by that; none if it has its parent already, or gets none.
///
/// # Errors
/// In this order: `NotFound`: the key. `AlreadyExists`: the name. `FailedPrecondition`: the key is not active.
/// `InvalidInput`: it has another parent. `NotFound`, `FailedPrecondition`: the parent is missing, is not committed.
pub(super) fn committable(
    snapshots: &impl ReadableTable<&'static str, &'static [u8]>,
    name: &str,
    key: &str,
    parent: Option<&str>,
) -> Result<(Snapshot, Option<Snapshot>)> {
    let mut active = require(snapshots, key)?;
    if get(snapshots, name)?.is_some() {
        return Err(exists(name));
    }
    if active.kind != Kind::Active {
        let message = format!("cannot commit snapshot {}: {}, not active", shown(key), active.kind);
        return Err(Error::new(ErrorKind::FailedPrecondition, message));
    }
    let Some(parent) = parent.filter(|parent| active.parent.as_deref() != Some(parent)) else {
        return Ok((active, None));
    };
    if let Some(own) = &active.parent {
        let message = format!(
            "cannot commit snapshot {}: its parent is {}, and cannot become {}",
            shown(key),
            shown(own),
            shown(parent)
        );
        return Err(Error::new(ErrorKind::InvalidInput, message));
    }
    let parent = committed(snapshots, parent, ErrorKind::FailedPrecondition)?;
    active.parent = Some(parent.key.clone());
    Ok((active, Some(parent)))
}

/// The snapshot `key`, which is to be a parent; `otherwise` if it is not committed.
fn committed(
    snapshots: &impl ReadableTable<&'static str, &'static [u8]>,
    key: &str,
    otherwise: ErrorKind,
) -> Result<Snapshot> {
    match get(snapshots, key)? {
        None => Err(Error::new(ErrorKind::NotFound, format!("parent snapshot {} not found", shown(key)))),
        Some(parent) if parent.kind == Kind::Committed => Ok(parent),
        Some(other) => {
            Err(Error::new(otherwise, format!("parent snapshot {} is {}, not committed", shown(key), other.kind)))
        }
    }
}

/// `first` and its parents, nearest first. What was committed onto a parent later may have the lower number of both, so
/// only a snapshot that comes twice tells a damaged record from a long chain.
pub(super) fn ancestry(
    snapshots: &impl ReadableTable<&'static str, &'static [u8]>,
    first: Snapshot,
) -> Result<Vec<Snapshot>> {
    let mut seen = HashSet::from([first.id]);
    let mut chain = vec![first];
    while let Some(key) = chain.last().and_then(|last| last.parent.clone()) {
        let parent = require(snapshots, &key)?;
        if !seen.insert(parent.id) {
            let message = format!("the record of snapshot {} is damaged: it is its own ancestor", shown(&key));
            return Err(Error::new(ErrorKind::Corrupt, message));
        }
        chain.push(parent);
    }
    Ok(chain)
}

/// The number of the next snapshot.
pub(super) fn next_id(tx: &WriteTransaction) -> Result<u64> {
    let mut numbers = tx.open_table(NUMBERS).map_err(failed)?;
    let id = numbers.get(NEXT_ID_KEY).map_err(failed)?.map_or(1, |id| id.value());
    numbers.insert(NEXT_ID_KEY, id + 1).map_err(failed)?;
    Ok(id)
}

pub(super) fn missing(key: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("snapshot {} not found", shown(key)))
}

fn exists(key: &str) -> Error {
    Error::new(ErrorKind::AlreadyExists, format!("snapshot {} already exists", shown(key)))
}

fn shown(key: &str) -> Escaped<'_> {
    Escaped(key.as_bytes())
}
