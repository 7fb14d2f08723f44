// SPDX-License-Identifier: Apache-2.0
//! The images, and what is known about them.

use super::Images;
use crate::error::{Error, ErrorKind, Result};

/// What a verification came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerdictState {
    /// No finding.
    Intact,
    /// Findings.
    Damaged,
}

/// The last verdict on an image, as one snapshotter has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Name of the snapshotter; the image is unpacked there.
    pub snapshotter: String,
    /// What it came to, when (nanoseconds since the epoch), and how many paths were compared; none if it was never
    /// verified.
    pub last: Option<(VerdictState, i64, u64)>,
}

/// What is known about an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageInfo {
    /// Reference.
    pub name: String,
    /// `os/architecture`; empty if the image can't be resolved.
    pub platform: String,
    /// How many layers.
    pub layers: usize,
    /// Paths of its root filesystem, as the last verification counted them.
    pub entries: Option<u64>,
    /// Of its layers' blobs, in bytes.
    pub size: u64,
    /// For each snapshotter that it is unpacked in.
    pub verdicts: Vec<Verdict>,
    /// Why it can't be resolved; empty if it can.
    pub problem: String,
}

impl Images {
    /// Every image of the namespace, by name.
    ///
    /// # Errors
    /// What containerd fails with. An image that can't be resolved is listed, with the reason.
    pub fn list(&self) -> Result<Vec<ImageInfo>> {
        Err(Error::new(ErrorKind::Unsupported, "listing"))
    }
}
