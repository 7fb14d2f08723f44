// SPDX-License-Identifier: Apache-2.0
//! The connection, and the calls that have one answer.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};

use super::proto::services::containers::v1::containers_client::ContainersClient;
use super::proto::services::containers::v1::{GetContainerRequest, ListContainersRequest};
use super::proto::services::images::v1::images_client::ImagesClient;
use super::proto::services::images::v1::{GetImageRequest, ListImagesRequest};
use super::proto::services::introspection::v1::PluginsRequest;
use super::proto::services::introspection::v1::introspection_client::IntrospectionClient;
use super::proto::services::namespaces::v1::ListNamespacesRequest;
use super::proto::services::namespaces::v1::namespaces_client::NamespacesClient;
use super::proto::services::snapshots::v1 as snapshots;
use super::proto::services::snapshots::v1::snapshots_client::SnapshotsClient;
use super::proto::services::tasks::v1 as tasks;
use super::proto::services::tasks::v1::tasks_client::TasksClient;
use super::records::{self, ContainerRecord, ImageRecord, SNAPSHOTTER_PLUGIN, SnapshotRecord, SnapshotterInfo};
use crate::error::{Error, ErrorKind, Escaped, Result};
use crate::mount::Mount;

/// Bytes of one message in either direction: containerd's own limit.
pub(super) const MAX_MESSAGE: usize = 16 << 20;

/// Bytes of content that containerd may send before we asked for more: a blob flows while the last piece is read.
const WINDOW: u32 = 4 << 20;

/// How long containerd may take to take a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// How long containerd may take to answer, or to send the next piece of a blob: a snapshotter may have a tree to copy,
/// a disk that fails may take its time. Who hangs longer hangs.
const ANSWER: Duration = Duration::from_secs(120);

/// Images named in the error about one that is not there.
const NAMED: usize = 3;

/// Metadata of a call.
const NAMESPACE: &str = "containerd-namespace";

/// See the [module](super).
pub struct Client {
    /// Driven by whoever makes a call, one at a time.
    runtime: Arc<Mutex<Runtime>>,
    pub(super) channel: Channel,
    namespace: String,
    header: MetadataValue<Ascii>,
    answer: Duration,
}

