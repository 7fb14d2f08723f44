// SPDX-License-Identifier: Apache-2.0
//! Which image a layer belongs to, and what its own directory should hold.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;

use super::derive::{of_layer, spool};
use super::rules::unpacked_alone;
use super::view::unpacking_here;
use super::{Hosts, Images, LayerRef, LayerRules};
use crate::containerd::{ChainId, Image};
use crate::error::{Error, ErrorKind, Result};
use crate::layer::Rootfs;
use crate::snapshotter::Labels;
use crate::tree::{Progress, Root};

/// Layers that an image has and does not explain, by chain ID.
#[derive(Debug, Default)]
pub struct Unexplained {
    /// Their blobs make no sense: asking again is of no use.
    pub hopeless: HashSet<ChainId>,
    /// Their blobs, one beneath, or what says which image they are of, are gone or damaged: they may be fetched again.
    pub waiting: BTreeMap<ChainId, String>,
    /// They could not be read, for this reason, which says nothing about them.
    pub failed: BTreeMap<ChainId, String>,
}

impl Unexplained {
    /// Layers could not be derived.
    fn add(&mut self, error: &Error, chains: impl Iterator<Item = ChainId>) {
        match error.kind() {
            // The blob is gone or damaged: it can be fetched again.
            ErrorKind::NotFound | ErrorKind::Corrupt => {
                self.waiting.extend(chains.map(|chain| (chain, error.to_string())))
            }
            // What the image itself is: not what its digests promise, encrypted, larger than is allowed.
            ErrorKind::InvalidInput | ErrorKind::Unsupported if error.errno().is_none() => {
                log::warn!("sealed from the disk, and so it stays: {error}");
                self.hopeless.extend(chains);
            }
            // A disk or a connection that fails may work again.
            _ => {
                log::warn!("{error}");
                self.failed.extend(chains.map(|chain| (chain, error.to_string())));
            }
        }
    }

    fn knows(&self, chain: &ChainId) -> bool {
        self.hopeless.contains(chain) || self.waiting.contains_key(chain) || self.failed.contains_key(chain)
    }

    /// An image could not be read, which may be the one that explains what is `left`. What its index, manifest or
    /// config say is not the reason: containerd could not have unpacked that.
    fn unread(&mut self, error: &Error, left: &HashSet<ChainId>) {
        let reasons = match error.kind() {
            ErrorKind::NotFound | ErrorKind::Corrupt => &mut self.waiting,
            ErrorKind::InvalidInput | ErrorKind::Unsupported | ErrorKind::FailedPrecondition => return,
            _ => &mut self.failed,
        };
        for chain in left {
            reasons.entry(*chain).or_insert_with(|| error.to_string());
        }
    }
}

/// A layer that an image explains.
pub struct Explained<'a> {
    /// Reference of the image.
    pub image: &'a str,
    /// The layer.
    pub layer: LayerRef,
    /// Of the layers beneath it; none for the bottom one.
    pub below: Option<ChainId>,
    /// The image up to this layer.
    rootfs: &'a Rootfs,
}

impl Images {
    /// Hands each of the wanted layers that an image explains to `take`, once: of an overlay-style snapshotter.
    ///
    /// # Errors
    /// What containerd fails with; what `take` fails with.
    pub fn explain(
        &self,
        wanted: &HashSet<ChainId>,
        progress: &Progress,
        take: &mut dyn FnMut(ChainId, &Explained<'_>) -> Result<()>,
    ) -> Result<Unexplained> {
        let mut left = wanted.clone();
        let mut unexplained = Unexplained::default();
        let mut unread = Vec::new();
        for image in self.every_candidate()? {
            if left.is_empty() {
                break;
            }
            progress.check()?;
            let mut image = match image {
                Ok(image) => image,
                Err(error) => {
                    unread.push(error);
                    continue;
                }
            };
            let Some(last) = image.layers.iter().rposition(|layer| left.contains(&layer.chain_id)) else { continue };
            image.layers.truncate(last + 1);
            if let Some((readable, why)) = self.first_unreadable(&image)? {
                for layer in image.layers.drain(readable..).filter(|layer| left.contains(&layer.chain_id)) {
                    unexplained.waiting.insert(layer.chain_id, why.to_string());
                }
                if !image.layers.iter().any(|layer| left.contains(&layer.chain_id)) {
                    continue;
                }
            }
            let mut failed = None;
            let mut below = None;
            let derived = self.rootfs_watched(&image, unpacking_here(), progress, &mut |rootfs, layer| {
                if failed.is_none() && left.remove(&layer.chain_id) {
                    let explained = Explained { image: &image.name, layer: LayerRef::of(layer), below, rootfs };
                    failed = take(layer.chain_id, &explained).err();
                }
                below = Some(layer.chain_id);
            });
            if let Some(error) = failed {
                return Err(error);
            }
            if let Err(error) = derived {
                if error.kind() == ErrorKind::Cancelled {
                    return Err(error);
                }
                let chains = image.layers.iter().map(|layer| layer.chain_id).filter(|chain| left.contains(chain));
                unexplained.add(&error, chains);
            }
        }
        let unknown: HashSet<_> = left.iter().copied().filter(|chain| !unexplained.knows(chain)).collect();
        unread.iter().for_each(|error| unexplained.unread(error, &unknown));
        unexplained.hopeless.retain(|chain| left.contains(chain));
        unexplained.waiting.retain(|chain, _| left.contains(chain));
        unexplained.failed.retain(|chain, _| left.contains(chain));
        Ok(unexplained)
    }

    /// How many layers from the bottom can be read, and why the next one can't; none if all can.
    fn first_unreadable(&self, image: &Image) -> Result<Option<(usize, Error)>> {
        for (n, layer) in image.layers.iter().enumerate() {
            let is_there = layer.readable().is_ok() && self.client.content_labels(&layer.blob.digest)?.is_some();
            if !is_there && let Err(error) = self.open_layer(image, layer) {
                return Ok(Some((n, of_layer(error, image, layer))));
            }
        }
        Ok(None)
    }
}

impl Explained<'_> {
    /// The manifest of the layer's own directory, without the root itself, at its beginning.
    pub fn manifest(&self) -> Result<File> {
        Ok(spool(|out| self.rootfs.write_layer_manifest(self.index(), out))?.0)
    }

    /// Which differences between that manifest and what is in `directory` count, for a layer whose snapshot has these
    /// labels.
    pub fn rules<'r>(&'r self, directory: &'r Root, labels: &Labels, hosts: Hosts) -> LayerRules<'r> {
        LayerRules::of_image(self.rootfs, self.index(), directory, unpacked_alone(labels), hosts)
    }

    fn index(&self) -> usize {
        self.layer.number - 1
    }
}
