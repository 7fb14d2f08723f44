// SPDX-License-Identifier: Apache-2.0
//! Between the protocol's messages and the engine's types.

pub mod image;

use std::path::PathBuf;
use std::time::Duration;

use protobuf::MessageField;

use crate::api::continuity::proto::continuity::{
    self as pb, build_event, read_manifest_request, target, verify_event, verify_request,
};
use crate::engine::{ManifestName, SnapshotName, StoredManifest, Target};
use crate::error::{Error, ErrorKind, Result};
use crate::mount::Mount;
use crate::ops::{BuildReport, Finding, FindingKind, VerifyReport};
use crate::snapshotter::Snapshot;
use crate::tree::Progress;

/// More hashing threads than this are not started, whatever a client asks for.
const THREADS_MAX: u32 = 64;

/// Keys of snapshots in one message.
const KEYS_MAX: usize = 256;

/// Bytes of keys or labels in one message: far below the 4 MiB at which a Go client drops the connection, whatever
/// else is in it. What does not fit is only counted.
const REPEATED_BYTES: usize = 1 << 20;

pub fn threads(wanted: u32) -> usize {
    wanted.min(THREADS_MAX) as usize
}

pub fn target(target: Option<pb::Target>) -> Result<Target> {
    let pb::Target { target, namespace, .. } = target.unwrap_or_default();
    match target {
        Some(target::Target::Path(path)) => Ok(Target::Path(PathBuf::from(path))),
        Some(target::Target::Mounts(mounts)) => Ok(Target::Mounts(mounts.mounts.into_iter().map(mount).collect())),
        Some(target::Target::Snapshot(key)) => Ok(Target::Snapshot(SnapshotName { key, namespace })),
        None => Err(Error::new(ErrorKind::InvalidInput, "the request names no target")),
    }
}

fn mount(mount: pb::Mount) -> Mount {
    Mount { kind: mount.type_, source: mount.source, target: mount.target, options: mount.options }
}

pub fn verify_manifest(manifest: Option<verify_request::Manifest>) -> Result<ManifestName> {
    match manifest {
        Some(verify_request::Manifest::Digest(digest)) => Ok(ManifestName::Digest(digest.parse()?)),
        Some(verify_request::Manifest::Path(path)) => Ok(ManifestName::Path(PathBuf::from(path))),
        None => Err(no_manifest()),
    }
}

pub fn read_manifest(request: pb::ReadManifestRequest) -> Result<ManifestName> {
    let namespace = request.namespace;
    match request.manifest {
        Some(read_manifest_request::Manifest::Digest(digest)) => Ok(ManifestName::Digest(digest.parse()?)),
        Some(read_manifest_request::Manifest::Snapshot(key)) => {
            Ok(ManifestName::Snapshot(SnapshotName { key, namespace }))
        }
        None => Err(no_manifest()),
    }
}

fn no_manifest() -> Error {
    Error::new(ErrorKind::InvalidInput, "the request names no manifest")
}

fn progress(progress: &Progress) -> pb::Progress {
    pb::Progress { entries: progress.entries(), bytes: progress.bytes(), ..Default::default() }
}

fn build_event(event: build_event::Event) -> pb::BuildEvent {
    pb::BuildEvent { event: Some(event), ..Default::default() }
}

pub fn build_progress(now: &Progress) -> pb::BuildEvent {
    build_event(build_event::Event::Progress(progress(now)))
}

pub fn build_chunk(data: Vec<u8>) -> pb::BuildEvent {
    build_event(build_event::Event::Chunk(data))
}

pub fn build_warning(warning: String) -> pb::BuildEvent {
    build_event(build_event::Event::Warning(warning))
}

pub fn build_summary(report: &BuildReport, took: Duration) -> pb::BuildEvent {
    build_event(build_event::Event::Summary(pb::BuildSummary {
        summary: MessageField::some(summary(report.entries, report.bytes, 0, took)),
        digest: report.digest.to_string(),
        ..Default::default()
    }))
}

fn summary(entries: u64, bytes: u64, findings: u64, took: Duration) -> pb::Summary {
    let milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    pb::Summary { entries, bytes, milliseconds, findings, ..Default::default() }
}

fn verify_event(event: verify_event::Event) -> pb::VerifyEvent {
    pb::VerifyEvent { event: Some(event), ..Default::default() }
}

pub fn verify_progress(now: &Progress) -> pb::VerifyEvent {
    verify_event(verify_event::Event::Progress(progress(now)))
}

