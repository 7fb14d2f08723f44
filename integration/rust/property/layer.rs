// SPDX-License-Identifier: Apache-2.0
//! Random layers over a small vocabulary of paths, so that they collide.
//!
//! A rough model of what lies where keeps most of them to what containerd takes. It decides nothing else: what is right is
//! what containerd has unpacked.

use std::collections::{BTreeMap, BTreeSet};

use crate::attributes::{self, Of};
use crate::features::{Feature, Features};
use crate::random::Random;
use crate::tar::{Entry, Form, Kind};

/// Entries of a layer that are asked for; parents come besides.
const ENTRIES_MAX: usize = 20;

/// One in so many entries that do not fit is made.
const DARES: usize = 400;

/// Bytes of a large file.
const LARGE: usize = 70_000;

/// A sparse file's holes are so long.
const HOLE: u64 = 20_000;

type Path = Vec<u8>;

/// See the [module](self).
pub struct Maker<'a> {
    random: &'a mut Random,
    features: Features,
    /// What the layers so far show, and what this one has put there.
    shown: BTreeMap<Path, Of>,
    own: BTreeMap<Path, Of>,
    /// Where this layer has whiteouts: nothing is put beneath one before a directory has replaced it.
    whiteouts: BTreeSet<Path>,
    /// What has a directory's entry in this layer. Their times are set at the end, wherever their names lead then.
    directories: BTreeSet<Path>,
    entries: Vec<Entry>,
    /// Contents that were used before.
    contents: Vec<Vec<u8>>,
    first: bool,
}

impl<'a> Maker<'a> {
    pub fn new(random: &'a mut Random, features: Features) -> Self {
        let contents = vec![Vec::new(), b"x".to_vec(), b"hello, world\n".to_vec()];
        let (shown, own) = (BTreeMap::new(), BTreeMap::new());
        let (whiteouts, directories) = (BTreeSet::new(), BTreeSet::new());
        Self { random, features, shown, own, whiteouts, directories, entries: Vec::new(), contents, first: true }
    }

    /// One more layer. The first has a file called after the seed: no two images share a layer.
    pub fn layer(&mut self, seed: u64) -> Vec<Entry> {
        self.own.clear();
        self.whiteouts.clear();
        self.directories.clear();
        if self.first {
            self.put(b"seed".to_vec(), Of::File, Kind::File(seed.to_string().into_bytes()));
        }
        let wanted = self.random.below(ENTRIES_MAX);
        for _ in 0..wanted {
            self.entry();
        }
        self.first = false;
        std::mem::take(&mut self.entries)
    }

    fn has(&self, feature: Feature) -> bool {
        self.features.has(feature)
    }

    fn now(&mut self, feature: Feature, percent: usize) -> bool {
        self.has(feature) && self.random.percent(percent)
    }

    /// Whether to do what containerd will refuse, most likely.
    fn dares(&mut self) -> bool {
        self.random.below(DARES) == 0
    }

    fn entry(&mut self) {
        match self.random.below(100) {
            0..32 => self.file(),
            32..48 => self.directory(),
            48..58 if self.has(Feature::Symlinks) => self.symlink(),
            58..69 if self.has(Feature::HardLinks) => self.link(),
            69..74 => self.special(),
            74..86 if self.has(Feature::Whiteouts) => self.whiteout(),
            86..91 if self.has(Feature::Opaque) => self.opaque(),
            91..94 if self.has(Feature::Global) => self.global(),
            94..97 if self.has(Feature::SparsePax) => self.sparse(),
            _ => self.file(),
        }
    }

    /// A path that something may be put at.
    fn path(&mut self) -> Path {
        let mut path = Vec::new();
        for n in 0..1 + self.random.below(3) {
            if n > 0 {
                path.push(b'/');
            }
            let component = self.component();
            path.extend(component);
        }
        path
    }

    fn component(&mut self) -> Vec<u8> {
        if (self.has(Feature::LongPax) || self.has(Feature::LongGnu)) && self.random.percent(3) {
            return vec![b'n'; 60 + self.random.below(140)];
        }
        if self.now(Feature::Bytes, 5) {
            let odd: [&[u8]; 5] = ["é".as_bytes(), b"\xff\xfe", b"two words", b"new\nline", b"a:b,c\\d"];
            return odd[self.random.below(odd.len())].to_vec();
        }
        vec![*self.random.pick(b"aabbcd")]
    }

    /// Whether something of this kind may be put there, by what is there now.
    fn fits(&mut self, path: &[u8], of: Of) -> bool {
        let above = ancestors(path).map(|above| self.shown.get(above).copied()).collect::<Vec<_>>();
        for above in above.into_iter().flatten() {
            let passable = above == Of::Directory || (above == Of::Symlink && self.now(Feature::Through, 30));
            if !passable && !self.dares() {
                return false;
            }
        }
        let same = |there: Option<&Of>| there.is_none_or(|there| *there == Of::Directory && of == Of::Directory);
        if !same(self.own.get(path)) && !self.has(Feature::Duplicates) {
            return false;
        }
        let leads_astray = |other: &Path| (of == Of::Symlink && other == path) || is_beneath(path, other);
        if of != Of::Directory && self.directories.iter().any(leads_astray) && !self.dares() {
            return false;
        }
        self.shown.get(path).is_none_or(|there| *there == of) || self.has(Feature::Replace)
    }

    /// An entry at a path that is free, with parents.
    fn put(&mut self, path: Path, of: Of, kind: Kind) {
        if !self.fits(&path, of) {
            return;
        }
        self.parents(&path);
        let entry = self.described(path.clone(), of, kind);
        self.entries.push(entry);
        self.note(path, of);
    }

