// SPDX-License-Identifier: Apache-2.0
//! What containerd does with an entry of a layer's tar (`archive.Apply` of 1.6), done to trees in memory.
//!
//! Names are contained as there: cleaned, and resolved beneath the root through the symlinks of the tree.

use super::tree::{Inode, Name, ROOT, Tree};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Escaped, Result};
use crate::inode::{FileType, Xattr};
use crate::layer::{Entry, EntryKind};
use crate::manifest::{Mode, is_clean};

/// Symlinks that one name may lead through.
const LINKS_MAX: usize = 255;

/// Begins a name that says that another is gone.
const WHITEOUT: &[u8] = b".wh.";

/// The name that says that nothing of the layers below shows in its directory.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Mode of a directory that no tar has.
const PARENT_MODE: u32 = 0o755;

/// Attributes that are never unpacked, nor copied.
const TRUSTED: &[u8] = b"trusted.";

/// What a change of the owner takes from a file.
const CAPABILITY: &[u8] = b"security.capability";

/// Components of a path beneath the root, resolved.
type Path = Vec<Vec<u8>>;

/// One layer on its way into its tree.
pub struct Unpack<'a> {
    pub tree: &'a mut Tree,
    /// The layers below, from the bottom; each a tree of its own.
    pub parents: &'a [Tree],
    /// Whiteouts become devices, and parents take after those of the layers below.
    pub overlay: bool,
    /// From the bottom, beginning with 0.
    pub layer: usize,
}