pub fn verify_summary(report: &VerifyReport, took: Duration) -> pb::VerifyEvent {
    verify_event(verify_event::Event::Summary(summary(report.entries, report.bytes, report.findings, took)))
}

pub fn layer_event(key: String) -> pb::VerifyEvent {
    verify_event(verify_event::Event::Snapshot(key))
}

pub fn finding_event(finding: Finding) -> pb::VerifyEvent {
    verify_event(verify_event::Event::Finding(finding_message(finding)))
}

fn finding_message(finding: Finding) -> pb::Finding {
    pb::Finding {
        path: finding.path,
        kind: finding.kind.name().into(),
        expected: finding.expected,
        found: finding.found,
        xattr: finding.xattr,
        ..Default::default()
    }
}

/// A finding off the wire; none if its kind is unknown to this version.
pub fn finding(finding: pb::Finding) -> Option<Finding> {
    Some(Finding {
        kind: FindingKind::from_name(&finding.kind)?,
        path: finding.path,
        xattr: finding.xattr,
        expected: finding.expected,
        found: finding.found,
    })
}

/// The first of `items` that fit into one message.
fn fitting<T>(items: impl IntoIterator<Item = T>, size: impl Fn(&T) -> usize) -> impl Iterator<Item = T> {
    let mut bytes = 0;
    items.into_iter().take_while(move |item| {
        bytes += size(item);
        bytes <= REPEATED_BYTES
    })
}

pub fn snapshot(snapshot: Snapshot) -> pb::SnapshotInfo {
    let seal = snapshot.seal;
    pb::SnapshotInfo {
        key: snapshot.key,
        parent: snapshot.parent.unwrap_or_default(),
        kind: snapshot.kind.name().into(),
        created_at: snapshot.created_at,
        updated_at: snapshot.updated_at,
        label_count: snapshot.labels.len() as u64,
        labels: fitting(snapshot.labels, |(key, value)| key.len() + value.len()).collect(),
        state: seal.map(|seal| seal.state.name().into()).unwrap_or_default(),
        manifest: seal.and_then(|seal| seal.manifest).map(|digest| digest.to_string()).unwrap_or_default(),
        source: seal.map(|seal| seal.source.name().into()).unwrap_or_default(),
        verified_at: seal.and_then(|seal| seal.verified_at).unwrap_or_default(),
        size: snapshot.usage.size,
        inodes: snapshot.usage.inodes,
        id: snapshot.id,
        ..Default::default()
    }
}

pub fn manifest(manifest: StoredManifest) -> pb::ManifestInfo {
    pb::ManifestInfo {
        digest: manifest.digest.to_string(),
        size: manifest.size,
        snapshot_count: manifest.snapshots.len() as u64,
        snapshots: fitting(manifest.snapshots, String::len).take(KEYS_MAX).collect(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use protobuf::Message;

    use super::*;
    use crate::digest::Digest;
    use crate::snapshotter::{Kind, Labels, MAX_KEY, MAX_LABEL, Usage};

    /// Far below 4 MiB.
    const MESSAGE: u64 = 2 << 20;

    #[test]
    fn no_number_of_labels_makes_a_message_too_large() {
        let labels: Labels = (0..4_000).map(|n| (format!("{n:04}"), "v".repeat(MAX_LABEL - 4))).collect();
        let snapshot = |labels| Snapshot {
            id: 1,
            key: "k".repeat(MAX_KEY),
            parent: Some("p".repeat(MAX_KEY)),
            kind: Kind::Active,
            labels,
            created_at: 0,
            updated_at: 0,
            usage: Usage::default(),
            seal: None,
        };
        let info = super::snapshot(snapshot(labels));
        assert!(info.compute_size() < MESSAGE && !info.labels.is_empty(), "{}", info.compute_size());
        assert_eq!(info.label_count, 4_000);
        let few = super::snapshot(snapshot(Labels::from([("a".into(), "b".into())])));
        assert_eq!((few.labels.len(), few.label_count), (1, 1));
    }

    #[test]
    fn no_number_of_snapshots_makes_a_message_too_large() {
        for (key, keys, expected) in [("k".repeat(MAX_KEY), 1_000, 32), ("k".into(), 1_000, 256), ("k".into(), 3, 3)] {
            let info = manifest(StoredManifest { digest: Digest::of(b""), size: 1, snapshots: vec![key; keys] });
            assert!(info.compute_size() < MESSAGE, "{}", info.compute_size());
            assert_eq!((info.snapshots.len(), info.snapshot_count), (expected, keys as u64));
        }
    }
}
