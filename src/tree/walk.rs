// SPDX-License-Identifier: Apache-2.0
//! The ordered, parallel walk.
//!
//! Batches wait in a window in the order of their paths. Several workers may share a batch, so that ten large
//! files in a row are hashed side by side; the caller takes the front batch when all of it is done. The window's
//! size is what bounds memory and what lets workers run ahead of a slow file.
//!
//! Nobody is woken for nothing: waking costs as much as reading a small file, and takes a core from a worker. A
//! caller that has to sleep sleeps until half of the window is done, or until a worker has too little to do.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::Root;
use super::inode::Node;
use super::links::{InodeId, LinkTable};
use super::progress::Progress;
use super::walker::{Batch, Step, Task, Walker, at};
use super::worker::Worker;
use crate::error::{Error, ErrorKind, Result};
use crate::inode::FileType;

/// Batches between the walker and the consumer. More let small files overtake a large one for longer; each costs
/// up to a batch of names, xattrs and open directories.
const WINDOW_BATCHES: usize = 16;

/// Most threads by default: disks of small machines gain nothing from more.
const DEFAULT_THREADS_MAX: usize = 4;

/// Most threads at all, whoever asks.
const THREADS_MAX: usize = 64;

/// Stack of a worker in bytes; its buffers are on the heap.
const WORKER_STACK: usize = 128 << 10;

/// How to walk.
#[derive(Debug, Clone, Default)]
pub struct WalkOptions {
    /// Worker threads; 0 means the cores, at most four.
    pub threads: usize,
    /// Begins with the root directory itself, as `/`.
    pub include_root: bool,
    /// Files whose contents are not read: their nodes come without a digest. For a manifest that lies in the tree
    /// that it describes.
    pub skip: Vec<InodeId>,
}

#[derive(Default)]
struct Queue {
    batches: VecDeque<Arc<Batch>>,
    stopped: bool,
    /// A worker has found nothing to do, or nothing to do besides one file, since the last batch came.
    starving: bool,
}

/// What the consumer and the workers share.
pub(super) struct Shared<'a> {
    queue: Mutex<Queue>,
    /// Workers wait here for batches.
    work: Condvar,
    /// The consumer waits here for batches to be done.
    done: Condvar,
    /// Set with the queue's `stopped`; read between two pieces of work, without the lock.
    stopping: AtomicBool,
    /// Workers that wait for batches, or have not come to ask for one yet. Grows under the queue's lock only.
    idle: AtomicUsize,
    pub(super) links: LinkTable,
    pub(super) skip: &'a [InodeId],
    pub(super) progress: &'a Progress,
}

/// The steps of a walk, in path order.
pub struct Steps<'a> {
    shared: &'a Shared<'a>,
    walker: Walker,
    exhausted: bool,
    window: VecDeque<Arc<Batch>>,
    front: Option<(Arc<Batch>, usize)>,
}

/// Walks the tree beneath `root` and hands its steps to `consume`, on the caller's thread. Workers are gone when
/// this returns, however it returns.
///
/// # Errors
/// Whatever `consume` gives; threads that can't be started.
pub fn walk<T>(
    root: &Root,
    options: &WalkOptions,
    progress: &Progress,
    consume: impl FnOnce(&mut Steps<'_>) -> Result<T>,
) -> Result<T> {
    let threads = thread_count(options.threads);
    let shared = Shared {
        queue: Mutex::default(),
        work: Condvar::new(),
        done: Condvar::new(),
        stopping: AtomicBool::new(false),
        idle: AtomicUsize::new(threads),
        links: LinkTable::default(),
        skip: &options.skip,
        progress,
    };
    let root: Arc<OwnedFd> = Arc::new(root.reopen()?);
    thread::scope(|scope| {
        // Dropped on every way out, a panic of the consumer too: the scope waits for the workers.
        let _stop = StopOnDrop(&shared);
        for n in 0..threads {
            thread::Builder::new()
                .name(format!("hash-{n}"))
                .stack_size(WORKER_STACK)
                .spawn_scoped(scope, || Worker::new(&shared).run())
                .map_err(|e| Error::new(ErrorKind::Io, "starting a thread").with_source(e))?;
        }
        let mut steps = Steps {
            shared: &shared,
            walker: Walker::new(root, options.include_root),
            exhausted: false,
            window: VecDeque::with_capacity(WINDOW_BATCHES),
            front: None,
        };
        consume(&mut steps)
    })
}

/// Hashing threads that are used: 0 asks for the cores, at most four.
pub fn thread_count(asked: usize) -> usize {
    match asked {
        0 => thread::available_parallelism().map_or(1, usize::from).min(DEFAULT_THREADS_MAX),
        n => n.min(THREADS_MAX),
    }
}

impl Steps<'_> {
    /// The next step; `None` at the end.
    ///
    /// # Errors
    /// `Cancelled`, and nothing else: what can't be read is a step.
    #[allow(clippy::should_implement_trait, reason = "an iterator of results would hide that an error is the end")]
    pub fn next(&mut self) -> Result<Option<Step>> {
        let shared = self.shared;
        loop {
            shared.progress.check()?;
            if let Some((batch, next)) = &mut self.front {
                if let Some(task) = batch.tasks.get(*next) {
                    *next += 1;
                    shared.progress.add_entry();
                    return Ok(Some(shared.step(batch, task, *next - 1)));
                }
                self.front = None;
            }
            self.feed();
            match self.window.pop_front() {
                Some(batch) => {
                    shared.wait_for(&batch, self.window.get(WINDOW_BATCHES / 2));
                    self.front = Some((batch, 0));
                }
                None => return Ok(None),
            }
        }
    }

    /// Fills the window.
    fn feed(&mut self) {
        while !self.exhausted && self.window.len() < WINDOW_BATCHES {
            match self.walker.next_batch() {
                Some(batch) => {
                    let batch = Arc::new(batch);
                    self.window.push_back(Arc::clone(&batch));
                    let mut queue = self.shared.lock();
                    queue.batches.push_back(batch);
                    queue.starving = false;
                    if self.shared.others_wait() {
                        // All of them: several may share this batch.
                        self.shared.work.notify_all();
                    }
                }
                None => self.exhausted = true,
            }
        }
    }
}

