// SPDX-License-Identifier: Apache-2.0
//! The directories that an image is unpacked in, and what each should hold.

use std::io::{Read, Write};
use std::path::PathBuf;

use super::LayerRef;
use crate::containerd::Image;
use crate::error::{Error, ErrorKind, Escaped, Result};
use crate::image::rules::{Hosts, LayerRules, Origin, RootfsRules};
use crate::layer::Rootfs;
use crate::mount::Mount;
use crate::ops::{ApplyOptions, ApplyPlan, Rules, plan_by};
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
pub fn of(mounts: &[Mount], image: &Image, snapshotter: &str, origin: &Origin) -> Result<Vec<Part>> {
    if origin.lazy {
        let name = Escaped(snapshotter.as_bytes());
        let message = format!(
            "snapshotter {name} shows layers that it has not unpacked: there is nothing to repair in place; remove the \
             image and pull it again"
        );
        return Err(Error::new(ErrorKind::Unsupported, message));
    }
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
        if root.is_on_fuse()? {
            let message = format!("{}: a FUSE filesystem: cannot repair in place", Escaped::path(&directory));
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
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

    /// Plans what is to be done: about those differences that count.
    ///
    /// # Errors
    /// The directory can't be read.
    pub fn plan(
        &mut self,
        rootfs: &Rootfs,
        origin: &Origin,
        manifest: impl Read,
        threads: usize,
        progress: &Progress,
    ) -> Result<()> {
        let options = ApplyOptions { source: true, prune: true, threads, skip: Vec::new() };
        let rules: &dyn Rules = match self.layer {
            Some(layer) => &LayerRules::of_image(rootfs, layer, &self.root, origin.alone(layer), Hosts::Expected),
            None => &RootfsRules::new(rootfs, &self.root, origin.clone()),
        };
        let planned = plan_by(rules, &self.root, manifest, &options, progress);
        self.plan = planned.map_err(|error| error.context(Escaped::path(&self.directory)))?;
        Ok(())
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
