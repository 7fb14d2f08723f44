// SPDX-License-Identifier: Apache-2.0
//! An overlay that is mounted, as the kernel changes its upper layer.
//!
//! What is changed of a layer below is copied up first, with everything above it. Where something of a layer below is
//! removed, a whiteout takes its place; a directory in place of a whiteout is opaque. What the kernel notes for itself
//! is left out, and so are marks that hide nothing.

use super::disk::{Disk, Origin, split};
use super::merged::{Merged, Shown};
use super::path::{Text, find, resolve};
use super::refused;
use super::tree::{Inode, Name, ROOT, Tree};
use crate::error::Result;
use crate::inode::FileType;
use crate::manifest::Mode;

/// See the [module](self).
pub struct OverlayMount<'a> {
    /// From the bottom; the last one is the upper layer.
    pub trees: &'a mut [Tree],
    /// The number of the layer that is the upper one.
    pub layer: u32,
}

impl OverlayMount<'_> {
    /// Sets the times of directories, by the names that their entries have: as the last thing, and so through symlinks
    /// that came after them. A time is nothing that is recorded, but what has one set is copied up.
    pub fn touch(&mut self, directories: &[Vec<u8>]) -> Result<()> {
        for name in directories {
            let path = resolve(self, Text::new(name).clean())?;
            if find(self, &path)?.is_some() {
                self.copy_up(&path)?;
            }
        }
        Ok(())
    }

    fn top(&self) -> usize {
        self.trees.len() - 1
    }

    fn upper(&mut self) -> &mut Tree {
        let top = self.top();
        &mut self.trees[top]
    }

    /// What lies at a path, in the upper layer: with it everything above, as it is in the layers below.
    fn copy_up(&mut self, path: &[Vec<u8>]) -> Result<u32> {
        let mut shown = self.root();
        let mut inode = ROOT;
        for part in path {
            shown = self.look_up(&shown, part).ok_or_else(|| refused("it lies beneath what is not there"))?;
            inode = match shown.tree == self.top() {
                true => shown.name.inode,
                false => {
                    let copy = Disk::inode(self, &shown).copied(self.layer);
                    let origin = Origin { layer: self.layer, unpacked: false };
                    self.put(inode, part, copy, origin)
                }
            };
        }
        Ok(inode)
    }

    /// Adds an inode to a directory of the upper layer.
    fn put(&mut self, directory: u32, name: &[u8], inode: Inode, origin: Origin) -> u32 {
        let upper = self.upper();
        let inode = upper.add(inode);
        upper.link(directory, name, origin.name(inode));
        inode
    }

    /// Frees a name of the upper layer; says whether a whiteout was there.
    fn clear(&mut self, directory: u32, name: &[u8]) -> bool {
        let upper = self.upper();
        let whiteout = upper.look_up(directory, name).is_some_and(|name| upper.inode(name.inode).is_whiteout());
        upper.remove(directory, name);
        whiteout
    }

    /// Whether a directory of the layers below has something of that name.
    fn is_below(&self, directory: &Shown, name: &[u8]) -> bool {
        let below: Vec<_> = directory.stack.iter().copied().filter(|&(tree, _)| tree != self.top()).collect();
        Merged::new(self.trees).look_up(&below, name).is_some()
    }
}

impl Disk for OverlayMount<'_> {
    type Node = Shown;

    fn root(&self) -> Shown {
        let name = Name { inode: ROOT, layer: self.layer, unpacked: false };
        Shown { tree: self.top(), name, stack: Merged::new(self.trees).root() }
    }

    fn look_up(&self, directory: &Shown, name: &[u8]) -> Option<Shown> {
        Merged::new(self.trees).look_up(&directory.stack, name)
    }

    fn origin(&self, directory: &Shown, name: &[u8]) -> Option<Origin> {
        self.look_up(directory, name).map(|shown| Origin::of(shown.name))
    }

    fn inode(&self, node: &Shown) -> &Inode {
        self.trees[node.tree].inode(node.name.inode)
    }

    fn names(&self, directory: &Shown) -> Vec<(Vec<u8>, Origin)> {
        let listed = Merged::new(self.trees).list(&directory.stack);
        listed.into_iter().map(|(name, shown)| (name.to_vec(), Origin::of(shown.name))).collect()
    }

    fn create(&mut self, path: &[Vec<u8>], mut inode: Inode, origin: Origin) -> Result<()> {
        let (name, above) = split(path)?;
        let directory = self.copy_up(above)?;
        if self.clear(directory, name) && inode.file_type() == FileType::Directory {
            inode.make_opaque();
        }
        self.put(directory, name, inode, origin);
        Ok(())
    }

    fn link(&mut self, target: &[Vec<u8>], path: &[Vec<u8>], origin: Origin) -> Result<()> {
        let (name, above) = split(path)?;
        let (inode, directory) = (self.copy_up(target)?, self.copy_up(above)?);
        self.clear(directory, name);
        self.upper().link(directory, name, origin.name(inode));
        Ok(())
    }

    fn remove(&mut self, path: &[Vec<u8>]) -> Result<()> {
        let (name, above) = split(path)?;
        let Some(parent) = find(self, above)?.filter(|parent| self.look_up(parent, name).is_some()) else {
            return Ok(());
        };
        let directory = self.copy_up(above)?;
        self.clear(directory, name);
        if self.is_below(&parent, name) {
            let whiteout = Inode::new(Mode::new(FileType::CharDevice, 0), self.layer);
            self.put(directory, name, whiteout, Origin { layer: self.layer, unpacked: false });
        }
        Ok(())
    }

    fn change(&mut self, path: &[Vec<u8>]) -> Result<&mut Inode> {
        let inode = self.copy_up(path)?;
        Ok(self.upper().inode_mut(inode))
    }

    fn note(&mut self, path: &[Vec<u8>], origin: Origin) -> Result<()> {
        let (name, above) = split(path)?;
        let (inode, directory) = (self.copy_up(path)?, self.copy_up(above)?);
        self.upper().rename(directory, name, origin.name(inode));
        Ok(())
    }
}
