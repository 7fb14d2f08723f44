// SPDX-License-Identifier: Apache-2.0
//! Manifest to tree: a plan of what differs, then its performance.
//!
//! [`plan`] reads the manifest to its end and the tree with it before anything is changed, so an invalid manifest
//! changes nothing. A plan holds what differs and nothing else: for a tree that is as it should be, it is empty.

mod perform;
mod plan;

use std::fmt;
use std::io::Read;
use std::rc::Rc;

pub use plan::{plan, plan_by};

use super::finding::Finding;
use crate::error::{Escaped, Result};
use crate::inode::FileType;
use crate::manifest::Resource;
use crate::tree::{InodeId, Others, Root};

/// How to plan.
#[derive(Debug, Clone, Default)]
pub struct ApplyOptions {
    /// Whether contents will be at hand: without, files with other contents are left unresolved.
    pub source: bool,
    /// Removes paths and xattrs that the manifest lacks.
    pub prune: bool,
    /// Hashing threads; 0 means the cores, at most four.
    pub threads: usize,
    /// Files that stay, whatever the manifest says: the manifest itself, if it lies in the tree.
    pub skip: Vec<InodeId>,
}

/// Where the contents of files come from.
pub trait Source {
    /// Opens the contents that the file at `path` is to have.
    ///
    /// # Errors
    /// The source lacks them.
    fn contents(&self, path: &[u8], resource: &Resource) -> Result<Box<dyn Read + '_>>;
}

/// How a plan is performed.
#[derive(Clone, Copy)]
pub struct PerformOptions<'a> {
    /// Where contents come from.
    pub source: Option<&'a dyn Source>,
    /// Where what is removed, or replaced by something of another type, is kept under its path; without, it is gone.
    pub quarantine: Option<&'a Root>,
    /// Writes over files whose contents differ and whose size is right, so that they keep their inode.
    pub in_place: bool,
    /// What becomes of extended attributes that nobody expects, of what is made anew and of what is pruned.
    pub others: Others,
}

impl Default for PerformOptions<'_> {
    fn default() -> Self {
        Self { source: None, quarantine: None, in_place: false, others: Others::Go }
    }
}

/// What performing tells, in order.
#[derive(Debug)]
pub enum Performed<'a> {
    /// This was done.
    Done {
        /// What.
        action: &'a Action,
        /// Whether what was there is kept.
        kept: bool,
    },
    /// This could not be done, because the source lacks the contents.
    Unresolved(Finding),
}

/// Where the contents of a file come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contents {
    /// The same path of the source directory.
    Source,
    /// This path of the tree itself, which holds them now.
    Tree(Vec<u8>),
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Removes what the manifest lacks, or what is in the way.
    Remove {
        /// What to remove.
        path: Vec<u8>,
        /// Whether it is a directory, empty by then.
        directory: bool,
    },
    /// Creates a directory; its attributes follow.
    MakeDirectory {
        /// Where.
        path: Vec<u8>,
    },
    /// Puts a regular file in place.
    Write {
        /// Where.
        path: Vec<u8>,
        /// What it is to be.
        resource: Rc<Resource>,
        /// Its contents.
        contents: Contents,
    },
    /// Puts a symlink, fifo or device in place.
    Create {
        /// Where.
        path: Vec<u8>,
        /// What it is to be.
        resource: Rc<Resource>,
    },
    /// Makes a hard link.
    Link {
        /// Where.
        path: Vec<u8>,
        /// The path that is already right.
        to: Vec<u8>,
    },
    /// Changes owner, permissions and xattrs where they are.
    SetAttributes {
        /// Where.
        path: Vec<u8>,
        /// What it is to be.
        resource: Rc<Resource>,
        /// Whether it was created by this plan: what it inherited goes then.
        fresh: bool,
    },
}

impl Action {
    /// What it does, in a word.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Remove { .. } => "remove",
            Self::MakeDirectory { .. } => "make-directory",
            Self::Write { .. } => "write",
            Self::Create { .. } => "create",
            Self::Link { .. } => "link",
            Self::SetAttributes { .. } => "set-attributes",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Remove { path, directory: false } => write!(f, "remove {}", Escaped(path)),
            Self::Remove { path, directory: true } => write!(f, "remove directory {}", Escaped(path)),
            Self::MakeDirectory { path } => write!(f, "create directory {}", Escaped(path)),
            Self::Write { path, resource, .. } => write!(f, "write {} ({} bytes)", Escaped(path), resource.size),
            Self::Create { path, resource } => {
                write!(f, "create {} {}", resource.mode.file_type().name(), Escaped(path))
            }
            Self::Link { path, to } => write!(f, "link {} to {}", Escaped(path), Escaped(to)),
            Self::SetAttributes { path, resource, .. } => {
                let kind =
                    if resource.mode.file_type() == FileType::Symlink { "owner" } else { "owner, mode and xattrs" };
                write!(f, "set {kind} of {}", Escaped(path))
            }
        }
    }
}

/// What is to be done, in the order of doing it.
#[derive(Debug, Default)]
pub struct ApplyPlan {
    /// Changes.
    pub actions: Vec<Action>,
    /// Differences that no change can mend: contents without a source, a directory in the way that is not empty.
    pub unresolved: Vec<Finding>,
    /// Paths compared.
    pub entries: u64,
    /// Bytes of file contents hashed.
    pub bytes: u64,
    prune: bool,
}

/// What was done.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct ApplyReport {
    /// Changes made.
    pub done: u64,
    /// Changes that could not be made, because the source lacks the contents.
    pub unresolved: u64,
}

#[cfg(test)]
mod tests;
