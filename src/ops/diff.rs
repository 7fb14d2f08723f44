// SPDX-License-Identifier: Apache-2.0
//! Manifest and manifest to findings: the first is what is expected, the second what is found.

use std::io::Read;

use super::compare::{Links, compare};
use super::finding::{Finding, FindingKind};
use super::verify::VerifyReport;
use crate::error::Result;
use crate::manifest::{Entries, ManifestEntry};

/// Compares two protobuf manifests and hands each difference to `report`, in path order.
///
/// # Errors
/// Either manifest is invalid or can't be read; `report` failed.
pub fn diff(
    expected: impl Read,
    found: impl Read,
    report: &mut dyn FnMut(Finding) -> Result<()>,
) -> Result<VerifyReport> {
    let (mut left, mut right) = (Entries::new(expected), Entries::new(found));
    let (mut e, mut f) = (left.next().map_err(first)?, right.next().map_err(second)?);
    let mut links = Links::new();
    let mut total = VerifyReport::default();
    let mut report = |finding| {
        total.findings += 1;
        report(finding)
    };
    loop {
        total.entries += 1;
        match (&e, &f) {
            (None, None) => {
                total.entries -= 1;
                return Ok(total);
            }
            (Some(x), y) if y.as_ref().is_none_or(|y| x < y) => {
                report(one_sided(x, FindingKind::Missing))?;
                e = left.next().map_err(first)?;
            }
            (x, Some(y)) if x.as_ref().is_none_or(|x| y < x) => {
                report(one_sided(y, FindingKind::Extra))?;
                f = right.next().map_err(second)?;
            }
            (Some(x), Some(y)) => {
                compare(x.path(), &x.resource, &y.resource, false, &mut report)?;
                links.check(x.path(), x.link_id(), y.link_id(), &mut report)?;
                e = left.next().map_err(first)?;
                f = right.next().map_err(second)?;
            }
            // The guards above have taken every other pair.
            _ => return Ok(total),
        }
    }
}

fn first(error: crate::error::Error) -> crate::error::Error {
    error.context("first manifest")
}

fn second(error: crate::error::Error) -> crate::error::Error {
    error.context("second manifest")
}

fn one_sided(entry: &ManifestEntry, kind: FindingKind) -> Finding {
    let name = entry.resource.mode.file_type().name().to_owned();
    let (expected, found) = match kind {
        FindingKind::Missing => (name, String::new()),
        _ => (String::new(), name),
    };
    Finding { path: entry.path().to_vec(), kind, xattr: Vec::new(), expected, found }
}
