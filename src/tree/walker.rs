// SPDX-License-Identifier: Apache-2.0
//! Lists directories and cuts what is in them into batches, in path order.
//!
//! The path from the root down to where the walk stands is a stack of frames. Only the [`OPEN_FRAMES`] lowest keep
//! their handle; a frame that has given its handle up is reopened through `..` of its child, and must then be the
//! same inode as before. So depth is bounded neither by PATH_MAX nor by the number of file handles.

use std::collections::VecDeque;
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustix::fs::{Mode, OFlags, fstat, openat};

use super::inode::{Node, open_unread};
use super::links::InodeId;
use super::listing::{GETDENTS_BUFFER, Listing};
use crate::error::{Error, ErrorKind, Escaped, Result};
use crate::inode::FileType;

/// Entries in a batch: enough to make the hand-over between threads cheap, few enough to share a small tree out.
const BATCH_ENTRIES: usize = 64;

/// Directories in a batch: each holds a handle open until the batch is done.
const BATCH_DIRECTORIES: usize = 16;

/// Bytes of paths and names in a batch: what bounds the window in a tree of very long paths.
const BATCH_BYTES: usize = 128 << 10;

/// Frames that keep their directory's handle.
const OPEN_FRAMES: usize = 64;

/// What the walk comes upon, in path order.
#[derive(Debug)]
pub enum Step {
    /// A path and the inode there, or why it can't be read.
    Entry {
        /// The path, beginning with `/`.
        path: Vec<u8>,
        /// The inode.
        node: Result<Node>,
    },
    /// What is in the directory `path` can't be listed. It stands where the contents would.
    Unlisted {
        /// The path of the directory.
        path: Vec<u8>,
        /// Why.
        error: Error,
    },
}

pub(super) enum Task {
    /// Name in `Batch::names`, with its NUL, in the directory of that index.
    Read { directory: u16, start: u32, end: u32, file_type: FileType },
    /// The root directory itself.
    Root,
    /// A step that needs no work.
    Unlisted(Mutex<Option<(Vec<u8>, Error)>>),
}

pub(super) struct BatchDirectory {
    pub(super) fd: Arc<OwnedFd>,
    /// Path with its final slash.
    pub(super) path: Vec<u8>,
}

/// A run of entries in path order. Workers take tasks by `next`; the last to finish one brings `undone` to zero.
pub(super) struct Batch {
    pub(super) directories: Vec<BatchDirectory>,
    pub(super) names: Vec<u8>,
    pub(super) tasks: Vec<Task>,
    pub(super) results: Vec<Mutex<Option<Result<Node>>>>,
    pub(super) next: AtomicUsize,
    pub(super) undone: AtomicUsize,
    /// The consumer waits for it. Written and read under the queue's lock.
    pub(super) wanted: AtomicBool,
}

impl Batch {
    fn new() -> Self {
        Self {
            directories: Vec::new(),
            names: Vec::new(),
            tasks: Vec::with_capacity(BATCH_ENTRIES),
            results: Vec::new(),
            next: AtomicUsize::new(0),
            undone: AtomicUsize::new(0),
            wanted: AtomicBool::new(false),
        }
    }

    fn is_full(&self) -> bool {
        self.tasks.len() >= BATCH_ENTRIES
            || self.directories.len() >= BATCH_DIRECTORIES
            || self.directories.iter().map(|d| d.path.len()).sum::<usize>() + self.names.len() >= BATCH_BYTES
    }

    fn seal(mut self) -> Self {
        self.results.resize_with(self.tasks.len(), Mutex::default);
        self.undone = AtomicUsize::new(self.tasks.len());
        self
    }

    /// Whether every task has its result.
    pub(super) fn is_done(&self) -> bool {
        self.undone.load(Ordering::Acquire) == 0
    }

    /// The name of a task, with its NUL.
    pub(super) fn name(&self, start: u32, end: u32) -> &[u8] {
        &self.names[start as usize..end as usize]
    }
}

struct Frame {
    fd: Option<Arc<OwnedFd>>,
    id: InodeId,
    listing: Listing,
    /// Length of the walker's path up to and including the slash before this directory's entries.
    path_len: usize,
    /// Index of this directory in the batch in the making.
    in_batch: Option<u16>,
}

pub(super) struct Walker {
    frames: VecDeque<Frame>,
    /// Frames at the top of the stack that have given up their handle.
    closed: usize,
    path: Vec<u8>,
    /// Root directory, until its own step was made.
    root: Option<Arc<OwnedFd>>,
    include_root: bool,
    buffer: Box<[MaybeUninit<u8>]>,
}

impl Walker {
    pub(super) fn new(root: Arc<OwnedFd>, include_root: bool) -> Self {
        Self {
            frames: VecDeque::new(),
            closed: 0,
            path: b"/".to_vec(),
            root: Some(root),
            include_root,
            buffer: vec![MaybeUninit::uninit(); GETDENTS_BUFFER].into_boxed_slice(),
        }
    }

