// SPDX-License-Identifier: Apache-2.0
//! A directory tree, reached only through a confined handle.
//!
//! Nothing here joins strings to a root and hands them to the kernel. [`Root`] resolves a path beneath
//! itself without following a symlink; [`walk`] goes down by handles, one name at a time.
//!
//! The walk is an ordered stream that several threads fill:
//!
//! ```text
//!   caller's thread: list directories, sort ──▶ batches of names ──▶ workers: open, fstat, xattrs, hash two at a time
//!          ▲                                                              │
//!          └────────────── steps, in path order ◀── window of batches ◀───┘
//! ```
//!
//! Memory is bounded by the depth of the tree, the largest directory, the window (named constants in
//! `walk`), and the table of files with more than one link.

mod attributes;
mod contents;
mod edit;
mod inode;
mod links;
mod listing;
mod progress;
mod quarantine;
mod root;
mod walk;
mod walker;
mod worker;

pub use attributes::{Attributes, Others};
pub use edit::{Special, TEMPORARY_PREFIX, is_temporary};
pub use inode::{Metadata, Node};
pub use links::InodeId;
pub use progress::Progress;
pub use root::Root;
pub use walk::{Steps, WalkOptions, thread_count, walk};
pub use walker::Step;
