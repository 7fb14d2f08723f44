// SPDX-License-Identifier: Apache-2.0
//! Moving away what a tree should not have, so that it is not lost.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{self as rfs, AtFlags, RenameFlags};
use rustix::io::Errno;

use super::edit::{Attributes, Special, failed};
use super::inode::{Metadata, Scratch, hash_file, xattrs};
use super::root::Root;
use crate::error::{Error, ErrorKind, Escaped, Result};
use crate::inode::FileType;

impl Root {
    /// Moves a file of any type, or an empty directory, to the same path beneath `to`; what is needed of the
    /// directories above it is made there, open to their owner only. To another filesystem it is copied, with owner,
    /// mode and extended attributes; a socket is not.
    ///
    /// # Errors
    /// As [`Root::parent`]; `AlreadyExists` if something is at that path. Nothing is removed then.
    pub fn move_away(&self, path: &[u8], directory: bool, to: &Self) -> Result<()> {
        let slashes = path.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/').map(|(n, _)| n);
        for above in slashes.chain(directory.then_some(path.len())) {
            match to.make_directory(&path[..above]) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                made => made?,
            }
        }
        if directory {
            return self.remove(path, true);
        }
        let ((parent, name), (to_parent, to_name)) = (self.parent(path)?, to.parent(path)?);
        match rfs::renameat_with(&parent, name, &to_parent, to_name, RenameFlags::NOREPLACE) {
            Ok(()) => {
                to.settle(&to_parent, path)?;
                self.settle(&parent, path)
            }
            Err(Errno::XDEV) => {
                let stat = rfs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW);
                let stat = stat.map_err(|e| failed("fstatat", path, e))?;
                if let Some(metadata) = Metadata::from_stat(&stat) {
                    self.copy_away(path, &metadata, &parent, to)?;
                }
                self.remove(path, false)
            }
            Err(e) => Err(failed("renameat2", path, e)),
        }
    }

    fn copy_away(&self, path: &[u8], metadata: &Metadata, parent: &OwnedFd, to: &Self) -> Result<()> {
        let mut attributes = Attributes {
            uid: metadata.uid,
            gid: metadata.gid,
            permissions: metadata.permissions,
            xattrs: &[],
            remove_others: false,
        };
        match metadata.file_type {
            FileType::Regular => {
                let file = self.open_inode(path, FileType::Regular)?;
                let digest = hash_file(&file)?;
                let kept = xattrs(file.as_fd(), &mut Scratch::small()).map_err(|e| e.context(Escaped(path)))?;
                attributes.xattrs = &kept;
                // Opened anew: hashing has read it to its end.
                let mut contents = File::from(self.open_inode(path, FileType::Regular)?);
                to.put_file(path, &mut contents, (digest, metadata.size), attributes)
            }
            FileType::Symlink => {
                let name = self.parent(path)?.1;
                let target = rfs::readlinkat(parent, name, Vec::new()).map_err(|e| failed("readlinkat", path, e))?;
                to.put_special(path, Special::Symlink(target.as_bytes()), attributes)
            }
            FileType::Socket => Ok(()),
            FileType::Directory => {
                Err(Error::new(ErrorKind::Changed, format!("{}: it became a directory", Escaped(path))))
            }
            special => {
                let (major, minor) = metadata.device;
                to.put_special(path, Special::Node(special, (major.into(), minor.into())), attributes)
            }
        }
    }
}
