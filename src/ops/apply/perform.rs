// SPDX-License-Identifier: Apache-2.0
//! The changes of a plan, one after the other.

use std::collections::HashSet;
use std::os::fd::OwnedFd;

use super::plan::is_below;
use super::{Action, ApplyPlan, ApplyReport, Contents};
use crate::error::{Error, ErrorKind, Escaped, Result};
use crate::inode::FileType;
use crate::manifest::Resource;
use crate::ops::finding::{Finding, FindingKind};
use crate::tree::{Attributes, Progress, Root, Special, hash_file};

impl Action {
    /// The path that it changes.
    pub fn path(&self) -> &[u8] {
        match self {
            Self::Remove { path, .. }
            | Self::MakeDirectory { path }
            | Self::Write { path, .. }
            | Self::Create { path, .. }
            | Self::Link { path, .. }
            | Self::SetAttributes { path, .. } => path,
        }
    }
}

impl ApplyPlan {
    /// Performs the plan, with contents from `source`, and writes what was changed to the disk. A file whose
    /// contents the source lacks goes to `report` and the rest goes on.
    ///
    /// # Errors
    /// The first change that fails for another reason; what was done before stays done, and planning again finds
    /// what is left.
    pub fn perform(
        &self,
        root: &Root,
        source: Option<&Root>,
        progress: &Progress,
        report: &mut dyn FnMut(Finding) -> Result<()>,
    ) -> Result<ApplyReport> {
        let mut total = ApplyReport::default();
        let performed = self.perform_all(root, source, progress, &mut total, report);
        // What was done before an error is done, too.
        let synced = if total.done > 0 { root.sync() } else { Ok(()) };
        performed.and(synced).map(|()| total)
    }

    fn perform_all(
        &self,
        root: &Root,
        source: Option<&Root>,
        progress: &Progress,
        total: &mut ApplyReport,
        report: &mut dyn FnMut(Finding) -> Result<()>,
    ) -> Result<()> {
        let mut tell = |action: &Action, error: Error| {
            report(Finding {
                path: action.path().to_vec(),
                kind: FindingKind::Digest,
                xattr: Vec::new(),
                expected: String::new(),
                found: error.to_string(),
            })
        };
        // Directories that stay, because the contents of the file in their place are not to be had.
        let mut staying = HashSet::new();
        for action in self.replacing_directories() {
            if let Err(error) = check_source(action, source) {
                tell(action, error)?;
                staying.insert(action.path());
            }
        }
        // Files that keep what they have, likewise.
        let mut kept = HashSet::new();
        for action in &self.actions {
            progress.check()?;
            let stays = |path: &[u8]| staying.iter().any(|staying| *staying == path || is_below(path, staying));
            let on_kept = matches!(action, Action::Link { to, .. } if kept.contains(to.as_slice()) || stays(to));
            if stays(action.path()) || on_kept {
                continue;
            }
            match self.perform_one(action, root, source) {
                Ok(()) => total.done += 1,
                Err(Unresolved::Source(error)) => {
                    tell(action, error)?;
                    kept.insert(action.path());
                }
                Err(Unresolved::Other(error)) => return Err(error),
            }
        }
        total.unresolved = (staying.len() + kept.len()) as u64;
        Ok(())
    }

    /// Files that take the place of a directory, which goes before they come.
    fn replacing_directories(&self) -> impl Iterator<Item = &Action> {
        let directories: HashSet<&[u8]> = self
            .actions
            .iter()
            .filter_map(|action| match action {
                Action::Remove { path, directory: true } => Some(path.as_slice()),
                _ => None,
            })
            .collect();
        let is_write = |action: &&Action| matches!(action, Action::Write { .. });
        self.actions.iter().filter(is_write).filter(move |action| directories.contains(action.path()))
    }

    fn perform_one(&self, action: &Action, root: &Root, source: Option<&Root>) -> Result<(), Unresolved> {
        match action {
            Action::Remove { path, directory } => root.remove(path, *directory)?,
            Action::MakeDirectory { path } => root.make_directory(path)?,
            Action::Write { path, resource, contents } => {
                let file = open_contents(path, resource, contents, root, source).map_err(Unresolved::Source)?;
                let Some(digest) = resource.digest else { return Ok(()) };
                root.put_file(path, file, (digest, resource.size), attributes_of(resource, true)).map_err(
                    |e| match e.kind() {
                        ErrorKind::InvalidInput => Unresolved::Source(e),
                        _ => Unresolved::Other(e),
                    },
                )?;
            }
            Action::Create { path, resource } => {
                root.put_special(path, special_of(resource), attributes_of(resource, true))?;
            }
            Action::Link { path, to } => root.put_link(path, to)?,
            Action::SetAttributes { path, resource, fresh } => {
                let attributes = attributes_of(resource, self.prune || *fresh);
                match resource.mode.file_type() {
                    FileType::Symlink => root.set_owner(path, attributes)?,
                    FileType::Directory => root.set_attributes(path, FileType::Directory, attributes)?,
                    _ => root.set_attributes(path, FileType::Regular, attributes)?,
                }
            }
        }
        Ok(())
    }
}

/// Opens what holds the contents of a file.
fn open_contents(
    path: &[u8],
    resource: &Resource,
    contents: &Contents,
    root: &Root,
    source: Option<&Root>,
) -> Result<OwnedFd> {
    let (from, origin) = match (contents, source) {
        (Contents::Tree(origin), _) => (root, origin.as_slice()),
        (Contents::Source, Some(source)) => (source, path),
        (Contents::Source, None) => return Err(Error::new(ErrorKind::InvalidInput, "no source of contents")),
    };
    // A group of hard links may lie in the source under any of its names.
    let mut first = from.open_inode(origin, FileType::Regular);
    for name in &resource.paths {
        match first {
            Err(error) if error.kind() == ErrorKind::NotFound && name != origin => {
                first = from.open_inode(name, FileType::Regular).map_err(|_| error);
            }
            _ => break,
        }
    }
    first.map_err(|error| error.context("source"))
}

/// Makes sure that the source holds the contents that `action` needs.
fn check_source(action: &Action, source: Option<&Root>) -> Result<()> {
    let (Action::Write { path, resource, contents: Contents::Source }, Some(source)) = (action, source) else {
        return Ok(());
    };
    let file = open_contents(path, resource, &Contents::Source, source, Some(source))?;
    match hash_file(&file)? {
        found if resource.digest == Some(found) => Ok(()),
        found => Err(Error::new(ErrorKind::InvalidInput, format!("{}: the source holds {found}", Escaped(path)))),
    }
}

enum Unresolved {
    /// The contents are not to be had.
    Source(Error),
    Other(Error),
}

impl From<Error> for Unresolved {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

fn attributes_of(resource: &Resource, remove_others: bool) -> Attributes<'_> {
    Attributes {
        uid: resource.uid,
        gid: resource.gid,
        permissions: resource.mode.permissions(),
        xattrs: &resource.xattrs,
        remove_others,
    }
}

fn special_of(resource: &Resource) -> Special<'_> {
    match resource.mode.file_type() {
        FileType::Symlink => Special::Symlink(&resource.target),
        file_type => Special::Node(file_type, resource.device),
    }
}
