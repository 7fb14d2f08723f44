// SPDX-License-Identifier: Apache-2.0
//! One inode of the tree, as a manifest records it.

use super::mode::Mode;
use crate::digest::Digest;
use crate::inode::Xattr;

/// One inode. Names and targets are raw bytes: the format means UTF-8, filesystems don't.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// Paths that lead to it, sorted, at least one; more than one for a hard link.
    pub paths: Vec<Vec<u8>>,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Name of the owner; reserved by the format and never written, shown when present.
    pub user: Vec<u8>,
    /// Name of the group; as `user`.
    pub group: Vec<u8>,
    /// Type and permissions.
    pub mode: Mode,
    /// Size in bytes; regular files only, zero for every other type.
    pub size: u64,
    /// Contents; regular files only.
    pub digest: Option<Digest>,
    /// Target of a symlink, as readlink gives it; else empty.
    pub target: Vec<u8>,
    /// Device numbers, major and minor; devices only, zero for every other type.
    pub device: (u64, u64),
    /// Extended attributes, sorted by name; regular files and directories only.
    pub xattrs: Vec<Xattr>,
}

impl Resource {
    /// The path that sorts it.
    pub fn first_path(&self) -> &[u8] {
        self.paths.first().map_or(b"", Vec::as_slice)
    }
}
