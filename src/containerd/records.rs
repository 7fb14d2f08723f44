// SPDX-License-Identifier: Apache-2.0
//! What containerd answers, in our own types.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::containerd::proto::services::{containers, images, introspection, snapshots};
use crate::containerd::proto::types;
use crate::containerd::runtime_spec::RuntimeSpec;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Escaped, Result};
use crate::mount::Mount;
use crate::snapshotter::Kind;

/// What a blob is, as an image refers to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// Of the blob.
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    /// OCI's or Docker's.
    pub media_type: String,
}

/// An image, as containerd names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRecord {
    /// Its reference.
    pub name: String,
    /// Digest of its index or manifest, as it is written: of whatever algorithm.
    pub digest: String,
    /// Media type of that.
    pub media_type: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// A container, running or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerRecord {
    /// Its id.
    pub id: String,
    /// Reference of its image; may be empty.
    pub image: String,
    /// Name of the snapshotter that has its root filesystem; may be empty.
    pub snapshotter: String,
    /// Key of its root filesystem; may be empty.
    pub snapshot_key: String,
    /// Whether it has a process.
    pub running: bool,
    /// What its runtime makes in its root filesystem before it starts: see [`RuntimeSpec`].
    pub spec: RuntimeSpec,
}

/// A snapshot, as containerd's clients see it: keys are those of one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotRecord {
    /// Its key.
    pub key: String,
    /// Key of its parent; empty if it has none.
    pub parent: String,
    /// What it is.
    pub kind: Kind,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// A snapshotter that containerd has loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotterInfo {
    /// Its name.
    pub name: String,
    /// Its directory, where it tells.
    pub root: Option<PathBuf>,
}

/// Type of the plugins that are snapshotters.
pub(super) const SNAPSHOTTER_PLUGIN: &str = "io.containerd.snapshotter.v1";

pub(super) fn image(image: images::v1::Image) -> ImageRecord {
    let target = image.target.unwrap_or_default();
    ImageRecord {
        name: image.name,
        digest: target.digest,
        media_type: target.media_type,
        labels: image.labels.into_iter().collect(),
    }
}

/// A digest that containerd or an image names.
///
/// # Errors
/// `Unsupported` for another algorithm than SHA-256.
pub(super) fn digest(text: &str) -> Result<Digest> {
    Digest::parse(text.as_bytes()).ok_or_else(|| {
        let message = format!("digest {}: only sha256 can be checked", Escaped(text.as_bytes()));
        Error::new(ErrorKind::Unsupported, message)
    })
}

pub(super) fn container(container: containers::v1::Container, running: bool) -> ContainerRecord {
    ContainerRecord {
        id: container.id,
        image: container.image,
        snapshotter: container.snapshotter,
        snapshot_key: container.snapshot_key,
        running,
        spec: RuntimeSpec::of(&container.spec.unwrap_or_default().value),
    }
}

pub(super) fn snapshot(info: snapshots::v1::Info) -> SnapshotRecord {
    let kind = match info.kind() {
        snapshots::v1::Kind::Committed => Kind::Committed,
        snapshots::v1::Kind::View => Kind::View,
        _ => Kind::Active,
    };
    SnapshotRecord { key: info.name, parent: info.parent, kind, labels: info.labels.into_iter().collect() }
}

/// None for a plugin that failed to load, or is no snapshotter.
pub(super) fn snapshotter(plugin: introspection::v1::Plugin) -> Option<SnapshotterInfo> {
    let loaded = plugin.r#type == SNAPSHOTTER_PLUGIN && plugin.init_err.is_none();
    loaded.then(|| SnapshotterInfo { name: plugin.id, root: plugin.exports.get("root").map(PathBuf::from) })
}

pub(super) fn to_mount(mount: Mount) -> types::Mount {
    types::Mount { r#type: mount.kind, source: mount.source, target: mount.target, options: mount.options }
}

pub(super) fn mount(mount: types::Mount) -> Mount {
    Mount { kind: mount.r#type, source: mount.source, target: mount.target, options: mount.options }
}
