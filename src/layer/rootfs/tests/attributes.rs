// SPDX-License-Identifier: Apache-2.0
//! What is read back, as containerd 1.6 and ext4 were seen to have it.

use super::*;
use crate::layer::entry::NO_ID;
use crate::layer::rootfs::acl::{ACCESS, DEFAULT};

fn with(mut entry: Entry, permissions: u32, xattrs: &[(&[u8], &[u8])]) -> Entry {
    entry.permissions = permissions;
    entry.xattrs = xattrs.iter().map(|(name, value)| Xattr { name: name.to_vec(), value: value.to_vec() }).collect();
    entry
}

/// Tag, permissions, ID.
fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut value = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        value.extend(tag.to_le_bytes());
        value.extend(permissions.to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    value
}

fn named(user: u16, group: u16, mask: u16, other: u16) -> Vec<u8> {
    acl(&[(1, user, NO_ID), (2, 7, 1000), (4, group, NO_ID), (16, mask, NO_ID), (32, other, NO_ID)])
}

fn found(rootfs: &Rootfs, path: &str) -> Resource {
    rootfs.find(path.as_bytes()).unwrap().resource
}

fn xattr(rootfs: &Rootfs, path: &str, name: &[u8]) -> Option<Vec<u8>> {
    found(rootfs, path).xattrs.into_iter().find(|xattr| xattr.name == name).map(|xattr| xattr.value)
}

const ALL: [Unpacking; 4] = [Unpacking::Overlay, Unpacking::Mounted, Unpacking::Copied, Unpacking::Kernel];

#[test]
fn capabilities_of_our_own_root_are_of_version_2() {
    let capability = |version: u8, effective: u8, root: &[u8]| {
        [&[effective, 0, 0, version][..], &[0x20, 4, 0, 0, 0, 0, 0, 0], &[0; 8], root].concat()
    };
    for (written, expected) in [
        (capability(3, 1, &[0; 4]), capability(2, 1, &[])),
        (capability(3, 0, &[0; 4]), capability(2, 0, &[])),
        (capability(3, 1, &[1, 0, 0, 0]), capability(3, 1, &[1, 0, 0, 0])),
        (capability(2, 1, &[]), capability(2, 1, &[])),
    ] {
        let file = with(file("f", 1), 0o755, &[(b"security.capability", &written)]);
        let rootfs = build(Unpacking::Overlay, &[vec![file]]);
        assert_eq!(xattr(&rootfs, "/f", b"security.capability"), Some(expected));
    }
}

#[test]
fn an_acl_is_kept_as_far_as_it_says_more_than_the_mode() {
    let minimal = acl(&[(1, 7, 0), (4, 7, 0), (32, 7, 0)]);
    let layer = vec![
        with(file("minimal", 1), 0o640, &[(ACCESS, &minimal)]),
        with(file("named", 1), 0o640, &[(ACCESS, &named(7, 7, 7, 7))]),
        with(dir("default"), 0o750, &[(DEFAULT, &minimal)]),
        with(dir("gone"), 0o750, &[(ACCESS, &named(7, 7, 7, 7)), (DEFAULT, &minimal)]),
    ];
    let above = vec![with(dir("gone"), 0o700, &[(ACCESS, b""), (DEFAULT, b"\x02\0\0\0")])];
    for unpacking in ALL {
        let rootfs = build(unpacking, &[layer.clone(), above.clone()]);
        assert_eq!((xattr(&rootfs, "/minimal", ACCESS), found(&rootfs, "/minimal").mode.permissions()), (None, 0o640));
        assert_eq!(xattr(&rootfs, "/named", ACCESS), Some(named(6, 7, 4, 0)), "owner, mask and others follow the mode");
        assert_eq!(
            xattr(&rootfs, "/default", DEFAULT),
            Some(acl(&[(1, 7, NO_ID), (4, 7, NO_ID), (32, 7, NO_ID)])),
            "IDs of what has none"
        );
        assert_eq!(found(&rootfs, "/gone").xattrs, [], "{unpacking:?}");
    }
}

