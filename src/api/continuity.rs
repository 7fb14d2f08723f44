// SPDX-License-Identifier: Apache-2.0
//! `continuity.v1.Continuity` over ttrpc.
//!
//! Invariant: a request costs bounded memory, however large its answer and however slow its reader. Work runs on
//! the blocking pool and puts messages into a short queue; the queue is emptied as fast as the client reads. A
//! client that goes away is noticed when the next message cannot be sent, at the latest [`TICK`] later, and its
//! work is cancelled.

mod convert;
mod images;
mod stream;

/// The messages and the client of the protocol, generated from `protos/continuity.proto`.
#[allow(missing_docs, unused_qualifications, clippy::all)]
#[rustfmt::skip]
pub mod proto {
    include!(concat!(env!("OUT_DIR"), "/ttrpc/mod.rs"));
}

use std::future::Future;
use std::io::{self, BufWriter, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::net::UnixListener;
use tokio::sync::{Semaphore, watch};
use ttrpc::r#async::transport::Listener;
use ttrpc::r#async::{Server, ServerStreamSender, TtrpcContext};
use ttrpc::proto::Codec;

use crate::api::crossing::Crossing;
use crate::api::in_flight::InFlight;
use crate::api::snapshots::connections;
use crate::api::status::ttrpc as status;
use crate::engine::{Engine, SnapshotName};
use crate::error::{Error, ErrorKind, Result};
use crate::ops::{BuildOptions, VerifyOptions};
use crate::verifier::Event;
pub use convert::finding;
use convert::threads;
use proto::continuity as pb;
use stream::{Outlet, Work};

/// Between two progress messages; also how soon a client that went away is noticed.
pub const TICK: Duration = Duration::from_millis(200);

/// Builds and verifications at the same time; further ones wait. Each reads a disk and holds a blocking thread.
const WORKERS: usize = 2;

/// Lists and stored manifests that are sent at the same time; further ones wait.
const READERS: usize = 4;

/// Calls of any other kind at work at the same time.
const CALLS: usize = 2;

/// Blocking threads that all of these need together.
pub const PLACES: usize = WORKERS + READERS + CALLS;

/// Bytes of a manifest in one message, far below the 4 MiB at which a Go client drops the connection.
const CHUNK: usize = 256 << 10;

/// What Status says besides the counts.
#[derive(Debug, Clone)]
pub struct Info {
    /// Directory of the daemon's state.
    pub root: PathBuf,
    /// Socket on which containerd calls.
    pub snapshots_address: PathBuf,
}

/// How long a message may wait for its client to read. One that reads nothing for so long is as good as gone, and
/// must not keep one of the few places from others.
const PATIENCE: Duration = Duration::from_secs(30);

/// Serves until `shutdown` is ready; then cancels what runs and returns when it ended.
///
/// # Errors
/// The listener could not be taken over.
pub async fn run(
    listener: UnixListener,
    engine: Arc<Engine>,
    info: Info,
    shutdown: impl Future<Output = ()>,
) -> Result<()> {
    serve(listener, engine, info, PATIENCE, shutdown).await
}

async fn serve(
    listener: UnixListener,
    engine: Arc<Engine>,
    info: Info,
    patience: Duration,
    shutdown: impl Future<Output = ()>,
) -> Result<()> {
    let in_flight = InFlight::default();
    let (stop, stopping) = watch::channel(false);
    let service = Service {
        engine,
        info,
        started: Instant::now(),
        calls: Crossing::new(CALLS),
        workers: Arc::new(Semaphore::new(WORKERS)),
        readers: Arc::new(Semaphore::new(READERS)),
        stopping,
        in_flight: in_flight.clone(),
        patience,
    };
    let mut server = Server::new()
        .add_listener(Listener::new(connections(listener)))
        .register_service(proto::continuity_ttrpc::create_continuity(Arc::new(service)));
    let failed = |error: ttrpc::Error| Error::new(ErrorKind::Io, "the ttrpc server").with_source(error);
    server.start().await.map_err(failed)?;
    shutdown.await;
    stop.send_replace(true);
    in_flight.drained(server.shutdown()).await.unwrap_or(Ok(())).map_err(failed)
}

struct Service {
    engine: Arc<Engine>,
    info: Info,
    started: Instant,
    calls: Crossing,
    workers: Arc<Semaphore>,
    readers: Arc<Semaphore>,
    stopping: watch::Receiver<bool>,
    in_flight: InFlight,
    patience: Duration,
}

impl Service {
    /// A use case that answers at once.
    async fn call<T: Send + 'static>(&self, f: impl FnOnce(&Engine) -> Result<T> + Send + 'static) -> ttrpc::Result<T> {
        let _call = self.in_flight.begin();
        let engine = Arc::clone(&self.engine);
        self.calls.run(move || f(&engine)).await.map_err(status)
    }

    fn work<M>(&self, to: ServerStreamSender<M>, places: &Arc<Semaphore>) -> Work<M>
    where
        M: Codec + Send + 'static,
        <M as Codec>::E: std::fmt::Display,
    {
        Work {
            to,
            engine: Arc::clone(&self.engine),
            stopping: self.stopping.clone(),
            places: Arc::clone(places),
            patience: self.patience,
            tick: None,
            _call: self.in_flight.begin(),
        }
    }
}

