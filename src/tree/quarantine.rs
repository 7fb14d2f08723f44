// SPDX-License-Identifier: Apache-2.0
//! Keeping what a tree should not have, before it is removed or replaced.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;

use rustix::fs::{self as rfs, AtFlags, Mode, OFlags, SeekFrom};
use rustix::io::Errno;

use super::Progress;
use super::attributes::{Attributes, Others, set_attributes};
use super::edit::{COPY_BUFFER, Special, failed};
use super::inode::{Metadata, Scratch, xattrs};
use super::root::Root;
use crate::error::{Error, ErrorKind, Escaped, Result};
use crate::inode::FileType;

impl Root {
    /// Keeps a file of any type, or an empty directory, at the same path beneath `to`; what is needed of the
    /// directories above it is made there, open to their owner only. A file is kept as a hard link; on another
    /// filesystem as a copy, with owner, mode, extended attributes and holes. False for a socket there: it can't be.
    ///
    /// # Errors
    /// As [`Root::parent`]; `AlreadyExists` if something is at that path; `Cancelled`.
    pub fn keep(&self, path: &[u8], directory: bool, to: &Self, progress: &Progress) -> Result<bool> {
        let slashes = path.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/').map(|(n, _)| n);
        for above in slashes.chain(directory.then_some(path.len())) {
            match to.make_directory(&path[..above]) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                made => made?,
            }
        }
        if directory {
            return Ok(true);
        }
        let ((parent, name), (to_parent, to_name)) = (self.parent(path)?, to.parent(path)?);
        match rfs::linkat(&parent, name, &to_parent, to_name, AtFlags::empty()) {
            Ok(()) => to.settle(&to_parent, path).map(|()| true),
            // Another filesystem, or one without hard links, or without any more.
            Err(Errno::XDEV | Errno::PERM | Errno::OPNOTSUPP | Errno::MLINK) => {
                if to.metadata(path)?.is_some() {
                    return Err(failed("linkat", path, Errno::EXIST));
                }
                let stat = rfs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW);
                let stat = stat.map_err(|e| failed("fstatat", path, e))?;
                let metadata = Metadata::from_stat(&stat);
                metadata.map_or(Ok(false), |metadata| self.copy(path, &metadata, &parent, to, progress))
            }
            Err(e) => Err(failed("linkat", path, e)),
        }
    }

    fn copy(&self, path: &[u8], metadata: &Metadata, parent: &OwnedFd, to: &Self, progress: &Progress) -> Result<bool> {
        let attributes = Attributes {
            uid: metadata.uid,
            gid: metadata.gid,
            permissions: metadata.permissions,
            xattrs: &[],
            others: Others::Stay,
        };
        match metadata.file_type {
            FileType::Regular => {
                let file = File::from(self.open_inode(path, FileType::Regular)?);
                let xattrs = xattrs(file.as_fd(), &mut Scratch::new()).map_err(|e| e.context(Escaped(path)))?;
                to.put_copy(path, &file, Attributes { xattrs: &xattrs, ..attributes }, progress)?;
            }
            FileType::Symlink => {
                let name = self.parent(path)?.1;
                let target = rfs::readlinkat(parent, name, Vec::new()).map_err(|e| failed("readlinkat", path, e))?;
                to.put_special(path, Special::Symlink(target.as_bytes()), attributes)?;
            }
            FileType::Socket => return Ok(false),
            FileType::Directory => {
                return Err(Error::new(ErrorKind::Changed, format!("{}: it became a directory", Escaped(path))));
            }
            special => {
                let (major, minor) = metadata.device;
                to.put_special(path, Special::Node(special, (major.into(), minor.into())), attributes)?;
            }
        }
        Ok(true)
    }

    /// Puts a copy of a file at `path`, where nothing is.
    fn put_copy(&self, path: &[u8], from: &File, attributes: Attributes<'_>, progress: &Progress) -> Result<()> {
        let create = |parent: &OwnedFd, temporary: &str| {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rfs::openat(parent, temporary, flags, Mode::RUSR | Mode::WUSR)
        };
        self.beside(path, create, |_, _, file| {
            let file = File::from(file);
            copy_data(path, from, &file, progress)?;
            let file = OwnedFd::from(file);
            set_attributes(&file, path, attributes)?;
            self.flush(&file, path)
        })
    }
}