impl Client {
    /// Connects at once, so that an error names the address.
    ///
    /// # Errors
    /// `NotFound` or `Io`, naming the address; `InvalidInput` for a namespace that no header can carry.
    pub fn connect(address: &Path, namespace: &str) -> Result<Self> {
        let header = header(namespace)?;
        let failed = |error| Error::io("epoll_create", "", error).context("starting the runtime");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        // The transport's own error would not say what is wrong with the socket.
        drop(std::os::unix::net::UnixStream::connect(address).map_err(|error| unreachable(address, error))?);
        let socket = address.to_owned();
        let connector = tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_static("http://localhost")
            .connect_timeout(CONNECT)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW);
        let channel = runtime
            .block_on(endpoint.connect_with_connector(connector))
            .map_err(|error| unreachable(address, std::io::Error::other(error)))?;
        Ok(Self {
            runtime: Arc::new(Mutex::new(runtime)),
            channel,
            namespace: namespace.into(),
            header,
            answer: ANSWER,
        })
    }

    /// The same connection for another namespace.
    ///
    /// # Errors
    /// `InvalidInput` for a namespace that no header can carry.
    pub fn with_namespace(&self, namespace: &str) -> Result<Self> {
        Ok(Self {
            runtime: Arc::clone(&self.runtime),
            channel: self.channel.clone(),
            namespace: namespace.into(),
            header: header(namespace)?,
            answer: self.answer,
        })
    }

    /// The namespace that calls are made in.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// All namespaces.
    pub fn namespaces(&self) -> Result<Vec<String>> {
        let mut client = NamespacesClient::new(self.channel.clone());
        let request = self.request(ListNamespacesRequest::default());
        let listed = self.call("the namespaces", client.list(request))?;
        Ok(listed.namespaces.into_iter().map(|namespace| namespace.name).collect())
    }

    /// All images of the namespace, by name.
    pub fn images(&self) -> Result<Vec<ImageRecord>> {
        let mut client = ImagesClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE);
        let request = self.request(ListImagesRequest::default());
        let listed = self.call("the images", client.list(request))?;
        let mut images = listed.images.into_iter().map(records::image).collect::<Vec<_>>();
        images.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(images)
    }

    /// One image.
    ///
    /// # Errors
    /// `NotFound`, with the names of images that are alike.
    pub fn image(&self, name: &str) -> Result<ImageRecord> {
        let mut client = ImagesClient::new(self.channel.clone());
        let request = self.request(GetImageRequest { name: name.into() });
        let what = format!("image {}", Escaped(name.as_bytes()));
        match self.call(&what, client.get(request)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Err(self.no_image(name)?),
            got => Ok(records::image(got?.image.unwrap_or_default())),
        }
    }

    fn no_image(&self, name: &str) -> Result<Error> {
        let images = self.images()?;
        let alike = images.iter().filter(|image| image.name.contains(name)).take(NAMED);
        let alike: Vec<_> = alike.map(|image| Escaped(image.name.as_bytes()).to_string()).collect();
        let hint = if alike.is_empty() { String::new() } else { format!("; did you mean {}?", alike.join(" or ")) };
        let (name, namespace) = (Escaped(name.as_bytes()), Escaped(self.namespace.as_bytes()));
        Ok(Error::new(ErrorKind::NotFound, format!("no image {name} in namespace {namespace}{hint}")))
    }

    /// The snapshotters that are loaded and did not fail to, by name.
    pub fn snapshotters(&self) -> Result<Vec<SnapshotterInfo>> {
        let mut client = IntrospectionClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE);
        let request = self.request(PluginsRequest { filters: vec![format!("type=={SNAPSHOTTER_PLUGIN}")] });
        let listed = self.call("the plugins", client.plugins(request))?;
        let mut snapshotters: Vec<_> = listed.plugins.into_iter().filter_map(records::snapshotter).collect();
        snapshotters.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(snapshotters)
    }

    /// One snapshot.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn snapshot(&self, snapshotter: &str, key: &str) -> Result<SnapshotRecord> {
        let mut client = SnapshotsClient::new(self.channel.clone());
        let request = snapshots::StatSnapshotRequest { snapshotter: snapshotter.into(), key: key.into() };
        let stat = self.call(&snapshot_name(snapshotter, key), client.stat(self.request(request)))?;
        Ok(records::snapshot(stat.info.unwrap_or_default()))
    }

    /// The mounts of an active snapshot or a view.
    pub fn mounts(&self, snapshotter: &str, key: &str) -> Result<Vec<Mount>> {
        let mut client = SnapshotsClient::new(self.channel.clone());
        let request = snapshots::MountsRequest { snapshotter: snapshotter.into(), key: key.into() };
        let response = self.call(&snapshot_name(snapshotter, key), client.mounts(self.request(request)))?;
        Ok(response.mounts.into_iter().map(records::mount).collect())
    }

    /// Sets some labels of a snapshot; the others stay. An empty value removes a label.
    pub fn set_snapshot_labels(&self, snapshotter: &str, key: &str, labels: &BTreeMap<String, String>) -> Result<()> {
        let mut client = SnapshotsClient::new(self.channel.clone());
        let paths = labels.keys().map(|name| format!("labels.{name}")).collect();
        let given = labels.iter().filter(|(_, value)| !value.is_empty());
        let request = snapshots::UpdateSnapshotRequest {
            snapshotter: snapshotter.into(),
            info: Some(snapshots::Info {
                name: key.into(),
                labels: given.map(|(name, value)| (name.clone(), value.clone())).collect(),
                ..Default::default()
            }),
            update_mask: Some(prost_types::FieldMask { paths }),
        };
        self.call(&snapshot_name(snapshotter, key), client.update(self.request(request))).map(drop)
    }

    /// All containers of the namespace.
    pub fn containers(&self) -> Result<Vec<ContainerRecord>> {
        let mut client = ContainersClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE);
        let request = self.request(ListContainersRequest::default());
        let listed = self.call("the containers", client.list(request))?;
        let running = self.running()?;
        let is_running = |id: &str| running.get(id).copied().unwrap_or_default();
        let record = |container: super::proto::services::containers::v1::Container| {
            let running = is_running(&container.id);
            records::container(container, running)
        };
        Ok(listed.containers.into_iter().map(record).collect())
    }

    /// One container.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn container(&self, id: &str) -> Result<ContainerRecord> {
        let mut client = ContainersClient::new(self.channel.clone());
        let request = self.request(GetContainerRequest { id: id.into() });
        let what = format!("container {}", Escaped(id.as_bytes()));
        let container = self.call(&what, client.get(request))?.container.unwrap_or_default();
        let running = self.running()?.get(id).copied().unwrap_or_default();
        Ok(records::container(container, running))
    }

    /// Which containers have a process.
    fn running(&self) -> Result<HashMap<String, bool>> {
        let mut client = TasksClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE);
        let listed = self.call("the tasks", client.list(self.request(tasks::ListTasksRequest::default())))?;
        let lives = |status| !matches!(status, tasks::Status::Stopped | tasks::Status::Unknown);
        // A task names its container in one field or the other, from version to version.
        let name = |task: &tasks::Process| {
            if task.container_id.is_empty() { task.id.clone() } else { task.container_id.clone() }
        };
        Ok(listed.tasks.iter().map(|task| (name(task), lives(task.status()))).collect())
    }

    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert(NAMESPACE, self.header.clone());
        request
    }

    /// Makes a call; `what` is what it is about, for an error.
    pub(super) fn call<T>(&self, what: &str, call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T> {
        self.drive(what, call).map(Response::into_inner)
    }

    /// Waits for an answer, and not for ever.
    pub(super) fn drive<T>(&self, what: &str, answer: impl Future<Output = Result<T, Status>>) -> Result<T> {
        let runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner);
        match runtime.block_on(async { tokio::time::timeout(self.answer, answer).await }) {
            Ok(answered) => answered.map_err(|status| said(what, &status)),
            Err(_) => {
                let message = format!("containerd: {what}: no answer within {} s", self.answer.as_secs_f64());
                Err(Error::new(ErrorKind::Io, message))
            }
        }
    }
}

