// SPDX-License-Identifier: Apache-2.0
//! Repairs that checks ask for: made by the seal worker, so never inside a call of containerd's.

use std::collections::HashMap;
use std::sync::Mutex;

use crate::error::{Escaped, Result};
use crate::image::RepairOptions;
use crate::snapshotter::{SealSource, Snapshot};
use crate::verifier::explain::name_in_containerd;
use crate::verifier::{Inner, Repair, check, lock};

/// Layers that wait for a repair: key by number.
#[derive(Default)]
pub struct Repairs(Mutex<HashMap<u64, String>>);

impl Inner {
    /// Whether the damage of a layer is mended without anybody saying so.
    pub fn repairs(&self, layer: &Snapshot) -> bool {
        let explained = layer.seal.is_some_and(|seal| seal.source == SealSource::Image);
        self.policy.repair == Repair::Auto && self.images.is_some() && explained
    }

    /// A layer is damaged: it is repaired in the background, if that is wanted.
    pub fn ask_for_repair(&self, layer: &Snapshot) {
        if self.repairs(layer) {
            lock(&self.repairs.0).insert(layer.id, layer.key.clone());
            self.bell.ring();
        }
    }
}

/// Makes the repairs that were asked for. One that fails is asked for again by the next check.
///
/// # Errors
/// None: each failure is logged.
pub fn run(inner: &Inner) -> Result<()> {
    let asked = std::mem::take(&mut *lock(&inner.repairs.0));
    for (id, key) in asked {
        if inner.bell.stopping() {
            break;
        }
        if let Err(error) = repair(inner, id, &key) {
            log::error!("snapshot {} could not be repaired: {error}", Escaped(key.as_bytes()));
        }
    }
    Ok(())
}

fn repair(inner: &Inner, id: u64, key: &str) -> Result<()> {
    let snapshot = inner.snapshotter.stat(key)?;
    let Some((namespace, chain)) = name_in_containerd(key).filter(|_| snapshot.id == id) else { return Ok(()) };
    let progress = inner.bell.begin(key);
    let options = RepairOptions { root: inner.root.clone(), dry_run: false, force: false };
    let images = inner.images(namespace)?;
    let done = images.repair_layer(chain, &inner.snapshotter.layer_dir(id), &options, &progress)?;
    let verified = check::verify(inner, &snapshot, inner.policy.threads, &progress, &mut |_| Ok(()))?;
    let key = Escaped(key.as_bytes());
    match verified.findings {
        0 => log::warn!("snapshot {key} was damaged and is repaired: {} changes, verified", done.changes),
        left => log::error!("snapshot {key}: {left} findings are left after {} changes", done.changes),
    }
    Ok(())
}
