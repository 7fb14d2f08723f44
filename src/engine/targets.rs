// SPDX-License-Identifier: Apache-2.0
//! Building and verifying what a client names.

use std::fmt;
use std::io::{BufReader, Write};
use std::path::PathBuf;

use crate::engine::{Engine, ManifestName};
use crate::error::{Error, ErrorKind, Escaped, Result};
use crate::key::SnapshotKey;
use crate::manifest::with_resources;
use crate::mount::Mount;
use crate::ops::{self, BuildOptions, BuildReport, Finding, VerifyOptions, VerifyReport};
use crate::snapshotter::{Kind, SealState, Snapshot};
use crate::tree::{Progress, Root};
use crate::verifier::Event;

/// Buffer for reading a manifest, in bytes.
const READ_BUFFER: usize = 64 << 10;

/// Snapshots named in the error about an ambiguous key.
const NAMED: usize = 3;

/// Names a snapshot as a person does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotName {
    /// Its key, or the client's part of `<namespace>/<number>/<client's key>`.
    pub key: String,
    /// containerd's namespace, for a client's key; empty for any.
    pub namespace: String,
}

impl fmt::Display for SnapshotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Escaped(self.key.as_bytes()))?;
        match self.namespace.as_str() {
            "" => Ok(()),
            namespace => write!(f, " in namespace {}", Escaped(namespace.as_bytes())),
        }
    }
}

/// A tree to work on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// An absolute path on this machine.
    Path(PathBuf),
    /// containerd's mounts; mounted read-only where nobody sees them.
    Mounts(Vec<Mount>),
    /// A snapshot: what a view of it shows if it is committed, else what it shows itself.
    Snapshot(SnapshotName),
}

/// How many snapshots there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// By kind.
    pub active: u64,
    /// By kind.
    pub views: u64,
    /// By kind.
    pub committed: u64,
    /// Committed, by the state of the seal.
    pub pending: u64,
    /// Committed, by the state of the seal.
    pub unproven: u64,
    /// Committed, by the state of the seal.
    pub sealed: u64,
    /// Committed, by the state of the seal.
    pub verified: u64,
    /// Committed, by the state of the seal.
    pub damaged: u64,
}

impl Engine {
    /// Builds the manifest of a target. The target should be at rest.
    ///
    /// # Errors
    /// `NotFound` or `InvalidInput` about the target, else as [`ops::build`].
    pub fn build(
        &self,
        target: &Target,
        options: &BuildOptions,
        progress: &Progress,
        out: impl Write,
        warn: &mut dyn FnMut(String),
    ) -> Result<BuildReport> {
        ops::build(&self.open_target(target)?, options, progress, out, warn)
    }

    /// Holds a target against a manifest.
    ///
    /// # Errors
    /// `NotFound` or `InvalidInput` about the target or the manifest, also for a file without resources; else as
    /// [`ops::verify`].
    pub fn verify(
        &self,
        target: &Target,
        manifest: &ManifestName,
        options: &VerifyOptions,
        progress: &Progress,
        report: &mut dyn FnMut(Finding) -> Result<()>,
    ) -> Result<VerifyReport> {
        let source = BufReader::with_capacity(READ_BUFFER, self.read_manifest(manifest)?);
        let root = self.open_target(target)?;
        match manifest {
            ManifestName::Path(path) => {
                let source = with_resources(source, &format!("manifest {}", Escaped::path(path)))?;
                ops::verify(&root, source, options, progress, report)
            }
            // What the daemon stores has a digest to be what it is; that of an empty layer has no resources.
            _ => ops::verify(&root, source, options, progress, report),
        }
    }

    /// Holds every layer beneath a snapshot, and its own if it is committed, against its seal.
    ///
    /// # Errors
    /// As [`Verifier::verify_snapshot`](crate::verifier::Verifier::verify_snapshot) and [`Engine::find_snapshot`].
    pub fn verify_snapshot(
        &self,
        name: &SnapshotName,
        threads: usize,
        progress: &Progress,
        report: &mut dyn FnMut(Event) -> Result<()>,
    ) -> Result<VerifyReport> {
        let snapshot = self.find_snapshot(name)?;
        self.verifier.verify_snapshot(&snapshot.key, threads, progress, report)
    }

