// SPDX-License-Identifier: Apache-2.0
//! Seals from the image: what was sealed as it lay on the disk is held against what the image's layer should have
//! put there, as soon as containerd knows an image that has the layer.
//!
//! Runs in the seal worker, after the seals, never inside a call of containerd's: it asks containerd. Manifest is held
//! against manifest, so the files are not read again. If they say the same, the seal is the image's from then on; if
//! not, what the image says becomes the seal, and the layer is damaged.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::{BufReader, Seek};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use crate::containerd::ChainId;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Escaped, Result};
use crate::image::{Explained, Hosts};
use crate::ops;
use crate::snapshotter::{Seal, SealSource, SealState, Snapshot};
use crate::tree::{Progress, Root};
use crate::verifier::Inner;
use crate::verifier::check::Damage;

/// Wait before containerd is asked again for layers that no image had; doubles each time. An image is recorded a
/// moment after its last layer is unpacked.
const RETRY_FIRST: Duration = Duration::from_secs(5);

/// The longest wait.
const RETRY_LAST: Duration = Duration::from_secs(300);

/// Buffer for reading a manifest, in bytes.
const READ_BUFFER: usize = 64 << 10;

/// Snapshots by chain ID: one that is removed and not yet collected has the same as the one that came after it.
type Layers = HashMap<ChainId, Vec<Snapshot>>;

/// When to ask, and for what no more.
pub struct Explainer {
    due: Option<Instant>,
    wait: Duration,
    /// Numbers of snapshots that an image has but can't explain: until the next start.
    hopeless: HashSet<u64>,
    /// Numbers of those whose blobs are not there, which was logged.
    told: HashSet<u64>,
}

impl Default for Explainer {
    fn default() -> Self {
        Self { due: None, wait: RETRY_FIRST, hopeless: HashSet::new(), told: HashSet::new() }
    }
}

impl Explainer {
    /// Something was committed: ask now.
    pub fn hurry(&mut self) {
        (self.due, self.wait) = (None, RETRY_FIRST);
    }

    /// Asks, if it is time to; says when to ask again.
    pub fn run(&mut self, inner: &Inner) -> Option<Instant> {
        inner.images.as_ref()?;
        if let Some(due) = self.due.filter(|due| *due > Instant::now()) {
            return Some(due);
        }
        match self.explain_all(inner) {
            Ok(0) => {
                self.hurry();
                return None;
            }
            Ok(left) => log::debug!("explain: no image has {left} layers yet"),
            Err(error) => log::debug!("explain: asking again in {} s: {error}", self.wait.as_secs()),
        }
        self.due = Some(Instant::now() + self.wait);
        self.wait = (self.wait * 2).min(RETRY_LAST);
        self.due
    }

    /// Returns how many layers nobody has explained yet.
    fn explain_all(&mut self, inner: &Inner) -> Result<usize> {
        let mut left = 0;
        let mut failure = None;
        for (namespace, layers) in self.candidates(inner)? {
            if inner.bell.stopping() {
                break;
            }
            match self.explain(inner, &namespace, &layers) {
                Ok(unknown) => left += unknown,
                // The other namespaces may do better.
                Err(error) => drop(failure.get_or_insert(error)),
            }
        }
        failure.map_or(Ok(left), Err)
    }

    /// The same for one namespace.
    fn explain(&mut self, inner: &Inner, namespace: &str, layers: &Layers) -> Result<usize> {
        let wanted = layers.keys().copied().collect();
        let mut done = HashSet::new();
        let progress = inner.bell.begin("");
        let unexplained = inner.images(namespace)?.explain(&wanted, &progress, &mut |chain, explained| {
            done.insert(chain);
            for snapshot in layers.get(&chain).into_iter().flatten() {
                if let Err(error) = hold_or_skip(inner, snapshot, explained, &progress) {
                    progress.check()?;
                    let key = Escaped(snapshot.key.as_bytes());
                    log::error!("snapshot {key} could not be held against its image: {error}");
                    self.hopeless.insert(snapshot.id);
                }
            }
            Ok(())
        })?;
        let hopeless = unexplained.hopeless;
        let hopeless_layers = hopeless.iter().filter_map(|chain| layers.get(chain)).flatten();
        self.hopeless.extend(hopeless_layers.map(|snapshot| snapshot.id));
        self.tell(layers, &unexplained.waiting);
        Ok(layers.keys().filter(|chain| !done.contains(chain) && !hopeless.contains(chain)).count())
    }

    /// Says why layers stay unexplained: of each once, and the same words once.
    fn tell(&mut self, layers: &Layers, waiting: &BTreeMap<ChainId, String>) {
        let mut reasons = BTreeSet::new();
        for (chain, why) in waiting {
            for snapshot in layers.get(chain).into_iter().flatten() {
                if self.told.insert(snapshot.id) {
                    reasons.insert(why);
                }
            }
        }
        reasons.iter().for_each(|why| log::warn!("sealed from the disk until its blob can be read: {why}"));
    }

