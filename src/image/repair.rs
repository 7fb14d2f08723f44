// SPDX-License-Identifier: Apache-2.0
//! Mending what is unpacked, in place, from the layers' blobs.
//!
//! ```text
//! image ──▶ Rootfs ──▶ a manifest of each directory ── plan ──▶ which contents are needed ── one pass ──▶ Staged
//! directory ◀── perform: each file beside its place, checked, renamed; what is extra goes to the quarantine ──┘
//! ```
//!
//! Nothing is changed before everything that is needed is at hand and checked. Each change is on the disk before the
//! next begins, so an interrupted repair leaves a tree that another one finishes.

mod directories;
mod kept;
mod staged;
mod users;

use std::fs::DirBuilder;
use std::io::BufReader;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use self::directories::Part;
use self::kept::{Quarantine, beneath};
use super::derive::{LayerCache, spool};
use super::list::{self, VerdictState};
use super::rules::Origin;
use super::unpacked::{Subject, Unpacked as Found};
use super::view::{unpacking_here, unpacking_of};
use super::{ImageEvent, ImageFinding, Images, LayerRef, Selection};
use crate::containerd::{ChainId, Image, Platform};
use crate::error::{Error, ErrorKind, Result};
use crate::layer::{MARK_NAMES, Rootfs};
use crate::ops::{Action, PerformOptions, Performed};
use crate::snapshotter::Labels;
use crate::tree::{Others, Progress};

/// Buffer for reading a derived manifest, in bytes.
const READ_BUFFER: usize = 64 << 10;

/// What our own snapshotter is called in the quarantine, whatever name containerd knows it by.
const OWN: &str = "continuity";

/// How to repair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepairOptions {
    /// Directory for contents on their way and for what is kept (`quarantine/`); made if it is missing.
    pub root: PathBuf,
    /// Tells the plan and changes nothing.
    pub dry_run: bool,
    /// Repairs also what is in use, keeping inodes where it can.
    pub force: bool,
}

/// What repairing tells, in order.
#[derive(Debug)]
pub enum RepairEvent {
    /// An image, as this snapshotter has it, begins.
    Begin {
        /// Reference.
        image: String,
        /// Name of the snapshotter; empty if it is not known where it is unpacked.
        snapshotter: String,
        /// What it is for, if that is known.
        platform: Option<Platform>,
    },
    /// A change: planned by a dry run, else done.
    Change {
        /// The layer whose directory is changed, or that put the path there if layers have none.
        layer: Option<LayerRef>,
        /// What is changed.
        action: Action,
        /// Where what was removed, or replaced by something of another type, is kept.
        kept: Option<PathBuf>,
    },
    /// What still differs: after a repair, or what a dry run has no change for.
    Left(ImageFinding),
    /// It ends.
    End(RepairReport),
    /// It could not be repaired, for this reason; instead of `End`.
    Failed(Error),
}

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RepairReport {
    /// Changes made, or planned by a dry run.
    pub changes: u64,
    /// Findings that are left, known from verifying again; a dry run counts what it has no change for.
    pub left: u64,
}

/// Tells somebody.
type Report<'a> = dyn FnMut(RepairEvent) -> Result<()> + 'a;

impl Images {
    /// Repairs, verifies again, and tells `report`.
    ///
    /// # Errors
    /// `NotFound` if there is no such image, it is unpacked nowhere, or a blob is not there, saying what to fetch.
    /// `FailedPrecondition`, naming the users, if a damaged layer is in use and `force` is not set; naming the
    /// directory, if another repair changes it. `Unsupported` for a snapshotter whose layers are no directories. Of
    /// several snapshotters each is tried, and the first error is returned. What `report` fails with, at once.
    pub fn repair(
        &self,
        reference: &str,
        selection: &Selection,
        options: &RepairOptions,
        progress: &Progress,
        report: &mut Report<'_>,
    ) -> Result<RepairReport> {
        let Found { subjects, unknown } = self.unpacked_by_name(reference, selection)?;
        let mut failure = None;
        for error in unknown {
            failure.get_or_insert_with(|| Error::new(error.kind(), error.to_string()));
            report(RepairEvent::Begin { image: reference.to_owned(), snapshotter: String::new(), platform: None })?;
            report(RepairEvent::Failed(error))?;
        }
        let repaired = self.repair_subjects(&subjects, options, progress, report)?;
        failure.map_or(Ok(repaired), Err)
    }

