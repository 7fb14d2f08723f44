// SPDX-License-Identifier: Apache-2.0
//! Layers that the kernel writes, as overlayfs was seen to do it in a user namespace.

use super::*;

/// The paths of a layer's own directory: whiteouts end in `!`, opaque directories in `*`.
fn own(rootfs: &Rootfs, layer: usize) -> Vec<String> {
    let text = |resource: &Resource| {
        let paths: Vec<_> = resource.paths.iter().map(|path| String::from_utf8_lossy(path).into_owned()).collect();
        let is_whiteout = resource.mode.file_type() == FileType::CharDevice;
        let is_opaque = resource.xattrs.iter().any(|xattr| xattr.name == b"trusted.overlay.opaque");
        paths.join("=") + if is_whiteout { "!" } else { "" } + if is_opaque { "*" } else { "" }
    };
    resources(|out| rootfs.write_layer_manifest(layer, out)).iter().map(text).collect()
}

/// What the upper layer of two has, and what both show.
fn two(below: Vec<Entry>, above: Vec<Entry>, upper: &[&str], both: &[&str]) {
    let rootfs = build(Unpacking::Kernel, &[below.clone(), above.clone()]);
    assert_eq!(own(&rootfs, 1), upper);
    assert_eq!(shown(&rootfs), both);
    // What is seen through the mount is what a directory with all layers has.
    assert_eq!(shown(&build(Unpacking::Mounted, &[below, above])), both);
}

#[test]
fn whiteouts_are_made_for_what_shows_from_below() {
    two(
        vec![file("d/a", 1), file("d/b", 2), dir("e/sub")],
        vec![file("d/.wh.a", 0), file("d/.wh.never", 0), file("new", 3), file(".wh.new", 0), file("e/.wh.sub", 0)],
        &["/d", "/d/a!", "/e", "/e/sub!"],
        &["/d 0", "/d/b 2", "/e 0"],
    );
}

#[test]
fn an_opaque_directory_loses_each_name_that_was_not_unpacked() {
    two(
        vec![file("d/a", 1), file("d/b", 2), file("d/s/x", 3), file("d/s/y", 4)],
        vec![file("d/b", 5), dir("d/s"), file("d/s/y", 6), file("d/.wh..wh..opq", 0), file("d/late", 7)],
        &["/d", "/d/a!", "/d/b", "/d/late", "/d/s", "/d/s/x!", "/d/s/y"],
        &["/d 0", "/d/b 5", "/d/late 7", "/d/s 0", "/d/s/y 6"],
    );
}

#[test]
fn what_takes_the_place_of_a_directory_hides_it() {
    two(
        vec![file("d/a", 1), file("f", 2), file("g/x", 3)],
        vec![file(".wh.d", 0), file("d/b", 4), dir("f"), file("g", 5)],
        &["/d*", "/d/b", "/f*", "/g"],
        &["/d 0", "/d/b 4", "/f 0", "/g 5"],
    );
}

#[test]
fn a_hard_link_to_a_lower_layer_copies_it_up() {
    let rootfs = build(
        Unpacking::Kernel,
        &[vec![file("d/a", 1), link("d/twin", "d/a"), symlink("s", "d")], vec![link("s/b", "s/a")]],
    );
    assert_eq!(own(&rootfs, 1), ["/d", "/d/a=/d/b"]);
    assert_eq!(shown(&rootfs), ["/d 0", "/d/a=/d/b 1", "/d/twin 1", "/s 0"], "the copy is no link of the others");
}

#[test]
fn parents_are_those_of_the_lower_layers() {
    let mut parent = dir("p/q");
    (parent.uid, parent.permissions) = (5, 0o2711);
    parent.xattrs = vec![Xattr { name: b"user.x".to_vec(), value: b"y".to_vec() }];
    let rootfs = build(Unpacking::Kernel, &[vec![parent, symlink("l", "p/q")], vec![file("l/f", 1)], vec![]]);
    assert_eq!(own(&rootfs, 1), ["/p", "/p/q", "/p/q/f"]);
    let (copied, unpacked) = rootfs.own(1, b"/p/q").unwrap();
    assert_eq!((copied.uid, copied.mode.permissions(), copied.xattrs.len(), unpacked), (5, 0o2711, 1, false));
    assert!(rootfs.own(1, b"/p/q/f").unwrap().1);
    assert_eq!(own(&rootfs, 2), [""; 0]);
}

#[test]
fn devices_are_passed_over() {
    let null = |name: &str| special(name, FileType::CharDevice, "", (1, 3));
    two_without_devices(vec![file("f", 1), null("f"), null("made/not")], vec![null("f"), null("null")]);
}

fn two_without_devices(below: Vec<Entry>, above: Vec<Entry>) {
    let rootfs = build(Unpacking::Kernel, &[below, above]);
    assert_eq!((own(&rootfs, 0), own(&rootfs, 1).len()), (vec!["/f".to_owned()], 0));
}

#[test]
fn the_times_of_directories_are_set_last_and_through_symlinks() {
    let below = vec![file("b/c/f", 1), dir("other")];
    let above = vec![dir("d/c"), symlink("d", "b")];
    let rootfs = build(Unpacking::Kernel, &[below, above]);
    assert_eq!(own(&rootfs, 1), ["/b", "/b/c", "/d"]);
}
