// SPDX-License-Identifier: Apache-2.0
//! A blob to entries, checked against both of its digests.

use std::io::Read;

use super::{Entry, Limits};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::tree::Progress;

/// What a blob has to be.
#[derive(Debug, Clone, Copy)]
pub struct Expected {
    /// Digest of the blob as it is stored.
    pub blob: Digest,
    /// Digest of the tar in it.
    pub diff_id: Digest,
}

/// What was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReadReport {
    /// Entries of the tar.
    pub entries: u64,
    /// Bytes of the tar.
    pub bytes: u64,
}

/// Reads a blob to its end and hands over each entry with a reader of its contents, which is empty for everything
/// but a regular file and need not be read to its end. gzip, zstd or plain tar: the first bytes tell.
///
/// # Errors
/// `InvalidInput` for a blob that is no tar, is over a limit, or has another digest than expected, saying which;
/// what `source` and `visit` fail with. Until it returns, nothing that was visited is to be trusted.
pub fn read(
    source: impl Read + Send,
    expected: &Expected,
    limits: &Limits,
    progress: &Progress,
    visit: &mut dyn FnMut(Entry, &mut dyn Read) -> Result<()>,
) -> Result<ReadReport> {
    let _ = (source, expected, limits, progress, visit);
    Err(Error::new(ErrorKind::Unsupported, "reading layers"))
}
