// SPDX-License-Identifier: Apache-2.0
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use super::*;

fn mount_of(kind: &str, source: &str, target: &str, options: &[&str]) -> Mount {
    Mount {
        kind: kind.into(),
        source: source.into(),
        target: target.into(),
        options: options.iter().map(|o| o.to_string()).collect(),
    }
}

fn mountinfo() -> String {
    fs::read_to_string("/proc/self/mountinfo").unwrap()
}

/// What a handle of a tree shows under `path`.
fn through(fd: &OwnedFd, path: &str) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{path}", fd.as_raw_fd()))
}

struct Scene {
    dir: tempfile::TempDir,
}

impl Scene {
    /// Layers `a`, `b` and `c`, each with its own file and one that all of them have.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for layer in ["a", "b", "c"] {
            let path = dir.path().join(layer);
            fs::create_dir(&path).unwrap();
            fs::write(path.join(layer), layer).unwrap();
            fs::write(path.join("same"), layer).unwrap();
        }
        fs::create_dir(dir.path().join("work")).unwrap();
        fs::create_dir(dir.path().join("mnt")).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn open(&self, mounts: &[Mount]) -> Result<OwnedFd> {
        open(mounts, &self.dir.path().join("mnt"))
    }
}

#[test]
fn a_bind_is_read_only_and_seen_by_nobody() {
    let scene = Scene::new();
    let before = mountinfo();
    let fd = scene.open(&[mount_of("bind", &scene.path("a"), "", &["rbind", "rw"])]).unwrap();
    assert_eq!(mountinfo(), before);
    assert_eq!(fs::read_to_string(through(&fd, "same")).unwrap(), "a");
    let refused = fs::write(through(&fd, "new"), "").unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(Errno::ROFS.raw_os_error()));
    drop(fd);
    assert_eq!(mountinfo(), before);
    fs::remove_dir(scene.path("mnt")).expect("nothing is mounted there, nothing was left in it");
}

#[test]
fn an_overlay_loses_its_upper_directory_and_shows_the_same() {
    let scene = Scene::new();
    let before = mountinfo();
    let lower = format!("lowerdir={}:{}", scene.path("b"), scene.path("c"));
    let upper = format!("upperdir={}", scene.path("a"));
    let work = format!("workdir={}", scene.path("work"));
    let fd = scene.open(&[mount_of("overlay", "overlay", "", &["index=off", &work, &upper, &lower])]).unwrap();
    assert_eq!(mountinfo(), before);
    let mut names: Vec<_> =
        fs::read_dir(through(&fd, "")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["a", "b", "c", "same"]);
    assert_eq!(fs::read_to_string(through(&fd, "same")).unwrap(), "a");
    assert_eq!(fs::read_dir(scene.path("work")).unwrap().count(), 0, "the work directory was not touched");
    assert_eq!(fs::write(through(&fd, "new"), "").unwrap_err().raw_os_error(), Some(Errno::ROFS.raw_os_error()));
}

#[test]
fn an_overlay_of_one_directory_is_that_directory() {
    let scene = Scene::new();
    let fd = scene.open(&[mount_of("overlay", "overlay", "", &[&format!("lowerdir={}", scene.path("b"))])]).unwrap();
    assert_eq!(fs::read_to_string(through(&fd, "b")).unwrap(), "b");
}

#[test]
fn a_hundred_and_twenty_eight_layers_with_long_names_mount() {
    let scene = Scene::new();
    let parent = scene.dir.path().join("n".repeat(60)).join("snapshots");
    let mut lower = Vec::new();
    for n in 0..128 {
        let layer = parent.join(n.to_string()).join("fs");
        fs::create_dir_all(&layer).unwrap();
        fs::write(layer.join(format!("file-{n}")), "").unwrap();
        lower.push(layer.to_str().unwrap().to_owned());
    }
    let option = format!("lowerdir={}", lower.join(":"));
    assert!(option.len() > 2 * 4096);
    let cwd = std::env::current_dir().unwrap();
    let fd = scene.open(&[mount_of("overlay", "overlay", "", &[&option])]).unwrap();
    assert_eq!(fs::read_dir(through(&fd, "")).unwrap().count(), 128);
    assert_eq!(std::env::current_dir().unwrap(), cwd);
}

