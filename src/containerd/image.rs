// SPDX-License-Identifier: Apache-2.0
//! An image's index, manifest and config, resolved to layers.
//!
//! ```text
//! record ─▶ index ─▶ entries, in containerd's order ─▶ manifest ─▶ config ─▶ layers, chain IDs
//! ```
//!
//! Several entries of an index may be unpacked: what was asked for with `--platform`, what a containerd with other
//! rules has taken. So [`Image::candidates`] has all of them, and what is unpacked decides; [`Image::resolve`] has the
//! one that containerd takes.

use super::index::{Entry, Fit, Reference, entries, is_absent};
use super::json::{self, List, Text, document};
use super::platform::Platform;
use super::{Client, Descriptor, ImageRecord, records};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Escaped, Result};
use crate::key::ChainId;

/// Bytes of an index, a manifest or a config: larger ones are no image's.
const DOCUMENT_MAX: u64 = 8 << 20;

/// Media types of manifests: containerd unpacks nothing else.
const MANIFESTS: [&str; 2] =
    ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];

document!(Manifest { "config" => config: Reference, "layers" => layers: List<Reference> });
document!(Config {
    "os" => os: Text,
    "architecture" => architecture: Text,
    "variant" => variant: Text,
    "rootfs" => rootfs: RootfsFields,
    "history" => history: List<Step>,
});
document!(RootfsFields { "diff_ids" => diff_ids: List<Text> });
document!(Step { "created_by" => created_by: Text, "empty_layer" => empty_layer: bool });

/// One layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// From the bottom, beginning with 1: as people count.
    pub number: usize,
    /// Its blob.
    pub blob: Descriptor,
    /// Digest of the tar in it.
    pub diff_id: Digest,
    /// Of the stack up to it: the name of its snapshot.
    pub chain_id: ChainId,
    /// What made it, as the config's history says; may be empty.
    pub created_by: String,
}

impl Layer {
    /// Whether its blob can be read as a tar.
    ///
    /// # Errors
    /// `Unsupported` for a layer that is encrypted.
    pub fn readable(&self) -> Result<()> {
        let media_type = &self.blob.media_type;
        if !media_type.contains("encrypted") {
            return Ok(());
        }
        let message = format!("{} is encrypted ({})", self.blob.digest, Escaped(media_type.as_bytes()));
        Err(Error::new(ErrorKind::Unsupported, message))
    }
}

/// An image for one platform. Every digest in it is vouched for by the one before: record, index, manifest, config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its reference.
    pub name: String,
    /// Of its manifest.
    pub manifest: Digest,
    /// What it is for, as its config says.
    pub platform: Platform,
    /// From the bottom.
    pub layers: Vec<Layer>,
}

/// One of the manifests that a record leads to.
#[derive(Debug)]
pub struct Candidate {
    /// Whether containerd takes it for the platform that was asked for, unless it takes one before.
    pub fits: bool,
    /// What became of reading it.
    pub found: Found,
}

/// What is known of a manifest.
#[derive(Debug)]
pub enum Found {
    /// All of it.
    Image(Image),
    /// It was never fetched: the content store does not know it.
    Absent(Error),
    /// It, or its config, can't be read: what is unpacked of it can't be told.
    Unreadable(Error),
}

impl Image {
    /// The image that containerd takes for a platform: without one, for this machine, or the only one there is.
    ///
    /// # Errors
    /// `NotFound`, naming the blob, if one of its documents is not in the content store, or if the index has no such
    /// platform; `InvalidInput` if one is not what its digest says or not what it should be; `FailedPrecondition` for
    /// what containerd does not unpack; `Unsupported` for other digests than SHA-256.
    pub fn resolve(client: &Client, record: &ImageRecord, platform: Option<&Platform>) -> Result<Self> {
        resolve(client, record, platform).map_err(|error| error.context(named(record)))
    }

    /// Every manifest that a record leads to and containerd may have unpacked, those first that it prefers for a
    /// platform.
    ///
    /// # Errors
    /// Of the record's own index, as [`Image::resolve`]; of everything else the candidate has it.
    pub fn candidates(client: &Client, record: &ImageRecord, platform: Option<&Platform>) -> Result<Vec<Candidate>> {
        candidates(client, record, platform).map_err(|error| error.context(named(record)))
    }

