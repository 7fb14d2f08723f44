// SPDX-License-Identifier: Apache-2.0
//! Random modes, owners and extended attributes, as the headers of a tar have them.

use crate::features::{Feature, Features};
use crate::random::Random;

/// Owners that fit into a header's field.
const OWNERS: [u64; 4] = [0, 1, 1000, 65_534];

/// Owners that do not.
const LARGE_OWNERS: [u64; 3] = [2_097_152, 3_000_000_000, 4_294_967_294];

/// No change, to chown.
const MINUS_ONE: u64 = 4_294_967_295;

/// Tags of a POSIX ACL: owner, named user, group, mask, others.
const ACL_TAGS: [(u16, u16); 5] = [(0x01, 6), (0x02, 5), (0x04, 4), (0x10, 5), (0x20, 4)];

/// The tags that say no more than a mode does.
const ACL_MINIMAL: [u16; 3] = [0x01, 0x04, 0x20];

/// The named user of an ACL.
const ACL_USER: u32 = 1000;

/// What the attributes depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    File,
    Directory,
    Symlink,
    /// A device or fifo.
    Special,
}

pub fn mode(random: &mut Random, features: Features, of: Of) -> u32 {
    let plain: &[u32] = match of {
        Of::Directory => &[0o755, 0o755, 0o700, 0o711, 0o775],
        Of::Symlink => &[0o777],
        _ => &[0o644, 0o644, 0o755, 0o600, 0o640],
    };
    if of == Of::Symlink && features.has(Feature::SymlinkModes) && random.percent(40) {
        return *random.pick(&[0o4777, 0o2755, 0o1777, 0o7777]);
    }
    if of == Of::Directory && features.has(Feature::Setgid) && random.percent(30) {
        return *random.pick(&[0o2755, 0o2775, 0o3777]);
    }
    if of != Of::Symlink && features.has(Feature::Modes) && random.percent(30) {
        return *random.pick(&match of {
            Of::Directory => [0o1777, 0, 0o1700, 0o555],
            _ => [0o4755, 0o2755, 0, 0o1644],
        });
    }
    *random.pick(plain)
}

pub fn owner(random: &mut Random, features: Features) -> u64 {
    if features.has(Feature::OwnerMinusOne) && random.percent(10) {
        return MINUS_ONE;
    }
    match features.has(Feature::Owners) && random.percent(40) {
        true if random.percent(30) => *random.pick(&LARGE_OWNERS),
        true => *random.pick(&OWNERS),
        false => 0,
    }
}

pub fn xattrs(random: &mut Random, features: Features, of: Of) -> Vec<(String, Vec<u8>)> {
    let mut xattrs = Vec::new();
    let mut add = |name: &str, value: Vec<u8>| xattrs.push((name.to_owned(), value));
    let mut now = |feature, percent| features.has(feature) && random.percent(percent);
    let everywhere = matches!(of, Of::File | Of::Directory);
    let user = now(if everywhere { Feature::XattrUser } else { Feature::XattrElsewhere }, 25);
    let foreign = now(Feature::XattrForeign, 10);
    let selinux = now(Feature::Selinux, 10);
    let capability = of == Of::File && now(Feature::Capability, 15);
    let capability_3 = of == Of::File && now(Feature::Capability3, 15) && !capability;
    let acl = everywhere && now(Feature::Acl, 10);
    let minimal = everywhere && now(Feature::AclMinimal, 10) && !acl;
    let default = of == Of::Directory && now(Feature::AclDefault, 15);
    if user {
        for name in ["user.one", "user.two"].iter().take(1 + random.below(2)) {
            let length = random.below(20);
            add(name, random.bytes(length));
        }
    }
    if foreign {
        let name = *random.pick(&["com.apple.provenance", "system.nfs4_acl", "unknown.thing"]);
        add(name, random.bytes(8));
    }
    if selinux {
        add("security.selinux", b"system_u:object_r:bin_t:s0\0".to_vec());
    }
    if capability {
        add("security.capability", capability_of(0x0200_0001, random.below(31), None));
    }
    if capability_3 {
        let root = if random.percent(70) { 0 } else { 1000 };
        add("security.capability", capability_of(0x0300_0001, random.below(31), Some(root)));
    }
    if acl {
        add("system.posix_acl_access", acl_of(&[0x01, 0x02, 0x04, 0x10, 0x20]));
    }
    if minimal {
        add("system.posix_acl_access", acl_of(&ACL_MINIMAL));
    }
    if default {
        let tags: &[u16] = if random.percent(30) { &ACL_MINIMAL } else { &[0x01, 0x02, 0x04, 0x10, 0x20] };
        add("system.posix_acl_default", acl_of(tags));
    }
    xattrs
}

/// One permitted capability, effective.
fn capability_of(magic: u32, bit: usize, root: Option<u32>) -> Vec<u8> {
    let words = [magic, 1 << bit, 0, 0, 0];
    words.iter().chain(&root).flat_map(|word| word.to_le_bytes()).collect()
}

fn acl_of(tags: &[u16]) -> Vec<u8> {
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions) in ACL_TAGS.iter().filter(|(tag, _)| tags.contains(tag)) {
        acl.extend(tag.to_le_bytes());
        acl.extend(permissions.to_le_bytes());
        acl.extend(if *tag == 0x02 { ACL_USER } else { u32::MAX }.to_le_bytes());
    }
    acl
}
