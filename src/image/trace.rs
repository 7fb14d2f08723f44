// SPDX-License-Identifier: Apache-2.0
//! Which layers touched a path.

use super::{Images, LayerRef};
use crate::containerd::Platform;
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::Resource;
use crate::tree::Progress;

/// What a layer did to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Touched {
    /// It was not there before.
    Added,
    /// It was there before.
    Changed,
    /// It is not there any more.
    Removed,
}

/// One layer's part in the story of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touch {
    /// Which.
    pub layer: LayerRef,
    /// What it did.
    pub touched: Touched,
    /// What was there then; none if it was removed.
    pub resource: Option<Resource>,
}

impl Images {
    /// The layers that touched a path, the last one first; empty if none did.
    ///
    /// # Errors
    /// As [`Images::manifest`]; `InvalidInput` for a path that is not absolute and clean.
    pub fn trace(
        &self,
        reference: &str,
        platform: Option<&Platform>,
        path: &[u8],
        progress: &Progress,
    ) -> Result<Vec<Touch>> {
        let _ = (reference, platform, path, progress);
        Err(Error::new(ErrorKind::Unsupported, "tracing"))
    }
}
