// SPDX-License-Identifier: Apache-2.0
//! What overlayfs keeps in the directory of a layer, and what of it means something.
//!
//! Its extended attributes are `trusted.overlay.*`, or `user.overlay.*` where it was mounted with `userxattr`, as in a
//! user namespace. Two say what is shown, the mark of an opaque directory and the mark of a whiteout that is no device;
//! the rest is bookkeeping, which no layer's tar has and of which what is shown does not depend.

use super::rootfs::Unpacking;
use crate::host;
use crate::inode::{FileType, Xattr};
use crate::manifest::Resource;
use crate::tree::Metadata;

/// Marks a directory that hides what lies beneath it.
const OPAQUE: &[u8] = b"opaque";

/// Marks an empty file that stands for a whiteout.
const WHITEOUT: &[u8] = b"whiteout";

/// Marks a file whose contents are those of the layers below.
const METACOPY: &[u8] = b"metacopy";

/// Names the place in the layers below whose contents a directory shows, which was moved.
const REDIRECT: &[u8] = b"redirect";

/// The value of [`OPAQUE`] that hides; another one says that there may be whiteouts that are no devices.
const YES: &[u8] = b"y";

/// The names of all that changes what is shown, in both namespaces.
pub const MARK_NAMES: [&str; 6] = [
    "trusted.overlay.opaque",
    "trusted.overlay.redirect",
    "trusted.overlay.metacopy",
    "user.overlay.opaque",
    "user.overlay.redirect",
    "user.overlay.metacopy",
];

/// The names of the mark of an opaque directory, in both namespaces.
const OPAQUE_NAMES: [&str; 2] = ["trusted.overlay.opaque", "user.overlay.opaque"];

/// Which of its two namespaces an overlay reads. The attributes of the other one mean nothing to it, and are shown as
/// any others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marks {
    /// `trusted.overlay.*`.
    Trusted,
    /// `user.overlay.*`, with the mount option `userxattr`.
    User,
}

impl Marks {
    /// Those of overlays that this process mounts.
    pub fn here() -> Self {
        match host::in_user_namespace() {
            true => Self::User,
            false => Self::Trusted,
        }
    }

    /// Those in the directories of layers that were unpacked in this way.
    pub fn of(unpacking: Unpacking) -> Self {
        match unpacking {
            Unpacking::Kernel => Self::User,
            Unpacking::Overlay | Unpacking::Mounted | Unpacking::Copied => Self::Trusted,
        }
    }

    fn is(self, name: &[u8], mark: &[u8]) -> bool {
        let prefix = match self {
            Self::Trusted => host::TRUSTED_OVERLAY,
            Self::User => host::USER_OVERLAY,
        };
        name.strip_prefix(prefix) == Some(mark)
    }

    fn find<'x>(self, xattrs: &'x [Xattr], mark: &[u8]) -> Option<&'x Xattr> {
        xattrs.iter().find(|xattr| self.is(&xattr.name, mark))
    }

    /// Whether these are the attributes of a directory that hides what lies beneath it.
    pub fn is_opaque(self, xattrs: &[Xattr]) -> bool {
        self.find(xattrs, OPAQUE).is_some_and(|xattr| xattr.value == YES)
    }

    /// Whether it is an inode whose contents are those of the layers below.
    pub fn is_metacopy(self, resource: &Resource) -> bool {
        resource.mode.file_type() == FileType::Regular && self.find(&resource.xattrs, METACOPY).is_some()
    }

    /// The place in the layers below whose contents a directory at `path` shows beside its own, if it was moved.
    pub fn redirected(self, path: &[u8], xattrs: &[Xattr]) -> Option<Vec<u8>> {
        let redirect = self.find(xattrs, REDIRECT)?;
        let slash = path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
        Some(match redirect.value.starts_with(b"/") {
            true => redirect.value.clone(),
            // Renamed, and no more.
            false => [&path[..slash], b"/", &redirect.value].concat(),
        })
    }

    /// Whether it hides what lies beneath it: a character device 0,0, whatever its attributes, or an empty file with
    /// the mark.
    pub fn is_whiteout(self, resource: &Resource) -> bool {
        match resource.mode.file_type() {
            FileType::CharDevice => resource.device == (0, 0),
            FileType::Regular => resource.size == 0 && self.find(&resource.xattrs, WHITEOUT).is_some(),
            _ => false,
        }
    }

    /// Gives the mark of an opaque directory, which is `trusted.*` where an image is unpacked in memory, the name that
    /// it has on the disk.
    pub fn rename(self, xattrs: &mut Vec<Xattr>) {
        if self == Self::User {
            let [elsewhere, here] = OPAQUE_NAMES;
            for xattr in xattrs.iter_mut().filter(|xattr| xattr.name == elsewhere.as_bytes()) {
                xattr.name = here.into();
            }
            xattrs.sort_by(|a, b| a.name.cmp(&b.name));
            xattrs.dedup_by(|a, b| a.name == b.name);
        }
    }
}

