// SPDX-License-Identifier: Apache-2.0
//! What the kernel makes of attributes when they are set, and of those of a new inode.

use super::acl::{ACCESS, Acl, DEFAULT};
use super::tree::Inode;
use crate::inode::FileType;
use crate::layer::entry::NO_ID;
use crate::manifest::Mode;

/// Begins the names of attributes that containerd neither unpacks nor copies.
const TRUSTED: &[u8] = b"trusted.";

/// What a change of the owner takes from a file.
const CAPABILITY: &[u8] = b"security.capability";

/// Bytes of capabilities of version 3, which end with the ID of the root that they count for.
const CAPABILITY_3: usize = 24;

/// First bytes of capabilities: the version, and whether they are effective.
const CAPABILITY_VERSION: u32 = 0xff00_0000;
const CAPABILITY_EFFECTIVE: u32 = 1;

impl Inode {
    /// A new inode in a directory, made by root: the directory may give it its group and an ACL. The mode is set as
    /// such, for containerd does so with whatever it makes.
    pub fn born(parent: &Self, file_type: FileType, permissions: u32, layer: u32) -> Self {
        let mut inode = Self::new(Mode::new(file_type, permissions), layer);
        if parent.mode.permissions() & 0o2000 != 0 {
            inode.gid = parent.gid;
        }
        if let Some(default) = parent.xattrs.iter().find(|xattr| xattr.name == DEFAULT) {
            inode.inherit(&default.value);
        }
        inode
    }

    /// Begins with the default ACL of its directory, where it has none of its own.
    pub fn inherit(&mut self, default: &[u8]) {
        let has = |inode: &Self, name: &[u8]| inode.xattrs.iter().any(|xattr| xattr.name == name);
        let Some(mut acl) = Acl::parse(default).filter(|_| self.has_xattrs()) else { return };
        if !acl.is_minimal() && !has(self, ACCESS) {
            acl.follow(self.mode.permissions());
            self.set_xattr(ACCESS, &acl.value());
        }
        if self.file_type() == FileType::Directory && !has(self, DEFAULT) {
            self.set_xattr(DEFAULT, default);
        }
    }

    /// Of what a manifest records them.
    fn has_xattrs(&self) -> bool {
        matches!(self.file_type(), FileType::Regular | FileType::Directory)
    }

    /// Sets the owner; an ID that is none leaves it. Whatever is set, a file loses its capabilities.
    pub fn chown(&mut self, uid: u32, gid: u32) {
        for (id, field) in [(uid, &mut self.uid), (gid, &mut self.gid)] {
            if id != NO_ID {
                *field = id;
            }
        }
        if self.file_type() == FileType::Regular {
            self.remove_xattr(CAPABILITY);
        }
    }

    /// Sets the permissions, which an ACL follows. A symlink has none.
    pub fn chmod(&mut self, permissions: u32) {
        if self.file_type() == FileType::Symlink {
            return;
        }
        self.mode = Mode::new(self.file_type(), permissions);
        let access = self.xattrs.iter_mut().find(|xattr| xattr.name == ACCESS);
        if let Some((access, mut acl)) = access.and_then(|xattr| Acl::parse(&xattr.value).map(|acl| (xattr, acl))) {
            acl.follow(permissions);
            access.value = acl.value();
        }
    }

    /// Sets an attribute as containerd does: some it leaves out, some the kernel reads back otherwise. A value that the
    /// kernel refuses is left out: containerd then refuses the whole layer, or the filesystem keeps no such attribute.
    pub fn put_xattr(&mut self, name: &[u8], value: &[u8]) {
        match name {
            _ if !self.has_xattrs() || name.starts_with(TRUSTED) => {}
            ACCESS | DEFAULT => {
                if let Some(acl) = Acl::parse(value) {
                    self.put_acl(name, &acl);
                }
            }
            CAPABILITY => self.set_xattr(name, &read_back(value)),
            _ => self.set_xattr(name, value),
        }
    }

    fn put_acl(&mut self, name: &[u8], acl: &Acl) {
        let is_access = name == ACCESS;
        if is_access && !acl.is_empty() {
            self.mode = Mode::new(self.file_type(), self.mode.permissions() & !0o777 | acl.mode());
        }
        if acl.is_empty() || is_access && acl.is_minimal() {
            self.remove_xattr(name);
        } else if is_access || self.file_type() == FileType::Directory {
            self.set_xattr(name, &acl.value());
        }
    }
}

/// Capabilities of version 3 whose root is the one who reads them are shown as version 2.
fn read_back(value: &[u8]) -> Vec<u8> {
    let number = |from: usize| value.get(from..from + 4).and_then(|n| n.try_into().ok()).map(u32::from_le_bytes);
    match (number(0), number(20)) {
        (Some(magic), Some(0)) if value.len() == CAPABILITY_3 && magic & CAPABILITY_VERSION == 0x0300_0000 => {
            let magic = 0x0200_0000 | magic & CAPABILITY_EFFECTIVE;
            [&magic.to_le_bytes(), &value[4..20]].concat()
        }
        _ => value.to_vec(),
    }
}
