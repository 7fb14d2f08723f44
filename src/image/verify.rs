// SPDX-License-Identifier: Apache-2.0
//! What is unpacked, held against what the image says.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::io::BufReader;

use super::attribute::Attribution;
use super::derive::{LayerCache, spool};
use super::list::{self, VerdictState};
use super::rules::RootfsRules;
use super::unpacked::{Subject, Unpacked};
use super::view::{layer_directories, unpacking_of};
use super::{Images, Selection};
use crate::containerd::{ChainId, Image, Layer, Platform};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Escaped, Result};
use crate::ops::{self, Finding, VerifyOptions, VerifyReport};
use crate::tree::Progress;

/// Buffer for reading a derived manifest, in bytes.
const READ_BUFFER: usize = 64 << 10;

/// The images that are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// One, by reference.
    One(String),
    /// Every image of the namespace; each blob is read once.
    All,
}

/// A layer, as a person is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerRef {
    /// From the bottom, beginning with 1.
    pub number: usize,
    /// Of its blob.
    pub digest: Digest,
    /// What made it, as the config's history says; may be empty.
    pub created_by: String,
}

impl LayerRef {
    /// As findings refer to it.
    pub fn of(layer: &Layer) -> Self {
        Self { number: layer.number, digest: layer.blob.digest, created_by: layer.created_by.clone() }
    }
}

impl fmt::Display for LayerRef {
    /// `layer 2 sha256:… "RUN …"`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "layer {} {}", self.number, self.digest)?;
        match self.created_by.as_str() {
            "" => Ok(()),
            created_by => write!(f, " \"{}\"", Escaped(created_by.as_bytes())),
        }
    }
}

/// A finding, and the layer that it belongs to: for a path of the image the one that put it there, for an extra one
/// the one in whose directory it lies, where layers have directories, else the topmost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFinding {
    /// What differs.
    pub finding: Finding,
    /// None for an image without layers.
    pub layer: Option<LayerRef>,
}

/// A damaged layer that other images have, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedLayer {
    /// The layer.
    pub layer: LayerRef,
    /// References of the other images of the namespace that are built on it, sorted.
    pub images: Vec<String>,
}

/// What verifying tells, in order.
#[derive(Debug)]
pub enum ImageEvent {
    /// An image, as this snapshotter has it, begins; findings that follow belong to it.
    Begin {
        /// Reference.
        image: String,
        /// Name of the snapshotter; empty if it is not known where it is unpacked.
        snapshotter: String,
        /// What it is for, if that is known.
        platform: Option<Platform>,
    },
    /// It differs.
    Finding(ImageFinding),
    /// It ends: no finding means intact.
    End {
        /// What was done.
        report: VerifyReport,
        /// For each layer with findings that other images share.
        shared: Vec<SharedLayer>,
    },
    /// It could not be checked, for this reason; instead of `End`.
    Unchecked(Error),
}

/// What one subject came to, for other references to the same.
pub(super) struct Checked {
    findings: Vec<ImageFinding>,
    pub report: VerifyReport,
    damaged: Vec<Layer>,
}

impl Images {
    /// Verifies, and tells `report`. The verdict is left as labels on the top snapshot, for [`Images::list`].
    ///
    /// # Errors
    /// `NotFound` if there is no such image or it is unpacked nowhere; after everything was tried, the first reason
    /// why something could not be checked; what `report` fails with, at once.
    pub fn verify(
        &self,
        which: &Which,
        selection: &Selection,
        progress: &Progress,
        report: &mut dyn FnMut(ImageEvent) -> Result<()>,
    ) -> Result<VerifyReport> {
        let mut failures = Failures::default();
        let subjects = match which {
            Which::One(reference) => {
                let Unpacked { subjects, unknown } = self.unpacked_by_name(reference, selection)?;
                failures.tell_all(reference, unknown, report)?;
                subjects
            }
            Which::All => self.all_subjects(selection, report, &mut failures)?,
        };
        self.verify_subjects(&subjects, failures, progress, report)
    }

