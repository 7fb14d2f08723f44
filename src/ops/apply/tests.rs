// SPDX-License-Identifier: Apache-2.0
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use super::*;
use crate::error::{ErrorKind, Result};
use crate::ops::{BuildOptions, VerifyOptions, build, verify};
use crate::tree::{Progress, Root};

fn manifest_of(dir: &Path) -> Vec<u8> {
    let mut out = Vec::new();
    let root = Root::open(dir).unwrap();
    build(&root, &BuildOptions::default(), &Progress::default(), &mut out, &mut |_| {}).unwrap();
    out
}

fn apply(dir: &Path, manifest: &[u8], source: Option<&Path>, prune: bool) -> Result<(ApplyReport, usize, usize)> {
    let root = Root::open(dir)?;
    let options = ApplyOptions { source: source.is_some(), prune, threads: 1, ..ApplyOptions::default() };
    let plan = plan(&root, manifest, &options, &Progress::default())?;
    let source = source.map(Root::open).transpose()?;
    let options = PerformOptions { source: source.as_ref().map(|root| root as &dyn Source), ..Default::default() };
    let report = plan.perform(&root, &options, &Progress::default(), &mut |_| Ok(()))?;
    Ok((report, plan.actions.len(), plan.unresolved.len()))
}

fn findings(dir: &Path, manifest: &[u8]) -> Vec<String> {
    let mut lines = Vec::new();
    let root = Root::open(dir).unwrap();
    verify(&root, manifest, &VerifyOptions::default(), &Progress::default(), &mut |finding| {
        lines.push(finding.to_string());
        Ok(())
    })
    .unwrap();
    lines
}

/// A tree with a bit of everything that needs no privilege.
fn source() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir_all(at("a/deep")).unwrap();
    fs::write(at("a/file"), "contents").unwrap();
    fs::write(at("a/deep/linked"), "linked").unwrap();
    fs::hard_link(at("a/deep/linked"), at("0linked")).unwrap();
    symlink("nowhere", at("dangling")).unwrap();
    fs::write(at("suid"), "s").unwrap();
    fs::set_permissions(at("suid"), fs::Permissions::from_mode(0o4711)).unwrap();
    fs::create_dir(at("closed")).unwrap();
    fs::write(at("closed/in"), "in").unwrap();
    fs::set_permissions(at("closed"), fs::Permissions::from_mode(0o555)).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        at("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    dir
}

#[test]
fn an_empty_directory_becomes_the_tree_and_a_second_run_does_nothing() {
    let source = source();
    let manifest = manifest_of(source.path());
    let dir = tempfile::tempdir().unwrap();
    apply(dir.path(), &manifest, Some(source.path()), false).unwrap();
    assert_eq!(findings(dir.path(), &manifest), [""; 0]);
    let before = fs::metadata(dir.path().join("a/file")).unwrap();
    let (report, actions, unresolved) = apply(dir.path(), &manifest, Some(source.path()), false).unwrap();
    assert_eq!((report, actions, unresolved), (ApplyReport::default(), 0, 0));
    let after = fs::metadata(dir.path().join("a/file")).unwrap();
    assert_eq!((before.ino(), before.ctime_nsec()), (after.ino(), after.ctime_nsec()));
}

