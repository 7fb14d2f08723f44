// SPDX-License-Identifier: Apache-2.0
//! What of a difference counts.
//!
//! Verifying, planning a repair, and sealing all ask the same [`Rules`], path by path, before anything is compared: so
//! they cannot disagree.

use std::borrow::Cow;

use super::verify::Pair;
use crate::error::Result;
use crate::manifest::{ManifestEntry, Resource};

/// What is to be compared at a path.
#[derive(Debug)]
pub enum Settled {
    /// Nothing: there is no difference that counts.
    Same,
    /// Everything, as it is.
    Differs,
    /// What is found, with this in place of what was expected.
    Expect(Box<Resource>),
}

/// Decides which differences count.
pub trait Rules {
    /// What is to be compared at a path where one side has something, or both. Where nothing is expected, what is found
    /// is extra or not: there is nothing to put in its place.
    ///
    /// # Errors
    /// What has to be looked at cannot be read.
    fn settle(&self, path: &[u8], expected: Option<&Resource>, found: Option<&Resource>) -> Result<Settled>;

    /// Whether paths that lead to one such inode have to lead to one.
    fn keeps_links(&self, _resource: &Resource) -> bool {
        true
    }
}

/// Every difference counts.
pub struct Exact;

impl Rules for Exact {
    fn settle(&self, _: &[u8], _: Option<&Resource>, _: Option<&Resource>) -> Result<Settled> {
        Ok(Settled::Differs)
    }
}

/// What is expected at a path after the rules were asked; none if no difference counts there.
pub(super) fn settled<'e>(
    rules: &dyn Rules,
    entry: &'e ManifestEntry,
    found: Option<&Resource>,
) -> Result<Option<Cow<'e, ManifestEntry>>> {
    let entry = match rules.settle(entry.path(), Some(&entry.resource), found)? {
        Settled::Same => return Ok(None),
        Settled::Differs => Cow::Borrowed(entry),
        Settled::Expect(resource) => Cow::Owned(entry.with(*resource)),
    };
    Ok(Some(match entry.link_id().is_none() || rules.keeps_links(&entry.resource) {
        true => entry,
        false => Cow::Owned(entry.alone()),
    }))
}

impl Pair<'_> {
    /// Hands itself to `take` as the rules want it to be seen, or not at all.
    pub(super) fn settle(self, rules: &dyn Rules, take: &mut dyn FnMut(Pair<'_>) -> Result<()>) -> Result<()> {
        match self {
            Self::Missing(entry) => match settled(rules, entry, None)? {
                Some(entry) => take(Pair::Missing(&entry)),
                None => Ok(()),
            },
            Self::Extra(path, found) => match rules.settle(path, None, Some(found))? {
                Settled::Same => Ok(()),
                _ => take(Pair::Extra(path, found)),
            },
            Self::Both(entry, found, link, links) => match settled(rules, entry, Some(found))? {
                Some(entry) => take(Pair::Both(&entry, found, link.filter(|_| rules.keeps_links(found)), links)),
                None => Ok(()),
            },
            unreadable => take(unreadable),
        }
    }
}
