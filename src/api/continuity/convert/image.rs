// SPDX-License-Identifier: Apache-2.0
//! Images and containers, as messages.

use std::time::Duration;

use protobuf::MessageField;

use super::{KEYS_MAX, fitting, pb, progress, summary};
use crate::containerd::Platform;
use crate::image::{
    Change, ContainerReport, DeriveReport, ImageEvent, ImageFinding, ImageInfo, LayerRef, RepairEvent, SharedLayer,
    Touch, Verdict,
};
use crate::manifest::Resource;
use crate::ops::{Finding, VerifyReport};
use crate::tree::Progress;
use pb::{build_event, diff_event, image_event, repair_event, trace_event};

/// Bytes of a layer's step that go into a message; a config may hold megabytes, and it is in every finding.
const CREATED_BY_MAX: usize = 4 << 10;

pub fn info(image: ImageInfo) -> pb::ImageInfo {
    pb::ImageInfo {
        name: image.name,
        platform: image.platform,
        layers: image.layers as u64,
        entries: image.entries.unwrap_or_default(),
        size: image.size,
        verdicts: image.verdicts.into_iter().map(verdict).collect(),
        problem: image.problem,
        ..Default::default()
    }
}

fn verdict(verdict: Verdict) -> pb::ImageVerdict {
    let (state, at) = verdict.last.map(|(state, at, _)| (state.name().to_owned(), at)).unwrap_or_default();
    pb::ImageVerdict { snapshotter: verdict.snapshotter, verdict: state, verified_at: at, ..Default::default() }
}

pub fn derived(report: &DeriveReport, progress: &Progress, took: Duration) -> pb::BuildEvent {
    super::build_event(build_event::Event::Summary(pb::BuildSummary {
        summary: MessageField::some(summary(report.entries, progress.bytes(), 0, took)),
        digest: report.digest.to_string(),
        ..Default::default()
    }))
}

fn image_event(event: image_event::Event) -> pb::ImageEvent {
    pb::ImageEvent { event: Some(event), ..Default::default() }
}

pub fn verify_progress(now: &Progress) -> pb::ImageEvent {
    image_event(image_event::Event::Progress(progress(now)))
}

pub fn event(event: ImageEvent) -> pb::ImageEvent {
    image_event(match event {
        ImageEvent::Begin { image, snapshotter, platform } => {
            image_event::Event::Begin(subject(image, snapshotter, platform))
        }
        ImageEvent::Finding(finding) => image_event::Event::Finding(image_finding(finding)),
        ImageEvent::End { report, shared } => image_event::Event::End(pb::ImageEnd {
            summary: MessageField::some(summary(report.entries, report.bytes, report.findings, Duration::ZERO)),
            shared_count: shared.len() as u64,
            shared: fitting(shared.into_iter().map(shared_layer), |shared| {
                shared.images.iter().map(String::len).sum::<usize>() + shared.layer.created_by.len()
            })
            .collect(),
            ..Default::default()
        }),
        ImageEvent::Unchecked(error) => image_event::Event::Unchecked(error.to_string()),
    })
}

pub fn verified(report: &VerifyReport, took: Duration) -> pb::ImageEvent {
    image_event(image_event::Event::Summary(summary(report.entries, report.bytes, report.findings, took)))
}

fn subject(image: String, snapshotter: String, platform: Option<Platform>) -> pb::ImageSubject {
    let platform = platform.map(|platform| platform.to_string()).unwrap_or_default();
    pb::ImageSubject { image, snapshotter, platform, ..Default::default() }
}

fn image_finding(found: ImageFinding) -> pb::ImageFinding {
    pb::ImageFinding {
        finding: MessageField::some(super::finding_message(found.finding)),
        layer: found.layer.map(layer).into(),
        ..Default::default()
    }
}

fn shared_layer(shared: SharedLayer) -> pb::SharedLayer {
    pb::SharedLayer {
        layer: MessageField::some(layer(shared.layer)),
        image_count: shared.images.len() as u64,
        images: fitting(shared.images, String::len).take(KEYS_MAX).collect(),
        ..Default::default()
    }
}

