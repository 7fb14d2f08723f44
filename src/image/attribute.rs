// SPDX-License-Identifier: Apache-2.0
//! Which layer a finding belongs to.

use std::path::PathBuf;

use crate::error::Result;
use crate::inode::FileType;
use crate::layer::{Marks, Rootfs, is_whiteout_inode};
use crate::ops::{Finding, FindingKind};
use crate::tree::{Metadata, Root};

/// What is known of an image's layers, in memory and on disk.
pub(super) struct Attribution<'a> {
    rootfs: &'a Rootfs,
    /// The layers' own directories, from the bottom; empty where layers have none.
    directories: Vec<Root>,
    layers: usize,
}

impl<'a> Attribution<'a> {
    /// `directories` are the layers', topmost first; of another number than `layers`, they are of no use.
    pub(super) fn new(rootfs: &'a Rootfs, directories: Vec<PathBuf>, layers: usize) -> Result<Self> {
        let directories = match directories.len() == layers {
            true => directories.iter().rev().map(|path| Root::open(path)).collect::<Result<_>>()?,
            false => Vec::new(),
        };
        Ok(Self { rootfs, directories, layers })
    }

    /// The layer, from the bottom, beginning with 0. What hides or shows a path on disk is to blame if it lies in a
    /// later layer than the one that should have put the path there.
    pub(super) fn layer_of(&self, finding: &Finding) -> Result<Option<usize>> {
        let path = finding.path.as_slice();
        let expected = self.rootfs.find(path).map(|found| found.layer);
        let shown = match finding.kind {
            FindingKind::Missing => self.hidden_by(path)?,
            _ => self.topmost(path, |_| true)?,
        };
        // What should not be seen at all: the layer that should have hidden it.
        let hiding = if finding.kind == FindingKind::Extra { self.rootfs.hidden_by(path) } else { None };
        let last = self.layers.checked_sub(1);
        Ok(shown.max(expected).max(hiding).or(last))
    }

    /// The topmost layer in whose directory something lies at `path` that `matters`.
    fn topmost(&self, path: &[u8], matters: impl Fn(&Metadata) -> bool) -> Result<Option<usize>> {
        for (n, directory) in self.directories.iter().enumerate().rev() {
            if path != b"/" && directory.metadata(path)?.is_some_and(|metadata| matters(&metadata)) {
                return Ok(Some(n));
            }
        }
        Ok(None)
    }

    /// The topmost layer that has something else than a directory above `path`, or one that is marked as opaque, or a
    /// whiteout in its place.
    fn hidden_by(&self, path: &[u8]) -> Result<Option<usize>> {
        let mut hidden = self.topmost(path, is_whiteout_inode)?;
        for (n, _) in path.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/') {
            hidden = hidden.max(self.topmost(&path[..n], |metadata| metadata.file_type != FileType::Directory)?);
            hidden = hidden.max(self.topmost_opaque(&path[..n])?);
        }
        Ok(hidden)
    }

    /// The topmost layer in whose directory the one at `path` is marked as opaque.
    fn topmost_opaque(&self, path: &[u8]) -> Result<Option<usize>> {
        for (n, directory) in self.directories.iter().enumerate().rev() {
            let found = directory.metadata(path)?;
            if found.is_some_and(|found| found.file_type == FileType::Directory)
                && Marks::of(self.rootfs.unpacking()).is_opaque(&directory.xattrs(path, FileType::Directory)?)
            {
                return Ok(Some(n));
            }
        }
        Ok(None)
    }
}