    /// Verifies one committed snapshot whose chain ID some image of the namespace explains.
    ///
    /// # Errors
    /// `NotFound` if there is no such snapshot; `FailedPrecondition` if no image explains it.
    pub fn verify_snapshot(
        &self,
        snapshotter: &str,
        key: &str,
        progress: &Progress,
        report: &mut dyn FnMut(ImageEvent) -> Result<()>,
    ) -> Result<VerifyReport> {
        let subject = self.subject_of(snapshotter, key)?;
        self.verify_subjects(&[subject], Failures::default(), progress, report)
    }

    /// Every image of the namespace that is unpacked somewhere.
    fn all_subjects(
        &self,
        selection: &Selection,
        report: &mut dyn FnMut(ImageEvent) -> Result<()>,
        failures: &mut Failures,
    ) -> Result<Vec<Subject>> {
        let mut subjects = Vec::new();
        for record in self.client.images()? {
            let unknown = match self.unpacked(&record, selection) {
                Ok(found) => {
                    subjects.extend(found.subjects);
                    found.unknown
                }
                Err(error) => vec![error],
            };
            // Of an image that was removed meanwhile its documents are gone, too.
            let is_removed = || self.client.image(&record.name).is_err_and(|error| error.kind() == ErrorKind::NotFound);
            if !unknown.is_empty() && !is_removed() {
                failures.tell_all(&record.name, unknown, report)?;
            }
        }
        match subjects.is_empty() && failures.first.is_none() {
            true => Err(self.nothing_to_check(selection)?),
            false => Ok(subjects),
        }
    }

    fn verify_subjects(
        &self,
        subjects: &[Subject],
        mut failures: Failures,
        progress: &Progress,
        report: &mut dyn FnMut(ImageEvent) -> Result<()>,
    ) -> Result<VerifyReport> {
        let mut cache = LayerCache::default();
        let mut checked: HashMap<(ChainId, &str), Checked> = HashMap::new();
        let distinct: BTreeMap<_, _> =
            subjects.iter().map(|subject| ((subject.chain, subject.snapshotter.as_str()), subject)).collect();
        for subject in distinct.values() {
            cache.announce(&subject.image);
        }
        let mut total = VerifyReport::default();
        for subject in subjects {
            let Subject { image, chain, snapshotter } = subject;
            report(ImageEvent::Begin {
                image: image.name.clone(),
                snapshotter: snapshotter.clone(),
                platform: Some(image.platform.clone()),
            })?;
            let key = (*chain, snapshotter.as_str());
            // The same layers under another name: told again, not read again.
            if let Some(known) = checked.get(&key) {
                for finding in &known.findings {
                    report(ImageEvent::Finding(finding.clone()))?;
                }
                self.end(subject, known, report)?;
                continue;
            }
            match self.verify_one(subject, &mut cache, progress, report) {
                Ok(done) => {
                    self.end(subject, &done, report)?;
                    total.entries += done.report.entries;
                    total.bytes += done.report.bytes;
                    total.findings += done.report.findings;
                    checked.insert(key, done);
                }
                Err(Failure::Told(error)) => return Err(error),
                Err(Failure::Unchecked(error)) if error.kind() == ErrorKind::Cancelled => return Err(error),
                Err(Failure::Unchecked(error)) => failures.tell(error, report)?,
            }
        }
        failures.first.map_or(Ok(total), Err)
    }

    fn end(&self, subject: &Subject, done: &Checked, report: &mut dyn FnMut(ImageEvent) -> Result<()>) -> Result<()> {
        let shared = if done.damaged.is_empty() { Vec::new() } else { self.shared(subject, &done.damaged)? };
        report(ImageEvent::End { report: done.report, shared })
    }

