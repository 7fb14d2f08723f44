// SPDX-License-Identifier: Apache-2.0
//! One process per root.
//!
//! The lock is the kernel's (flock) and goes with the process, however that ends; the file that carries it stays
//! and holds the process ID, for the message only.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Result};

/// Name of the file in the root.
const NAME: &str = "lock";

/// Held as long as it lives.
#[derive(Debug)]
pub(super) struct RootLock {
    _file: File,
}

impl RootLock {
    /// # Errors
    /// `FailedPrecondition`, naming root and process, if another process holds it.
    pub(super) fn acquire(root: &Path) -> Result<Self> {
        let path = root.join(NAME);
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
        let first = RootLock::acquire(dir.path()).unwrap();
        let error = RootLock::acquire(dir.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
        let expected = format!("{} is in use by process {}", dir.path().display(), std::process::id());
        assert_eq!(error.to_string(), expected);
        drop(first);
        RootLock::acquire(dir.path()).unwrap();
    }
}
