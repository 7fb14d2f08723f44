// SPDX-License-Identifier: Apache-2.0
//! Changes to a tree, each beneath a [`Root`] and each made beside its place first: whoever looks meanwhile sees
//! the old inode or the new one, whole.

use std::ffi::OsStr;
use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{self as rfs, AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::attributes::{Attributes, own, set_attributes};
use super::inode::{Metadata, open_unread};
use super::root::Root;
use crate::digest::{Digest, HashingStream};
use crate::error::{Error, ErrorKind, Escaped, Result};
use crate::inode::FileType;

/// Prefix of what lies beside its place: a run that was killed may leave one behind.
pub const TEMPORARY_PREFIX: &str = ".continuity-";

/// Hex digits that follow the prefix.
const TEMPORARY_DIGITS: usize = 16;

/// Whether a name is one that an interrupted run of ours may have left.
pub fn is_temporary(name: &[u8]) -> bool {
    name.strip_prefix(TEMPORARY_PREFIX.as_bytes())
        .is_some_and(|rest| rest.len() == TEMPORARY_DIGITS && rest.iter().all(u8::is_ascii_hexdigit))
}

/// Bytes of a file that are copied at once.
pub(super) const COPY_BUFFER: usize = 128 << 10;

/// An inode without contents.
#[derive(Debug, Clone, Copy)]
pub enum Special<'a> {
    /// A symlink and its target.
    Symlink(&'a [u8]),
    /// A fifo, or a device with its numbers.
    Node(FileType, (u64, u64)),
}

impl Root {
    /// Creates a directory, open to its owner only, until [`set_attributes`](Self::set_attributes).
    ///
    /// # Errors
    /// `AlreadyExists`; as [`Root::parent`].
    pub fn make_directory(&self, path: &[u8]) -> Result<()> {
        let (parent, name) = self.parent(path)?;
        rfs::mkdirat(&parent, name, Mode::RWXU).map_err(|e| failed("mkdirat", path, e))?;
        self.settle(&parent, path)
    }

    /// Removes a file of any type, or an empty directory.
    ///
    /// # Errors
    /// As [`Root::parent`]; `Io` if a directory is not empty.
    pub fn remove(&self, path: &[u8], directory: bool) -> Result<()> {
        let (parent, name) = self.parent(path)?;
        let flags = if directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        rfs::unlinkat(&parent, name, flags).map_err(|e| failed("unlinkat", path, e))?;
        self.settle(&parent, path)
    }

    /// Puts a regular file in place of whatever is at `path`, except a directory: copies `source`, checks the digest
    /// of what was copied, gives it its attributes, renames.
    ///
    /// # Errors
    /// `InvalidInput` if the source has other contents: nothing was changed then.
    pub fn put_file(
        &self,
        path: &[u8],
        source: &mut dyn Read,
        contents: (Digest, u64),
        attributes: Attributes<'_>,
    ) -> Result<()> {
        let create = |parent: &OwnedFd, temporary: &str| {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rfs::openat(parent, temporary, flags, Mode::RUSR | Mode::WUSR)
        };
        self.beside(path, create, |_, _, file| {
            let file = copy_checked(path, source, file, contents)?;
            set_attributes(&file, path, attributes)?;
            self.flush(&file, path)
        })
    }

    /// Writes over a regular file of the same size and keeps its inode: for one that is in use. Whoever looks
    /// meanwhile sees a mixture, and so does everybody if it is interrupted or fails.
    ///
    /// # Errors
    /// `InvalidInput` if the source has other contents: the file has them, or a part of them, then. `Changed` if there
    /// is no such file: nothing was changed. `Io` also if it is being executed: nothing was changed.
    pub fn overwrite_file(
        &self,
        path: &[u8],
        source: &mut dyn Read,
        contents: (Digest, u64),
        attributes: Attributes<'_>,
    ) -> Result<()> {
        let (parent, name) = self.parent(path)?;
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rfs::openat(&parent, name, flags, Mode::empty()).map_err(|e| failed("openat", path, e))?;
        let stat = rfs::fstat(&fd).map_err(|e| failed("fstat", path, e))?;
        match Metadata::from_stat(&stat) {
            Some(found) if found.file_type == FileType::Regular && found.size == contents.1 => {}
            _ => return Err(Error::new(ErrorKind::Changed, format!("{}: its type or size changed", Escaped(path)))),
        }
        let fd = copy_checked(path, source, fd, contents)?;
        set_attributes(&fd, path, attributes)?;
        self.flush(&fd, path)
    }

    /// Puts a symlink, fifo or device in place of whatever is at `path`, except a directory.
    ///
    /// # Errors
    /// As [`Root::parent`].
    pub fn put_special(&self, path: &[u8], special: Special<'_>, attributes: Attributes<'_>) -> Result<()> {
        let create = |parent: &OwnedFd, temporary: &str| match special {
            Special::Symlink(target) => rfs::symlinkat(target, parent, temporary),
            Special::Node(file_type, (major, minor)) => {
                let device = match (u32::try_from(major), u32::try_from(minor)) {
                    (Ok(major), Ok(minor)) => rfs::makedev(major, minor),
                    _ => return Err(Errno::OVERFLOW),
                };
                rfs::mknodat(parent, temporary, raw_type(file_type), Mode::RUSR | Mode::WUSR, device)
            }
        };
        self.beside(path, create, |parent, temporary, ()| {
            own(parent, temporary, attributes).map_err(|e| failed("fchownat", path, e))?;
            match special {
                Special::Symlink(_) => Ok(()),
                Special::Node(file_type, _) => set_special_mode(parent, temporary, file_type, path, attributes),
            }
        })
    }

    /// Makes `path` a hard link to `to`, in place of whatever is there, except a directory.
    ///
    /// # Errors
    /// As [`Root::parent`], for either path.
    pub fn put_link(&self, path: &[u8], to: &[u8]) -> Result<()> {
        let (to_parent, to_name) = self.parent(to)?;
        let create =
            |parent: &OwnedFd, temporary: &str| rfs::linkat(&to_parent, to_name, parent, temporary, AtFlags::empty());
        self.beside(path, create, |_, _, ()| Ok(()))
    }

    /// Opens a regular file or a directory for reading.
    ///
    /// # Errors
    /// As [`Root::parent`]; `Changed` if it is of another type.
    pub fn open_inode(&self, path: &[u8], file_type: FileType) -> Result<OwnedFd> {
        let (parent, name) = self.parent(path)?;
        let fd = open_unread(parent.as_fd(), name, file_type).map_err(|e| e.context(Escaped(path)))?;
        let stat = rfs::fstat(&fd).map_err(|e| failed("fstat", path, e))?;
        match Metadata::from_stat(&stat) {
            Some(metadata) if metadata.file_type == file_type => Ok(fd),
            _ => Err(Error::new(ErrorKind::Changed, format!("{}: its type changed", Escaped(path)))),
        }
    }

    /// Writes everything that was changed to the disk.
    ///
    /// # Errors
    /// Of kind `Io`.
    pub fn sync(&self) -> Result<()> {
        let fd = self.reopen()?;
        rfs::syncfs(&fd).map_err(|e| failed("syncfs", b"/", e))
    }

    /// Lets `create` make something under a temporary name beside `path` and `finish` complete it, then renames it;
    /// removes it on failure. The name can't be guessed; a name that exists is somebody else's and stays.
    pub(super) fn beside<T>(
        &self,
        path: &[u8],
        create: impl Fn(&OwnedFd, &str) -> Result<T, Errno>,
        finish: impl FnOnce(&OwnedFd, &str, T) -> Result<()>,
    ) -> Result<()> {
        let (parent, name) = self.parent(path)?;
        let (temporary, created) = loop {
            let temporary = format!("{TEMPORARY_PREFIX}{:016x}", RandomState::new().build_hasher().finish());
            match create(&parent, &temporary) {
                Err(Errno::EXIST) => {}
                created => break (temporary, created.map_err(|e| failed("create", path, e))?),
            }
        };
        let made = finish(&parent, &temporary, created).and_then(|()| {
            rfs::renameat(&parent, temporary.as_str(), &parent, name).map_err(|e| failed("renameat", path, e))
        });
        // Also after a rename that did nothing, because both names were the same inode.
        match rfs::unlinkat(&parent, temporary.as_str(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => made.and_then(|()| self.settle(&parent, path)),
            Err(e) => made.and(Err(failed("unlinkat", path, e))),
        }
    }

    /// What was done to an inode is on the disk, where that was asked for.
    pub(super) fn flush(&self, fd: &OwnedFd, path: &[u8]) -> Result<()> {
        match self.durable {
            true => rfs::fsync(fd).map_err(|e| failed("fsync", path, e)),
            false => Ok(()),
        }
    }

    /// What was done in the directory that holds `path` is on the disk, where that was asked for.
    pub(super) fn settle(&self, parent: &OwnedFd, path: &[u8]) -> Result<()> {
        if !self.durable {
            return Ok(());
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rfs::openat(parent, c".", flags, Mode::empty()).map_err(|e| failed("openat", path, e))?;
        self.flush(&fd, path)
    }
}

/// Copies a file's contents and makes sure that they are the expected ones, digest and size.
fn copy_checked(path: &[u8], source: &mut dyn Read, to: OwnedFd, (digest, size): (Digest, u64)) -> Result<OwnedFd> {
    let mut to = File::from(to);
    // One byte more tells a source that is too long.
    let mut hashed = HashingStream::new(source.take(size.saturating_add(1)));
    let mut buffer = vec![0; COPY_BUFFER];
    loop {
        match hashed.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => to.write_all(&buffer[..n]).map_err(|e| copy_failed(path, e))?,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(copy_failed(path, e)),
        }
    }
    let (_, copied, bytes) = hashed.finish();
    if bytes > size {
        return Err(Error::new(ErrorKind::InvalidInput, format!("{}: the source is too long", Escaped(path))));
    }
    if (copied, bytes) != (digest, size) {
        let message = format!("{}: the source holds {copied}, not {digest}", Escaped(path));
        return Err(Error::new(ErrorKind::InvalidInput, message));
    }
    Ok(to.into())
}

fn copy_failed(path: &[u8], error: io::Error) -> Error {
    Error::io("copy to", OsStr::from_bytes(path), error)
}

/// Sets the permissions of a fifo or device through a handle: whoever can write the directory may have put a symlink
/// in its place meanwhile, and `fchmodat` would follow it.
fn set_special_mode(
    parent: &OwnedFd,
    name: &str,
    file_type: FileType,
    path: &[u8],
    attributes: Attributes<'_>,
) -> Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rfs::openat(parent, name, flags, Mode::empty()).map_err(|e| failed("openat", path, e))?;
    let stat = rfs::fstat(&fd).map_err(|e| failed("fstat", path, e))?;
    if Metadata::from_stat(&stat).is_none_or(|metadata| metadata.file_type != file_type) {
        return Err(Error::new(ErrorKind::Changed, format!("{}: its type changed", Escaped(path))));
    }
    let handle = format!("/proc/self/fd/{}", fd.as_raw_fd());
    rfs::chmod(handle, Mode::from_raw_mode(attributes.permissions)).map_err(|e| failed("fchmod", path, e))
}

fn raw_type(file_type: FileType) -> rfs::FileType {
    match file_type {
        FileType::CharDevice => rfs::FileType::CharacterDevice,
        FileType::BlockDevice => rfs::FileType::BlockDevice,
        _ => rfs::FileType::Fifo,
    }
}

pub(super) fn failed(call: &str, path: &[u8], errno: Errno) -> Error {
    Error::io(call, OsStr::from_bytes(path), io::Error::from(errno))
}