    /// Name of the snapshot that holds all of its layers; none if it has no layer.
    pub fn chain_id(&self) -> Option<ChainId> {
        self.layers.last().map(|layer| layer.chain_id)
    }
}

fn named(record: &ImageRecord) -> String {
    format!("image {}", Escaped(record.name.as_bytes()))
}

/// Where documents come from.
pub(super) trait Documents {
    /// One document, checked against its digest.
    fn read(&self, descriptor: &Descriptor) -> Result<Vec<u8>>;

    /// Whether the content store has a record of the blob: it was fetched and not removed since.
    fn knows(&self, digest: &Digest) -> Result<bool>;
}

impl Documents for Client {
    fn read(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        self.blob(descriptor, DOCUMENT_MAX)
    }

    fn knows(&self, digest: &Digest) -> Result<bool> {
        Ok(self.content_labels(digest)?.is_some())
    }
}

fn resolve(documents: &dyn Documents, record: &ImageRecord, platform: Option<&Platform>) -> Result<Image> {
    let wanted = platform.cloned().unwrap_or_else(Platform::host);
    let entries = entries(documents, record, &wanted, platform.is_some())?;
    let count = entries.len();
    let is_only_one = count == 1 && platform.is_none();
    let mut others = Vec::new();
    for entry in entries {
        if entry.fit == Fit::No && !is_only_one {
            others.extend(entry.platform.map(|platform| shown(&platform)));
            continue;
        }
        let descriptor = entry.descriptor?;
        let image = image_of(documents, record, &descriptor, &read_manifest(documents, &descriptor)?)?;
        if matches!(entry.fit, Fit::Yes(..)) || is_only_one || is_for(&image, &wanted) {
            return Ok(image);
        }
        others.push(shown(&image.platform));
    }
    let message = match (count, others.as_slice()) {
        (_, []) => "it has no manifest of an image".to_owned(),
        (1, [only]) => format!("it is for {only}, not for {wanted}"),
        _ => format!("it has no manifest for {wanted}, only for {}", others.join(", ")),
    };
    Err(Error::new(ErrorKind::NotFound, message))
}

/// A platform that an image names, for a person.
fn shown(platform: &Platform) -> String {
    Escaped(platform.to_string().as_bytes()).to_string()
}

fn candidates(documents: &dyn Documents, record: &ImageRecord, platform: Option<&Platform>) -> Result<Vec<Candidate>> {
    let wanted = platform.cloned().unwrap_or_else(Platform::host);
    let entries = entries(documents, record, &wanted, platform.is_some())?;
    let candidates = entries.into_iter().filter_map(|entry| {
        let fit = entry.fit;
        let found = candidate(documents, record, entry)?;
        let fits = match (&fit, &found) {
            (Fit::Perhaps, Found::Image(image)) => is_for(image, &wanted),
            (fit, _) => *fit != Fit::No,
        };
        Some(Candidate { fits, found })
    });
    Ok(candidates.collect())
}

/// None for what containerd does not unpack.
fn candidate(documents: &dyn Documents, record: &ImageRecord, entry: Entry) -> Option<Found> {
    let descriptor = match entry.descriptor {
        Ok(descriptor) => descriptor,
        // An index within, or a digest that can't be asked for.
        Err(error) if entry.absent || entry.fit == Fit::No => return Some(Found::Absent(error)),
        Err(error) => return Some(Found::Unreadable(error)),
    };
    let mut is_alone = false;
    let image = read_manifest(documents, &descriptor).and_then(|manifest| {
        image_of(documents, record, &descriptor, &manifest).inspect_err(|error| {
            is_alone = error.kind() == ErrorKind::NotFound && lacks_config(documents, &descriptor, &manifest);
        })
    });
    match image {
        // Also if it was collected after it was read, and its config before.
        Err(error) if is_absent(documents, &error, &descriptor) => Some(Found::Absent(error)),
        // Of another platform, an import of containerd 2.x keeps the manifest alone.
        Err(error) if is_alone && entry.fit == Fit::No => Some(Found::Absent(error)),
        Ok(image) => Some(Found::Image(image)),
        Err(error) if error.kind() == ErrorKind::FailedPrecondition => {
            log::debug!("{}: {error}", named(record));
            None
        }
        Err(error) => Some(Found::Unreadable(error)),
    }
}