    pub(super) fn verify_one(
        &self,
        subject: &Subject,
        cache: &mut LayerCache,
        progress: &Progress,
        report: &mut dyn FnMut(ImageEvent) -> Result<()>,
    ) -> Result<Checked, Failure> {
        let Subject { image, chain, snapshotter } = subject;
        let mut lease = self.lease()?;
        let mounts = self.view(&mut lease, snapshotter, *chain)?;
        let mounts = self.mountable(&mut lease, mounts)?;
        let rootfs = self.rootfs_with(image, unpacking_of(&mounts, snapshotter), cache, progress)?;
        let (manifest, entries) = spool(|out| rootfs.write_manifest(out))?;
        let root = self.mount(&mounts)?;
        let attribution =
            Attribution::new(&rootfs, layer_directories(&mounts).unwrap_or_default(), image.layers.len())?;
        let options = VerifyOptions { threads: self.settings.threads, ..VerifyOptions::default() };
        let mut findings = Vec::new();
        let mut damaged = BTreeSet::new();
        let mut told = Ok(());
        let manifest = BufReader::with_capacity(READ_BUFFER, manifest);
        let rules = RootfsRules::new(&rootfs, &root, self.origin(image, snapshotter, &mounts));
        let verified = ops::verify_by(&rules, &root, manifest, &options, progress, &mut |finding| {
            let number = attribution.layer_of(&finding)?;
            damaged.extend(number);
            let layer = number.and_then(|n| image.layers.get(n)).map(LayerRef::of);
            let finding = ImageFinding { finding, layer };
            findings.push(finding.clone());
            told = report(ImageEvent::Finding(finding));
            match told {
                Ok(()) => Ok(()),
                Err(_) => Err(Error::new(ErrorKind::Cancelled, "nobody listens")),
            }
        });
        told.map_err(Failure::Told)?;
        let done = verified?;
        let state = if done.findings == 0 { VerdictState::Intact } else { VerdictState::Damaged };
        list::record(&self.client, snapshotter, *chain, state, Some(entries));
        let damaged = damaged.into_iter().filter_map(|n| image.layers.get(n).cloned()).collect();
        Ok(Checked { findings, report: done, damaged })
    }

    /// For each damaged layer, the other images that are built on it.
    fn shared(&self, subject: &Subject, damaged: &[Layer]) -> Result<Vec<SharedLayer>> {
        let others: Vec<Image> = self.every_image()?.filter(|image| image.name != subject.image.name).collect();
        let has = |image: &Image, layer: &Layer| image.layers.iter().any(|other| other.chain_id == layer.chain_id);
        let shared = damaged.iter().map(|layer| SharedLayer {
            layer: LayerRef::of(layer),
            images: names_of(others.iter().filter(|image| has(image, layer))),
        });
        Ok(shared.filter(|shared| !shared.images.is_empty()).collect())
    }
}

/// Their references, each once.
fn names_of<'a>(images: impl Iterator<Item = &'a Image>) -> Vec<String> {
    let names: BTreeSet<_> = images.map(|image| image.name.clone()).collect();
    names.into_iter().collect()
}

/// Why a subject has no result.
pub(super) enum Failure {
    /// It could not be checked.
    Unchecked(Error),
    /// What `report` failed with.
    Told(Error),
}

impl Failure {
    pub(super) fn into_error(self) -> Error {
        match self {
            Self::Unchecked(error) | Self::Told(error) => error,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Unchecked(error)
    }
}

/// What could not be checked: each is told, the first is what the whole fails with.
#[derive(Default)]
struct Failures {
    first: Option<Error>,
}

impl Failures {
    /// What of one image cannot be told.
    fn tell_all(
        &mut self,
        image: &str,
        errors: Vec<Error>,
        report: &mut dyn FnMut(ImageEvent) -> Result<()>,
    ) -> Result<()> {
        for error in errors {
            report(ImageEvent::Begin { image: image.to_owned(), snapshotter: String::new(), platform: None })?;
            self.tell(error, report)?;
        }
        Ok(())
    }

    fn tell(&mut self, error: Error, report: &mut dyn FnMut(ImageEvent) -> Result<()>) -> Result<()> {
        self.first.get_or_insert_with(|| Error::new(error.kind(), error.to_string()));
        report(ImageEvent::Unchecked(error))
    }
}

/// The name of its top snapshot.
pub(super) fn chain_of(image: &Image) -> Result<ChainId> {
    image.chain_id().ok_or_else(|| {
        Error::new(ErrorKind::FailedPrecondition, format!("image {} has no layers: nothing is unpacked", image.name))
    })
}
