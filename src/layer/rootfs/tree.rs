// SPDX-License-Identifier: Apache-2.0
//! A filesystem in memory: inodes in one vector, directories that name them by number.

use std::collections::BTreeMap;

use crate::digest::Digest;
use crate::inode::{FileType, Xattr};
use crate::manifest::{Mode, Resource};

/// Number of the root's inode.
pub const ROOT: u32 = 0;

/// Marks a directory that hides what lies beneath it.
const OPAQUE: &[u8] = b"trusted.overlay.opaque";

/// Begins the names of the attributes that overlayfs keeps for itself, and shows to nobody.
const OVERLAY: &[u8] = b"trusted.overlay.";

/// A name in a directory.
#[derive(Debug, Clone, Copy)]
pub struct Name {
    /// What it names.
    pub inode: u32,
    /// The layer that put it there.
    pub layer: u32,
    /// Whether an entry of that layer's tar put it there, and not only the need of one for a parent.
    pub unpacked: bool,
}

/// Names, sorted.
pub type Names = BTreeMap<Box<[u8]>, Name>;

/// See [`Resource`].
#[derive(Debug)]
pub struct Inode {
    pub mode: Mode,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    pub digest: Option<Digest>,
    pub target: Box<[u8]>,
    pub device: (u32, u32),
    /// Sorted by name; files and directories only.
    pub xattrs: Vec<Xattr>,
    /// The layer that changed it last.
    pub layer: u32,
    /// Names that lead to it.
    pub links: u32,
    /// Of a directory.
    pub names: Option<Box<Names>>,
}

impl Inode {
    pub fn new(mode: Mode, layer: u32) -> Self {
        let names = (mode.file_type() == FileType::Directory).then(Box::default);
        Self {
            mode,
            uid: 0,
            gid: 0,
            size: 0,
            digest: None,
            target: Box::default(),
            device: (0, 0),
            xattrs: Vec::new(),
            layer,
            links: 0,
            names,
        }
    }

    pub fn file_type(&self) -> FileType {
        self.mode.file_type()
    }

    /// What overlayfs takes for "nothing is here".
    pub fn is_whiteout(&self) -> bool {
        self.file_type() == FileType::CharDevice && self.device == (0, 0)
    }

    pub fn is_opaque(&self) -> bool {
        self.xattrs.iter().any(|xattr| xattr.name == OPAQUE && xattr.value == b"y")
    }

    pub fn make_opaque(&mut self) {
        self.set_xattr(OPAQUE, b"y");
    }

    pub fn set_xattr(&mut self, name: &[u8], value: &[u8]) {
        match self.xattrs.binary_search_by(|xattr| xattr.name.as_slice().cmp(name)) {
            Ok(n) => self.xattrs[n].value = value.to_vec(),
            Err(n) => self.xattrs.insert(n, Xattr { name: name.to_vec(), value: value.to_vec() }),
        }
    }

    pub fn remove_xattr(&mut self, name: &[u8]) {
        self.xattrs.retain(|xattr| xattr.name != name);
    }

    /// As the kernel copies it to another layer: without names, and without what overlayfs keeps for itself.
    pub fn copied(&self, layer: u32) -> Self {
        let mut copy = Self::new(self.mode, layer);
        (copy.uid, copy.gid, copy.size, copy.digest) = (self.uid, self.gid, self.size, self.digest);
        (copy.target, copy.device) = (self.target.clone(), self.device);
        copy.xattrs = self.xattrs.iter().filter(|xattr| !xattr.name.starts_with(OVERLAY)).cloned().collect();
        copy
    }

    /// Without what overlayfs hides, if it is seen through one.
    pub fn resource(&self, paths: Vec<Vec<u8>>, through_overlay: bool) -> Resource {
        let shown = |xattr: &&Xattr| !through_overlay || !xattr.name.starts_with(OVERLAY);
        Resource {
            paths,
            uid: self.uid,
            gid: self.gid,
            user: Vec::new(),
            group: Vec::new(),
            mode: self.mode,
            size: self.size,
            digest: self.digest,
            target: self.target.to_vec(),
            device: (self.device.0.into(), self.device.1.into()),
            xattrs: self.xattrs.iter().filter(shown).cloned().collect(),
        }
    }
}

