// SPDX-License-Identifier: Apache-2.0
//! One entry of a layer's tar, without its contents.

use crate::inode::{FileType, Xattr};

/// The ID that means none: `chown` leaves what it finds.
pub const NO_ID: u32 = u32::MAX;

/// One entry, as the tar has it: not yet cleaned, not yet known to be harmless.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Name as the tar has it.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Owner; [`NO_ID`] for none.
    pub uid: u32,
    /// Group; [`NO_ID`] for none.
    pub gid: u32,
    /// `st_mode & 0o7777`.
    pub permissions: u32,
    /// Extended attributes, sorted by name.
    pub xattrs: Vec<Xattr>,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file of that size in bytes.
    File(u64),
    /// A directory, symlink (with target), fifo or device (with numbers).
    Special {
        /// Anything but a regular file.
        file_type: FileType,
        /// Target of a symlink, as the tar has it.
        target: Vec<u8>,
        /// Major and minor.
        device: (u32, u32),
    },
    /// A hard link to the entry of this name.
    Link(Vec<u8>),
    /// PAX records for all that follows. They say nothing, but the name counts as that of any entry.
    Global,
}
