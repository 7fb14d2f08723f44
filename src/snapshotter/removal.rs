// SPDX-License-Identifier: Apache-2.0
//! Removes trees that others filled: any depth, any names, no symlink followed, no mount point entered.
//!
//! Two directory handles are open at any time. A sub-directory is moved up to the top before it is entered, so
//! depth never grows; the kernel refuses to move a mount point, so what is mounted there stays untouched.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What a sub-directory is called once it was moved up; a number follows.
const MOVED: &str = ".removing-";

/// Removes the directory `top` and everything in it, or what is there instead of a directory; nothing there is fine.
///
/// # Errors
/// The first thing that could not be removed, after everything else was.
pub(super) fn remove(top: &Path) -> Result<()> {
    if let Err(error) = empty(top) {
        return match error.errno().map(Errno::from_raw_os_error) {
            Some(Errno::NOENT) => Ok(()),
            // A file or a symlink: it has no contents of its own. Should it be a directory by now, this fails.
            Some(Errno::NOTDIR | Errno::LOOP) => match rustix::fs::unlink(top) {
                Ok(()) | Err(Errno::NOENT) => Ok(()),
                Err(errno) => Err(Error::io("unlink", top, errno)),
            },
            _ => Err(error),
        };
    }
    match rustix::fs::rmdir(top) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(Error::io("rmdir", top, errno)),
    }
}

/// Removes everything in the directory `top`.
pub(super) fn empty(top: &Path) -> Result<()> {
    let fd = rustix::fs::open(top, DIRECTORY, Mode::empty()).map_err(|errno| Error::io("open", top, errno))?;
    let mut sweep = Sweep { top: fd, moved: 0 };
    loop {
        // Reading a directory while names come and go may miss some: look again until nothing is left.
        let pass = sweep.pass().map_err(|errno| Error::io("read", top, errno))?;
        match (pass.removed, pass.failed) {
            (0, None) => return Ok(()),
            (0, Some(errno)) => return Err(Error::io("remove", top, errno)),
            _ => {}
        }
    }
}

struct Sweep {
    top: OwnedFd,
    /// Sub-directories moved so far; makes their names unique.
    moved: u64,
}

#[derive(Default)]
struct Pass {
    /// Names removed or moved.
    removed: u64,
    failed: Option<Errno>,
}

impl Pass {
    fn note(&mut self, result: rustix::io::Result<()>) {
        match result {
            Ok(()) | Err(Errno::NOENT) => self.removed += 1,
            Err(errno) => self.failed = self.failed.or(Some(errno)),
        }
    }
}

impl Sweep {
    /// Goes once over the top: files are removed, directories moved aside, emptied and removed.
    fn pass(&mut self) -> rustix::io::Result<Pass> {
        let mut pass = Pass::default();
        for entry in Dir::read_from(&self.top)? {
            let entry = entry?;
            if matches!(entry.file_name().to_bytes(), b"." | b"..") {
                continue;
            }
            match rustix::fs::unlinkat(&self.top, entry.file_name(), AtFlags::empty()) {
                Err(Errno::ISDIR | Errno::PERM) => {
                    let moved = self.name();
                    match rustix::fs::renameat(&self.top, entry.file_name(), &self.top, moved.as_str()) {
                        Ok(()) => {
                            let removed = self.directory(&moved, &mut pass);
                            pass.note(removed);
                        }
                        failed => pass.note(failed),
                    }
                }
                other => pass.note(other),
            }
        }
        Ok(pass)
    }

    /// Empties and removes a directory of the top; its sub-directories move up, for a later pass.
    fn directory(&mut self, name: &str, pass: &mut Pass) -> rustix::io::Result<()> {
        let fd = rustix::fs::openat(&self.top, name, DIRECTORY, Mode::empty())?;
        for entry in Dir::read_from(&fd)? {
            let entry = entry?;
            let child = entry.file_name();
            if matches!(child.to_bytes(), b"." | b"..") {
                continue;
            }
            match rustix::fs::unlinkat(&fd, child, AtFlags::empty()) {
                Err(Errno::ISDIR | Errno::PERM) => {
                    let moved = self.name();
                    pass.note(rustix::fs::renameat(&fd, child, &self.top, moved.as_str()));
                }
                other => pass.note(other),
            }
        }
        rustix::fs::unlinkat(&self.top, name, AtFlags::REMOVEDIR)
    }

    fn name(&mut self) -> String {
        self.moved += 1;
        format!("{MOVED}{}", self.moved)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::fs;

    /// Makes `depth` directories, each in the one before.
    pub(in crate::snapshotter) fn deep_tree(top: &Path, depth: usize) {
        let mut fd = rustix::fs::open(top, DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..depth {
            rustix::fs::mkdirat(&fd, "d", Mode::RWXU).unwrap();
            fd = rustix::fs::openat(&fd, "d", DIRECTORY, Mode::empty()).unwrap();
        }
    }

    #[test]
    fn whole_trees_go_and_symlinks_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("outside"), "stays").unwrap();
        let top = dir.path().join("top");
        for i in 0..300 {
            fs::create_dir_all(top.join(format!("a{i}/b/c"))).unwrap();
            fs::write(top.join(format!("a{i}/b/c/file")), "x").unwrap();
        }
        std::os::unix::fs::symlink(dir.path(), top.join("a0/b/link")).unwrap();
        fs::write(top.join(format!("{MOVED}1")), "in the way").unwrap();
        fs::create_dir_all(top.join(format!("{MOVED}2/x"))).unwrap();
        remove(&top).unwrap();
        assert!(!top.exists());
        assert_eq!(fs::read(dir.path().join("outside")).unwrap(), b"stays");
        remove(&top).unwrap();
    }

    #[test]
    fn what_is_no_directory_goes_too() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("target"), "stays").unwrap();
        fs::write(dir.path().join("file"), "x").unwrap();
        std::os::unix::fs::symlink("target", dir.path().join("link")).unwrap();
        std::os::unix::fs::symlink(".", dir.path().join("to-directory")).unwrap();
        for name in ["file", "link", "to-directory"] {
            remove(&dir.path().join(name)).unwrap();
        }
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["target"]);
    }

    #[test]
    fn depth_is_no_limit() {
        let dir = tempfile::tempdir().unwrap();
        deep_tree(dir.path(), 10_000);
        empty(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
