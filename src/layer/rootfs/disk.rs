// SPDX-License-Identifier: Apache-2.0
//! What an applier writes to: a directory ([`Tree`]), or an overlay that is mounted.

use super::path::find;
use super::refused;
use super::tree::{Inode, Name, ROOT, Tree};
use crate::error::Result;

/// Who put a name where it is.
#[derive(Debug, Clone, Copy)]
pub struct Origin {
    /// See [`Name::layer`].
    pub layer: u32,
    /// See [`Name::unpacked`].
    pub unpacked: bool,
}

impl Origin {
    pub fn of(name: Name) -> Self {
        Self { layer: name.layer, unpacked: name.unpacked }
    }

    pub fn name(self, inode: u32) -> Name {
        Name { inode, layer: self.layer, unpacked: self.unpacked }
    }
}

/// See the [module](self). Paths are resolved, and what is to have a new name in it is a directory.
pub trait Disk {
    /// What lies at a path.
    type Node: Clone;

    /// The root.
    fn root(&self) -> Self::Node;

    /// A name in a directory; none also if it is no directory.
    fn look_up(&self, directory: &Self::Node, name: &[u8]) -> Option<Self::Node>;

    /// Who put a name into a directory.
    fn origin(&self, directory: &Self::Node, name: &[u8]) -> Option<Origin>;

    /// Which inode lies there.
    fn inode(&self, node: &Self::Node) -> &Inode;

    /// The names in a directory, and who put them there.
    fn names(&self, directory: &Self::Node) -> Vec<(Vec<u8>, Origin)>;

    /// Gives a new inode a name that is free.
    fn create(&mut self, path: &[Vec<u8>], inode: Inode, origin: Origin) -> Result<()>;

    /// Gives what lies at a path another name, which is free.
    fn link(&mut self, target: &[Vec<u8>], path: &[Vec<u8>], origin: Origin) -> Result<()>;

    /// Removes a name, and everything beneath it; that there is none is fine.
    fn remove(&mut self, path: &[Vec<u8>]) -> Result<()>;

    /// The inode at a path, to be changed.
    fn change(&mut self, path: &[Vec<u8>]) -> Result<&mut Inode>;

    /// Notes of a name that is there who put it there last.
    fn note(&mut self, path: &[Vec<u8>], origin: Origin) -> Result<()>;
}

/// The name at the end of a path, and what is above it.
pub fn split(path: &[Vec<u8>]) -> Result<(&[u8], &[Vec<u8>])> {
    let (name, above) = path.split_last().ok_or_else(|| refused("it is the root"))?;
    Ok((name, above))
}

impl Tree {
    fn at(&self, path: &[Vec<u8>]) -> Result<u32> {
        find(self, path)?.ok_or_else(|| refused("it lies beneath what is not there"))
    }
}

impl Disk for Tree {
    type Node = u32;

    fn root(&self) -> u32 {
        ROOT
    }

    fn look_up(&self, directory: &u32, name: &[u8]) -> Option<u32> {
        Tree::look_up(self, *directory, name).map(|name| name.inode)
    }

    fn origin(&self, directory: &u32, name: &[u8]) -> Option<Origin> {
        Tree::look_up(self, *directory, name).map(Origin::of)
    }

    fn inode(&self, node: &u32) -> &Inode {
        Tree::inode(self, *node)
    }

    fn names(&self, directory: &u32) -> Vec<(Vec<u8>, Origin)> {
        Tree::names(self, *directory).map(|(name, found)| (name.to_vec(), Origin::of(found))).collect()
    }

    fn create(&mut self, path: &[Vec<u8>], inode: Inode, origin: Origin) -> Result<()> {
        let (name, above) = split(path)?;
        let directory = self.at(above)?;
        let inode = self.add(inode);
        Tree::link(self, directory, name, origin.name(inode));
        Ok(())
    }

    fn link(&mut self, target: &[Vec<u8>], path: &[Vec<u8>], origin: Origin) -> Result<()> {
        let (name, above) = split(path)?;
        let (inode, directory) = (self.at(target)?, self.at(above)?);
        Tree::link(self, directory, name, origin.name(inode));
        Ok(())
    }

    fn remove(&mut self, path: &[Vec<u8>]) -> Result<()> {
        let (name, above) = split(path)?;
        if let Some(directory) = find(self, above)? {
            Tree::remove(self, directory, name);
        }
        Ok(())
    }

    fn change(&mut self, path: &[Vec<u8>]) -> Result<&mut Inode> {
        let inode = self.at(path)?;
        Ok(self.inode_mut(inode))
    }

    fn note(&mut self, path: &[Vec<u8>], origin: Origin) -> Result<()> {
        let (name, above) = split(path)?;
        let (inode, directory) = (self.at(path)?, self.at(above)?);
        self.rename(directory, name, origin.name(inode));
        Ok(())
    }
}
