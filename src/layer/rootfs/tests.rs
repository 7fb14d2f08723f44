// SPDX-License-Identifier: Apache-2.0
mod attributes;
mod kernel;
mod names;

use super::*;
use crate::inode::Xattr;
use crate::manifest::{Reader, Resource};

fn entry(name: &str, kind: EntryKind) -> Entry {
    Entry { name: name.into(), kind, uid: 0, gid: 0, permissions: 0o644, xattrs: Vec::new() }
}

/// A file whose contents are its size.
fn file(name: &str, size: u64) -> Entry {
    entry(name, EntryKind::File(size))
}

fn special(name: &str, file_type: FileType, target: &str, device: (u32, u32)) -> Entry {
    entry(name, EntryKind::Special { file_type, target: target.into(), device })
}

fn dir(name: &str) -> Entry {
    Entry { permissions: 0o755, ..special(name, FileType::Directory, "", (0, 0)) }
}

fn symlink(name: &str, target: &str) -> Entry {
    special(name, FileType::Symlink, target, (0, 0))
}

fn link(name: &str, target: &str) -> Entry {
    entry(name, EntryKind::Link(target.into()))
}

fn try_build(unpacking: Unpacking, layers: &[Vec<Entry>]) -> Result<Rootfs> {
    let mut rootfs = Rootfs::new(unpacking, Limits::default());
    for layer in layers {
        rootfs.begin();
        for entry in layer {
            let digest = match entry.kind {
                EntryKind::File(size) => Some(Digest::of(&size.to_le_bytes())),
                _ => None,
            };
            rootfs.apply(entry, digest)?;
        }
        rootfs.end()?;
    }
    Ok(rootfs)
}

fn build(unpacking: Unpacking, layers: &[Vec<Entry>]) -> Rootfs {
    try_build(unpacking, layers).unwrap()
}

/// The resources of a manifest, which its reader takes only in path order.
fn resources(write: impl FnOnce(&mut Vec<u8>) -> Result<u64>) -> Vec<Resource> {
    let mut manifest = Vec::new();
    let entries = write(&mut manifest).unwrap();
    let mut reader = Reader::new(manifest.as_slice());
    let mut resources = Vec::new();
    while let Some(resource) = reader.next().unwrap() {
        resources.push(resource);
    }
    assert_eq!(resources.iter().map(|resource| resource.paths.len() as u64).sum::<u64>(), entries);
    resources
}

/// Every path with its size, in the order of the manifest.
fn shown(rootfs: &Rootfs) -> Vec<String> {
    let text = |resource: &Resource| {
        let paths: Vec<_> = resource.paths.iter().map(|path| String::from_utf8_lossy(path).into_owned()).collect();
        format!("{} {}", paths.join("="), resource.size)
    };
    resources(|out| rootfs.write_manifest(out)).iter().map(text).collect()
}

fn each(layers: &[Vec<Entry>], expected: &[&str]) {
    for unpacking in [Unpacking::Overlay, Unpacking::Mounted] {
        assert_eq!(shown(&build(unpacking, layers)), expected, "{unpacking:?}");
    }
}

fn refused(unpacking: Unpacking, layers: &[Vec<Entry>]) -> String {
    let error = try_build(unpacking, layers).err().expect("refused");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    error.to_string()
}

#[test]
fn paths_come_in_the_order_of_whole_paths() {
    each(
        &[vec![file("a/b", 1), file("a-b", 2), file("a.txt", 3), file("ab", 4)]],
        &["/a 0", "/a-b 2", "/a.txt 3", "/a/b 1", "/ab 4"],
    );
}

#[test]
fn whiteouts_and_opaque_directories_hide_what_lies_below() {
    let below =
        vec![file("d/a", 1), file("d/b", 2), file("o/a", 3), file("o/sub/x", 4), dir("gone"), file("gone/x", 5)];
    let above = vec![
        file("d/.wh.a", 0),
        file("d/.wh.never", 0),
        file(".wh.gone", 0),
        file("o/new", 6),
        file("o/.wh..wh..opq", 0),
    ];
    each(&[below, above], &["/d 0", "/d/b 2", "/o 0", "/o/new 6"]);
}

#[test]
fn a_file_takes_the_place_of_a_directory_and_back() {
    let layers = [
        vec![file("x/a", 1), file("y", 2)],
        vec![file("x", 3), dir("y"), file("y/b", 4)],
        vec![dir("x"), file("x/c", 5), file("y", 6)],
    ];
    each(&layers, &["/x 0", "/x/c 5", "/y 6"]);
}

#[test]
fn the_last_of_two_entries_counts() {
    each(
        &[vec![file("a", 1), symlink("a", "t"), file("a", 2), file("b", 1), dir("b"), file("b/c", 3)]],
        &["/a 2", "/b 0", "/b/c 3"],
    );
}