    /// The next run of entries, `None` at the end.
    pub(super) fn next_batch(&mut self) -> Option<Batch> {
        let mut batch = Batch::new();
        for frame in &mut self.frames {
            frame.in_batch = None;
        }
        if let Some(root) = self.root.take() {
            if self.include_root {
                batch.directories.push(BatchDirectory { fd: Arc::clone(&root), path: Vec::new() });
                batch.tasks.push(Task::Root);
            }
            self.enter(root, &mut batch);
        }
        while !batch.is_full() {
            let Some(frame) = self.frames.back_mut() else { break };
            match frame.listing.next() {
                Some(place) if place.subtree => {
                    let path_len = self.path.len();
                    self.path.extend_from_slice(frame.listing.name(&place));
                    let opened = match (&frame.fd, CStr::from_bytes_with_nul(frame.listing.name_with_nul(&place))) {
                        (Some(fd), Ok(name)) => open_unread(fd.as_fd(), name, FileType::Directory),
                        _ => Err(Error::new(ErrorKind::Changed, "its directory is gone")),
                    };
                    match opened {
                        Ok(fd) => {
                            self.path.push(b'/');
                            self.enter(Arc::new(fd), &mut batch);
                        }
                        Err(error) => {
                            batch.unlisted(self.path.clone(), error);
                            self.path.truncate(path_len);
                        }
                    }
                }
                Some(place) => {
                    let Some(directory) = frame.directory(&self.path, &mut batch) else { continue };
                    let start = batch.names.len() as u32;
                    batch.names.extend_from_slice(frame.listing.name_with_nul(&place));
                    let end = batch.names.len() as u32;
                    batch.tasks.push(Task::Read { directory, start, end, file_type: place.file_type });
                }
                None => self.leave(&mut batch),
            }
        }
        (!batch.tasks.is_empty()).then(|| batch.seal())
    }

    /// Lists a directory and makes it the lowest frame. `self.path` ends with its slash.
    fn enter(&mut self, fd: Arc<OwnedFd>, batch: &mut Batch) {
        let listed = fstat(&fd).and_then(|stat| Ok((InodeId::of(&stat), Listing::read(fd.as_fd(), &mut self.buffer)?)));
        match listed {
            Ok((id, listing)) => {
                let path_len = self.path.len();
                self.frames.push_back(Frame { fd: Some(fd), id, listing, path_len, in_batch: None });
                if self.frames.len() - self.closed > OPEN_FRAMES {
                    self.frames[self.closed].fd = None;
                    self.closed += 1;
                }
            }
            Err(errno) => {
                let error = Error::new(ErrorKind::Io, "getdents").with_source(std::io::Error::from(errno));
                batch.unlisted(self.directory_path(), error);
                self.up();
            }
        }
    }

    /// Leaves the lowest frame, reopening the one above it if it gave up its handle.
    fn leave(&mut self, batch: &mut Batch) {
        let Some(child) = self.frames.pop_back() else { return };
        self.up();
        let Some(parent) = self.frames.back_mut() else { return };
        if parent.fd.is_none() {
            self.closed -= 1;
            match child.fd.as_ref().ok_or_else(gone).and_then(|fd| reopen_parent(fd, parent.id)) {
                Ok(fd) => parent.fd = Some(Arc::new(fd)),
                Err(error) => {
                    parent.listing.skip_rest();
                    batch.unlisted(self.directory_path(), error);
                }
            }
        }
    }

    /// The path without its final slash, which only the root keeps.
    fn directory_path(&self) -> Vec<u8> {
        let len = (self.path.len() - 1).max(1);
        self.path[..len].to_vec()
    }

    fn up(&mut self) {
        let len = self.frames.back().map_or(1, |frame| frame.path_len);
        self.path.truncate(len);
    }
}

impl Frame {
    /// Index of this directory in the batch; `None` without a handle, which [`Walker::leave`] has reported.
    fn directory(&mut self, path: &[u8], batch: &mut Batch) -> Option<u16> {
        if self.in_batch.is_none() {
            let fd = Arc::clone(self.fd.as_ref()?);
            self.in_batch = Some(batch.directories.len() as u16);
            batch.directories.push(BatchDirectory { fd, path: path.to_vec() });
        }
        self.in_batch
    }
}

impl Batch {
    fn unlisted(&mut self, path: Vec<u8>, error: Error) {
        self.tasks.push(Task::Unlisted(Mutex::new(Some((path, error)))));
    }
}

fn reopen_parent(child: &OwnedFd, id: InodeId) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = openat(child, c"..", flags, Mode::empty()).map_err(|e| Error::io("openat", "..", e))?;
    let stat = fstat(&fd).map_err(|e| Error::io("fstat", "..", e))?;
    if InodeId::of(&stat) == id { Ok(fd) } else { Err(gone()) }
}

fn gone() -> Error {
    Error::new(ErrorKind::Changed, "a directory in it was moved while the tree was walked")
}

/// "path: error".
pub(super) fn at(path: &[u8], error: Error) -> Error {
    error.context(Escaped(path))
}
