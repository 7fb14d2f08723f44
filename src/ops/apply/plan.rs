// SPDX-License-Identifier: Apache-2.0
//! What differs, as changes in an order that can be performed.
//!
//! Removals come first, deepest first; then creations in path order, parents before children; then hard links,
//! whose other paths are right by then; last the attributes of directories, deepest first, because a directory
//! that is created or written to must stay writable until then.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Read;
use std::rc::Rc;

use super::{Action, ApplyOptions, ApplyPlan, Contents};
use crate::error::{Error, ErrorKind, Escaped, Result};
use crate::inode::FileType;
use crate::manifest::{ManifestEntry, Resource};
use crate::ops::compare::compare;
use crate::ops::finding::{Finding, FindingKind};
use crate::ops::rules::{Exact, Rules};
use crate::ops::verify::{Pair, VerifyOptions, join_by};
use crate::tree::{InodeId, Progress, Root};

/// Compares and plans; changes nothing.
///
/// # Errors
/// The manifest is invalid, or lacks the directory that holds one of its paths; the tree can't be read.
pub fn plan(root: &Root, manifest: impl Read, options: &ApplyOptions, progress: &Progress) -> Result<ApplyPlan> {
    plan_by(&Exact, root, manifest, options, progress)
}

/// The same, for those differences only that count by the rules.
///
/// # Errors
/// As [`plan`]; what the rules fail with.
pub fn plan_by(
    rules: &dyn Rules,
    root: &Root,
    manifest: impl Read,
    options: &ApplyOptions,
    progress: &Progress,
) -> Result<ApplyPlan> {
    let mut planner = Planner { options: options.clone(), ..Planner::default() };
    let verify = VerifyOptions { threads: options.threads, skip: options.skip.clone(), subset: false };
    let entries = join_by(rules, root, manifest, &verify, progress, &mut |pair| planner.take(pair))?;
    let mut plan = planner.finish();
    (plan.entries, plan.bytes) = (entries, progress.bytes());
    Ok(plan)
}

/// A path of a hard link group, as it was found.
struct Member {
    path: Vec<u8>,
    /// The inode, its number of links, and what differs; unless it is missing or of another type.
    present: Option<(Option<(InodeId, u64)>, Differences)>,
}

struct Group {
    resource: Rc<Resource>,
    members: Vec<Member>,
}

/// What differs between two inodes of one type.
#[derive(Default, Clone, Copy)]
struct Differences {
    /// Contents, target or device numbers: what only a new inode can have.
    contents: bool,
    /// Owner, permissions, xattrs.
    attributes: bool,
}

#[derive(Default)]
struct Planner {
    options: ApplyOptions,
    removals: Vec<Action>,
    creations: Vec<Action>,
    links: Vec<Action>,
    directories: Vec<Action>,
    unresolved: Vec<Finding>,
    groups: BTreeMap<u64, Group>,
    /// Single resources' inodes with several links: the first path keeps the inode, the next get a copy.
    inodes: HashMap<InodeId, u64>,
    /// Directories of the manifest that may hold the next path, innermost last.
    parents: Vec<Vec<u8>>,
    /// Directories where the manifest has something else.
    conflicts: Vec<(Vec<u8>, Finding)>,
    /// Those of them that are not empty and stay.
    blocked: HashSet<Vec<u8>>,
}

impl Planner {
    fn take(&mut self, pair: Pair<'_>) -> Result<()> {
        match pair {
            Pair::Unreadable(path, error, entry) => self.unreadable(path, error, entry),
            Pair::Extra(path, resource) => {
                self.extra(path, resource);
                Ok(())
            }
            Pair::Missing(entry) => {
                self.check_parent(entry)?;
                self.missing(entry);
                Ok(())
            }
            Pair::Both(entry, found, link, _) => {
                self.check_parent(entry)?;
                self.both(entry, found, link)
            }
        }
    }

    /// A file whose contents can't be read is written anew; about anything else nothing is known.
    fn unreadable(&mut self, path: &[u8], error: &Error, entry: Option<&ManifestEntry>) -> Result<()> {
        match entry {
            Some(entry) if entry.resource.mode.file_type() == FileType::Regular && error.kind() == ErrorKind::Io => {
                self.check_parent(entry)?;
                self.missing(entry);
            }
            _ => {
                if let Some(entry) = entry {
                    self.check_parent(entry)?;
                }
                self.blocked.insert(path.to_vec());
                self.unresolved.push(Finding {
                    path: path.to_vec(),
                    kind: FindingKind::Unreadable,
                    xattr: Vec::new(),
                    expected: String::new(),
                    found: error.to_string(),
                });
            }
        }
        Ok(())
    }

    fn extra(&mut self, path: &[u8], found: &Resource) {
        if self.options.prune {
            let directory = found.mode.file_type() == FileType::Directory;
            self.removals.push(Action::Remove { path: path.to_vec(), directory });
        } else if let Some((conflict, _)) = self.conflicts.iter().rev().find(|(c, _)| is_below(path, c)) {
            self.blocked.insert(conflict.clone());
        }
    }

