// SPDX-License-Identifier: Apache-2.0
//! One method per use case: the door through which every protocol goes.

mod manifests;
mod targets;

pub use manifests::{ManifestName, StoredManifest};
pub use targets::{Counts, Target};

use std::sync::Arc;

use crate::snapshotter::Snapshotter;
use crate::verifier::Verifier;

/// See the [module](self).
pub struct Engine {
    snapshotter: Arc<Snapshotter>,
    verifier: Arc<Verifier>,
}

impl Engine {
    /// The snapshots that match one of the filters, in the order of their keys.
    pub fn list(&self, filters: &[String]) -> crate::error::Result<Vec<crate::snapshotter::Snapshot>> {
        self.snapshotter.list(filters)
    }
}

impl Engine {
    /// Puts the parts together.
    pub fn new(snapshotter: Arc<Snapshotter>, verifier: Arc<Verifier>) -> Self {
        Self { snapshotter, verifier }
    }
}