impl Unpack<'_> {
    /// Applies one entry; `digest` is that of its contents.
    ///
    /// # Errors
    /// `InvalidInput`, naming the entry, where containerd fails.
    pub fn apply(&mut self, entry: &Entry, digest: Option<Digest>) -> Result<()> {
        self.apply_entry(entry, digest).map_err(|error| error.context(Escaped(&entry.name)))
    }

    fn apply_entry(&mut self, entry: &Entry, digest: Option<Digest>) -> Result<()> {
        if entry.name.contains(&0) {
            return Err(refused("a name with a NUL byte"));
        }
        let components = clean(&entry.name);
        // The root itself, by whatever name, stays as it is.
        let Some((base, parents)) = components.split_last().filter(|(base, _)| base.as_slice() != b"..") else {
            return Ok(());
        };
        let parent = resolve(self.tree, parents)?;
        let parent = self.make_parents(&parent)?;
        if base == OPAQUE {
            self.make_opaque(parent);
            return Ok(());
        }
        if let Some(gone) = base.strip_prefix(WHITEOUT) {
            return self.white_out(parent, gone, entry);
        }
        self.create(parent, base, entry, digest)
    }

    /// The directory at a resolved path, made if it is not there.
    fn make_parents(&mut self, path: &[Vec<u8>]) -> Result<u32> {
        let mut directory = ROOT;
        for (n, component) in path.iter().enumerate() {
            directory = match self.tree.look_up(directory, component) {
                Some(name) if self.tree.inode(name.inode).file_type() == FileType::Directory => name.inode,
                Some(_) => return Err(refused("it lies beneath something that is no directory")),
                None => self.make_parent(directory, &path[..=n])?,
            };
        }
        Ok(directory)
    }

    /// A directory that something lies in and no entry describes: as the nearest layer below that has it, or plain.
    fn make_parent(&mut self, above: u32, path: &[Vec<u8>]) -> Result<u32> {
        let mut made = Inode::new(Mode::new(FileType::Directory, PARENT_MODE), self.layer as u32);
        for parent in self.parents.iter().rev().filter(|_| self.overlay) {
            let resolved = resolve(parent, path)?;
            let Some(found) = walk(parent, &resolved)? else { continue };
            let model = parent.inode(found);
            if model.file_type() == FileType::Directory {
                (made.mode, made.uid, made.gid) = (model.mode, model.uid, model.gid);
                made.xattrs = model.xattrs.iter().filter(|xattr| !xattr.name.starts_with(TRUSTED)).cloned().collect();
            }
            break;
        }
        let inode = self.tree.create(made);
        let name = path.last().map_or(&b""[..], Vec::as_slice);
        self.tree.link(above, name, Name { inode, layer: self.layer as u32, unpacked: false });
        Ok(inode)
    }

    /// Nothing of the layers below shows in a directory; what this layer has put there stays.
    fn make_opaque(&mut self, directory: u32) {
        if self.overlay {
            let inode = self.tree.inode_mut(directory);
            inode.make_opaque();
            inode.layer = self.layer as u32;
            return;
        }
        let mut directories = vec![directory];
        while let Some(directory) = directories.pop() {
            let ours = |name: &Name| name.unpacked && name.layer as usize == self.layer;
            let (kept, gone): (Vec<_>, Vec<_>) =
                self.tree.names(directory).map(|(name, entry)| (name.to_vec(), entry)).partition(|(_, e)| ours(e));
            for (name, _) in gone {
                self.tree.remove(directory, &name);
            }
            directories.extend(kept.into_iter().map(|(_, entry)| entry.inode));
        }
    }

    fn white_out(&mut self, parent: u32, gone: &[u8], entry: &Entry) -> Result<()> {
        if matches!(gone, b"" | b"." | b"..") {
            return Err(refused("a whiteout of no name"));
        }
        if !self.overlay {
            self.tree.remove(parent, gone);
            return Ok(());
        }
        if self.tree.look_up(parent, gone).is_some() {
            return Err(refused(
                "a whiteout of what the same layer has: containerd does not unpack that as an overlay",
            ));
        }
        let mut whiteout = Inode::new(Mode::new(FileType::CharDevice, 0), self.layer as u32);
        (whiteout.uid, whiteout.gid) = (entry.uid, entry.gid);
        let inode = self.tree.create(whiteout);
        self.tree.link(parent, gone, Name { inode, layer: self.layer as u32, unpacked: false });
        Ok(())
    }

    fn create(&mut self, parent: u32, base: &[u8], entry: &Entry, digest: Option<Digest>) -> Result<()> {
        let is_directory = matches!(&entry.kind, EntryKind::Special { file_type: FileType::Directory, .. });
        let present = self.tree.look_up(parent, base);
        let merged =
            present.filter(|name| is_directory && self.tree.inode(name.inode).file_type() == FileType::Directory);
        if merged.is_none() && present.is_some() {
            self.tree.remove(parent, base);
        }
        let inode = match (&entry.kind, merged) {
            (_, Some(name)) => name.inode,
            (EntryKind::Link(target), None) => self.link_target(target)?,
            (EntryKind::File(size), None) => {
                let mut file = Inode::new(Mode::new(FileType::Regular, 0), 0);
                (file.size, file.digest) = (*size, digest);
                self.tree.create(file)
            }
            (EntryKind::Special { file_type, target, device }, None) => {
                if *file_type == FileType::Symlink && (target.is_empty() || target.contains(&0)) {
                    return Err(refused("a symlink to nothing"));
                }
                let mut special = Inode::new(Mode::new(*file_type, 0), 0);
                special.target = target.as_slice().into();
                if matches!(file_type, FileType::CharDevice | FileType::BlockDevice) {
                    special.device = device_of(*device);
                }
                self.tree.create(special)
            }
        };
        let name = Name { inode, layer: self.layer as u32, unpacked: true };
        match merged {
            Some(_) => self.tree.rename(parent, base, name),
            None => self.tree.link(parent, base, name),
        }
        self.set_attributes(inode, entry);
        Ok(())
    }

    /// What a hard link leads to.
    fn link_target(&self, target: &[u8]) -> Result<u32> {
        let slash = target.iter().rposition(|&byte| byte == b'/').map_or(0, |n| n + 1);
        let (above, base) = target.split_at(slash);
        let mut path = resolve(self.tree, &clean(above))?;
        match base {
            b"" | b"." => {}
            b".." => drop(path.pop()),
            base => path.push(base.to_vec()),
        }
        let shown = Escaped(target);
        let found = walk(self.tree, &path)?.filter(|_| !path.is_empty());
        let Some(inode) = found else { return Err(refused(&format!("a hard link to {shown}, which is not there"))) };
        match self.tree.inode(inode).file_type() {
            FileType::Directory => Err(refused(&format!("a hard link to {shown}, a directory"))),
            _ => Ok(inode),
        }
    }

    /// Owner, attributes, mode: in that order, as one undoes what another set.
    fn set_attributes(&mut self, number: u32, entry: &Entry) {
        let inode = self.tree.inode_mut(number);
        let file_type = inode.file_type();
        (inode.uid, inode.gid, inode.layer) = (entry.uid, entry.gid, self.layer as u32);
        if file_type == FileType::Regular {
            inode.xattrs.retain(|xattr| xattr.name != CAPABILITY);
        }
        if matches!(file_type, FileType::Regular | FileType::Directory) {
            let kept = |xattr: &&Xattr| !xattr.name.starts_with(TRUSTED);
            for xattr in entry.xattrs.iter().filter(kept) {
                inode.set_xattr(&xattr.name, &xattr.value);
            }
        }
        inode.mode = Mode::new(file_type, entry.permissions);
    }
}