#[test]
fn hard_links_are_one_resource_and_give_the_inode_their_attributes() {
    let capable = Xattr { name: b"security.capability".to_vec(), value: b"c".to_vec() };
    let mut first = file("z", 1);
    first.xattrs = vec![Xattr { name: b"user.kept".to_vec(), value: b"v".to_vec() }, capable];
    let mut second = link("a", "/z");
    (second.uid, second.permissions) = (7, 0o4755);
    let rootfs = build(Unpacking::Mounted, &[vec![first, second, symlink("s", "z"), link("t", "s")]]);
    assert_eq!(shown(&rootfs), ["/a=/z 1", "/s 0", "/t 0"]);
    let found = rootfs.find(b"/z").unwrap().resource;
    assert_eq!((found.uid, found.mode.permissions()), (7, 0o4755));
    let names: Vec<_> = found.xattrs.iter().map(|xattr| xattr.name.as_slice()).collect();
    assert_eq!(names, [b"user.kept"], "a change of the owner takes capabilities away");
}

#[test]
fn a_hard_link_to_a_lower_layer_is_what_only_some_snapshotters_can_unpack() {
    let layers = [vec![file("a", 1)], vec![link("b", "a")]];
    assert_eq!(shown(&build(Unpacking::Mounted, &layers)), ["/a=/b 1"]);
    assert!(refused(Unpacking::Overlay, &layers).contains("not there"));
}

#[test]
fn implied_parents_are_what_the_layers_below_have() {
    let mut parent = dir("p");
    (parent.uid, parent.permissions) = (5, 0o2711);
    parent.xattrs = vec![Xattr { name: b"user.x".to_vec(), value: b"y".to_vec() }];
    for unpacking in [Unpacking::Overlay, Unpacking::Mounted] {
        let rootfs = build(unpacking, &[vec![parent.clone()], vec![file("p/q/f", 1)]]);
        let found = rootfs.find(b"/p").unwrap().resource;
        assert_eq!((found.uid, found.mode.permissions(), found.xattrs.len()), (5, 0o2711, 1), "{unpacking:?}");
        let found = rootfs.find(b"/p/q").unwrap();
        assert_eq!((found.resource.uid, found.resource.mode.permissions(), found.layer), (0, 0o755, 1));
    }
}

#[test]
fn the_root_by_whatever_name_stays_as_it_is() {
    let mut root = dir("./");
    root.uid = 9;
    let others = ["/", ".", "..", "../..", "a/.."].map(dir);
    each(&[[vec![root], others.to_vec(), vec![file("./f", 1)]].concat()], &["/f 1"]);
}

#[test]
fn names_that_lead_out_are_contained() {
    let layer = vec![
        symlink("abs", "/etc"),
        symlink("up", "../../../.."),
        symlink("loop", "loop"),
        file("../out", 1),
        file("/root", 2),
        file("abs/passwd", 3),
        file("up/top", 4),
        file("a/../b", 5),
    ];
    each(&[layer], &["/abs 0", "/b 5", "/etc 0", "/etc/passwd 3", "/loop 0", "/out 1", "/root 2", "/top 4", "/up 0"]);
    assert!(refused(Unpacking::Mounted, &[vec![symlink("loop", "loop"), file("loop/x", 1)]]).contains("symlinks"));
}

#[test]
fn a_symlink_of_a_lower_layer_is_followed_only_where_it_is_seen() {
    let layers = [vec![dir("usr/lib"), symlink("lib", "usr/lib")], vec![file("lib/x", 1)]];
    assert_eq!(shown(&build(Unpacking::Mounted, &layers)), ["/lib 0", "/usr 0", "/usr/lib 0", "/usr/lib/x 1"]);
    assert_eq!(shown(&build(Unpacking::Overlay, &layers)), ["/lib 0", "/lib/x 1", "/usr 0", "/usr/lib 0"]);
}

#[test]
fn what_containerd_refuses_is_refused_with_its_name() {
    for (layer, why) in [
        (vec![link("l", "nothing")], "not there"),
        (vec![dir("d"), link("l", "d")], "directory"),
        (vec![link("l", "/")], "not there"),
        (vec![file("f", 1), file("f/x", 1)], "no directory"),
        (vec![file(".wh.", 0)], "no name"),
        (vec![file("d/.wh...", 0)], "no name"),
    ] {
        for unpacking in [Unpacking::Overlay, Unpacking::Mounted] {
            let error = refused(unpacking, std::slice::from_ref(&layer));
            let name = String::from_utf8_lossy(&layer.last().unwrap().name).into_owned();
            assert!(error.starts_with(&name) && error.contains(why), "{error}");
        }
    }
    let both = vec![file("f", 1), file(".wh.f", 0)];
    assert!(refused(Unpacking::Overlay, &[vec![], both.clone()]).contains("same layer"));
    assert!(shown(&build(Unpacking::Mounted, &[vec![], both])).is_empty());
}

