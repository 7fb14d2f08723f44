// SPDX-License-Identifier: Apache-2.0
//! What a tree and a manifest both say of an inode: its type and its extended attributes.

use rustix::fs;

/// Type of an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileType {
    /// Directory.
    Directory,
    /// Regular file.
    Regular,
    /// Symbolic link.
    Symlink,
    /// Character device.
    CharDevice,
    /// Block device.
    BlockDevice,
    /// Named pipe.
    Fifo,
    /// Unix socket; a manifest that has one is read, but none is written.
    Socket,
}

impl FileType {
    /// Every type.
    pub const ALL: [Self; 7] =
        [Self::Directory, Self::Regular, Self::Symlink, Self::CharDevice, Self::BlockDevice, Self::Fifo, Self::Socket];

    /// From a directory entry or an `st_mode`; `None` if the filesystem does not tell.
    pub fn from_raw(raw: fs::FileType) -> Option<Self> {
        Some(match raw {
            fs::FileType::Directory => Self::Directory,
            fs::FileType::RegularFile => Self::Regular,
            fs::FileType::Symlink => Self::Symlink,
            fs::FileType::CharacterDevice => Self::CharDevice,
            fs::FileType::BlockDevice => Self::BlockDevice,
            fs::FileType::Fifo => Self::Fifo,
            fs::FileType::Socket => Self::Socket,
            fs::FileType::Unknown => return None,
        })
    }

    /// The name that findings use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::Regular => "file",
            Self::Symlink => "symlink",
            Self::CharDevice => "character device",
            Self::BlockDevice => "block device",
            Self::Fifo => "fifo",
            Self::Socket => "socket",
        }
    }
}

/// An extended attribute.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Xattr {
    /// Name with its namespace.
    pub name: Vec<u8>,
    /// Value; may be empty.
    pub value: Vec<u8>,
}