#[async_trait]
impl proto::continuity_ttrpc::Continuity for Service {
    async fn status(&self, _: &TtrpcContext, _: pb::StatusRequest) -> ttrpc::Result<pb::StatusResponse> {
        let counts = self.call(Engine::counts).await?;
        Ok(pb::StatusResponse {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            root: self.info.root.display().to_string(),
            snapshots_address: self.info.snapshots_address.display().to_string(),
            uptime_seconds: self.started.elapsed().as_secs(),
            active: counts.active,
            views: counts.views,
            committed: counts.committed,
            pending: counts.pending,
            sealed: counts.sealed,
            verified: counts.verified,
            damaged: counts.damaged,
            unproven: counts.unproven,
            ..Default::default()
        })
    }

    async fn build(
        &self,
        _: &TtrpcContext,
        request: pb::BuildRequest,
        to: ServerStreamSender<pb::BuildEvent>,
    ) -> ttrpc::Result<()> {
        let target = convert::target(request.target.into_option()).map_err(status)?;
        let options = BuildOptions {
            threads: threads(request.threads),
            include_root: request.include_root,
            strict: request.strict,
            ..Default::default()
        };
        let work = self.work(to, &self.workers).ticking(convert::build_progress);
        work.run(move |engine, progress, outlet| {
            let started = Instant::now();
            let mut chunks = BufWriter::with_capacity(CHUNK, Chunks { outlet, event: convert::build_chunk });
            // A warning that cannot be sent needs no error of its own: the next chunk cannot be sent either.
            let mut warn = |warning| drop(outlet.send(convert::build_warning(warning)));
            let report = engine.build(&target, &options, progress, &mut chunks, &mut warn)?;
            chunks.into_inner().map_err(|error| Error::io("send", "", error.into_error()))?;
            Ok(Some(convert::build_summary(&report, started.elapsed())))
        })
        .await
    }

    async fn verify(
        &self,
        _: &TtrpcContext,
        request: pb::VerifyRequest,
        to: ServerStreamSender<pb::VerifyEvent>,
    ) -> ttrpc::Result<()> {
        let target = convert::target(request.target.into_option()).map_err(status)?;
        let manifest = convert::verify_manifest(request.manifest).map_err(status)?;
        let options = VerifyOptions { subset: request.subset, threads: threads(request.threads), ..Default::default() };
        let work = self.work(to, &self.workers).ticking(convert::verify_progress);
        work.run(move |engine, progress, outlet| {
            let started = Instant::now();
            let mut report = |finding| outlet.send(convert::finding_event(finding));
            let done = engine.verify(&target, &manifest, &options, progress, &mut report)?;
            Ok(Some(convert::verify_summary(&done, started.elapsed())))
        })
        .await
    }

    async fn list_snapshots(
        &self,
        _: &TtrpcContext,
        request: pb::ListSnapshotsRequest,
        to: ServerStreamSender<pb::SnapshotInfo>,
    ) -> ttrpc::Result<()> {
        let work = self.work(to, &self.readers);
        work.run(move |engine, _, outlet| {
            for snapshot in engine.list(&request.filters)? {
                outlet.send(convert::snapshot(snapshot))?;
            }
            Ok(None)
        })
        .await
    }

    async fn verify_snapshot(
        &self,
        _: &TtrpcContext,
        request: pb::VerifySnapshotRequest,
        to: ServerStreamSender<pb::VerifyEvent>,
    ) -> ttrpc::Result<()> {
        let pb::VerifySnapshotRequest { key, namespace, threads: wanted, .. } = request;
        let name = SnapshotName { key, namespace };
        let work = self.work(to, &self.workers).ticking(convert::verify_progress);
        work.run(move |engine, progress, outlet| {
            let started = Instant::now();
            let mut report = |event| {
                outlet.send(match event {
                    Event::Layer(key) => convert::layer_event(key),
                    Event::Finding(finding) => convert::finding_event(finding),
                })
            };
            let done = engine.verify_snapshot(&name, threads(wanted), progress, &mut report)?;
            Ok(Some(convert::verify_summary(&done, started.elapsed())))
        })
        .await
    }

