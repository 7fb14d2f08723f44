// SPDX-License-Identifier: Apache-2.0
//! One inode: its metadata, its extended attributes, its contents.
//!
//! Only what the directory called a regular file is opened for reading, never through a symlink, without
//! blocking and without touching its access time, and what was opened is looked at again before a byte is read.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{self as rfs, AtFlags, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::links::{InodeId, LinkTable};
use super::progress::Progress;
use crate::digest::{Digest, Hasher};
use crate::error::{Error, ErrorKind, Result};
use crate::inode::{FileType, Xattr};

/// Bytes read at once. Small enough to stay in the second-level cache while it is hashed; a larger one
/// gains nothing and costs resident memory per thread.
const READ_BUFFER: usize = 128 << 10;

/// Largest list of names and largest value of extended attributes: the kernel's own limits
/// (XATTR_LIST_MAX, XATTR_SIZE_MAX).
const XATTR_MAX: usize = 64 << 10;

/// What `fstat` says, reduced to what a manifest can hold and what tells hard links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    /// Type.
    pub file_type: FileType,
    /// Permission, setuid, setgid and sticky bits: `st_mode & 0o7777`.
    pub permissions: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes; regular files only, zero for every other type.
    pub size: u64,
    /// Device numbers; devices only, zero for every other type.
    pub device: (u32, u32),
    /// Number of links.
    pub links: u64,
    /// Which inode it is.
    pub id: InodeId,
}

impl Metadata {
    /// From a `stat`; `None` for a type that no filesystem of ours has.
    #[allow(clippy::unnecessary_cast, reason = "the fields' types differ between architectures")]
    pub fn from_stat(stat: &Stat) -> Option<Self> {
        let file_type = FileType::from_raw(rfs::FileType::from_raw_mode(stat.st_mode))?;
        let device = match file_type {
            FileType::CharDevice | FileType::BlockDevice => {
                (rfs::major(stat.st_rdev as u64), rfs::minor(stat.st_rdev as u64))
            }
            _ => (0, 0),
        };
        Some(Self {
            file_type,
            permissions: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: if file_type == FileType::Regular { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 },
            device,
            links: stat.st_nlink as u64,
            id: InodeId::of(stat),
        })
    }

    /// The inode, if other paths may lead to it and a manifest groups such paths: neither directories nor symlinks.
    pub fn link_id(&self) -> Option<InodeId> {
        let grouped = !matches!(self.file_type, FileType::Directory | FileType::Symlink);
        (grouped && self.links > 1).then_some(self.id)
    }
}

/// An inode as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Metadata.
    pub metadata: Metadata,
    /// Contents of a regular file. `None` for every other type, and for a file that the walk was told to skip.
    pub digest: Option<Digest>,
    /// Target of a symlink, else empty.
    pub target: Vec<u8>,
    /// Extended attributes of a regular file or a directory, sorted by name.
    pub xattrs: Vec<Xattr>,
}

/// Buffers that one thread uses over and over.
pub(super) struct Scratch {
    data: Vec<u8>,
    names: Vec<u8>,
    value: Vec<u8>,
    hasher: Hasher,
}

impl Scratch {
    pub(super) fn new() -> Self {
        Self { data: vec![0; READ_BUFFER], ..Self::small() }
    }

    /// For extended attributes only.
    pub(super) fn small() -> Self {
        Self { data: Vec::new(), names: vec![0; 1024], value: vec![0; 1024], hasher: Hasher::default() }
    }
}

/// What every reader of a walk shares.
#[derive(Clone, Copy)]
pub(super) struct Shared<'a> {
    pub(super) links: &'a LinkTable,
    /// Files whose contents are not read.
    pub(super) skip: &'a [InodeId],
    pub(super) progress: &'a Progress,
}

/// Reads the inode behind `name`, one component, in `dir`. `expected` is what the directory said it is: anything
/// else by now is an error of kind `Changed`.
pub(super) fn read(
    dir: BorrowedFd<'_>,
    name: &CStr,
    expected: FileType,
    shared: Shared<'_>,
    scratch: &mut Scratch,
) -> Result<Node> {
    match expected {
        FileType::Regular | FileType::Directory => {
            let fd = open_unread(dir, name, expected)?;
            read_opened(fd.as_fd(), expected, shared, scratch)
        }
        _ => read_unopened(dir, name, expected),
    }
}

/// Reads an inode that is open: a regular file or a directory.
pub(super) fn read_opened(
    fd: BorrowedFd<'_>,
    expected: FileType,
    shared: Shared<'_>,
    scratch: &mut Scratch,
) -> Result<Node> {
    let Shared { links, skip, progress } = shared;
    let before = rfs::fstat(fd).map_err(|e| call("fstat", e))?;
    let metadata = metadata_of(&before, expected)?;
    let digest = match metadata.file_type {
        FileType::Regular if skip.contains(&metadata.id) => None,
        FileType::Regular => match metadata.link_id() {
            Some(id) if !links.claim(id) => None,
            Some(id) => {
                let digest = hash(fd, &before, scratch, progress);
                links.publish(id, digest.as_ref().ok().copied());
                Some(digest?)
            }
            None => Some(hash(fd, &before, scratch, progress)?),
        },
        _ => None,
    };
    let xattrs = xattrs(fd, scratch)?;
    Ok(Node { metadata, digest, target: Vec::new(), xattrs })
}

