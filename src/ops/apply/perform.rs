// SPDX-License-Identifier: Apache-2.0
//! The changes of a plan, one after the other.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;

use rustix::io::Errno;

use super::plan::is_below;
use super::{Action, ApplyPlan, ApplyReport, Contents, PerformOptions, Performed, Source};
use crate::digest::HashingStream;
use crate::error::{Error, ErrorKind, Escaped, Result};
use crate::inode::FileType;
use crate::manifest::Resource;
use crate::ops::finding::{Finding, FindingKind};
use crate::tree::{Attributes, Others, Progress, Root, Special, is_temporary};

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
    /// Performs the plan and writes what was changed to the disk. A file whose contents the source lacks is told and
    /// the rest goes on.
    ///
    /// # Errors
    /// The first change that fails for another reason; what was done before stays done, and planning again finds
    /// what is left.
    pub fn perform(
        &self,
        root: &Root,
        options: &PerformOptions<'_>,
        progress: &Progress,
        report: &mut dyn FnMut(Performed<'_>) -> Result<()>,
    ) -> Result<ApplyReport> {
        let mut total = ApplyReport::default();
        let performed = Performer { plan: self, root, options }.all(progress, &mut total, report);
        // What was done before an error is done, too.
        let synced = if total.done > 0 { root.sync() } else { Ok(()) };
        performed.and(synced).map(|()| total)
    }

    /// The files whose contents have to come from a source: what each is to be.
    pub fn contents(&self) -> impl Iterator<Item = (&[u8], &Resource)> {
        self.actions.iter().filter_map(|action| match action {
            Action::Write { path, resource, contents: Contents::Source } => Some((path.as_slice(), &**resource)),
            _ => None,
        })
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
}

struct Performer<'a> {
    plan: &'a ApplyPlan,
    root: &'a Root,
    options: &'a PerformOptions<'a>,
}

