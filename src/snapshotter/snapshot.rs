// SPDX-License-Identifier: Apache-2.0
//! What the snapshotter says about one snapshot.

use std::fmt;

use super::time::rfc3339;
use crate::digest::Digest;
use crate::key::SnapshotKey;
use crate::labels::{self, Labels};

/// What a snapshot is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Read-only and private to its caller; never committed.
    View,
    /// Writable; becomes a layer by a commit.
    Active,
    /// A layer: never changes again, may be a parent.
    Committed,
}

impl Kind {
    /// The name in filters and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Active => "active",
            Self::Committed => "committed",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How much is known about a committed snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SealState {
    /// Its manifest is still to be built.
    Pending,
    /// What was committed may have been lost before it was sealed: nothing but a comparison with its image proves that
    /// its files are what they should be. It may have a manifest of what is on the disk, which proves nothing.
    Unproven,
    /// Its manifest is stored.
    Sealed,
    /// Its files were what the manifest says when they were last checked.
    Verified,
    /// Its files were not what the manifest says when they were last checked.
    Damaged,
}

impl SealState {
    /// The value of the label `containerd.io/snapshot/continuity.state`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Unproven => "unproven",
            Self::Sealed => "sealed",
            Self::Verified => "verified",
            Self::Damaged => "damaged",
        }
    }
}

impl fmt::Display for SealState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where the manifest of a seal comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SealSource {
    /// Read back after the commit: proves that nothing changed since.
    Disk,
    /// Derived from the layer's tar, whose digest the image vouches for.
    Image,
}

impl SealSource {
    /// The name in every output and on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Image => "image",
        }
    }
}

impl fmt::Display for SealSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a committed snapshot is held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seal {
    /// How much is known.
    pub state: SealState,
    /// Digest of the layer manifest; none while pending.
    pub manifest: Option<Digest>,
    /// The image says otherwise than the manifest, and what it says could not be stored yet: the layer is damaged, and
    /// what the manifest says of its files changes nothing about that.
    pub contradicted: bool,
    /// Where the manifest comes from.
    pub source: SealSource,
    /// When the files were last found intact: nanoseconds since the epoch.
    pub verified_at: Option<i64>,
}

impl Seal {
    /// The seal of a snapshot that was just committed.
    pub const PENDING: Self = Self {
        state: SealState::Pending,
        manifest: None,
        contradicted: false,
        source: SealSource::Disk,
        verified_at: None,
    };

    /// The seal of one that is committed, and that only its image can prove.
    pub const UNPROVEN: Self = Self { state: SealState::Unproven, ..Self::PENDING };

    /// The manifest that the files are checked against; none if there is none, or if it proves nothing.
    pub fn proof(&self) -> Option<Digest> {
        self.manifest.filter(|_| self.state != SealState::Unproven && !self.contradicted)
    }

    /// The seal as labels under [`labels::SEAL`]: `state`, and `manifest` and `verified-at` (RFC 3339) if known.
    pub fn labels(&self) -> Labels {
        let label = |name: &str, value: String| (format!("{}{name}", labels::SEAL), value);
        let manifest = self.manifest.map(|digest| label("manifest", digest.to_string()));
        let verified_at = self.verified_at.map(|at| label("verified-at", rfc3339(at)));
        [label("state", self.state.to_string())].into_iter().chain(manifest).chain(verified_at).collect()
    }
}

/// What a snapshot's own directory takes up, parents not counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of allocated blocks.
    pub size: i64,
    /// Inodes, each counted once.
    pub inodes: i64,
}

/// One snapshot, as it was when it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Names its directory; never used twice.
    pub id: u64,
    /// The caller's name for it: an opaque string, never a path.
    pub key: String,
    /// Key of the parent; none for a bottom layer.
    pub parent: Option<String>,
    /// What it is for.
    pub kind: Kind,
    /// The caller's labels.
    pub labels: Labels,
    /// Nanoseconds since the epoch.
    pub created_at: i64,
    /// When the caller last changed it: nanoseconds since the epoch.
    pub updated_at: i64,
    /// Fixed at the commit; zero before.
    pub usage: Usage,
    /// Some for a committed snapshot, none for every other.
    pub seal: Option<Seal>,
}

impl Snapshot {
    /// Whether containerd's unpacker fills it, or was the one that did.
    pub fn is_unpack(&self) -> bool {
        SnapshotKey::parse(&self.key).is_some_and(|key| key.is_unpack(self.parent.as_deref(), &self.labels))
    }

    /// Whether its caller said, before it named the parent, that there will be one.
    pub(super) fn is_announced(&self) -> bool {
        self.labels.contains_key(labels::PARENT_CHAIN_ID)
    }

    /// Whether a layer is unpacked in it that gets its parent by the commit. Its whiteouts need their place before.
    pub(super) fn awaits_parent(&self) -> bool {
        self.kind == Kind::Active && self.parent.is_none() && self.is_announced() && self.is_unpack()
    }

    /// The value of a label, one that shows the seal included.
    pub(super) fn label(&self, name: &str) -> Option<String> {
        match self.labels.get(name) {
            Some(value) => Some(value.clone()),
            None if name.starts_with(labels::SEAL) => self.seal?.labels().remove(name),
            None => None,
        }
    }
}

/// Whether its seal is still to be built.
pub(super) fn is_unsealed(snapshot: &Snapshot) -> bool {
    snapshot.seal.is_some_and(|seal| match seal.state {
        SealState::Pending => true,
        SealState::Unproven => seal.manifest.is_none(),
        SealState::Sealed | SealState::Verified | SealState::Damaged => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_shows_as_labels() {
        let text = |seal: Seal| {
            let lines: Vec<String> = seal.labels().iter().map(|(key, value)| format!("{key}={value}")).collect();
            lines.join("\n")
        };
        assert_eq!(text(Seal::PENDING), "containerd.io/snapshot/continuity.state=pending");
        assert_eq!(text(Seal::UNPROVEN), "containerd.io/snapshot/continuity.state=unproven");
        let manifest = Digest::of(b"");
        let verified = Seal {
            state: SealState::Verified,
            manifest: Some(manifest),
            verified_at: Some(1_000_000_000),
            ..Seal::PENDING
        };
        let expected = format!(
            "containerd.io/snapshot/continuity.manifest={manifest}\n\
             containerd.io/snapshot/continuity.state=verified\n\
             containerd.io/snapshot/continuity.verified-at=1970-01-01T00:00:01Z"
        );
        assert_eq!(text(verified), expected);
    }
}
