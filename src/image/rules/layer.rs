// SPDX-License-Identifier: Apache-2.0
//! One layer's own directory.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::PathBuf;

use super::below::{Below, OfImage, OnDisk};
use super::kept::{Hosts, Kept};
use super::{differs, settle_plain, with_marks_of};
use crate::error::Result;
use crate::host;
use crate::inode::{FileType, Xattr};
use crate::layer::{Marks, Rootfs, is_mark, is_opaque_name};
use crate::manifest::Resource;
use crate::ops::{Rules, Settled};
use crate::tree::{Progress, Root};

/// What the image says of a layer.
struct Said<'a> {
    rootfs: &'a Rootfs,
    /// Counted from 0.
    layer: usize,
    /// It may have been unpacked without the layers below it.
    alone: bool,
}

/// Which differences of a layer's own directory count: those that change what is shown, by itself or through it.
pub struct LayerRules<'a> {
    own: &'a Root,
    marks: Marks,
    kept: Kept<'a>,
    below: Box<dyn Below + 'a>,
    said: Option<Said<'a>>,
    /// Of what several names lead to, by the first of them: whether the layers below show it instead.
    groups: RefCell<HashMap<Vec<u8>, bool>>,
}

impl<'a> LayerRules<'a> {
    /// For the layer of an image, counted from 0, whose directory is `own`. It may have been unpacked `alone`, without
    /// the layers below it: then a directory that no entry of its tar describes may be a plain one.
    pub fn of_image(rootfs: &'a Rootfs, layer: usize, own: &'a Root, alone: bool, hosts: Hosts) -> Self {
        let said = Some(Said { rootfs, layer, alone });
        let below = Box::new(OfImage { rootfs, layers: layer });
        Self::new(own, Marks::of(rootfs.unpacking()), hosts, below, said)
    }

    /// For a layer that is compared with its seal; `below` are the directories of the layers below it, nearest first.
    pub fn of_seal(own: &'a Root, below: Vec<PathBuf>, marks: Marks, hosts: Hosts, progress: &'a Progress) -> Self {
        Self::new(own, marks, hosts, Box::new(OnDisk::new(below, marks, progress)), None)
    }

    fn new(own: &'a Root, marks: Marks, hosts: Hosts, below: Box<dyn Below + 'a>, said: Option<Said<'a>>) -> Self {
        Self { own, marks, kept: Kept::new(own, hosts), below, said, groups: RefCell::default() }
    }

    /// The same where overlays read other marks.
    #[cfg(test)]
    pub fn reading(self, marks: Marks) -> Self {
        Self { marks, ..self }
    }

    /// Whether an attribute was expected and found that was not recorded with what was found.
    pub fn found_unrecorded(&self) -> bool {
        self.kept.found_unrecorded()
    }

    fn both(&self, path: &[u8], expected: &Resource, found: &Resource) -> Result<Settled> {
        if self.is_whiteout(expected) && self.marks.is_whiteout(found) {
            return Ok(Settled::Same);
        }
        if expected.mode.file_type() != found.mode.file_type() {
            return self.in_place(expected);
        }
        // Of most files there is nothing to be said.
        let plain = expected.xattrs.is_empty() && found.xattrs.is_empty();
        if plain && !self.said.as_ref().is_some_and(|said| said.alone) {
            return Ok(Settled::Differs);
        }
        let mut settled = Resource { xattrs: self.kept.settle(expected, Some(found))?, ..expected.clone() };
        if expected.mode.file_type() == FileType::Directory {
            self.settle_mark(path, expected, found, &mut settled)?;
            self.settle_implied(path, found, &mut settled)?;
            self.settle_moved(path, found, &mut settled)?;
        }
        // The contents are those of the layers below, which are compared where they are.
        if host::follows_metacopy()
            && self.marks.is_metacopy(found)
            && self.below.resource(path, expected)?.is_some_and(|below| below.digest == expected.digest)
        {
            (settled.size, settled.digest) = (found.size, found.digest);
            with_marks_of(&mut settled, found, is_mark);
        }
        self.marks.rename(&mut settled.xattrs);
        Ok(Settled::Expect(Box::new(settled)))
    }

    /// Whether a directory is marked as opaque in a manifest: one that was unpacked in memory has the marks of no user
    /// namespace.
    fn is_opaque(&self, expected: &[Xattr]) -> bool {
        Marks::Trusted.is_opaque(expected) || self.marks.is_opaque(expected)
    }

    /// The same for a whiteout.
    fn is_whiteout(&self, expected: &Resource) -> bool {
        Marks::Trusted.is_whiteout(expected) || self.marks.is_whiteout(expected)
    }

    /// The mark of an opaque directory may be there or not, by either name, where that changes nothing.
    fn settle_mark(&self, path: &[u8], expected: &Resource, found: &Resource, settled: &mut Resource) -> Result<()> {
        let (wanted, there) = (self.is_opaque(&expected.xattrs), self.marks.is_opaque(&found.xattrs));
        if wanted == there || !self.shows_through(path, there)? {
            with_marks_of(settled, found, is_opaque_name);
        }
        Ok(())
    }

