// SPDX-License-Identifier: Apache-2.0
//! An image's index, manifest and config, resolved to layers.

use std::fmt;
use std::io::Cursor;
use std::str::FromStr;

use oci_spec::image as oci;

use super::{Client, Descriptor, ImageRecord, records};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Escaped, Result};
use crate::key::ChainId;

/// Bytes of an index, a manifest or a config: larger ones are no image's.
const DOCUMENT_MAX: u64 = 8 << 20;

/// An index may list indexes; so deep, and no deeper.
const INDEX_DEPTH: usize = 4;

/// Media types of lists of manifests; everything else is taken for a manifest.
const INDEXES: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];

/// Which of an index's manifests is meant: `os/architecture[/variant]`, as Go names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`.
    pub architecture: String,
    /// `v7`; mostly empty.
    pub variant: String,
}

impl Platform {
    /// That of this machine.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", ""),
            "x86" => ("386", ""),
            "aarch64" => ("arm64", ""),
            "arm" => ("arm", "v7"),
            "powerpc64" => ("ppc64le", ""),
            "loongarch64" => ("loong64", ""),
            other => (other, ""),
        };
        Self::new("linux", architecture, variant)
    }

    /// Names that mean the same become one: 64-bit ARM is `v8` without saying so.
    fn new(os: &str, architecture: &str, variant: &str) -> Self {
        let architecture = match architecture {
            "x86_64" | "x86-64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let variant = match (architecture, variant) {
            ("arm64", "v8" | "8") | ("amd64", "v1") => "",
            (_, variant) => variant,
        };
        Self { os: os.into(), architecture: architecture.into(), variant: variant.into() }
    }

    /// Whether an image for `other` is meant; who names no variant takes any.
    fn takes(&self, other: &Self) -> bool {
        self.os == other.os
            && self.architecture == other.architecture
            && (self.variant.is_empty() || other.variant.is_empty() || self.variant == other.variant)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match self.variant.as_str() {
            "" => Ok(()),
            variant => write!(f, "/{variant}"),
        }
    }
}

impl FromStr for Platform {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts: Vec<_> = text.split('/').collect();
        match parts.as_slice() {
            [os, architecture] if !os.is_empty() && !architecture.is_empty() => Ok(Self::new(os, architecture, "")),
            [os, architecture, variant] if !os.is_empty() && !architecture.is_empty() => {
                Ok(Self::new(os, architecture, variant))
            }
            _ => {
                let message = format!("{text:?} is not a platform: expected os/architecture, such as linux/amd64");
                Err(Error::new(ErrorKind::InvalidInput, message))
            }
        }
    }
}

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
    /// `Unsupported` for a layer that is encrypted, or that has to be fetched from elsewhere.
    pub fn readable(&self) -> Result<()> {
        let media_type = &self.blob.media_type;
        let why = match media_type.as_str() {
            media_type if media_type.contains("encrypted") => "is encrypted",
            media_type if media_type.contains("foreign") || media_type.contains("nondistributable") => "is foreign",
            _ => return Ok(()),
        };
        let message = format!("{} {why} ({}): it can't be read", self.blob.digest, Escaped(media_type.as_bytes()));
        Err(Error::new(ErrorKind::Unsupported, message))
    }
}

/// An image for one platform. Every digest in it is vouched for by the one before: record, index, manifest, config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its reference.
    pub name: String,
    /// Index or manifest, as containerd has it.
    pub target: Digest,
    /// Of the manifest for the platform.
    pub manifest: Digest,
    /// What it is for.
    pub platform: Platform,
    /// From the bottom.
    pub layers: Vec<Layer>,
}

impl Image {
    /// Reads index, manifest and config. Without a platform, that of this machine, or the only one there is.
    ///
    /// # Errors
    /// `NotFound`, naming the blob, if one of them is not in the content store, or if the index has no such platform;
    /// `InvalidInput` if one is not what its digest says or makes no sense; `Unsupported` for other digests than
    /// SHA-256.
    pub fn resolve(client: &Client, record: &ImageRecord, platform: Option<&Platform>) -> Result<Self> {
        let fetch = |descriptor: &Descriptor| client.blob(descriptor, DOCUMENT_MAX);
        Self::resolve_with(&fetch, record, platform)
            .map_err(|error| error.context(format!("image {}", Escaped(record.name.as_bytes()))))
    }

