// SPDX-License-Identifier: Apache-2.0
//! Which differences between an image and what is unpacked of it are damage: one notion for verifying, repairing and
//! sealing.
//!
//! **An image that nobody has touched has no finding, on whatever host it lies.** Three kinds of knowledge meet here:
//! what the layers say ([`Rootfs`]), what overlayfs makes of a layer's directory (the layers [below](below), marks and
//! whiteouts), and what host and filesystem keep or add ([kept](kept)).

mod below;
mod kept;
mod layer;

pub use kept::Hosts;
pub use layer::LayerRules;

use std::path::PathBuf;

use self::kept::Kept;
use super::Images;
use crate::containerd::Image;
use crate::error::Result;
use crate::host;
use crate::inode::FileType;
use crate::layer::{Marks, Rootfs, Unpacking, is_opaque_name};
use crate::manifest::{Mode, Resource};
use crate::mount::Mount;
use crate::ops::{Rules, Settled, compare};
use crate::snapshotter::Labels;
use crate::tree::Root;

/// Permissions of a directory that no entry describes and no layer below has.
const PLAIN_MODE: u32 = 0o755;

/// The set-group-ID bit.
const SETGID: u32 = 0o2000;

/// Labels of layers that a lazy snapshotter shows: its filesystem hides what only it needs.
const LAZY_LABELS: [&str; 2] = ["containerd.io/snapshot/remote", "containerd.io/snapshot/stargz/toc.digest"];

/// What eStargz adds to a layer, and the snapshotter's filesystem does not show.
const LAZY_FILES: [&[u8]; 3] = [b"/stargz.index.json", b"/.prefetch.landmark", b"/.no.prefetch.landmark"];

/// What a snapshotter tells of how the layers of an image came to be.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// For each layer, from the bottom, whether it may have been unpacked without those below it.
    alone: Vec<bool>,
    /// Whether a lazy snapshotter shows it.
    pub lazy: bool,
}

impl Origin {
    /// Of one layer, counted from 0, whose snapshot has these labels.
    pub fn of_layer(layer: usize, labels: &Labels) -> Self {
        let mut alone = vec![false; layer];
        alone.push(unpacked_alone(labels));
        Self { alone, lazy: false }
    }

    fn any_alone(&self) -> bool {
        self.alone.contains(&true)
    }

    /// Whether a layer, counted from 0, may have been unpacked without those below it.
    pub fn alone(&self, layer: usize) -> bool {
        self.alone.get(layer).copied().unwrap_or_default()
    }
}

impl Images {
    /// How an image that is seen through these mounts came to be in a snapshotter, by the labels of its layers. One
    /// that does not answer tells nothing.
    pub(super) fn origin(&self, image: &Image, snapshotter: &str, mounts: &[Mount]) -> Origin {
        let mut origin = Origin::default();
        for layer in &image.layers {
            let labels = self.client.snapshot(snapshotter, &layer.chain_id.to_string()).map(|snapshot| snapshot.labels);
            let has = |label: &str| labels.as_ref().is_ok_and(|labels| labels.contains_key(label));
            origin.alone.push(labels.as_ref().is_ok_and(unpacked_alone));
            origin.lazy |= LAZY_LABELS.into_iter().any(has);
        }
        // An image's own annotations become labels, whatever unpacks it.
        origin.lazy &= mounts.iter().any(shows_fuse);
        origin
    }
}

/// Whether a mount shows what a FUSE filesystem shows.
fn shows_fuse(mount: &Mount) -> bool {
    let is_fuse = |directory: PathBuf| Root::open(&directory).and_then(|root| root.is_on_fuse()).unwrap_or_default();
    mount.kind.starts_with("fuse") || mount.directories().into_iter().any(is_fuse)
}

/// Whether a layer whose snapshot has these labels may have been unpacked without those below it.
pub fn unpacked_alone(labels: &Labels) -> bool {
    labels.contains_key(crate::labels::PARENT_CHAIN_ID)
}

/// Which differences of a whole root filesystem count.
pub struct RootfsRules<'a> {
    rootfs: &'a Rootfs,
    kept: Kept<'a>,
    origin: Origin,
    /// The only layer of an image: the view of an overlay snapshotter is its own directory.
    is_bottom: bool,
}

