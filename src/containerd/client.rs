// SPDX-License-Identifier: Apache-2.0
//! Calls, and what they answer, in our own types.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::mount::Mount;

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
    /// An index or a manifest.
    pub target: Descriptor,
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
}

/// A snapshot, as containerd's clients see it: keys are those of one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotRecord {
    /// Its key.
    pub key: String,
    /// Key of its parent; empty if it has none.
    pub parent: String,
    /// What it is.
    pub kind: crate::snapshotter::Kind,
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

/// See the [module](super).
pub struct Client {
    namespace: String,
}

/// Keeps what is made under it from being collected; dropped, it is deleted, and what was made under it can go.
pub struct Lease<'a> {
    client: &'a Client,
    id: String,
}

/// The bytes of one blob, unchecked.
pub struct ContentReader<'a> {
    client: &'a Client,
}

fn todo<T>() -> Result<T> {
    Err(Error::new(ErrorKind::Unsupported, "containerd"))
}

impl Client {
    /// Connects at once, so that an error names the address.
    ///
    /// # Errors
    /// `NotFound` or `Io`, naming the address.
    pub fn connect(address: &Path, namespace: &str) -> Result<Self> {
        let _ = address;
        Ok(Self { namespace: namespace.into() })
    }

    /// The same connection for another namespace.
    pub fn with_namespace(&self, namespace: &str) -> Self {
        Self { namespace: namespace.into() }
    }

    /// The namespace that calls are made in.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// All namespaces.
    pub fn namespaces(&self) -> Result<Vec<String>> {
        todo()
    }

    /// All images of the namespace, by name.
    pub fn images(&self) -> Result<Vec<ImageRecord>> {
        todo()
    }

    /// One image.
    ///
    /// # Errors
    /// `NotFound`, with the names of images that are alike.
    pub fn image(&self, name: &str) -> Result<ImageRecord> {
        let _ = name;
        todo()
    }

    /// Labels of a blob; none if it is not there.
    pub fn content_labels(&self, digest: &Digest) -> Result<Option<BTreeMap<String, String>>> {
        let _ = digest;
        todo()
    }

    /// Opens a blob.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn read_content(&self, digest: &Digest) -> Result<ContentReader<'_>> {
        let _ = digest;
        todo()
    }

    /// A small blob, whole, checked against its digest.
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` if it is larger than `max` bytes or has another digest.
    pub fn blob(&self, descriptor: &Descriptor, max: u64) -> Result<Vec<u8>> {
        let _ = (descriptor, max);
        todo()
    }

    /// The snapshotters that are loaded and did not fail to.
    pub fn snapshotters(&self) -> Result<Vec<SnapshotterInfo>> {
        todo()
    }

    /// One snapshot.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn snapshot(&self, snapshotter: &str, key: &str) -> Result<SnapshotRecord> {
        let _ = (snapshotter, key);
        todo()
    }

    /// All snapshots of the namespace.
    pub fn snapshots(&self, snapshotter: &str) -> Result<Vec<SnapshotRecord>> {
        let _ = snapshotter;
        todo()
    }

    /// The mounts of an active snapshot or a view.
    pub fn mounts(&self, snapshotter: &str, key: &str) -> Result<Vec<Mount>> {
        let _ = (snapshotter, key);
        todo()
    }

    /// Sets some labels of a snapshot; the others stay. An empty value removes a label.
    pub fn set_snapshot_labels(&self, snapshotter: &str, key: &str, labels: &BTreeMap<String, String>) -> Result<()> {
        let _ = (snapshotter, key, labels);
        todo()
    }

    /// All containers of the namespace.
    pub fn containers(&self) -> Result<Vec<ContainerRecord>> {
        todo()
    }

    /// One container.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn container(&self, id: &str) -> Result<ContainerRecord> {
        let _ = id;
        todo()
    }

    /// A lease that ends by itself after `expiry`, should nobody delete it.
    pub fn lease(&self, expiry: Duration) -> Result<Lease<'_>> {
        let _ = expiry;
        todo()
    }
}

impl Lease<'_> {
    /// Makes a view of a committed snapshot and returns its mounts; the view goes with the lease. `labels` are given
    /// to the view.
    ///
    /// # Errors
    /// `NotFound` if there is no such snapshot; what the snapshotter says.
    pub fn view(&mut self, snapshotter: &str, parent: &str, labels: &BTreeMap<String, String>) -> Result<Vec<Mount>> {
        let _ = (snapshotter, parent, labels, &self.client, &self.id);
        todo()
    }
}

impl Read for ContentReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let _ = (buffer, &self.client);
        Ok(0)
    }
}
