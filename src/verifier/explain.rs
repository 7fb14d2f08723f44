// SPDX-License-Identifier: Apache-2.0
//! Seals from the image: what was sealed as it lay on the disk is held against what the image's layer should have
//! put there, as soon as containerd knows an image that has the layer.
//!
//! Runs in the seal worker, after the seals, never inside a call of containerd's: it asks containerd. Manifest is held
//! against manifest, so the files are not read again. If they say the same, the seal is the image's from then on; if
//! not, what the image says becomes the seal, and the layer is damaged.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Escaped, Result};
use crate::image::Explained;
use crate::key::{ChainId, SnapshotKey};
use crate::snapshotter::{Seal, SealSource, SealState, Snapshot};
use crate::tree::Progress;
use crate::verifier::backoff::{Backoff, Retry};
use crate::verifier::proof::Held;
use crate::verifier::{Inner, Unproven, again, proof};

/// When containerd is asked again for layers that no image had, or that could not be compared. An image is recorded a
/// moment after its last layer is unpacked.
const RETRY: Backoff = Backoff { first: Duration::from_secs(5), last: Duration::from_secs(300) };

/// Snapshots by chain ID: one that is removed and not yet collected has the same as the one that came after it.
type Layers = HashMap<ChainId, Vec<Snapshot>>;

/// When to ask, and for what no more.
#[derive(Default)]
pub struct Explainer {
    retry: Option<Retry>,
    /// Numbers of snapshots that an image has but can't explain: until the next start. Only what the image itself says
    /// ends the asking; a disk that is full, or a connection that breaks, does not.
    hopeless: HashSet<u64>,
    /// Numbers of those whose blobs are not there, which was logged.
    told: HashSet<u64>,
    /// Why a layer is not explained yet.
    why: HashMap<u64, Why>,
}

/// Why a layer is not explained.
struct Why {
    reason: String,
    /// It is the image that says so, or that cannot say anything: not a failure of ours.
    is_final: bool,
}

impl Why {
    fn finally(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), is_final: true }
    }
}

impl Explainer {
    /// Something was committed: ask now.
    pub fn hurry(&mut self) {
        self.retry = None;
    }

    /// Asks, if it is time to; says when to ask again.
    pub fn run(&mut self, inner: &Inner) -> Option<Instant> {
        if let Some(retry) = self.retry.filter(|retry| !retry.is_due()) {
            return Some(retry.due);
        }
        let asked = self.explain_all(inner);
        if let Err(error) = self.settle_unproven(inner, asked.as_ref().err()) {
            log::error!("explain: {error}");
        }
        if matches!(asked, Ok(0)) || inner.images.is_none() {
            self.retry = None;
            return None;
        }
        let retry = RETRY.after(self.retry.as_ref());
        match asked {
            Ok(left) => log::debug!("explain: no image has {left} layers yet"),
            Err(error) => log::debug!("explain: asking again in {} s: {error}", retry.wait.as_secs()),
        }
        self.retry = Some(retry);
        Some(retry.due)
    }

    /// Asks now, for unproven layers that somebody waits for, and notes of each that stays so why it does.
    ///
    /// # Errors
    /// The snapshots cannot be listed, or a decision about one not be written down.
    pub fn answer(&mut self, inner: &Inner, wanted: &HashSet<u64>) -> Result<()> {
        if !unproven(inner)?.iter().any(|snapshot| wanted.contains(&snapshot.id)) {
            return Ok(());
        }
        let asked = self.explain_all(inner);
        // What is left is for the regular turn, which waits for nothing now.
        self.retry = None;
        self.settle_unproven(inner, asked.as_ref().err())
    }

    /// What becomes of unproven layers after all images were asked, which `failure` prevented for some.
    fn settle_unproven(&self, inner: &Inner, failure: Option<&Error>) -> Result<()> {
        for snapshot in unproven(inner)? {
            let is_of_image = SnapshotKey::parse(&snapshot.key).is_some_and(|key| key.chain_id().is_some());
            let (reason, is_final) = match (self.why.get(&snapshot.id), failure) {
                (Some(Why { reason, is_final }), _) => (reason.clone(), *is_final),
                (None, Some(failure)) if is_of_image => (failure.to_string(), false),
                _ if inner.images.is_none() => ("no containerd is configured to ask for its image".into(), true),
                _ => ("no image describes it".into(), true),
            };
            inner.requests.failed(snapshot.id, reason);
            if is_final && inner.policy.unproven == Unproven::Allow {
                take_for_sealed(inner, &snapshot)?;
            }
        }
        Ok(())
    }