    /// A directory that no entry describes may be as the layers below have it, or plain.
    fn settle_implied(&self, path: &[u8], found: &Resource, settled: &mut Resource) -> Result<()> {
        let Some(said) = self.said.as_ref().filter(|said| said.alone) else { return Ok(()) };
        if said.rootfs.own(said.layer, path).is_some_and(|(_, unpacked)| !unpacked) {
            let slash = path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
            let above = said.rootfs.own(said.layer, &path[..slash]).map(|(above, _)| above);
            settle_plain(settled, found, above.as_ref());
        }
        Ok(())
    }

    /// A directory may show what was moved, where all of that is to be seen in it.
    fn settle_moved(&self, path: &[u8], found: &Resource, settled: &mut Resource) -> Result<()> {
        let place =
            self.marks.redirected(path, &found.xattrs).filter(|_| self.said.is_some() && host::follows_redirect());
        let Some(place) = place else { return Ok(()) };
        let names = self.below.names(&place)?;
        if names.iter().all(|name| self.is_to_be_seen(&[path, b"/", name].concat())) {
            let moved = found.xattrs.iter().filter(|xattr| is_mark(&xattr.name) && !is_opaque_name(&xattr.name));
            settled.xattrs.extend(moved.cloned());
            settled.xattrs.sort_by(|a, b| a.name.cmp(&b.name));
            settled.xattrs.dedup();
        }
        Ok(())
    }

    fn missing(&self, path: &[u8], expected: &Resource) -> Result<Settled> {
        let same = match self.is_whiteout(expected) {
            true => self.below.shows(path)?.is_none() || self.is_hidden(path)?,
            false => self.is_shown_instead(path, expected)?,
        };
        if same {
            return Ok(Settled::Same);
        }
        self.in_place(expected)
    }

    /// What has to be made, as it can be kept here.
    fn in_place(&self, expected: &Resource) -> Result<Settled> {
        let mut settled = Resource { xattrs: self.kept.settle(expected, None)?, ..expected.clone() };
        self.marks.rename(&mut settled.xattrs);
        Ok(Settled::Expect(Box::new(settled)))
    }

    fn extra(&self, path: &[u8], found: &Resource) -> Result<Settled> {
        let slash = path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
        // What lies in an extra directory goes with it.
        if slash > 0 && !self.expects_directory(&path[..slash]) {
            return Ok(Settled::Differs);
        }
        if found.mode.file_type() == FileType::Socket {
            return Ok(Settled::Same);
        }
        let shown = match &self.said {
            Some(said) => said.rootfs.find_in(said.layer + 1, path).map(|found| found.resource),
            None if self.is_hidden(path)? => None,
            None => self.below.resource(path, found)?,
        };
        Ok(match shown {
            // Nothing is to be seen there, and nothing is.
            None if self.marks.is_whiteout(found) => Settled::Same,
            // The same as below: what is shown is what should be.
            Some(shown)
                if !self.marks.is_whiteout(found) && !self.is_linked(path)? && self.is_copy(path, &shown, found)? =>
            {
                Settled::Same
            }
            _ => Settled::Differs,
        })
    }

    /// Whether the layers below show what is missing here, at the same path or where a directory above it was moved
    /// from: all that leads to it, if several names do.
    fn is_shown_instead(&self, path: &[u8], expected: &Resource) -> Result<bool> {
        let [first, _, ..] = expected.paths.as_slice() else { return self.is_all_shown(path, expected) };
        if let Some(known) = self.groups.borrow().get(first) {
            return Ok(*known);
        }
        let shown = self.is_all_shown(path, expected)?;
        self.groups.borrow_mut().insert(first.clone(), shown);
        Ok(shown)
    }