#[test]
fn every_kind_of_damage_is_mended() {
    let source = source();
    let manifest = manifest_of(source.path());
    type Damage = (&'static str, fn(&Path));
    let damages: [Damage; 12] = [
        ("contents", |d| fs::write(d.join("a/file"), "CONTENTS").unwrap()),
        ("truncated", |d| fs::write(d.join("a/file"), "").unwrap()),
        ("mode", |d| fs::set_permissions(d.join("suid"), fs::Permissions::from_mode(0o600)).unwrap()),
        ("directory mode", |d| fs::set_permissions(d.join("a"), fs::Permissions::from_mode(0o700)).unwrap()),
        ("target", |d| {
            fs::remove_file(d.join("dangling")).unwrap();
            symlink("/etc/passwd", d.join("dangling")).unwrap();
        }),
        ("missing tree", |d| fs::remove_dir_all(d.join("a")).unwrap()),
        ("extra tree", |d| {
            fs::create_dir_all(d.join("x/y")).unwrap();
            fs::write(d.join("x/y/z"), "").unwrap();
        }),
        ("file for a directory", |d| {
            fs::remove_dir_all(d.join("a")).unwrap();
            fs::write(d.join("a"), "").unwrap();
        }),
        ("directory for a file", |d| {
            fs::remove_file(d.join("suid")).unwrap();
            fs::create_dir(d.join("suid")).unwrap();
            fs::write(d.join("suid/x"), "").unwrap();
        }),
        ("link broken", |d| {
            fs::remove_file(d.join("0linked")).unwrap();
            fs::write(d.join("0linked"), "linked").unwrap();
        }),
        ("link made", |d| {
            fs::write(d.join("closed/in"), "x").unwrap();
            fs::remove_file(d.join("a/file")).unwrap();
            fs::hard_link(d.join("suid"), d.join("a/file")).unwrap();
        }),
        ("fifo replaced", |d| {
            fs::remove_file(d.join("fifo")).unwrap();
            fs::write(d.join("fifo"), "").unwrap();
        }),
    ];
    for (name, damage) in damages {
        let dir = tempfile::tempdir().unwrap();
        apply(dir.path(), &manifest, Some(source.path()), false).unwrap();
        damage(dir.path());
        assert!(!findings(dir.path(), &manifest).is_empty(), "{name}: not found");
        apply(dir.path(), &manifest, Some(source.path()), true).unwrap();
        assert_eq!(findings(dir.path(), &manifest), [""; 0], "{name}");
    }
}

#[test]
fn without_a_source_what_the_tree_itself_holds_is_enough() {
    let source = source();
    let manifest = manifest_of(source.path());
    let dir = tempfile::tempdir().unwrap();
    apply(dir.path(), &manifest, Some(source.path()), false).unwrap();
    fs::remove_file(dir.path().join("0linked")).unwrap();
    fs::hard_link(dir.path().join("suid"), dir.path().join("0linked")).unwrap();
    let (_, _, unresolved) = apply(dir.path(), &manifest, None, false).unwrap();
    assert_eq!(unresolved, 0);
    assert_eq!(findings(dir.path(), &manifest), [""; 0]);
    fs::write(dir.path().join("a/file"), "other").unwrap();
    assert_eq!(apply(dir.path(), &manifest, None, false).unwrap().2, 1);
    assert_eq!(fs::read(dir.path().join("a/file")).unwrap(), b"other");
}

#[test]
fn a_source_with_other_contents_changes_nothing() {
    let source = source();
    let manifest = manifest_of(source.path());
    let dir = tempfile::tempdir().unwrap();
    apply(dir.path(), &manifest, Some(source.path()), false).unwrap();
    fs::write(source.path().join("a/file"), "CONTENTS").unwrap();
    fs::write(dir.path().join("a/file"), "damaged").unwrap();
    let (report, ..) = apply(dir.path(), &manifest, Some(source.path()), false).unwrap();
    assert_eq!(report, ApplyReport { done: 0, unresolved: 1 });
    assert_eq!(fs::read(dir.path().join("a/file")).unwrap(), b"damaged");
    assert_eq!(fs::read_dir(dir.path().join("a")).unwrap().count(), 2, "a temporary file is left");
}

#[test]
fn a_symlink_in_the_way_is_replaced_and_never_followed() {
    let source = source();
    let manifest = manifest_of(source.path());
    let outside = tempfile::tempdir().unwrap();
    let dir = tempfile::tempdir().unwrap();
    symlink(outside.path(), dir.path().join("a")).unwrap();
    symlink(outside.path().join("x"), dir.path().join("suid")).unwrap();
    apply(dir.path(), &manifest, Some(source.path()), false).unwrap();
    assert_eq!(findings(dir.path(), &manifest), [""; 0]);
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn a_directory_in_the_way_that_is_not_empty_stays_without_prune() {
    let source = source();
    let manifest = manifest_of(source.path());
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("suid")).unwrap();
    fs::write(dir.path().join("suid/precious"), "").unwrap();
    let (_, _, unresolved) = apply(dir.path(), &manifest, Some(source.path()), false).unwrap();
    assert_eq!(unresolved, 1);
    assert!(dir.path().join("suid/precious").exists());
    assert_eq!(findings(dir.path(), &manifest).len(), 2);
}

#[test]
fn a_manifest_without_a_parent_directory_changes_nothing() {
    let source = tempfile::tempdir().unwrap();
    fs::create_dir(source.path().join("a")).unwrap();
    fs::write(source.path().join("a/b"), "").unwrap();
    let whole = manifest_of(source.path());
    let mut writer = crate::manifest::Writer::new(Vec::new());
    let mut reader = crate::manifest::Reader::new(whole.as_slice());
    reader.next().unwrap();
    writer.write(&reader.next().unwrap().unwrap()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let error = apply(dir.path(), &writer.into_inner(), Some(source.path()), false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidManifest);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_link_that_leaves_the_tree_is_cut_and_what_it_shares_stays() {
    let source = source();
    let manifest = manifest_of(source.path());
    let dir = tempfile::tempdir().unwrap();
    apply(dir.path(), &manifest, Some(source.path()), false).unwrap();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("f"), "s").unwrap();
    fs::set_permissions(outside.path().join("f"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::remove_file(dir.path().join("suid")).unwrap();
    fs::hard_link(outside.path().join("f"), dir.path().join("suid")).unwrap();
    apply(dir.path(), &manifest, None, false).unwrap();
    assert_eq!(findings(dir.path(), &manifest), [""; 0]);
    assert_eq!(fs::metadata(outside.path().join("f")).unwrap().permissions().mode() & 0o7777, 0o600);
}

#[test]
fn a_source_without_the_contents_costs_nothing_that_is_there() {
    let source = source();
    let manifest = manifest_of(source.path());
    let empty = tempfile::tempdir().unwrap();
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("a/deep")).unwrap();
    fs::write(dir.path().join("0linked"), "precious-0").unwrap();
    fs::write(dir.path().join("a/deep/linked"), "precious-1").unwrap();
    fs::create_dir(dir.path().join("suid")).unwrap();
    fs::write(dir.path().join("suid/precious"), "2").unwrap();
    for prune in [false, true] {
        for source in [None, Some(empty.path())] {
            let (report, _, unresolved) = apply(dir.path(), &manifest, source, prune).unwrap();
            assert!(report.unresolved + unresolved as u64 > 0);
            let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
            assert_eq!(read("0linked"), "precious-0", "{prune} {source:?}");
            assert_eq!(read("a/deep/linked"), "precious-1");
            assert_eq!(read("suid/precious"), "2");
            // The rest went on.
            assert_eq!(fs::metadata(dir.path().join("closed")).unwrap().permissions().mode() & 0o7777, 0o555);
        }
    }
}

#[test]
fn sockets_and_the_manifest_itself_are_treated_as_what_they_are() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("keep")).unwrap();
    let manifest = manifest_of(dir.path());
    fs::write(dir.path().join("m.pb"), &manifest).unwrap();
    fs::create_dir(dir.path().join("extra")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("extra/s")).unwrap();
    let root = Root::open(dir.path()).unwrap();
    let stat = fs::metadata(dir.path().join("m.pb")).unwrap();
    let id = InodeId { dev: stat.dev(), ino: stat.ino() };
    let options = ApplyOptions { prune: true, skip: vec![id], ..ApplyOptions::default() };
    let plan = plan(&root, manifest.as_slice(), &options, &Progress::default()).unwrap();
    plan.perform(&root, &PerformOptions::default(), &Progress::default(), &mut |_| Ok(())).unwrap();
    assert!(dir.path().join("m.pb").exists());
    assert!(!dir.path().join("extra").exists());
}

#[test]
fn in_place_nothing_is_written_over_that_other_paths_lead_to() {
    let source = tempfile::tempdir().unwrap();
    fs::write(source.path().join("a"), "right").unwrap();
    fs::hard_link(source.path().join("a"), source.path().join("b")).unwrap();
    fs::write(source.path().join("alone"), "right").unwrap();
    let manifest = manifest_of(source.path());
    let dir = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("f"), "other").unwrap();
    // As many links as the group has, but not the group's.
    fs::hard_link(outside.path().join("f"), dir.path().join("a")).unwrap();
    fs::write(dir.path().join("b"), "wrong").unwrap();
    fs::write(dir.path().join("alone"), "wrong").unwrap();
    let inode = fs::metadata(dir.path().join("alone")).unwrap().ino();
    let root = Root::open(dir.path()).unwrap();
    let options = ApplyOptions { source: true, prune: true, ..ApplyOptions::default() };
    let plan = plan(&root, manifest.as_slice(), &options, &Progress::default()).unwrap();
    let contents = Root::open(source.path()).unwrap();
    let options = PerformOptions { source: Some(&contents), in_place: true, ..Default::default() };
    plan.perform(&root, &options, &Progress::default(), &mut |_| Ok(())).unwrap();
    assert_eq!(findings(dir.path(), &manifest), [""; 0]);
    assert_eq!(fs::read_to_string(outside.path().join("f")).unwrap(), "other");
    assert_eq!(fs::metadata(dir.path().join("alone")).unwrap().ino(), inode);
}

#[test]
fn what_is_removed_is_kept_unless_it_is_our_own() {
    let source = tempfile::tempdir().unwrap();
    let manifest = manifest_of(source.path());
    let (dir, kept) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for name in [".continuity-notes", ".continuity-0123456789abcdef", "extra"] {
        fs::write(dir.path().join(name), name).unwrap();
    }
    let root = Root::open(dir.path()).unwrap();
    let options = ApplyOptions { prune: true, ..ApplyOptions::default() };
    let plan = plan(&root, manifest.as_slice(), &options, &Progress::default()).unwrap();
    let quarantine = Root::open(kept.path()).unwrap();
    let options = PerformOptions { quarantine: Some(&quarantine), ..Default::default() };
    plan.perform(&root, &options, &Progress::default(), &mut |_| Ok(())).unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    let mut names: Vec<_> = fs::read_dir(kept.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, [".continuity-notes", "extra"]);
}
