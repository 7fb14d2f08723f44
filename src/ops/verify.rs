// SPDX-License-Identifier: Apache-2.0
//! Manifest and tree to findings.

use std::io::Read;

use rustix::io::Errno;

use super::compare::{Links, Report, compare};
use super::finding::{Finding, FindingKind};
use super::resource::resource_of;
use super::rules::{Exact, Rules};
use crate::error::{Error, ErrorKind, Result};
use crate::inode::FileType;
use crate::manifest::{Entries, ManifestEntry, Resource};
use crate::tree::{InodeId, Progress, Root, Step, Steps, WalkOptions, walk};

/// How to verify.
#[derive(Debug, Clone, Default)]
pub struct VerifyOptions {
    /// Ignores paths and xattrs that the tree has and the manifest lacks.
    pub subset: bool,
    /// Hashing threads; 0 means the cores, at most four.
    pub threads: usize,
    /// Files that are no extra, whatever they hold: the manifest itself, if it lies in the tree.
    pub skip: Vec<InodeId>,
}

/// What was verified. No finding means intact.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Paths compared: those of the manifest and those of the tree, each once.
    pub entries: u64,
    /// Bytes of file contents hashed.
    pub bytes: u64,
    /// Findings reported.
    pub findings: u64,
}

/// Holds the tree beneath `root` against a protobuf manifest and hands each difference to `report`, in path order.
///
/// # Errors
/// The manifest is invalid, the work was cancelled, or `report` failed. What is wrong with the tree is a finding.
pub fn verify(
    root: &Root,
    manifest: impl Read,
    options: &VerifyOptions,
    progress: &Progress,
    report: &mut dyn FnMut(Finding) -> Result<()>,
) -> Result<VerifyReport> {
    verify_by(&Exact, root, manifest, options, progress, report)
}

/// The same, for those differences only that count by the rules.
///
/// # Errors
/// As [`verify`]; what the rules fail with.
pub fn verify_by(
    rules: &dyn Rules,
    root: &Root,
    manifest: impl Read,
    options: &VerifyOptions,
    progress: &Progress,
    report: &mut dyn FnMut(Finding) -> Result<()>,
) -> Result<VerifyReport> {
    let before = progress.bytes();
    let mut findings = 0;
    let entries = join_by(rules, root, manifest, options, progress, &mut |mut pair| {
        pair.report(options.subset, &mut |finding| {
            findings += 1;
            report(finding)
        })
    })?;
    Ok(VerifyReport { entries, bytes: progress.bytes() - before, findings })
}

