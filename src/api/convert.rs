// SPDX-License-Identifier: Apache-2.0
//! Domain types to wire types and back.

use std::collections::HashMap;

use crate::containerd::proto::services::snapshots::v1;
use crate::containerd::proto::types;
use crate::mount::Mount;
use crate::snapshotter::{Kind, Labels, Snapshot};

const NANOS: i64 = 1_000_000_000;

/// A snapshot with its seal among its labels: what a reader sees.
pub fn info_with_seal(snapshot: Snapshot) -> v1::Info {
    let seal = snapshot.seal.map(|seal| seal.labels()).unwrap_or_default();
    let mut info = info(snapshot);
    info.labels.extend(seal);
    info
}

/// A snapshot with the caller's labels alone: what an update leaves.
pub fn info(snapshot: Snapshot) -> v1::Info {
    v1::Info {
        name: snapshot.key,
        parent: snapshot.parent.unwrap_or_default(),
        kind: match snapshot.kind {
            Kind::View => v1::Kind::View,
            Kind::Active => v1::Kind::Active,
            Kind::Committed => v1::Kind::Committed,
        }
        .into(),
        created_at: Some(timestamp(snapshot.created_at)),
        updated_at: Some(timestamp(snapshot.updated_at)),
        labels: snapshot.labels.into_iter().collect(),
    }
}

/// Nanoseconds since the epoch as the wire has them: nanoseconds there count forward, before 1970 too.
pub fn timestamp(nanos: i64) -> prost_types::Timestamp {
    // A remainder below a thousand million fits.
    prost_types::Timestamp { seconds: nanos.div_euclid(NANOS), nanos: nanos.rem_euclid(NANOS) as i32 }
}

/// Mounts for the wire.
pub fn mounts(mounts: Vec<Mount>) -> Vec<types::Mount> {
    let wire = |Mount { kind, source, target, options }| types::Mount { r#type: kind, source, target, options };
    mounts.into_iter().map(wire).collect()
}

/// Labels from the wire.
pub fn labels(labels: HashMap<String, String>) -> Labels {
    labels.into_iter().collect()
}

/// A parent from the wire, where none is the empty string.
pub fn parent(parent: &str) -> Option<&str> {
    Some(parent).filter(|parent| !parent.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::snapshotter::{Seal, SealState, Usage};

    fn snapshot() -> Snapshot {
        Snapshot {
            id: 3,
            key: "ns/3/k".into(),
            parent: None,
            kind: Kind::Committed,
            labels: Labels::from([("a".into(), "b".into())]),
            created_at: 1_500_000_000,
            updated_at: -1,
            usage: Usage::default(),
            seal: Some(Seal {
                state: SealState::Verified,
                manifest: Some(Digest::of(b"")),
                verified_at: Some(0),
                ..Seal::PENDING
            }),
        }
    }

    #[test]
    fn a_seal_is_read_as_labels_and_an_update_answers_without() {
        let read = info_with_seal(snapshot());
        assert_eq!(read.labels["containerd.io/snapshot/continuity.state"], "verified");
        assert_eq!(read.labels["containerd.io/snapshot/continuity.manifest"], Digest::of(b"").to_string());
        assert_eq!(read.labels["containerd.io/snapshot/continuity.verified-at"], "1970-01-01T00:00:00Z");
        assert_eq!(read.labels.len(), 4);
        assert_eq!(info(snapshot()).labels, HashMap::from([("a".to_owned(), "b".to_owned())]));
    }

    #[test]
    fn times_keep_their_nanoseconds() {
        let info = info(snapshot());
        assert_eq!(info.created_at, Some(prost_types::Timestamp { seconds: 1, nanos: 500_000_000 }));
        assert_eq!(info.updated_at, Some(prost_types::Timestamp { seconds: -1, nanos: 999_999_999 }));
        assert_eq!((info.parent.as_str(), info.kind()), ("", v1::Kind::Committed));
    }
}
