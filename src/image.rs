// SPDX-License-Identifier: Apache-2.0
//! Images as the root of trust: what the files of an image should be, held against what is unpacked.
//!
//! ```text
//! image ── index, manifest, config ──▶ layers ── blobs ──▶ Rootfs ──▶ manifest ─┐
//! snapshotter ── a view under a lease, mounted where nobody sees it ──▶ tree ───┴─▶ findings, each with its layer
//! ```
//!
//! Works with every snapshotter of containerd. Nothing here keeps a connection or memory between two calls.

mod attribute;
mod container;
mod derive;
mod explain;
mod list;
mod mount_points;
mod repair;
mod rules;
mod trace;
mod unpacked;
mod verify;
mod view;

pub use container::{Change, ChangeKind, ContainerReport};
pub use derive::DeriveReport;
pub use explain::Explained;
pub use list::{ImageInfo, Verdict, VerdictState};
pub use repair::{RepairEvent, RepairOptions, RepairReport};
pub use rules::{Hosts, LayerRules};
pub use trace::{Touch, Touched};
pub use verify::{ImageEvent, ImageFinding, LayerRef, SharedLayer, Which};

use std::path::PathBuf;

use crate::containerd::{Client, Platform};
use crate::error::Result;
use crate::layer::Limits;

/// Where things are, and how much is done at once.
#[derive(Debug, Clone)]
pub struct ImageSettings {
    /// Socket of containerd.
    pub address: PathBuf,
    /// containerd's namespace.
    pub namespace: String,
    /// What a layer may hold.
    pub limits: Limits,
    /// Hashing threads; 0 means the cores, at most four.
    pub threads: usize,
}

/// Which of an image's snapshots are meant.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Name of a snapshotter; none means every one that has the image unpacked.
    pub snapshotter: Option<String>,
    /// None means every one that is unpacked.
    pub platform: Option<Platform>,
}

/// See the [module](self).
pub struct Images {
    client: Client,
    settings: ImageSettings,
}

impl Images {
    /// Connects to containerd.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub fn connect(settings: ImageSettings) -> Result<Self> {
        let client = Client::connect(&settings.address, &settings.namespace)?;
        Ok(Self { client, settings })
    }
}
