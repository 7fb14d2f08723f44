// SPDX-License-Identifier: Apache-2.0
//! A thread of the walk: takes tasks, opens what they name, and hashes two files at a time.
//!
//! ```text
//!   batches ──▶ task: open, fstat, xattrs ──▶ no contents: done
//!                                        └──▶ the free lane: read ──▶ hash, in step with the other lane ──▶ done
//! ```
//!
//! A lane that runs out of bytes reads more, one whose file has ended takes the next task; the other keeps its place
//! meanwhile. A worker waits for tasks only if both lanes are free, and takes none into the second lane that another
//! worker waits for. Where two lanes are no faster than one, the second stays free.

use std::ffi::CStr;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use super::contents::Contents;
use super::inode::{self, Node, Opened, Scratch};
use super::walk::Shared;
use super::walker::{Batch, Task};
use crate::digest::{Lane, advance, is_paired};
use crate::error::{Error, ErrorKind, Result};

/// Bytes read at once into each of the two lanes. Small enough to stay in the second-level cache while they are hashed;
/// more gains nothing and costs resident memory per thread.
const READ_BUFFER: usize = 64 << 10;

/// Tasks without contents that are done in a row while a block of the other lane waits: somebody may wait for its file.
const IN_BETWEEN: usize = 64;

pub(super) struct Worker<'a> {
    shared: &'a Shared<'a>,
    batch: Option<Arc<Batch>>,
    scratch: Scratch,
    files: [Option<(Place<'a>, Contents<'a>)>; 2],
    lanes: [Lane; 2],
    /// Lanes that are used.
    used: usize,
}

impl<'a> Worker<'a> {
    pub(super) fn new(shared: &'a Shared<'a>) -> Self {
        Self {
            shared,
            batch: None,
            scratch: Scratch::new(),
            files: [None, None],
            lanes: [Lane::new(READ_BUFFER), Lane::new(READ_BUFFER)],
            used: if is_paired() { 2 } else { 1 },
        }
    }

    /// Works until the walk is over.
    pub(super) fn run(mut self) {
        self.shared.begin();
        loop {
            for n in 0..self.used {
                self.occupy(n);
            }
            if self.shared.is_stopping() || self.files.iter().all(Option::is_none) {
                return;
            }
            advance(&mut self.lanes);
            for n in 0..self.used {
                self.go_on(n);
            }
        }
    }

    /// Takes tasks until one of them has the lane to itself, or there were enough.
    fn occupy(&mut self, n: usize) {
        let mut taken = 0;
        while self.files[n].is_none() && !(taken >= IN_BETWEEN && self.lanes.iter().any(Lane::waits)) {
            taken += 1;
            let Some(place) = self.next_place() else { return };
            match self.shared.open(&place, &mut self.scratch) {
                Some(Ok(Opened::Unread(contents))) => {
                    self.files[n] = Some((place, contents));
                    self.go_on(n);
                }
                Some(Ok(Opened::Read(node))) => place.put(Some(Ok(node))),
                Some(Err(error)) => place.put(Some(Err(error))),
                None => place.put(None),
            }
        }
    }

    /// Sees to it that a block waits in a lane that has a file, or that the file is done.
    fn go_on(&mut self, n: usize) {
        let lane = &mut self.lanes[n];
        while !lane.waits()
            && let Some((_, contents)) = &mut self.files[n]
        {
            let error = match lane.is_ended() {
                true => None,
                false => match contents.fill(lane, self.shared.progress) {
                    Ok(()) => continue,
                    Err(error) => Some(error),
                },
            };
            let Some((place, contents)) = self.files[n].take() else { return };
            let result = match error {
                None => Ok(contents.finish(lane)),
                Some(error) => {
                    lane.clear();
                    // Before the consumer can ask for its digest.
                    drop(contents);
                    Err(error)
                }
            };
            place.put(Some(result));
        }
    }

    /// The next task. None if the walk is over or, while a lane has a file, if there is none now or others wait.
    fn next_place(&mut self) -> Option<Place<'a>> {
        let may_wait = self.files.iter().all(Option::is_none);
        loop {
            if self.shared.is_stopping() || (!may_wait && self.shared.others_wait()) {
                return None;
            }
            if self.batch.is_none() {
                self.batch = Some(self.shared.next_batch(may_wait)?);
            }
            let place = self.batch.as_ref().and_then(|batch| {
                let index = batch.next.fetch_add(1, Ordering::Relaxed);
                let batch = (index < batch.tasks.len()).then(|| Arc::clone(batch))?;
                Some(Place { shared: self.shared, batch, index })
            });
            if place.is_some() {
                return place;
            }
            self.batch = None;
        }
    }
}

/// A task, and where its result goes. It counts as done once this is dropped, by a panic too: the consumer must not
/// wait for a task that nobody will end.
struct Place<'a> {
    shared: &'a Shared<'a>,
    batch: Arc<Batch>,
    index: usize,
}

impl Place<'_> {
    fn put(self, result: Option<Result<Node>>) {
        *self.batch.results[self.index].lock().unwrap_or_else(PoisonError::into_inner) = result;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.batch.undone.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.shared.batch_is_done(&self.batch);
        }
    }
}

impl Shared<'_> {
    /// Opens what a task names. `None` for a task that needs no work.
    fn open(&self, place: &Place<'_>, scratch: &mut Scratch) -> Option<Result<Opened<'_>>> {
        let batch = &place.batch;
        match batch.tasks[place.index] {
            Task::Unlisted(_) => None,
            Task::Root => {
                let read = inode::read_directory(batch.directories[0].fd.as_fd(), scratch);
                Some(read.map(Opened::Read))
            }
            Task::Read { directory, start, end, file_type } => {
                let dir = batch.directories[usize::from(directory)].fd.as_fd();
                Some(match CStr::from_bytes_with_nul(batch.name(start, end)) {
                    Ok(name) => inode::open(dir, name, file_type, &self.links, self.skip, scratch),
                    Err(e) => Err(Error::new(ErrorKind::InvalidInput, "a name with a NUL").with_source(e)),
                })
            }
        }
    }
}
