// SPDX-License-Identifier: Apache-2.0
//! What a container changed against its image.

use std::io::BufReader;

use super::derive::spool;
use super::mount_points::MountPoints;
use super::rules::RootfsRules;
use super::unpacked::Unpacked;
use super::verify::chain_of;
use super::view::unpacking_of;
use super::{Images, Selection};
use crate::containerd::{ContainerRecord, Image};
use crate::error::{Error, ErrorKind, Escaped, Result};
use crate::manifest::Resource;
use crate::ops::{self, Finding, Pair, VerifyOptions};
use crate::snapshotter::Kind;
use crate::tree::{Progress, Root};

/// Buffer for reading a derived manifest, in bytes.
const READ_BUFFER: usize = 64 << 10;

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// The image lacks it.
    Added,
    /// The image has something else there.
    Changed,
    /// The image has it, the container lacks it.
    Removed,
}

impl ChangeKind {
    /// As lists have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Changed => "changed",
            Self::Removed => "removed",
        }
    }
}

/// One path that the container has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What happened.
    pub kind: ChangeKind,
    /// The path.
    pub path: Vec<u8>,
    /// What the image has there.
    pub image: Option<Resource>,
    /// What the container has there.
    pub container: Option<Resource>,
    /// What differs, for a changed path.
    pub differences: Vec<Finding>,
}

/// What was compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ContainerReport {
    /// Paths compared.
    pub entries: u64,
    /// Bytes hashed.
    pub bytes: u64,
    /// Changes told.
    pub changes: u64,
}

impl Images {
    /// Tells every change, in path order. Where the container's runtime has mounted something, and the image has
    /// nothing, it has made an empty file or directory to mount on: that is no change.
    ///
    /// # Errors
    /// `NotFound` if there is no such container, or its snapshot or every image that explains it is gone; a path that
    /// could not be read.
    pub fn container_diff(
        &self,
        id: &str,
        progress: &Progress,
        report: &mut dyn FnMut(Change) -> Result<()>,
    ) -> Result<ContainerReport> {
        let container = self.client.container(id)?;
        let image = self.image_of(&container)?;
        let mut lease = self.lease()?;
        let mounts = self.client.mounts(&container.snapshotter, &container.snapshot_key)?;
        let mounts = self.mountable(&mut lease, mounts)?;
        let mut rootfs = self.rootfs(&image, unpacking_of(&mounts, &container.snapshotter), progress)?;
        rootfs.stack();
        let (manifest, _) = spool(|out| rootfs.write_manifest(out))?;
        let root = self.mount(&mounts)?;
        let rules = RootfsRules::new(&rootfs, &root, self.origin(&image, &container.snapshotter, &mounts));
        let mount_points = MountPoints::of(&container.spec, &root)?;
        let options = VerifyOptions { threads: self.settings.threads, ..VerifyOptions::default() };
        let before = progress.bytes();
        let (mut total, mut changes) = (ContainerReport::default(), 0);
        let manifest = BufReader::with_capacity(READ_BUFFER, manifest);
        total.entries = ops::join_by(&rules, &root, manifest, &options, progress, &mut |mut pair| {
            let mut differences = Vec::new();
            pair.report(false, &mut |finding| {
                differences.push(finding);
                Ok(())
            })?;
            if differences.is_empty() || is_mount_point(&mount_points, &root, &pair)? {
                return Ok(());
            }
            changes += 1;
            report(change(&pair, differences)?)
        })?;
        (total.bytes, total.changes) = (progress.bytes() - before, changes);
        Ok(total)
    }

    /// The image that a container was made from: its own reference may mean another one by now.
    fn image_of(&self, container: &ContainerRecord) -> Result<Image> {
        let unexplained = |why: String| {
            let message = format!("container {}: {why}", Escaped(container.id.as_bytes()));
            Error::new(ErrorKind::NotFound, message)
        };
        if container.snapshot_key.is_empty() || container.snapshotter.is_empty() {
            return Err(unexplained("its root filesystem is not a snapshot".into()));
        }
        let snapshot = self.client.snapshot(&container.snapshotter, &container.snapshot_key)?;
        if snapshot.kind == Kind::Committed || snapshot.parent.is_empty() {
            return Err(unexplained(format!("its snapshot {} is on top of no image", snapshot.key)));
        }
        let explains = |image: &Image| chain_of(image).is_ok_and(|chain| chain.to_string() == snapshot.parent);
        let record = self.client.image(&container.image);
        let named = record.as_ref().map(|record| self.images_of(record)).unwrap_or_default();
        if let Some(image) = named.into_iter().find(explains) {
            return Ok(image);
        }
        if let Some(image) = self.every_image()?.find(explains) {
            return Ok(image);
        }
        let why = format!("no image explains its parent snapshot {}", snapshot.parent);
        let unknown = record.and_then(|record| self.unpacked(&record, &Selection::default()));
        Err(match unknown {
            Ok(Unpacked { mut unknown, .. }) if !unknown.is_empty() => {
                unexplained(why).with_source(unknown.swap_remove(0))
            }
            Ok(_) => unexplained(why),
            Err(error) => unexplained(why).with_source(error),
        })
    }
}

/// Whether something is there only because the container's runtime has mounted over it.
fn is_mount_point(mount_points: &MountPoints, root: &Root, pair: &Pair<'_>) -> Result<bool> {
    match pair {
        Pair::Extra(path, found) => mount_points.explain(root, path, found),
        _ => Ok(false),
    }
}

fn change(pair: &Pair<'_>, differences: Vec<Finding>) -> Result<Change> {
    let change =
        |kind, path: &[u8]| Change { kind, path: path.to_vec(), image: None, container: None, differences: Vec::new() };
    Ok(match pair {
        Pair::Missing(entry) => {
            Change { image: Some((*entry.resource).clone()), ..change(ChangeKind::Removed, entry.path()) }
        }
        Pair::Extra(path, found) => Change { container: Some((*found).clone()), ..change(ChangeKind::Added, path) },
        Pair::Both(entry, found, ..) => Change {
            image: Some((*entry.resource).clone()),
            container: Some((*found).clone()),
            differences,
            ..change(ChangeKind::Changed, entry.path())
        },
        Pair::Unreadable(path, error, _) => {
            return Err(Error::new(error.kind(), format!("{}: {error}", Escaped(path))));
        }
    })
}