    /// The snapshot of that key, or the only one of that client's key in that namespace.
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput`, naming some, if there are several.
    pub fn find_snapshot(&self, name: &SnapshotName) -> Result<Snapshot> {
        match self.snapshotter.stat(&name.key) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            found => return found,
        }
        let is_meant = |snapshot: &Snapshot| {
            SnapshotKey::parse(&snapshot.key).is_some_and(|key| key.is(&name.namespace, &name.key))
        };
        let mut found: Vec<_> = self.snapshotter.list(&[])?.into_iter().filter(is_meant).collect();
        match (found.pop(), found.as_slice()) {
            (Some(only), []) => Ok(only),
            (None, _) => Err(Error::new(ErrorKind::NotFound, format!("no snapshot {name}"))),
            (Some(last), others) => {
                let keys: Vec<_> = others
                    .iter()
                    .chain([&last])
                    .take(NAMED)
                    .map(|snapshot| Escaped(snapshot.key.as_bytes()).to_string())
                    .collect();
                let more = if others.len() < NAMED { "" } else { ", …" };
                let message =
                    format!("{} snapshots are {name}, give the whole key: {}{more}", others.len() + 1, keys.join(", "));
                Err(Error::new(ErrorKind::InvalidInput, message))
            }
        }
    }

    /// The snapshots by kind and state.
    pub fn counts(&self) -> Result<Counts> {
        let mut counts = Counts::default();
        for snapshot in self.snapshotter.list(&[])? {
            match snapshot.kind {
                Kind::Active => counts.active += 1,
                Kind::View => counts.views += 1,
                Kind::Committed => counts.committed += 1,
            }
            match snapshot.seal.map(|seal| seal.state) {
                None => {}
                Some(SealState::Pending) => counts.pending += 1,
                Some(SealState::Unproven) => counts.unproven += 1,
                Some(SealState::Sealed) => counts.sealed += 1,
                Some(SealState::Verified) => counts.verified += 1,
                Some(SealState::Damaged) => counts.damaged += 1,
            }
        }
        Ok(counts)
    }

    fn open_target(&self, target: &Target) -> Result<Root> {
        match target {
            Target::Path(path) if path.is_absolute() => Root::open(path),
            Target::Path(path) => {
                let message = format!("target {} is not an absolute path", Escaped::path(path));
                Err(Error::new(ErrorKind::InvalidInput, message))
            }
            Target::Mounts(mounts) => self.verifier.mount(mounts),
            Target::Snapshot(name) => {
                let snapshot = self.find_snapshot(name)?;
                let mounts = match snapshot.kind {
                    Kind::Committed => self.mounts_of_layers(&snapshot.key)?,
                    Kind::Active | Kind::View => self.snapshotter.mounts(&snapshot.key)?,
                };
                self.verifier.mount(&mounts)
            }
        }
    }

    /// What a view of a committed snapshot would mount, without a view in the metadata.
    fn mounts_of_layers(&self, key: &str) -> Result<Vec<Mount>> {
        let layers = self.snapshotter.chain(key)?;
        let mut directories = Vec::with_capacity(layers.len());
        for layer in layers {
            let path = self.snapshotter.layer_dir(layer.id);
            let text = path
                .to_str()
                .ok_or_else(|| Error::new(ErrorKind::Unsupported, format!("{} is not UTF-8", Escaped::path(&path))))?;
            // A colon would end the directory's name in the option.
            directories.push(text.replace('\\', "\\\\").replace(':', "\\:"));
        }
        Ok(vec![Mount {
            kind: "overlay".into(),
            source: "overlay".into(),
            target: String::new(),
            options: vec![format!("lowerdir={}", directories.join(":"))],
        }])
    }
}
