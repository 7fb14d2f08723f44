// SPDX-License-Identifier: Apache-2.0
//! Manifest and tree to findings.

use std::io::Read;

use crate::error::Result;
use crate::ops::Finding;
use crate::tree::{Progress, Root};

/// How to verify.
#[derive(Debug, Clone, Default)]
pub struct VerifyOptions {
    /// Ignores paths and xattrs that the tree has and the manifest lacks.
    pub subset: bool,
    /// Hashing threads; 0 means the cores, at most four.
    pub threads: usize,
}

/// What was verified. No finding means intact.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Paths compared.
    pub entries: u64,
    /// Bytes of file contents hashed.
    pub bytes: u64,
    /// Findings reported.
    pub findings: u64,
}

/// Holds the tree beneath `root` against a protobuf manifest and hands each difference to `report`, in path order.
///
/// # Errors
/// The manifest is invalid, the work was cancelled, or `report` failed. What is wrong with the tree is a finding.
pub fn verify(
    _root: &Root,
    _manifest: impl Read,
    _options: &VerifyOptions,
    _progress: &Progress,
    _report: &mut dyn FnMut(Finding) -> Result<()>,
) -> Result<VerifyReport> {
    todo!()
}
