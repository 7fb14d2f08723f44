// SPDX-License-Identifier: Apache-2.0
//! Directories and mounts of snapshots on overlayfs.
//!
//! ```text
//! snapshots/<id>/fs      the snapshot's own files: upper directory while active, a lower one once committed
//! snapshots/<id>/work    overlayfs' working directory while active
//! snapshots/ahead-<id>   the same, made durable for a snapshot to come
//! snapshots/gone-<id>    on its way out
//! ```
//! Making a directory durable is a wait for the disk, and for one it is as long as for many: so they are made ahead.
//! A snapshot's own is renamed when it is created, and that need not be durable: after a power cut the record tells
//! what `ahead-<id>` is.
//!
//! A directory is named by a number alone: overlayfs takes its options in one page, so 128 layers must be short.
//! Whatever has another name, or a number without a record, belongs to nobody.

use std::collections::HashSet;
use std::fs;
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::metadata::Stacked;
use super::{Kind, removal};
use crate::error::{Error, ErrorKind, Escaped, Result};
use crate::host;
use crate::mount::Mount;

/// Mode of the root of a snapshot's files: what a container sees as the mode of `/`.
const FS_MODE: u32 = 0o755;
/// Mode of the working directory; overlayfs keeps what it needs there private itself.
const WORK_MODE: u32 = 0o711;
/// Nobody but us has business above the layers; what is in them may be setuid.
const PRIVATE: u32 = 0o700;

/// Directories that are made durable together.
const TOGETHER: u64 = 8;

/// Begins the name of a directory that is made for a snapshot to come.
const AHEAD: &str = "ahead-";

/// Begins the name of a directory that is on its way out.
const GONE: &str = "gone-";

/// What this kernel wants to be told at every overlay mount.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct KernelOptions {
    options: Vec<&'static str>,
}

impl KernelOptions {
    /// `index=off` where overlayfs knows an index, or layers that were copied would not mount; `userxattr` only in
    /// a user namespace, where `trusted.*` can't be written.
    pub(super) fn detect() -> Self {
        let index = Path::new("/sys/module/overlay/parameters/index").exists();
        Self::new(index, host::in_user_namespace())
    }

    fn new(index: bool, user_namespace: bool) -> Self {
        let index = index.then_some("index=off");
        Self { options: index.into_iter().chain(user_namespace.then_some("userxattr")).collect() }
    }
}

/// The directories beneath `snapshots/`.
pub(super) struct Directories {
    top: PathBuf,
    /// Empty, and stays so: the lower directory of an overlay whose lower layers are not known yet.
    empty: PathBuf,
    kernel: KernelOptions,
    /// Numbers whose directories are made ahead. Only who holds the write transaction looks at it.
    ahead: Mutex<Range<u64>>,
}

impl Directories {
    /// Opens, or creates, `snapshots/` in `root`.
    ///
    /// # Errors
    /// `InvalidInput` for a root that mount options can't hold, `Unsupported` for a filesystem without `d_type`.
    pub(super) fn open(root: &Path, kernel: KernelOptions) -> Result<Self> {
        match root.to_str() {
            Some(text) if !text.contains([':', ',', '\\', '"']) => {}
            _ => {
                let message = format!("root {root:?} must be UTF-8 without ':', ',', '\\' or '\"', for overlayfs");
                return Err(Error::new(ErrorKind::InvalidInput, message));
            }
        }
        let top = root.join("snapshots");
        create_dir(&top, PRIVATE, true)?;
        let empty = root.join("empty");
        create_dir(&empty, PRIVATE, true)?;
        require_d_type(root)?;
        Ok(Self { top, empty, kernel, ahead: Mutex::default() })
    }

    fn dir(&self, id: u64) -> PathBuf {
        self.top.join(id.to_string())
    }

    pub(super) fn fs(&self, id: u64) -> PathBuf {
        self.dir(id).join("fs")
    }

    fn work(&self, id: u64) -> PathBuf {
        self.dir(id).join("work")
    }

    fn ahead(&self, id: u64) -> PathBuf {
        self.top.join(format!("{AHEAD}{id}"))
    }

