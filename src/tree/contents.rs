// SPDX-License-Identifier: Apache-2.0
//! The contents of one file on their way through a lane.

use std::os::fd::OwnedFd;

use rustix::fs::{self as rfs, Stat};
use rustix::io::Errno;

use super::inode::{Node, call, changed};
use super::links::Claim;
use super::progress::Progress;
use crate::digest::Lane;
use crate::error::Result;

/// An open file, read into a [`Lane`] piece by piece, that must not change meanwhile.
pub(super) struct Contents<'a> {
    fd: OwnedFd,
    /// Everything but the digest.
    node: Node,
    /// When it was last changed, as it was opened.
    changed: (i64, u64),
    /// Bytes read.
    total: u64,
    /// If other paths lead to it: they wait for the digest.
    claim: Option<Claim<'a>>,
}

impl<'a> Contents<'a> {
    /// Nothing has been read of it.
    pub(super) fn new(fd: OwnedFd, node: Node, stat: &Stat, claim: Option<Claim<'a>>) -> Self {
        Self { fd, node, changed: change_time(stat), total: 0, claim }
    }

    /// Adds the next bytes to the lane, which holds no block that waits, or ends it.
    ///
    /// # Errors
    /// `Changed` if the file grew or shrank or was written to meanwhile; `Cancelled`.
    pub(super) fn fill(&mut self, lane: &mut Lane, progress: &Progress) -> Result<()> {
        progress.check()?;
        let size = self.node.metadata.size;
        let space = lane.space();
        let asked = space.len();
        let n = loop {
            match rustix::io::read(&self.fd, &mut *space) {
                Err(Errno::INTR) => {}
                read => break read.map_err(|e| call("read", e))?,
            }
        };
        lane.add(n);
        progress.add_bytes(n as u64);
        self.total += n as u64;
        // A read that got everything fstat promised and less than it asked for has seen the end, too.
        let ended = n == 0 || (n < asked && self.total == size);
        if self.total > size || (ended && self.total < size) {
            return Err(changed("its size"));
        }
        if ended {
            // What came in one read had no time in between to be changed in.
            if self.total > n as u64 {
                self.check_unchanged()?;
            }
            lane.end();
        }
        Ok(())
    }

    fn check_unchanged(&self) -> Result<()> {
        let stat = rfs::fstat(&self.fd).map_err(|e| call("fstat", e))?;
        match change_time(&stat) == self.changed && stat.st_size as u64 == self.node.metadata.size {
            true => Ok(()),
            false => Err(changed("it")),
        }
    }

    /// The inode with the digest of a lane that has ended.
    pub(super) fn finish(mut self, lane: &mut Lane) -> Node {
        let digest = lane.finish();
        if let Some(claim) = self.claim.take() {
            claim.publish(digest);
        }
        Node { digest: Some(digest), ..self.node }
    }
}

#[allow(clippy::unnecessary_cast, reason = "the fields' types differ between architectures")]
fn change_time(stat: &Stat) -> (i64, u64) {
    (stat.st_ctime as i64, stat.st_ctime_nsec as u64)
}