/// Reads what is never opened: symlinks, devices, fifos, sockets.
fn read_unopened(dir: BorrowedFd<'_>, name: &CStr, expected: FileType) -> Result<Node> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let stat = rfs::statat(dir, name, flags).map_err(|e| call("fstatat", e))?;
    let metadata = metadata_of(&stat, expected)?;
    let target = match metadata.file_type {
        FileType::Symlink => rfs::readlinkat(dir, name, Vec::new()).map_err(|e| call("readlinkat", e))?.into_bytes(),
        _ => Vec::new(),
    };
    Ok(Node { metadata, digest: None, target, xattrs: Vec::new() })
}

fn metadata_of(stat: &Stat, expected: FileType) -> Result<Metadata> {
    match Metadata::from_stat(stat) {
        Some(metadata) if metadata.file_type == expected => Ok(metadata),
        _ => Err(changed("its type")),
    }
}

/// Opens without following, blocking, or touching the access time.
pub(super) fn open_unread(
    dir: BorrowedFd<'_>,
    name: impl rustix::path::Arg + Copy,
    expected: FileType,
) -> Result<OwnedFd> {
    let mut flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    if expected == FileType::Directory {
        flags |= OFlags::DIRECTORY;
    }
    match rfs::openat(dir, name, flags | OFlags::NOATIME, Mode::empty()) {
        // O_NOATIME is for the owner and for root.
        Err(Errno::PERM) => rfs::openat(dir, name, flags, Mode::empty()),
        opened => opened,
    }
    .map_err(|e| match e {
        Errno::LOOP | Errno::NOTDIR | Errno::NXIO => changed("its type").with_source(io::Error::from(e)),
        e => call("openat", e),
    })
}

/// Hashes to the end and makes sure that what was hashed is one state of the file.
fn hash(fd: BorrowedFd<'_>, before: &Stat, scratch: &mut Scratch, progress: &Progress) -> Result<Digest> {
    let mut hasher = std::mem::take(&mut scratch.hasher);
    let mut total = 0;
    loop {
        progress.check()?;
        let n = match rustix::io::read(fd, scratch.data.as_mut_slice()) {
            Ok(n) => n,
            Err(Errno::INTR) => continue,
            Err(e) => return Err(call("read", e)),
        };
        if n == 0 {
            break;
        }
        hasher.update(&scratch.data[..n]);
        progress.add_bytes(n as u64);
        total += n as u64;
        // One read that got everything fstat promised and less than it asked for has seen the end.
        if n < scratch.data.len() && total == before.st_size as u64 {
            break;
        }
        if total > before.st_size as u64 {
            return Err(changed("its size"));
        }
    }
    if total != before.st_size as u64 {
        return Err(changed("its size"));
    }
    if total > scratch.data.len() as u64 {
        let after = rfs::fstat(fd).map_err(|e| call("fstat", e))?;
        if (after.st_ctime, after.st_ctime_nsec, after.st_size)
            != (before.st_ctime, before.st_ctime_nsec, before.st_size)
        {
            return Err(changed("it"));
        }
    }
    Ok(hasher.finish())
}

/// Hashes an open file to its end.
///
/// # Errors
/// Of kind `Io`; `Changed` if it grew or shrank meanwhile.
pub fn hash_file(file: &OwnedFd) -> Result<Digest> {
    let stat = rfs::fstat(file).map_err(|e| call("fstat", e))?;
    hash(file.as_fd(), &stat, &mut Scratch::new(), &Progress::default())
}

/// Extended attributes of an open inode, sorted by name.
pub(super) fn xattrs(fd: BorrowedFd<'_>, scratch: &mut Scratch) -> Result<Vec<Xattr>> {
    let n = match grown(&mut scratch.names, |buffer| rfs::flistxattr(fd, buffer)) {
        Ok(n) => n,
        Err(Errno::NOTSUP | Errno::NOSYS) => 0,
        Err(e) => return Err(call("flistxattr", e)),
    };
    let mut found = Vec::new();
    for name in scratch.names[..n].split(|&b| b == 0).filter(|name| !name.is_empty()) {
        match grown(&mut scratch.value, |buffer| rfs::fgetxattr(fd, name, buffer)) {
            Ok(len) => found.push(Xattr { name: name.to_vec(), value: scratch.value[..len].to_vec() }),
            // Listed by the filesystem but not readable in this namespace, or removed since.
            Err(Errno::NODATA | Errno::NOTSUP) => {}
            Err(e) => return Err(call("fgetxattr", e)),
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Calls with a buffer that grows until what the kernel has fits.
fn grown(buffer: &mut Vec<u8>, mut get: impl FnMut(&mut [u8]) -> Result<usize, Errno>) -> Result<usize, Errno> {
    loop {
        match get(buffer.as_mut_slice()) {
            Err(Errno::RANGE) if buffer.len() < XATTR_MAX => buffer.resize(XATTR_MAX, 0),
            other => return other,
        }
    }
}

/// An error without a path yet: whoever knows the path puts it in front.
fn call(name: &str, errno: Errno) -> Error {
    Error::new(ErrorKind::Io, name).with_source(io::Error::from(errno))
}

fn changed(what: &str) -> Error {
    Error::new(ErrorKind::Changed, format!("{what} changed while it was read"))
}