impl Shared<'_> {
    /// A worker is there.
    pub(super) fn begin(&self) {
        self.idle.fetch_sub(1, Ordering::Relaxed);
    }

    /// A batch that has tasks left. `None` when the walk is over; when there is none now, unless the worker `may_wait`.
    pub(super) fn next_batch(&self, may_wait: bool) -> Option<Arc<Batch>> {
        let mut queue = self.lock();
        loop {
            if queue.stopped {
                return None;
            }
            match queue.batches.front() {
                Some(batch) if batch.next.load(Ordering::Relaxed) < batch.tasks.len() => {
                    return Some(Arc::clone(batch));
                }
                Some(_) => drop(queue.batches.pop_front()),
                None => {
                    if !queue.starving {
                        queue.starving = true;
                        self.done.notify_all();
                    }
                    if !may_wait {
                        return None;
                    }
                    self.idle.fetch_add(1, Ordering::Relaxed);
                    queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
                    self.idle.fetch_sub(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// Whether a worker waits for batches. One that waits is woken when the next batch comes.
    pub(super) fn others_wait(&self) -> bool {
        self.idle.load(Ordering::Relaxed) > 0
    }

    /// Whether nobody wants the rest.
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// To be called once for each batch, when its last task is done.
    pub(super) fn batch_is_done(&self, batch: &Batch) {
        // Under the lock, or the consumer could look before and sleep after.
        let _queue = self.lock();
        if batch.wanted.load(Ordering::Relaxed) {
            self.done.notify_all();
        }
    }

    /// Turns what a worker left behind into a step.
    fn step(&self, batch: &Batch, task: &Task, index: usize) -> Step {
        let path = match task {
            Task::Unlisted(step) => {
                let taken = step.lock().unwrap_or_else(PoisonError::into_inner).take();
                let (path, error) = taken.unwrap_or_else(|| (Vec::new(), unfinished()));
                return Step::Unlisted { error: at(&path, error), path };
            }
            Task::Root => b"/".to_vec(),
            Task::Read { directory, start, end, .. } => {
                let directory = &batch.directories[usize::from(*directory)].path;
                let name = &batch.name(*start, *end - 1);
                let mut path = Vec::with_capacity(directory.len() + name.len());
                path.extend_from_slice(directory);
                path.extend_from_slice(name);
                path
            }
        };
        let taken = batch.results[index].lock().unwrap_or_else(PoisonError::into_inner).take();
        let node = taken.unwrap_or_else(|| Err(unfinished())).and_then(|node| self.with_shared_digest(node));
        Step::Entry { node: node.map_err(|error| at(&path, error)), path }
    }

    /// Fills in the digest of a file that another of its paths had hashed.
    fn with_shared_digest(&self, mut node: Node) -> Result<Node> {
        let missing = node.metadata.file_type == FileType::Regular && node.digest.is_none();
        if missing && !self.skip.contains(&node.metadata.id) {
            node.digest = self.links.digest(node.metadata.id);
            if node.digest.is_none() {
                let message = "its contents could not be read through another of its hard links";
                return Err(Error::new(ErrorKind::Io, message));
            }
        }
        Ok(node)
    }

    /// Waits until `batch` is done; if it has to wait at all, until `later` is done too or a worker starves.
    fn wait_for(&self, batch: &Batch, later: Option<&Arc<Batch>>) {
        if batch.is_done() {
            return;
        }
        let mut queue = self.lock();
        batch.wanted.store(true, Ordering::Relaxed);
        if let Some(later) = later {
            later.wanted.store(true, Ordering::Relaxed);
        }
        while !batch.is_done() || (!queue.starving && later.is_some_and(|later| !later.is_done())) {
            queue = self.done.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Only a step that was taken twice could meet this.
fn unfinished() -> Error {
    Error::new(ErrorKind::Io, "was not read")
}

struct StopOnDrop<'a>(&'a Shared<'a>);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stopping.store(true, Ordering::Relaxed);
        self.0.lock().stopped = true;
        self.0.work.notify_all();
    }
}

#[cfg(test)]
mod tests;
