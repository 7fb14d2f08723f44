// SPDX-License-Identifier: Apache-2.0
//! What a container changed against its image.

use super::Images;
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::Resource;
use crate::ops::Finding;
use crate::tree::Progress;

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
    /// Tells every change, in path order.
    ///
    /// # Errors
    /// `NotFound` if there is no such container, or its image or snapshot is gone.
    pub fn container_diff(
        &self,
        id: &str,
        progress: &Progress,
        report: &mut dyn FnMut(Change) -> Result<()>,
    ) -> Result<ContainerReport> {
        let _ = (id, progress, report);
        Err(Error::new(ErrorKind::Unsupported, "comparing"))
    }
}
