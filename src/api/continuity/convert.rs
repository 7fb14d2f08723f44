// SPDX-License-Identifier: Apache-2.0
//! Between the protocol's messages and the engine's types.

use std::path::PathBuf;
use std::time::Duration;

use protobuf::MessageField;
use ttrpc::Code;

use crate::api::continuity::proto::continuity::{
    self as pb, build_event, read_manifest_request, target, verify_event, verify_request,
};
use crate::engine::{ManifestName, StoredManifest, Target};
use crate::error::{Error, ErrorKind, Result};
use crate::ops::{BuildReport, Finding, FindingKind, VerifyReport};
use crate::snapshotter::{Mount, Snapshot};
use crate::tree::Progress;

/// More hashing threads than this are not started, whatever a client asks for.
const THREADS_MAX: u32 = 64;

/// The code that tells a client what kind of error it was.
fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::NotFound => Code::NOT_FOUND,
        ErrorKind::AlreadyExists => Code::ALREADY_EXISTS,
        ErrorKind::InvalidInput | ErrorKind::InvalidManifest | ErrorKind::Escape => Code::INVALID_ARGUMENT,
        ErrorKind::FailedPrecondition => Code::FAILED_PRECONDITION,
        ErrorKind::Changed => Code::ABORTED,
        ErrorKind::Unsupported => Code::UNIMPLEMENTED,
        ErrorKind::Cancelled => Code::CANCELLED,
        ErrorKind::Io => Code::INTERNAL,
    }
}

/// An error on the wire.
pub fn status(error: Error) -> ttrpc::Error {
    ttrpc::Error::RpcStatus(ttrpc::get_status(code(error.kind()), error))
}

pub fn threads(wanted: u32) -> usize {
    wanted.min(THREADS_MAX) as usize
}

pub fn target(target: Option<pb::Target>) -> Result<Target> {
    match target.and_then(|target| target.target) {
        Some(target::Target::Path(path)) => Ok(Target::Path(PathBuf::from(path))),
        Some(target::Target::Mounts(mounts)) => Ok(Target::Mounts(mounts.mounts.into_iter().map(mount).collect())),
        Some(target::Target::Snapshot(key)) => Ok(Target::Snapshot(key)),
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

pub fn read_manifest(manifest: Option<read_manifest_request::Manifest>) -> Result<ManifestName> {
    match manifest {
        Some(read_manifest_request::Manifest::Digest(digest)) => Ok(ManifestName::Digest(digest.parse()?)),
        Some(read_manifest_request::Manifest::Snapshot(key)) => Ok(ManifestName::Snapshot(key)),
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
    verify_event(verify_event::Event::Finding(pb::Finding {
        path: finding.path,
        kind: finding.kind.name().into(),
        expected: finding.expected,
        found: finding.found,
        xattr: finding.xattr,
        ..Default::default()
    }))
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

pub fn snapshot(snapshot: Snapshot) -> pb::SnapshotInfo {
    let seal = snapshot.seal;
    pb::SnapshotInfo {
        key: snapshot.key,
        parent: snapshot.parent.unwrap_or_default(),
        kind: snapshot.kind.name().into(),
        created_at: snapshot.created_at,
        updated_at: snapshot.updated_at,
        labels: snapshot.labels.into_iter().collect(),
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
        snapshots: manifest.snapshots,
        ..Default::default()
    }
}
