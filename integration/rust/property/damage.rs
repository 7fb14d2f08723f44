// SPDX-License-Identifier: Apache-2.0
//! One random damage to a directory of a layer.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, RenameFlags, XattrFlags};
use rustix::fs::{lremovexattr, lsetxattr, makedev, mknodat, renameat_with};

use crate::Outcome;
use crate::random::Random;
use crate::view::{self, shown};

/// overlayfs's mark of a directory that hides what lies below it.
const OPAQUE: &str = "trusted.overlay.opaque";

/// What was done to a directory, for a person; nothing if there was nothing to do it to.
type Done = Outcome<Option<String>>;

/// A name, and what does it.
type Kind = (&'static str, fn(&mut Scene<'_>) -> Done);

/// Kinds of damage, by name. Each is as likely as the others.
const KINDS: [Kind; 19] = [
    ("flip", flip),
    ("truncate", truncate),
    ("empty", empty),
    ("remove", remove),
    ("remove-tree", remove_tree),
    ("add-file", add_file),
    ("add-directory", add_directory),
    ("add-fifo", add_fifo),
    ("chmod", chmod),
    ("chown", chown),
    ("chgrp", chgrp),
    ("xattr-add", xattr_add),
    ("xattr-change", xattr_change),
    ("xattr-remove", xattr_remove),
    ("to-directory", to_directory),
    ("to-symlink", to_symlink),
    ("retarget", retarget),
    ("break-link", break_link),
    ("swap", swap),
];

/// Those of directories that are layers of an overlay.
const LAYERED_KINDS: [Kind; 3] =
    [("whiteout-remove", whiteout_remove), ("whiteout-add", whiteout_add), ("opaque-toggle", opaque_toggle)];

/// Kinds that are tried before an image counts as one that has nothing to damage.
const TRIES: usize = 60;

/// A directory that is to be damaged.
struct Scene<'a> {
    random: &'a mut Random,
    root: &'a Path,
    items: Vec<Item>,
    /// Paths that the directories below it have.
    below: Vec<PathBuf>,
}

/// Something in it.
#[derive(Clone)]
struct Item {
    /// Within the directory.
    path: PathBuf,
    metadata: Metadata,
}

impl Item {
    fn is_whiteout(&self) -> bool {
        self.metadata.file_type().is_char_device() && self.metadata.rdev() == 0
    }

    fn is_file(&self) -> bool {
        self.metadata.is_file()
    }
}

/// Damages one of the directories, the topmost first, in one way; which it was, and what was done.
pub fn inflict(random: &mut Random, directories: &[PathBuf], layered: bool) -> Outcome<Option<(usize, String)>> {
    let kinds = [&KINDS[..], if layered { &LAYERED_KINDS } else { &[] }].concat();
    for _ in 0..TRIES {
        let n = random.below(directories.len());
        let items = items(&directories[n])?;
        let mut below = Vec::new();
        for directory in &directories[n + 1..] {
            below.extend(self::items(directory)?.into_iter().map(|item| item.path));
        }
        let (name, kind) = *random.pick(&kinds);
        let mut scene = Scene { random, root: &directories[n], items, below };
        if let Some(done) = kind(&mut scene)? {
            return Ok(Some((n, format!("{name} {done}"))));
        }
    }
    Ok(None)
}

/// Everything beneath a directory, in an order that does not depend on the disk.
fn items(root: &Path) -> Outcome<Vec<Item>> {
    let mut items = Vec::new();
    let mut directories = vec![PathBuf::new()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(root.join(&directory))? {
            let path = directory.join(entry?.file_name());
            let metadata = fs::symlink_metadata(root.join(&path))?;
            if metadata.is_dir() {
                directories.push(path.clone());
            }
            items.push(Item { path, metadata });
        }
    }
    items.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(items)
}

impl Scene<'_> {
    /// One of the items that match, and where it lies.
    fn pick(&mut self, matches: impl Fn(&Item) -> bool) -> Option<(Item, PathBuf)> {
        let of: Vec<_> = self.items.iter().filter(|item| matches(item)).cloned().collect();
        if of.is_empty() {
            return None;
        }
        let item = self.random.pick(&of).clone();
        let place = self.root.join(&item.path);
        Some((item, place))
    }

    /// A new name in one of the directories, the root among them.
    fn new_place(&mut self) -> PathBuf {
        let directory = match self.random.percent(25) {
            true => self.root.to_owned(),
            false => self.pick(|item| item.metadata.is_dir()).map_or_else(|| self.root.to_owned(), |(_, place)| place),
        };
        directory.join(format!("extra-{}", self.random.below(1000)))
    }

    fn told(&self, place: &Path) -> String {
        shown(place.strip_prefix(self.root).unwrap_or(place).as_os_str().as_bytes())
    }
}

