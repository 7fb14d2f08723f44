// SPDX-License-Identifier: Apache-2.0
//! Random layers over a small vocabulary of paths, so that they collide.
//!
//! A rough model of what lies where keeps most of them to what containerd takes. It decides nothing else: what is right
//! is what containerd has unpacked.

mod kinds;

use std::collections::{BTreeMap, BTreeSet};

use crate::attributes::{self, Of};
use crate::features::{Feature, Features};
use crate::random::Random;
use crate::tar::{Entry, Form, Kind};

/// Entries of a layer that are asked for; parents come besides.
const ENTRIES_MAX: usize = 20;

/// One in so many entries that do not fit is made.
const DARES: usize = 400;

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
