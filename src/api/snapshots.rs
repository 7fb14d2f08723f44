// SPDX-License-Identifier: Apache-2.0
//! containerd's snapshots service over gRPC: what containerd calls on a `[proxy_plugins]` entry.
//!
//! Prepare and View may wait for a verification, and their deadline counts from their arrival. The rest, and the
//! Prepare of an unpack, is quick, and has places of its own, so that however many containers start at once,
//! containerd can still ask, unpack, commit and collect.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prost::Message;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::api::convert;
use crate::api::crossing::Crossing;
use crate::api::in_flight::{Call, InFlight};
use crate::api::status;
use crate::containerd::proto::services::snapshots::v1::snapshots_server::{Snapshots, SnapshotsServer};
use crate::containerd::proto::services::snapshots::v1::*;
use crate::engine::{Engine, is_unpack};
use crate::error::{Error, ErrorKind, Result};
use crate::snapshotter::Snapshot;

/// Bytes of one message in either direction: containerd's own limit.
const MAX_MESSAGE: usize = 16 << 20;

/// Snapshots in one block of a List: what containerd's own service sends.
const BLOCK: usize = 100;

/// Bytes of one block of a List; labels may be long, and a client may take no more than 4 MiB.
const BLOCK_BYTES: usize = 2 << 20;

/// Prepares and Views at work at the same time; each may wait for as long as `verify.deadline`. A place costs a
/// thread while it is taken; with fewer, a check that is slow holds up those who wait for a quick one.
pub const PLACES_TO_START: usize = 64;

/// Calls of any other kind at work at the same time.
pub const PLACES_ELSE: usize = 4;

/// Wait after a failed accept: what failed it, too many open files, does not pass at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `shutdown` is ready, then answers what is under way and returns. Connections on which nothing is
/// under way end then, or when the runtime does: nobody waits for them.
///
/// # Errors
/// The listener failed.
pub async fn run(listener: UnixListener, engine: Arc<Engine>, shutdown: impl Future<Output = ()>) -> Result<()> {
    let calls = InFlight::default();
    let (start, other) = (Crossing::new(PLACES_TO_START), Crossing::new(PLACES_ELSE));
    let service = Service { engine, start, other, calls: calls.clone() };
    let server =
        SnapshotsServer::new(service).max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE);
    let (stop, mut stopping) = watch::channel(false);
    let stopped = async move { drop(stopping.wait_for(|stop| *stop).await) };
    let server =
        tonic::transport::Server::builder().serve_with_incoming_shutdown(server, connections(listener), stopped);
    let mut server = std::pin::pin!(server);
    let ended = tokio::select! {
        ended = &mut server => Some(ended),
        () = shutdown => {
            stop.send_replace(true);
            calls.drained(server).await
        }
    };
    ended.unwrap_or(Ok(())).map_err(|error| Error::new(ErrorKind::Io, "snapshots service").with_source(error))
}