fn flip(scene: &mut Scene<'_>) -> Done {
    let Some((item, place)) = scene.pick(|item| item.is_file() && item.metadata.len() > 0) else { return Ok(None) };
    let at = scene.random.next() % item.metadata.len();
    let file = OpenOptions::new().read(true).write(true).open(&place)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    file.write_all_at(&[byte[0] ^ 0xff], at)?;
    Ok(Some(format!("byte {at} of {}", scene.told(&place))))
}

fn truncate(scene: &mut Scene<'_>) -> Done {
    let Some((item, place)) = scene.pick(|item| item.is_file() && item.metadata.len() > 1) else { return Ok(None) };
    let to = scene.random.next() % item.metadata.len();
    OpenOptions::new().write(true).open(&place)?.set_len(to)?;
    Ok(Some(format!("{} to {to} bytes", scene.told(&place))))
}

fn empty(scene: &mut Scene<'_>) -> Done {
    let Some((_, place)) = scene.pick(|item| item.is_file() && item.metadata.len() > 0) else { return Ok(None) };
    OpenOptions::new().write(true).open(&place)?.set_len(0)?;
    Ok(Some(scene.told(&place)))
}

fn remove(scene: &mut Scene<'_>) -> Done {
    let Some((_, place)) = scene.pick(|item| !item.metadata.is_dir() && !item.is_whiteout()) else { return Ok(None) };
    fs::remove_file(&place)?;
    Ok(Some(scene.told(&place)))
}

fn remove_tree(scene: &mut Scene<'_>) -> Done {
    let Some((_, place)) = scene.pick(|item| item.metadata.is_dir()) else { return Ok(None) };
    fs::remove_dir_all(&place)?;
    Ok(Some(scene.told(&place)))
}

fn add_file(scene: &mut Scene<'_>) -> Done {
    let place = scene.new_place();
    fs::write(&place, "extra")?;
    Ok(Some(scene.told(&place)))
}

fn add_directory(scene: &mut Scene<'_>) -> Done {
    let place = scene.new_place();
    fs::create_dir_all(place.join("deep/er"))?;
    fs::write(place.join("deep/er/file"), "extra")?;
    Ok(Some(scene.told(&place)))
}

fn add_fifo(scene: &mut Scene<'_>) -> Done {
    let place = scene.new_place();
    mknodat(CWD, &place, FileType::Fifo, Mode::from_raw_mode(0o644), 0)?;
    Ok(Some(scene.told(&place)))
}

fn chmod(scene: &mut Scene<'_>) -> Done {
    let Some((item, place)) = scene.pick(|item| !item.metadata.is_symlink()) else { return Ok(None) };
    let mode = (item.metadata.mode() & 0o7777) ^ *scene.random.pick(&[0o1, 0o200, 0o1000, 0o2000, 0o4000, 0o70]);
    fs::set_permissions(&place, Permissions::from_mode(mode))?;
    Ok(Some(format!("{} to {mode:o}", scene.told(&place))))
}

fn chown(scene: &mut Scene<'_>) -> Done {
    let Some((item, place)) = scene.pick(|_| true) else { return Ok(None) };
    lchown(&place, Some(item.metadata.uid() ^ 5), None)?;
    Ok(Some(scene.told(&place)))
}

fn chgrp(scene: &mut Scene<'_>) -> Done {
    let Some((item, place)) = scene.pick(|_| true) else { return Ok(None) };
    lchown(&place, None, Some(item.metadata.gid() ^ 5))?;
    Ok(Some(scene.told(&place)))
}

fn can_have_xattrs(item: &Item) -> bool {
    item.is_file() || item.metadata.is_dir()
}

fn xattr_add(scene: &mut Scene<'_>) -> Done {
    let Some((_, place)) = scene.pick(can_have_xattrs) else { return Ok(None) };
    lsetxattr(&place, "user.extra", b"extra", XattrFlags::empty())?;
    Ok(Some(format!("user.extra to {}", scene.told(&place))))
}

/// Something that has an attribute of the image's, and which.
fn attributed(scene: &mut Scene<'_>) -> Option<(PathBuf, String)> {
    let root = scene.root.to_owned();
    let names = |item: &Item| view::xattrs(&root.join(&item.path)).unwrap_or_default();
    let (item, place) = scene.pick(|item| can_have_xattrs(item) && !names(item).is_empty())?;
    let names: Vec<_> = names(&item).into_keys().collect();
    Some((place, scene.random.pick(&names).clone()))
}

fn xattr_change(scene: &mut Scene<'_>) -> Done {
    let Some((place, name)) = attributed(scene) else { return Ok(None) };
    if !name.starts_with("user.") {
        return Ok(None);
    }
    lsetxattr(&place, name.as_str(), b"changed, and longer than it was before", XattrFlags::empty())?;
    Ok(Some(format!("{name} of {}", scene.told(&place))))
}

