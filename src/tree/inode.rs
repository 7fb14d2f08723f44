// SPDX-License-Identifier: Apache-2.0
//! One inode: its metadata, its extended attributes, its contents.
//!
//! Only what the directory called a regular file is opened for reading, never through a symlink, without
//! blocking and without touching its access time, and what was opened is looked at again before a byte is read.
//! The bytes themselves are read by [`Contents`], in turn with those of another file.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{self as rfs, AtFlags, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::contents::Contents;
use super::links::{InodeId, LinkTable};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::inode::{FileType, Xattr};

/// Largest list of names and largest value of extended attributes: the kernel's own limits
/// (XATTR_LIST_MAX, XATTR_SIZE_MAX).
const XATTR_MAX: usize = 64 << 10;

/// Filesystems whose sizes are the kernel's own word, by their magic numbers (linux/magic.h; XFS has its own in its
/// superblock).
const TRUE_SIZES: [u32; 7] = [
    0xef53,      // ext2, ext3, ext4
    0x5846_5342, // XFS
    0x9123_683e, // btrfs
    0xf2f5_2010, // F2FS
    0x0102_1994, // tmpfs
    0xe0f5_e1e2, // EROFS
    0x7371_7368, // SquashFS
];

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

/// What one thread uses over and over.
pub(super) struct Scratch {
    names: Vec<u8>,
    value: Vec<u8>,
    /// Device of the file before, and whether sizes of its filesystem can be trusted.
    device: Option<(u64, bool)>,
}

impl Scratch {
    pub(super) fn new() -> Self {
        Self { names: vec![0; 1024], value: vec![0; 1024], device: None }
    }
}

/// An inode that was opened.
pub(super) enum Opened<'a> {
    /// There is nothing more to read.
    Read(Node),
    /// Its contents are to be hashed.
    Unread(Contents<'a>),
}

/// Opens the inode behind `name`, one component, in `dir`, and reads everything but its contents. `expected` is what
/// the directory said it is: anything else by now is an error of kind `Changed`. The contents of `skip` are not read.
pub(super) fn open<'a>(
    dir: BorrowedFd<'_>,
    name: &CStr,
    expected: FileType,
    links: &'a LinkTable,
    skip: &[InodeId],
    scratch: &mut Scratch,
) -> Result<Opened<'a>> {
    match expected {
        FileType::Regular => open_file(open_unread(dir, name, expected)?, links, skip, scratch),
        FileType::Directory => read_directory(open_unread(dir, name, expected)?.as_fd(), scratch).map(Opened::Read),
        _ => read_unopened(dir, name, expected).map(Opened::Read),
    }
}

fn open_file<'a>(fd: OwnedFd, links: &'a LinkTable, skip: &[InodeId], scratch: &mut Scratch) -> Result<Opened<'a>> {
    let stat = rfs::fstat(&fd).map_err(|e| call("fstat", e))?;
    let metadata = metadata_of(&stat, FileType::Regular)?;
    let xattrs = xattrs(fd.as_fd(), scratch)?;
    let node = |digest| Node { metadata, digest, target: Vec::new(), xattrs };
    if skip.contains(&metadata.id) {
        return Ok(Opened::Read(node(None)));
    }
    if metadata.size == 0 && scratch.trusts_size(fd.as_fd(), metadata.id.dev) {
        return Ok(Opened::Read(node(Some(Digest::EMPTY))));
    }
    let claim = match metadata.link_id().map(|id| links.claim(id)) {
        Some(None) => return Ok(Opened::Read(node(None))),
        claim => claim.flatten(),
    };
    Ok(Opened::Unread(Contents::new(fd, node(None), &stat, claim)))
}

/// Reads a directory's own inode.
pub(super) fn read_directory(fd: BorrowedFd<'_>, scratch: &mut Scratch) -> Result<Node> {
    let stat = rfs::fstat(fd).map_err(|e| call("fstat", e))?;
    let metadata = metadata_of(&stat, FileType::Directory)?;
    Ok(Node { metadata, digest: None, target: Vec::new(), xattrs: xattrs(fd, scratch)? })
}

impl Scratch {
    /// Whether a size of zero on this device says that there are no contents, and no read has to: files of procfs have
    /// contents and no size, and what a FUSE server says of either is its own affair.
    #[allow(clippy::unnecessary_cast, reason = "the field's type differs between architectures")]
    fn trusts_size(&mut self, fd: BorrowedFd<'_>, device: u64) -> bool {
        match self.device {
            Some((known, trusted)) if known == device => trusted,
            _ => {
                let trusted = rfs::fstatfs(fd).is_ok_and(|stat| TRUE_SIZES.contains(&(stat.f_type as u32)));
                self.device = Some((device, trusted));
                trusted
            }
        }
    }
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
pub(super) fn call(name: &str, errno: Errno) -> Error {
    Error::new(ErrorKind::Io, name).with_source(io::Error::from(errno))
}

pub(super) fn changed(what: &str) -> Error {
    Error::new(ErrorKind::Changed, format!("{what} changed while it was read"))
}