impl<'a> RootfsRules<'a> {
    /// For the root filesystem that `root` shows.
    pub fn new(rootfs: &'a Rootfs, root: &'a Root, origin: Origin) -> Self {
        let is_bottom = rootfs.layers() == 1 && rootfs.unpacking() != Unpacking::Copied;
        Self { rootfs, kept: Kept::new(root, Hosts::Expected), origin, is_bottom }
    }
}

impl Rules for RootfsRules<'_> {
    fn settle(&self, path: &[u8], expected: Option<&Resource>, found: Option<&Resource>) -> Result<Settled> {
        // What overlayfs takes for a whiteout or a mark hides nothing there, and is shown to no container.
        let marks = Marks::of(self.rootfs.unpacking());
        if self.is_bottom && [expected, found].into_iter().flatten().all(|one| marks.is_whiteout(one)) {
            return Ok(Settled::Same);
        }
        let slash = path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
        let above = || self.rootfs.find(&path[..slash]).map(|above| above.resource);
        let Some(expected) = expected else {
            let is_socket = found.is_some_and(|found| found.mode.file_type() == FileType::Socket);
            // What lies in an extra directory goes with it.
            let stays = slash == 0 || above().is_some_and(|above| above.mode.file_type() == FileType::Directory);
            return Ok(if is_socket && stays { Settled::Same } else { Settled::Differs });
        };
        if self.origin.lazy && found.is_none() && LAZY_FILES.contains(&path) {
            return Ok(Settled::Same);
        }
        // Of most files there is nothing to be said.
        let plain = expected.xattrs.is_empty() && found.is_some_and(|found| found.xattrs.is_empty());
        if plain && (expected.mode.file_type() != FileType::Directory || !self.origin.any_alone()) {
            return Ok(Settled::Differs);
        }
        let mut settled = Resource { xattrs: self.kept.settle(expected, found)?, ..expected.clone() };
        if let Some(found) = found.filter(|_| self.is_bottom) {
            with_marks_of(&mut settled, found, is_opaque_name);
        }
        let implied = || self.rootfs.implied(path).is_some_and(|layer| self.origin.alone(layer));
        if let Some(found) = found
            && expected.mode.file_type() == FileType::Directory
            && implied()
        {
            settle_plain(&mut settled, found, above().as_ref());
        }
        Ok(Settled::Expect(Box::new(settled)))
    }

    fn keeps_links(&self, resource: &Resource) -> bool {
        // A snapshotter that copies directories, and is not known to, keeps hard links of files alone.
        let may_be_copied = self.rootfs.unpacking() == Unpacking::Mounted && self.rootfs.layers() > 1;
        !may_be_copied || resource.mode.file_type() == FileType::Regular
    }
}

/// Takes a directory that no entry describes for what is expected if it is as containerd makes it beneath `above`: of
/// that, it inherits the group.
fn settle_plain(settled: &mut Resource, found: &Resource, above: Option<&Resource>) {
    let inherited = above.filter(|above| above.mode.permissions() & SETGID != 0);
    let mode = Mode::new(FileType::Directory, PLAIN_MODE);
    let owner = (0, inherited.map_or(0, |above| above.gid));
    if (found.uid, found.gid) == owner && found.mode == mode && found.xattrs.iter().all(|xattr| host::owns(&xattr.name))
    {
        (settled.uid, settled.gid, settled.mode) = (found.uid, found.gid, found.mode);
        settled.xattrs.retain(|xattr| host::owns(&xattr.name));
    }
}

/// Takes those marks of overlayfs that are meant as they were found.
fn with_marks_of(settled: &mut Resource, found: &Resource, is_meant: fn(&[u8]) -> bool) {
    settled.xattrs.retain(|xattr| !is_meant(&xattr.name));
    settled.xattrs.extend(found.xattrs.iter().filter(|xattr| is_meant(&xattr.name)).cloned());
    settled.xattrs.sort_by(|a, b| a.name.cmp(&b.name));
}

/// Whether two resources differ in anything but their paths.
fn differs(expected: &Resource, found: &Resource) -> bool {
    let mut any = false;
    let mut note = |_| {
        any = true;
        Ok(())
    };
    compare(&[], expected, found, false, &mut note).is_err() || any
}

#[cfg(test)]
mod tests;
