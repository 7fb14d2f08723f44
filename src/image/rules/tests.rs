// SPDX-License-Identifier: Apache-2.0
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::LazyLock;

use rustix::fs::{CWD, Mode as RawMode, XattrFlags};

use super::*;
use crate::digest::Digest;
use crate::inode::Xattr;
use crate::layer::{Expected, Limits};
use crate::ops::{BuildOptions, FindingKind, build, diff_by, verify_by};
use crate::tree::Progress;

/// A layer's tar: `name/` is a directory, `name -> target` a symlink, anything else an empty file; each with a mode.
fn tar_of(entries: &[(&str, u32)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, mode) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mode(*mode);
        header.set_size(0);
        header.set_uid(rustix::process::geteuid().as_raw().into());
        header.set_gid(rustix::process::getegid().as_raw().into());
        header.set_entry_type(if name.ends_with('/') { tar::EntryType::Directory } else { tar::EntryType::Regular });
        builder.append_data(&mut header, name, &[][..]).unwrap();
    }
    builder.into_inner().unwrap()
}

/// Names and modes.
type Entries<'a> = &'a [(&'a str, u32)];

fn rootfs(layers: &[Entries<'_>]) -> Rootfs {
    let mut rootfs = Rootfs::new(Unpacking::Overlay, Limits::default());
    for entries in layers {
        let tar = tar_of(entries);
        let expected = Expected { blob: Digest::of(&tar), diff_id: Digest::of(&tar) };
        rootfs.add(tar.as_slice(), &expected, &Progress::default()).unwrap();
    }
    rootfs
}

fn resource(path: &str, file_type: FileType, xattrs: &[(&str, &str)]) -> Resource {
    let xattr = |(name, value): &(&str, &str)| Xattr { name: name.as_bytes().into(), value: value.as_bytes().into() };
    Resource {
        paths: vec![path.into()],
        uid: 0,
        gid: 0,
        user: Vec::new(),
        group: Vec::new(),
        mode: Mode::new(file_type, 0o755),
        size: 0,
        digest: (file_type == FileType::Regular).then_some(Digest::EMPTY),
        target: Vec::new(),
        device: (0, 0),
        xattrs: xattrs.iter().map(xattr).collect(),
    }
}

/// For a layer whose overlays read `user.overlay.*`, which may be set without privileges.
fn of_seal(root: &Root, below: Vec<PathBuf>, hosts: Hosts) -> LayerRules<'_> {
    static PROGRESS: LazyLock<Progress> = LazyLock::new(Progress::default);
    LayerRules::of_seal(root, below, Marks::User, hosts, &PROGRESS)
}

/// What differs by the rules at a path that both sides have.
fn compared(rules: &dyn Rules, expected: &Resource, found: &Resource) -> Vec<String> {
    let mut findings = Vec::new();
    let expected = match rules.settle(&expected.paths[0], Some(expected), Some(found)).unwrap() {
        Settled::Same => return findings,
        Settled::Differs => expected.clone(),
        Settled::Expect(settled) => *settled,
    };
    let mut note = |finding: crate::ops::Finding| {
        findings.push(finding.to_string());
        Ok(())
    };
    compare(&expected.paths[0], &expected, found, false, &mut note).unwrap();
    findings
}

#[test]
fn what_the_host_puts_on_files_is_no_difference() {
    let dir = tempfile::tempdir().unwrap();
    let (root, rootfs) = (Root::open(dir.path()).unwrap(), rootfs(&[&[]]));
    let image = RootfsRules::new(&rootfs, &root, Origin::default());
    let layer = LayerRules::of_image(&rootfs, 0, &root, false, Hosts::Expected);
    let seal = of_seal(&root, Vec::new(), Hosts::Expected);
    let unknown = of_seal(&root, Vec::new(), Hosts::Unknown);
    let of = |xattrs: &[(&str, &str)]| resource("/f", FileType::Regular, xattrs);
    for rules in [&image as &dyn Rules, &layer, &seal, &unknown] {
        for name in ["security.selinux", "security.ima", "btrfs.compression", "system.nfs4_acl", "trusted.SGI_ACL_FILE"]
        {
            assert_eq!(compared(rules, &of(&[]), &of(&[(name, "x")])), [""; 0], "{name}");
        }
        for name in ["trusted.overlay.origin", "user.overlay.impure", "user.overlay.uuid"] {
            assert_eq!(compared(rules, &of(&[]), &of(&[(name, "x")])), [""; 0], "{name}");
            assert_eq!(compared(rules, &of(&[(name, "x")]), &of(&[])), [""; 0], "{name}");
        }
        assert_eq!(compared(rules, &of(&[]), &of(&[("user.x", "x")])).len(), 1);
        assert_eq!(compared(rules, &of(&[("user.x", "x")]), &of(&[])).len(), 1, "it can be kept here");
        assert_eq!(compared(rules, &of(&[]), &of(&[("security.capability", "x")])).len(), 1);
        assert_eq!(compared(rules, &of(&[("com.apple.provenance", "x")]), &of(&[])), [""; 0], "nowhere can it be kept");
        // Beside damage, too.
        let damaged = Resource { mode: Mode::new(FileType::Regular, 0o777), ..of(&[("security.selinux", "x")]) };
        assert_eq!(compared(rules, &of(&[]), &damaged), ["/f: mode: expected 0755, found 0777"]);
    }
}

#[test]
fn a_label_that_the_image_carries_counts_where_it_is_kept() {
    let name = "security.selinux";
    let dir = tempfile::tempdir().unwrap();
    let root = Root::open(dir.path()).unwrap();
    let of = |xattrs: &[(&str, &str)]| resource("/f", FileType::Regular, xattrs);
    let differing = [(of(&[(name, "a")]), of(&[(name, "b")])), (of(&[(name, "a")]), of(&[]))];
    let (image, disk) = (of_seal(&root, Vec::new(), Hosts::Expected), of_seal(&root, Vec::new(), Hosts::Unknown));
    for (expected, found) in &differing {
        let kept = usize::from(host::keeps(name.as_bytes()));
        assert_eq!(compared(&image, expected, found).len(), kept);
        assert_eq!(compared(&disk, expected, found), [""; 0], "nobody says that it is the image's");
    }
}

/// Makes what a layer's directory holds: `name/` a directory, `name/!` the same with an opaque mark, `-name` a
/// whiteout.
fn unpack(dir: &Path, names: &[&str]) {
    for name in names {
        let (plain, opaque) = name.strip_suffix('!').map_or((*name, false), |plain| (plain, true));
        if let Some(whiteout) = plain.strip_prefix('-') {
            let device = rustix::fs::FileType::CharacterDevice;
            rustix::fs::mknodat(CWD, dir.join(whiteout), device, RawMode::empty(), 0).unwrap();
        } else if plain.ends_with('/') {
            fs::create_dir_all(dir.join(plain)).unwrap();
        } else {
            fs::write(dir.join(plain), "").unwrap();
        }
        if opaque {
            rustix::fs::setxattr(dir.join(plain), "user.overlay.opaque", b"y", XattrFlags::empty()).unwrap();
        }
    }
}

/// What of the top layer's directory differs from what the image says, but for owners and modes, which the test leaves
/// to chance.
fn differing(image: &Rootfs, names: &[&str]) -> Vec<String> {
    differing_where(Marks::User, image, names)
}

/// The same where overlays read these marks.
fn differing_where(marks: Marks, image: &Rootfs, names: &[&str]) -> Vec<String> {
    let layer = image.layers() - 1;
    let dir = tempfile::tempdir().unwrap();
    unpack(dir.path(), names);
    let root = Root::open(dir.path()).unwrap();
    let rules = LayerRules::of_image(image, layer, &root, false, Hosts::Expected).reading(marks);
    let mut manifest = Vec::new();
    image.write_layer_manifest(layer, &mut manifest).unwrap();
    let mut findings = Vec::new();
    verify_by(&rules, &root, manifest.as_slice(), &Default::default(), &Progress::default(), &mut |finding| {
        if !matches!(finding.kind, FindingKind::Mode | FindingKind::Uid | FindingKind::Gid) {
            findings.push(finding.to_string());
        }
        Ok(())
    })
    .unwrap();
    findings
}

#[test]
fn whiteouts_and_marks_count_where_they_change_what_is_shown() {
    let below: &[(&str, u32)] =
        &[("d/", 0o755), ("d/a", 0o644), ("d/sub/", 0o755), ("d/sub/b", 0o644), ("empty/", 0o755)];
    let table: [(Entries<'_>, &[&str], &[&str]); 19] = [
        (&[("d/.wh.a", 0)], &["d/", "-d/a"], &[]),
        (&[("d/.wh.a", 0)], &["d/"], &["/d/a: missing"]),
        (&[("d/.wh.never", 0)], &["d/"], &[]),
        (&[("d/x", 0o644)], &["d/", "d/x", "-d/never"], &[]),
        (&[("d/x", 0o644)], &["d/", "d/x", "-d/a"], &["/d/a: extra: found character device"]),
        // The mark, or a whiteout for each name.
        (&[("d/.wh..wh..opq", 0)], &["d/!"], &[]),
        (&[("d/.wh..wh..opq", 0)], &["d/", "-d/a", "-d/sub"], &[]),
        (&[("d/.wh..wh..opq", 0)], &["d/", "-d/a"], &["/d: xattr-missing user.overlay.opaque: expected \"y\""]),
        (&[("d/sub/.wh..wh..opq", 0), ("d/sub/c", 0o644)], &["d/", "d/sub/!", "d/sub/c"], &[]),
        // A mark that hides something, and one that does not.
        (&[("d/x", 0o644)], &["d/!", "d/x"], &["/d: xattr-extra user.overlay.opaque: found \"y\""]),
        (&[("empty/x", 0o644)], &["empty/!", "empty/x"], &[]),
        (&[("new/", 0o755), ("new/x", 0o644)], &["new/!", "new/x"], &[]),
        // The mark hides what a whiteout should.
        (&[("d/.wh.a", 0), ("d/sub/.wh.b", 0), ("d/sub/", 0o755)], &["d/", "-d/a", "d/sub/!"], &[]),
        // What is missing or extra, and the same as below.
        (&[("d/", 0o755), ("d/a", 0o644)], &["d/"], &[]),
        (&[("d/", 0o755), ("d/a", 0o600)], &["d/"], &["/d/a: missing"]),
        (&[("d/", 0o755), ("d/a", 0o644)], &["d/!"], &["/d: xattr-extra"]),
        (&[("d/", 0o755)], &["d/", "d/a"], &[]),
        (&[("d/.wh.a", 0)], &["d/", "d/a"], &["/d/a: type"]),
        // What is below an extra directory goes with it.
        (&[("d/x", 0o644)], &["d/", "d/x", "y/", "-y/z"], &["/y: extra", "/y/z: extra"]),
    ];
    for (layer, names, expected) in table {
        let findings = differing(&rootfs(&[below, layer]), names);
        let agree = findings.len() == expected.len() && findings.iter().zip(expected).all(|(f, e)| f.starts_with(e));
        assert!(agree, "{layer:?} {names:?}: {findings:?}");
    }
}

#[test]
fn a_mark_that_no_overlay_reads_hides_nothing() {
    let below: Entries<'_> = &[("d/", 0o755), ("d/a", 0o644)];
    let opaque = rootfs(&[below, &[("d/.wh..wh..opq", 0)]]);
    let findings = differing_where(Marks::Trusted, &opaque, &["d/!"]);
    assert!(findings[0].starts_with("/d: xattr-missing trusted.overlay.opaque"), "{findings:?}");
    assert_eq!(differing_where(Marks::User, &opaque, &["d/!"]), [""; 0]);
    let plain = rootfs(&[below, &[("d/x", 0o644)]]);
    assert_eq!(differing_where(Marks::Trusted, &plain, &["d/!", "d/x"]), [""; 0]);
    assert_eq!(differing_where(Marks::User, &plain, &["d/!", "d/x"]).len(), 1);
}

#[test]
fn what_is_below_on_the_disk_says_whether_a_whiteout_counts() {
    let (lower, middle, own) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    unpack(lower.path(), &["d/", "d/a", "d/gone", "e/", "e/hidden"]);
    unpack(middle.path(), &["d/", "-d/gone", "e/!"]);
    unpack(own.path(), &["d/", "e/", "e/x/", "f"]);
    let root = Root::open(own.path()).unwrap();
    let below = || vec![middle.path().to_owned(), lower.path().to_owned()];
    let rules = of_seal(&root, below(), Hosts::Expected);
    for (path, counts) in [("/d/a", true), ("/d/gone", false), ("/d/never", false), ("/e/hidden", false)] {
        let whiteout = resource(path, FileType::CharDevice, &[]);
        let missing = rules.settle(path.as_bytes(), Some(&whiteout), None).unwrap();
        let extra = rules.settle(path.as_bytes(), None, Some(&whiteout)).unwrap();
        assert_eq!(!matches!(missing, Settled::Same), counts, "missing {path}");
        assert_eq!(!matches!(extra, Settled::Same), counts, "extra {path}");
    }
    let marked = |path| resource(path, FileType::Directory, &[("user.overlay.opaque", "y")]);
    for (path, counts) in [("/d", 1), ("/e", 0), ("/e/x", 0)] {
        assert_eq!(compared(&rules, &marked(path), &resource(path, FileType::Directory, &[])).len(), counts, "{path}");
        assert_eq!(compared(&rules, &resource(path, FileType::Directory, &[]), &marked(path)).len(), counts, "{path}");
    }
}

#[test]
fn whiteouts_of_any_form_are_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::open(dir.path()).unwrap();
    let rules = of_seal(&root, Vec::new(), Hosts::Expected);
    let device = resource("/w", FileType::CharDevice, &[]);
    let file = resource("/w", FileType::Regular, &[("user.overlay.whiteout", "y")]);
    assert_eq!(compared(&rules, &device, &file), [""; 0]);
    assert_eq!(compared(&rules, &file, &device), [""; 0]);
    assert_eq!(compared(&rules, &device, &resource("/w", FileType::Regular, &[])).len(), 1);
}

#[test]
fn a_directory_that_no_entry_describes_may_be_plain_where_layers_were_unpacked_alone() {
    let below: &[(&str, u32)] = &[("d/", 0o700), ("d/a", 0o644)];
    let image = rootfs(&[below, &[("d/x", 0o644)]]);
    let dir = tempfile::tempdir().unwrap();
    let root = Root::open(dir.path()).unwrap();
    let with =
        |mode| Resource { mode: Mode::new(FileType::Directory, mode), ..resource("/d", FileType::Directory, &[]) };
    for (alone, found, findings) in
        [(true, 0o755, 0), (true, 0o700, 0), (true, 0o777, 1), (false, 0o700, 0), (false, 0o755, 1)]
    {
        let layer = LayerRules::of_image(&image, 1, &root, alone, Hosts::Expected);
        let origin = Origin { alone: vec![false, alone], lazy: false };
        let whole = RootfsRules::new(&image, &root, origin);
        let expected = image.find(b"/d").unwrap().resource;
        assert_eq!(expected.mode.permissions(), 0o700, "as the layer below has it");
        assert_eq!(compared(&layer, &expected, &with(found)).len(), findings, "{alone} {found:o}");
        assert_eq!(compared(&whole, &expected, &with(found)).len(), findings, "{alone} {found:o}");
    }
    // One that an entry describes is as it says.
    let image = rootfs(&[below, &[("d/", 0o700), ("d/x", 0o644)]]);
    let layer = LayerRules::of_image(&image, 1, &root, true, Hosts::Expected);
    assert_eq!(compared(&layer, &image.find(b"/d").unwrap().resource, &with(0o755)).len(), 1);
}

#[test]
fn what_a_lazy_snapshotter_hides_is_not_missed() {
    let image = rootfs(&[&[("stargz.index.json", 0o644), (".no.prefetch.landmark", 0o644), ("d/", 0o755)]]);
    let dir = tempfile::tempdir().unwrap();
    let root = Root::open(dir.path()).unwrap();
    for (lazy, path, missed) in [
        (true, "/stargz.index.json", false),
        (true, "/.no.prefetch.landmark", false),
        (false, "/stargz.index.json", true),
        (true, "/d", true),
    ] {
        let rules = RootfsRules::new(&image, &root, Origin { lazy, alone: Vec::new() });
        let expected = image.find(path.as_bytes()).unwrap().resource;
        let settled = rules.settle(path.as_bytes(), Some(&expected), None).unwrap();
        assert_eq!(!matches!(settled, Settled::Same), missed, "{path}");
    }
}

#[test]
fn a_label_that_was_not_recorded_is_looked_at_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("f"), "").unwrap();
    let root = Root::open(dir.path()).unwrap();
    if rustix::fs::setxattr(dir.path().join("f"), "trusted.carried", b"x", XattrFlags::empty()).is_err() {
        // Without privileges no attribute can be set that is the host's.
        return;
    }
    let manifest = |without_hosts| {
        let mut manifest = Vec::new();
        let options = BuildOptions { without_hosts, ..BuildOptions::default() };
        build(&root, &options, &Progress::default(), &mut manifest, &mut |_| {}).unwrap();
        manifest
    };
    let (image, sealed) = (manifest(false), manifest(true));
    assert_ne!(image, sealed);
    let findings = |hosts| {
        let rules = of_seal(&root, Vec::new(), hosts);
        let mut findings = 0;
        diff_by(&rules, image.as_slice(), sealed.as_slice(), &mut |_| {
            findings += 1;
            Ok(())
        })
        .unwrap();
        (findings, rules.found_unrecorded())
    };
    assert_eq!(findings(Hosts::Unrecorded), (0, true));
    assert_eq!(findings(Hosts::Expected), (1, false));
    assert_eq!(findings(Hosts::Unknown), (0, false));
    rustix::fs::setxattr(dir.path().join("f"), "trusted.carried", b"y", XattrFlags::empty()).unwrap();
    assert_eq!(findings(Hosts::Unrecorded), (1, false));
}

