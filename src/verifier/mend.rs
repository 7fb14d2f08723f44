// SPDX-License-Identifier: Apache-2.0
//! Repairs that checks ask for: made by the seal worker, so never inside a call of containerd's.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Escaped, Result};
use crate::image::RepairOptions;
use crate::key::SnapshotKey;
use crate::snapshotter::{SealSource, Snapshot};
use crate::verifier::backoff::{Backoff, Retry};
use crate::verifier::{Inner, Repair, check, lock};

/// Whoever wants a layer whose repair failed asks again and again.
const RETRY: Backoff = Backoff { first: Duration::from_secs(5), last: Duration::from_secs(300) };

/// Layers that are to be repaired, or could not be, by number.
#[derive(Default)]
pub struct Repairs(Mutex<HashMap<u64, Repairing>>);

enum Repairing {
    /// Asked for; the layer's key, and the failure before.
    Asked(String, Option<Retry>),
    /// It is being done.
    Running,
    /// It failed for this reason; asked for again, it is tried again once that is due.
    Failed { reason: String, retry: Retry },
}

impl Repairs {
    /// Keeps only the layers that there still are.
    pub fn retain(&self, ids: &HashSet<u64>) {
        lock(&self.0).retain(|id, _| ids.contains(id));
    }
}

impl Inner {
    /// Whether the damage of a layer is mended without anybody saying so.
    pub fn repairs(&self, layer: &Snapshot) -> bool {
        let explained = layer.seal.is_some_and(|seal| seal.source == SealSource::Image);
        self.policy.repair == Repair::Auto && self.images.is_some() && explained
    }

    /// A layer is damaged: it is repaired in the background, if that is wanted.
    pub fn ask_for_repair(&self, layer: &Snapshot) {
        if !self.repairs(layer) {
            return;
        }
        let mut repairs = lock(&self.repairs.0);
        let before = match repairs.get(&layer.id) {
            Some(Repairing::Asked(..) | Repairing::Running) => return,
            Some(Repairing::Failed { retry, .. }) if !retry.is_due() => return,
            Some(Repairing::Failed { retry, .. }) => Some(*retry),
            None => None,
        };
        repairs.insert(layer.id, Repairing::Asked(layer.key.clone(), before));
        drop(repairs);
        self.bell.ring();
    }

    /// What a refusal adds about the repair of a damaged layer.
    pub fn repair_hint(&self, layer: &Snapshot) -> String {
        if !self.repairs(layer) {
            return String::new();
        }
        match lock(&self.repairs.0).get(&layer.id) {
            Some(Repairing::Failed { reason, .. }) => format!("; it could not be repaired: {reason}"),
            _ => "; it is being repaired: try again".into(),
        }
    }

    /// The next repair that was asked for.
    fn next_repair(&self) -> Option<(u64, String, Option<Retry>)> {
        let mut repairs = lock(&self.repairs.0);
        let (id, key, before) = repairs.iter().find_map(|(id, repairing)| match repairing {
            Repairing::Asked(key, before) => Some((*id, key.clone(), *before)),
            _ => None,
        })?;
        repairs.insert(id, Repairing::Running);
        Some((id, key, before))
    }
}

/// Makes the repairs that were asked for. One that fails is asked for again by the next check.
///
/// # Errors
/// None: each failure is logged.
pub fn run(inner: &Inner) -> Result<()> {
    while !inner.bell.stopping()
        && let Some((id, key, before)) = inner.next_repair()
    {
        let repaired = repair(inner, id, &key);
        let mut repairs = lock(&inner.repairs.0);
        match repaired {
            Ok(()) => drop(repairs.remove(&id)),
            Err(error) => {
                log::error!("snapshot {} could not be repaired: {error}", Escaped(key.as_bytes()));
                let retry = RETRY.after(before.as_ref());
                repairs.insert(id, Repairing::Failed { reason: error.to_string(), retry });
            }
        }
    }
    Ok(())
}

fn repair(inner: &Inner, id: u64, key: &str) -> Result<()> {
    let snapshot = inner.snapshotter.stat(key)?;
    let named = SnapshotKey::parse(key).filter(|_| snapshot.id == id);
    let Some((namespace, chain)) = named.and_then(|key| Some((key.namespace, key.chain_id()?))) else { return Ok(()) };
    let progress = inner.bell.begin(key);
    let options = RepairOptions { root: inner.root.clone(), dry_run: false, force: false };
    let images = inner.images(namespace)?;
    let directory = inner.snapshotter.layer_dir(id);
    let done = images.repair_layer(chain, &directory, &snapshot.labels, &options, &progress)?;
    let verified = check::verify(inner, &snapshot, inner.policy.threads, &progress, &mut |_| Ok(()))?;
    let key = Escaped(key.as_bytes());
    match verified.findings {
        0 => log::warn!("snapshot {key} was damaged and is repaired: {} changes, verified", done.changes),
        left => {
            let message = format!("{left} findings are left after {} changes", done.changes);
            return Err(Error::new(ErrorKind::FailedPrecondition, message));
        }
    }
    Ok(())
}
