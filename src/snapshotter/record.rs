// SPDX-License-Identifier: Apache-2.0
//! A snapshot as the database holds it: JSON, under the snapshot's key.
//!
//! These structs are the on-disk format: a change that an older record can't be read as needs a new
//! [`FORMAT`](super::metadata::FORMAT).

use serde::{Deserialize, Serialize};

use super::{Kind, Labels, Seal, SealSource, SealState, Snapshot, Usage};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};

#[derive(Serialize, Deserialize)]
struct Record {
    id: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
    #[serde(with = "KindRecord")]
    kind: Kind,
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    labels: Labels,
    created_at: i64,
    updated_at: i64,
    #[serde(default)]
    size: i64,
    #[serde(default)]
    inodes: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seal: Option<SealRecord>,
}

#[derive(Serialize, Deserialize)]
struct SealRecord {
    #[serde(with = "SealStateRecord")]
    state: SealState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    manifest: Option<String>,
    #[serde(with = "SealSourceRecord")]
    source: SealSource,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    verified_at: Option<i64>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Kind", rename_all = "lowercase")]
enum KindRecord {
    View,
    Active,
    Committed,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "SealState", rename_all = "lowercase")]
enum SealStateRecord {
    Pending,
    Sealed,
    Verified,
    Damaged,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "SealSource", rename_all = "lowercase")]
enum SealSourceRecord {
    Disk,
    Image,
}

/// The bytes stored under `snapshot.key`.
pub(super) fn encode(snapshot: &Snapshot) -> Result<Vec<u8>> {
    let record = Record {
        id: snapshot.id,
        parent: snapshot.parent.clone(),
        kind: snapshot.kind,
        labels: snapshot.labels.clone(),
        created_at: snapshot.created_at,
        updated_at: snapshot.updated_at,
        size: snapshot.usage.size,
        inodes: snapshot.usage.inodes,
        seal: snapshot.seal.map(|seal| SealRecord {
            state: seal.state,
            manifest: seal.manifest.map(|digest| digest.to_string()),
            source: seal.source,
            verified_at: seal.verified_at,
        }),
    };
    serde_json::to_vec(&record).map_err(|error| {
        Error::new(ErrorKind::InvalidInput, format!("snapshot {:?} can't be stored", snapshot.key)).with_source(error)
    })
}

/// The snapshot whose bytes are stored under `key`.
pub(super) fn decode(key: &str, bytes: &[u8]) -> Result<Snapshot> {
    let damaged = || Error::new(ErrorKind::Io, format!("the record of snapshot {key:?} is damaged"));
    let record: Record = serde_json::from_slice(bytes).map_err(|error| damaged().with_source(error))?;
    let seal = record.seal.map(|seal| {
        let manifest: Option<Digest> = seal.manifest.map(|text| text.parse()).transpose()?;
        Ok(Seal { state: seal.state, manifest, source: seal.source, verified_at: seal.verified_at })
    });
    Ok(Snapshot {
        id: record.id,
        key: key.to_owned(),
        parent: record.parent,
        kind: record.kind,
        labels: record.labels,
        created_at: record.created_at,
        updated_at: record.updated_at,
        usage: Usage { size: record.size, inodes: record.inodes },
        seal: seal.transpose().map_err(|error: Error| damaged().with_source(error))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_comes_back() {
        for kind in [Kind::View, Kind::Active, Kind::Committed] {
            for state in [SealState::Pending, SealState::Sealed, SealState::Verified, SealState::Damaged] {
                for source in [SealSource::Disk, SealSource::Image] {
                    let snapshot = Snapshot {
                        id: 7,
                        key: "ns/1/a \"key\"".into(),
                        parent: Some("ns/0/p".into()),
                        kind,
                        labels: Labels::from([("k".into(), "v\n".into())]),
                        created_at: -1,
                        updated_at: i64::MAX,
                        usage: Usage { size: 4096, inodes: 1 },
                        seal: Some(Seal { state, manifest: Some(Digest::of(b"m")), source, verified_at: Some(5) }),
                    };
                    assert_eq!(decode(&snapshot.key, &encode(&snapshot).unwrap()).unwrap(), snapshot);
                }
            }
        }
    }

    #[test]
    fn the_stored_form_is_pinned() {
        let snapshot = Snapshot {
            id: 1,
            key: "k".into(),
            parent: None,
            kind: Kind::Committed,
            labels: Labels::new(),
            created_at: 2,
            updated_at: 3,
            usage: Usage { size: 4, inodes: 5 },
            seal: Some(Seal::PENDING),
        };
        let text = r#"{"id":1,"kind":"committed","created_at":2,"updated_at":3,"size":4,"inodes":5,"seal":{"state":"pending","source":"disk"}}"#;
        assert_eq!(String::from_utf8(encode(&snapshot).unwrap()).unwrap(), text);
        assert_eq!(decode("k", b"{}").unwrap_err().kind(), ErrorKind::Io);
    }
}
