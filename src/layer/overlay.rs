// SPDX-License-Identifier: Apache-2.0
//! What overlayfs keeps in the directory of a layer, and what of it means something.
//!
//! Its extended attributes are `trusted.overlay.*`, or `user.overlay.*` where it was mounted with `userxattr`, as in a
//! user namespace. Two say what is shown, the mark of an opaque directory and the mark of a whiteout that is no device;
//! the rest is bookkeeping, which no layer's tar has and of which what is shown does not depend.

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
pub const OPAQUE_NAMES: [&str; 2] = ["trusted.overlay.opaque", "user.overlay.opaque"];

fn marked(xattrs: &[Xattr], mark: &[u8]) -> bool {
    xattrs.iter().any(|xattr| host::overlays(&xattr.name) == Some(mark))
}

/// Whether these are the attributes of a directory that hides what lies beneath it.
pub fn is_opaque(xattrs: &[Xattr]) -> bool {
    xattrs.iter().any(|xattr| host::overlays(&xattr.name) == Some(OPAQUE) && xattr.value == YES)
}

/// Whether an extended attribute of this name may mark an opaque directory.
pub fn is_opaque_name(name: &[u8]) -> bool {
    host::overlays(name) == Some(OPAQUE)
}

/// Whether an extended attribute of this name changes what is shown.
pub fn is_mark(name: &[u8]) -> bool {
    host::overlays(name).is_some_and(|own| [OPAQUE, REDIRECT, METACOPY].contains(&own))
}

/// Whether it is an inode whose contents are those of the layers below.
pub fn is_metacopy(resource: &Resource) -> bool {
    resource.mode.file_type() == FileType::Regular && marked(&resource.xattrs, METACOPY)
}

/// The place in the layers below whose contents a directory at `path` shows beside its own, if it was moved.
pub fn redirected(path: &[u8], xattrs: &[Xattr]) -> Option<Vec<u8>> {
    let redirect = xattrs.iter().find(|xattr| host::overlays(&xattr.name) == Some(REDIRECT))?;
    let slash = path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
    Some(match redirect.value.starts_with(b"/") {
        true => redirect.value.clone(),
        // Renamed, and no more.
        false => [&path[..slash], b"/", &redirect.value].concat(),
    })
}

/// Whether it hides what lies beneath it: a character device 0,0, whatever its attributes, or an empty file with the
/// mark.
pub fn is_whiteout(resource: &Resource) -> bool {
    match resource.mode.file_type() {
        FileType::CharDevice => resource.device == (0, 0),
        FileType::Regular => resource.size == 0 && marked(&resource.xattrs, WHITEOUT),
        _ => false,
    }
}

/// The same of a device on the disk.
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
    fn an_opaque_mark_hides_in_either_namespace_if_it_says_so() {
        for (xattr, expected) in [
            (("trusted.overlay.opaque", "y"), true),
            (("user.overlay.opaque", "y"), true),
            (("user.overlay.opaque", "x"), false),
            (("user.opaque", "y"), false),
        ] {
            assert_eq!(is_opaque(&resource(FileType::Directory, &[xattr]).xattrs), expected, "{xattr:?}");
        }
    }

    #[test]
    fn a_whiteout_is_a_device_or_an_empty_file_with_a_mark() {
        assert!(is_whiteout(&resource(FileType::CharDevice, &[])));
        assert!(!is_whiteout(&Resource { device: (0, 1), ..resource(FileType::CharDevice, &[]) }));
        let marked = resource(FileType::Regular, &[("user.overlay.whiteout", "y")]);
        assert!(is_whiteout(&marked));
        assert!(!is_whiteout(&Resource { size: 1, ..marked }));
        assert!(!is_whiteout(&resource(FileType::Regular, &[])));
        assert!(!is_whiteout(&resource(FileType::BlockDevice, &[])));
    }
}
