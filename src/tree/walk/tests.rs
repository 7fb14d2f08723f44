// SPDX-License-Identifier: Apache-2.0
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;
use crate::digest::Digest;

fn steps(root: &Path, options: WalkOptions) -> Vec<Step> {
    let root = Root::open(root).unwrap();
    walk(&root, &options, &Progress::default(), |steps| {
        let mut all = Vec::new();
        while let Some(step) = steps.next()? {
            all.push(step);
        }
        Ok(all)
    })
    .unwrap()
}

fn paths(steps: &[Step]) -> Vec<String> {
    steps
        .iter()
        .map(|step| match step {
            Step::Entry { path, .. } => String::from_utf8_lossy(path).into_owned(),
            Step::Unlisted { path, .. } => format!("{}!", String::from_utf8_lossy(path)),
        })
        .collect()
}

#[test]
fn a_wide_tree_comes_in_path_order_with_any_number_of_threads() {
    let dir = tempfile::tempdir().unwrap();
    for d in 0..40 {
        let sub = dir.path().join(format!("d{d}"));
        fs::create_dir(&sub).unwrap();
        for f in 0..50 {
            fs::write(sub.join(format!("f{f}")), vec![f as u8; f * 100]).unwrap();
        }
        fs::write(dir.path().join(format!("d{d}.x")), "").unwrap();
    }
    for threads in [1, 2, 7] {
        let steps = steps(dir.path(), WalkOptions { threads, ..Default::default() });
        let paths = paths(&steps);
        assert_eq!(paths.len(), 40 * 52);
        assert!(paths.is_sorted());
        for step in steps {
            let Step::Entry { path, node } = step else { panic!("unlisted") };
            let node = node.unwrap();
            let expected = match node.metadata.file_type {
                FileType::Regular => {
                    Some(Digest::of(&fs::read(dir.path().join(std::str::from_utf8(&path[1..]).unwrap())).unwrap()))
                }
                _ => None,
            };
            assert_eq!(node.digest, expected);
        }
    }
}

#[test]
fn files_of_one_buffer_more_or_less_have_the_digests_of_their_contents() {
    const BUFFER: usize = 64 << 10;
    let dir = tempfile::tempdir().unwrap();
    let sizes = [0, 1, BUFFER - 1, BUFFER, BUFFER + 1, 2 * BUFFER - 64, 2 * BUFFER, 5 * BUFFER + 63, 20 * BUFFER];
    let contents = |size: usize| (0..size).map(|n| (n * n / 251 + size) as u8).collect::<Vec<_>>();
    for (n, size) in sizes.into_iter().enumerate() {
        fs::write(dir.path().join(format!("f{n}")), contents(size)).unwrap();
    }
    for threads in [1, 3] {
        let steps = steps(dir.path(), WalkOptions { threads, ..Default::default() });
        assert_eq!(steps.len(), sizes.len());
        for (step, size) in steps.into_iter().zip(sizes) {
            let Step::Entry { node, .. } = step else { panic!("unlisted") };
            assert_eq!(node.unwrap().digest, Some(Digest::of(&contents(size))), "{size} bytes");
        }
    }
}

#[test]
fn a_file_of_procfs_which_has_contents_and_no_size_is_not_called_empty() {
    let root = Root::open(Path::new("/proc/sys/kernel/random")).unwrap();
    let boot_id = walk(&root, &WalkOptions::default(), &Progress::default(), |steps| {
        while let Some(step) = steps.next()? {
            match step {
                Step::Entry { path, node } if path == b"/boot_id" => return Ok(node),
                _ => {}
            }
        }
        panic!("no boot_id")
    });
    assert_eq!(boot_id.unwrap().unwrap_err().kind(), ErrorKind::Changed);
}

#[test]
fn a_tree_deeper_than_the_open_handles_and_path_max_is_walked() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::open(dir.path()).unwrap();
    let mut fd = root.reopen().unwrap();
    const DEPTH: usize = 3000;
    for _ in 0..DEPTH {
        rustix::fs::mkdirat(&fd, c"d", rustix::fs::Mode::RWXU).unwrap();
        // Seen on the way back up, after handles were given up.
        rustix::fs::mkdirat(&fd, c"e", rustix::fs::Mode::RWXU).unwrap();
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
        fd = rustix::fs::openat(&fd, c"d", flags, rustix::fs::Mode::empty()).unwrap();
    }
    let found = paths(&steps(dir.path(), WalkOptions::default()));
    assert_eq!(found.len(), 2 * DEPTH);
    assert!(found.is_sorted());
    assert!(found.iter().all(|path| !path.ends_with('!')));
}

#[test]
fn hard_links_are_hashed_once_and_all_carry_the_digest() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a"), vec![7; 100_000]).unwrap();
    for n in 0..200 {
        fs::hard_link(dir.path().join("a"), dir.path().join(format!("l{n}"))).unwrap();
    }
    fs::write(dir.path().join("y"), "").unwrap();
    fs::hard_link(dir.path().join("y"), dir.path().join("z")).unwrap();
    let root = Root::open(dir.path()).unwrap();
    let progress = Progress::default();
    walk(&root, &WalkOptions { threads: 4, ..Default::default() }, &progress, |steps| {
        while let Some(Step::Entry { node, path }) = steps.next()? {
            let node = node?;
            let is_empty = matches!(path.as_slice(), b"/y" | b"/z");
            assert_eq!(node.digest, Some(if is_empty { Digest::EMPTY } else { Digest::of(&[7; 100_000]) }));
            assert!(node.metadata.link_id().is_some());
        }
        Ok(())
    })
    .unwrap();
    assert_eq!((progress.bytes(), progress.entries()), (100_000, 203));
}

#[test]
fn symlinks_are_never_followed() {
    let dir = tempfile::tempdir().unwrap();
    symlink("/etc", dir.path().join("etc")).unwrap();
    let steps = steps(dir.path(), WalkOptions { threads: 1, include_root: true, ..Default::default() });
    assert_eq!(paths(&steps), ["/", "/etc"]);
    let Step::Entry { node: Ok(node), .. } = &steps[1] else { panic!("{steps:?}") };
    assert_eq!((node.metadata.file_type, node.target.as_slice()), (FileType::Symlink, &b"/etc"[..]));
}

#[test]
fn a_consumer_that_stops_leaves_no_worker_behind() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..5000 {
        fs::write(dir.path().join(n.to_string()), "x").unwrap();
    }
    let root = Root::open(dir.path()).unwrap();
    let progress = Progress::default();
    let stopped = walk(&root, &WalkOptions::default(), &progress, |steps| {
        steps.next()?;
        progress.cancel();
        steps.next().map(|_| ())
    });
    assert_eq!(stopped.unwrap_err().kind(), ErrorKind::Cancelled);
}
