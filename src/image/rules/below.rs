// SPDX-License-Identifier: Apache-2.0
//! What the layers below one show, as overlayfs would show it.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::error::{ErrorKind, Result};
use crate::inode::FileType;
use crate::layer::{Rootfs, is_opaque, is_whiteout_inode};
use crate::manifest::Resource;
use crate::tree::Root;

/// The layers below one.
pub trait Below {
    /// The type of what they show at a path, if anything.
    ///
    /// # Errors
    /// They cannot be read.
    fn shows(&self, path: &[u8]) -> Result<Option<FileType>>;

    /// The names that they show in a directory; none of anything else.
    ///
    /// # Errors
    /// They cannot be read.
    fn names(&self, directory: &[u8]) -> Result<Vec<Vec<u8>>>;

    /// What they have to show at a path, where that is known.
    fn resource(&self, _path: &[u8]) -> Option<Resource> {
        None
    }
}

/// As the image says.
pub struct OfImage<'a> {
    pub rootfs: &'a Rootfs,
    /// How many, from the bottom.
    pub layers: usize,
}

impl Below for OfImage<'_> {
    fn shows(&self, path: &[u8]) -> Result<Option<FileType>> {
        Ok(self.resource(path).map(|resource| resource.mode.file_type()))
    }

    fn names(&self, directory: &[u8]) -> Result<Vec<Vec<u8>>> {
        Ok(self.rootfs.names_of(self.layers, directory))
    }

    fn resource(&self, path: &[u8]) -> Option<Resource> {
        self.rootfs.find_in(self.layers, path).map(|found| found.resource)
    }
}

/// As they lie on the disk.
pub struct OnDisk {
    /// Nearest first.
    directories: Vec<PathBuf>,
    /// Opened when the first question comes, which few layers ask. One that is gone shows nothing.
    roots: OnceCell<Vec<Root>>,
}

impl OnDisk {
    /// Of these directories, nearest first.
    pub fn new(directories: Vec<PathBuf>) -> Self {
        Self { directories, roots: OnceCell::new() }
    }

    fn roots(&self) -> Result<&[Root]> {
        if let Some(roots) = self.roots.get() {
            return Ok(roots);
        }
        let mut roots = Vec::with_capacity(self.directories.len());
        for directory in &self.directories {
            match Root::open(directory) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                root => roots.push(root?),
            }
        }
        Ok(self.roots.get_or_init(|| roots))
    }

    /// The layers that have a part in what is shown in a directory: down to the first one that hides the rest.
    fn merged(&self, directory: &[u8]) -> Result<Vec<&Root>> {
        let mut merged: Vec<&Root> = self.roots()?.iter().collect();
        let mut ends: Vec<usize> = (1..directory.len()).filter(|n| directory[*n] == b'/').collect();
        ends.push(directory.len());
        for path in ends.into_iter().map(|end| &directory[..end]).filter(|path| path.len() > 1) {
            let mut shown = Vec::new();
            for root in merged {
                match root.metadata(path)? {
                    None => {}
                    Some(found) if found.file_type != FileType::Directory => break,
                    Some(_) => {
                        shown.push(root);
                        if is_opaque(&root.xattrs(path, FileType::Directory)?) {
                            break;
                        }
                    }
                }
            }
            merged = shown;
        }
        Ok(merged)
    }
}

impl Below for OnDisk {
    fn shows(&self, path: &[u8]) -> Result<Option<FileType>> {
        let slash = path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
        for root in self.merged(&path[..slash])? {
            match root.metadata(path)? {
                None => {}
                Some(found) if is_whiteout_inode(&found) => return Ok(None),
                Some(found) => return Ok(Some(found.file_type)),
            }
        }
        Ok(None)
    }

    fn names(&self, directory: &[u8]) -> Result<Vec<Vec<u8>>> {
        let mut names = BTreeSet::new();
        for root in self.merged(directory)? {
            names.extend(root.names(directory)?);
        }
        let mut shown = Vec::new();
        for name in names {
            if self.shows(&[directory, b"/", &name].concat())?.is_some() {
                shown.push(name);
            }
        }
        Ok(shown)
    }
}
