// SPDX-License-Identifier: Apache-2.0
//! One layer held against its seal.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Mutex;
use std::time::Instant;

use rustix::io::Errno;

use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Escaped, Result};
use crate::image::{Hosts, LayerRules};
use crate::layer::Marks;
use crate::ops::{self, Finding, FindingKind, VerifyOptions, VerifyReport};
use crate::snapshotter::{Seal, SealSource, SealState, Snapshot, Snapshotter, time};
use crate::tree::{Progress, Root};
use crate::verifier::{Inner, lock};

/// Findings that a refusal names; the rest is counted.
const NAMED: usize = 3;

/// What opening a directory fails with where there is none.
const NO_DIRECTORY: [i32; 2] = [Errno::NOENT.raw_os_error(), Errno::NOTDIR.raw_os_error()];

/// What is known about a layer after a check. The three are never confused.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// The files are what the manifest says.
    Intact,
    /// They are not.
    Damaged(Damage),
    /// It could not be found out.
    Unchecked {
        /// Why.
        reason: String,
        /// `Corrupt` if what the files are checked against has rotted, else `FailedPrecondition`.
        kind: ErrorKind,
    },
    /// It was given up: the daemon is stopping, or the layer is gone.
    Stopped,
}

impl Outcome {
    /// What it means that a check ended with an error.
    pub fn of(error: &Error) -> Self {
        let kind = match error.kind() {
            ErrorKind::Cancelled => return Self::Stopped,
            ErrorKind::Corrupt => ErrorKind::Corrupt,
            _ => ErrorKind::FailedPrecondition,
        };
        Self::Unchecked { reason: error.to_string(), kind }
    }
}

/// The first findings of a layer, and how many there are.
#[derive(Debug, Clone, Default)]
pub struct Damage {
    first: Vec<Finding>,
    pub(super) count: u64,
}

impl Damage {
    pub(super) fn add(&mut self, finding: &Finding) {
        if self.first.len() < NAMED {
            self.first.push(finding.clone());
        }
        self.count += 1;
    }
}

impl fmt::Display for Damage {
    /// "/a: digest: expected …, found …; /b: missing; and 7 more findings".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, finding) in self.first.iter().enumerate() {
            write!(f, "{}{finding}", if n == 0 { "" } else { "; " })?;
        }
        match self.count.saturating_sub(self.first.len() as u64) {
            0 => Ok(()),
            1 => f.write_str("; and 1 more finding"),
            more => write!(f, "; and {more} more findings"),
        }
    }
}

/// Verifies one layer, writes the result down, and says what it was.
pub fn check(inner: &Inner, layer: &Snapshot, progress: &Progress) -> Outcome {
    let mut damage = Damage::default();
    let verified = verify(inner, layer, inner.policy.threads, progress, &mut |finding| {
        damage.add(&finding);
        Ok(())
    });
    match verified {
        Ok(VerifyReport { findings: 0, .. }) => Outcome::Intact,
        Ok(_) => Outcome::Damaged(damage),
        Err(error) => Outcome::of(&error),
    }
}

/// Damage that images told of while what they say could not be stored as the seal, by the layer's number. It is
/// recorded as well, if it can be; this holds also on a disk that takes nothing.
#[derive(Default)]
pub struct Contradictions(Mutex<HashMap<u64, Damage>>);

impl Contradictions {
    /// Until [`Contradictions::settled`], the layer is damaged.
    pub fn found(&self, id: u64, damage: Damage) {
        lock(&self.0).insert(id, damage);
    }

    /// The seal is what the image says, or the image agrees with it.
    pub fn settled(&self, id: u64) {
        lock(&self.0).remove(&id);
    }

    /// The damage, if there is any.
    pub fn get(&self, id: u64) -> Option<Damage> {
        lock(&self.0).get(&id).cloned()
    }

    /// Keeps only the layers that there still are.
    pub fn retain(&self, ids: &HashSet<u64>) {
        lock(&self.0).retain(|id, _| ids.contains(id));
    }
}

