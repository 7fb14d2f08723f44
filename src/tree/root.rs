// SPDX-License-Identifier: Apache-2.0
//! The top of a tree, beneath which every path is resolved.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, Dir, FlockOperation, Mode, OFlags, ResolveFlags, openat, openat2, readlinkat};
use rustix::io::Errno;

use super::inode::Metadata;
use crate::error::{Error, ErrorKind, Escaped, Result};
use crate::mountinfo::{self, Location};

/// Bytes of a path that the kernel takes at once, less the final NUL; a longer one is resolved in pieces.
const PATH_PIECE: usize = 4095;

/// Magic number of FUSE filesystems (linux/magic.h).
const FUSE: rustix::fs::FsWord = 0x6573_5546;

/// Flags for a directory on the way.
const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A directory handle beneath which paths are resolved: never through a symlink, never through `..`, and so never
/// outside. A directory that is moved or swapped meanwhile makes an error, not an escape.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
    /// False once the kernel said that it has no openat2, or a sandbox forbids it.
    openat2: AtomicBool,
    /// Whether each change is on the disk before the next begins.
    pub(super) durable: bool,
}

impl Root {
    /// Opens a directory. A symlink to one is followed: the caller chose this path.
    ///
    /// # Errors
    /// Of kind `NotFound` or `Io`, naming the path.
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| Error::io("open", path, e))?;
        Ok(Self::from_fd(fd))
    }

    /// Takes a directory handle that is already open: the root of a detached mount, for one.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self { fd, openat2: AtomicBool::new(true), durable: false }
    }

    /// The same root; each change through it is on the disk, file and directory, before the call returns.
    pub fn durable(self) -> Self {
        Self { durable: true, ..self }
    }

    /// The root itself, opened anew for reading, with a position of its own.
    ///
    /// # Errors
    /// Of kind `Io`.
    pub fn reopen(&self) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(&self.fd, c".", flags, Mode::empty()).map_err(|e| Error::io("openat", ".", e))
    }

    /// Whether something may be mounted beneath the root: an inode may then be reached by more paths than it has
    /// links. True also where that can't be found out.
    pub fn may_hold_mounts(&self) -> bool {
        let root = std::fs::read_link(format!("/proc/self/fd/{}", self.fd.as_raw_fd()));
        let (Ok(root), Ok(mounts)) = (root, mountinfo::own()) else { return true };
        // A deleted or detached directory has no path there; the root of everything has every mount beneath it.
        if !root.is_absolute() || root == Path::new("/") {
            return true;
        }
        mounts.iter().any(|mount| mount.point != root && mount.point.starts_with(&root))
    }

    /// Where it lies; none if it is on a detached mount.
    ///
    /// # Errors
    /// Of kind `Io`.
    pub fn location(&self) -> Result<Option<Location>> {
        Location::of(self.fd.as_fd()).map_err(|error| Error::io("read", "/proc/self/mountinfo", error))
    }

    /// Whether it lies on a FUSE filesystem, which shows what a program keeps somewhere else.
    ///
    /// # Errors
    /// Of kind `Io`.
    pub fn is_on_fuse(&self) -> Result<bool> {
        let stat = rustix::fs::fstatfs(&self.fd).map_err(|e| Error::io("fstatfs", ".", e))?;
        Ok(stat.f_type == FUSE)
    }

    /// Locks the directory for as long as this handle lives (flock); false if somebody else has it locked.
    ///
    /// # Errors
    /// Of kind `Io`.
    pub fn lock(&self) -> Result<bool> {
        match rustix::fs::flock(&self.fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(errno) => Err(Error::io("flock", ".", errno)),
        }
    }

    /// Opens the directory that holds `path` and gives the last component. `path` begins with `/`.
    ///
    /// # Errors
    /// `NotFound` if a directory is missing, `Escape` if a component is a symlink, `InvalidInput` for the root
    /// itself and for `.` and `..`.
    pub fn parent<'p>(&self, path: &'p [u8]) -> Result<(OwnedFd, &'p OsStr)> {
        let slash = path.iter().rposition(|&b| b == b'/').unwrap_or(0);
        let name = path.get(slash + 1..).unwrap_or_default();
        if matches!(name, b"" | b"." | b"..") {
            return Err(Error::new(ErrorKind::InvalidInput, format!("{} has no last component", Escaped(path))));
        }
        Ok((self.directory(&path[..slash])?, OsStr::from_bytes(name)))
    }

    /// What lies at a path; a symlink is not followed. None if nothing lies there, or if a directory on the way is
    /// missing or none.
    ///
    /// # Errors
    /// Of kind `Io`; `InvalidInput` as [`Root::parent`].
    pub fn metadata(&self, path: &[u8]) -> Result<Option<Metadata>> {
        let (parent, name) = match self.parent(path) {
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Escape) => return Ok(None),
            parent => parent?,
        };
        match rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(None),
            stat => {
                let stat = stat.map_err(|e| Error::io("fstatat", Path::new(OsStr::from_bytes(path)), e))?;
                Ok(Metadata::from_stat(&stat))
            }
        }
    }

    /// Target of the symlink at a path; none if nothing lies there, or something else.
    ///
    /// # Errors
    /// As [`Root::metadata`].
    pub fn read_link(&self, path: &[u8]) -> Result<Option<Vec<u8>>> {
        let (parent, name) = match self.parent(path) {
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Escape) => return Ok(None),
            parent => parent?,
        };
        match readlinkat(&parent, name, Vec::new()) {
            Ok(target) => Ok(Some(target.into_bytes())),
            Err(Errno::NOENT | Errno::INVAL) => Ok(None),
            Err(errno) => Err(Error::io("readlinkat", Path::new(OsStr::from_bytes(path)), errno)),
        }
    }

    /// Names in the directory at a path, in no order.
    ///
    /// # Errors
    /// As [`Root::parent`].
    pub fn names(&self, path: &[u8]) -> Result<Vec<Vec<u8>>> {
        let failed = |errno| Error::io("getdents64", Path::new(OsStr::from_bytes(path)), errno);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(self.directory(path)?, c".", flags, Mode::empty()).map_err(failed)?;
        let mut names = Vec::new();
        for entry in Dir::new(directory).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name().to_bytes().to_vec();
            if !matches!(name.as_slice(), b"." | b"..") {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// Opens a directory beneath the root, as a handle to resolve from (`O_PATH`).
    ///
    /// # Errors
    /// As [`Root::parent`].
    pub fn directory(&self, path: &[u8]) -> Result<OwnedFd> {
        let failed = |e: Errno| resolution_error(path, e);
        let mut fd = openat(&self.fd, c".", DIRECTORY, Mode::empty()).map_err(failed)?;
        let components: Vec<&[u8]> = path.split(|&b| b == b'/').filter(|c| !c.is_empty()).collect();
        if components.contains(&&b".."[..]) {
            return Err(failed(Errno::XDEV));
        }
        let mut rest = components.as_slice();
        while !rest.is_empty() {
            let (piece, taken) = longest_piece(rest);
            fd = self.resolve(fd.as_fd(), &piece).map_err(failed)?;
            rest = &rest[taken..];
        }
        Ok(fd)
    }

    fn resolve(&self, dir: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
        if self.openat2.load(Ordering::Relaxed) {
            let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            match openat2(dir, path, DIRECTORY, Mode::empty(), how) {
                Err(Errno::NOSYS | Errno::PERM) => self.openat2.store(false, Ordering::Relaxed),
                // A rename somewhere on the machine raced with the resolution: the kernel asks to try again.
                Err(Errno::AGAIN) => {}
                resolved => return resolved,
            }
        }
        resolve_by_component(dir, path)
    }
}

/// The way of kernels without openat2: one component at a time, each opened without following.
fn resolve_by_component(dir: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    let mut fd = openat(dir, c".", DIRECTORY, Mode::empty())?;
    for component in path.split(|&b| b == b'/').filter(|c| !c.is_empty()) {
        fd = openat(&fd, component, DIRECTORY, Mode::empty())?;
    }
    Ok(fd)
}

/// As many components as the kernel takes at once, joined, and how many they are.
fn longest_piece(components: &[&[u8]]) -> (Vec<u8>, usize) {
    let mut piece = components[0].to_vec();
    let mut taken = 1;
    while let Some(next) = components.get(taken).filter(|next| piece.len() + 1 + next.len() <= PATH_PIECE) {
        piece.push(b'/');
        piece.extend_from_slice(next);
        taken += 1;
    }
    (piece, taken)
}

fn resolution_error(path: &[u8], errno: Errno) -> Error {
    let shown = Path::new(OsStr::from_bytes(path));
    match errno {
        // With NOFOLLOW and DIRECTORY a symlink answers NOTDIR; with openat2, LOOP.
        Errno::LOOP | Errno::XDEV | Errno::NOTDIR => {
            let message = format!("{} does not lie beneath the root by directories alone", Escaped(path));
            Error::new(ErrorKind::Escape, message).with_source(io::Error::from(errno))
        }
        errno => Error::io("openat2", shown, errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        symlink("/", dir.path().join("out")).unwrap();
        symlink("a", dir.path().join("in")).unwrap();
        dir
    }

    fn check(root: &Root) {
        assert!(root.directory(b"/a/b").is_ok());
        assert_eq!(root.parent(b"/a/b").unwrap().1, "b");
        for bad in ["/out/etc", "/in/b", "/in", "/a/../..", "/../x"] {
            assert_eq!(root.directory(bad.as_bytes()).unwrap_err().kind(), ErrorKind::Escape, "{bad}");
        }
        assert_eq!(root.directory(b"/a/none").unwrap_err().kind(), ErrorKind::NotFound);
        for bad in ["/", "/a/..", "/a/."] {
            assert_eq!(root.parent(bad.as_bytes()).unwrap_err().kind(), ErrorKind::InvalidInput, "{bad}");
        }
    }

    #[test]
    fn no_path_leaves_the_root_with_openat2() {
        let dir = tree();
        check(&Root::open(dir.path()).unwrap());
    }

    #[test]
    fn no_path_leaves_the_root_without_openat2() {
        let dir = tree();
        let root = Root::open(dir.path()).unwrap();
        root.openat2.store(false, Ordering::Relaxed);
        check(&root);
    }

    #[test]
    fn a_path_longer_than_path_max_is_resolved_in_pieces() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        let name = "d".repeat(200);
        let mut path = Vec::new();
        for _ in 0..50 {
            let parent = root.directory(&path).unwrap();
            rustix::fs::mkdirat(&parent, name.as_str(), Mode::RWXU).unwrap();
            path.push(b'/');
            path.extend_from_slice(name.as_bytes());
        }
        assert!(root.directory(&path).is_ok());
    }
}
