// SPDX-License-Identifier: Apache-2.0
//! What a container's runtime makes in its root filesystem, to have something to mount on.

use std::collections::HashSet;

use crate::containerd::RuntimeSpec;
use crate::error::Result;
use crate::inode::FileType;
use crate::manifest::Resource;
use crate::tree::Root;

/// Symlinks that a path may lead through: as many as the kernel follows.
const LINKS_MAX: usize = 40;

/// The paths where something may have been made: where the specification mounts, and the directories above.
pub(super) struct MountPoints(HashSet<Vec<u8>>);

impl MountPoints {
    /// Of a container, whose root filesystem has the symlinks that its runtime has followed.
    ///
    /// # Errors
    /// It can't be read.
    pub(super) fn of(spec: &RuntimeSpec, root: &Root) -> Result<Self> {
        let mut paths = HashSet::new();
        for place in &spec.places {
            let Some(path) = follow(root, place.as_bytes())? else { continue };
            let ends = path.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/').map(|(n, _)| n);
            paths.extend(ends.chain([path.len()]).map(|end| path[..end].to_vec()));
        }
        Ok(Self(paths))
    }

    /// Whether what lies at a path was made to mount on, or could be: an empty file, or a directory that has nothing
    /// else in it.
    ///
    /// # Errors
    /// It can't be read.
    pub(super) fn explain(&self, root: &Root, path: &[u8], found: &Resource) -> Result<bool> {
        self.is_made(root, path, found.mode.file_type(), found.size)
    }

    fn is_made(&self, root: &Root, path: &[u8], file_type: FileType, size: u64) -> Result<bool> {
        match file_type {
            _ if !self.0.contains(path) => Ok(false),
            FileType::Regular => Ok(size == 0),
            FileType::Directory => {
                for name in root.names(path)? {
                    let within = [path, b"/", &name].concat();
                    let made = match root.metadata(&within)? {
                        Some(found) => self.is_made(root, &within, found.file_type, found.size)?,
                        None => true,
                    };
                    if !made {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}

/// Where a path leads within a root, as a runtime resolves it: symlinks are followed and do not leave, and what is
/// missing is still to be made. None for a loop.
fn follow(root: &Root, path: &[u8]) -> Result<Option<Vec<u8>>> {
    let components = |path: &[u8]| path.split(|&byte| byte == b'/').rev().map(<[u8]>::to_vec).collect::<Vec<_>>();
    let mut rest = components(path);
    let mut at = Vec::new();
    let mut links = 0;
    while let Some(name) = rest.pop() {
        match name.as_slice() {
            b"" | b"." => {}
            b".." => at.truncate(at.iter().rposition(|&byte| byte == b'/').unwrap_or(0)),
            name => {
                let next = [&at[..], b"/", name].concat();
                match root.read_link(&next)? {
                    Some(_) if links == LINKS_MAX => return Ok(None),
                    Some(target) => {
                        links += 1;
                        if target.first() == Some(&b'/') {
                            at.clear();
                        }
                        rest.extend(components(&target));
                    }
                    None => at = next,
                }
            }
        }
    }
    Ok(Some(at))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_is_empty_and_mounted_on_was_made_for_that() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["dev", "proc/left", "run/secrets/token", "etc", "srv", "data/vol", "loop"] {
            fs::create_dir_all(dir.path().join(path)).unwrap();
        }
        for (path, text) in [("etc/hosts", ""), ("etc/resolv.conf", "x"), ("etc/other", ""), ("data/vol/file", "")] {
            fs::write(dir.path().join(path), text).unwrap();
        }
        fs::create_dir_all(dir.path().join("var")).unwrap();
        symlink("../run", dir.path().join("var/run")).unwrap();
        symlink("/srv/../loop/b", dir.path().join("loop/a")).unwrap();
        symlink("a", dir.path().join("loop/b")).unwrap();
        symlink("nowhere", dir.path().join("link")).unwrap();
        let root = Root::open(dir.path()).unwrap();
        let places = [
            "/dev",
            "proc",
            "/var/run/secrets/token",
            "/etc/hosts",
            "/etc/./resolv.conf",
            "/data/vol",
            "/srv/../../srv",
            "/loop/a/x",
            "/link",
            "/not/there",
        ];
        let spec = RuntimeSpec { places: places.map(Into::into).into() };
        let points = MountPoints::of(&spec, &root).unwrap();
        for (path, expected) in [
            ("/dev", true),
            ("/run", true),
            ("/run/secrets", true),
            ("/run/secrets/token", true),
            ("/srv", true),
            ("/etc/hosts", true),
            // Something is in them.
            ("/proc", false),
            ("/proc/left", false),
            ("/etc/resolv.conf", false),
            ("/data", false),
            ("/data/vol", false),
            // Nothing is mounted there, or it is no file or directory.
            ("/etc/other", false),
            ("/etc", false),
            ("/link", false),
            ("/var", false),
            ("/loop/a", false),
        ] {
            let found = root.metadata(path.as_bytes()).unwrap().unwrap();
            let made = points.is_made(&root, path.as_bytes(), found.file_type, found.size).unwrap();
            assert_eq!(made, expected, "{path}");
        }
    }

    #[test]
    fn a_path_is_followed_and_stays_within() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        symlink("/a", dir.path().join("absolute")).unwrap();
        symlink("../../../a/b", dir.path().join("a/up")).unwrap();
        symlink("self", dir.path().join("self")).unwrap();
        let root = Root::open(dir.path()).unwrap();
        for (path, leads) in [
            ("/a/b", Some("/a/b")),
            ("a//b/./c/", Some("/a/b/c")),
            ("/../../a", Some("/a")),
            ("/absolute/b/x", Some("/a/b/x")),
            ("/a/up/../new", Some("/a/new")),
            ("/self/x", None),
            ("/", Some("")),
        ] {
            let found = follow(&root, path.as_bytes()).unwrap();
            assert_eq!(found.as_deref(), leads.map(str::as_bytes), "{path}");
        }
    }
}
