// SPDX-License-Identifier: Apache-2.0
//! What a container sees of layers, by the kernel and nothing else: what is right and what has changed is decided here.
//! Nothing of what is tested takes part.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{lgetxattr, llistxattr};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::Outcome;
use crate::layout::digest;

/// Attributes that hosts put on by themselves, and overlayfs's own: no manifest has them.
const NOT_THE_IMAGES: [&str; 9] = [
    "security.selinux",
    "security.ima",
    "security.evm",
    "security.SMACK64",
    "system.nfs4_",
    "btrfs.",
    "lustre.",
    "trusted.overlay.",
    "user.overlay.",
];

/// Bytes of an attribute, or of the names of all, at most.
const XATTR_MAX: usize = 64 << 10;

/// Everything that a manifest records of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub kind: &'static str,
    pub mode: u32,
    pub owner: (u32, u32),
    pub size: u64,
    /// Of a file.
    pub contents: String,
    /// Of a symlink.
    pub target: Vec<u8>,
    pub device: u64,
    pub xattrs: BTreeMap<String, Vec<u8>>,
    /// The first path of the same inode, if it has several.
    pub first: Option<Vec<u8>>,
}

/// Paths, beginning with `/`, without the root itself.
pub type View = BTreeMap<Vec<u8>, Node>;

/// What directories show: layers' through an overlay of them, the topmost first, or the one that has everything. In
/// `place` are the place to mount it and an empty layer besides: an overlay wants two.
pub fn of(directories: &[PathBuf], layered: bool, place: &Path) -> Outcome<View> {
    if !layered {
        return of_tree(&directories[0]);
    }
    let lowest = place.join("lowest");
    let merged = place.join("merged");
    fs::create_dir_all(&lowest)?;
    fs::create_dir_all(&merged)?;
    let joined: Vec<_> = directories.iter().chain([&lowest]).map(|path| path.to_string_lossy().into_owned()).collect();
    let options = std::ffi::CString::new(format!("lowerdir={}", joined.join(":")))?;
    mount("overlay", &merged, "overlay", MountFlags::RDONLY, options.as_c_str())?;
    let view = of_tree(&merged);
    unmount(&merged, UnmountFlags::DETACH)?;
    view
}

fn of_tree(root: &Path) -> Outcome<View> {
    let mut view = View::new();
    let mut inodes = HashMap::new();
    walk(root, b"", &mut view, &mut inodes)?;
    let groups: Vec<BTreeSet<Vec<u8>>> = inodes.into_values().filter(|paths: &BTreeSet<_>| paths.len() > 1).collect();
    for paths in groups {
        for path in &paths {
            if let Some(node) = view.get_mut(path) {
                node.first = paths.first().cloned();
            }
        }
    }
    Ok(view)
}

type Inodes = HashMap<(u64, u64), BTreeSet<Vec<u8>>>;

fn walk(directory: &Path, above: &[u8], view: &mut View, inodes: &mut Inodes) -> Outcome {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let (place, path) = (entry.path(), [above, b"/", entry.file_name().as_bytes()].concat());
        let metadata = match fs::symlink_metadata(&place) {
            // A directory of one layer alone lists its whiteouts, and has nothing there.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            metadata => metadata?,
        };
        let node = node(&place, &metadata)?;
        if !matches!(node.kind, "directory" | "symlink") {
            inodes.entry((metadata.dev(), metadata.ino())).or_default().insert(path.clone());
        }
        if node.kind == "directory" {
            walk(&place, &path, view, inodes)?;
        }
        view.insert(path, node);
    }
    Ok(())
}

fn node(place: &Path, metadata: &fs::Metadata) -> Outcome<Node> {
    let file_type = metadata.file_type();
    let kind = match () {
        () if file_type.is_dir() => "directory",
        () if file_type.is_file() => "file",
        () if file_type.is_symlink() => "symlink",
        () if file_type.is_fifo() => "fifo",
        () if file_type.is_char_device() => "character device",
        () if file_type.is_block_device() => "block device",
        () => "something else",
    };
    let file = kind == "file";
    Ok(Node {
        kind,
        mode: metadata.mode() & 0o7777,
        owner: (metadata.uid(), metadata.gid()),
        size: if file { metadata.size() } else { 0 },
        contents: if file { digest(&fs::read(place)?) } else { String::new() },
        target: match file_type.is_symlink() {
            true => fs::read_link(place)?.as_os_str().as_bytes().to_vec(),
            false => Vec::new(),
        },
        device: if kind.ends_with("device") { metadata.rdev() } else { 0 },
        xattrs: if matches!(kind, "file" | "directory") { xattrs(place)? } else { BTreeMap::new() },
        first: None,
    })
}

/// Those that are the image's, whatever the host does.
pub fn xattrs(place: &Path) -> Outcome<BTreeMap<String, Vec<u8>>> {
    let mut xattrs = all_xattrs(place)?;
    xattrs.retain(|name, _| !NOT_THE_IMAGES.iter().any(|other| name.starts_with(other)));
    Ok(xattrs)
}

/// Every one.
pub fn all_xattrs(place: &Path) -> Outcome<BTreeMap<String, Vec<u8>>> {
    let mut names = vec![0; XATTR_MAX];
    let length = llistxattr(place, &mut names)?;
    let mut xattrs = BTreeMap::new();
    for name in names[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        let name = String::from_utf8_lossy(name).into_owned();
        let mut value = vec![0; XATTR_MAX];
        let length = lgetxattr(place, name.as_str(), &mut value)?;
        value.truncate(length);
        xattrs.insert(name, value);
    }
    Ok(xattrs)
}

/// The paths at which two views differ.
pub fn changes(before: &View, after: &View) -> BTreeSet<Vec<u8>> {
    let paths: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    paths.into_iter().filter(|path| before.get(*path) != after.get(*path)).cloned().collect()
}

/// A path for a person.
pub fn shown(path: &[u8]) -> String {
    path.escape_ascii().to_string()
}
