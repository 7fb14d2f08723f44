// SPDX-License-Identifier: Apache-2.0
//! Layers that differ from a seal that is the image's: are they damaged, or does the image allow what they are now?
//!
//! A seal says one thing where the image may allow several: a directory that no entry describes, a whiteout that hides
//! nothing. A repair may leave another one of them than was sealed, and a seal may be of an earlier version of this
//! program, with another notion of damage. **The image decides**: such a layer is compared with it anew, in the seal
//! worker, and what it allows becomes the seal. Until then the layer stays refused.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::time::Duration;

use crate::digest::Digest;
use crate::error::{Escaped, Result};
use crate::image::{Explained, Hosts};
use crate::manifest::{Entries, Resource};
use crate::ops::{self, BuildOptions};
use crate::snapshotter::{Seal, SealSource, SealState, Snapshot};
use crate::tree::{Progress, Root};
use crate::verifier::backoff::{Backoff, Retry};
use crate::verifier::proof::{buffered, store};
use crate::verifier::{Inner, lock, publishing};

/// How often one layer is compared anew: whoever wants it asks again and again, and each time all of it is read.
const RETRY: Backoff = Backoff { first: Duration::from_secs(5), last: Duration::from_secs(300) };

/// Layers to compare, by number: whether that is still to be done, and when it may be asked for again.
#[derive(Default)]
pub struct Again(Mutex<HashMap<u64, (bool, Retry)>>);

impl Again {
    /// A layer differs from its seal; says whether there is anything new to do.
    fn ask(&self, id: u64) -> bool {
        let mut asked = lock(&self.0);
        let before = asked.get(&id).map(|(_, retry)| *retry);
        if before.is_some_and(|before| !before.is_due()) {
            return false;
        }
        asked.insert(id, (true, RETRY.after(before.as_ref())));
        true
    }

    /// Whether a layer is to be compared.
    pub fn is_asked(&self, id: u64) -> bool {
        lock(&self.0).get(&id).is_some_and(|(asked, _)| *asked)
    }

    /// It is being compared.
    fn take(&self, id: u64) {
        if let Some((asked, _)) = lock(&self.0).get_mut(&id) {
            *asked = false;
        }
    }

    /// Keeps only the layers that there still are.
    pub fn retain(&self, ids: &HashSet<u64>) {
        lock(&self.0).retain(|id, _| ids.contains(id));
    }
}

impl Inner {
    /// A layer differs from its seal: the seal worker asks its image.
    pub fn ask_image_again(&self, layer: &Snapshot) {
        let is_of_image = layer.seal.is_some_and(|seal| seal.source == SealSource::Image);
        if is_of_image && self.images.is_some() && self.again.ask(layer.id) {
            self.bell.ring();
        }
    }
}

/// Compares a layer, as it lies on the disk now, with its image, and makes it the seal if the image allows it.
///
/// # Errors
/// The layer cannot be read, the image not be derived, or the seal not be stored.
pub fn compare(inner: &Inner, snapshot: &Snapshot, explained: &Explained<'_>, progress: &Progress) -> Result<()> {
    inner.again.take(snapshot.id);
    let Some(old) = snapshot.seal.and_then(|seal| seal.manifest) else { return Ok(()) };
    let directory = Root::open(&inner.snapshotter.layer_dir(snapshot.id))?;
    let threads = inner.policy.threads;
    let options = BuildOptions { threads, include_root: true, without_hosts: true, ..BuildOptions::default() };
    let mut manifest = inner.store.create()?;
    ops::build(&directory, &options, progress, &mut manifest, &mut |_| {})?;
    let _publishing = publishing(inner);
    let found = manifest.publish()?;
    let mut expected = explained.manifest()?;
    let rules = explained.rules(&directory, &snapshot.labels, Hosts::Unrecorded);
    let mut differences = 0;
    ops::diff_by(&rules, buffered(&expected), buffered(&inner.store.read(&found)?), &mut |_| {
        differences += 1;
        progress.check()
    })?;
    // No image describes the directory itself: of that, only the seal knows.
    if differences > 0 || root_of(inner, &old)? != root_of(inner, &found)? {
        return Ok(());
    }
    let manifest = match rules.found_unrecorded() {
        true => store(inner, explained, snapshot, &directory, (&mut expected, &found))?,
        false => found,
    };
    log::warn!(
        "snapshot {} differs from its seal and not from {}: it is intact, and sealed as it is",
        Escaped(snapshot.key.as_bytes()),
        Escaped(explained.image.as_bytes())
    );
    inner.recorded.amend(snapshot, &inner.snapshotter, |seal| {
        let is_same = seal.manifest == Some(old) && seal.source == SealSource::Image;
        is_same.then_some(Seal { state: SealState::Sealed, manifest: Some(manifest), ..seal })
    })
}

/// What a manifest says of the directory itself.
fn root_of(inner: &Inner, manifest: &Digest) -> Result<Option<Resource>> {
    let mut entries = Entries::new(inner.store.read(manifest)?);
    let first = entries.next()?.filter(|entry| entry.path() == b"/");
    Ok(first.map(|entry| Resource { xattrs: Vec::new(), ..(*entry.resource).clone() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_is_compared_once_however_often_it_is_asked_for() {
        let again = Again::default();
        assert!(!again.is_asked(7));
        assert!(again.ask(7));
        assert!(!again.ask(7), "it is asked for");
        assert!(again.is_asked(7));
        again.take(7);
        assert!(!again.is_asked(7) && !again.ask(7), "it was compared just now");
        again.retain(&HashSet::new());
        assert!(again.ask(7));
    }
}