/// Verifies one layer, hands each finding to `report`, and writes the result down: verified now, or damaged. That
/// its directory is gone is damage. What could not be checked changes nothing, except that a layer without a
/// usable manifest is no longer called verified.
///
/// # Errors
/// `FailedPrecondition` if the layer has no seal that proves anything; `NotFound` if it is gone; `Corrupt` if its
/// manifest is gone or damaged; else as [`ops::verify`].
pub fn verify(
    inner: &Inner,
    layer: &Snapshot,
    threads: usize,
    progress: &Progress,
    report: &mut dyn FnMut(Finding) -> Result<()>,
) -> Result<VerifyReport> {
    let began = Instant::now();
    if let Some(damage) = inner.contradictions.get(layer.id) {
        for finding in &damage.first {
            report(finding.clone())?;
        }
        return Ok(VerifyReport { entries: damage.count, bytes: 0, findings: damage.count });
    }
    let (seal, manifest) = sealed(layer)?;
    let manifest = inner.store.read(&manifest).or_else(|error| Err(without_manifest(inner, layer, began, error)?))?;
    let done = match open(inner, layer)? {
        Some(root) => {
            let options = VerifyOptions { threads, ..Default::default() };
            ops::verify_by(&rules(inner, layer, seal, &root, progress)?, &root, manifest, &options, progress, report)?
        }
        None => {
            report(Finding {
                path: b"/".to_vec(),
                kind: FindingKind::Missing,
                xattr: Vec::new(),
                expected: "directory".into(),
                found: String::new(),
            })?;
            VerifyReport { entries: 1, bytes: 0, findings: 1 }
        }
    };
    let seal = match done.findings {
        0 => Seal { state: SealState::Verified, verified_at: Some(time::now()), ..seal },
        _ => Seal { state: SealState::Damaged, ..seal },
    };
    // A layer that was removed meanwhile fails here, and its missing files are not taken for damage.
    noted(layer, inner.recorded.record(layer, seal, began, &inner.snapshotter))?;
    Ok(done)
}

/// Which differences between a layer and its seal count.
fn rules<'a>(
    inner: &Inner,
    layer: &Snapshot,
    seal: Seal,
    root: &'a Root,
    progress: &'a Progress,
) -> Result<LayerRules<'a>> {
    let below = inner.snapshotter.chain(&layer.key)?.into_iter().skip(1);
    let below = below.map(|layer| inner.snapshotter.layer_dir(layer.id)).collect();
    let hosts = match seal.source {
        SealSource::Image => Hosts::Expected,
        SealSource::Disk => Hosts::Unknown,
    };
    Ok(LayerRules::of_seal(root, below, Marks::here(), hosts, progress))
}

/// Opens the layer's directory; none if there is no such directory, though the layer exists.
///
/// # Errors
/// `NotFound` if the layer was removed meanwhile; as [`Root::open`].
fn open(inner: &Inner, layer: &Snapshot) -> Result<Option<Root>> {
    match Root::open(&inner.snapshotter.layer_dir(layer.id)) {
        Err(error) if error.errno().is_some_and(|errno| NO_DIRECTORY.contains(&errno)) => {
            // A directory goes after its record: with the record still there, nobody removed the layer.
            let found = inner.snapshotter.stat(&layer.key)?;
            if found.id != layer.id {
                return Err(error);
            }
            Ok(None)
        }
        opened => opened.map(Some),
    }
}

/// What it means that a layer's manifest could not be read: if it is gone or damaged, there is nothing left to hold
/// the layer against, and it must not go on being called verified. A layer known to be damaged stays that.
///
/// # Errors
/// `NotFound` if the layer was removed meanwhile, and its manifest with it.
fn without_manifest(inner: &Inner, layer: &Snapshot, began: Instant, error: Error) -> Result<Error> {
    if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) {
        return Ok(error);
    }
    // Asked for anew: another check may have found damage since the caller read it.
    let (seal, _) = sealed(&inner.snapshotter.stat(&layer.key)?)?;
    if seal.state == SealState::Verified {
        let seal = Seal { state: SealState::Sealed, verified_at: None, ..seal };
        noted(layer, inner.recorded.record(layer, seal, began, &inner.snapshotter))?;
    }
    let message = format!(
        "{error}; nothing is left to hold the layer against: remove the images and containers that use it and \
         unpack it again"
    );
    Ok(Error::new(ErrorKind::Corrupt, message))
}

/// What was found out stays true if it could not be written down, because the disk is full, say; but of a layer
/// that is gone nothing was found out.
fn noted(layer: &Snapshot, written: Result<()>) -> Result<()> {
    match written {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            let key = Escaped(layer.key.as_bytes());
            log::error!("snapshot {key}: it was checked, but the result could not be written down: {error}");
            Ok(())
        }
        written => written,
    }
}