#[test]
fn a_default_acl_is_inherited_in_its_directory_of_the_disk() {
    let default = named(7, 5, 7, 5);
    let below = vec![with(dir("d"), 0o755, &[(DEFAULT, &default)]), with(file("d/f", 1), 0o640, &[])];
    let above = vec![with(dir("d/sub"), 0o750, &[]), with(file("d/made/g", 1), 0o600, &[]), symlink("d/link", "f")];
    for unpacking in ALL {
        let rootfs = build(unpacking, &[below.clone(), above.clone()]);
        assert_eq!(xattr(&rootfs, "/d/f", ACCESS), Some(named(6, 5, 4, 0)));
        assert_eq!(xattr(&rootfs, "/d/f", DEFAULT), None);
        // An overlay's upper layer has a directory of its own where the layer's tar makes parents: with the same ACL.
        assert_eq!(xattr(&rootfs, "/d/sub", DEFAULT), Some(default.clone()), "{unpacking:?}");
        assert_eq!(xattr(&rootfs, "/d/sub", ACCESS), Some(named(7, 5, 5, 0)));
        assert_eq!(xattr(&rootfs, "/d/made", ACCESS), Some(named(7, 5, 5, 5)));
        assert_eq!(xattr(&rootfs, "/d/made/g", ACCESS), Some(named(6, 5, 0, 0)));
        assert_eq!(found(&rootfs, "/d/link").xattrs, []);
        assert_eq!(found(&rootfs, "/d/made").mode.permissions(), 0o755);
    }
    // A directory that the upper layer describes anew has no default of the layers below.
    let anew = vec![with(dir("d"), 0o755, &[]), with(file("d/h", 1), 0o600, &[])];
    for (unpacking, expected) in [
        (Unpacking::Overlay, None),
        (Unpacking::Mounted, Some(named(6, 5, 0, 0))),
        (Unpacking::Kernel, Some(named(6, 5, 0, 0))),
    ] {
        assert_eq!(xattr(&build(unpacking, &[below.clone(), anew.clone()]), "/d/h", ACCESS), expected, "{unpacking:?}");
    }
}

#[test]
fn a_setgid_directory_gives_its_group_and_no_owner_means_no_change() {
    let mut parent = with(dir("d"), 0o2755, &[]);
    (parent.uid, parent.gid) = (5, 7);
    let owned_by_none = |mut entry: Entry| {
        (entry.uid, entry.gid) = (NO_ID, NO_ID);
        entry
    };
    let above = vec![
        file("d/x/y/f", 1),
        owned_by_none(file("d/g", 1)),
        owned_by_none(file("top", 1)),
        owned_by_none(with(dir("d"), 0o2755, &[])),
    ];
    for unpacking in ALL {
        let rootfs = build(unpacking, &[vec![parent.clone()], above.clone()]);
        let owner = |path| {
            let resource = found(&rootfs, path);
            (resource.uid, resource.gid, resource.mode.permissions())
        };
        // The mode is set after the directory is made: the bit goes, and so nothing beneath inherits.
        assert_eq!(owner("/d/x"), (0, 7, 0o755), "{unpacking:?}");
        assert_eq!(owner("/d/x/y"), (0, 0, 0o755));
        assert_eq!(owner("/d/g"), (0, 7, 0o644));
        assert_eq!(owner("/top"), (0, 0, 0o644));
        assert_eq!(owner("/d"), (5, 7, 0o2755));
    }
}

#[test]
fn a_symlink_has_no_mode_of_its_own() {
    let layer = vec![with(symlink("s", "t"), 0o7644, &[]), with(link("l", "s"), 0o4000, &[])];
    for unpacking in ALL {
        let rootfs = build(unpacking, std::slice::from_ref(&layer));
        // Its reader takes the manifest.
        let modes = resources(|out| rootfs.write_manifest(out))
            .iter()
            .map(|resource| resource.mode.permissions())
            .collect::<Vec<_>>();
        assert_eq!(modes, [0o777, 0o777]);
    }
}

#[test]
fn a_copy_keeps_no_links_of_devices_and_inherits_anew() {
    let default = named(7, 5, 7, 5);
    let below = vec![
        with(file("d/before", 1), 0o640, &[]),
        with(dir("d/sub"), 0o700, &[]),
        with(file("twin", 2), 0o644, &[]),
        link("d/twin", "twin"),
        with(dir("d"), 0o755, &[(DEFAULT, &default)]),
        special("p", FileType::Fifo, "", (0, 0)),
        link("q", "p"),
    ];
    // In a copy, of one of the two.
    let changed = Entry { uid: 5, ..link("r", "q") };
    let mounted = build(Unpacking::Mounted, &[below.clone(), vec![changed.clone()]]);
    assert_eq!(xattr(&mounted, "/d/before", ACCESS), None);
    assert_eq!(shown(&mounted)[4..], ["/p=/q=/r 0"]);
    let mut copied = build(Unpacking::Copied, &[below, vec![changed]]);
    // A view shows the directory of the last layer itself; what is put on top of it is a copy again.
    assert_eq!(shown(&copied), ["/d 0", "/d/before 1", "/d/sub 0", "/d/twin=/twin 2", "/p 0", "/q=/r 0"]);
    copied.stack();
    assert_eq!(shown(&copied)[4..], ["/p 0", "/q 0", "/r 0"]);
    assert_eq!(["/p", "/q", "/r"].map(|path| found(&copied, path).uid), [0, 5, 5]);
    assert_eq!(xattr(&copied, "/d/before", ACCESS), Some(named(6, 5, 4, 0)));
    assert_eq!(xattr(&copied, "/twin", ACCESS), Some(named(6, 5, 4, 4)), "made by its first name");
    assert_eq!(xattr(&copied, "/d/sub", ACCESS), Some(named(7, 5, 0, 0)));
    assert_eq!(xattr(&copied, "/d/sub", DEFAULT), Some(default));
}
