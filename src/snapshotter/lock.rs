// SPDX-License-Identifier: Apache-2.0
//! One process per root, and per purpose.
//!
//! The lock is the kernel's (flock) and goes with the process, however that ends; the file that carries it stays
//! and holds the process ID, for the message only.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Result};

/// File in the root that the daemon holds.
pub(super) const DAEMON: &str = "lock";

/// File in the root that a repair holds: two would move the same files away.
pub const REPAIR: &str = "repair.lock";

/// Held as long as it lives.
#[derive(Debug)]
pub struct RootLock {
    _file: File,
}

impl RootLock {
    /// Takes the lock that this file of the root carries.
    ///
    /// # Errors
    /// `FailedPrecondition`, naming root and process, if another process holds it.
    pub fn acquire(root: &Path, name: &str) -> Result<Self> {
        let path = root.join(name);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd = rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR).map_err(|e| Error::io("open", &path, e))?;
        let mut file = File::from(fd);
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(held(root, file)),
            Err(errno) => return Err(Error::io("flock", &path, errno)),
        }
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        write(&mut file).map_err(|error| Error::io("write", &path, error))?;
        Ok(Self { _file: file })
    }
}

fn held(root: &Path, file: File) -> Error {
    let mut pid = String::new();
    // The holder may be about to write it: a message without a number is still right.
    let holder = match file.take(32).read_to_string(&mut pid) {
        Ok(_) if !pid.trim().is_empty() => format!("process {}", pid.trim()),
        _ => "another process".to_owned(),
    };
    Error::new(ErrorKind::FailedPrecondition, format!("{} is in use by {holder}", root.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let first = RootLock::acquire(dir.path(), DAEMON).unwrap();
        let error = RootLock::acquire(dir.path(), DAEMON).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
        let expected = format!("{} is in use by process {}", dir.path().display(), std::process::id());
        assert_eq!(error.to_string(), expected);
        drop(first);
        RootLock::acquire(dir.path(), DAEMON).unwrap();
    }
}
