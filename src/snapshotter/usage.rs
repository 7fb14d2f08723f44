// SPDX-License-Identifier: Apache-2.0
//! What a tree takes up on its disk.
//!
//! One directory handle is open at any time and memory follows the depth of the tree, so neither the limit on
//! open files nor `PATH_MAX` bounds what can be measured. A tree may change while it is measured: a name that
//! vanished is not counted.

use std::collections::HashSet;
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::Usage;
use crate::error::{Error, ErrorKind, Result};

/// Unit of `st_blocks` in bytes, whatever the filesystem's own block size: stat(2).
const BLOCK: i64 = 512;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);

/// Device and inode number.
type Inode = (u64, u64);

#[derive(Default)]
struct Measure {
    usage: Usage,
    /// Inodes with several links that are counted.
    linked: HashSet<Inode>,
}

/// A directory on the way from the top to the one that is being read.
struct Level {
    inode: Inode,
    /// Sub-directories still to be visited.
    left: Vec<CString>,
}

/// Measures the tree at `top`, the top itself included: allocated blocks, each inode once.
///
/// # Errors
/// `Changed` if a directory was moved elsewhere while it was read.
pub(super) fn measure(top: &Path) -> Result<Usage> {
    let failed = |call: &'static str| move |errno| Error::io(call, top, errno);
    let mut fd = rustix::fs::open(top, DIRECTORY, Mode::empty()).map_err(failed("open"))?;
    let stat = rustix::fs::fstat(&fd).map_err(failed("fstat"))?;
    let mut measure = Measure::default();
    measure.count(&stat);
    let mut levels = vec![Level { inode: inode(&stat), left: measure.read(&fd).map_err(failed("read"))? }];
    while let Some(level) = levels.last_mut() {
        if let Some(name) = level.left.pop() {
            match rustix::fs::openat(&fd, &name, DIRECTORY, Mode::empty()) {
                Ok(child) => fd = child,
                // Gone, or something else took its place.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                Err(errno) => return Err(failed("openat")(errno)),
            }
            let stat = rustix::fs::fstat(&fd).map_err(failed("fstat"))?;
            levels.push(Level { inode: inode(&stat), left: measure.read(&fd).map_err(failed("read"))? });
            continue;
        }
        levels.pop();
        if let Some(parent) = levels.last() {
            fd = ascend(&fd, parent.inode, top)?;
        }
    }
    Ok(measure.usage)
}

/// Opens the parent of `fd`, which must still be the directory we came from: one that was moved would lead out.
fn ascend(fd: &OwnedFd, expected: Inode, top: &Path) -> Result<OwnedFd> {
    let parent = rustix::fs::openat(fd, c"..", DIRECTORY, Mode::empty()).map_err(|e| Error::io("openat", top, e))?;
    let stat = rustix::fs::fstat(&parent).map_err(|e| Error::io("fstat", top, e))?;
    match inode(&stat) == expected {
        true => Ok(parent),
        false => {
            let message = format!("{}: a directory was moved while its size was measured", top.display());
            Err(Error::new(ErrorKind::Changed, message))
        }
    }
}

impl Measure {
    /// Counts what `directory` holds; returns the names of its sub-directories.
    fn read(&mut self, directory: &OwnedFd) -> rustix::io::Result<Vec<CString>> {
        let mut directories = Vec::new();
        for entry in Dir::read_from(directory)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let stat = match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => continue,
                other => other?,
            };
            self.count(&stat);
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                directories.push(name.to_owned());
            }
        }
        Ok(directories)
    }

    fn count(&mut self, stat: &Stat) {
        let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        // Only what has several names can come twice; a directory's links are its children.
        if directory || stat.st_nlink < 2 || self.linked.insert(inode(stat)) {
            self.usage.size += stat.st_blocks * BLOCK;
            self.usage.inodes += 1;
        }
    }
}

fn inode(stat: &Stat) -> Inode {
    (stat.st_dev, stat.st_ino)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn hard_links_count_once_and_holes_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let empty = measure(dir.path()).unwrap();
        assert_eq!(empty.inodes, 1);
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("a"), vec![1; 100_000]).unwrap();
        fs::hard_link(dir.path().join("a"), dir.path().join("sub/b")).unwrap();
        fs::File::create(dir.path().join("hole")).unwrap().set_len(1 << 40).unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("out")).unwrap();

        let usage = measure(dir.path()).unwrap();
        assert_eq!(usage.inodes, 5);
        let blocks: u64 = ["", "sub", "a", "hole", "out"]
            .iter()
            .map(|name| fs::symlink_metadata(dir.path().join(name)).unwrap().blocks())
            .sum();
        assert_eq!(usage.size, blocks as i64 * BLOCK);
        assert!(usage.size < 1 << 30);
    }

    #[test]
    fn depth_is_no_limit() {
        const DEPTH: i64 = 5_000;
        let dir = tempfile::tempdir().unwrap();
        super::super::removal::tests::deep_tree(dir.path(), DEPTH as usize);
        assert_eq!(measure(dir.path()).unwrap().inodes, DEPTH + 1);
        super::super::removal::empty(dir.path()).unwrap();
    }

    #[test]
    fn a_missing_directory_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(measure(&dir.path().join("none")).unwrap_err().kind(), ErrorKind::NotFound);
    }
}
