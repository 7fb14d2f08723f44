// SPDX-License-Identifier: Apache-2.0
//! A manifest path by path: a resource with several paths comes once for each, where that path sorts.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::io::Read;
use std::rc::Rc;

use super::reader::Reader;
use super::resource::Resource;
use crate::error::Result;

/// One path of one resource.
#[derive(Debug, Clone)]
pub struct ManifestEntry {
    /// The resource.
    pub resource: Rc<Resource>,
    /// Number of the resource in the manifest: the same for all of its paths.
    pub number: u64,
    /// Which of its paths this is.
    index: usize,
}

impl ManifestEntry {
    /// The path.
    pub fn path(&self) -> &[u8] {
        &self.resource.paths[self.index]
    }

    /// The same path of another resource, which has the same paths.
    pub fn with(&self, resource: Resource) -> Self {
        Self { resource: Rc::new(resource), ..self.clone() }
    }

    /// The same path, as if no other led to the resource.
    pub fn alone(&self) -> Self {
        let resource = Resource { paths: vec![self.path().to_vec()], ..(*self.resource).clone() };
        Self { resource: Rc::new(resource), number: self.number, index: 0 }
    }

    /// The resource's number, if it has several paths.
    pub fn link_id(&self) -> Option<u64> {
        (self.resource.paths.len() > 1).then_some(self.number)
    }

    /// Whether this is the first of its paths.
    pub fn is_first(&self) -> bool {
        self.index == 0
    }
}

impl PartialEq for ManifestEntry {
    fn eq(&self, other: &Self) -> bool {
        self.path() == other.path()
    }
}

impl Eq for ManifestEntry {}

impl PartialOrd for ManifestEntry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ManifestEntry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.path().cmp(other.path())
    }
}

/// Entries in path order. Holds in memory only resources whose later paths are still to come.
pub struct Entries<R> {
    reader: Reader<R>,
    count: u64,
    upcoming: Option<ManifestEntry>,
    later: BinaryHeap<Reverse<ManifestEntry>>,
}

impl<R: Read> Entries<R> {
    /// Reads from the first byte of a manifest.
    pub fn new(source: R) -> Self {
        Self { reader: Reader::new(source), count: 0, upcoming: None, later: BinaryHeap::new() }
    }

    /// The next path; `None` at the end.
    ///
    /// # Errors
    /// As [`Reader::next`].
    #[allow(clippy::should_implement_trait, reason = "an iterator of results would hide that an error is the end")]
    pub fn next(&mut self) -> Result<Option<ManifestEntry>> {
        self.fill()?;
        match (&self.upcoming, self.later.peek()) {
            (Some(upcoming), Some(Reverse(later))) if later < upcoming => {}
            (Some(_), _) => return Ok(self.upcoming.take()),
            (None, _) => {}
        }
        let Some(Reverse(entry)) = self.later.pop() else { return Ok(None) };
        if entry.index + 1 < entry.resource.paths.len() {
            self.later.push(Reverse(ManifestEntry { index: entry.index + 1, ..entry.clone() }));
        }
        Ok(Some(entry))
    }

    /// Whether the first entry is the root itself. To be asked before the first [`next`](Self::next).
    ///
    /// # Errors
    /// As [`Reader::next`].
    pub fn includes_root(&mut self) -> Result<bool> {
        self.fill()?;
        Ok(self.upcoming.as_ref().is_some_and(|entry| entry.path() == super::path::ROOT))
    }

    fn fill(&mut self) -> Result<()> {
        if self.upcoming.is_none()
            && let Some(resource) = self.reader.next()?
        {
            let entry = ManifestEntry { resource: Rc::new(resource), number: self.count, index: 0 };
            self.count += 1;
            if entry.resource.paths.len() > 1 {
                self.later.push(Reverse(ManifestEntry { index: 1, ..entry.clone() }));
            }
            self.upcoming = Some(entry);
        }
        Ok(())
    }
}