fn xattr_remove(scene: &mut Scene<'_>) -> Done {
    let Some((place, name)) = attributed(scene) else { return Ok(None) };
    lremovexattr(&place, name.as_str())?;
    Ok(Some(format!("{name} of {}", scene.told(&place))))
}

fn to_directory(scene: &mut Scene<'_>) -> Done {
    let Some((_, place)) = scene.pick(|item| !item.metadata.is_dir()) else { return Ok(None) };
    fs::remove_file(&place)?;
    fs::create_dir(&place)?;
    fs::write(place.join("extra"), "extra")?;
    Ok(Some(scene.told(&place)))
}

fn to_symlink(scene: &mut Scene<'_>) -> Done {
    let Some((item, place)) = scene.pick(|item| !item.metadata.is_symlink()) else { return Ok(None) };
    match item.metadata.is_dir() {
        true => fs::remove_dir_all(&place)?,
        false => fs::remove_file(&place)?,
    }
    symlink(*scene.random.pick(&["seed", "..", "/", "a"]), &place)?;
    Ok(Some(scene.told(&place)))
}

fn retarget(scene: &mut Scene<'_>) -> Done {
    let Some((item, place)) = scene.pick(|item| item.metadata.is_symlink()) else { return Ok(None) };
    let mut target = fs::read_link(&place)?.into_os_string().into_vec();
    target.push(b'x');
    fs::remove_file(&place)?;
    symlink(Path::new(std::ffi::OsStr::from_bytes(&target)), &place)?;
    lchown(&place, Some(item.metadata.uid()), Some(item.metadata.gid()))?;
    Ok(Some(scene.told(&place)))
}

/// The same file, but for the inode.
fn break_link(scene: &mut Scene<'_>) -> Done {
    let Some((item, place)) = scene.pick(|item| item.is_file() && item.metadata.nlink() > 1) else { return Ok(None) };
    let (contents, xattrs) = (fs::read(&place)?, view::all_xattrs(&place)?);
    fs::remove_file(&place)?;
    fs::write(&place, contents)?;
    lchown(&place, Some(item.metadata.uid()), Some(item.metadata.gid()))?;
    for (name, value) in xattrs {
        lsetxattr(&place, name.as_str(), &value, XattrFlags::empty())?;
    }
    fs::set_permissions(&place, Permissions::from_mode(item.metadata.mode() & 0o7777))?;
    Ok(Some(scene.told(&place)))
}

fn whiteout_remove(scene: &mut Scene<'_>) -> Done {
    let Some((_, place)) = scene.pick(Item::is_whiteout) else { return Ok(None) };
    fs::remove_file(&place)?;
    Ok(Some(scene.told(&place)))
}

/// Of something that the layers below have, most of the time.
fn whiteout_add(scene: &mut Scene<'_>) -> Done {
    let (root, below) = (scene.root.to_owned(), std::mem::take(&mut scene.below));
    let free = |path: &&PathBuf| fs::symlink_metadata(root.join(path)).is_err();
    let beside = |path: &&PathBuf| path.parent().is_some_and(|above| is_directory(&root.join(above)));
    let hidden: Vec<_> = below.iter().filter(free).filter(beside).collect();
    let place = match hidden.is_empty() || scene.random.percent(20) {
        true => scene.new_place(),
        false => root.join(scene.random.pick(&hidden)),
    };
    mknodat(CWD, &place, FileType::CharacterDevice, Mode::empty(), makedev(0, 0))?;
    Ok(Some(scene.told(&place)))
}

fn is_directory(place: &Path) -> bool {
    fs::symlink_metadata(place).is_ok_and(|metadata| metadata.is_dir())
}

fn opaque_toggle(scene: &mut Scene<'_>) -> Done {
    let Some((_, place)) = scene.pick(|item| item.metadata.is_dir()) else { return Ok(None) };
    let verb = match lremovexattr(&place, OPAQUE) {
        Ok(()) => "off",
        Err(_) => {
            lsetxattr(&place, OPAQUE, b"y", XattrFlags::empty())?;
            "on"
        }
    };
    Ok(Some(format!("{verb}: {}", scene.told(&place))))
}

/// Two files, for one another; inodes and all.
fn swap(scene: &mut Scene<'_>) -> Done {
    let Some((first, place)) = scene.pick(Item::is_file) else { return Ok(None) };
    let other = |item: &Item| item.is_file() && item.metadata.ino() != first.metadata.ino();
    let Some((_, second)) = scene.pick(other) else { return Ok(None) };
    renameat_with(CWD, &place, CWD, &second, RenameFlags::EXCHANGE)?;
    Ok(Some(format!("{} and {}", scene.told(&place), scene.told(&second))))
}

/// Makes sure that a directory is there and empty.
pub fn fresh(place: &Path) -> Outcome {
    if place.exists() {
        fs::remove_dir_all(place)?;
    }
    fs::create_dir_all(place)?;
    File::open(place)?;
    Ok(())
}