    /// Makes the directories of a new snapshot, durably. The caller holds the write transaction, and its record
    /// is not committed: whatever has its number already is what a crash or a failure left.
    pub(super) fn make(&self, new: &Stacked) -> Result<()> {
        let id = new.snapshot.id;
        let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        if !ahead.contains(&id) {
            *ahead = 0..0;
            // A disk may have room for one, and not for all of them.
            *ahead = self.make_ahead(id..id + TOGETHER).or_else(|_| self.make_ahead(id..id + 1))?;
        }
        ahead.start = id + 1;
        let dir = self.dir(id);
        removal::remove(&dir)?;
        fs::rename(self.ahead(id), &dir).map_err(|error| Error::io("rename", &dir, error))?;
        match new.parents.first() {
            Some(&parent) => give_to_owner_of(&self.fs(parent), &self.fs(id)),
            None => Ok(()),
        }
    }

    /// Gives the root of a snapshot that is committed onto a parent the owner that it would have been made with,
    /// durably: unless its layer has said something about it, which shows in anything but what it was made with.
    pub(super) fn adopt(&self, parent: u64, own: u64) -> Result<()> {
        let own = self.fs(own);
        let made = fs::symlink_metadata(&own).map_err(|error| Error::io("lstat", &own, error))?;
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        match (made.uid(), made.gid(), made.mode() & 0o7777) == (uid, gid, FS_MODE) {
            true => give_to_owner_of(&self.fs(parent), &own),
            false => Ok(()),
        }
    }

    /// Makes the directories of snapshots to come, all of them or none, durably.
    fn make_ahead(&self, ids: Range<u64>) -> Result<Range<u64>> {
        let make = |id: u64| {
            // Both names at once would leave a start after a power cut to guess.
            removal::remove(&self.dir(id))?;
            let dir = self.ahead(id);
            removal::remove(&dir)?;
            create_dir(&dir, PRIVATE, false)?;
            create_dir(&dir.join("fs"), FS_MODE, false)?;
            create_dir(&dir.join("work"), WORK_MODE, false)
        };
        let dirs: Vec<PathBuf> = ids.clone().map(|id| self.ahead(id)).collect();
        let made = ids.clone().try_for_each(make).and_then(|()| dirs.iter().try_for_each(|dir| sync(dir)));
        match made.and_then(|()| sync(&self.top)) {
            Ok(()) => Ok(ids),
            Err(error) => {
                // What stays nevertheless is removed as everything that belongs to nobody.
                dirs.iter().for_each(|dir| drop(removal::remove(dir)));
                Err(error)
            }
        }
    }

    /// Renames every directory that is neither one of `ids` nor made ahead, so that no new snapshot can meet it; one
    /// of `ids` that a power cut has left under the name it was made with gets its own. Returns the first failure. The
    /// caller holds the write transaction.
    pub(super) fn set_aside(&self, ids: &HashSet<u64>) -> Result<()> {
        let ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        let mut result = Ok(());
        for name in self.names()? {
            let from = self.top.join(&name);
            let to = match (number(&name), name.strip_prefix(AHEAD).and_then(number)) {
                _ if name.starts_with(GONE) => continue,
                (Some(id), _) if ids.contains(&id) => continue,
                (_, Some(id)) if ahead.contains(&id) => continue,
                (_, Some(id)) if ids.contains(&id) && !self.dir(id).exists() => {
                    log::warn!(
                        "snapshot number {id}: its directory lost its name in a power cut, files in it may be lost"
                    );
                    self.dir(id)
                }
                _ => self.top.join(format!("{GONE}{name}")),
            };
            result = result.and(fs::rename(&from, to).map_err(|error| Error::io("rename", &from, error)));
        }
        result
    }

    /// Removes what was set aside, all of it even if some can't be; returns the first failure.
    pub(super) fn remove_gone(&self) -> Result<()> {
        let mut result = Ok(());
        for name in self.names()?.iter().filter(|name| name.starts_with(GONE)) {
            result = result.and(removal::remove(&self.top.join(name)));
        }
        result
    }

    fn names(&self) -> Result<Vec<String>> {
        let failed = |error| Error::io("readdir", &self.top, error);
        let entries = fs::read_dir(&self.top).map_err(failed)?;
        // Names that are not UTF-8 are not ours.
        entries
            .filter_map(|entry| entry.map(|e| e.file_name().into_string().ok()).transpose())
            .collect::<std::io::Result<_>>()
            .map_err(failed)
    }

