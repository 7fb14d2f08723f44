// SPDX-License-Identifier: Apache-2.0
//! A snapshot as the database holds it: JSON, under the snapshot's key.
//!
//! These structs are the on-disk format: a change that an older record can't be read as needs a new
//! [`FORMAT`](super::metadata::FORMAT).

use serde::{Deserialize, Serialize};

use super::{Kind, Labels, Seal, SealSource, SealState, Snapshot, Usage};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Escaped, Result};

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
    state: StateRecord,
    /// Of a pending one: only its image can prove it. An older version of this program takes it for pending.
    #[serde(default, skip_serializing_if = "is_false")]
    unproven: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    contradicted: bool,
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
#[serde(rename_all = "lowercase")]
enum StateRecord {
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

impl From<Seal> for SealRecord {
    fn from(seal: Seal) -> Self {
        let state = match seal.state {
            SealState::Pending | SealState::Unproven => StateRecord::Pending,
            SealState::Sealed => StateRecord::Sealed,
            SealState::Verified => StateRecord::Verified,
            SealState::Damaged => StateRecord::Damaged,
        };
        Self {
            state,
            unproven: seal.state == SealState::Unproven,
            contradicted: seal.contradicted,
            manifest: seal.manifest.map(|digest| digest.to_string()),
            source: seal.source,
            verified_at: seal.verified_at,
        }
    }
}

impl TryFrom<SealRecord> for Seal {
    type Error = Error;

    fn try_from(record: SealRecord) -> Result<Self> {
        let state = match record.state {
            StateRecord::Pending if record.unproven => SealState::Unproven,
            StateRecord::Pending => SealState::Pending,
            StateRecord::Sealed => SealState::Sealed,
            StateRecord::Verified => SealState::Verified,
            StateRecord::Damaged => SealState::Damaged,
        };
        let manifest: Option<Digest> = record.manifest.map(|text| text.parse()).transpose()?;
        let SealRecord { contradicted, source, verified_at, .. } = record;
        Ok(Self { state, manifest, contradicted, source, verified_at })
    }
}

fn is_false(flag: &bool) -> bool {
    !flag
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
        seal: snapshot.seal.map(SealRecord::from),
    };
    serde_json::to_vec(&record).map_err(|error| {
        Error::new(ErrorKind::InvalidInput, format!("snapshot {:?} can't be stored", snapshot.key)).with_source(error)
    })
}

/// The snapshot whose bytes are stored under `key`.
pub(super) fn decode(key: &str, bytes: &[u8]) -> Result<Snapshot> {
    let damaged =
        || Error::new(ErrorKind::Corrupt, format!("the record of snapshot {} is damaged", Escaped(key.as_bytes())));
    let record: Record = serde_json::from_slice(bytes).map_err(|error| damaged().with_source(error))?;
    Ok(Snapshot {
        id: record.id,
        key: key.to_owned(),
        parent: record.parent,
        kind: record.kind,
        labels: record.labels,
        created_at: record.created_at,
        updated_at: record.updated_at,
        usage: Usage { size: record.size, inodes: record.inodes },
        seal: record.seal.map(Seal::try_from).transpose().map_err(|error| damaged().with_source(error))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [SealState; 5] =
        [SealState::Pending, SealState::Unproven, SealState::Sealed, SealState::Verified, SealState::Damaged];

    #[test]
    fn what_is_stored_comes_back() {
        for kind in [Kind::View, Kind::Active, Kind::Committed] {
            for state in STATES {
                for source in [SealSource::Disk, SealSource::Image] {
                    let contradicted = state == SealState::Damaged && source == SealSource::Disk;
                    let manifest = Some(Digest::of(b"m"));
                    let snapshot = Snapshot {
                        id: 7,
                        key: "ns/1/a \"key\"".into(),
                        parent: Some("ns/0/p".into()),
                        kind,
                        labels: Labels::from([("k".into(), "v\n".into())]),
                        created_at: -1,
                        updated_at: i64::MAX,
                        usage: Usage { size: 4096, inodes: 1 },
                        seal: Some(Seal { state, manifest, contradicted, source, verified_at: Some(5) }),
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
        assert_eq!(decode("k", b"{}").unwrap_err().kind(), ErrorKind::Corrupt);
        // What an older version reads as pending.
        let unproven = Snapshot { seal: Some(Seal::UNPROVEN), ..snapshot };
        let text = text.replace(r#""pending","#, r#""pending","unproven":true,"#);
        assert_eq!(String::from_utf8(encode(&unproven).unwrap()).unwrap(), text);
    }
}
