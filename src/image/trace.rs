// SPDX-License-Identifier: Apache-2.0
//! Which layers touched a path.

use super::{Images, LayerRef};
use crate::containerd::Platform;
use crate::error::{Error, ErrorKind, Escaped, Result};
use crate::inode::FileType;
use crate::layer::{Found, Unpacking};
use crate::manifest::{Resource, is_clean};
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

impl Touched {
    /// As lists have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Changed => "changed",
            Self::Removed => "removed",
        }
    }
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
        if !is_clean(path) {
            let message = format!("{} is not an absolute path without \".\", \"..\" and \"//\"", Escaped(path));
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        let image = self.resolve(reference, platform)?;
        let mut touches = Vec::new();
        let mut before: Option<Found> = None;
        self.rootfs_watched(&image, Unpacking::Overlay, progress, &mut |rootfs, layer| {
            let after = rootfs.find(path);
            let touched = match (&before, &after) {
                (None, None) => None,
                (None, Some(_)) => Some(Touched::Added),
                (Some(_), None) => Some(Touched::Removed),
                // A directory that a layer only passes through keeps what it is.
                (Some(old), Some(new)) if old.layer == new.layer || is_passed(old, new) => None,
                (Some(_), Some(_)) => Some(Touched::Changed),
            };
            if let Some(touched) = touched {
                let resource = after.as_ref().map(|found| found.resource.clone());
                touches.push(Touch { layer: LayerRef::of(layer), touched, resource });
            }
            before = after;
        })?;
        touches.reverse();
        Ok(touches)
    }
}

/// Whether a layer has a directory only because something lies in it.
fn is_passed(old: &Found, new: &Found) -> bool {
    new.resource.mode.file_type() == FileType::Directory && old.resource == new.resource
}
