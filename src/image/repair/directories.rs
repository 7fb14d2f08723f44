// SPDX-License-Identifier: Apache-2.0
//! The directories that an image is unpacked in, and what each should hold.

use std::io::{Read, Write};
use std::path::PathBuf;

use super::LayerRef;
use crate::containerd::Image;
use crate::error::{Error, ErrorKind, Escaped, Result};
use crate::inode::FileType;
use crate::layer::{BOOKKEEPING, Rootfs, is_whiteout};
use crate::mount::Mount;
use crate::ops::{ApplyOptions, ApplyPlan, Pair, plan_where};
use crate::tree::{Progress, Root};

/// A directory, and what is to be done to it.
pub struct Part {
    /// Where it is.
    pub directory: PathBuf,
    /// The directory, opened.
    pub root: Root,
    /// Empty until it is planned.
    pub plan: ApplyPlan,
    /// Index of the one layer whose own directory it is; none if it shows all of them.
    layer: Option<usize>,
}

/// The directories behind the mounts of a view, from the bottom.
///
/// # Errors
/// `Unsupported` if the snapshotter has none.
pub fn of(mounts: &[Mount], image: &Image, snapshotter: &str) -> Result<Vec<Part>> {
    match mounts {
        [mount] if mount.kind == "overlay" && mount.overlay_directories().len() == image.layers.len() => {
            let directories = mount.overlay_directories().into_iter().rev();
            directories.enumerate().map(|(n, directory)| Part::of_layer(n, directory)).collect()
        }
        [mount] if mount.is_bind() => Ok(vec![Part::open(None, PathBuf::from(&mount.source))?]),
        _ => {
            let kinds: Vec<_> = mounts.iter().map(|mount| mount.kind.as_str()).collect();
            let message = format!(
                "snapshotter {} shows the image by {:?} mounts: there is no directory of its layers to repair; remove \
                 the image and unpack it again",
                Escaped(snapshotter.as_bytes()),
                kinds.join(", ")
            );
            Err(Error::new(ErrorKind::Unsupported, message))
        }
    }
}

impl Part {
    /// The own directory of a layer, counted from 0.
    pub fn of_layer(layer: usize, directory: PathBuf) -> Result<Self> {
        Self::open(Some(layer), directory)
    }

    fn open(layer: Option<usize>, directory: PathBuf) -> Result<Self> {
        let root = Root::open(&directory)?.durable();
        Ok(Self { directory, root, plan: ApplyPlan::default(), layer })
    }

    /// Keeps other repairs away from the directory for as long as this one lives, whatever root they were given.
    ///
    /// # Errors
    /// `FailedPrecondition` if another one has it.
    pub fn lock(&self) -> Result<()> {
        match self.root.lock()? {
            true => Ok(()),
            false => {
                let message = format!("another repair is changing {}", Escaped::path(&self.directory));
                Err(Error::new(ErrorKind::FailedPrecondition, message))
            }
        }
    }

    /// Writes what the directory should hold.
    pub fn write_manifest(&self, rootfs: &Rootfs, out: impl Write) -> Result<u64> {
        match self.layer {
            Some(layer) => rootfs.write_layer_manifest(layer, out),
            None => rootfs.write_manifest(out),
        }
    }

    /// Plans what is to be done. What overlayfs keeps for itself is left alone, and whiteouts count for what they
    /// hide: one that hides nothing may be there or not.
    ///
    /// # Errors
    /// The directory can't be read.
    pub fn plan(&mut self, rootfs: &Rootfs, manifest: impl Read, threads: usize, progress: &Progress) -> Result<()> {
        let leave_xattrs: &[&str] = if self.layer.is_some() { &BOOKKEEPING } else { &[] };
        let options = ApplyOptions { source: true, prune: true, threads, skip: Vec::new(), leave_xattrs };
        let layer = self.layer;
        let hides = |path: &[u8]| layer.is_none_or(|layer| rootfs.hides(layer, path));
        // Of the layer's manifest nothing lies beneath such a directory, so everything in it has to go with it.
        let goes = |path: &[u8]| {
            let slash = path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
            slash > 0 && !self.expects_directory(rootfs, &path[..slash])
        };
        let mut matters = |pair: &Pair<'_>| match pair {
            Pair::Extra(path, found) if found.mode.file_type() == FileType::Socket => goes(path),
            Pair::Extra(path, _) if goes(path) => true,
            Pair::Both(entry, found, ..) if layer.is_some() => !(is_whiteout(&entry.resource) && is_whiteout(found)),
            Pair::Missing(entry) => !is_whiteout(&entry.resource) || hides(entry.path()),
            Pair::Extra(path, found) => !is_whiteout(found) || hides(path),
            _ => true,
        };
        let plan = plan_where(&self.root, manifest, &options, progress, &mut matters)
            .map_err(|error| error.context(Escaped::path(&self.directory)))?;
        self.plan = plan;
        Ok(())
    }

    /// Whether it should have a directory at a path.
    fn expects_directory(&self, rootfs: &Rootfs, path: &[u8]) -> bool {
        let expected = match self.layer {
            Some(layer) => rootfs.own(layer, path).map(|(resource, _)| resource),
            None => rootfs.find(path).map(|found| found.resource),
        };
        expected.is_some_and(|resource| resource.mode.file_type() == FileType::Directory)
    }

    /// Whether nothing is to be done, nor left undone.
    pub fn is_intact(&self) -> bool {
        self.plan.actions.is_empty() && self.plan.unresolved.is_empty()
    }

    /// Index of the layer that a path of it belongs to.
    pub fn layer_index(&self, path: &[u8], image: &Image, rootfs: &Rootfs) -> Option<usize> {
        let top = image.layers.len().checked_sub(1);
        self.layer.or_else(|| rootfs.find(path).map(|found| found.layer)).or(top)
    }

    /// The same, for a person.
    pub fn layer_of(&self, path: &[u8], image: &Image, rootfs: &Rootfs) -> Option<LayerRef> {
        image.layers.get(self.layer_index(path, image, rootfs)?).map(LayerRef::of)
    }

    /// Its name in the quarantine.
    pub fn name(&self) -> String {
        self.layer.map_or_else(|| "rootfs".into(), |layer| format!("layer-{}", layer + 1))
    }
}