/// Whether an extended attribute of this name may mark an opaque directory, in either namespace.
pub fn is_opaque_name(name: &[u8]) -> bool {
    host::overlays(name) == Some(OPAQUE)
}

/// Whether an extended attribute of this name may change what is shown, in either namespace.
pub fn is_mark(name: &[u8]) -> bool {
    host::overlays(name).is_some_and(|own| [OPAQUE, REDIRECT, METACOPY].contains(&own))
}

/// Whether an inode on the disk is the device that stands for a whiteout.
pub fn is_whiteout_inode(metadata: &Metadata) -> bool {
    metadata.file_type == FileType::CharDevice && metadata.device == (0, 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Mode;

    fn resource(file_type: FileType, xattrs: &[(&str, &str)]) -> Resource {
        let xattr =
            |(name, value): &(&str, &str)| Xattr { name: name.as_bytes().into(), value: value.as_bytes().into() };
        Resource {
            paths: vec![b"/x".to_vec()],
            uid: 0,
            gid: 0,
            user: Vec::new(),
            group: Vec::new(),
            mode: Mode::new(file_type, 0),
            size: 0,
            digest: None,
            target: Vec::new(),
            device: (0, 0),
            xattrs: xattrs.iter().map(xattr).collect(),
        }
    }

    #[test]
    fn a_mark_counts_in_the_namespace_that_the_overlay_reads() {
        for (xattr, trusted, user) in [
            (("trusted.overlay.opaque", "y"), true, false),
            (("user.overlay.opaque", "y"), false, true),
            (("trusted.overlay.opaque", "x"), false, false),
            (("user.opaque", "y"), false, false),
        ] {
            let xattrs = resource(FileType::Directory, &[xattr]).xattrs;
            assert_eq!(Marks::Trusted.is_opaque(&xattrs), trusted, "{xattr:?}");
            assert_eq!(Marks::User.is_opaque(&xattrs), user, "{xattr:?}");
        }
        let moved = |name| resource(FileType::Directory, &[(name, "from")]).xattrs;
        for (marks, name, expected) in [
            (Marks::Trusted, "trusted.overlay.redirect", Some(b"/a/from".to_vec())),
            (Marks::Trusted, "user.overlay.redirect", None),
            (Marks::User, "user.overlay.redirect", Some(b"/a/from".to_vec())),
        ] {
            assert_eq!(marks.redirected(b"/a/to", &moved(name)), expected, "{name}");
        }
        let metacopy = resource(FileType::Regular, &[("user.overlay.metacopy", "")]);
        assert!(Marks::User.is_metacopy(&metacopy) && !Marks::Trusted.is_metacopy(&metacopy));
    }

    #[test]
    fn a_whiteout_is_a_device_or_an_empty_file_with_a_mark() {
        for marks in [Marks::Trusted, Marks::User] {
            assert!(marks.is_whiteout(&resource(FileType::CharDevice, &[])));
            let other = Resource { device: (0, 1), ..resource(FileType::CharDevice, &[]) };
            assert!(!marks.is_whiteout(&other));
            assert!(!marks.is_whiteout(&resource(FileType::Regular, &[])));
            assert!(!marks.is_whiteout(&resource(FileType::BlockDevice, &[])));
        }
        let marked = resource(FileType::Regular, &[("user.overlay.whiteout", "y")]);
        assert!(Marks::User.is_whiteout(&marked) && !Marks::Trusted.is_whiteout(&marked));
        assert!(!Marks::User.is_whiteout(&Resource { size: 1, ..marked }));
    }

    #[test]
    fn what_the_image_marks_has_another_name_in_a_user_namespace() {
        let names = |marks: Marks| {
            let mut xattrs = resource(FileType::Directory, &[("trusted.overlay.opaque", "y")]).xattrs;
            marks.rename(&mut xattrs);
            xattrs.into_iter().map(|xattr| String::from_utf8(xattr.name).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(names(Marks::Trusted), ["trusted.overlay.opaque"]);
        assert_eq!(names(Marks::User), ["user.overlay.opaque"]);
    }
}
