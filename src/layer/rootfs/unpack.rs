// SPDX-License-Identifier: Apache-2.0
//! What containerd does with an entry of a layer's tar (`archive.Apply` of 1.6 to 2.1), done in memory.
//!
//! Names are contained as there: cleaned, and resolved beneath the root through the symlinks of what is written to.

use std::collections::HashSet;

use super::disk::{Disk, Origin, split};
use super::path::{Path, Text, check, find, resolve};
use super::refused;
use super::tree::{Inode, Tree};
use crate::digest::Digest;
use crate::error::{Escaped, Result};
use crate::inode::FileType;
use crate::layer::{Entry, EntryKind};

/// Begins a name that says that another is gone.
const WHITEOUT: &[u8] = b".wh.";

/// The name that says that nothing of the layers below shows in its directory.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Mode of a directory that no tar has.
const PARENT_MODE: u32 = 0o755;

/// How whiteouts and parents are made.
#[derive(Clone, Copy)]
pub enum Whiteouts<'a> {
    /// What is gone is removed: what is written to shows the layers below.
    Remove,
    /// A device marks what is gone, and parents take after those of the layers below, from the bottom, each a tree of
    /// its own.
    Devices(&'a [Tree]),
}

/// One layer on its way to where it is unpacked.
pub struct Unpack<'a, D> {
    pub disk: &'a mut D,
    pub whiteouts: Whiteouts<'a>,
    /// Whether devices can be made: in a user namespace, containerd passes over their entries.
    pub devices: bool,
    /// From the bottom, beginning with 0.
    pub layer: u32,
    /// Paths that entries of this layer had and that are gone, or never were: containerd does not forget them before
    /// the layer ends, and an opaque directory keeps what has such a path. By digest: paths are as long as an image
    /// makes them.
    pub seen: &'a mut HashSet<Digest>,
}

