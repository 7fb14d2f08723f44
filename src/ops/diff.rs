// SPDX-License-Identifier: Apache-2.0
//! Manifest and manifest to findings: the first is what is expected, the second what is found.

use std::cmp::Ordering;
use std::io::Read;

use super::compare::{Links, compare};
use super::finding::{Finding, FindingKind};
use super::rules::{Exact, Rules, Settled, settled};
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
    diff_by(&Exact, expected, found, report)
}

/// The same, for those differences only that count by the rules.
///
/// # Errors
/// As [`diff`]; what the rules fail with.
pub fn diff_by(
    rules: &dyn Rules,
    expected: impl Read,
    found: impl Read,
    report: &mut dyn FnMut(Finding) -> Result<()>,
) -> Result<VerifyReport> {
    let mut links = Links::new();
    let mut total = VerifyReport::default();
    let mut report = |finding| {
        total.findings += 1;
        report(finding)
    };
    let mut entries = 0;
    join_manifests(expected, found, &mut |expected, found| {
        entries += 1;
        match (expected, found) {
            (Some(expected), Some(found)) => {
                let Some(expected) = settled(rules, expected, Some(&found.resource))? else { return Ok(()) };
                compare(expected.path(), &expected.resource, &found.resource, false, &mut report)?;
                let link = found.link_id().filter(|_| rules.keeps_links(&found.resource));
                links.check(expected.path(), expected.link_id(), link, &mut report)
            }
            (Some(missing), None) => match settled(rules, missing, None)? {
                Some(missing) => report(one_sided(&missing, FindingKind::Missing)),
                None => Ok(()),
            },
            (None, Some(extra)) => match rules.settle(extra.path(), None, Some(&extra.resource))? {
                Settled::Same => Ok(()),
                _ => report(one_sided(extra, FindingKind::Extra)),
            },
            (None, None) => Ok(()),
        }
    })?;
    total.entries = entries;
    Ok(total)
}

/// Takes what two manifests have at a path.
pub(super) type Visit<'a> = dyn FnMut(Option<&ManifestEntry>, Option<&ManifestEntry>) -> Result<()> + 'a;

/// Hands the paths of two manifests to `visit`, in path order, those of both together.
pub(super) fn join_manifests(expected: impl Read, found: impl Read, visit: &mut Visit<'_>) -> Result<()> {
    let (mut left, mut right) = (Entries::new(expected), Entries::new(found));
    let (mut e, mut f) = (left.next().map_err(first)?, right.next().map_err(second)?);
    loop {
        let order = match (&e, &f) {
            (None, None) => return Ok(()),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(e), Some(f)) => e.cmp(f),
        };
        visit(e.as_ref().filter(|_| order.is_le()), f.as_ref().filter(|_| order.is_ge()))?;
        if order.is_le() {
            e = left.next().map_err(first)?;
        }
        if order.is_ge() {
            f = right.next().map_err(second)?;
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