    /// Sealed from the disk and named as containerd names an image's layers, by namespace. What builders commit, and
    /// what is remapped to other users, is named otherwise.
    fn candidates(&mut self, inner: &Inner) -> Result<BTreeMap<String, Layers>> {
        let snapshots = inner.snapshotter.list(&[])?;
        let ids: HashSet<_> = snapshots.iter().map(|snapshot| snapshot.id).collect();
        self.hopeless.retain(|id| ids.contains(id));
        self.told.retain(|id| ids.contains(id));
        let mut candidates: BTreeMap<_, Layers> = BTreeMap::new();
        for snapshot in snapshots {
            let from_disk = |seal: Seal| seal.source == SealSource::Disk && seal.manifest.is_some();
            if !snapshot.seal.is_some_and(from_disk) || self.hopeless.contains(&snapshot.id) {
                continue;
            }
            if let Some((namespace, chain)) = name_in_containerd(&snapshot.key) {
                candidates.entry(namespace.to_owned()).or_default().entry(chain).or_default().push(snapshot);
            }
        }
        Ok(candidates)
    }
}

/// Namespace and chain ID of a snapshot that is a layer of an image: containerd calls it `<namespace>/<number>/<chain
/// ID>` when it talks to us.
pub fn name_in_containerd(key: &str) -> Option<(&str, ChainId)> {
    let mut parts = key.splitn(3, '/');
    let (namespace, number, name) = (parts.next()?, parts.next()?, parts.next()?);
    number.parse::<u64>().ok()?;
    Some((namespace, ChainId(Digest::parse(name.as_bytes())?)))
}

/// Holds; that the snapshot was removed meanwhile is no failure.
fn hold_or_skip(inner: &Inner, snapshot: &Snapshot, explained: &Explained<'_>, progress: &Progress) -> Result<()> {
    let Err(error) = hold(inner, snapshot, explained, progress) else { return Ok(()) };
    match inner.snapshotter.stat(&snapshot.key) {
        Err(gone) if gone.kind() == ErrorKind::NotFound => Ok(()),
        Ok(other) if other.id != snapshot.id => Ok(()),
        _ => Err(error),
    }
}

/// Holds a layer's seal from the disk against what the image says.
fn hold(inner: &Inner, snapshot: &Snapshot, explained: &Explained<'_>, progress: &Progress) -> Result<()> {
    let Some(sealed) = snapshot.seal.and_then(|seal| seal.manifest) else { return Ok(()) };
    let below = snapshot.parent.as_deref().and_then(name_in_containerd).map(|(_, chain)| chain);
    if (below, snapshot.parent.is_none()) != (explained.below, explained.below.is_none()) {
        let message = "it is called as a layer of an image and has another parent";
        return Err(Error::new(ErrorKind::FailedPrecondition, message));
    }
    let directory = Root::open(&inner.snapshotter.layer_dir(snapshot.id))?;
    let mut expected = explained.manifest()?;
    let mut damage = Damage::default();
    // The seal was built without what the host puts on files, and so without what the image may have put there.
    let rules = explained.rules(&directory, &snapshot.labels, Hosts::Unrecorded);
    ops::diff_by(&rules, buffered(&expected), buffered(&inner.store.read(&sealed)?), &mut |finding| {
        progress.check()?;
        damage.add(&finding);
        Ok(())
    })?;
    let is_same = |seal: &Seal| seal.manifest == Some(sealed);
    if damage.count == 0 && !rules.found_unrecorded() {
        return inner.recorded.amend(snapshot, &inner.snapshotter, |seal| {
            is_same(&seal).then_some(Seal { source: SealSource::Image, ..seal })
        });
    }
    expected.rewind().map_err(|error| Error::io("lseek", "", error))?;
    // What the image does not say, the root among it, stays what it was when it was sealed.
    let mut manifest = inner.store.create()?;
    let rules = explained.rules(&directory, &snapshot.labels, Hosts::Expected);
    ops::reconcile(&rules, buffered(&expected), buffered(&inner.store.read(&sealed)?), &mut manifest)?;
    let _publishing = inner.publishing.read().unwrap_or_else(PoisonError::into_inner);
    let manifest = Some(manifest.publish()?);
    if damage.count == 0 {
        return inner.recorded.amend(snapshot, &inner.snapshotter, |seal| {
            is_same(&seal).then_some(Seal { source: SealSource::Image, manifest, ..seal })
        });
    }
    let key = Escaped(snapshot.key.as_bytes());
    log::error!(
        "snapshot {key} is not what {} of {} says: {damage}",
        explained.layer,
        Escaped(explained.image.as_bytes())
    );
    let damaged = Seal { state: SealState::Damaged, manifest, source: SealSource::Image, verified_at: None };
    inner.recorded.amend(snapshot, &inner.snapshotter, |seal| is_same(&seal).then_some(damaged))?;
    inner.ask_for_repair(&Snapshot { seal: Some(damaged), ..snapshot.clone() });
    Ok(())
}

fn buffered(manifest: &File) -> BufReader<&File> {
    BufReader::with_capacity(READ_BUFFER, manifest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_containerd_calls_a_layer_of_an_image_is_one() {
        let digest = Digest::of(b"layer");
        assert_eq!(name_in_containerd(&format!("default/7/{digest}")), Some(("default", ChainId(digest))));
        for other in [
            digest.to_string(),
            format!("default/{digest}"),
            format!("default/x/{digest}"),
            format!("default/7/{digest}-1000-1000"),
            "default/7/builder".into(),
            format!("default/7/extract-1 {digest}"),
        ] {
            assert_eq!(name_in_containerd(&other), None, "{other}");
        }
    }
}
