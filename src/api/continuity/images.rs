// SPDX-License-Identifier: Apache-2.0
//! The calls about images and containers: each asks containerd through a connection of its own.

use std::io::BufWriter;
use std::time::Instant;

use crate::api::continuity::convert::{self, image as to};
use crate::api::continuity::proto::continuity as pb;
use crate::api::continuity::stream::Outlet;
use crate::api::continuity::{CHUNK, Chunks};
use crate::containerd::Platform;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::image::{Selection, Which};
use crate::tree::Progress;
use pb::verify_image_request::Subject;

pub fn list(
    engine: &Engine,
    request: &pb::ListImagesRequest,
    outlet: &Outlet<pb::ImageInfo>,
) -> Result<Option<pb::ImageInfo>> {
    for image in engine.images(&request.namespace)?.list()? {
        outlet.send(to::info(image))?;
    }
    Ok(None)
}

pub fn derive(
    engine: &Engine,
    request: &pb::DeriveManifestRequest,
    progress: &Progress,
    outlet: &Outlet<pb::BuildEvent>,
) -> Result<Option<pb::BuildEvent>> {
    let started = Instant::now();
    let platform = platform(&request.platform)?;
    let layer = (request.layer > 0).then_some(request.layer as usize);
    let images = engine.images(&request.namespace)?;
    let mut chunks = BufWriter::with_capacity(CHUNK, Chunks { outlet, event: convert::build_chunk });
    let report = images.manifest(&request.image, platform.as_ref(), layer, progress, &mut chunks)?;
    chunks.into_inner().map_err(|error| Error::io("send", "", error.into_error()))?;
    Ok(Some(to::derived(&report, progress, started.elapsed())))
}

pub fn verify(
    engine: &Engine,
    request: pb::VerifyImageRequest,
    progress: &Progress,
    outlet: &Outlet<pb::ImageEvent>,
) -> Result<Option<pb::ImageEvent>> {
    let started = Instant::now();
    let selection = selection(request.snapshotter, &request.platform)?;
    let images = engine.images(&request.namespace)?;
    let mut report = |event| outlet.send(to::event(event));
    let which = match request.subject {
        Some(Subject::Image(reference)) => Which::One(reference),
        Some(Subject::All(true)) => Which::All,
        Some(Subject::Snapshot(key)) => {
            let Some(snapshotter) = &selection.snapshotter else {
                return Err(Error::new(ErrorKind::InvalidInput, "the request names a snapshot, but no snapshotter"));
            };
            let done = images.verify_snapshot(snapshotter, &key, progress, &mut report)?;
            return Ok(Some(to::verified(&done, started.elapsed())));
        }
        _ => return Err(Error::new(ErrorKind::InvalidInput, "the request names no image")),
    };
    let done = images.verify(&which, &selection, progress, &mut report)?;
    Ok(Some(to::verified(&done, started.elapsed())))
}

pub fn trace(
    engine: &Engine,
    request: &pb::TraceImageRequest,
    progress: &Progress,
    outlet: &Outlet<pb::TraceEvent>,
) -> Result<Option<pb::TraceEvent>> {
    let platform = platform(&request.platform)?;
    let images = engine.images(&request.namespace)?;
    for touch in images.trace(&request.image, platform.as_ref(), &request.path, progress)? {
        outlet.send(to::touch(touch))?;
    }
    Ok(None)
}

pub fn repair(
    engine: &Engine,
    request: pb::RepairImageRequest,
    progress: &Progress,
    outlet: &Outlet<pb::RepairEvent>,
) -> Result<Option<pb::RepairEvent>> {
    let selection = selection(request.snapshotter, &request.platform)?;
    let options = engine.repair_options(request.dry_run, request.force);
    let mut report = |event| outlet.send(to::repair(event));
    let images = engine.images(&request.namespace)?;
    images.repair(&request.image, &selection, &options, progress, &mut report)?;
    Ok(None)
}

pub fn diff(
    engine: &Engine,
    request: &pb::DiffContainerRequest,
    progress: &Progress,
    outlet: &Outlet<pb::DiffEvent>,
) -> Result<Option<pb::DiffEvent>> {
    let started = Instant::now();
    let images = engine.images(&request.namespace)?;
    let done = images.container_diff(&request.id, progress, &mut |change| outlet.send(to::change(change)))?;
    Ok(Some(to::compared(&done, started.elapsed())))
}

fn selection(snapshotter: String, wanted: &str) -> Result<Selection> {
    let snapshotter = (!snapshotter.is_empty()).then_some(snapshotter);
    Ok(Selection { snapshotter, platform: platform(wanted)? })
}

fn platform(wanted: &str) -> Result<Option<Platform>> {
    if wanted.is_empty() { Ok(None) } else { wanted.parse().map(Some) }
}