    fn missing(&mut self, entry: &ManifestEntry) {
        if entry.link_id().is_some() {
            self.member(entry, None);
            return;
        }
        self.create(entry.path(), &entry.resource);
    }

    fn both(&mut self, entry: &ManifestEntry, found: &Resource, link: Option<(InodeId, u64)>) -> Result<()> {
        let mut differences = Differences::default();
        let mut type_differs = None;
        compare(entry.path(), &entry.resource, found, !self.options.prune, &mut |finding| {
            match finding.kind {
                FindingKind::Type => type_differs = Some(finding),
                FindingKind::Size | FindingKind::Digest | FindingKind::Target | FindingKind::Device => {
                    differences.contents = true;
                }
                _ => differences.attributes = true,
            }
            Ok(())
        })?;
        if let Some(finding) = type_differs {
            self.replace(entry, found, finding);
        } else if entry.link_id().is_some() {
            self.claim(link, entry.number);
            self.member(entry, Some((link, differences)));
        } else {
            let claimed = self.claim(link, entry.number);
            // Other paths lead to it, here or outside of the tree: what is to change must not change for them.
            let shared = !claimed || link.is_some() && differences.attributes;
            self.mend(entry, differences, shared);
        }
        Ok(())
    }

    /// Notes whose inode it is; false if it is another resource's already.
    fn claim(&mut self, link: Option<(InodeId, u64)>, number: u64) -> bool {
        link.is_none_or(|(id, _)| *self.inodes.entry(id).or_insert(number) == number)
    }

    /// Something of another type is there.
    fn replace(&mut self, entry: &ManifestEntry, found: &Resource, finding: Finding) {
        let path = entry.path().to_vec();
        if found.mode.file_type() == FileType::Directory {
            self.conflicts.push((path.clone(), finding));
            self.removals.push(Action::Remove { path, directory: true });
        } else if entry.resource.mode.file_type() == FileType::Directory {
            self.removals.push(Action::Remove { path, directory: false });
        }
        self.missing(entry);
    }

    /// The right type is there.
    fn mend(&mut self, entry: &ManifestEntry, differences: Differences, shared: bool) {
        let (path, resource) = (entry.path(), &entry.resource);
        match resource.mode.file_type() {
            FileType::Regular if differences.contents => self.create(path, resource),
            FileType::Regular if shared => self.copy(path, resource),
            FileType::Regular | FileType::Directory if differences.attributes => self.attributes(path, resource),
            FileType::Symlink if differences.attributes && !differences.contents => self.attributes(path, resource),
            FileType::Regular | FileType::Directory | FileType::Socket => {}
            _ if differences.contents || differences.attributes || shared => self.create(path, resource),
            _ => {}
        }
    }

    fn attributes(&mut self, path: &[u8], resource: &Rc<Resource>) {
        let action = Action::SetAttributes { path: path.to_vec(), resource: Rc::clone(resource), fresh: false };
        match resource.mode.file_type() {
            FileType::Directory => self.directories.push(action),
            _ => self.creations.push(action),
        }
    }

    fn create(&mut self, path: &[u8], resource: &Rc<Resource>) {
        let (path, resource) = (path.to_vec(), Rc::clone(resource));
        match resource.mode.file_type() {
            FileType::Directory => {
                self.creations.push(Action::MakeDirectory { path: path.clone() });
                self.directories.push(Action::SetAttributes { path, resource, fresh: true });
            }
            FileType::Regular if self.options.source => {
                self.creations.push(Action::Write { path, resource, contents: Contents::Source });
            }
            FileType::Regular => self.unresolved.push(Finding {
                path,
                kind: FindingKind::Digest,
                xattr: Vec::new(),
                expected: resource.digest.map_or_else(String::new, |d| d.to_string()),
                found: "no source of contents (--source DIR)".into(),
            }),
            _ => self.creations.push(Action::Create { path, resource }),
        }
    }

    fn member(&mut self, entry: &ManifestEntry, present: Option<(Option<(InodeId, u64)>, Differences)>) {
        let group = self
            .groups
            .entry(entry.number)
            .or_insert_with(|| Group { resource: Rc::clone(&entry.resource), members: Vec::new() });
        group.members.push(Member { path: entry.path().to_vec(), present });
    }

