// SPDX-License-Identifier: Apache-2.0
//! What the layers below one show, as overlayfs would show it.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::digest::{Digest, HashingStream};
use crate::error::{Error, ErrorKind, Result};
use crate::host;
use crate::inode::FileType;
use crate::layer::{Marks, Rootfs, is_whiteout_inode};
use crate::manifest::Resource;
use crate::ops::resource_of;
use crate::tree::{InodeId, Metadata, Node, Progress, Root};

/// Bytes that are read at once.
const BUFFER: usize = 256 << 10;

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

    /// What they show at a path, if anything; without its digest if its size alone says that it is not `like` the
    /// other.
    ///
    /// # Errors
    /// They cannot be read.
    fn resource(&self, path: &[u8], like: &Resource) -> Result<Option<Resource>>;

    /// Whether paths lead to one inode.
    ///
    /// # Errors
    /// They cannot be read.
    fn are_one(&self, paths: &[Vec<u8>]) -> Result<bool>;
}

/// As the image says.
pub struct OfImage<'a> {
    pub rootfs: &'a Rootfs,
    /// How many, from the bottom.
    pub layers: usize,
}

impl OfImage<'_> {
    fn find(&self, path: &[u8]) -> Option<Resource> {
        let found = self.rootfs.find_in(self.layers, path).map(|found| found.resource);
        found.filter(|found| !Marks::Trusted.is_whiteout(found))
    }
}

impl Below for OfImage<'_> {
    fn shows(&self, path: &[u8]) -> Result<Option<FileType>> {
        Ok(self.find(path).map(|resource| resource.mode.file_type()))
    }

    fn names(&self, directory: &[u8]) -> Result<Vec<Vec<u8>>> {
        let mut names = self.rootfs.names_of(self.layers, directory);
        // A lone layer is not looked at as part of an overlay, which it is here.
        if self.layers == 1 {
            names.retain(|name| self.find(&[directory, b"/", name].concat()).is_some());
        }
        Ok(names)
    }

    fn resource(&self, path: &[u8], _like: &Resource) -> Result<Option<Resource>> {
        Ok(self.find(path))
    }

    fn are_one(&self, paths: &[Vec<u8>]) -> Result<bool> {
        Ok(self.rootfs.are_one(self.layers, paths))
    }
}

/// As they lie on the disk.
pub struct OnDisk<'a> {
    /// Nearest first.
    directories: Vec<PathBuf>,
    marks: Marks,
    progress: &'a Progress,
    /// Of files that several names lead to, which are asked for by each of them.
    hashed: RefCell<HashMap<InodeId, Digest>>,
    /// Opened when the first question comes, which few layers ask. One that is gone shows nothing.
    roots: OnceCell<Vec<Root>>,
}

impl<'a> OnDisk<'a> {
    /// Of these directories, nearest first, with marks of this namespace.
    pub fn new(directories: Vec<PathBuf>, marks: Marks, progress: &'a Progress) -> Self {
        Self { directories, marks, progress, hashed: RefCell::default(), roots: OnceCell::new() }
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
                        if self.marks.is_opaque(&root.xattrs(path, FileType::Directory)?) {
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

impl OnDisk<'_> {
    /// What is shown at a path, and the layer that it is of.
    fn find(&self, path: &[u8]) -> Result<Option<(&Root, Metadata)>> {
        let slash = path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
        for root in self.merged(&path[..slash])? {
            match root.metadata(path)? {
                None => {}
                Some(found) if is_whiteout_inode(&found) => return Ok(None),
                Some(found) => return Ok(Some((root, found))),
            }
        }
        Ok(None)
    }

    fn digest(&self, root: &Root, path: &[u8], found: &Metadata) -> Result<Digest> {
        if let Some(known) = found.link_id().and_then(|id| self.hashed.borrow().get(&id).copied()) {
            return Ok(known);
        }
        let mut stream = HashingStream::new(File::from(root.open_inode(path, FileType::Regular)?));
        let mut buffer = vec![0; BUFFER];
        loop {
            self.progress.check()?;
            match stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("read", OsStr::from_bytes(path), error)),
            }
        }
        let digest = stream.finish().1;
        if let Some(id) = found.link_id() {
            self.hashed.borrow_mut().insert(id, digest);
        }
        Ok(digest)
    }
}

impl Below for OnDisk<'_> {
    fn shows(&self, path: &[u8]) -> Result<Option<FileType>> {
        Ok(self.find(path)?.map(|(_, found)| found.file_type))
    }

    fn resource(&self, path: &[u8], like: &Resource) -> Result<Option<Resource>> {
        let Some((root, found)) = self.find(path)? else { return Ok(None) };
        let mut node = Node { metadata: found, digest: None, target: Vec::new(), xattrs: Vec::new() };
        match found.file_type {
            FileType::Regular if found.size == like.size => {
                node.digest = Some(self.digest(root, path, &found)?);
                node.xattrs = root.xattrs(path, FileType::Regular)?;
            }
            FileType::Directory => node.xattrs = root.xattrs(path, FileType::Directory)?,
            FileType::Symlink => node.target = root.read_link(path)?.unwrap_or_default(),
            _ => {}
        }
        node.xattrs.retain(|xattr| !host::is_overlays(&xattr.name));
        Ok(Some(resource_of(path.to_vec(), node)))
    }

    fn are_one(&self, paths: &[Vec<u8>]) -> Result<bool> {
        let mut ids = BTreeSet::new();
        for path in paths {
            ids.insert(self.find(path)?.map(|(_, found)| (found.id.dev, found.id.ino)));
        }
        Ok(ids.len() == 1 && !ids.contains(&None))
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