    /// Returns how many layers nobody has explained yet.
    fn explain_all(&mut self, inner: &Inner) -> Result<usize> {
        if inner.images.is_none() {
            return Ok(0);
        }
        let mut left = 0;
        let mut failure = None;
        for (namespace, layers) in self.candidates(inner)? {
            if inner.bell.stopping() {
                // What was not asked for has no answer, not the answer that nobody knows it.
                return Err(Error::new(ErrorKind::Unavailable, "the daemon is stopping"));
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
        layers.values().flatten().for_each(|snapshot| drop(self.why.remove(&snapshot.id)));
        let mut done = HashSet::new();
        let progress = inner.bell.begin("");
        let mut failed = 0;
        let unexplained = inner.images(namespace)?.explain(&wanted, &progress, &mut |chain, explained| {
            done.insert(chain);
            for snapshot in layers.get(&chain).into_iter().flatten() {
                let key = Escaped(snapshot.key.as_bytes());
                match hold_or_skip(inner, snapshot, explained, &progress) {
                    Ok(Held::Compared) => {}
                    Ok(Held::Foreign(why)) => {
                        log::error!("snapshot {key} could not be held against its image: {why}");
                        self.why.insert(snapshot.id, Why::finally(why));
                        self.hopeless.insert(snapshot.id);
                    }
                    Err(error) => {
                        progress.check()?;
                        log::error!("snapshot {key} could not be held against its image, trying again: {error}");
                        self.why.insert(snapshot.id, Why { reason: error.to_string(), is_final: false });
                        failed += 1;
                    }
                }
            }
            Ok(())
        })?;
        let hopeless = unexplained.hopeless;
        for snapshot in hopeless.iter().filter_map(|chain| layers.get(chain)).flatten() {
            self.why.insert(snapshot.id, Why::finally("its image cannot be read as one (see the log)"));
            self.hopeless.insert(snapshot.id);
        }
        self.tell(layers, &unexplained.waiting);
        // The last word has what may end: a decision is not taken as long as there is hope of an answer.
        for (chain, reason) in &unexplained.failed {
            for snapshot in layers.get(chain).into_iter().flatten() {
                self.why.insert(snapshot.id, Why { reason: reason.clone(), is_final: false });
            }
        }
        Ok(failed + layers.keys().filter(|chain| !done.contains(chain) && !hopeless.contains(chain)).count())
    }

    /// Says why layers stay unexplained: of each once, and the same words once.
    fn tell(&mut self, layers: &Layers, waiting: &BTreeMap<ChainId, String>) {
        let mut reasons = BTreeSet::new();
        for (chain, why) in waiting {
            for snapshot in layers.get(chain).into_iter().flatten() {
                self.why.insert(snapshot.id, Why::finally(why.clone()));
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
        self.why.retain(|id, _| ids.contains(id));
        let mut candidates: BTreeMap<_, Layers> = BTreeMap::new();
        for snapshot in snapshots {
            let from_disk = |seal: Seal| seal.source == SealSource::Disk && seal.manifest.is_some();
            let is_open = snapshot.seal.is_some_and(from_disk) && !self.hopeless.contains(&snapshot.id);
            if !is_open && !inner.again.is_asked(snapshot.id) {
                continue;
            }
            let Some(key) = SnapshotKey::parse(&snapshot.key) else { continue };
            if let Some(chain) = key.chain_id() {
                let namespace = key.namespace.to_owned();
                candidates.entry(namespace).or_default().entry(chain).or_default().push(snapshot);
            }
        }
        Ok(candidates)
    }
}

/// Compares a layer with its image: by its seal, or as it is now if it differs from that. That the snapshot was removed
/// meanwhile is no failure.
fn hold_or_skip(inner: &Inner, snapshot: &Snapshot, explained: &Explained<'_>, progress: &Progress) -> Result<Held> {
    let held = match snapshot.seal.map(|seal| seal.source) {
        Some(SealSource::Image) => again::compare(inner, snapshot, explained, progress).map(|()| Held::Compared),
        _ => proof::hold(inner, snapshot, explained, progress),
    };
    let error = match held {
        Err(error) => error,
        held => return held,
    };
    match inner.snapshotter.stat(&snapshot.key) {
        Err(gone) if gone.kind() == ErrorKind::NotFound => Ok(Held::Compared),
        Ok(other) if other.id != snapshot.id => Ok(Held::Compared),
        _ => Err(error),
    }
}

/// Layers that are written down as they lie on the disk, and that nothing proves.
fn unproven(inner: &Inner) -> Result<Vec<Snapshot>> {
    let is_unproven = |seal: Seal| seal.state == SealState::Unproven && seal.manifest.is_some();
    let snapshots = inner.snapshotter.list(&[])?.into_iter();
    Ok(snapshots.filter(|snapshot| snapshot.seal.is_some_and(is_unproven)).collect())
}

/// No image can prove what this layer should be, and the policy is to take it for what it is.
fn take_for_sealed(inner: &Inner, snapshot: &Snapshot) -> Result<()> {
    let key = Escaped(snapshot.key.as_bytes());
    log::warn!("snapshot {key}: nothing proves it; sealed as it lies on the disk (verify.unproven = \"allow\")");
    inner.recorded.amend(snapshot, &inner.snapshotter, |seal| {
        (seal.state == SealState::Unproven).then_some(Seal { state: SealState::Sealed, ..seal })
    })
}