impl<D: Disk> Unpack<'_, D> {
    /// Applies one entry; `digest` is that of its contents.
    ///
    /// # Errors
    /// `InvalidInput`, naming the entry, where containerd fails.
    pub fn apply(&mut self, entry: &Entry, digest: Option<Digest>) -> Result<()> {
        self.apply_entry(entry, digest).map_err(|error| error.context(Escaped(&entry.name)))
    }

    fn apply_entry(&mut self, entry: &Entry, digest: Option<Digest>) -> Result<()> {
        if !self.devices && is_device(entry) {
            return Ok(());
        }
        if entry.name.contains(&0) {
            return Err(refused("a name with a NUL byte"));
        }
        // The root itself, by whatever name, stays as it is.
        let split = Text::new(&entry.name).clean().split();
        let Some((above, base)) = split.filter(|(_, base)| base != b"..") else { return Ok(()) };
        let mut path = resolve(self.disk, above)?;
        self.make_parents(&path)?;
        if base == OPAQUE {
            return self.make_opaque(&path);
        }
        if let Some(gone) = base.strip_prefix(WHITEOUT) {
            if matches!(gone, b"" | b"." | b"..") {
                return Err(refused("a whiteout of no name"));
            }
            path.push(gone.to_vec());
            check(&path)?;
            return self.white_out(&path, entry);
        }
        path.push(base);
        check(&path)?;
        self.create(&path, entry, digest)
    }

    fn origin(&self, unpacked: bool) -> Origin {
        Origin { layer: self.layer, unpacked }
    }

    /// The directory at a resolved path, made if it is not there.
    fn make_parents(&mut self, path: &[Vec<u8>]) -> Result<()> {
        let mut node = Some(self.disk.root());
        for (n, component) in path.iter().enumerate() {
            node = match node.and_then(|node| self.disk.look_up(&node, component)) {
                Some(found) if self.disk.inode(&found).file_type() == FileType::Directory => Some(found),
                Some(_) => return Err(refused("it lies beneath something that is no directory")),
                None => {
                    self.make_parent(&path[..=n])?;
                    find(self.disk, &path[..=n])?
                }
            };
        }
        Ok(())
    }

    /// A directory that something lies in and no entry describes: as the nearest layer below that has it, or plain.
    fn make_parent(&mut self, path: &[Vec<u8>]) -> Result<()> {
        let mut made = self.born(path, FileType::Directory, PARENT_MODE)?;
        if let Whiteouts::Devices(parents) = self.whiteouts {
            for parent in parents.iter().rev() {
                let resolved = resolve(parent, Text::rooted(path))?;
                let Some(model) = find(parent, &resolved)?.map(|found| parent.inode(found)) else { continue };
                if model.file_type() == FileType::Directory {
                    made.chown(model.uid, model.gid);
                    made.chmod(model.mode.permissions());
                    for xattr in &model.xattrs {
                        made.put_xattr(&xattr.name, &xattr.value);
                    }
                }
                break;
            }
        }
        self.disk.create(path, made, self.origin(false))
    }

    /// A new inode for a path, not yet there.
    fn born(&self, path: &[Vec<u8>], file_type: FileType, permissions: u32) -> Result<Inode> {
        let parent = find(self.disk, split(path)?.1)?.ok_or_else(|| refused("its directory is not there"))?;
        Ok(Inode::born(self.disk.inode(&parent), file_type, permissions, self.layer))
    }

    /// Nothing of the layers below shows in a directory; what this layer has put there stays.
    fn make_opaque(&mut self, directory: &[Vec<u8>]) -> Result<()> {
        if let Whiteouts::Devices(_) = self.whiteouts {
            let inode = self.disk.change(directory)?;
            inode.make_opaque();
            inode.layer = self.layer;
            return Ok(());
        }
        let mut directories: Vec<Path> = vec![directory.to_vec()];
        while let Some(directory) = directories.pop() {
            let Some(node) = find(self.disk, &directory)? else { continue };
            for (name, origin) in self.disk.names(&node) {
                let path = [directory.as_slice(), &[name]].concat();
                match self.is_own(origin) || self.seen.contains(&seen_as(&path)) {
                    true => directories.push(path),
                    false => self.remove(&path)?,
                }
            }
        }
        Ok(())
    }

    fn is_own(&self, origin: Origin) -> bool {
        origin.unpacked && origin.layer == self.layer
    }

    /// Removes a path and what lies beneath it. What this layer had entries for stays seen.
    fn remove(&mut self, path: &[Vec<u8>]) -> Result<()> {
        let mut pending = vec![path.to_vec()];
        while let Some(path) = pending.pop().filter(|_| matches!(self.whiteouts, Whiteouts::Remove)) {
            let (name, above) = split(&path)?;
            let Some(parent) = find(self.disk, above)? else { continue };
            let Some(node) = self.disk.look_up(&parent, name) else { continue };
            let own = self.disk.origin(&parent, name).is_some_and(|origin| self.is_own(origin));
            let beneath = self.disk.names(&node).into_iter();
            pending.extend(beneath.map(|(name, _)| [path.as_slice(), &[name]].concat()));
            if own {
                self.seen.insert(seen_as(&path));
            }
        }
        self.disk.remove(path)
    }

    fn white_out(&mut self, gone: &[Vec<u8>], entry: &Entry) -> Result<()> {
        if let Whiteouts::Remove = self.whiteouts {
            return self.remove(gone);
        }
        if find(self.disk, gone)?.is_some() {
            return Err(refused(
                "a whiteout of what the same layer has: containerd does not unpack that as an overlay",
            ));
        }
        let mut whiteout = self.born(gone, FileType::CharDevice, 0)?;
        whiteout.chown(entry.uid, entry.gid);
        self.disk.create(gone, whiteout, self.origin(false))
    }

    fn create(&mut self, path: &[Vec<u8>], entry: &Entry, digest: Option<Digest>) -> Result<()> {
        let is_directory = matches!(&entry.kind, EntryKind::Special { file_type: FileType::Directory, .. });
        let present = find(self.disk, path)?.map(|node| self.disk.inode(&node).file_type());
        let origin = self.origin(true);
        if present == Some(FileType::Directory) && is_directory {
            self.disk.note(path, origin)?;
            return self.set_attributes(path, entry);
        }
        if present.is_some() {
            self.remove(path)?;
        }
        let inode = match &entry.kind {
            EntryKind::Global => {
                self.seen.insert(seen_as(path));
                return Ok(());
            }
            EntryKind::Link(target) => {
                let target = self.link_target(target)?;
                self.disk.link(&target, path, origin)?;
                return self.set_attributes(path, entry);
            }
            EntryKind::File(size) => {
                let mut file = self.born(path, FileType::Regular, entry.permissions)?;
                (file.size, file.digest) = (*size, digest);
                file
            }
            EntryKind::Special { file_type, target, device } => {
                if *file_type == FileType::Symlink && (target.is_empty() || target.contains(&0)) {
                    return Err(refused("a symlink to nothing"));
                }
                let mut special = self.born(path, *file_type, entry.permissions)?;
                special.target = target.as_slice().into();
                if is_device(entry) {
                    special.device = device_of(*device);
                }
                special
            }
        };
        self.disk.create(path, inode, origin)?;
        self.set_attributes(path, entry)
    }

    /// What a hard link leads to.
    fn link_target(&self, target: &[u8]) -> Result<Path> {
        let slash = target.iter().rposition(|&byte| byte == b'/').map_or(0, |n| n + 1);
        let (above, base) = target.split_at(slash);
        let mut path = resolve(self.disk, Text::new(above))?;
        match base {
            b"" | b"." => {}
            b".." => drop(path.pop()),
            base => path.push(base.to_vec()),
        }
        let shown = Escaped(target);
        match find(self.disk, &path)?.filter(|_| !path.is_empty()).map(|node| self.disk.inode(&node).file_type()) {
            None => Err(refused(&format!("a hard link to {shown}, which is not there"))),
            Some(FileType::Directory) => Err(refused(&format!("a hard link to {shown}, a directory"))),
            Some(_) => Ok(path),
        }
    }

    /// Owner, attributes, mode: in that order, as one undoes what another set.
    fn set_attributes(&mut self, path: &[Vec<u8>], entry: &Entry) -> Result<()> {
        let layer = self.layer;
        let inode = self.disk.change(path)?;
        inode.layer = layer;
        inode.chown(entry.uid, entry.gid);
        for xattr in &entry.xattrs {
            inode.put_xattr(&xattr.name, &xattr.value);
        }
        inode.chmod(entry.permissions);
        Ok(())
    }
}

/// A path among those that were seen.
fn seen_as(path: &[Vec<u8>]) -> Digest {
    Digest::of(&path.join(&b'/'))
}

fn is_device(entry: &Entry) -> bool {
    matches!(&entry.kind, EntryKind::Special { file_type: FileType::CharDevice | FileType::BlockDevice, .. })
}

/// The kernel's numbers: 12 bits for the major, 20 for the minor.
fn device_of((major, minor): (u32, u32)) -> (u32, u32) {
    (major & 0xfff, minor & 0xf_ffff)
}