#[test]
fn a_layer_of_its_own_has_whiteouts_and_marks() {
    let layers =
        [vec![file("d/a", 1), file("gone", 2)], vec![file("d/.wh..wh..opq", 0), file(".wh.gone", 0), file("d/b", 3)]];
    let rootfs = build(Unpacking::Overlay, &layers);
    let own = resources(|out| rootfs.write_layer_manifest(1, out));
    let paths: Vec<_> = own.iter().map(|resource| resource.first_path()).collect();
    assert_eq!(paths, [&b"/d"[..], b"/d/b", b"/gone"]);
    assert_eq!(own[0].xattrs[0].name, b"trusted.overlay.opaque");
    assert_eq!((own[2].mode.file_type(), own[2].mode.permissions()), (FileType::CharDevice, 0));
    assert_eq!(rootfs.find(b"/d").unwrap().resource.xattrs, [], "an overlay does not show its marks");
    assert!(build(Unpacking::Mounted, &layers).write_layer_manifest(1, Vec::new()).is_err());
}

#[test]
fn a_path_belongs_to_the_layer_that_touched_it_last() {
    let layers =
        [vec![dir("d"), file("d/a", 1), file("d/b", 1)], vec![file("d/a", 2)], vec![file("d/.wh.b", 0), dir("d")]];
    for unpacking in [Unpacking::Overlay, Unpacking::Mounted] {
        let rootfs = build(unpacking, &layers);
        assert_eq!(rootfs.find(b"/d/a").unwrap().layer, 1);
        assert_eq!(rootfs.find(b"/d").unwrap().layer, 2);
        assert_eq!(rootfs.find(b"/d/b"), None);
    }
}

#[test]
fn trusted_attributes_of_a_tar_are_not_unpacked() {
    let mut hidden = dir("d");
    hidden.xattrs = vec![Xattr { name: b"trusted.overlay.opaque".to_vec(), value: b"y".to_vec() }];
    each(&[vec![file("d/a", 1)], vec![hidden]], &["/d 0", "/d/a 1"]);
}

#[test]
fn deep_trees_need_no_stack() {
    let deep = "d/".repeat(2_000);
    let layers = [vec![file(&format!("{deep}f"), 1)], vec![file(".wh.d", 0)]];
    let worker = std::thread::Builder::new().stack_size(256 << 10).spawn(move || {
        assert_eq!(resources(|out| build(Unpacking::Overlay, &layers[..1]).write_manifest(out)).len(), 2_001);
        each(&layers, &[]);
    });
    worker.unwrap().join().unwrap();
}

#[test]
fn more_entries_than_allowed_are_refused() {
    let mut rootfs = Rootfs::new(Unpacking::Overlay, Limits { entries: 2, ..Limits::default() });
    rootfs.begin();
    rootfs.apply(&file("a", 1), None).unwrap();
    rootfs.begin();
    rootfs.apply(&file("b", 1), None).unwrap();
    assert!(rootfs.apply(&file("c", 1), None).unwrap_err().to_string().contains("more than 2 entries"));
}

#[test]
fn a_recorded_layer_is_the_layer() {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(3);
    header.set_mode(0o640);
    header.set_uid(3_000_000);
    builder.append_pax_extensions([("SCHILY.xattr.user.a", b"b".as_slice())]).unwrap();
    builder.append_data(&mut header, "d/file", b"abc".as_slice()).unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Link);
    header.set_size(0);
    header.set_uid(3_000_000);
    builder.append_link(&mut header, "link", "d/file").unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Char);
    header.set_size(0);
    header.set_device_major(1).unwrap();
    header.set_device_minor(3).unwrap();
    builder.append_data(&mut header, "null", std::io::empty()).unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::XGlobalHeader);
    header.set_size(13);
    builder.append_data(&mut header, "p/.wh.q", b"13 comment=c\n".as_slice()).unwrap();
    let blob = builder.into_inner().unwrap();
    let expected = Expected { blob: Digest::of(&blob), diff_id: Digest::of(&blob) };
    let mut direct = Rootfs::new(Unpacking::Overlay, Limits::default());
    direct.add(blob.as_slice(), &expected, &Progress::default()).unwrap();
    let mut recorded = Recorded::read(blob.as_slice(), &expected, &Limits::default(), &Progress::default()).unwrap();
    for _ in 0..2 {
        let mut again = Rootfs::new(Unpacking::Overlay, Limits::default());
        again.add_recorded(&mut recorded).unwrap();
        assert_eq!(resources(|out| again.write_manifest(out)), resources(|out| direct.write_manifest(out)));
    }
    assert!(direct.find(b"/p").is_some(), "parents of a global header");
    let found = direct.find(b"/d/file").unwrap().resource;
    assert_eq!((found.digest, found.uid, found.xattrs.len()), (Some(Digest::of(b"abc")), 3_000_000, 1));
    assert_eq!(direct.find(b"/null").unwrap().resource.device, (1, 3));
}
