// SPDX-License-Identifier: Apache-2.0
//! Mount tables, as the kernel tells them: proc_pid_mountinfo(5).

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountEntry {
    /// Number of the mount, unique in the whole system.
    pub id: u64,
    /// `major:minor` of the filesystem.
    pub device: Vec<u8>,
    /// The directory of the filesystem that is mounted; `/` unless it is a bind mount or a subvolume.
    pub root: Vec<u8>,
    /// Where, as a process of the table's namespace sees it.
    pub point: PathBuf,
    /// Type of the filesystem.
    pub kind: String,
    /// Options of the filesystem, in order. A colon within a path is `\:`, as overlayfs takes it.
    pub options: Vec<String>,
}

/// The mounts of one mount namespace.
#[derive(Debug)]
pub struct MountTable {
    /// A process of it; none for our own.
    pub process: Option<u32>,
    /// In the order of the kernel's.
    pub mounts: Vec<MountEntry>,
}

/// Where a directory lies, by whatever path it was reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// `major:minor` of its filesystem.
    device: Vec<u8>,
    /// Within the filesystem.
    path: Vec<u8>,
    /// Where the mount is that it was reached through.
    point: PathBuf,
}

/// The mounts that the calling process sees.
///
/// # Errors
/// No procfs.
pub fn own() -> io::Result<Vec<MountEntry>> {
    Ok(parse(&fs::read("/proc/self/mountinfo")?))
}

/// The mounts of every mount namespace that a process is in; our own first. Processes that may not be looked into are
/// passed over.
///
/// # Errors
/// No procfs.
pub fn all() -> io::Result<Vec<MountTable>> {
    let mut seen = BTreeSet::from([fs::read_link("/proc/self/ns/mnt")?]);
    let mut tables = vec![MountTable { process: None, mounts: own()? }];
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(process) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        let directory = Path::new("/proc").join(&name);
        let Ok(namespace) = fs::read_link(directory.join("ns/mnt")) else { continue };
        if seen.contains(&namespace) {
            continue;
        }
        // It may have ended meanwhile: then another process of the namespace is asked.
        if let Ok(table) = fs::read(directory.join("mountinfo")) {
            seen.insert(namespace);
            tables.push(MountTable { process: Some(process), mounts: parse(&table) });
        }
    }
    Ok(tables)
}

impl Location {
    /// Of an open directory; none if its mount is in no table, as a detached one is.
    ///
    /// # Errors
    /// No procfs.
    pub fn of(directory: BorrowedFd<'_>) -> io::Result<Option<Self>> {
        let number = directory.as_raw_fd();
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{number}"))?;
        let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse::<u64>().ok());
        let path = fs::read_link(format!("/proc/self/fd/{number}"))?;
        Ok(own()?.into_iter().find(|mount| Some(mount.id) == id).and_then(|mount| {
            let rest = path.strip_prefix(&mount.point).ok()?;
            let path = Path::new(OsStr::from_bytes(&mount.root)).join(rest);
            Some(Self { device: mount.device, path: path.as_os_str().as_bytes().to_vec(), point: mount.point })
        }))
    }

    /// Whether a mount shows the directory, or something in it, elsewhere: a bind mount.
    pub fn is_bound_by(&self, mount: &MountEntry) -> bool {
        let beneath = |rest: &[u8]| rest.is_empty() || rest[0] == b'/' || self.path == b"/";
        mount.device == self.device
            && mount.point != self.point
            && mount.root.strip_prefix(self.path.as_slice()).is_some_and(beneath)
    }
}

fn parse(table: &[u8]) -> Vec<MountEntry> {
    table.split(|&byte| byte == b'\n').filter_map(parse_line).collect()
}

/// `36 35 98:0 /root /point rw,noatime shared:1 - ext4 /dev/root rw,errors=continue`
fn parse_line(line: &[u8]) -> Option<MountEntry> {
    let mut fields = line.split(|&byte| byte == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let device = fields.nth(1)?.to_vec();
    let root = unescape(fields.next()?, false);
    let point = PathBuf::from(OsStr::from_bytes(&unescape(fields.next()?, false)));
    let mut fields = fields.skip_while(|field| *field != b"-").skip(1);
    let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
    let kind = text(fields.next()?);
    let options = fields.nth(1).unwrap_or_default().split(|&byte| byte == b',');
    let options = options.map(|option| text(&unescape(option, true))).collect();
    Some(MountEntry { id, device, root, point, kind, options })
}

/// Undoes the kernel's `\ooo`; in options, an escaped colon stays one that does not separate.
fn unescape(text: &[u8], option: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.filter(|_| byte == b'\\').and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(unescaped) => {
                if option && unescaped == b':' {
                    out.push(b'\\');
                }
                out.push(unescaped);
                rest = &after[3..];
            }
            None => {
                out.push(byte);
                rest = after;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_line_is_taken_apart() {
        let line = br"36 35 98:0 /a\040b /mnt/x\134y rw,noatime shared:1 master:2 - overlay overlay rw,lowerdir=/a\072b:/c\134:d,upperdir=/u\054v";
        let mount = parse_line(line).unwrap();
        assert_eq!((mount.id, mount.device.as_slice(), mount.root.as_slice()), (36, &b"98:0"[..], &b"/a b"[..]));
        assert_eq!((mount.point.to_str(), mount.kind.as_str()), (Some(r"/mnt/x\y"), "overlay"));
        assert_eq!(mount.options, ["rw", r"lowerdir=/a\:b:/c\:d", "upperdir=/u,v"]);
        for bad in ["", "36", "36 35 98:0 / /mnt rw", "x 35 98:0 / /mnt rw - ext4 /dev/x rw"] {
            assert_eq!(parse_line(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn our_own_table_is_one_of_all() {
        let own = own().unwrap();
        assert!(own.iter().any(|mount| mount.point == Path::new("/proc")));
        assert_eq!(all().unwrap()[0].mounts, own);
    }

    #[test]
    fn a_directory_is_bound_by_mounts_of_it_and_of_what_is_in_it() {
        let at = |path: &str| Location { device: b"8:1".into(), path: path.into(), point: "/var".into() };
        let mount = |device: &str, root: &str, point: &str| MountEntry {
            id: 1,
            device: device.into(),
            root: root.into(),
            point: point.into(),
            kind: "ext4".into(),
            options: Vec::new(),
        };
        let layer = at("/lib/layers/3");
        assert!(layer.is_bound_by(&mount("8:1", "/lib/layers/3", "/mnt")));
        assert!(layer.is_bound_by(&mount("8:1", "/lib/layers/3/etc", "/mnt")));
        assert!(!layer.is_bound_by(&mount("8:1", "/lib/layers/31", "/mnt")));
        assert!(!layer.is_bound_by(&mount("8:1", "/lib", "/mnt")));
        assert!(!layer.is_bound_by(&mount("8:2", "/lib/layers/3", "/mnt")));
        // The layer is a filesystem of its own: where that is mounted is no other use of it.
        assert!(!at("/").is_bound_by(&mount("8:1", "/", "/var")));
        assert!(at("/").is_bound_by(&mount("8:1", "/", "/mnt")));
    }

    #[test]
    fn a_directory_is_found_in_its_filesystem() {
        let dir = tempfile::tempdir().unwrap();
        let open = fs::File::open(dir.path()).unwrap();
        let location = Location::of(open.as_fd()).unwrap().unwrap();
        let name = dir.path().file_name().unwrap().as_bytes();
        assert!(location.path.ends_with(name), "{location:?}");
        assert!(own().unwrap().iter().any(|mount| mount.point == location.point && mount.device == location.device));
    }
}