/// Whether containerd takes an image for a platform by what its config says. One that says nothing is for everybody.
fn is_for(image: &Image, wanted: &Platform) -> bool {
    image.platform.architecture.is_empty() || wanted.preference(&image.platform).is_some()
}

fn read_manifest(documents: &dyn Documents, descriptor: &Descriptor) -> Result<Vec<u8>> {
    documents.read(descriptor).map_err(|error| error.context("its manifest"))
}

/// Whether the content store does not know the config of a manifest.
fn lacks_config(documents: &dyn Documents, descriptor: &Descriptor, manifest: &[u8]) -> bool {
    let config =
        parse::<Manifest>(descriptor, manifest).and_then(|manifest| descriptor_of(manifest.config.unwrap_or_default()));
    config.and_then(|config| documents.knows(&config.digest)).is_ok_and(|known| !known)
}

/// The image of a manifest.
fn image_of(
    documents: &dyn Documents,
    record: &ImageRecord,
    descriptor: &Descriptor,
    manifest: &[u8],
) -> Result<Image> {
    let manifest: Manifest = match parse(descriptor, manifest) {
        Err(error) if !MANIFESTS.contains(&descriptor.media_type.as_str()) => {
            let message = format!("{} is not a manifest of an image", Escaped(descriptor.media_type.as_bytes()));
            return Err(Error::new(ErrorKind::FailedPrecondition, message).with_source(error));
        }
        manifest => manifest?,
    };
    let config = descriptor_of(manifest.config.unwrap_or_default())?;
    let content = documents.read(&config).map_err(|error| error.context("its config"))?;
    let document: Config = parse(&config, &content)?;
    let platform = platform_of(document.os, document.architecture, document.variant);
    let diff_ids = document.rootfs.unwrap_or_default().diff_ids;
    let layers = layers(manifest.layers, diff_ids, document.history)?;
    Ok(Image { name: record.name.clone(), manifest: descriptor.digest, platform, layers })
}

/// The manifest's blobs and the config's diff IDs, side by side.
fn layers(
    blobs: Option<List<Reference>>,
    diff_ids: Option<List<Text>>,
    history: Option<List<Step>>,
) -> Result<Vec<Layer>> {
    let (blobs, diff_ids) = (json::elements(blobs), json::elements(diff_ids));
    if blobs.len() != diff_ids.len() {
        let message = format!(
            "its manifest has {} layers, its config {}: containerd does not unpack it",
            blobs.len(),
            diff_ids.len()
        );
        return Err(Error::new(ErrorKind::FailedPrecondition, message));
    }
    let mut made = json::elements(history).filter(|step| !step.empty_layer.unwrap_or_default());
    let mut below = None;
    let mut layers = Vec::with_capacity(blobs.len());
    for (n, (blob, Text(diff_id))) in blobs.zip(diff_ids).enumerate() {
        let diff_id = records::digest(&diff_id)?;
        let chain_id = ChainId::of(below, diff_id);
        below = Some(chain_id);
        let created_by = made.next().and_then(|step| step.created_by).unwrap_or_default().0;
        layers.push(Layer { number: n + 1, blob: descriptor_of(blob)?, diff_id, chain_id, created_by });
    }
    Ok(layers)
}

pub(super) fn parse<T: for<'de> serde::Deserialize<'de> + Default>(
    descriptor: &Descriptor,
    content: &[u8],
) -> Result<T> {
    let media_type = Escaped(descriptor.media_type.as_bytes());
    json::parse(content).map_err(|error| error.context(format!("blob {} ({media_type})", descriptor.digest)))
}

pub(super) fn descriptor_of(reference: Reference) -> Result<Descriptor> {
    let Some(Text(digest)) = reference.digest else {
        return Err(Error::new(ErrorKind::FailedPrecondition, "a descriptor has no digest"));
    };
    Ok(Descriptor {
        digest: records::digest(&digest)?,
        size: reference.size.and_then(|size| u64::try_from(size).ok()).unwrap_or_default(),
        media_type: reference.media_type.unwrap_or_default().0,
    })
}

pub(super) fn platform_of(os: Option<Text>, architecture: Option<Text>, variant: Option<Text>) -> Platform {
    let text = |text: Option<Text>| text.unwrap_or_default().0;
    Platform::new(&text(os), &text(architecture), &text(variant))
}

#[cfg(test)]
mod tests;