impl Performer<'_> {
    fn all(
        &self,
        progress: &Progress,
        total: &mut ApplyReport,
        report: &mut dyn FnMut(Performed<'_>) -> Result<()>,
    ) -> Result<()> {
        // Directories that stay, because the contents of the file in their place are not to be had.
        let mut staying = HashSet::new();
        for action in self.plan.replacing_directories() {
            if let Err(error) = self.check_source(action) {
                report(unresolved(action, &error))?;
                staying.insert(action.path());
            }
        }
        // Files that keep what they have, likewise.
        let mut kept = HashSet::new();
        for action in &self.plan.actions {
            progress.check()?;
            let stays = |path: &[u8]| staying.iter().any(|staying| *staying == path || is_below(path, staying));
            let on_kept = matches!(action, Action::Link { to, .. } if kept.contains(to.as_slice()) || stays(to));
            if stays(action.path()) || on_kept {
                continue;
            }
            match self.one(action, progress) {
                Ok(kept) => {
                    total.done += 1;
                    report(Performed::Done { action, kept })?;
                }
                Err(Unresolved::Source(error)) => {
                    report(unresolved(action, &error))?;
                    kept.insert(action.path());
                }
                Err(Unresolved::Other(error)) => return Err(error),
            }
        }
        total.unresolved = (staying.len() + kept.len()) as u64;
        Ok(())
    }

    /// Returns whether what was there is kept.
    fn one(&self, action: &Action, progress: &Progress) -> Result<bool, Unresolved> {
        let root = self.root;
        let kept = match action {
            Action::Remove { path, directory } => {
                let kept = self.keep(path, *directory, progress)?;
                root.remove(path, *directory)?;
                return Ok(kept);
            }
            Action::Write { path, resource, .. } | Action::Create { path, resource } => {
                self.keep_other(path, resource.mode.file_type(), progress)?
            }
            Action::Link { path, to } => match root.metadata(to)? {
                Some(linked) => self.keep_other(path, linked.file_type, progress)?,
                None => false,
            },
            Action::MakeDirectory { .. } | Action::SetAttributes { .. } => false,
        };
        match action {
            Action::Remove { .. } => {}
            Action::MakeDirectory { path } => root.make_directory(path)?,
            Action::Write { path, resource, contents } => self.write(path, resource, contents)?,
            Action::Create { path, resource } => {
                root.put_special(path, special_of(resource), attributes_of(resource, self.options.others))?;
            }
            Action::Link { path, to } => root.put_link(path, to)?,
            Action::SetAttributes { path, resource, fresh } => {
                let others = if self.plan.prune || *fresh { self.options.others } else { Others::Stay };
                let attributes = attributes_of(resource, others);
                match resource.mode.file_type() {
                    FileType::Symlink => root.set_owner(path, attributes)?,
                    FileType::Directory => root.set_attributes(path, FileType::Directory, attributes)?,
                    _ => root.set_attributes(path, FileType::Regular, attributes)?,
                }
            }
        }
        Ok(kept)
    }

    /// Keeps what is worth it: what an interrupted run of ours left is not.
    fn keep(&self, path: &[u8], directory: bool, progress: &Progress) -> Result<bool> {
        let name = &path[path.iter().rposition(|&b| b == b'/').map_or(0, |slash| slash + 1)..];
        match self.options.quarantine {
            Some(quarantine) if !is_temporary(name) => self.root.keep(path, directory, quarantine, progress),
            _ => Ok(false),
        }
    }

    /// Keeps what something of another type is about to replace.
    fn keep_other(&self, path: &[u8], file_type: FileType, progress: &Progress) -> Result<bool> {
        if self.options.quarantine.is_none() {
            return Ok(false);
        }
        match self.root.metadata(path)? {
            Some(found) if found.file_type != file_type => {
                self.keep(path, found.file_type == FileType::Directory, progress)
            }
            _ => Ok(false),
        }
    }

    fn write(&self, path: &[u8], resource: &Resource, contents: &Contents) -> Result<(), Unresolved> {
        let Some(digest) = resource.digest else { return Ok(()) };
        let attributes = attributes_of(resource, self.options.others);
        if self.options.in_place && *contents == Contents::Source && self.fits(path, resource)? {
            let mut source = self.open(path, resource, contents).map_err(Unresolved::Source)?;
            match self.root.overwrite_file(path, &mut *source, (digest, resource.size), attributes) {
                // It is being executed: then it gets a new inode after all.
                Err(error) if error.errno() == Some(Errno::TXTBSY.raw_os_error()) => {}
                written => return written.map_err(Unresolved::of_write),
            }
        }
        let mut source = self.open(path, resource, contents).map_err(Unresolved::Source)?;
        self.root.put_file(path, &mut *source, (digest, resource.size), attributes).map_err(Unresolved::of_write)
    }

    /// Whether what is at `path` is a file of the right size that no other path leads to.
    fn fits(&self, path: &[u8], resource: &Resource) -> Result<bool> {
        Ok(self.root.metadata(path)?.is_some_and(|found| {
            found.file_type == FileType::Regular
                && found.size == resource.size
                // With more, some may be of other files: their number alone does not tell.
                && found.links == 1
        }))
    }

    /// Opens what holds the contents of a file.
    fn open(&self, path: &[u8], resource: &Resource, contents: &Contents) -> Result<Box<dyn Read + '_>> {
        match (contents, self.options.source) {
            (Contents::Tree(origin), _) => {
                let file = self.root.open_inode(origin, FileType::Regular).map_err(|error| error.context("source"))?;
                Ok(Box::new(File::from(file)))
            }
            (Contents::Source, Some(source)) => {
                source.contents(path, resource).map_err(|error| error.context("source"))
            }
            (Contents::Source, None) => Err(Error::new(ErrorKind::InvalidInput, "no source of contents")),
        }
    }

    /// Makes sure that the source holds the contents that `action` needs.
    fn check_source(&self, action: &Action) -> Result<()> {
        let Action::Write { path, resource, contents: Contents::Source } = action else { return Ok(()) };
        let mut hashed = HashingStream::new(self.open(path, resource, &Contents::Source)?);
        io::copy(&mut hashed, &mut io::sink())
            .map_err(|e| Error::io("read", OsStr::from_bytes(path), e).context("source"))?;
        match hashed.finish().1 {
            found if resource.digest == Some(found) => Ok(()),
            found => Err(Error::new(ErrorKind::InvalidInput, format!("{}: the source holds {found}", Escaped(path)))),
        }
    }
}

impl Source for Root {
    /// The same path of a directory.
    fn contents(&self, path: &[u8], resource: &Resource) -> Result<Box<dyn Read + '_>> {
        // A group of hard links may lie in the source under any of its names.
        let mut first = self.open_inode(path, FileType::Regular);
        for name in &resource.paths {
            match first {
                Err(error) if error.kind() == ErrorKind::NotFound && name != path => {
                    first = self.open_inode(name, FileType::Regular).map_err(|_| error);
                }
                _ => break,
            }
        }
        Ok(Box::new(File::from(first?)))
    }
}

fn unresolved<'a>(action: &Action, error: &Error) -> Performed<'a> {
    Performed::Unresolved(Finding {
        path: action.path().to_vec(),
        kind: FindingKind::Digest,
        xattr: Vec::new(),
        expected: String::new(),
        found: error.to_string(),
    })
}

enum Unresolved {
    /// The contents are not to be had.
    Source(Error),
    Other(Error),
}

impl Unresolved {
    /// What writing a file failed with.
    fn of_write(error: Error) -> Self {
        match error.kind() {
            ErrorKind::InvalidInput => Self::Source(error),
            _ => Self::Other(error),
        }
    }
}

impl From<Error> for Unresolved {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

fn attributes_of(resource: &Resource, others: Others) -> Attributes<'_> {
    Attributes {
        uid: resource.uid,
        gid: resource.gid,
        permissions: resource.mode.permissions(),
        xattrs: &resource.xattrs,
        others,
    }
}

fn special_of(resource: &Resource) -> Special<'_> {
    match resource.mode.file_type() {
        FileType::Symlink => Special::Symlink(&resource.target),
        file_type => Special::Node(file_type, resource.device),
    }
}
