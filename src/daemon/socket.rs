// SPDX-License-Identifier: Apache-2.0
//! A Unix socket of mode 0600, never of any other.
//!
//! The mode is set before the socket has a name, so there is no moment at which others could connect. A socket
//! that nobody serves is replaced, one that somebody serves is not.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::error::{Error, ErrorKind, Result};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// Removes its name when it is dropped.
pub(super) struct Socket {
    path: PathBuf,
    /// Device and inode number.
    inode: (u64, u64),
}

impl Socket {
    /// Creates the directory if there is none, binds and listens.
    ///
    /// # Errors
    /// `FailedPrecondition` if somebody serves that socket, or if something else has its name.
    pub(super) fn bind(path: &Path) -> Result<(Self, UnixListener)> {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(directory).map_err(|error| Error::io("mkdir", directory, error))?;
        // Until it listens: two that start at once would each take the other's new socket for a stale one.
        let lock = fs::File::open(directory).map_err(|error| Error::io("open", directory, error))?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive).map_err(|e| Error::io("flock", directory, e))?;
        remove_stale(path)?;

        let address = SocketAddrUnix::new(path).map_err(|errno| Error::io("bind", path, errno))?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
            .map_err(|errno| Error::io("socket", path, errno))?;
        // Linux gives the name the mode of the socket, less the umask: unix(7), unix_bind in the kernel.
        rustix::fs::fchmod(&fd, Mode::RUSR | Mode::WUSR).map_err(|errno| Error::io("fchmod", path, errno))?;
        rustix::net::bind(&fd, &address).map_err(|errno| Error::io("bind", path, errno))?;
        rustix::net::listen(&fd, BACKLOG).map_err(|errno| Error::io("listen", path, errno))?;
        let stat = fs::symlink_metadata(path).map_err(|error| Error::io("lstat", path, error))?;
        let socket = Self { path: path.to_owned(), inode: (stat.dev(), stat.ino()) };
        Ok((socket, UnixListener::from(fd)))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Somebody may have replaced it meanwhile; theirs stays.
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|stat| (stat.dev(), stat.ino()) == self.inode);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            log::warn!("remove {}: {error}", self.path.display());
        }
    }
}

fn remove_stale(path: &Path) -> Result<()> {
    let refused = |what: &str| Err(Error::new(ErrorKind::FailedPrecondition, format!("{}: {what}", path.display())));
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io("lstat", path, error)),
        Ok(stat) if !stat.file_type().is_socket() => return refused("exists and is no socket"),
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => refused("another process serves this socket"),
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|error| Error::io("unlink", path, error))
        }
        Err(error) => Err(Error::io("connect", path, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_socket_is_0600_and_goes_with_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/s.sock");
        let (socket, listener) = Socket::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        UnixStream::connect(&path).unwrap();
        drop(listener);
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let (socket, _listener) = Socket::bind(&path).unwrap();
        let error = Socket::bind(&path).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
        assert!(error.to_string().contains("s.sock"), "{error}");
        UnixStream::connect(&path).unwrap();
        drop(socket);
    }

    #[test]
    fn what_is_no_socket_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        fs::write(&path, "precious").unwrap();
        assert_eq!(Socket::bind(&path).err().unwrap().kind(), ErrorKind::FailedPrecondition);
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn somebody_elses_socket_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        let (socket, _listener) = Socket::bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let _theirs = UnixListener::bind(&path).unwrap();
        drop(socket);
        UnixStream::connect(&path).unwrap();
    }
}
