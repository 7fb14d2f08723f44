// SPDX-License-Identifier: Apache-2.0
//! The changes of a plan, one after the other.

use super::{Action, ApplyPlan, ApplyReport, Contents};
use crate::error::{Error, ErrorKind, Escaped, Result};
use crate::manifest::{Kind, Resource};
use crate::ops::finding::{Finding, FindingKind};
use crate::tree::{Attributes, FileType, Progress, Root, Special, Xattr};

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
        for action in &self.actions {
            progress.check()?;
            match self.perform_one(action, root, source) {
                Ok(()) => total.done += 1,
                Err(Unresolved::Source(error)) => {
                    total.unresolved += 1;
                    report(Finding {
                        path: action.path().to_vec(),
                        kind: FindingKind::Digest,
                        xattr: Vec::new(),
                        expected: String::new(),
                        found: error.to_string(),
                    })?;
                }
                Err(Unresolved::Other(error)) => return Err(error),
            }
        }
        if total.done > 0 {
            root.sync()?;
        }
        Ok(total)
    }

    fn perform_one(&self, action: &Action, root: &Root, source: Option<&Root>) -> Result<(), Unresolved> {
        match action {
            Action::Remove { path, directory } => root.remove(path, *directory)?,
            Action::MakeDirectory { path } => root.make_directory(path)?,
            Action::Write { path, resource, contents } => {
                let (from, origin) = match (contents, source) {
                    (Contents::Source, Some(source)) => (source, path),
                    (Contents::Source, None) => {
                        let message = format!("{}: no source of contents", Escaped(path));
                        return Err(Unresolved::Source(Error::new(ErrorKind::InvalidInput, message)));
                    }
                    (Contents::Tree(origin), _) => (root, origin),
                };
                // A group of hard links may lie in the source under any of its names.
                let mut names = std::iter::once(origin).chain(resource.paths.iter().filter(|p| *p != origin));
                let file = loop {
                    match names.next().map(|name| from.open_inode(name, FileType::Regular)) {
                        Some(Err(error)) if error.kind() == ErrorKind::NotFound && resource.paths.len() > 1 => {}
                        Some(opened) => break opened.map_err(|e| Unresolved::Source(e.context("source")))?,
                        None => {
                            let error = Error::new(ErrorKind::NotFound, "source: none of its names is there");
                            return Err(Unresolved::Source(error));
                        }
                    }
                };
                let Some(digest) = resource.digest else { return Ok(()) };
                let xattrs = xattrs_of(resource);
                root.put_file(path, file, digest, attributes_of(resource, &xattrs, true)).map_err(|e| {
                    match e.kind() {
                        ErrorKind::InvalidInput => Unresolved::Source(e),
                        _ => Unresolved::Other(e),
                    }
                })?;
            }
            Action::Create { path, resource } => {
                root.put_special(path, special_of(resource), attributes_of(resource, &[], true))?;
            }
            Action::Link { path, to } => root.put_link(path, to)?,
            Action::SetAttributes { path, resource } => {
                let xattrs = xattrs_of(resource);
                let attributes = attributes_of(resource, &xattrs, self.prune);
                match resource.mode.kind() {
                    Kind::Symlink => root.set_owner(path, attributes)?,
                    Kind::Directory => root.set_attributes(path, FileType::Directory, attributes)?,
                    _ => root.set_attributes(path, FileType::Regular, attributes)?,
                }
            }
        }
        Ok(())
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

fn xattrs_of(resource: &Resource) -> Vec<Xattr> {
    resource.xattrs.iter().map(|x| Xattr { name: x.name.clone(), value: x.value.clone() }).collect()
}

fn attributes_of<'a>(resource: &Resource, xattrs: &'a [Xattr], remove_others: bool) -> Attributes<'a> {
    Attributes { uid: resource.uid, gid: resource.gid, permissions: resource.mode.permissions(), xattrs, remove_others }
}

fn special_of(resource: &Resource) -> Special<'_> {
    match resource.mode.kind() {
        Kind::Symlink => Special::Symlink(&resource.target),
        Kind::CharDevice => Special::Node(FileType::CharDevice, resource.device),
        Kind::BlockDevice => Special::Node(FileType::BlockDevice, resource.device),
        _ => Special::Node(FileType::Fifo, (0, 0)),
    }
}