/// The connections of a listener. It ends with its reader, never with an error: a process that is out of file
/// descriptors has to serve again once it has some.
pub(super) fn connections(listener: UnixListener) -> ReceiverStream<std::io::Result<UnixStream>> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = sender.closed() => return,
            };
            match accepted {
                Ok((stream, _)) => drop(sender.send(Ok(stream)).await),
                Err(error) => {
                    log::warn!("accept: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    });
    ReceiverStream::new(receiver)
}

struct Service {
    engine: Arc<Engine>,
    /// For calls that may wait for a verification.
    start: Crossing,
    other: Crossing,
    calls: InFlight,
}

impl Service {
    async fn cross<T: Send + 'static>(
        &self,
        crossing: &Crossing,
        call: &'static str,
        work: impl FnOnce(&Engine) -> Result<T> + Send + 'static,
    ) -> Result<T, Status> {
        let _call = self.calls.begin();
        let engine = Arc::clone(&self.engine);
        let result = crossing.run(move || work(&engine)).await;
        result.map_err(|error| {
            let status = status::grpc(&error);
            // The rest is the caller's business, and most of it is how containerd asks whether something exists.
            match status.code() {
                tonic::Code::Internal | tonic::Code::DataLoss => log::error!("{call}: {error}"),
                _ => log::debug!("{call}: {error}"),
            }
            status
        })
    }
}

#[tonic::async_trait]
impl Snapshots for Service {
    async fn prepare(
        &self,
        request: Request<PrepareSnapshotRequest>,
    ) -> Result<Response<PrepareSnapshotResponse>, Status> {
        let asked = Instant::now();
        let PrepareSnapshotRequest { key, parent, labels, .. } = request.into_inner();
        let labels = convert::labels(labels);
        let crossing = if is_unpack(&key, convert::parent(&parent), &labels) { &self.other } else { &self.start };
        let work = move |engine: &Engine| engine.prepare(&key, convert::parent(&parent), labels, asked);
        let mounts = convert::mounts(self.cross(crossing, "prepare", work).await?);
        Ok(Response::new(PrepareSnapshotResponse { mounts }))
    }

    async fn view(&self, request: Request<ViewSnapshotRequest>) -> Result<Response<ViewSnapshotResponse>, Status> {
        let asked = Instant::now();
        let ViewSnapshotRequest { key, parent, labels, .. } = request.into_inner();
        let work = move |engine: &Engine| engine.view(&key, convert::parent(&parent), convert::labels(labels), asked);
        let mounts = convert::mounts(self.cross(&self.start, "view", work).await?);
        Ok(Response::new(ViewSnapshotResponse { mounts }))
    }

    async fn mounts(&self, request: Request<MountsRequest>) -> Result<Response<MountsResponse>, Status> {
        let key = request.into_inner().key;
        let mounts = self.cross(&self.other, "mounts", move |engine| engine.mounts(&key)).await?;
        Ok(Response::new(MountsResponse { mounts: convert::mounts(mounts) }))
    }

    async fn commit(&self, request: Request<CommitSnapshotRequest>) -> Result<Response<()>, Status> {
        let CommitSnapshotRequest { name, key, labels, parent, .. } = request.into_inner();
        let work = move |engine: &Engine| engine.commit(&name, &key, convert::parent(&parent), convert::labels(labels));
        self.cross(&self.other, "commit", work).await.map(Response::new)
    }

    async fn remove(&self, request: Request<RemoveSnapshotRequest>) -> Result<Response<()>, Status> {
        let key = request.into_inner().key;
        self.cross(&self.other, "remove", move |engine| engine.remove(&key)).await.map(Response::new)
    }

    async fn stat(&self, request: Request<StatSnapshotRequest>) -> Result<Response<StatSnapshotResponse>, Status> {
        let key = request.into_inner().key;
        let snapshot = self.cross(&self.other, "stat", move |engine| engine.stat(&key)).await?;
        Ok(Response::new(StatSnapshotResponse { info: Some(convert::info_with_seal(snapshot)) }))
    }

    async fn update(
        &self,
        request: Request<UpdateSnapshotRequest>,
    ) -> Result<Response<UpdateSnapshotResponse>, Status> {
        let UpdateSnapshotRequest { info, update_mask, .. } = request.into_inner();
        let info = info.ok_or_else(|| Status::invalid_argument("an update needs an info"))?;
        let mask = update_mask.map(|mask| mask.paths).unwrap_or_default();
        let work = move |engine: &Engine| engine.update(&info.name, convert::labels(info.labels), &mask);
        let snapshot = self.cross(&self.other, "update", work).await?;
        Ok(Response::new(UpdateSnapshotResponse { info: Some(convert::info(snapshot)) }))
    }

    type ListStream = tokio_stream::Iter<Blocks>;

    async fn list(&self, request: Request<ListSnapshotsRequest>) -> Result<Response<Self::ListStream>, Status> {
        let filters = request.into_inner().filters;
        let call = self.calls.begin();
        let snapshots = self.cross(&self.other, "list", move |engine| engine.list(&filters)).await?;
        Ok(Response::new(tokio_stream::iter(Blocks::new(snapshots, Some(call)))))
    }

    async fn usage(&self, request: Request<UsageRequest>) -> Result<Response<UsageResponse>, Status> {
        let key = request.into_inner().key;
        let usage = self.cross(&self.other, "usage", move |engine| engine.usage(&key)).await?;
        Ok(Response::new(UsageResponse { size: usage.size, inodes: usage.inodes }))
    }

    async fn cleanup(&self, _request: Request<CleanupRequest>) -> Result<Response<()>, Status> {
        self.cross(&self.other, "cleanup", Engine::cleanup).await.map(Response::new)
    }
}

/// The answer to a List, converted block by block as it is sent.
pub struct Blocks {
    left: std::vec::IntoIter<Snapshot>,
    /// Did not fit into the block before.
    carried: Option<Info>,
    /// Until the last block is taken.
    _call: Option<Call>,
}

impl Blocks {
    fn new(snapshots: Vec<Snapshot>, call: Option<Call>) -> Self {
        Self { left: snapshots.into_iter(), carried: None, _call: call }
    }
}

impl Iterator for Blocks {
    type Item = Result<ListSnapshotsResponse, Status>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut block = Vec::new();
        let mut bytes = 0;
        while block.len() < BLOCK {
            let Some(info) = self.carried.take().or_else(|| self.left.next().map(convert::info_with_seal)) else {
                break;
            };
            bytes += info.encoded_len();
            if bytes > BLOCK_BYTES && !block.is_empty() {
                self.carried = Some(info);
                break;
            }
            block.push(info);
        }
        (!block.is_empty()).then_some(Ok(ListSnapshotsResponse { info: block }))
    }
}

#[cfg(test)]
mod tests;
