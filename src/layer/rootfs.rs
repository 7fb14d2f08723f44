// SPDX-License-Identifier: Apache-2.0
//! Layers, one over the other, as containerd unpacks them.
//!
//! [`tree`] is a filesystem in memory with digests for contents; [`unpack`] does to it what containerd does to a
//! [`disk`], call by call: a directory, or a mounted overlay ([`overlay_mount`]). [`attributes`] and [`acl`] are what
//! the kernel makes of attributes, [`copy`] what is copied loses, [`path`] is how names are resolved. [`merged`] looks
//! at several trees as overlayfs would; [`recorded`] keeps a layer for another image.

mod acl;
mod attributes;
mod copy;
mod disk;
mod merged;
mod overlay_mount;
mod path;
mod recorded;
mod tree;
mod unpack;

use std::collections::HashSet;
use std::io::{Read, Write};

pub use self::recorded::Recorded;

use self::merged::Merged;
use self::overlay_mount::OverlayMount;
use self::tree::Tree;
use self::unpack::{Unpack, Whiteouts};
use super::{Entry, EntryKind, Expected, Limits, read};
use crate::digest::{Digest, Hasher};
use crate::error::{Error, ErrorKind, Result};
use crate::host;
use crate::inode::FileType;
use crate::layer::read::read_failed;
use crate::manifest::Resource;
use crate::tree::Progress;

/// Bytes of a file that are hashed at once.
const HASH_BUFFER: usize = 128 << 10;

/// How containerd unpacks: what it does for an unusual tar depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unpacking {
    /// The first layer into a directory; each further one into an empty directory that becomes the upper layer of an
    /// overlay, with whiteouts as devices: overlayfs, continuity.
    Overlay,
    /// Each layer into a directory that shows the layers below it: btrfs, devmapper.
    Mounted,
    /// Each layer into a copy of the layers below it: native.
    Copied,
    /// In a user namespace: the first layer into a directory, each further one through an overlay that is mounted,
    /// whose upper layer the kernel writes.
    Kernel,
}

/// What lies at a path of the root filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What it is, with this one path.
    pub resource: Resource,
    /// The layer that put it there or changed it last, from the bottom, beginning with 0.
    pub layer: usize,
}

/// See the [module](self).
pub struct Rootfs {
    unpacking: Unpacking,
    limits: Limits,
    /// One, or one for each layer, from the bottom.
    trees: Vec<Tree>,
    layers: usize,
    /// Entries of all layers so far.
    entries: u64,
    /// Names of the directories of the present layer, where their times matter.
    directories: Vec<Vec<u8>>,
    /// See [`Unpack::seen`].
    seen: HashSet<Digest>,
}

impl Rootfs {
    /// No layer yet.
    pub fn new(unpacking: Unpacking, limits: Limits) -> Self {
        Self {
            unpacking,
            limits,
            trees: Vec::new(),
            layers: 0,
            entries: 0,
            directories: Vec::new(),
            seen: HashSet::new(),
        }
    }

    /// Reads one more layer, hashing the files in it.
    ///
    /// # Errors
    /// As [`read`](super::read); `InvalidInput` for a tar that containerd would refuse, naming the entry. The rootfs
    /// is of no use then.
    pub fn add(&mut self, blob: impl Read + Send, expected: &Expected, progress: &Progress) -> Result<()> {
        self.begin();
        let limits = self.limits;
        let mut hash = ContentHash::default();
        read(blob, expected, &limits, progress, &mut |entry, contents| {
            let digest = hash.of(&entry, contents)?;
            self.apply(&entry, digest)
        })?;
        self.end()
    }

    /// Adds a layer that was read before.
    ///
    /// # Errors
    /// As [`Rootfs::add`], but for the blob.
    pub fn add_recorded(&mut self, recorded: &mut Recorded) -> Result<()> {
        self.begin();
        recorded.replay(&mut |entry, digest| self.apply(&entry, digest))?;
        self.end()
    }

    /// How it is unpacked.
    pub fn unpacking(&self) -> Unpacking {
        self.unpacking
    }

    /// Layers so far.
    pub fn layers(&self) -> usize {
        self.layers
    }

    /// What lies at a path now, if anything does.
    pub fn find(&self, path: &[u8]) -> Option<Found> {
        self.merged().find(path)
    }

    /// The topmost layer that hides what layers below it may have at a path: by a whiteout, an opaque directory above
    /// it, or something else than a directory there.
    pub fn hidden_by(&self, path: &[u8]) -> Option<usize> {
        // The bottom one hides nothing.
        (1..self.trees.len()).rev().find(|n| self.trees[*n].hides_below(path))
    }

    /// What a layer's own directory has at a path, and whether an entry of its tar put it there, and not only the
    /// need of one for a parent.
    pub fn own(&self, layer: usize, path: &[u8]) -> Option<(Resource, bool)> {
        let tree = self.trees.get(layer)?;
        Merged::new(std::slice::from_ref(tree)).find(path).map(|found| (found.resource, tree.is_unpacked(path)))
    }

    /// What lies at a path of the root filesystem that the first `layers` layers make. Without a directory of their own
    /// ([`Unpacking::Mounted`]) nothing is known of it.
    pub fn find_in(&self, layers: usize, path: &[u8]) -> Option<Found> {
        self.trees.get(..layers).and_then(|trees| Merged::new(trees).find(path))
    }

    /// The names in a directory of that root filesystem; none of anything else.
    pub fn names_of(&self, layers: usize, directory: &[u8]) -> Vec<Vec<u8>> {
        self.trees.get(..layers).map(|trees| Merged::new(trees).names(directory)).unwrap_or_default()
    }

