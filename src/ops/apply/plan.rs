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
use crate::manifest::{Kind, ManifestEntry, Resource};
use crate::ops::compare::compare;
use crate::ops::finding::{Finding, FindingKind};
use crate::ops::verify::{Pair, VerifyOptions, join};
use crate::tree::{InodeId, Progress, Root};

/// Compares and plans; changes nothing.
///
/// # Errors
/// The manifest is invalid, or lacks the directory that holds one of its paths; the tree can't be read.
pub fn plan(root: &Root, manifest: impl Read, options: &ApplyOptions, progress: &Progress) -> Result<ApplyPlan> {
    let mut planner = Planner { options: *options, ..Planner::default() };
    let verify = VerifyOptions { threads: options.threads, ..VerifyOptions::default() };
    let mut entries = 0;
    join(root, manifest, &verify, progress, &mut |pair| {
        entries += 1;
        planner.take(pair)
    })?;
    let mut plan = planner.finish();
    (plan.entries, plan.bytes) = (entries, progress.bytes());
    Ok(plan)
}

/// A path of a hard link group, as it was found.
struct Member {
    path: Vec<u8>,
    /// The inode and what differs, unless it is missing or of another type.
    present: Option<(Option<InodeId>, Differences)>,
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
            Pair::Unreadable(_, error) => Err(Error::new(ErrorKind::Io, format!("the tree can't be read: {error}"))),
            Pair::Extra(path, resource) => {
                self.extra(path, resource);
                Ok(())
            }
            Pair::Missing(entry) => {
                self.check_parent(entry)?;
                self.missing(entry);
                Ok(())
            }
            Pair::Both(entry, found, id, _) => {
                self.check_parent(entry)?;
                self.both(entry, found, id)
            }
        }
    }

    fn extra(&mut self, path: &[u8], found: &Resource) {
        if self.options.prune {
            let directory = found.mode.kind() == Kind::Directory;
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

    fn both(&mut self, entry: &ManifestEntry, found: &Resource, id: Option<InodeId>) -> Result<()> {
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
            self.claim(id, entry.number);
            self.member(entry, Some((id, differences)));
        } else {
            let shared = !self.claim(id, entry.number);
            self.mend(entry, differences, shared);
        }
        Ok(())
    }

    /// Notes whose inode it is; false if it is another resource's already.
    fn claim(&mut self, id: Option<InodeId>, number: u64) -> bool {
        id.is_none_or(|id| *self.inodes.entry(id).or_insert(number) == number)
    }

    /// Something of another type is there.
    fn replace(&mut self, entry: &ManifestEntry, found: &Resource, finding: Finding) {
        let path = entry.path().to_vec();
        if found.mode.kind() == Kind::Directory {
            self.conflicts.push((path.clone(), finding));
            self.removals.push(Action::Remove { path, directory: true });
        } else if entry.resource.mode.kind() == Kind::Directory {
            self.removals.push(Action::Remove { path, directory: false });
        }
        self.missing(entry);
    }

    /// The right type is there.
    fn mend(&mut self, entry: &ManifestEntry, differences: Differences, shared: bool) {
        let (path, resource) = (entry.path(), &entry.resource);
        match resource.mode.kind() {
            Kind::Regular if differences.contents => self.create(path, resource),
            Kind::Regular if shared => self.creations.push(Action::Write {
                path: path.to_vec(),
                resource: Rc::clone(resource),
                contents: Contents::Tree(path.to_vec()),
            }),
            Kind::Regular | Kind::Directory if differences.attributes => self.attributes(path, resource),
            Kind::Symlink if differences.attributes && !differences.contents => self.attributes(path, resource),
            Kind::Regular | Kind::Directory | Kind::Socket => {}
            _ if differences.contents || differences.attributes || shared => self.create(path, resource),
            _ => {}
        }
    }

    fn attributes(&mut self, path: &[u8], resource: &Rc<Resource>) {
        let action = Action::SetAttributes { path: path.to_vec(), resource: Rc::clone(resource) };
        match resource.mode.kind() {
            Kind::Directory => self.directories.push(action),
            _ => self.creations.push(action),
        }
    }

    fn create(&mut self, path: &[u8], resource: &Rc<Resource>) {
        let (path, resource) = (path.to_vec(), Rc::clone(resource));
        match resource.mode.kind() {
            Kind::Directory => {
                self.creations.push(Action::MakeDirectory { path: path.clone() });
                self.directories.push(Action::SetAttributes { path, resource });
            }
            Kind::Regular if self.options.source => {
                self.creations.push(Action::Write { path, resource, contents: Contents::Source });
            }
            Kind::Regular => self.unresolved.push(Finding {
                path,
                kind: FindingKind::Digest,
                xattr: Vec::new(),
                expected: resource.digest.map_or_else(String::new, |d| d.to_string()),
                found: "no source of contents (--source DIR)".into(),
            }),
            _ => self.creations.push(Action::Create { path, resource }),
        }
    }

    fn member(&mut self, entry: &ManifestEntry, present: Option<(Option<InodeId>, Differences)>) {
        let group = self
            .groups
            .entry(entry.number)
            .or_insert_with(|| Group { resource: Rc::clone(&entry.resource), members: Vec::new() });
        group.members.push(Member { path: entry.path().to_vec(), present });
    }

    /// Finds the member that is right, or makes the first one right, and links the others to it.
    fn group(&mut self, number: u64, group: Group) {
        let is_regular = group.resource.mode.kind() == Kind::Regular;
        let right = group.members.iter().position(|member| {
            member.present.is_some_and(|(id, differences)| {
                let mendable = !differences.contents && (is_regular || !differences.attributes);
                mendable && id.is_none_or(|id| self.inodes.get(&id) == Some(&number))
            })
        });
        let donor = right.unwrap_or(0);
        match right.and_then(|n| group.members[n].present) {
            Some((_, differences)) if differences.attributes => {
                self.attributes(&group.members[donor].path, &group.resource);
            }
            Some(_) => {}
            None => {
                let unresolved = self.unresolved.len();
                self.create(&group.members[donor].path, &group.resource);
                if self.unresolved.len() > unresolved {
                    return;
                }
            }
        }
        let inode = right.and_then(|n| group.members[n].present).and_then(|(id, _)| id);
        for (n, member) in group.members.iter().enumerate() {
            let linked = inode.is_some() && member.present.is_some_and(|(id, _)| id == inode);
            if n != donor && !linked {
                self.links.push(Action::Link { path: member.path.clone(), to: group.members[donor].path.clone() });
            }
        }
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
        if entry.resource.mode.kind() == Kind::Directory && path != b"/" {
            self.parents.push(path.to_vec());
        }
        if entry.resource.mode.kind() == Kind::Socket {
            let message = format!("{}: a socket can't be made from a manifest", Escaped(path));
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        Ok(())
    }

    fn finish(mut self) -> ApplyPlan {
        for (number, group) in std::mem::take(&mut self.groups) {
            self.group(number, group);
        }
        let blocked = &self.blocked;
        let is_blocked = |action: &Action| blocked.contains(action.path());
        self.unresolved
            .extend(self.conflicts.into_iter().filter(|(path, _)| blocked.contains(path)).map(|(_, finding)| finding));
        let mut actions: Vec<Action> = self.removals.into_iter().rev().collect();
        self.creations.sort_by(|a, b| a.path().cmp(b.path()));
        actions.extend(self.creations);
        actions.extend(self.links);
        actions.extend(self.directories.into_iter().rev());
        actions.retain(|action| !is_blocked(action));
        ApplyPlan { actions, unresolved: self.unresolved, prune: self.options.prune, ..ApplyPlan::default() }
    }
}

fn is_below(path: &[u8], directory: &[u8]) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.first() == Some(&b'/'))
}