/// The kernel's numbers: 12 bits for the major, 20 for the minor.
fn device_of((major, minor): (u32, u32)) -> (u32, u32) {
    (major & 0xfff, minor & 0xf_ffff)
}

/// Cleaned as Go's `filepath.Clean` does, beneath a root: `.` and empty components go, `..` takes one away; where
/// there is none to take, it stays at the beginning and means the root.
fn clean(name: &[u8]) -> Path {
    let mut path: Path = Vec::new();
    let rooted = name.first() == Some(&b'/');
    for component in name.split(|&byte| byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => match path.last().map(Vec::as_slice) {
                Some(b"..") => path.push(component.to_vec()),
                Some(_) => drop(path.pop()),
                None if rooted => {}
                None => path.push(component.to_vec()),
            },
            component => path.push(component.to_vec()),
        }
    }
    path
}

/// Resolves a path as if the tree's root were the root of everything. What does not exist is no symlink.
fn resolve(tree: &Tree, path: &[Vec<u8>]) -> Result<Path> {
    let mut pending: Vec<Vec<u8>> = path.iter().rev().cloned().collect();
    let mut resolved: Path = Vec::new();
    // The inodes of what is resolved, as far as they exist.
    let mut inodes = vec![Some(ROOT)];
    let mut links = 0;
    while let Some(component) = pending.pop() {
        if component == b".." {
            resolved.pop();
            inodes.truncate(resolved.len() + 1);
            continue;
        }
        let above = inodes.last().copied().flatten();
        if above.is_some_and(|above| tree.inode(above).file_type() != FileType::Directory) {
            return Err(refused("it lies beneath something that is no directory"));
        }
        let found = above.and_then(|above| tree.look_up(above, &component));
        match found.map(|name| tree.inode(name.inode)) {
            Some(inode) if inode.file_type() == FileType::Symlink => {
                links += 1;
                if links > LINKS_MAX {
                    return Err(refused("it leads through too many symlinks"));
                }
                if inode.target.first() == Some(&b'/') {
                    resolved.clear();
                    inodes.truncate(1);
                }
                let target = inode.target.split(|&byte| byte == b'/').rev();
                pending.extend(target.filter(|part| !matches!(*part, b"" | b".")).map(<[u8]>::to_vec));
            }
            _ => {
                resolved.push(component);
                inodes.push(found.map(|name| name.inode));
            }
        }
    }
    let bytes: usize = resolved.iter().map(|component| component.len() + 1).sum();
    if bytes > PATH_CHECKED {
        let path = resolved.iter().flat_map(|component| [b"/", component.as_slice()]).collect::<Vec<_>>().concat();
        if !is_clean(&path) {
            return Err(refused("its path is longer or deeper than a manifest may record"));
        }
    }
    Ok(resolved)
}

/// Bytes of a path that need no closer look: a manifest takes every shorter one.
const PATH_CHECKED: usize = 32 << 10;

/// The inode at a resolved path.
fn walk(tree: &Tree, path: &[Vec<u8>]) -> Result<Option<u32>> {
    let mut inode = ROOT;
    for component in path {
        if tree.inode(inode).file_type() != FileType::Directory {
            return Err(refused("it leads beneath something that is no directory"));
        }
        match tree.look_up(inode, component) {
            Some(name) => inode = name.inode,
            None => return Ok(None),
        }
    }
    Ok(Some(inode))
}

fn refused(why: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, why)
}