pub(super) fn snapshot_name(snapshotter: &str, key: &str) -> String {
    format!("snapshot {} in {}", Escaped(key.as_bytes()), Escaped(snapshotter.as_bytes()))
}

fn header(namespace: &str) -> Result<MetadataValue<Ascii>> {
    let invalid = |_| {
        let message = format!("{} is no namespace", Escaped(namespace.as_bytes()));
        Error::new(ErrorKind::InvalidInput, message)
    };
    namespace.parse().map_err(invalid)
}

fn unreachable(address: &Path, error: std::io::Error) -> Error {
    let message = format!(
        "containerd does not answer on {}: is it running? (--containerd-address names another socket)",
        Escaped::path(address)
    );
    let kind = match error.kind() {
        std::io::ErrorKind::NotFound => ErrorKind::NotFound,
        _ => ErrorKind::Io,
    };
    Error::new(kind, message).with_source(error)
}

/// What containerd said, as an error of ours.
fn said(what: &str, status: &Status) -> Error {
    let kind = match status.code() {
        Code::NotFound => ErrorKind::NotFound,
        Code::AlreadyExists => ErrorKind::AlreadyExists,
        Code::InvalidArgument => ErrorKind::InvalidInput,
        Code::FailedPrecondition => ErrorKind::FailedPrecondition,
        Code::Unimplemented => ErrorKind::Unsupported,
        Code::Cancelled => ErrorKind::Cancelled,
        _ => ErrorKind::Io,
    };
    Error::new(kind, format!("containerd: {what}: {}", Escaped(status.message().as_bytes())))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn who_does_not_answer_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let address = dir.path().join("containerd.sock");
        let _silent = UnixListener::bind(&address).unwrap();
        let client = Client { answer: Duration::from_millis(200), ..Client::connect(&address, "default").unwrap() };
        let error = client.images().unwrap_err();
        assert_eq!(error.to_string(), "containerd: the images: no answer within 0.2 s");
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(client.with_namespace("other").unwrap().namespaces().is_err());
    }
}
