// SPDX-License-Identifier: Apache-2.0
//! Tree to manifest.

use std::io::Write;

use crate::digest::Digest;
use crate::error::Result;
use crate::tree::{Progress, Root};

/// How to build.
#[derive(Debug, Clone, Default)]
pub struct BuildOptions {
    /// Hashing threads; 0 means the cores, at most four.
    pub threads: usize,
    /// Records the root directory itself as the resource `/`.
    pub include_root: bool,
    /// Refuses what the manifest can't record or other readers would refuse.
    pub strict: bool,
}

/// What was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildReport {
    /// Paths recorded.
    pub entries: u64,
    /// Bytes of file contents hashed.
    pub bytes: u64,
    /// Digest of the manifest.
    pub digest: Digest,
}

/// Walks `root` and writes its manifest, protobuf, to `out`, in path order and as it goes. `warn` hears, one
/// line each, of what is not recorded (sockets) or what other readers will refuse (names that are not UTF-8).
pub fn build(
    _root: &Root,
    _options: &BuildOptions,
    _progress: &Progress,
    _out: impl Write,
    _warn: &mut dyn FnMut(String),
) -> Result<BuildReport> {
    todo!()
}
