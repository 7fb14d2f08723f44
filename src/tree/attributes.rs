// SPDX-License-Identifier: Apache-2.0
//! Owner, permissions and extended attributes of what a path leads to.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{self as rfs, AtFlags, Gid, Mode, Uid, XattrFlags};
use rustix::io::Errno;

use super::edit::failed;
use super::inode::{Scratch, xattrs};
use super::root::Root;
use crate::error::{Escaped, Result};
use crate::host;
use crate::inode::{FileType, Xattr};

/// Owner, permissions and extended attributes to give.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a> {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// `st_mode & 0o7777`.
    pub permissions: u32,
    /// To be set.
    pub xattrs: &'a [Xattr],
    /// What becomes of every other extended attribute.
    pub others: Others,
}

/// What becomes of extended attributes that are not to be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Others {
    /// They stay.
    Stay,
    /// They go.
    Go,
    /// They go, but for what the [host](crate::host) puts there by itself; of that, only these go.
    HostsStay(&'static [&'static str]),
}

impl Others {
    fn takes(self, name: &[u8]) -> bool {
        match self {
            Self::Stay => false,
            Self::Go => true,
            Self::HostsStay(_) => !self.leaves_to_host(name),
        }
    }

    /// Whether an attribute is the host's business.
    fn leaves_to_host(self, name: &[u8]) -> bool {
        match self {
            Self::Stay | Self::Go => false,
            Self::HostsStay(but) => host::owns(name) && !but.iter().any(|other| other.as_bytes() == name),
        }
    }
}

impl Root {
    /// Changes owner, permissions and extended attributes of a file or directory where it is.
    ///
    /// # Errors
    /// As [`Root::parent`]; `Changed` if its type changed meanwhile.
    pub fn set_attributes(&self, path: &[u8], file_type: FileType, attributes: Attributes<'_>) -> Result<()> {
        let fd = match path {
            b"/" => self.reopen()?,
            _ => self.open_inode(path, file_type)?,
        };
        set_attributes(&fd, path, attributes)?;
        self.flush(&fd, path)
    }

    /// Changes the owner of a symlink.
    ///
    /// # Errors
    /// As [`Root::parent`].
    pub fn set_owner(&self, path: &[u8], attributes: Attributes<'_>) -> Result<()> {
        let (parent, name) = self.parent(path)?;
        own(&parent, name, attributes).map_err(|e| failed("fchownat", path, e))?;
        self.settle(&parent, path)
    }

    /// The extended attributes of a file or directory, sorted by name.
    ///
    /// # Errors
    /// As [`Root::set_attributes`].
    pub fn xattrs(&self, path: &[u8], file_type: FileType) -> Result<Vec<Xattr>> {
        let fd = match path {
            b"/" => self.reopen()?,
            _ => self.open_inode(path, file_type)?,
        };
        xattrs(fd.as_fd(), &mut Scratch::new()).map_err(|error| error.context(Escaped(path)))
    }

    /// Whether the filesystem of the root knows no extended attribute of this name, and so drops it.
    ///
    /// # Errors
    /// Of kind `Io`.
    pub fn lacks_xattr(&self, name: &[u8]) -> Result<bool> {
        match rfs::fgetxattr(self.reopen()?, name, &mut [0_u8; 0][..]) {
            Err(Errno::NOTSUP) => Ok(true),
            Ok(_) | Err(Errno::NODATA | Errno::RANGE) => Ok(false),
            Err(errno) => Err(failed("fgetxattr", b"/", errno).context(Escaped(name))),
        }
    }
}

pub(super) fn own(parent: &OwnedFd, name: impl rustix::path::Arg, attributes: Attributes<'_>) -> Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
    rfs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
}

/// Owner first: a change of owner clears setuid bits and capabilities. Then what belongs to the host: it may be another
/// name for what the image says, as XFS has one for POSIX ACLs, and the image has the last word.
pub(super) fn set_attributes(fd: &OwnedFd, path: &[u8], attributes: Attributes<'_>) -> Result<()> {
    let stat = rfs::fstat(fd).map_err(|e| failed("fstat", path, e))?;
    if (stat.st_uid, stat.st_gid) != (attributes.uid, attributes.gid) {
        let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
        rfs::fchown(fd, Some(uid), Some(gid)).map_err(|e| failed("fchown", path, e))?;
    }
    let present = || xattrs(fd.as_fd(), &mut Scratch::new()).map_err(|e| e.context(Escaped(path)));
    let set = |xattr: &Xattr| rfs::fsetxattr(fd, xattr.name.as_slice(), &xattr.value, XattrFlags::empty());
    let unset = |xattr: &Xattr, errno| failed("fsetxattr", path, errno).context(Escaped(&xattr.name));
    let (hosts, images): (Vec<&Xattr>, Vec<&Xattr>) =
        attributes.xattrs.iter().partition(|xattr| attributes.others.leaves_to_host(&xattr.name));
    if !hosts.is_empty() {
        let present = present()?;
        for xattr in hosts.into_iter().filter(|wanted| !present.contains(wanted)) {
            match set(xattr) {
                // The host gives it to a new inode by itself, as it sees fit: EVM's is of the old one, for example.
                Err(Errno::PERM | Errno::ACCESS | Errno::NOTSUP) => {}
                done => done.map_err(|errno| unset(xattr, errno))?,
            }
        }
    }
    let mode = Mode::from_raw_mode(attributes.permissions);
    rfs::fchmod(fd, mode).map_err(|e| failed("fchmod", path, e))?;
    let present = present()?;
    let is_wanted = |name: &[u8]| attributes.xattrs.iter().any(|wanted| wanted.name == name);
    for xattr in present.iter().filter(|xattr| attributes.others.takes(&xattr.name) && !is_wanted(&xattr.name)) {
        match rfs::fremovexattr(fd, xattr.name.as_slice()) {
            // Two names of one thing, as XFS has them for POSIX ACLs: it went with the other one.
            Ok(()) | Err(Errno::NODATA) => {}
            Err(e) => return Err(failed("fremovexattr", path, e)),
        }
    }
    for xattr in images.into_iter().filter(|wanted| !present.contains(wanted)) {
        set(xattr).map_err(|errno| unset(xattr, errno))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_hosts_stays_but_for_what_is_named() {
        let others = Others::HostsStay(&["trusted.overlay.opaque"]);
        for (name, takes) in [
            ("security.selinux", false),
            ("trusted.overlay.origin", false),
            ("trusted.overlay.opaque", true),
            ("user.origin", true),
            ("security.capability", true),
        ] {
            let name = name.as_bytes();
            assert_eq!((others.takes(name), others.leaves_to_host(name)), (takes, !takes), "{}", Escaped(name));
            assert!(Others::Go.takes(name) && !Others::Stay.takes(name) && !Others::Go.leaves_to_host(name));
        }
    }
}
