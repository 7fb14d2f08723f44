// SPDX-License-Identifier: Apache-2.0
//! Where a repair keeps what it removes.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::Part;
use crate::error::{Error, ErrorKind, Result};
use crate::inode::FileType;
use crate::ops::Action;
use crate::snapshotter::time;
use crate::tree::Root;

/// Beneath the root: what repairs have removed.
const QUARANTINE: &str = "quarantine";

/// Repairs that may begin in the same second.
const SAME_SECOND: usize = 100;

/// `<root>/quarantine/<time>/<snapshotter>/<layer>`, made when it is needed.
pub struct Quarantine<'a> {
    root: &'a Path,
    snapshotter: &'a str,
    /// Beneath the root: the directory of this repair alone.
    made: Option<String>,
}

impl<'a> Quarantine<'a> {
    pub fn new(root: &'a Path, snapshotter: &'a str) -> Self {
        Self { root, snapshotter, made: None }
    }

    /// The place for what is removed from a part, if anything may be.
    ///
    /// # Errors
    /// It can't be made.
    pub fn of(&mut self, part: &Part) -> Result<Option<(PathBuf, Root)>> {
        let mut keeps = false;
        for action in &part.plan.actions {
            keeps = keeps || may_keep(action, &part.root)?;
        }
        if !keeps {
            return Ok(None);
        }
        let root = Root::open(self.root)?.durable();
        let base = match self.made.take() {
            Some(base) => base,
            None => begin(&root, self.root)?,
        };
        let snapshotter = format!("{base}/{}", self.snapshotter.replace('/', "_"));
        let place = format!("{snapshotter}/{}", part.name());
        self.made = Some(base);
        make(&root, &snapshotter)?;
        make(&root, &place)?;
        let place = beneath(self.root, place.as_bytes());
        let root = Root::open(&place)?.durable();
        Ok(Some((place, root)))
    }
}

/// Whether an action removes something, or puts something in place of what is of another type.
fn may_keep(action: &Action, root: &Root) -> Result<bool> {
    let file_type = match action {
        Action::Remove { .. } => return Ok(true),
        Action::MakeDirectory { .. } | Action::SetAttributes { .. } => return Ok(false),
        Action::Write { resource, .. } | Action::Create { resource, .. } => resource.mode.file_type(),
        Action::Link { .. } => FileType::Regular,
    };
    Ok(root.metadata(action.path())?.is_some_and(|found| found.file_type != file_type))
}

/// Makes the directory of one repair.
fn begin(root: &Root, shown: &Path) -> Result<String> {
    let all = format!("/{QUARANTINE}");
    make(root, &all)?;
    let now = time::rfc3339(time::now());
    for n in 0..SAME_SECOND {
        let base = if n == 0 { format!("{all}/{now}") } else { format!("{all}/{now}-{n}") };
        match root.make_directory(base.as_bytes()) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            made => return made.map(|()| base),
        }
    }
    let message = format!("{}: full of repairs of this second", beneath(shown, all.as_bytes()).display());
    Err(Error::new(ErrorKind::AlreadyExists, message))
}

fn make(root: &Root, path: &str) -> Result<()> {
    match root.make_directory(path.as_bytes()) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// A path of a tree, beneath a directory.
pub fn beneath(directory: &Path, path: &[u8]) -> PathBuf {
    directory.join(OsStr::from_bytes(path.strip_prefix(b"/").unwrap_or(path)))
}
