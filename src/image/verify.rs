// SPDX-License-Identifier: Apache-2.0
//! What is unpacked, held against what the image says.

use super::{Images, Selection};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::ops::{Finding, VerifyReport};
use crate::tree::Progress;

/// The images that are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// One, by reference.
    One(String),
    /// Every image of the namespace; each blob is read once.
    All,
}

/// A layer, as a person is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerRef {
    /// From the bottom, beginning with 1.
    pub number: usize,
    /// Of its blob.
    pub digest: Digest,
    /// What made it, as the config's history says; may be empty.
    pub created_by: String,
}

/// A finding, and the layer that it belongs to: for a path of the image the one that put it there, for an extra one
/// the one in whose directory it lies, where layers have directories, else the topmost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFinding {
    /// What differs.
    pub finding: Finding,
    /// None for an image without layers.
    pub layer: Option<LayerRef>,
}

/// A damaged layer that other images have, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedLayer {
    /// The layer.
    pub layer: LayerRef,
    /// References of the other images of the namespace that are built on it, sorted.
    pub images: Vec<String>,
}

/// What verifying tells, in order.
#[derive(Debug)]
pub enum ImageEvent {
    /// An image, as this snapshotter has it, begins; findings that follow belong to it.
    Begin {
        /// Reference.
        image: String,
        /// Name of the snapshotter.
        snapshotter: String,
    },
    /// It differs.
    Finding(ImageFinding),
    /// It ends: no finding means intact.
    End {
        /// What was done.
        report: VerifyReport,
        /// For each layer with findings that other images share.
        shared: Vec<SharedLayer>,
    },
    /// It could not be checked, for this reason; instead of `End`.
    Unchecked(Error),
}

impl Images {
    /// Verifies, and tells `report`. The verdict is left as labels on the top snapshot, for [`Images::list`].
    ///
    /// # Errors
    /// `NotFound` if there is no such image or it is unpacked nowhere; after everything was tried, the first reason
    /// why something could not be checked; what `report` fails with, at once.
    pub fn verify(
        &self,
        which: &Which,
        selection: &Selection,
        progress: &Progress,
        report: &mut dyn FnMut(ImageEvent) -> Result<()>,
    ) -> Result<VerifyReport> {
        let _ = (which, selection, progress, report);
        Err(Error::new(ErrorKind::Unsupported, "verifying"))
    }

    /// Verifies one committed snapshot whose chain ID some image of the namespace explains.
    ///
    /// # Errors
    /// `NotFound` if there is no such snapshot; `FailedPrecondition` if no image explains it.
    pub fn verify_snapshot(
        &self,
        snapshotter: &str,
        key: &str,
        progress: &Progress,
        report: &mut dyn FnMut(ImageEvent) -> Result<()>,
    ) -> Result<VerifyReport> {
        let _ = (snapshotter, key, progress, report);
        Err(Error::new(ErrorKind::Unsupported, "verifying"))
    }
}