#[test]
fn what_hides_a_whiteout_and_will_be_repaired_hides_nothing() {
    let below: Entries<'_> = &[("d/", 0o755), ("d/a", 0o644), ("d/b", 0o644)];
    let layer: Entries<'_> = &[("d/", 0o755), ("d/.wh.a", 0)];
    // The directory is gone for a file: it comes back, and the whiteout has to come with it.
    assert_eq!(differing(&rootfs(&[below, layer]), &["d"]).len(), 2);
    // So does a mark that has to go.
    let findings = differing(&rootfs(&[below, layer]), &["d/!"]);
    assert!(findings.len() == 2 && findings[1].starts_with("/d/a: missing"), "{findings:?}");
}

#[test]
fn what_was_moved_may_be_shown_where_it_is_expected_and_nowhere_else() {
    let below: Entries<'_> = &[("d/", 0o755), ("d/a", 0o644), ("x/", 0o755), ("x/y", 0o644)];
    let image = rootfs(&[below, &[("d/", 0o755)]]);
    let dir = tempfile::tempdir().unwrap();
    let root = Root::open(dir.path()).unwrap();
    let rules = LayerRules::of_image(&image, 1, &root, false, Hosts::Expected).reading(Marks::User);
    let seal = of_seal(&root, Vec::new(), Hosts::Unknown);
    let of = |place| {
        let expected = Resource { uid: 0, gid: 0, ..resource("/d", FileType::Directory, &[]) };
        (expected.clone(), Resource { xattrs: resource("/d", FileType::Directory, &[place]).xattrs, ..expected })
    };
    let unless = |follows: bool| usize::from(!follows);
    for (place, counts) in [("/x", 1), ("x", 1), ("/d", unless(host::follows_redirect()))] {
        let (expected, found) = of(("user.overlay.redirect", place));
        assert_eq!(compared(&rules, &expected, &found).len(), counts, "{place}");
        assert_eq!(compared(&seal, &expected, &found).len(), 1, "it was not there when it was sealed");
        assert_eq!(compared(&seal, &found, &expected).len(), 1);
        assert_eq!(compared(&seal, &found, &found).len(), 0);
    }
    let file = |xattrs: &[(&str, &str)]| resource("/d/a", FileType::Regular, xattrs);
    assert_eq!(compared(&seal, &file(&[]), &file(&[("user.overlay.metacopy", "")])).len(), 1);
    let metacopy = compared(&rules, &file(&[]), &file(&[("user.overlay.metacopy", "")]));
    assert_eq!(metacopy.len(), unless(host::follows_metacopy()), "the same is below");
}

