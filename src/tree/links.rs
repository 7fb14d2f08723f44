// SPDX-License-Identifier: Apache-2.0
//! Files with more than one link: each is hashed once, by whichever thread comes first.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use rustix::fs::Stat;

use crate::digest::Digest;

/// Which inode: unique on the machine for as long as the inode lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InodeId {
    /// Device that holds it.
    pub dev: u64,
    /// Its number there.
    pub ino: u64,
}

impl InodeId {
    /// The inode that a `stat` is of.
    #[allow(clippy::unnecessary_cast, reason = "the fields' types differ between architectures")]
    pub fn of(stat: &Stat) -> Self {
        Self { dev: stat.st_dev as u64, ino: stat.st_ino as u64 }
    }
}

/// Digest of an inode's contents.
#[derive(Clone, Copy)]
enum Contents {
    /// A thread is hashing it.
    Claimed,
    /// Hashed; `None` if that failed, which the claimer reports under its own path.
    Known(Option<Digest>),
}

/// Who claims an inode publishes its digest without waiting for anybody, so whoever waits for a digest waits for one
/// worker that reads, and for nothing else.
#[derive(Default)]
pub(super) struct LinkTable {
    inodes: Mutex<Inodes>,
    published: Condvar,
}

#[derive(Default)]
struct Inodes {
    contents: HashMap<InodeId, Contents>,
    /// Threads that wait for a digest: to wake nobody is a system call, too.
    waiting: usize,
}

impl LinkTable {
    /// For the first caller, who must hash the file.
    pub(super) fn claim(&self, id: InodeId) -> Option<Claim<'_>> {
        match self.lock().contents.entry(id) {
            Entry::Occupied(_) => None,
            Entry::Vacant(place) => {
                place.insert(Contents::Claimed);
                Some(Claim { table: self, id, digest: None })
            }
        }
    }

    /// Waits until the claimer has published. `None` if it could not read the file.
    pub(super) fn digest(&self, id: InodeId) -> Option<Digest> {
        let mut inodes = self.lock();
        loop {
            match inodes.contents.get(&id) {
                Some(Contents::Known(digest)) => return *digest,
                Some(Contents::Claimed) => {
                    inodes.waiting += 1;
                    inodes = self.published.wait(inodes).unwrap_or_else(PoisonError::into_inner);
                    inodes.waiting -= 1;
                }
                None => return None,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inodes> {
        self.inodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of whoever hashes an inode. Dropped without a digest it tells that the file could not be read.
pub(super) struct Claim<'a> {
    table: &'a LinkTable,
    id: InodeId,
    digest: Option<Digest>,
}

impl Claim<'_> {
    pub(super) fn publish(mut self, digest: Digest) {
        self.digest = Some(digest);
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut inodes = self.table.lock();
        inodes.contents.insert(self.id, Contents::Known(self.digest));
        if inodes.waiting > 0 {
            self.table.published.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_that_is_given_up_is_told_to_those_who_wait() {
        let table = LinkTable::default();
        let [broken, whole] = [1, 2].map(|ino| InodeId { dev: 1, ino });
        let claims = [broken, whole].map(|id| table.claim(id).unwrap());
        assert!(table.claim(broken).is_none());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| [broken, whole].map(|id| table.digest(id)));
            let [given_up, kept] = claims;
            drop(given_up);
            kept.publish(Digest::EMPTY);
            assert_eq!(waiting.join().unwrap(), [None, Some(Digest::EMPTY)]);
        });
    }
}