/// A path of the manifest, of the tree, or of both.
pub enum Pair<'a> {
    /// The tree lacks it.
    Missing(&'a ManifestEntry),
    /// The manifest lacks it.
    Extra(&'a [u8], &'a Resource),
    /// Both have it; the inode and its number of links, if that is over one.
    Both(&'a ManifestEntry, &'a Resource, Option<(InodeId, u64)>, &'a mut Links<u64, InodeId>),
    /// It could not be read, or not listed; what the manifest has there, if it is the path itself.
    Unreadable(&'a [u8], &'a Error, Option<&'a ManifestEntry>),
}

impl Pair<'_> {
    /// Hands over what differs.
    pub fn report(&mut self, subset: bool, report: &mut Report<'_>) -> Result<()> {
        let finding = |path: &[u8], kind, expected: &str, found: &str| Finding {
            path: path.to_vec(),
            kind,
            xattr: Vec::new(),
            expected: expected.into(),
            found: found.into(),
        };
        match self {
            Self::Missing(entry) => {
                let expected = entry.resource.mode.file_type().name();
                report(finding(entry.path(), FindingKind::Missing, expected, ""))
            }
            Self::Extra(_, _) if subset => Ok(()),
            // No manifest records a socket, so one more is no difference.
            Self::Extra(_, resource) if resource.mode.file_type() == FileType::Socket => Ok(()),
            Self::Extra(path, resource) => {
                report(finding(path, FindingKind::Extra, "", resource.mode.file_type().name()))
            }
            Self::Unreadable(path, error, _) => report(finding(path, FindingKind::Unreadable, "", &error.to_string())),
            Self::Both(entry, found, link, links) => {
                compare(entry.path(), &entry.resource, found, subset, report)?;
                links.check(entry.path(), entry.link_id(), link.map(|(id, _)| id), report)
            }
        }
    }
}

/// Joins manifest and tree, both in path order, and hands over what may differ by the rules; returns how many paths
/// there are.
///
/// # Errors
/// As [`verify_by`].
pub fn join_by(
    rules: &dyn Rules,
    root: &Root,
    manifest: impl Read,
    options: &VerifyOptions,
    progress: &Progress,
    take: &mut dyn FnMut(Pair<'_>) -> Result<()>,
) -> Result<u64> {
    let mut paths = 0;
    join(root, manifest, options, progress, &mut |pair| {
        paths += 1;
        pair.settle(rules, take)
    })?;
    Ok(paths)
}

fn join(
    root: &Root,
    manifest: impl Read,
    options: &VerifyOptions,
    progress: &Progress,
    take: &mut dyn FnMut(Pair<'_>) -> Result<()>,
) -> Result<()> {
    let mut entries = Entries::new(manifest);
    let include_root = entries.includes_root()?;
    let walk_options = WalkOptions { threads: options.threads, include_root, skip: options.skip.clone() };
    walk(root, &walk_options, progress, |steps| {
        Join { entries, skip: &options.skip, unread: Vec::new(), upcoming: None, links: Links::new() }.run(steps, take)
    })
}

struct Join<'a, R> {
    entries: Entries<R>,
    skip: &'a [InodeId],
    /// What was reported as unreadable, so that a directory is not reported again for its contents.
    unread: Vec<Vec<u8>>,
    upcoming: Option<ManifestEntry>,
    links: Links<u64, InodeId>,
}

impl<R: Read> Join<'_, R> {
    fn run(&mut self, steps: &mut Steps<'_>, take: &mut dyn FnMut(Pair<'_>) -> Result<()>) -> Result<()> {
        self.upcoming = self.entries.next()?;
        while let Some(step) = steps.next()? {
            match step {
                Step::Entry { path, node } => {
                    self.missing_before(&path, take)?;
                    let expected = self.take_at(&path)?;
                    match (expected, node) {
                        // overlayfs lists a whiteout that hides nothing, and says that nothing is there.
                        (None, Err(error)) if error.errno() == Some(Errno::NOENT.raw_os_error()) => {}
                        (expected, Err(error)) => {
                            unreadable(&path, error, expected.as_ref(), take)?;
                            self.remember_unread(path);
                        }
                        (None, Ok(node)) if self.skip.contains(&node.metadata.id) => {}
                        (None, Ok(node)) => take(Pair::Extra(&path, &resource_of(path.clone(), node)))?,
                        (Some(entry), Ok(node)) => {
                            let link = node.metadata.link_id().map(|id| (id, node.metadata.links));
                            let found = resource_of(path, node);
                            take(Pair::Both(&entry, &found, link, &mut self.links))?;
                        }
                    }
                }
                Step::Unlisted { path, error } => {
                    let mut subtree = path.clone();
                    if subtree != b"/" {
                        subtree.push(b'/');
                    }
                    self.missing_before(&subtree, take)?;
                    if !self.unread.contains(&path) {
                        unreadable(&path, error, None, take)?;
                    }
                    // What could not be listed is not known to be missing.
                    while self.upcoming.as_ref().is_some_and(|entry| entry.path().starts_with(&subtree)) {
                        self.upcoming = self.entries.next()?;
                    }
                }
            }
        }
        while let Some(entry) = self.upcoming.take() {
            take(Pair::Missing(&entry))?;
            self.upcoming = self.entries.next()?;
        }
        Ok(())
    }

    /// Remembers a path until its contents, if it has any, must have come.
    fn remember_unread(&mut self, path: Vec<u8>) {
        let passed = |last: &Vec<u8>| path.as_slice() > [last, &b"/"[..]].concat().as_slice();
        while self.unread.pop_if(|last| passed(last)).is_some() {}
        self.unread.push(path);
    }

    fn missing_before(&mut self, path: &[u8], take: &mut dyn FnMut(Pair<'_>) -> Result<()>) -> Result<()> {
        while let Some(entry) = self.upcoming.take_if(|entry| entry.path() < path) {
            take(Pair::Missing(&entry))?;
            self.upcoming = self.entries.next()?;
        }
        Ok(())
    }

    fn take_at(&mut self, path: &[u8]) -> Result<Option<ManifestEntry>> {
        let taken = self.upcoming.take_if(|entry| entry.path() == path);
        if taken.is_some() {
            self.upcoming = self.entries.next()?;
        }
        Ok(taken)
    }
}

/// What can't be read is a finding of the tree, unless it is this process that lacks the means to read it.
fn unreadable(
    path: &[u8],
    error: Error,
    expected: Option<&ManifestEntry>,
    take: &mut dyn FnMut(Pair<'_>) -> Result<()>,
) -> Result<()> {
    let ours = [Errno::MFILE, Errno::NFILE, Errno::NOMEM].map(|e| Some(e.raw_os_error()));
    match ours.contains(&error.errno()) || error.kind() == ErrorKind::Cancelled {
        true => Err(error),
        false => take(Pair::Unreadable(path, &error, expected)),
    }
}