    /// The names that a layer has itself in a directory.
    pub fn own_names(&self, layer: usize, directory: &[u8]) -> Vec<Vec<u8>> {
        let own = self.trees.get(layer).map(std::slice::from_ref);
        own.map(|own| Merged::new(own).names(directory)).unwrap_or_default()
    }

    /// All paths of a layer's own directory that lead where one of them does.
    pub fn own_paths(&self, layer: usize, path: &[u8]) -> Vec<Vec<u8>> {
        let own = self.trees.get(layer).map(std::slice::from_ref);
        own.map(|own| Merged::new(own).paths_of(path)).unwrap_or_default()
    }

    /// Whether paths of the root filesystem that the first `layers` layers make lead to one inode.
    pub fn are_one(&self, layers: usize, paths: &[Vec<u8>]) -> bool {
        self.trees.get(..layers).is_some_and(|trees| Merged::new(trees).are_one(paths))
    }

    /// The topmost layer that has something at a path only because something else lies beneath it; none if an entry of
    /// that layer's tar put it there.
    pub fn implied(&self, path: &[u8]) -> Option<usize> {
        let found = self.merged().find_name(path)?;
        (!found.unpacked).then_some(found.layer as usize)
    }

    /// Writes the manifest of the root filesystem, without the root itself; returns the number of its paths.
    ///
    /// # Errors
    /// What `out` fails with.
    pub fn write_manifest(&self, out: impl Write) -> Result<u64> {
        self.merged().write(out)
    }

    /// Writes the manifest of one layer's own directory, without the root itself: whiteouts are devices 0,0, opaque
    /// directories carry `trusted.overlay.opaque`. Returns the number of its paths.
    ///
    /// # Errors
    /// `InvalidInput` if layers have no directory of their own ([`Unpacking::Mounted`], [`Unpacking::Copied`]); what
    /// `out` fails with.
    pub fn write_layer_manifest(&self, layer: usize, out: impl Write) -> Result<u64> {
        match (self.unpacking, self.trees.get(layer)) {
            (Unpacking::Overlay | Unpacking::Kernel, Some(tree)) => Merged::new(std::slice::from_ref(tree)).write(out),
            _ => Err(Error::new(ErrorKind::InvalidInput, format!("layer {layer} has no directory of its own"))),
        }
    }

    fn merged(&self) -> Merged<'_> {
        Merged::new(&self.trees)
    }

    fn begin(&mut self) {
        let is_one_tree = matches!(self.unpacking, Unpacking::Mounted | Unpacking::Copied);
        if self.trees.is_empty() || !is_one_tree {
            self.trees.push(Tree::new());
        } else {
            self.stack();
        }
        self.layers += 1;
        self.seen.clear();
    }

    /// Makes of it what a writable snapshot on top of it begins with.
    pub fn stack(&mut self) {
        if self.unpacking == Unpacking::Copied {
            self.trees.iter_mut().for_each(copy::copy);
        }
    }

    /// After the last entry of a layer.
    fn end(&mut self) -> Result<()> {
        let directories = std::mem::take(&mut self.directories);
        if self.unpacking == Unpacking::Kernel && self.trees.len() > 1 {
            self.mounted().touch(&directories)?;
        }
        Ok(())
    }

    /// The overlay of all layers, with the present one as the upper.
    fn mounted(&mut self) -> OverlayMount<'_> {
        let layer = self.layers.saturating_sub(1) as u32;
        OverlayMount { trees: &mut self.trees, layer }
    }

    fn apply(&mut self, entry: &Entry, digest: Option<Digest>) -> Result<()> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            let message =
                format!("the layers hold more than {} entries (max_entries allows more)", self.limits.entries);
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        let layer = self.layers.saturating_sub(1) as u32;
        // In a user namespace containerd makes none, and passes over their entries.
        let devices = self.unpacking != Unpacking::Kernel && !host::in_user_namespace();
        if self.unpacking == Unpacking::Kernel && self.trees.len() > 1 {
            if matches!(&entry.kind, EntryKind::Special { file_type: FileType::Directory, .. }) {
                self.directories.push(entry.name.clone());
            }
            let disk = &mut OverlayMount { trees: &mut self.trees, layer };
            return Unpack { disk, whiteouts: Whiteouts::Remove, devices, layer, seen: &mut self.seen }
                .apply(entry, digest);
        }
        let Some((disk, parents)) = self.trees.split_last_mut() else { return Ok(()) };
        // The first layer's mount is a directory, with every snapshotter.
        let whiteouts = match self.unpacking {
            Unpacking::Overlay if !parents.is_empty() => Whiteouts::Devices(parents),
            _ => Whiteouts::Remove,
        };
        Unpack { disk, whiteouts, devices, layer, seen: &mut self.seen }.apply(entry, digest)
    }
}

fn refused(why: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, why)
}

/// Hashes contents, with one buffer for all of them.
#[derive(Default)]
struct ContentHash {
    buffer: Vec<u8>,
    hasher: Hasher,
}

impl ContentHash {
    /// The digest of an entry that has contents.
    fn of(&mut self, entry: &Entry, contents: &mut dyn Read) -> Result<Option<Digest>> {
        if !matches!(entry.kind, EntryKind::File(_)) {
            return Ok(None);
        }
        self.buffer.resize(HASH_BUFFER, 0);
        loop {
            match contents.read(&mut self.buffer).map_err(read_failed)? {
                0 => return Ok(Some(self.hasher.finish())),
                n => self.hasher.update(&self.buffer[..n]),
            }
        }
    }
}

#[cfg(test)]
mod tests;
