// SPDX-License-Identifier: Apache-2.0
//! Layers, one over the other, as containerd unpacks them.

use std::io::{Read, Write};

use super::{Expected, Limits};
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::Resource;
use crate::tree::Progress;

/// How containerd unpacks: what it does for an unusual tar depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unpacking {
    /// The first layer into a directory; each further one into an empty directory that becomes the upper layer of an
    /// overlay, with whiteouts as devices: overlayfs, continuity.
    Overlay,
    /// Each layer into a directory that shows the layers below it: native, btrfs.
    Mounted,
}

/// What lies at a path of the root filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What it is, with this one path.
    pub resource: Resource,
    /// The layer that put it there or changed it last, from the bottom, beginning with 0.
    pub layer: usize,
}

/// See the [module](self).
pub struct Rootfs {
    unpacking: Unpacking,
    limits: Limits,
}

impl Rootfs {
    /// No layer yet.
    pub fn new(unpacking: Unpacking, limits: Limits) -> Self {
        Self { unpacking, limits }
    }

    /// Reads one more layer, hashing the files in it.
    ///
    /// # Errors
    /// As [`read`](super::read); `InvalidInput` for a tar that containerd would refuse, naming the entry. The rootfs
    /// is of no use then.
    pub fn add(&mut self, blob: impl Read + Send, expected: &Expected, progress: &Progress) -> Result<()> {
        let _ = (blob, expected, progress, self.unpacking, self.limits);
        Err(Error::new(ErrorKind::Unsupported, "layers"))
    }

    /// Layers so far.
    pub fn layers(&self) -> usize {
        0
    }

    /// What lies at a path now, if anything does.
    pub fn find(&self, path: &[u8]) -> Option<Found> {
        let _ = path;
        None
    }

    /// Writes the manifest of the root filesystem, without the root itself; returns the number of its paths.
    ///
    /// # Errors
    /// What `out` fails with.
    pub fn write_manifest(&self, out: impl Write) -> Result<u64> {
        let _ = out;
        Err(Error::new(ErrorKind::Unsupported, "layers"))
    }

    /// Writes the manifest of one layer's own directory, without the root itself: whiteouts are devices 0,0, opaque
    /// directories carry `trusted.overlay.opaque`. Returns the number of its paths.
    ///
    /// # Errors
    /// `InvalidInput` if layers have no directory of their own ([`Unpacking::Mounted`]); what `out` fails with.
    pub fn write_layer_manifest(&self, layer: usize, out: impl Write) -> Result<u64> {
        let _ = (layer, out);
        Err(Error::new(ErrorKind::Unsupported, "layers"))
    }
}

/// One layer, read once for several images.
pub struct Recorded;

impl Recorded {
    /// Reads.
    pub fn read(blob: impl Read + Send, expected: &Expected, limits: &Limits, progress: &Progress) -> Result<Self> {
        let _ = (blob, expected, limits, progress);
        Err(Error::new(ErrorKind::Unsupported, "layers"))
    }
}

impl Rootfs {
    /// Adds.
    pub fn add_recorded(&mut self, recorded: &mut Recorded) -> Result<()> {
        let _ = recorded;
        Err(Error::new(ErrorKind::Unsupported, "layers"))
    }
}