    /// What is there now, to the model.
    fn note(&mut self, path: Path, of: Of) {
        if of != Of::Directory {
            self.forget_below(&path);
        }
        self.whiteouts.remove(&path);
        self.shown.insert(path.clone(), of);
        self.own.insert(path, of);
    }

    fn forget_below(&mut self, path: &[u8]) {
        self.shown.retain(|other, _| !is_beneath(path, other));
        self.own.retain(|other, _| !is_beneath(path, other));
    }

    /// Entries for the directories above it that have none in this layer, or only the need of them.
    fn parents(&mut self, path: &[u8]) {
        let above: Vec<Path> = ancestors(path).map(<[u8]>::to_vec).collect();
        for above in above {
            if self.own.contains_key(&above) || self.shown.get(&above).is_some_and(|of| *of == Of::Symlink) {
                continue;
            }
            if self.whiteouts.remove(&above) || !self.now(Feature::Implied, 50) {
                let entry = self.described(above.clone(), Of::Directory, Kind::Directory);
                self.entries.push(entry);
            }
            self.note(above, Of::Directory);
        }
    }

    /// The entry with random attributes, in a random form.
    fn described(&mut self, path: Path, of: Of, kind: Kind) -> Entry {
        let mode = attributes::mode(self.random, self.features, of);
        let uid = attributes::owner(self.random, self.features);
        let gid = attributes::owner(self.random, self.features);
        let mut xattrs = attributes::xattrs(self.random, self.features, of);
        let form = self.form(&path, &kind, &xattrs, uid.max(gid));
        if !matches!(form, Form::Pax | Form::PaxSign | Form::Old) {
            xattrs.clear();
        }
        if matches!(kind, Kind::Directory) {
            self.directories.insert(path.clone());
        }
        let name = self.written(path, of);
        Entry { name, kind, mode, uid, gid, xattrs, form }
    }

    fn form(&mut self, path: &[u8], kind: &Kind, xattrs: &[(String, Vec<u8>)], id: u64) -> Form {
        let long = path.len() > 90;
        if long && self.has(Feature::LongGnu) && (!self.has(Feature::LongPax) || self.random.percent(50)) {
            return Form::Gnu;
        }
        if matches!(kind, Kind::Sparse { .. } | Kind::Global(_)) || long || id > 0o7_777_777 {
            return Form::Pax;
        }
        if self.now(Feature::GnuEmpty, 5) {
            return Form::GnuEmpty;
        }
        if self.now(Feature::GnuPrefix, 5) {
            return Form::GnuPrefix;
        }
        if self.now(Feature::PaxSign, 5) {
            return Form::PaxSign;
        }
        match matches!(kind, Kind::File(_)) && xattrs.is_empty() && self.now(Feature::OldType, 5) {
            true => Form::Old,
            false => Form::Pax,
        }
    }

    /// A path as a header may write it.
    fn written(&mut self, path: Path, of: Of) -> Vec<u8> {
        let mut name = path;
        if self.now(Feature::OddNames, 25) {
            let before: [&[u8]; 6] = [b"./", b"/", b"../", b"other/../", b".//", b"/../"];
            name = [before[self.random.below(before.len())], &name].concat();
            if of != Of::Directory && self.random.percent(10) {
                name.push(b'/');
            }
        }
        if of == Of::Directory && self.random.percent(50) {
            name.push(b'/');
        }
        name
    }

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

    fn file(&mut self) {
        let (path, contents) = (self.path(), self.contents());
        self.put(path, Of::File, Kind::File(contents));
    }

    fn sparse(&mut self) {
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

    fn directory(&mut self) {
        let path = self.path();
        self.put(path, Of::Directory, Kind::Directory);
    }

    fn symlink(&mut self) {
        let targets: [&[u8]; 11] =
            [b"a", b"b/a", b"../b", b"/a", b"/a/../b", b"../../c", b"..", b"/", b"missing", b"/../a/./b", b"/none/../d"];
        let target = targets[self.random.below(targets.len())].to_vec();
        let path = self.path();
        self.put(path, Of::Symlink, Kind::Symlink(target));
    }

    fn special(&mut self) {
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
    fn link(&mut self) {
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

    fn whiteout(&mut self) {
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

    fn opaque(&mut self) {
        let directories: Vec<Path> =
            self.shown.iter().filter(|(_, of)| **of == Of::Directory).map(|(path, _)| path.clone()).collect();
        let directory = match self.now(Feature::OpaqueRoot, 10) {
            true => Vec::new(),
            false if directories.is_empty() => return,
            false => self.random.pick(&directories).clone(),
        };
        let mark = if directory.is_empty() { b".wh..wh..opq".to_vec() } else { [&directory[..], b"/.wh..wh..opq"].concat() };
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

    fn global(&mut self) {
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

/// The directories above a path, the topmost first.
fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(n, _)| &path[..n])
}

fn is_beneath(path: &[u8], other: &[u8]) -> bool {
    other.strip_prefix(path).is_some_and(|rest| rest.first() == Some(&b'/'))
}

fn whiteout_of(path: &[u8]) -> Path {
    let base = path.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
    [&path[..base], b".wh.", &path[base..]].concat()
}

/// A written name as the path it was made from.
pub fn cleaned(name: &[u8]) -> Path {
    let mut path: Vec<&[u8]> = Vec::new();
    for component in name.split(|&byte| byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => drop(path.pop()),
            component => path.push(component),
        }
    }
    path.join(&b'/')
}
