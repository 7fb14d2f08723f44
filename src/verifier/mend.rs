// SPDX-License-Identifier: Apache-2.0
//! Repairs that checks ask for: made by the seal worker, so never inside a call of containerd's.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Escaped, Result};
use crate::image::RepairOptions;
use crate::snapshotter::{SealSource, Snapshot};
use crate::verifier::explain::name_in_containerd;
use crate::verifier::{Inner, Repair, check, lock};

/// Wait after a repair that failed; doubles with each failure: whoever wants the layer asks again and again.
const RETRY_FIRST: Duration = Duration::from_secs(5);

/// The longest wait.
const RETRY_LAST: Duration = Duration::from_secs(300);

/// Layers that are to be repaired, or could not be, by number.
#[derive(Default)]
pub struct Repairs(Mutex<HashMap<u64, Repairing>>);

enum Repairing {
    /// Asked for; the layer's key, and the wait after the failure before.
    Asked(String, Option<Duration>),
    /// It is being done.
    Running,
    /// It failed for this reason; asked for again, it is tried again after the wait.
    Failed { reason: String, at: Instant, wait: Duration },
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
        let wait = match repairs.get(&layer.id) {
            Some(Repairing::Asked(..) | Repairing::Running) => return,
            Some(Repairing::Failed { at, wait, .. }) if at.elapsed() < *wait => return,
            Some(Repairing::Failed { wait, .. }) => Some(*wait),
            None => None,
        };
        repairs.insert(layer.id, Repairing::Asked(layer.key.clone(), wait));
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
    fn next_repair(&self) -> Option<(u64, String, Option<Duration>)> {
        let mut repairs = lock(&self.repairs.0);
        let (id, key, wait) = repairs.iter().find_map(|(id, repairing)| match repairing {
            Repairing::Asked(key, wait) => Some((*id, key.clone(), *wait)),
            _ => None,
        })?;
        repairs.insert(id, Repairing::Running);
        Some((id, key, wait))
    }
}

/// Makes the repairs that were asked for. One that fails is asked for again by the next check.
///
/// # Errors
/// None: each failure is logged.
pub fn run(inner: &Inner) -> Result<()> {
    while !inner.bell.stopping()
        && let Some((id, key, wait)) = inner.next_repair()
    {
        let repaired = repair(inner, id, &key);
        let mut repairs = lock(&inner.repairs.0);
        match repaired {
            Ok(()) => drop(repairs.remove(&id)),
            Err(error) => {
                log::error!("snapshot {} could not be repaired: {error}", Escaped(key.as_bytes()));
                let wait = wait.map_or(RETRY_FIRST, |wait| (wait * 2).min(RETRY_LAST));
                repairs.insert(id, Repairing::Failed { reason: error.to_string(), at: Instant::now(), wait });
            }
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