/// See the [module](self).
pub struct Tree {
    inodes: Vec<Inode>,
    /// Numbers of inodes that nothing leads to.
    free: Vec<u32>,
}

impl Tree {
    /// An empty root.
    pub fn new() -> Self {
        Self { inodes: vec![Inode::new(Mode::new(FileType::Directory, 0o755), 0)], free: Vec::new() }
    }

    pub fn inode(&self, number: u32) -> &Inode {
        &self.inodes[number as usize]
    }

    pub fn inode_mut(&mut self, number: u32) -> &mut Inode {
        &mut self.inodes[number as usize]
    }

    /// A name in a directory; none also if it is no directory.
    pub fn look_up(&self, directory: u32, name: &[u8]) -> Option<Name> {
        self.inode(directory).names.as_ref()?.get(name).copied()
    }

    /// Whether an entry of the layer's tar put there what lies at a path.
    pub fn is_unpacked(&self, path: &[u8]) -> bool {
        let mut at = ROOT;
        let mut unpacked = false;
        for component in path.split(|&byte| byte == b'/').filter(|component| !component.is_empty()) {
            let Some(name) = self.look_up(at, component) else { return false };
            (at, unpacked) = (name.inode, name.unpacked);
        }
        unpacked
    }

    /// Whether, as the upper layer of an overlay, it hides what lies at a path beneath it.
    pub fn hides_below(&self, path: &[u8]) -> bool {
        let mut at = ROOT;
        let mut components = path.split(|&byte| byte == b'/').filter(|component| !component.is_empty()).peekable();
        while let Some(component) = components.next() {
            let Some(name) = self.look_up(at, component) else { return false };
            let inode = self.inode(name.inode);
            let is_above = components.peek().is_some();
            let is_directory = inode.file_type() == FileType::Directory;
            if inode.is_whiteout() || is_above && (!is_directory || inode.is_opaque()) {
                return true;
            }
            at = name.inode;
        }
        false
    }

    /// The names of a directory; none of anything else.
    pub fn names(&self, directory: u32) -> impl Iterator<Item = (&[u8], Name)> {
        self.inode(directory).names.iter().flat_map(|names| names.iter().map(|(name, entry)| (&**name, *entry)))
    }

    /// Adds an inode that no name leads to yet.
    pub fn add(&mut self, inode: Inode) -> u32 {
        match self.free.pop() {
            Some(number) => {
                *self.inode_mut(number) = inode;
                number
            }
            None => {
                self.inodes.push(inode);
                (self.inodes.len() - 1) as u32
            }
        }
    }

    /// Gives an inode a name that is free.
    pub fn link(&mut self, directory: u32, name: &[u8], entry: Name) {
        self.inode_mut(entry.inode).links += 1;
        if let Some(names) = &mut self.inode_mut(directory).names {
            names.insert(name.into(), entry);
        }
    }

    /// Notes of a name that is there who put it there last.
    pub fn rename(&mut self, directory: u32, name: &[u8], entry: Name) {
        if let Some(present) = self.inode_mut(directory).names.as_mut().and_then(|names| names.get_mut(name)) {
            *present = entry;
        }
    }

    /// Removes a name, and everything beneath it; that there is none is fine.
    pub fn remove(&mut self, directory: u32, name: &[u8]) {
        let removed = self.inode_mut(directory).names.as_mut().and_then(|names| names.remove(name));
        let mut unnamed: Vec<u32> = removed.into_iter().map(|name| name.inode).collect();
        while let Some(number) = unnamed.pop() {
            let inode = self.inode_mut(number);
            inode.links = inode.links.saturating_sub(1);
            if inode.links > 0 {
                continue;
            }
            let names = inode.names.take();
            *inode = Inode::new(Mode::new(FileType::Regular, 0), 0);
            unnamed.extend(names.into_iter().flat_map(|names| names.into_values()).map(|name| name.inode));
            self.free.push(number);
        }
    }
}
