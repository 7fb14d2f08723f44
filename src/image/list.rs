// SPDX-License-Identifier: Apache-2.0
//! The images, and what is known about them.

use std::collections::{BTreeMap, HashSet};

use super::unpacked::Unpacked;
use super::{Images, Selection};
use crate::containerd::{ChainId, Client, Image, ImageRecord};
use crate::error::{Error, ErrorKind, Escaped, Result};
use crate::snapshotter::time;

/// Labels of an image's top snapshot that keep the last verdict on it.
const VERDICT: &str = "continuity.verdict";
const VERIFIED_AT: &str = "continuity.verified-at";
const ENTRIES: &str = "continuity.entries";

/// What a verification came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerdictState {
    /// No finding.
    Intact,
    /// Findings.
    Damaged,
}

impl VerdictState {
    /// As labels and lists have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Intact => "intact",
            Self::Damaged => "damaged",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        [Self::Intact, Self::Damaged].into_iter().find(|state| state.name() == name)
    }
}

/// The last verdict on an image, as one snapshotter has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Name of the snapshotter; the image is unpacked there.
    pub snapshotter: String,
    /// What it came to, when (RFC 3339), and how many paths the image has; none if it was never verified.
    pub last: Option<(VerdictState, String, u64)>,
}

/// What is known about an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageInfo {
    /// Reference.
    pub name: String,
    /// `os/architecture`; empty if the image can't be resolved.
    pub platform: String,
    /// How many layers.
    pub layers: usize,
    /// Paths of its root filesystem, as the last verification counted them.
    pub entries: Option<u64>,
    /// Of its layers' blobs, in bytes.
    pub size: u64,
    /// For each snapshotter that it is unpacked in.
    pub verdicts: Vec<Verdict>,
    /// What of it can't be told, and why; empty if all can.
    pub problem: String,
}

impl Images {
    /// Every image of the namespace, by name: once for each of its manifests that is unpacked, or else once.
    ///
    /// # Errors
    /// What containerd fails with. An image of which something can't be told is listed, with the reason.
    pub fn list(&self) -> Result<Vec<ImageInfo>> {
        let snapshotters = self.client.snapshotters()?;
        let names: Vec<_> = snapshotters.iter().map(|snapshotter| snapshotter.name.as_str()).collect();
        let mut listed = Vec::new();
        for record in self.client.images()? {
            listed.extend(self.infos(&record, &names));
        }
        Ok(listed)
    }

    fn infos(&self, record: &ImageRecord, snapshotters: &[&str]) -> Vec<ImageInfo> {
        let mut problem;
        let mut infos: Vec<ImageInfo> = Vec::new();
        match self.unpacked(record, &Selection::default()) {
            Ok(Unpacked { subjects, unknown }) => {
                problem = unknown.first().map(ToString::to_string).unwrap_or_default();
                let mut seen = HashSet::new();
                let images = subjects.iter().filter(|subject| seen.insert(subject.chain)).map(|subject| &subject.image);
                infos.extend(images.map(|image| self.info(image, snapshotters)));
            }
            Err(error) => problem = error.to_string(),
        }
        if infos.is_empty() {
            infos.push(match Image::resolve(&self.client, record, None) {
                Ok(image) => self.info(&image, snapshotters),
                Err(error) => {
                    if problem.is_empty() {
                        problem = error.to_string();
                    }
                    ImageInfo { name: record.name.clone(), ..ImageInfo::default() }
                }
            });
        }
        if let Some(info) = infos.first_mut() {
            info.problem = problem;
        }
        infos
    }

    fn info(&self, image: &Image, snapshotters: &[&str]) -> ImageInfo {
        let verdicts: Vec<_> = match image.chain_id() {
            // A snapshotter that does not answer has nothing to tell.
            Some(chain) => snapshotters.iter().filter_map(|name| self.verdict(name, chain).ok()).collect(),
            None => Vec::new(),
        };
        ImageInfo {
            name: image.name.clone(),
            platform: image.platform.to_string(),
            layers: image.layers.len(),
            entries: verdicts.iter().find_map(|verdict| verdict.last.as_ref().map(|last| last.2)),
            size: image.layers.iter().map(|layer| layer.blob.size).sum(),
            verdicts,
            problem: String::new(),
        }
    }

    fn verdict(&self, snapshotter: &str, chain: ChainId) -> Result<Verdict> {
        let labels = self.client.snapshot(snapshotter, &chain.to_string())?.labels;
        let last = || {
            let state = VerdictState::parse(labels.get(VERDICT)?)?;
            Some((state, labels.get(VERIFIED_AT)?.clone(), labels.get(ENTRIES)?.parse().ok()?))
        };
        Ok(Verdict { snapshotter: snapshotter.to_owned(), last: last() })
    }
}

/// Leaves a verdict where [`Images::list`] finds it, with the number of paths unless that was not counted anew. What
/// was found out stays true if that fails.
pub(super) fn record(client: &Client, snapshotter: &str, chain: ChainId, state: VerdictState, entries: Option<u64>) {
    let mut labels = BTreeMap::from([
        (VERDICT.to_owned(), state.name().to_owned()),
        (VERIFIED_AT.to_owned(), time::rfc3339(time::now())),
    ]);
    labels.extend(entries.map(|entries| (ENTRIES.to_owned(), entries.to_string())));
    let written: Result<(), Error> = client.set_snapshot_labels(snapshotter, &chain.to_string(), &labels);
    match written {
        // Collected meanwhile: nobody will ask.
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => {
            let name = Escaped(snapshotter.as_bytes());
            log::warn!("the verdict on {chain} in snapshotter {name} could not be kept: {error}");
        }
        Ok(()) => {}
    }
}