    /// Repairs one committed snapshot whose chain ID some image of the namespace explains, and the layers beneath it.
    ///
    /// # Errors
    /// As [`Images::repair`] and [`Images::verify_snapshot`].
    pub fn repair_snapshot(
        &self,
        snapshotter: &str,
        key: &str,
        options: &RepairOptions,
        progress: &Progress,
        report: &mut Report<'_>,
    ) -> Result<RepairReport> {
        let subject = self.subject_of(snapshotter, key)?;
        self.repair_subjects(&[subject], options, progress, report)
    }

    fn repair_subjects(
        &self,
        subjects: &[Subject],
        options: &RepairOptions,
        progress: &Progress,
        report: &mut Report<'_>,
    ) -> Result<RepairReport> {
        let mut total = RepairReport::default();
        let mut failure = None;
        for subject in subjects {
            let (image, snapshotter) = (subject.image.name.clone(), subject.snapshotter.clone());
            report(RepairEvent::Begin { image, snapshotter, platform: Some(subject.image.platform.clone()) })?;
            match self.repair_one(subject, options, progress, report) {
                Ok(done) => {
                    total.changes += done.changes;
                    total.left += done.left;
                    report(RepairEvent::End(done))?;
                }
                Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
                Err(error) => {
                    failure.get_or_insert_with(|| Error::new(error.kind(), error.to_string()));
                    report(RepairEvent::Failed(error))?;
                }
            }
        }
        failure.map_or(Ok(total), Err)
    }

    fn repair_one(
        &self,
        subject: &Subject,
        options: &RepairOptions,
        progress: &Progress,
        report: &mut Report<'_>,
    ) -> Result<RepairReport> {
        let Subject { image, chain, snapshotter } = subject;
        let mut cache = LayerCache::default();
        // Twice: to plan, and to verify what came of it.
        cache.announce(image);
        cache.announce(image);
        let mut lease = self.lease()?;
        let mounts = self.view(&mut lease, snapshotter, *chain)?;
        let rootfs = self.rootfs_with(image, unpacking_of(&mounts, snapshotter), &mut cache, progress)?;
        let origin = self.origin(image, snapshotter, &mounts);
        let parts = directories::of(&mounts, image, snapshotter, &origin)?;
        let mut unpacked = Unpacked { image, snapshotter, rootfs, parts, origin };
        self.plan(&mut unpacked, options, progress)?;
        if options.dry_run {
            return unpacked.planned(report);
        }
        if !unpacked.parts.is_empty() {
            // Whatever becomes of the repair, an earlier verdict holds no longer.
            list::record(&self.client, snapshotter, *chain, VerdictState::Damaged, None);
        }
        let planned = self.perform(unpacked, options, progress, report)?;
        drop(lease);
        let checked = self.verify_one(subject, &mut cache, progress, &mut |event| match event {
            ImageEvent::Finding(finding) => report(RepairEvent::Left(finding)),
            _ => Ok(()),
        });
        let checked = checked.map_err(|failure| failure.into_error().context("verifying again"))?;
        Ok(RepairReport { left: checked.report.findings, ..planned })
    }

    /// Repairs the own directory of one layer, whose snapshot has these labels, and nothing of the layers beneath it;
    /// whether it is right then, the caller finds out.
    ///
    /// # Errors
    /// As [`Images::repair`]; `FailedPrecondition` if no image explains the chain ID.
    pub fn repair_layer(
        &self,
        chain: ChainId,
        directory: &Path,
        labels: &Labels,
        options: &RepairOptions,
        progress: &Progress,
    ) -> Result<RepairReport> {
        let image = self.explaining(chain)?.ok_or_else(|| {
            let message = format!("no image of namespace {} explains {chain}", self.client.namespace());
            Error::new(ErrorKind::FailedPrecondition, message)
        })?;
        let rootfs = self.rootfs(&image, unpacking_here(), progress)?;
        let parts = vec![Part::of_layer(image.layers.len() - 1, directory.to_owned())?];
        let origin = Origin::of_layer(image.layers.len() - 1, labels);
        let mut unpacked = Unpacked { image: &image, snapshotter: OWN, rootfs, origin, parts };
        self.plan(&mut unpacked, options, progress)?;
        self.perform(unpacked, options, progress, &mut |_| Ok(()))
    }