    /// The mounts of a snapshot.
    ///
    /// # Errors
    /// `FailedPrecondition` for a committed one: a layer is only mounted as the parent of something.
    pub(super) fn mounts(&self, stacked: &Stacked) -> Result<Vec<Mount>> {
        let Stacked { snapshot, parents } = stacked;
        let mount = match (snapshot.kind, parents.as_slice()) {
            (Kind::Committed, _) => {
                let message = format!("cannot mount snapshot {}: it is committed", Escaped(snapshot.key.as_bytes()));
                return Err(Error::new(ErrorKind::FailedPrecondition, message));
            }
            // Into an overlay's upper directory containerd writes whiteouts; into a directory it does not: what the
            // layer deletes would only be deleted from the layer itself, and be back in the image.
            (Kind::Active, []) if snapshot.awaits_parent() => {
                self.overlay(Kind::Active, snapshot.id, &[self.empty.display().to_string()])
            }
            (Kind::Active, []) => bind(&self.fs(snapshot.id), "rw"),
            (Kind::View, []) => bind(&self.fs(snapshot.id), "ro"),
            (Kind::View, [parent]) => bind(&self.fs(*parent), "ro"),
            (kind, _) => {
                let lower: Vec<String> = parents.iter().map(|&parent| self.fs(parent).display().to_string()).collect();
                self.overlay(kind, snapshot.id, &lower)
            }
        };
        Ok(vec![mount])
    }

    fn overlay(&self, kind: Kind, id: u64, lower: &[String]) -> Mount {
        let mut options: Vec<String> = self.kernel.options.iter().map(ToString::to_string).collect();
        if kind == Kind::Active {
            options.push(format!("workdir={}", self.work(id).display()));
            options.push(format!("upperdir={}", self.fs(id).display()));
        }
        options.push(format!("lowerdir={}", lower.join(":")));
        Mount { kind: "overlay".into(), source: "overlay".into(), target: String::new(), options }
    }
}

fn bind(source: &Path, access: &str) -> Mount {
    Mount {
        kind: "bind".into(),
        source: source.display().to_string(),
        target: String::new(),
        options: vec![access.into(), "rbind".into()],
    }
}

/// The number that `name` is, written as we write it.
fn number(name: &str) -> Option<u64> {
    name.parse().ok().filter(|id: &u64| id.to_string() == name)
}

/// Makes `own` belong to whom `parent` belongs to, durably.
fn give_to_owner_of(parent: &Path, own: &Path) -> Result<()> {
    let owner = |path| fs::symlink_metadata(path).map_err(|error| Error::io("lstat", path, error));
    let (wanted, found) = (owner(parent)?, owner(own)?);
    if (wanted.uid(), wanted.gid()) == (found.uid(), found.gid()) {
        return Ok(());
    }
    std::os::unix::fs::lchown(own, Some(wanted.uid()), Some(wanted.gid()))
        .map_err(|error| Error::io("chown", own, error))?;
    sync(own)
}

/// Makes one directory of exactly that mode, whatever the umask.
pub(super) fn create_dir(path: &Path, mode: u32, may_exist: bool) -> Result<()> {
    match fs::create_dir(path) {
        Err(error) if may_exist && error.kind() == std::io::ErrorKind::AlreadyExists => {}
        other => other.map_err(|error| Error::io("mkdir", path, error))?,
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(|error| Error::io("chmod", path, error))
}

/// Makes the names in `dir` survive a power cut.
pub(super) fn sync(dir: &Path) -> Result<()> {
    fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| Error::io("fsync", dir, error))
}

/// overlayfs takes no upper directory on a filesystem that does not tell types in its directories.
fn require_d_type(root: &Path) -> Result<()> {
    let failed = |errno| Error::io("readdir", root, errno);
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    let fd = rustix::fs::open(root, flags, rustix::fs::Mode::empty()).map_err(failed)?;
    for entry in rustix::fs::Dir::new(fd).map_err(failed)? {
        if entry.map_err(failed)?.file_type() == rustix::fs::FileType::Unknown {
            let message = format!("{}: the filesystem has no d_type; xfs needs ftype=1", root.display());
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