/// Copies what is not a hole.
fn copy_data(path: &[u8], from: &File, to: &File, progress: &Progress) -> Result<()> {
    let io = |call: &str, error| Error::io(call, OsStr::from_bytes(path), error);
    let size = from.metadata().map_err(|e| io("fstat", e))?.len();
    to.set_len(size).map_err(|e| io("ftruncate", e))?;
    let mut buffer = vec![0; COPY_BUFFER];
    let mut offset = 0;
    while offset < size {
        let (data, hole) = match rfs::seek(from, SeekFrom::Data(offset)) {
            // Nothing but a hole up to the end.
            Err(Errno::NXIO) => break,
            // A filesystem that does not tell.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => (offset, size),
            data => {
                let data = data.map_err(|e| failed("lseek", path, e))?;
                (data, rfs::seek(from, SeekFrom::Hole(data)).map_err(|e| failed("lseek", path, e))?)
            }
        };
        offset = data;
        while offset < hole {
            progress.check()?;
            let most = usize::try_from(hole - offset).unwrap_or(usize::MAX).min(buffer.len());
            let n = from.read_at(&mut buffer[..most], offset).map_err(|e| io("read", e))?;
            if n == 0 {
                // It was truncated meanwhile.
                return Ok(());
            }
            to.write_all_at(&buffer[..n], offset).map_err(|e| io("write", e))?;
            offset += n as u64;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::{MetadataExt, symlink};
    use std::os::unix::net::UnixListener;
    use std::path::Path;

    /// A directory on a filesystem other than the one of temporary files.
    fn elsewhere() -> tempfile::TempDir {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let here = tempfile::tempdir().unwrap();
        assert_ne!(dir.path().metadata().unwrap().dev(), here.path().metadata().unwrap().dev());
        dir
    }

    fn keep(from: &Path, path: &str, to: &Path) -> Result<bool> {
        let directory = from.join(&path[1..]).symlink_metadata().unwrap().is_dir();
        let (from, to) = (Root::open(from)?, Root::open(to)?);
        from.keep(path.as_bytes(), directory, &to, &Progress::default())
    }

    #[test]
    fn files_of_any_type_are_kept_on_another_filesystem() {
        let (dir, to) = (tempfile::tempdir().unwrap(), elsewhere());
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("a/b")).unwrap();
        fs::write(at("a/b/file"), "contents").unwrap();
        fs::set_permissions(at("a/b/file"), std::os::unix::fs::PermissionsExt::from_mode(0o4711)).unwrap();
        symlink("nowhere", at("a/link")).unwrap();
        let _listener = UnixListener::bind(at("a/socket")).unwrap();
        assert!(keep(dir.path(), "/a/b/file", to.path()).unwrap());
        assert!(keep(dir.path(), "/a/link", to.path()).unwrap());
        assert!(keep(dir.path(), "/a/b", to.path()).unwrap());
        assert!(!keep(dir.path(), "/a/socket", to.path()).unwrap());
        assert_eq!(fs::read(to.path().join("a/b/file")).unwrap(), b"contents");
        assert_eq!(to.path().join("a/b/file").metadata().unwrap().mode() & 0o7777, 0o4711);
        assert_eq!(fs::read_link(to.path().join("a/link")).unwrap(), Path::new("nowhere"));
        assert!(!to.path().join("a/socket").exists());
    }

    #[test]
    fn a_file_is_kept_as_a_link_where_that_can_be() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("from")).unwrap();
        fs::create_dir(dir.path().join("to")).unwrap();
        fs::write(dir.path().join("from/file"), "contents").unwrap();
        let _listener = UnixListener::bind(dir.path().join("from/socket")).unwrap();
        for name in ["file", "socket"] {
            assert!(keep(&dir.path().join("from"), &format!("/{name}"), &dir.path().join("to")).unwrap());
            let inode = |at: &str| dir.path().join(at).join(name).symlink_metadata().unwrap().ino();
            assert_eq!(inode("from"), inode("to"));
        }
        let again = keep(&dir.path().join("from"), "/file", &dir.path().join("to")).unwrap_err();
        assert_eq!(again.kind(), ErrorKind::AlreadyExists);
    }

    #[test]
    fn holes_are_kept_as_holes_and_the_rest_byte_for_byte() {
        let (dir, to) = (tempfile::tempdir().unwrap(), elsewhere());
        let mut file = File::create(dir.path().join("sparse")).unwrap();
        file.write_all(b"begin").unwrap();
        file.write_all_at(&[7; 300_000], 50 << 20).unwrap();
        file.set_len(1 << 30).unwrap();
        assert!(keep(dir.path(), "/sparse", to.path()).unwrap());
        let kept = to.path().join("sparse");
        assert_eq!(kept.metadata().unwrap().len(), 1 << 30);
        assert!(kept.metadata().unwrap().blocks() * 512 < 2 << 20, "it is dense");
        let kept = File::open(kept).unwrap();
        let mut bytes = vec![0; 300_001];
        kept.read_exact_at(&mut bytes, 50 << 20).unwrap();
        assert!(bytes[..300_000].iter().all(|&byte| byte == 7) && bytes[300_000] == 0);
        kept.read_exact_at(&mut bytes[..6], 0).unwrap();
        assert_eq!(&bytes[..6], b"begin\0");
    }

    #[test]
    fn a_copy_can_be_given_up() {
        let (dir, to) = (tempfile::tempdir().unwrap(), elsewhere());
        fs::write(dir.path().join("file"), "contents").unwrap();
        let (from, root) = (Root::open(dir.path()).unwrap(), Root::open(to.path()).unwrap());
        let progress = Progress::default();
        progress.cancel();
        let error = from.keep(b"/file", false, &root, &progress).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        assert_eq!(fs::read_dir(to.path()).unwrap().count(), 0);
    }
}
