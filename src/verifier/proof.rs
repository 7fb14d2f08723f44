// SPDX-License-Identifier: Apache-2.0
//! One layer's seal from the disk, compared with what its image says: manifest with manifest, the files are not read.

use std::fs::File;
use std::io::{BufReader, Seek};

use crate::digest::Digest;
use crate::error::{Error, Escaped, Result};
use crate::image::{Explained, Hosts};
use crate::key::SnapshotKey;
use crate::ops;
use crate::snapshotter::{Seal, SealSource, SealState, Snapshot};
use crate::tree::{Progress, Root};
use crate::verifier::check::Damage;
use crate::verifier::{Inner, publishing};

/// Buffer for reading a manifest, in bytes.
const READ_BUFFER: usize = 64 << 10;

/// What came of holding a layer against its image.
pub enum Held {
    /// It is written down; or the layer is gone.
    Compared,
    /// The image says nothing about this layer, whatever it is called, for this reason.
    Foreign(&'static str),
}

/// Holds a layer's seal from the disk against what the image says.
pub fn hold(inner: &Inner, snapshot: &Snapshot, explained: &Explained<'_>, progress: &Progress) -> Result<Held> {
    let Some(sealed) = snapshot.seal.and_then(|seal| seal.manifest) else { return Ok(Held::Compared) };
    let below = snapshot.parent.as_deref().and_then(SnapshotKey::parse).and_then(|key| key.chain_id());
    if (below, snapshot.parent.is_none()) != (explained.below, explained.below.is_none()) {
        return Ok(Held::Foreign("it is called as a layer of an image and has another parent"));
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
    let _publishing = publishing(inner);
    if damage.count == 0 {
        let manifest = match rules.found_unrecorded() {
            true => store(inner, explained, snapshot, &directory, (&mut expected, &sealed))?,
            false => sealed,
        };
        inner.recorded.amend(snapshot, &inner.snapshotter, |seal| {
            is_same(&seal).then_some(Seal { manifest: Some(manifest), ..agreed(seal) })
        })?;
        inner.contradictions.settled(snapshot.id);
        return Ok(Held::Compared);
    }
    // First of all: what follows needs a disk that takes a manifest, and the damage is there without it.
    inner.contradictions.found(snapshot.id, damage.clone());
    let recorded = inner.recorded.amend(snapshot, &inner.snapshotter, |seal| {
        is_same(&seal).then_some(Seal { state: SealState::Damaged, contradicted: true, ..seal })
    });
    let stored = recorded.and_then(|()| store(inner, explained, snapshot, &directory, (&mut expected, &sealed)));
    log::error!(
        "snapshot {} is not what {} of {} says: {damage}",
        Escaped(snapshot.key.as_bytes()),
        explained.layer,
        Escaped(explained.image.as_bytes())
    );
    let manifest = Some(stored?);
    let damaged = Seal { state: SealState::Damaged, manifest, source: SealSource::Image, ..Seal::PENDING };
    inner.recorded.amend(snapshot, &inner.snapshotter, |seal| is_same(&seal).then_some(damaged))?;
    inner.contradictions.settled(snapshot.id);
    inner.ask_for_repair(&Snapshot { seal: Some(damaged), ..snapshot.clone() });
    Ok(Held::Compared)
}

/// Stores what the image says of a layer. What it does not say, the root among it, stays what it was when it was
/// sealed. Until the record refers to it, the caller keeps the collection of manifests waiting.
pub fn store(
    inner: &Inner,
    explained: &Explained<'_>,
    snapshot: &Snapshot,
    directory: &Root,
    (expected, sealed): (&mut File, &Digest),
) -> Result<Digest> {
    expected.rewind().map_err(|error| Error::io("lseek", "", error))?;
    let mut manifest = inner.store.create()?;
    let rules = explained.rules(directory, &snapshot.labels, Hosts::Expected);
    ops::reconcile(&rules, buffered(expected), buffered(&inner.store.read(sealed)?), &mut manifest)?;
    manifest.publish()
}

/// A seal from the disk that the image agrees with.
fn agreed(seal: Seal) -> Seal {
    let is_new = seal.contradicted || seal.state == SealState::Unproven;
    let state = if is_new { SealState::Sealed } else { seal.state };
    Seal { state, source: SealSource::Image, contradicted: false, ..seal }
}

pub fn buffered(manifest: &File) -> BufReader<&File> {
    BufReader::with_capacity(READ_BUFFER, manifest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_image_agrees_with_is_sealed_and_a_check_keeps_its_say() {
        let seal = |state, contradicted| Seal { state, contradicted, ..Seal::PENDING };
        for (before, after) in [
            (seal(SealState::Unproven, false), SealState::Sealed),
            (seal(SealState::Damaged, true), SealState::Sealed),
            (seal(SealState::Damaged, false), SealState::Damaged),
            (seal(SealState::Verified, false), SealState::Verified),
            (seal(SealState::Sealed, false), SealState::Sealed),
        ] {
            let expected = Seal { state: after, source: SealSource::Image, ..Seal::PENDING };
            assert_eq!(agreed(before), expected, "{before:?}");
        }
    }
}
