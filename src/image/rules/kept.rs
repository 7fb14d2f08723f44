// SPDX-License-Identifier: Apache-2.0
//! Extended attributes as this host and this filesystem keep them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use crate::error::Result;
use crate::host;
use crate::inode::{FileType, Xattr};
use crate::layer::is_mark;
use crate::manifest::Resource;
use crate::tree::Root;

/// What is known of attributes that belong to the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hosts {
    /// Those that are expected are the image's, and are compared where this host keeps them.
    Expected,
    /// The same; but what was found was recorded without them: they are looked at where they are.
    Unrecorded,
    /// Nothing tells which of them are the image's: none is compared.
    Unknown,
}

/// Looks at one directory's filesystem.
pub struct Kept<'a> {
    root: &'a Root,
    hosts: Hosts,
    /// By namespace, or whole name outside of `user.`: whether the filesystem lacks it.
    lacks: RefCell<BTreeMap<Vec<u8>, bool>>,
    /// Something was found where it is, and not among what was recorded.
    unrecorded: Cell<bool>,
}

impl<'a> Kept<'a> {
    pub fn new(root: &'a Root, hosts: Hosts) -> Self {
        Self { root, hosts, lacks: RefCell::default(), unrecorded: Cell::default() }
    }

    /// Whether an attribute was expected and found that was not recorded with what was found.
    pub fn found_unrecorded(&self) -> bool {
        self.unrecorded.get()
    }

    /// The attributes that have to be at a path, given those that are expected and those that were found: what the host
    /// has put there stays, what the filesystem cannot hold is not missed. Marks of opaque directories are as expected.
    pub fn settle(&self, expected: &Resource, found: Option<&Resource>) -> Result<Vec<Xattr>> {
        let (wanted, there) = (&expected.xattrs, found.map_or(&[][..], |found| &found.xattrs));
        let mut kept = Vec::with_capacity(wanted.len());
        for xattr in wanted {
            let present = there.iter().find(|other| other.name == xattr.name);
            if !self.is_compared(&xattr.name) {
                kept.extend(present.cloned());
            } else if present.is_some() || self.is_wanted(expected, xattr)? {
                kept.push(xattr.clone());
            }
        }
        let is_hosts = |name: &[u8]| host::owns(name) && !is_mark(name);
        let is_known = |name: &[u8]| wanted.iter().any(|xattr| xattr.name == name);
        kept.extend(there.iter().filter(|xattr| is_hosts(&xattr.name) && !is_known(&xattr.name)).cloned());
        kept.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(kept)
    }

    /// Whether an attribute that is expected counts at all.
    fn is_compared(&self, name: &[u8]) -> bool {
        match is_mark(name) || !host::owns(name) {
            true => true,
            false => self.hosts != Hosts::Unknown && !host::is_overlays(name) && host::keeps(name),
        }
    }

    /// Whether one that counts is missed where it was not found.
    fn is_wanted(&self, expected: &Resource, xattr: &Xattr) -> Result<bool> {
        if self.hosts == Hosts::Unrecorded && host::owns(&xattr.name) && !is_mark(&xattr.name) {
            let file_type = expected.mode.file_type();
            let path = expected.paths.first().map_or(&b"/"[..], Vec::as_slice);
            if matches!(file_type, FileType::Regular | FileType::Directory)
                && self.root.metadata(path)?.is_some_and(|found| found.file_type == file_type)
                && self.root.xattrs(path, file_type)?.contains(xattr)
            {
                self.unrecorded.set(true);
                return Ok(false);
            }
        }
        Ok(!self.lacks(&xattr.name)?)
    }

    fn lacks(&self, name: &[u8]) -> Result<bool> {
        // One handler stands for all of `user.`; the others answer name by name.
        let handler = if name.starts_with(b"user.") { &b"user."[..] } else { name };
        if let Some(known) = self.lacks.borrow().get(handler) {
            return Ok(*known);
        }
        let lacks = self.root.lacks_xattr(name)?;
        self.lacks.borrow_mut().insert(handler.to_vec(), lacks);
        Ok(lacks)
    }
}