/// Who wrote down what, so that of two checks of a layer the one that began later has the last word: an old one
/// that ends late may have read a file before it was put right, or before it was damaged.
#[derive(Default)]
pub struct Recorded(Mutex<HashMap<u64, Instant>>);

impl Recorded {
    /// Of what the check was held against, nothing is written: it may have been replaced since the check was asked
    /// for, and then the result says nothing any more.
    fn record(&self, layer: &Snapshot, seal: Seal, began: Instant, snapshotter: &Snapshotter) -> Result<()> {
        let mut last = lock(&self.0);
        let now = snapshotter.stat(&layer.key)?;
        if last.get(&layer.id).is_some_and(|newer| *newer > began) {
            return Ok(());
        }
        if let Some(current) = now.seal.filter(|current| current.proof() == seal.manifest) {
            let seal = Seal { state: seal.state, verified_at: seal.verified_at, ..current };
            snapshotter.set_seal(&layer.key, layer.id, seal)?;
            last.insert(layer.id, began);
        }
        Ok(())
    }

    /// Changes the seal as it is now, and has the last word over every check that has begun.
    ///
    /// # Errors
    /// `NotFound` if the layer is gone.
    pub fn amend(
        &self,
        layer: &Snapshot,
        snapshotter: &Snapshotter,
        change: impl FnOnce(Seal) -> Option<Seal>,
    ) -> Result<()> {
        let mut last = lock(&self.0);
        let now = snapshotter.stat(&layer.key)?;
        if now.id != layer.id {
            let message = format!("snapshot {} is another one now", Escaped(layer.key.as_bytes()));
            return Err(Error::new(ErrorKind::NotFound, message));
        }
        if let Some(seal) = now.seal.and_then(change) {
            snapshotter.set_seal(&layer.key, layer.id, seal)?;
            last.insert(layer.id, Instant::now());
        }
        Ok(())
    }

    /// Keeps only the layers that there still are.
    pub fn retain(&self, ids: &HashSet<u64>) {
        lock(&self.0).retain(|id, _| ids.contains(id));
    }
}

/// The seal of a layer, and the manifest that its files are checked against.
///
/// # Errors
/// `FailedPrecondition`, saying why there is none.
fn sealed(layer: &Snapshot) -> Result<(Seal, Digest)> {
    let why = match layer.seal {
        Some(Seal { contradicted: true, .. }) => "it is damaged, as its image says, which could not be stored yet",
        Some(Seal { state: SealState::Unproven, .. }) => "nothing but its image can prove what it holds",
        Some(seal) if seal.manifest.is_some() => "",
        _ => "its seal is still pending: try again",
    };
    let unsealed =
        || Error::new(ErrorKind::FailedPrecondition, format!("snapshot {}: {why}", Escaped(layer.key.as_bytes())));
    let seal = layer.seal.ok_or_else(unsealed)?;
    Ok((seal, seal.proof().ok_or_else(unsealed)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshotter::{Kind, Usage};

    #[test]
    fn a_result_counts_even_if_it_cannot_be_written_down_but_not_for_a_layer_that_is_gone() {
        let layer = Snapshot {
            id: 1,
            key: "layer".into(),
            parent: None,
            kind: Kind::Committed,
            labels: Default::default(),
            created_at: 0,
            updated_at: 0,
            usage: Usage::default(),
            seal: None,
        };
        let failed = |kind| Err(Error::new(kind, "for the test"));
        noted(&layer, Ok(())).unwrap();
        noted(&layer, failed(ErrorKind::Io)).unwrap();
        assert_eq!(noted(&layer, failed(ErrorKind::NotFound)).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn damage_names_three_and_counts_the_rest() {
        let mut damage = Damage::default();
        let mut texts = Vec::new();
        for n in 0..5 {
            damage.add(&Finding {
                path: format!("/{n}").into_bytes(),
                kind: FindingKind::Missing,
                xattr: Vec::new(),
                expected: String::new(),
                found: String::new(),
            });
            texts.push(damage.to_string());
        }
        assert_eq!(texts[0], "/0: missing");
        assert_eq!(texts[2], "/0: missing; /1: missing; /2: missing");
        assert_eq!(texts[3], "/0: missing; /1: missing; /2: missing; and 1 more finding");
        assert_eq!(texts[4], "/0: missing; /1: missing; /2: missing; and 2 more findings");
    }
}
