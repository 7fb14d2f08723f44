// SPDX-License-Identifier: Apache-2.0
//! The manifest of an image, from its layers alone.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Seek, Write};

use super::Images;
use crate::containerd::{ContentReader, Image, Layer, Platform};
use crate::digest::{Digest, HashingStream};
use crate::error::{Error, ErrorKind, Result};
use crate::layer::{Expected, Recorded, Rootfs, Unpacking};
use crate::tree::Progress;

/// Bytes of a manifest gathered before they are written.
const WRITE_BUFFER: usize = 64 << 10;

/// What was derived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeriveReport {
    /// Paths recorded.
    pub entries: u64,
    /// Of the manifest.
    pub digest: Digest,
}

/// Layers that several images have, read once. Holds each until the last image that was announced has taken it.
#[derive(Default)]
pub(super) struct LayerCache {
    /// By diff ID: how often it will still be asked for.
    wanted: HashMap<Digest, usize>,
    recorded: HashMap<Digest, Recorded>,
}

impl LayerCache {
    /// These layers will be asked for, once more each.
    pub(super) fn announce(&mut self, image: &Image) {
        for layer in &image.layers {
            *self.wanted.entry(layer.diff_id).or_default() += 1;
        }
    }
}

impl Images {
    /// Writes the rootfs manifest of an image, or the layer manifest of one of its layers, counted from 1.
    ///
    /// # Errors
    /// `NotFound` for an image, a layer, or a blob that is not there, naming it; as [`crate::layer::read`].
    pub fn manifest(
        &self,
        reference: &str,
        platform: Option<&Platform>,
        layer: Option<usize>,
        progress: &Progress,
        out: &mut dyn Write,
    ) -> Result<DeriveReport> {
        let mut image = self.resolve(reference, platform)?;
        if let Some(number) = layer {
            if number == 0 || number > image.layers.len() {
                let message = format!("image {reference} has {} layers, none of number {number}", image.layers.len());
                return Err(Error::new(ErrorKind::NotFound, message));
            }
            image.layers.truncate(number);
        }
        let rootfs = self.rootfs(&image, Unpacking::Overlay, progress)?;
        let mut out = BufWriter::with_capacity(WRITE_BUFFER, HashingStream::new(out));
        let entries = match layer {
            Some(number) => rootfs.write_layer_manifest(number - 1, &mut out)?,
            None => rootfs.write_manifest(&mut out)?,
        };
        let stream = out.into_inner().map_err(|error| write_error(error.into_error()))?;
        let (out, digest, _) = stream.finish();
        out.flush().map_err(write_error)?;
        Ok(DeriveReport { entries, digest })
    }

    /// The image of that reference.
    pub(super) fn resolve(&self, reference: &str, platform: Option<&Platform>) -> Result<Image> {
        Image::resolve(&self.client, &self.client.image(reference)?, platform)
    }

    /// Derives the root filesystem of an image.
    pub(super) fn rootfs(&self, image: &Image, unpacking: Unpacking, progress: &Progress) -> Result<Rootfs> {
        self.rootfs_watched(image, unpacking, progress, &mut |_, _| {})
    }

    /// The same; `watch` sees the root filesystem after each layer.
    pub(super) fn rootfs_watched(
        &self,
        image: &Image,
        unpacking: Unpacking,
        progress: &Progress,
        watch: &mut dyn FnMut(&Rootfs, &Layer),
    ) -> Result<Rootfs> {
        self.rootfs_from(image, unpacking, &mut LayerCache::default(), progress, watch)
    }

    /// The same, with layers that were read before.
    pub(super) fn rootfs_with(
        &self,
        image: &Image,
        unpacking: Unpacking,
        cache: &mut LayerCache,
        progress: &Progress,
    ) -> Result<Rootfs> {
        self.rootfs_from(image, unpacking, cache, progress, &mut |_, _| {})
    }

