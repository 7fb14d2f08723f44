// SPDX-License-Identifier: Apache-2.0
//! One entry of each kind, at a random place.

use super::{Maker, Of, Path, ancestors, cleaned, whiteout_of};
use crate::features::Feature;
use crate::tar::{Entry, Form, Kind};

/// Bytes of a large file.
const LARGE: usize = 70_000;

/// A sparse file's holes are so long.
const HOLE: u64 = 20_000;

impl Maker<'_> {
    fn contents(&mut self) -> Vec<u8> {
        if self.random.percent(40) {
            return self.random.pick(&self.contents).clone();
        }
        let length = match self.random.percent(5) {
            true => LARGE + self.random.below(LARGE),
            false => 1 + self.random.below(1500),
        };
        let contents = self.random.bytes(length);
        self.contents.push(contents.clone());
        contents
    }

    pub(super) fn file(&mut self) {
        let (path, contents) = (self.path(), self.contents());
        self.put(path, Of::File, Kind::File(contents));
    }

    pub(super) fn sparse(&mut self) {
        let old = self.random.percent(50);
        let mut pieces = Vec::new();
        let mut at = 0;
        for _ in 0..self.random.below(4) {
            at += 512 * (1 + self.random.next() % (HOLE / 512));
            let length = 1 + self.random.below(600);
            pieces.push((at, self.random.bytes(length)));
            at += length as u64;
        }
        let size = at + self.random.next() % HOLE;
        pieces.push((size, Vec::new()));
        let path = self.path();
        self.put(path, Of::File, Kind::Sparse { size, pieces, old });
    }

    pub(super) fn directory(&mut self) {
        let path = self.path();
        self.put(path, Of::Directory, Kind::Directory);
    }

    pub(super) fn symlink(&mut self) {
        let targets: [&[u8]; 11] = [
            b"a",
            b"b/a",
            b"../b",
            b"/a",
            b"/a/../b",
            b"../../c",
            b"..",
            b"/",
            b"missing",
            b"/../a/./b",
            b"/none/../d",
        ];
        let target = targets[self.random.below(targets.len())].to_vec();
        let path = self.path();
        self.put(path, Of::Symlink, Kind::Symlink(target));
    }

    pub(super) fn special(&mut self) {
        let path = self.path();
        let kind = match self.random.below(4) {
            0 if self.has(Feature::DeviceZero) && self.random.percent(30) => Kind::Char(0, 0),
            0 if self.has(Feature::Devices) => Kind::Char(1, 3),
            1 if self.has(Feature::Devices) => Kind::Block(8, 1),
            2 if self.has(Feature::Devices) => Kind::Char(4095, 70_000),
            _ if self.has(Feature::Fifos) => Kind::Fifo,
            _ => return,
        };
        self.put(path, Of::Special, kind);
    }

    /// A hard link to something that this layer has put there, named in one of several ways.
    pub(super) fn link(&mut self) {
        let allowed = |of: Of| match of {
            Of::File => true,
            Of::Symlink => self.has(Feature::LinkSymlinks),
            Of::Special => self.has(Feature::LinkSpecials),
            Of::Directory => false,
        };
        let targets: Vec<_> =
            self.own.iter().filter(|(_, of)| allowed(**of)).map(|(path, of)| (path.clone(), *of)).collect();
        if targets.is_empty() {
            return;
        }
        let ((target, of), path) = (self.random.pick(&targets).clone(), self.path());
        // What the path replaces must not be the target, nor lie above it.
        if target.starts_with(&path) || !self.fits(&path, of) {
            return;
        }
        let mut written = target.clone();
        if self.now(Feature::OddNames, 30) {
            let before: [&[u8]; 3] = [b"./", b"/", b"../"];
            written = [before[self.random.below(before.len())], &written].concat();
        }
        self.parents(&path);
        let mut entry = self.described(path.clone(), of, Kind::Link(written));
        if !self.now(Feature::LinkAttributes, 50) {
            self.as_the_target(&target, &mut entry);
        }
        self.entries.push(entry);
        self.note(path, of);
    }

    /// As tools write links: the header says the same of both.
    fn as_the_target(&self, target: &[u8], entry: &mut Entry) {
        let same = |other: &&Entry| cleaned(&other.name) == target && !matches!(other.kind, Kind::Global(_));
        if let Some(other) = self.entries.iter().rev().find(same) {
            (entry.mode, entry.uid, entry.gid) = (other.mode, other.uid, other.gid);
            entry.xattrs.clone_from(&other.xattrs);
            entry.form = if entry.form == Form::Old { Form::Pax } else { other.form };
        }
    }

    pub(super) fn whiteout(&mut self) {
        let missing = self.now(Feature::WhiteoutMissing, 25);
        let hidden: Vec<Path> = self.shown.keys().filter(|path| !self.own.contains_key(*path)).cloned().collect();
        let path = match missing || hidden.is_empty() {
            true if self.has(Feature::WhiteoutMissing) => self.path(),
            true => return,
            false => self.random.pick(&hidden).clone(),
        };
        // A whiteout of what the layer itself has is refused, where whiteouts are devices.
        let refused = self.own.contains_key(&path) || self.whiteouts.contains(&path);
        if (refused && !self.dares()) || !self.fits(&path, Of::File) {
            return;
        }
        self.parents(&path);
        self.mark(whiteout_of(&path));
        self.forget_below(&path);
        self.shown.remove(&path);
        self.own.remove(&path);
        self.whiteouts.insert(path);
    }

    pub(super) fn opaque(&mut self) {
        let directories: Vec<Path> =
            self.shown.iter().filter(|(_, of)| **of == Of::Directory).map(|(path, _)| path.clone()).collect();
        let directory = match self.now(Feature::OpaqueRoot, 10) {
            true => Vec::new(),
            false if directories.is_empty() => return,
            false => self.random.pick(&directories).clone(),
        };
        let mark =
            if directory.is_empty() { b".wh..wh..opq".to_vec() } else { [&directory[..], b"/.wh..wh..opq"].concat() };
        if !self.fits(&mark, Of::File) {
            return;
        }
        self.parents(&mark);
        self.mark(mark);
        let beneath = |path: &[u8]| directory.is_empty() || path.starts_with(&[&directory[..], b"/"].concat());
        let own = &self.own;
        self.shown.retain(|path, _| own.contains_key(path) || !beneath(path));
    }

    /// An empty file that is a mark to containerd.
    fn mark(&mut self, path: Path) {
        let mut entry = self.described(path, Of::File, Kind::File(Vec::new()));
        entry.xattrs.clear();
        entry.form = if entry.form == Form::Old { Form::Pax } else { entry.form };
        self.entries.push(entry);
    }

    pub(super) fn global(&mut self) {
        let records = vec![("comment".to_owned(), b"of no meaning".to_vec())];
        let mut name = b"pax_global_header".to_vec();
        if self.now(Feature::GlobalNames, 60) {
            name = self.path();
            let lacks_parents = ancestors(&name).any(|above| self.whiteouts.contains(above));
            if lacks_parents || self.directories.contains(&name) || !self.fits(&name, Of::File) {
                return;
            }
            let whiteout = self.random.percent(30) && !self.own.contains_key(&name) && !self.whiteouts.contains(&name);
            self.forget_below(&name);
            self.shown.remove(&name);
            self.own.remove(&name);
            self.whiteouts.remove(&name);
            if whiteout {
                self.whiteouts.insert(name.clone());
                name = whiteout_of(&name);
            }
        }
        let form = Form::Pax;
        let kind = Kind::Global(records);
        self.entries.push(Entry { name, kind, mode: 0o644, uid: 0, gid: 0, xattrs: Vec::new(), form });
    }
}