    /// Plans what is to be done, and leaves only the parts where something is. They stay locked, but for a dry run.
    fn plan(&self, unpacked: &mut Unpacked<'_>, options: &RepairOptions, progress: &Progress) -> Result<()> {
        for part in &mut unpacked.parts {
            if !options.dry_run {
                part.lock()?;
            }
            let (manifest, _) = spool(|out| part.write_manifest(&unpacked.rootfs, out))?;
            let manifest = BufReader::with_capacity(READ_BUFFER, manifest);
            part.plan(&unpacked.rootfs, &unpacked.origin, manifest, self.settings.threads, progress)?;
        }
        unpacked.parts.retain(|part| !part.is_intact());
        Ok(())
    }

    /// Does what was planned.
    fn perform(
        &self,
        unpacked: Unpacked<'_>,
        options: &RepairOptions,
        progress: &Progress,
        report: &mut Report<'_>,
    ) -> Result<RepairReport> {
        let Unpacked { image, snapshotter, rootfs, parts, .. } = unpacked;
        let mut total = RepairReport::default();
        if parts.is_empty() {
            return Ok(total);
        }
        make_private(&options.root)?;
        self.check_unused(&parts, snapshotter, options.force)?;
        let staged = self.stage(&parts, image, &rootfs, &options.root, progress)?;
        // Again: staging took its time, and a container may have been started meanwhile.
        let uses = self.check_unused(&parts, snapshotter, options.force)?;
        uses.by.iter().for_each(|by| log::warn!("repairing what is in use: {by}"));
        let mut quarantine = Quarantine::new(&options.root, snapshotter);
        for (part, used) in parts.iter().zip(uses.of_parts) {
            let place = quarantine.of(part)?;
            let perform = PerformOptions {
                source: Some(&staged),
                quarantine: place.as_ref().map(|(_, root)| root),
                in_place: used && options.force,
                others: Others::HostsStay(&MARK_NAMES),
            };
            let done = part.plan.perform(&part.root, &perform, progress, &mut |performed| match performed {
                Performed::Done { action, kept } => report(RepairEvent::Change {
                    layer: part.layer_of(action.path(), image, &rootfs),
                    kept: place.as_ref().filter(|_| kept).map(|(place, _)| beneath(place, action.path())),
                    action: action.clone(),
                }),
                // The check that follows finds it.
                Performed::Unresolved(_) => Ok(()),
            })?;
            total.changes += done.done;
        }
        Ok(total)
    }
}

/// An image, and the directories that it is unpacked in.
struct Unpacked<'a> {
    image: &'a Image,
    snapshotter: &'a str,
    rootfs: Rootfs,
    origin: Origin,
    parts: Vec<Part>,
}

impl Unpacked<'_> {
    /// What a dry run tells.
    fn planned(&self, report: &mut Report<'_>) -> Result<RepairReport> {
        let mut total = RepairReport::default();
        for part in &self.parts {
            for action in &part.plan.actions {
                let layer = part.layer_of(action.path(), self.image, &self.rootfs);
                report(RepairEvent::Change { layer, action: action.clone(), kept: None })?;
                total.changes += 1;
            }
            for finding in &part.plan.unresolved {
                let layer = part.layer_of(&finding.path, self.image, &self.rootfs);
                report(RepairEvent::Left(ImageFinding { finding: finding.clone(), layer }))?;
                total.left += 1;
            }
        }
        Ok(total)
    }
}

/// Permissions of what only root may look into.
const PRIVATE: u32 = 0o700;

fn make_private(directory: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(PRIVATE)
        .create(directory)
        .map_err(|error| Error::io("mkdir", directory, error))
}
