// SPDX-License-Identifier: Apache-2.0
//! How much a layer may hold.

/// What one image may make us read and remember. A tar that claims more is refused before memory is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Entries of all layers of an image together.
    pub entries: u64,
    /// Bytes of one layer, uncompressed.
    pub bytes: u64,
}

impl Default for Limits {
    /// Five million entries, 256 GiB: beyond any image that runs on a node of the field.
    fn default() -> Self {
        Self { entries: 5_000_000, bytes: 256 << 30 }
    }
}