    async fn list_manifests(
        &self,
        _: &TtrpcContext,
        _: pb::ListManifestsRequest,
        to: ServerStreamSender<pb::ManifestInfo>,
    ) -> ttrpc::Result<()> {
        let work = self.work(to, &self.readers);
        work.run(|engine, _, outlet| {
            for manifest in engine.list_manifests()? {
                outlet.send(convert::manifest(manifest))?;
            }
            Ok(None)
        })
        .await
    }

    async fn read_manifest(
        &self,
        _: &TtrpcContext,
        request: pb::ReadManifestRequest,
        to: ServerStreamSender<pb::ManifestChunk>,
    ) -> ttrpc::Result<()> {
        let name = convert::read_manifest(request).map_err(status)?;
        let work = self.work(to, &self.readers);
        work.run(move |engine, _, outlet| {
            let mut manifest = engine.read_manifest(&name)?;
            loop {
                let mut chunk = Vec::new();
                let read = manifest.by_ref().take(CHUNK as u64).read_to_end(&mut chunk);
                if read.map_err(|error| Error::io("read", "a stored manifest", error))? == 0 {
                    return Ok(None);
                }
                outlet.send(pb::ManifestChunk { data: chunk, ..Default::default() })?;
            }
        })
        .await
    }

    async fn remove_manifest(
        &self,
        _: &TtrpcContext,
        request: pb::RemoveManifestRequest,
    ) -> ttrpc::Result<pb::RemoveManifestResponse> {
        let digest = request.digest.parse().map_err(status)?;
        self.call(move |engine| engine.remove_manifest(&digest)).await?;
        Ok(pb::RemoveManifestResponse::new())
    }

    async fn list_images(
        &self,
        _: &TtrpcContext,
        request: pb::ListImagesRequest,
        to: ServerStreamSender<pb::ImageInfo>,
    ) -> ttrpc::Result<()> {
        self.work(to, &self.readers).run(move |engine, _, outlet| images::list(engine, &request, outlet)).await
    }

    async fn derive_manifest(
        &self,
        _: &TtrpcContext,
        request: pb::DeriveManifestRequest,
        to: ServerStreamSender<pb::BuildEvent>,
    ) -> ttrpc::Result<()> {
        let work = self.work(to, &self.workers).ticking(convert::build_progress);
        work.run(move |engine, progress, outlet| images::derive(engine, &request, progress, outlet)).await
    }

    async fn verify_image(
        &self,
        _: &TtrpcContext,
        request: pb::VerifyImageRequest,
        to: ServerStreamSender<pb::ImageEvent>,
    ) -> ttrpc::Result<()> {
        let work = self.work(to, &self.workers).ticking(convert::image::verify_progress);
        work.run(move |engine, progress, outlet| images::verify(engine, request, progress, outlet)).await
    }

    async fn trace_image(
        &self,
        _: &TtrpcContext,
        request: pb::TraceImageRequest,
        to: ServerStreamSender<pb::TraceEvent>,
    ) -> ttrpc::Result<()> {
        let work = self.work(to, &self.workers).ticking(convert::image::trace_progress);
        work.run(move |engine, progress, outlet| images::trace(engine, &request, progress, outlet)).await
    }

    async fn repair_image(
        &self,
        _: &TtrpcContext,
        request: pb::RepairImageRequest,
        to: ServerStreamSender<pb::RepairEvent>,
    ) -> ttrpc::Result<()> {
        let work = self.work(to, &self.workers).ticking(convert::image::repair_progress);
        work.run(move |engine, progress, outlet| images::repair(engine, request, progress, outlet)).await
    }

    async fn diff_container(
        &self,
        _: &TtrpcContext,
        request: pb::DiffContainerRequest,
        to: ServerStreamSender<pb::DiffEvent>,
    ) -> ttrpc::Result<()> {
        let work = self.work(to, &self.workers).ticking(convert::image::diff_progress);
        work.run(move |engine, progress, outlet| images::diff(engine, &request, progress, outlet)).await
    }
}

/// Bytes that become messages. Buffer it: each write is one message.
struct Chunks<'a, M> {
    outlet: &'a Outlet<M>,
    event: fn(Vec<u8>) -> M,
}

impl<M> io::Write for Chunks<'_, M> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let data = &data[..data.len().min(CHUNK)];
        self.outlet.send((self.event)(data.to_vec())).map_err(io::Error::other)?;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
