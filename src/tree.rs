// SPDX-License-Identifier: Apache-2.0
//! A directory tree, reached only through a confined handle.

mod progress;

pub use progress::Progress;

use std::os::fd::OwnedFd;
use std::path::Path;

use crate::error::Result;

/// The top of a tree: a directory handle beneath which every path is resolved.
pub struct Root {
    #[allow(dead_code)]
    fd: OwnedFd,
}

impl Root {
    /// Opens a directory; a symlink to one is followed.
    pub fn open(_path: &Path) -> Result<Self> {
        todo!()
    }

    /// Takes a directory handle that is already open: the root of a detached mount, for one.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self { fd }
    }
}
