// SPDX-License-Identifier: Apache-2.0
//! One difference between a manifest and a tree.

use std::fmt;

use crate::error::Escaped;

/// What differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FindingKind {
    /// The manifest has the path, the tree lacks it.
    Missing,
    /// The tree has the path, the manifest lacks it.
    Extra,
    /// File type: a directory where a file was, say.
    Type,
    /// Permission, setuid, setgid or sticky bits.
    Mode,
    /// Owner.
    Uid,
    /// Group.
    Gid,
    /// Size of a regular file.
    Size,
    /// Contents of a regular file.
    Digest,
    /// Target of a symlink.
    Target,
    /// Device numbers.
    Device,
    /// An extended attribute that the tree lacks.
    XattrMissing,
    /// An extended attribute whose value differs.
    XattrDiffers,
    /// An extended attribute that the manifest lacks.
    XattrExtra,
    /// Two paths that were one inode no longer are.
    HardlinkBroken,
    /// Two paths that were separate became one inode.
    HardlinkMade,
    /// The tree could not be read there, or changed while it was read; `found` holds the errno.
    Unreadable,
}

impl FindingKind {
    /// Every kind, in the order of the declaration.
    pub const ALL: [Self; 16] = [
        Self::Missing,
        Self::Extra,
        Self::Type,
        Self::Mode,
        Self::Uid,
        Self::Gid,
        Self::Size,
        Self::Digest,
        Self::Target,
        Self::Device,
        Self::XattrMissing,
        Self::XattrDiffers,
        Self::XattrExtra,
        Self::HardlinkBroken,
        Self::HardlinkMade,
        Self::Unreadable,
    ];

    /// The name used in every output and on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Extra => "extra",
            Self::Type => "type",
            Self::Mode => "mode",
            Self::Uid => "uid",
            Self::Gid => "gid",
            Self::Size => "size",
            Self::Digest => "digest",
            Self::Target => "target",
            Self::Device => "device",
            Self::XattrMissing => "xattr-missing",
            Self::XattrDiffers => "xattr-differs",
            Self::XattrExtra => "xattr-extra",
            Self::HardlinkBroken => "hardlink-broken",
            Self::HardlinkMade => "hardlink-made",
            Self::Unreadable => "unreadable",
        }
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// See the [module](self).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Path in the tree, beginning with `/`; raw bytes.
    pub path: Vec<u8>,
    /// What differs.
    pub kind: FindingKind,
    /// Name of the extended attribute, for the xattr kinds; else empty.
    pub xattr: Vec<u8>,
    /// What the manifest says, as text; empty for an extra path or xattr.
    pub expected: String,
    /// What the tree has, as text; empty for a missing path or xattr.
    pub found: String,
}

impl fmt::Display for Finding {
    /// One line, path first, control characters escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", Escaped(&self.path), self.kind.name())?;
        if !self.xattr.is_empty() {
            write!(f, " {}", Escaped(&self.xattr))?;
        }
        match (self.expected.as_str(), self.found.as_str()) {
            ("", "") => Ok(()),
            ("", found) => write!(f, ": found {found}"),
            (expected, "") => write!(f, ": expected {expected}"),
            (expected, found) => write!(f, ": expected {expected}, found {found}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_own_name() {
        for kind in FindingKind::ALL {
            assert_eq!(FindingKind::from_name(kind.name()), Some(kind));
        }
        assert_eq!(FindingKind::from_name("mtime"), None);
    }

    #[test]
    fn a_finding_is_one_line() {
        let finding = Finding {
            path: b"/a\nb".to_vec(),
            kind: FindingKind::XattrMissing,
            xattr: b"user.x".to_vec(),
            expected: "0x00".into(),
            found: String::new(),
        };
        assert_eq!(finding.to_string(), "/a\\nb: xattr-missing user.x: expected 0x00");
    }
}