fn layer(layer: LayerRef) -> pb::Layer {
    pb::Layer {
        number: layer.number as u64,
        digest: layer.digest.to_string(),
        created_by: cut(layer.created_by, CREATED_BY_MAX),
        ..Default::default()
    }
}

/// The beginning of a text, whole characters.
fn cut(mut text: String, most: usize) -> String {
    let end = (0..=most.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.truncate(end);
    text
}

fn trace_event(event: trace_event::Event) -> pb::TraceEvent {
    pb::TraceEvent { event: Some(event), ..Default::default() }
}

pub fn trace_progress(now: &Progress) -> pb::TraceEvent {
    trace_event(trace_event::Event::Progress(progress(now)))
}

pub fn touch(touch: Touch) -> pb::TraceEvent {
    trace_event(trace_event::Event::Touch(pb::Touch {
        layer: MessageField::some(layer(touch.layer)),
        touched: touch.touched.name().into(),
        inode: touch.resource.as_ref().map(inode).into(),
        ..Default::default()
    }))
}

fn inode(resource: &Resource) -> pb::Inode {
    pb::Inode {
        type_: resource.mode.file_type().name().into(),
        permissions: resource.mode.permissions(),
        uid: resource.uid,
        gid: resource.gid,
        size: resource.size,
        digest: resource.digest.map(|digest| digest.to_string()).unwrap_or_default(),
        target: resource.target.clone(),
        major: resource.device.0,
        minor: resource.device.1,
        ..Default::default()
    }
}

fn repair_event(event: repair_event::Event) -> pb::RepairEvent {
    pb::RepairEvent { event: Some(event), ..Default::default() }
}

pub fn repair_progress(now: &Progress) -> pb::RepairEvent {
    repair_event(repair_event::Event::Progress(progress(now)))
}

pub fn repair(event: RepairEvent) -> pb::RepairEvent {
    repair_event(match event {
        RepairEvent::Begin { image, snapshotter, platform } => {
            repair_event::Event::Begin(subject(image, snapshotter, platform))
        }
        RepairEvent::Change { layer: of, action, kept } => repair_event::Event::Change(pb::RepairChange {
            action: action.name().into(),
            path: action.path().to_vec(),
            layer: of.map(layer).into(),
            kept: kept.map(|kept| kept.to_string_lossy().into_owned()).unwrap_or_default(),
            ..Default::default()
        }),
        RepairEvent::Left(finding) => repair_event::Event::Left(image_finding(finding)),
        RepairEvent::End(report) => {
            repair_event::Event::End(pb::RepairEnd { changes: report.changes, left: report.left, ..Default::default() })
        }
        RepairEvent::Failed(error) => repair_event::Event::Failed(error.to_string()),
    })
}

fn diff_event(event: diff_event::Event) -> pb::DiffEvent {
    pb::DiffEvent { event: Some(event), ..Default::default() }
}

pub fn diff_progress(now: &Progress) -> pb::DiffEvent {
    diff_event(diff_event::Event::Progress(progress(now)))
}

pub fn change(change: Change) -> pb::DiffEvent {
    diff_event(diff_event::Event::Change(pb::ContainerChange {
        kind: change.kind.name().into(),
        path: change.path,
        image: change.image.as_ref().map(inode).into(),
        container: change.container.as_ref().map(inode).into(),
        difference_count: change.differences.len() as u64,
        differences: fitting(change.differences, weight).map(super::finding_message).collect(),
        ..Default::default()
    }))
}

/// Bytes of a finding, about.
fn weight(finding: &Finding) -> usize {
    finding.path.len() + finding.expected.len() + finding.found.len() + finding.xattr.len()
}

pub fn compared(report: &ContainerReport, took: Duration) -> pb::DiffEvent {
    diff_event(diff_event::Event::Summary(summary(report.entries, report.bytes, report.changes, took)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    #[test]
    fn no_step_makes_a_message_too_large() {
        for created_by in ["RUN true".to_owned(), "é".repeat(1 << 20)] {
            let begins = created_by.clone();
            let layer = layer(LayerRef { number: 1, digest: Digest::of(b""), created_by });
            assert!(layer.created_by.len() <= CREATED_BY_MAX && begins.starts_with(&layer.created_by));
            assert!(!layer.created_by.is_empty());
        }
    }
}
