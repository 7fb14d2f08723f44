// SPDX-License-Identifier: Apache-2.0
//! POSIX ACLs as the kernel takes them, keeps them, and reads them back.

/// The attribute of the ACL that counts.
pub const ACCESS: &[u8] = b"system.posix_acl_access";

/// The attribute of the ACL that what is created in a directory begins with.
pub const DEFAULT: &[u8] = b"system.posix_acl_default";

/// The version that a value begins with.
const VERSION: u32 = 2;

/// Bytes of an entry: tag, permissions, ID.
const ENTRY: usize = 8;

const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// The ID of an entry that has none.
const NO_ID: u32 = u32::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct AclEntry {
    tag: u16,
    permissions: u16,
    id: u32,
}

/// A valid ACL, or an empty one, which stands for none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acl(Vec<AclEntry>);

impl Acl {
    /// An attribute's value; none for what the kernel does not take.
    pub fn parse(value: &[u8]) -> Option<Self> {
        if value.is_empty() {
            return Some(Self(Vec::new()));
        }
        let entries = value.strip_prefix(&VERSION.to_le_bytes())?;
        if entries.len() % ENTRY != 0 {
            return None;
        }
        let entry = |bytes: &[u8]| AclEntry {
            tag: u16::from_le_bytes([bytes[0], bytes[1]]),
            permissions: u16::from_le_bytes([bytes[2], bytes[3]]),
            id: u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        };
        let mut acl = Self(entries.chunks_exact(ENTRY).map(entry).collect());
        if !acl.0.is_empty() && !acl.is_valid() {
            return None;
        }
        for entry in acl.0.iter_mut().filter(|entry| !matches!(entry.tag, USER | GROUP)) {
            entry.id = NO_ID;
        }
        Some(acl)
    }

    /// One of each of the three classes, in the order of their tags, and a mask if there are named ones.
    fn is_valid(&self) -> bool {
        let fits = |entry: &AclEntry| match entry.tag {
            USER | GROUP => entry.id != NO_ID,
            USER_OBJ | GROUP_OBJ | MASK | OTHER => true,
            _ => false,
        };
        let count = |tags: &[u16]| self.0.iter().filter(|entry| tags.contains(&entry.tag)).count();
        self.0.iter().all(|entry| entry.permissions & !7 == 0 && fits(entry))
            && self.0.is_sorted_by_key(|entry| entry.tag)
            && [USER_OBJ, GROUP_OBJ, OTHER].iter().all(|&tag| count(&[tag]) == 1)
            && count(&[MASK]) <= 1
            && (count(&[MASK]) == 1 || count(&[USER, GROUP]) == 0)
    }

    /// As it is read back.
    pub fn value(&self) -> Vec<u8> {
        let mut value = VERSION.to_le_bytes().to_vec();
        for entry in &self.0 {
            value.extend(entry.tag.to_le_bytes());
            value.extend(entry.permissions.to_le_bytes());
            value.extend(entry.id.to_le_bytes());
        }
        value
    }

    /// Whether it stands for none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it says no more than a mode does.
    pub fn is_minimal(&self) -> bool {
        self.0.iter().all(|entry| matches!(entry.tag, USER_OBJ | GROUP_OBJ | OTHER))
    }

    /// The bits of a mode that it stands for: the group's are those of the mask, if there is one.
    pub fn mode(&self) -> u32 {
        let bits = |tag| self.0.iter().find(|entry| entry.tag == tag).map(|entry| u32::from(entry.permissions));
        let group = bits(MASK).or_else(|| bits(GROUP_OBJ)).unwrap_or_default();
        bits(USER_OBJ).unwrap_or_default() << 6 | group << 3 | bits(OTHER).unwrap_or_default()
    }

    /// The mode was set.
    pub fn follow(&mut self, mode: u32) {
        let has_mask = self.0.iter().any(|entry| entry.tag == MASK);
        for entry in &mut self.0 {
            let shift = match entry.tag {
                USER_OBJ => 6,
                MASK => 3,
                GROUP_OBJ if !has_mask => 3,
                OTHER => 0,
                _ => continue,
            };
            entry.permissions = (mode >> shift & 7) as u16;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let entries = entries.iter().map(|&(tag, permissions, id)| AclEntry { tag, permissions, id }).collect();
        Acl(entries).value()
    }

    #[test]
    fn what_the_kernel_takes_and_what_not() {
        let minimal = [(USER_OBJ, 7, 0), (GROUP_OBJ, 5, 0), (OTHER, 1, 0)];
        let masked = [(USER_OBJ, 7, 0), (GROUP_OBJ, 5, 0), (MASK, 4, 0), (OTHER, 1, 0)];
        let named = [(USER_OBJ, 6, 0), (USER, 7, 9), (USER, 1, 3), (GROUP_OBJ, 5, 0), (MASK, 4, 0), (OTHER, 0, 0)];
        for (entries, is_minimal, mode) in
            [(&minimal[..], true, 0o751), (&masked[..], false, 0o741), (&named[..], false, 0o640)]
        {
            let acl = Acl::parse(&value(entries)).unwrap();
            assert_eq!((acl.is_minimal(), acl.mode()), (is_minimal, mode));
            let unnamed =
                |&(tag, p, id): &(u16, u16, u32)| (tag, p, if matches!(tag, USER | GROUP) { id } else { NO_ID });
            assert_eq!(acl.value(), value(&entries.iter().map(unnamed).collect::<Vec<_>>()));
        }
        for empty in [&b""[..], b"\x02\0\0\0"] {
            assert!(Acl::parse(empty).unwrap().is_empty());
        }
        let no_mask = [(USER_OBJ, 6, 0), (USER, 7, 9), (GROUP_OBJ, 5, 0), (OTHER, 0, 0)];
        let no_id = [(USER_OBJ, 6, 0), (USER, 7, NO_ID), (GROUP_OBJ, 5, 0), (MASK, 7, 0), (OTHER, 0, 0)];
        let order = [(USER_OBJ, 6, 0), (OTHER, 0, 0), (GROUP_OBJ, 5, 0)];
        for bad in [&no_mask[..], &no_id[..], &order[..], &minimal[..2], &[(0x40, 0, 0)], &[(USER_OBJ, 8, 0)]] {
            assert_eq!(Acl::parse(&value(bad)), None, "{bad:?}");
        }
        for bad in [&b"\x01\0\0\0"[..], b"\x02\0\0", b"\x02\0\0\0\x01"] {
            assert_eq!(Acl::parse(bad), None);
        }
    }

    #[test]
    fn the_mask_follows_the_mode_or_the_group_does() {
        let mut masked =
            Acl::parse(&value(&[(USER_OBJ, 7, 0), (GROUP_OBJ, 5, 0), (MASK, 7, 0), (OTHER, 1, 0)])).unwrap();
        masked.follow(0o640);
        let expected = [(USER_OBJ, 6, NO_ID), (GROUP_OBJ, 5, NO_ID), (MASK, 4, NO_ID), (OTHER, 0, NO_ID)];
        assert_eq!(masked.value(), value(&expected));
        let mut minimal = Acl::parse(&value(&[(USER_OBJ, 7, 0), (GROUP_OBJ, 5, 0), (OTHER, 1, 0)])).unwrap();
        minimal.follow(0o4640);
        assert_eq!(minimal.value(), value(&[(USER_OBJ, 6, NO_ID), (GROUP_OBJ, 4, NO_ID), (OTHER, 0, NO_ID)]));
    }
}