#[test]
fn names_of_one_file_are_asked_for_together() {
    let (lower, own) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(lower.path().join("a"), "same").unwrap();
    fs::hard_link(lower.path().join("a"), lower.path().join("b")).unwrap();
    fs::write(lower.path().join("c"), "same").unwrap();
    let root = Root::open(own.path()).unwrap();
    let rules = of_seal(&root, vec![lower.path().to_owned()], Hosts::Expected);
    let stat = fs::metadata(lower.path().join("a")).unwrap();
    let group = |paths: [&str; 2]| Resource {
        paths: paths.map(Vec::from).to_vec(),
        uid: stat.uid(),
        gid: stat.gid(),
        mode: Mode::new(FileType::Regular, stat.mode() & 0o7777),
        size: 4,
        digest: Some(Digest::of(b"same")),
        ..resource("/a", FileType::Regular, &[])
    };
    for (paths, shown) in [(["/a", "/b"], true), (["/b", "/c"], false), (["/c", "/gone"], false)] {
        for path in paths {
            let settled = rules.settle(path.as_bytes(), Some(&group(paths)), None).unwrap();
            assert_eq!(matches!(settled, Settled::Same), shown, "{path} of {paths:?}");
        }
    }
}

#[test]
fn what_lies_below_is_read_no_longer_than_wanted() {
    let (lower, own) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(lower.path().join("a"), "same").unwrap();
    let root = Root::open(own.path()).unwrap();
    let progress = Progress::default();
    let below = vec![lower.path().to_owned()];
    let rules = LayerRules::of_seal(&root, below, Marks::User, Hosts::Expected, &progress);
    progress.cancel();
    let expected = Resource { size: 4, digest: Some(Digest::of(b"same")), ..resource("/a", FileType::Regular, &[]) };
    let error = rules.settle(b"/a", Some(&expected), None).unwrap_err();
    assert_eq!(error.kind(), crate::error::ErrorKind::Cancelled);
}