    fn resolve_with(fetch: &Fetch<'_>, record: &ImageRecord, platform: Option<&Platform>) -> Result<Self> {
        let descriptor = choose(fetch, &record.target, platform, INDEX_DEPTH)?;
        let manifest: oci::ImageManifest =
            parse(&descriptor, oci::ImageManifest::from_reader(read(fetch, &descriptor)?))?;
        let config = descriptor_of(manifest.config())?;
        let document: oci::ImageConfiguration =
            parse(&config, oci::ImageConfiguration::from_reader(read(fetch, &config)?))?;
        let variant = document.variant().as_deref().unwrap_or_default();
        let found = Platform::new(&document.os().to_string(), &document.architecture().to_string(), variant);
        // What was asked for; an image without an index is the only one there is.
        if let Some(wanted) = platform.filter(|wanted| !wanted.takes(&found)) {
            return Err(Error::new(ErrorKind::NotFound, format!("it is for {found}, not for {wanted}")));
        }
        let layers = layers(manifest.layers(), &document)?;
        Ok(Self {
            name: record.name.clone(),
            target: record.target.digest,
            manifest: descriptor.digest,
            platform: found,
            layers,
        })
    }

    /// Name of the snapshot that holds all of its layers; none if it has no layer.
    pub fn chain_id(&self) -> Option<ChainId> {
        self.layers.last().map(|layer| layer.chain_id)
    }
}

/// Where documents come from.
type Fetch<'a> = dyn Fn(&Descriptor) -> Result<Vec<u8>> + 'a;

fn read(fetch: &Fetch<'_>, descriptor: &Descriptor) -> Result<Cursor<Vec<u8>>> {
    fetch(descriptor).map(Cursor::new)
}

fn parse<T>(descriptor: &Descriptor, parsed: Result<T, oci_spec::OciSpecError>) -> Result<T> {
    parsed.map_err(|error| {
        let message = format!("{} ({}) makes no sense", descriptor.digest, Escaped(descriptor.media_type.as_bytes()));
        Error::new(ErrorKind::InvalidInput, message).with_source(error)
    })
}

fn descriptor_of(descriptor: &oci::Descriptor) -> Result<Descriptor> {
    Ok(Descriptor {
        digest: records::digest(descriptor.digest().as_ref())?,
        size: descriptor.size(),
        media_type: descriptor.media_type().to_string(),
    })
}

/// The manifest for the platform: `target` itself, or what an index leads to.
fn choose(fetch: &Fetch<'_>, target: &Descriptor, platform: Option<&Platform>, depth: usize) -> Result<Descriptor> {
    if !INDEXES.contains(&target.media_type.as_str()) {
        return Ok(target.clone());
    }
    if depth == 0 {
        let message = format!("{}: indexes of indexes, more than {INDEX_DEPTH} deep", target.digest);
        return Err(Error::new(ErrorKind::InvalidInput, message));
    }
    let index: oci::ImageIndex = parse(target, oci::ImageIndex::from_reader(read(fetch, target)?))?;
    let host = Platform::host();
    let wanted = platform.unwrap_or(&host);
    let mut others = Vec::new();
    let mut candidates = Vec::new();
    for entry in index.manifests() {
        let Some(named) = entry.platform() else {
            candidates.push(entry);
            continue;
        };
        let variant = named.variant().as_deref().unwrap_or_default();
        let named = Platform::new(&named.os().to_string(), &named.architecture().to_string(), variant);
        match named {
            named if wanted.takes(&named) => return choose(fetch, &descriptor_of(entry)?, platform, depth - 1),
            // What build tools attach to an image.
            named if named.os == "unknown" => {}
            named => others.push((named, entry)),
        }
    }
    match (candidates.as_slice(), others.as_slice(), platform) {
        ([only], _, _) | ([], [(_, only)], None) => choose(fetch, &descriptor_of(only)?, platform, depth - 1),
        _ => {
            let others: Vec<_> = others.iter().map(|(named, _)| named.to_string()).collect();
            let message = format!("it has no manifest for {wanted}, only for {}", others.join(", "));
            Err(Error::new(ErrorKind::NotFound, message))
        }
    }
}

/// The manifest's blobs and the config's diff IDs, side by side.
fn layers(blobs: &[oci::Descriptor], config: &oci::ImageConfiguration) -> Result<Vec<Layer>> {
    let diff_ids = config.rootfs().diff_ids();
    if blobs.len() != diff_ids.len() {
        let message = format!("its manifest has {} layers, its config {}", blobs.len(), diff_ids.len());
        return Err(Error::new(ErrorKind::InvalidInput, message));
    }
    let history = config.history().as_deref().unwrap_or_default();
    let mut made = history.iter().filter(|step| !step.empty_layer().unwrap_or_default());
    let mut below = None;
    let mut layers = Vec::with_capacity(blobs.len());
    for (n, (blob, diff_id)) in blobs.iter().zip(diff_ids).enumerate() {
        let diff_id = records::digest(diff_id)?;
        let chain_id = ChainId::of(below, diff_id);
        below = Some(chain_id);
        let created_by = made.next().and_then(|step| step.created_by().clone()).unwrap_or_default();
        layers.push(Layer { number: n + 1, blob: descriptor_of(blob)?, diff_id, chain_id, created_by });
    }
    Ok(layers)
}

#[cfg(test)]
mod tests;
