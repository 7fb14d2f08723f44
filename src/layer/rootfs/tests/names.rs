// SPDX-License-Identifier: Apache-2.0
//! Where names lead, as containerd 1.6 was seen to have it.

use super::*;

fn global(name: &str) -> Entry {
    entry(name, EntryKind::Global)
}

#[test]
fn symlinks_with_dots_are_cleaned_as_text_on_the_way() {
    let links = [dir("d/e"), symlink("b", "d/e"), symlink("s", "/b/../c"), symlink("z/r", "../b/../c")];
    for (name, expected) in [
        // The last component: its target is walked, "b" is followed, and then it goes up.
        ("s/f", "/d/c/f"),
        // Not the last: its target is cleaned first.
        ("s/g/f", "/c/g/f"),
        // A relative target is cleaned together with its directory.
        ("z/r/f", "/c/f"),
    ] {
        let layer = [links.to_vec(), vec![file(name, 1)]].concat();
        for unpacking in [Unpacking::Overlay, Unpacking::Mounted, Unpacking::Kernel] {
            let rootfs = build(unpacking, std::slice::from_ref(&layer));
            assert!(rootfs.find(expected.as_bytes()).is_some(), "{name}: {:?}", shown(&rootfs));
        }
    }
}

#[test]
fn the_directory_of_a_hard_link_is_followed_as_it_stands() {
    let layer = vec![dir("d/e"), symlink("b", "d/e"), file("d/f", 1), link("l", "b/../f")];
    each(&[layer], &["/b 0", "/d 0", "/d/e 0", "/d/f=/l 1"]);
}

#[test]
fn an_opaque_directory_keeps_what_has_a_path_that_an_entry_had() {
    let opaque = || file(".wh..wh..opq", 0);
    // What has no entry goes, and what lies in it.
    each_removing(&[vec![file("d/x", 1), opaque()]], &[]);
    // The path was a global header's, a file's that was removed, a directory's that was removed with what is above it.
    each_removing(&[vec![global("d"), file("d/x", 1), opaque()]], &["/d 0", "/d/x 1"]);
    each_removing(&[vec![file("d", 2), file(".wh.d", 0), file("d/x", 1), opaque()]], &["/d 0", "/d/x 1"]);
    let again = vec![dir("d"), dir("d/e"), file(".wh.d", 0), dir("d"), file("d/e/x", 1), opaque()];
    each_removing(&[again], &["/d 0", "/d/e 0", "/d/e/x 1"]);
    // Of this layer: another one knows nothing of it.
    each_removing(&[vec![global("d")], vec![file("d/x", 1), opaque()]], &[]);
}

/// With the ways of unpacking that remove what whiteouts hide.
fn each_removing(layers: &[Vec<Entry>], expected: &[&str]) {
    for unpacking in [Unpacking::Mounted, Unpacking::Copied, Unpacking::Kernel] {
        assert_eq!(shown(&build(unpacking, layers)), expected, "{unpacking:?}");
    }
}

#[test]
fn a_global_header_takes_the_place_of_what_has_its_name() {
    let below = vec![file("a", 1), dir("d"), file("d/x", 2), file("kept", 3)];
    let above = vec![file("new", 4), global("new"), global("p/q/g"), global("d/.wh.x"), global("a")];
    let layers = [below, above];
    // An overlay's upper layer has nothing of the lower one to remove.
    assert_eq!(shown(&build(Unpacking::Overlay, &layers)), ["/a 1", "/d 0", "/kept 3", "/p 0", "/p/q 0"]);
    for unpacking in [Unpacking::Mounted, Unpacking::Kernel] {
        assert_eq!(shown(&build(unpacking, &layers)), ["/d 0", "/kept 3", "/p 0", "/p/q 0"], "{unpacking:?}");
    }
}

#[test]
fn what_the_kernel_takes_no_path_of_is_refused() {
    for name in ["n".repeat(256), "d/".repeat(2048) + "f", format!(".wh.{}", "n".repeat(256))] {
        assert!(refused(Unpacking::Overlay, &[vec![file(&name, 1)]]).contains("too long"));
    }
    each(&[vec![file(&"n".repeat(255), 1)]], &[&format!("/{} 1", "n".repeat(255))]);
}
