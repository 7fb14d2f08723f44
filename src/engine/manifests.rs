// SPDX-License-Identifier: Apache-2.0
//! Stored manifests.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};

use crate::digest::Digest;
use crate::engine::{Engine, SnapshotName};
use crate::error::{Error, ErrorKind, Escaped, Result};

/// Names a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestName {
    /// A stored one.
    Digest(Digest),
    /// The seal of a snapshot.
    Snapshot(SnapshotName),
    /// An absolute path on this machine.
    Path(PathBuf),
}

/// A manifest in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredManifest {
    /// Its name.
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    /// Keys of the snapshots that it seals.
    pub snapshots: Vec<String>,
}

impl Engine {
    /// The stored manifests, in the order of their digests.
    pub fn list_manifests(&self) -> Result<Vec<StoredManifest>> {
        let mut users: BTreeMap<Digest, Vec<String>> = BTreeMap::new();
        for snapshot in self.snapshotter.list(&[])? {
            if let Some(digest) = snapshot.seal.and_then(|seal| seal.manifest) {
                users.entry(digest).or_default().push(snapshot.key);
            }
        }
        let stored = self.verifier.store().list()?;
        Ok(stored
            .into_iter()
            .map(|(digest, size)| StoredManifest { digest, size, snapshots: users.remove(&digest).unwrap_or_default() })
            .collect())
    }

    /// Opens a manifest at its beginning; a stored one has just been checked against its digest.
    ///
    /// # Errors
    /// `NotFound`; `FailedPrecondition` for a snapshot without a seal; `InvalidManifest` if the stored one rotted.
    pub fn read_manifest(&self, name: &ManifestName) -> Result<File> {
        match name {
            ManifestName::Digest(digest) => self.verifier.store().read(digest),
            ManifestName::Snapshot(name) => {
                let snapshot = self.find_snapshot(name)?;
                let digest = snapshot.seal.and_then(|seal| seal.manifest).ok_or_else(|| {
                    let why = match snapshot.seal {
                        Some(_) => "its seal is still pending: try again",
                        None => "only committed snapshots are sealed",
                    };
                    let key = Escaped(snapshot.key.as_bytes());
                    Error::new(ErrorKind::FailedPrecondition, format!("snapshot {key} has no manifest: {why}"))
                })?;
                self.verifier.store().read(&digest)
            }
            ManifestName::Path(path) if path.is_absolute() => {
                // Without O_NONBLOCK a fifo would hang the daemon's thread.
                let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
                let file: File = rustix::fs::open(path, flags, Mode::empty())
                    .map_err(|errno| Error::io("open", path, errno))?
                    .into();
                let metadata = file.metadata().map_err(|error| Error::io("fstat", path, error))?;
                match metadata.is_file() {
                    true => Ok(file),
                    false => Err(not_a_manifest(path, "not a regular file")),
                }
            }
            ManifestName::Path(path) => Err(not_a_manifest(path, "not an absolute path")),
        }
    }

    /// Removes a stored manifest.
    ///
    /// # Errors
    /// `NotFound`; `FailedPrecondition` if a seal refers to it.
    pub fn remove_manifest(&self, digest: &Digest) -> Result<()> {
        self.verifier.remove_manifest(digest)
    }
}

fn not_a_manifest(path: &std::path::Path, why: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("manifest {}: {why}", Escaped::path(path)))
}