    fn rootfs_from(
        &self,
        image: &Image,
        unpacking: Unpacking,
        cache: &mut LayerCache,
        progress: &Progress,
        watch: &mut dyn FnMut(&Rootfs, &Layer),
    ) -> Result<Rootfs> {
        let mut rootfs = Rootfs::new(unpacking, self.settings.limits);
        for layer in &image.layers {
            progress.check()?;
            self.add_layer(&mut rootfs, image, layer, cache, progress)
                .map_err(|error| of_layer(error, image, layer))?;
            watch(&rootfs, layer);
        }
        Ok(rootfs)
    }

    fn add_layer(
        &self,
        rootfs: &mut Rootfs,
        image: &Image,
        layer: &Layer,
        cache: &mut LayerCache,
        progress: &Progress,
    ) -> Result<()> {
        let left = cache.wanted.get_mut(&layer.diff_id).map_or(0, |wanted| {
            *wanted = wanted.saturating_sub(1);
            *wanted
        });
        if let Some(mut recorded) = cache.recorded.remove(&layer.diff_id) {
            rootfs.add_recorded(&mut recorded)?;
            if left > 0 {
                cache.recorded.insert(layer.diff_id, recorded);
            }
            return Ok(());
        }
        let (blob, expected) = self.open_layer(image, layer)?;
        if left == 0 {
            return rootfs.add(blob, &expected, progress);
        }
        let mut recorded = Recorded::read(blob, &expected, &self.settings.limits, progress)?;
        rootfs.add_recorded(&mut recorded)?;
        cache.recorded.insert(layer.diff_id, recorded);
        Ok(())
    }

    /// Opens a layer's blob; if that is not there or can't be read, another image's of the same tar, which the diff ID
    /// vouches for.
    ///
    /// # Errors
    /// `NotFound`, saying what to fetch, if none is in the content store; `Unsupported` for a layer that nobody can
    /// read.
    pub(super) fn open_layer(&self, image: &Image, layer: &Layer) -> Result<(ContentReader<'_>, Expected)> {
        let error = match self.open_blob(layer) {
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Unsupported) => error,
            opened => return opened,
        };
        for other in self.every_image()? {
            let is_same = |other: &&Layer| other.diff_id == layer.diff_id && other.blob.digest != layer.blob.digest;
            if let Some(opened) = other.layers.iter().filter(is_same).find_map(|other| self.open_blob(other).ok()) {
                return Ok(opened);
            }
        }
        if error.kind() != ErrorKind::NotFound {
            return Err(error);
        }
        let message = format!(
            "blob {} is not in the content store (discard_unpacked_layers?): fetch it with `ctr -n {} content fetch {}`",
            layer.blob.digest,
            self.client.namespace(),
            image.name
        );
        Err(Error::new(ErrorKind::NotFound, message))
    }

    fn open_blob(&self, layer: &Layer) -> Result<(ContentReader<'_>, Expected)> {
        layer.readable()?;
        let blob = self.client.read_content(&layer.blob.digest)?;
        Ok((blob, Expected { blob: layer.blob.digest, diff_id: layer.diff_id }))
    }
}

/// What reading a layer failed with, naming it.
pub(super) fn of_layer(error: Error, image: &Image, layer: &Layer) -> Error {
    match error.kind() {
        ErrorKind::Cancelled => error,
        _ => error.context(format!("layer {} of {} of {}", layer.number, image.layers.len(), image.name)),
    }
}

/// Writes a manifest into a temporary file that has no name, and gives it back at its beginning.
pub(super) fn spool(write: impl FnOnce(&mut BufWriter<File>) -> Result<u64>) -> Result<(File, u64)> {
    let failed = |error| Error::io("write", std::env::temp_dir(), error).context("spooling a manifest");
    let mut out = BufWriter::with_capacity(WRITE_BUFFER, tempfile::tempfile().map_err(failed)?);
    let entries = write(&mut out)?;
    let mut file = out.into_inner().map_err(|error| failed(error.into_error()))?;
    file.rewind().map_err(failed)?;
    Ok((file, entries))
}

fn write_error(error: io::Error) -> Error {
    Error::new(ErrorKind::Io, "writing the manifest").with_source(error)
}