    fn is_all_shown(&self, path: &[u8], expected: &Resource) -> Result<bool> {
        let mut places = Vec::with_capacity(expected.paths.len());
        for path in &expected.paths {
            let place = match self.moved_from(path)? {
                Some(place) => place,
                None if self.own.metadata(path)?.is_some() || self.is_hidden(path)? => return Ok(false),
                None => path.clone(),
            };
            let Some(shown) = self.below.resource(&place, expected)? else { return Ok(false) };
            if !self.is_copy(path, expected, &shown)? {
                return Ok(false);
            }
            places.push(place);
        }
        if places.len() > 1 && !self.below.are_one(&places)? {
            return Ok(false);
        }
        // A repair makes a directory before what lies in it.
        let is_directory = expected.mode.file_type() == FileType::Directory;
        let Some(said) = self.said.as_ref().filter(|_| is_directory) else { return Ok(true) };
        for name in said.rootfs.own_names(said.layer, path) {
            let child = [path, b"/", &name].concat();
            let own = said.rootfs.own(said.layer, &child);
            let is_needed = |(resource, _): (Resource, bool)| -> Result<bool> {
                let resource = Resource { paths: said.rootfs.own_paths(said.layer, &child), ..resource };
                Ok(!matches!(self.missing(&child, &resource)?, Settled::Same))
            };
            if own.map_or(Ok(false), is_needed)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Where in the layers below a path lies, if a directory above it was moved.
    fn moved_from(&self, path: &[u8]) -> Result<Option<Vec<u8>>> {
        if !host::follows_redirect() {
            return Ok(None);
        }
        for (n, _) in path.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/') {
            let above = &path[..n];
            if self.own.metadata(above)?.is_none_or(|found| found.file_type != FileType::Directory) {
                return Ok(None);
            }
            if let Some(place) = self.marks.redirected(above, &self.own.xattrs(above, FileType::Directory)?) {
                return Ok(Some([place.as_slice(), &path[n..]].concat()));
            }
        }
        Ok(None)
    }

    /// Whether other names of this layer lead to what is at a path.
    fn is_linked(&self, path: &[u8]) -> Result<bool> {
        Ok(self.own.metadata(path)?.is_some_and(|found| found.link_id().is_some()))
    }

    fn is_copy(&self, path: &[u8], shown: &Resource, found: &Resource) -> Result<bool> {
        if shown.mode.file_type() != found.mode.file_type() {
            return Ok(false);
        }
        Ok(match self.both(path, shown, found)? {
            Settled::Same => true,
            Settled::Differs => !differs(shown, found),
            Settled::Expect(shown) => !differs(&shown, found),
        })
    }

    /// Whether a directory has to be there, or may be as a copy of what is below.
    fn expects_directory(&self, path: &[u8]) -> bool {
        let is_directory = |resource: &Resource| resource.mode.file_type() == FileType::Directory;
        match &self.said {
            None => true,
            Some(said) => said.rootfs.find_in(said.layer + 1, path).is_some_and(|found| is_directory(&found.resource)),
        }
    }

    /// Whether what the layers below show in a directory, and this one does not hide name by name, is anything: then a
    /// mark on the directory counts. One that is there and is not expected counts for what is to be seen alone.
    fn shows_through(&self, directory: &[u8], there: bool) -> Result<bool> {
        let directory = if directory == b"/" { b"" } else { directory };
        for name in self.below.names(directory)? {
            let path = [directory, b"/", &name].concat();
            match self.own.metadata(&path)? {
                None if there && !self.is_to_be_seen(&path) => {}
                None => return Ok(true),
                Some(found) if found.file_type != FileType::Directory => {}
                Some(_) if self.marks.is_opaque(&self.own.xattrs(&path, FileType::Directory)?) => {}
                Some(_) if self.below.shows(&path)? == Some(FileType::Directory) => {
                    if self.shows_through(&path, there)? {
                        return Ok(true);
                    }
                }
                Some(_) => {}
            }
        }
        Ok(false)
    }

    /// Whether anything is to be seen at a path, where that is known.
    fn is_to_be_seen(&self, path: &[u8]) -> bool {
        self.said.as_ref().is_none_or(|said| said.rootfs.find_in(said.layer + 1, path).is_some())
    }

    /// Whether the layer's directory hides a path of the layers below by what lies above the path, and will go on to:
    /// what is damaged there will be repaired.
    fn is_hidden(&self, path: &[u8]) -> Result<bool> {
        for above in path.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/').map(|(n, _)| &path[..n]) {
            let own = self.said.as_ref().and_then(|said| said.rootfs.own(said.layer, above)).map(|(own, _)| own);
            let has_directory = own.as_ref().is_some_and(|own| own.mode.file_type() == FileType::Directory);
            match self.own.metadata(above)? {
                None => return Ok(false),
                Some(found) if found.file_type != FileType::Directory => {
                    if !has_directory {
                        return Ok(true);
                    }
                }
                Some(_) if self.marks.is_opaque(&self.own.xattrs(above, FileType::Directory)?) => {
                    let goes =
                        own.is_some_and(|own| !self.is_opaque(&own.xattrs)) && self.shows_through(above, true)?;
                    if !goes {
                        return Ok(true);
                    }
                }
                Some(_) => {}
            }
        }
        Ok(false)
    }
}

impl Rules for LayerRules<'_> {
    fn settle(&self, path: &[u8], expected: Option<&Resource>, found: Option<&Resource>) -> Result<Settled> {
        match (expected, found) {
            // No layer describes the root.
            _ if path == b"/" && self.said.is_some() => Ok(Settled::Same),
            (Some(expected), Some(found)) => self.both(path, expected, found),
            (Some(expected), None) => self.missing(path, expected),
            (None, Some(found)) => self.extra(path, found),
            (None, None) => Ok(Settled::Same),
        }
    }
}