#[test]
fn mounts_stack_and_nest() {
    let scene = Scene::new();
    let before = mountinfo();
    fs::create_dir(scene.path("a/dir")).unwrap();
    // A symlink in the tree that points at a directory of the host must stay inside the tree.
    std::os::unix::fs::symlink("/dir", scene.path("a/link")).unwrap();
    let fd = scene
        .open(&[
            mount_of("tmpfs", "tmpfs", "", &["size=1m"]),
            mount_of("bind", &scene.path("a"), "", &["bind", "ro"]),
            mount_of("bind", &scene.path("b"), "/link", &["rbind", "ro"]),
        ])
        .unwrap();
    assert_eq!(fs::read_to_string(through(&fd, "same")).unwrap(), "a");
    assert_eq!(fs::read_to_string(through(&fd, "dir/same")).unwrap(), "b", "the nested mount outlives its namespace");
    assert_eq!(mountinfo(), before);
}

#[test]
fn other_filesystems_are_mounted_read_only() {
    let scene = Scene::new();
    let fd = scene.open(&[mount_of("tmpfs", "tmpfs", "", &["size=64k", "mode=0751", "nosuid"])]).unwrap();
    let stat = rustix::fs::fstat(&fd).unwrap();
    assert_eq!(stat.st_mode & 0o777, 0o751);
    assert_eq!(fs::write(through(&fd, "new"), "").unwrap_err().raw_os_error(), Some(Errno::ROFS.raw_os_error()));
}

#[test]
fn what_cannot_be_mounted_is_refused_by_name() {
    let scene = Scene::new();
    let before = mountinfo();
    let cases = [
        (vec![], ErrorKind::InvalidInput, "no mounts"),
        (vec![mount_of("bind", "relative", "", &[])], ErrorKind::InvalidInput, "absolute"),
        (vec![mount_of("bind", &scene.path("nothing"), "", &[])], ErrorKind::NotFound, "nothing"),
        (vec![mount_of("overlay", "overlay", "", &[])], ErrorKind::InvalidInput, "lowerdir"),
        (vec![mount_of("ext4", "/img", "", &["loop"])], ErrorKind::Unsupported, "loop"),
        (vec![mount_of("fuse.x", "x", "", &[])], ErrorKind::Unsupported, "fuse.x"),
        (vec![mount_of("nosuchfs", "x", "", &[])], ErrorKind::Io, "nosuchfs"),
        (vec![mount_of("bind", &scene.path("a"), "missing", &[])], ErrorKind::Io, "a"),
    ];
    for (mounts, kind, word) in cases {
        let error = scene.open(&mounts).unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
        if word != "a" {
            assert_eq!(error.kind(), kind, "{error}");
        }
    }
    assert_eq!(mountinfo(), before);
}

#[test]
fn lists_of_directories_split_and_shorten() {
    assert_eq!(split_unescaped(r"/a\:b:/c\\:/d::/e"), [r"/a\:b", r"/c\\", "/d", "", "/e"]);
    assert_eq!(escape_colons(r"/a:b\:c"), r"/a\:b\:c");
    assert_eq!(unescape(r"/a\:b\\"), r"/a:b\");
    let parent = |paths: &[&str]| common_parent(&paths.iter().map(|p| p.to_string()).collect::<Vec<_>>()).to_owned();
    assert_eq!(parent(&["/s/1/fs", "/s/12/fs"]), "/s/");
    assert_eq!(parent(&["/s/1/fs", "/s/1/fs"]), "/s/1/");
    assert_eq!(parent(&["/s/1", "/s", "/s/1/fs"]), "/");
    assert_eq!(parent(&["/s/1/fs", "", "/s/2/fs"]), "/s/");
}

/// Not a test of its own: the process that [`a_killed_process_leaves_no_mount`] kills.
#[test]
fn holds_a_mount_until_killed() {
    let Some(source) = std::env::var_os("CONTINUITY_TEST_HOLD_MOUNT") else { return };
    let source = PathBuf::from(source);
    let fd = open(&[mount_of("bind", source.join("a").to_str().unwrap(), "", &[])], &source.join("mnt")).unwrap();
    assert_eq!(fs::read_to_string(through(&fd, "same")).unwrap(), "a");
    println!("\nmounted");
    std::thread::sleep(std::time::Duration::from_secs(600));
}

#[test]
fn a_killed_process_leaves_no_mount() {
    let scene = Scene::new();
    let before = mountinfo();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "mount::tests::holds_a_mount_until_killed", "--nocapture"])
        .env("CONTINUITY_TEST_HOLD_MOUNT", scene.dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "mounted"));
    let theirs = fs::read_to_string(format!("/proc/{}/mountinfo", child.id())).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!theirs.contains(&scene.path("mnt")));
    assert_eq!(mountinfo(), before);
    fs::remove_dir_all(scene.path("a")).unwrap();
    fs::remove_dir(scene.path("mnt")).unwrap();
}