    /// Finds the member that is right, or makes the first one right, and links the others to it.
    fn group(&mut self, number: u64, group: Group) {
        let is_regular = group.resource.mode.file_type() == FileType::Regular;
        let right = group.members.iter().find_map(|member| {
            let (link, differences) = member.present?;
            let mendable = !differences.contents && (is_regular || !differences.attributes);
            let ours = link.is_none_or(|(id, _)| self.inodes.get(&id) == Some(&number));
            (mendable && ours).then_some((member, link, differences))
        });
        let inode = match right {
            Some((_, link, differences)) if !differences.attributes => link.map(|(id, _)| id),
            Some((member, link, _)) => {
                let is_inode = |m: &&Member| m.present.is_some_and(|(l, _)| l.is_some() && l == link);
                let paths = group.members.iter().filter(is_inode).count().max(1) as u64;
                if link.is_none_or(|(_, links)| links <= paths) {
                    self.attributes(&member.path, &group.resource);
                    link.map(|(id, _)| id)
                } else {
                    // Paths outside of the group lead to it: they keep the inode as it is.
                    self.copy(&member.path, &group.resource);
                    None
                }
            }
            None => {
                let unresolved = self.unresolved.len();
                self.create(&group.members[0].path, &group.resource);
                if self.unresolved.len() > unresolved {
                    return;
                }
                None
            }
        };
        let donor = right.map_or(&group.members[0], |(member, ..)| member);
        for member in &group.members {
            let linked = inode.is_some() && member.present.is_some_and(|(link, _)| link.map(|(id, _)| id) == inode);
            if !linked && member.path != donor.path {
                self.links.push(Action::Link { path: member.path.clone(), to: donor.path.clone() });
            }
        }
    }

    /// A new inode with the contents that the path has now.
    fn copy(&mut self, path: &[u8], resource: &Rc<Resource>) {
        self.creations.push(Action::Write {
            path: path.to_vec(),
            resource: Rc::clone(resource),
            contents: Contents::Tree(path.to_vec()),
        });
    }

    /// Every path must lie in a directory of the manifest.
    fn check_parent(&mut self, entry: &ManifestEntry) -> Result<()> {
        let path = entry.path();
        while self
            .parents
            .last()
            .is_some_and(|last| !is_below(path, last) && path > [last, &b"/"[..]].concat().as_slice())
        {
            self.parents.pop();
        }
        let parent = &path[..path.iter().rposition(|&b| b == b'/').unwrap_or(0)];
        if !parent.is_empty() && !self.parents.iter().rev().any(|known| known == parent) {
            let message = format!("{}: the manifest has no directory {}", Escaped(path), Escaped(parent));
            return Err(Error::new(ErrorKind::InvalidManifest, message));
        }
        if entry.resource.mode.file_type() == FileType::Directory && path != b"/" {
            self.parents.push(path.to_vec());
        }
        if entry.resource.mode.file_type() == FileType::Socket {
            let message = format!("{}: a socket can't be made from a manifest", Escaped(path));
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        Ok(())
    }

    fn finish(mut self) -> ApplyPlan {
        for (number, group) in std::mem::take(&mut self.groups) {
            self.group(number, group);
        }
        // What can't be put there is no reason to remove what is there.
        self.blocked.extend(self.unresolved.iter().map(|finding| finding.path.clone()));
        let blocked = std::mem::take(&mut self.blocked);
        let stays = |path: &[u8]| {
            // Itself, or a directory above it.
            let slashes = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(n, _)| n);
            !blocked.is_empty() && (blocked.contains(path) || slashes.into_iter().any(|n| blocked.contains(&path[..n])))
        };
        for (path, finding) in self.conflicts {
            if blocked.contains(&path) && !self.unresolved.iter().any(|known| known.path == path) {
                self.unresolved.push(finding);
            }
        }
        // A directory that has to stay for what is in it keeps its place from whatever should be there.
        let held: HashSet<Vec<u8>> = self
            .removals
            .iter()
            .filter_map(|action| match action {
                Action::Remove { path, directory: true } if blocked.iter().any(|b| is_below(b, path)) => {
                    Some(path.clone())
                }
                _ => None,
            })
            .collect();
        let stays = |path: &[u8]| stays(path) || held.contains(path);
        let mut actions: Vec<Action> = self.removals.into_iter().rev().collect();
        self.creations.sort_by(|a, b| a.path().cmp(b.path()));
        actions.extend(self.creations);
        actions.extend(self.links);
        actions.extend(self.directories.into_iter().rev());
        actions.retain(|action| {
            let on_blocked = matches!(action, Action::Link { to, .. } if stays(to));
            !stays(action.path()) && !on_blocked
        });
        ApplyPlan { actions, unresolved: self.unresolved, prune: self.options.prune, ..ApplyPlan::default() }
    }
}

/// Whether `path` lies in `directory`, at any depth.
pub(super) fn is_below(path: &[u8], directory: &[u8]) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.first() == Some(&b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Root reads everything, so that no test can make such a file: the planner is told of one.
    #[test]
    fn a_directory_stays_for_what_could_not_be_read_in_it() {
        let removal = |path: &str, directory| Action::Remove { path: path.into(), directory };
        let mut planner = Planner::default();
        planner.options.prune = true;
        planner.removals = vec![removal("/x", true), removal("/x/extra", false), removal("/x/y", true)];
        let error = Error::new(ErrorKind::Io, "for the test");
        planner.unreadable(b"/x/y/unreadable", &error, None).unwrap();
        let plan = planner.finish();
        assert_eq!(plan.actions, [removal("/x/extra", false)]);
        assert_eq!(plan.unresolved.len(), 1);
    }
}
