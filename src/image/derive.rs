// SPDX-License-Identifier: Apache-2.0
//! The manifest of an image, from its layers alone.

use std::io::Write;

use super::Images;
use crate::containerd::Platform;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::tree::Progress;

/// What was derived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeriveReport {
    /// Paths recorded.
    pub entries: u64,
    /// Of the manifest.
    pub digest: Digest,
}

impl Images {
    /// Writes the rootfs manifest of an image, or the layer manifest of one of its layers, counted from 1.
    ///
    /// # Errors
    /// `NotFound` for an image, a layer, or a blob that is not there, naming it; as [`crate::layer::read`].
    pub fn manifest(
        &self,
        reference: &str,
        platform: Option<&Platform>,
        layer: Option<usize>,
        progress: &Progress,
        out: &mut dyn Write,
    ) -> Result<DeriveReport> {
        let _ = (reference, platform, layer, progress, out, &self.client);
        Err(Error::new(ErrorKind::Unsupported, "deriving"))
    }
}
