// SPDX-License-Identifier: Apache-2.0
//! A blob to entries, checked against both of its digests.
//!
//! ```text
//!   a second thread: read, hash, inflate ──▶ buffers ──▶ the caller's: hash, take the tar apart, visit
//! ```

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use super::compression::Decoder;
use super::tar::TarReader;
use super::{Entry, Limits};
use crate::digest::{Digest, HashingStream};
use crate::error::{Error, ErrorKind, Result};
use crate::tree::Progress;

/// Bytes of one buffer between the threads.
const BUFFER: usize = 256 << 10;

/// Bytes that are read at once of what is not inflated.
const REST: usize = 64 << 10;

/// Buffers that may wait between the threads.
const WAITING: usize = 4;

/// What a blob has to be.
#[derive(Debug, Clone, Copy)]
pub struct Expected {
    /// Digest of the blob as it is stored.
    pub blob: Digest,
    /// Digest of the tar in it.
    pub diff_id: Digest,
}

/// What was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReadReport {
    /// Entries of the tar.
    pub entries: u64,
    /// Bytes of the tar.
    pub bytes: u64,
}

/// Reads a blob to its end and hands over each entry with a reader of its contents, which is empty for everything
/// but a regular file and need not be read to its end. gzip, zstd or plain tar: the first bytes tell.
///
/// # Errors
/// `Corrupt` for a blob that is not the one of its digest, whatever else is wrong with it: another copy may be right.
/// `InvalidInput` for a blob that is, and that is no tar, is over a limit, or holds another tar than expected; what
/// `source` and `visit` fail with. Until it returns, nothing that was visited is to be trusted.
pub fn read(
    source: impl Read + Send,
    expected: &Expected,
    limits: &Limits,
    progress: &Progress,
    visit: &mut dyn FnMut(Entry, &mut dyn Read) -> Result<()>,
) -> Result<ReadReport> {
    let given_up = AtomicBool::new(false);
    thread::scope(|scope| {
        let (full, filled) = sync_channel(WAITING);
        let (empty, emptied) = channel();
        let inflating =
            scope.spawn(|| inflate(source, limits, &Filling { full, emptied, given_up: &given_up, progress }));
        let mut buffers =
            Buffers { filled, empty, current: Vec::new(), at: 0, total: 0, limit: limits.bytes, progress };
        let parsed = take_apart(&mut buffers, limits, progress, visit);
        let is_final = parsed.as_ref().err().is_some_and(|error| error.kind() != ErrorKind::InvalidInput);
        given_up.store(is_final, Ordering::Relaxed);
        // The other thread stops filling buffers, and learns the digest of the blob if that matters.
        drop(buffers);
        let inflated = inflating
            .join()
            .unwrap_or_else(|_| Err(io::Error::other(Error::new(ErrorKind::Io, "the inflating thread panicked"))));
        let blob = match inflated {
            Ok(blob) => blob,
            Err(error) => return Err(parsed.err().unwrap_or_else(|| read_failed(error))),
        };
        progress.check()?;
        if blob != expected.blob && !is_final {
            let message = format!("its blob is damaged: it has the digest {blob}, not {}", expected.blob);
            return Err(Error::new(ErrorKind::Corrupt, message));
        }
        let (report, diff_id) = parsed?;
        if diff_id != expected.diff_id {
            let message = format!("its tar has the diff ID {diff_id}, not {}", expected.diff_id);
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        Ok(report)
    })
}

fn take_apart(
    buffers: &mut Buffers<'_>,
    limits: &Limits,
    progress: &Progress,
    visit: &mut dyn FnMut(Entry, &mut dyn Read) -> Result<()>,
) -> Result<(ReadReport, Digest)> {
    let mut tar = TarReader::new(HashingStream::new(buffers), limits.bytes);
    let mut entries = 0;
    while let Some((entry, contents)) = tar.next()? {
        progress.add_entry();
        entries += 1;
        visit(entry, &mut Cancellable { contents, progress })?;
    }
    let mut rest = tar.into_inner();
    io::copy(&mut rest, &mut io::sink()).map_err(read_failed)?;
    let (_, diff_id, bytes) = rest.finish();
    progress.add_bytes(bytes);
    Ok((ReadReport { entries, bytes }, diff_id))
}

/// The contents of an entry, which can be given up also within a hole, of which the blob holds nothing.
struct Cancellable<'a, R> {
    contents: R,
    progress: &'a Progress,
}

impl<R: Read> Read for Cancellable<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.progress.check().map_err(io::Error::other)?;
        self.contents.read(out)
    }
}

/// The other thread's end of the buffers.
struct Filling<'a> {
    full: SyncSender<io::Result<Vec<u8>>>,
    emptied: Receiver<Vec<u8>>,
    /// What was read failed for a reason that the blob has no part in: its digest does not matter.
    given_up: &'a AtomicBool,
    progress: &'a Progress,
}

/// Fills buffers until the blob ends, cannot be decompressed or is not taken any more; returns its digest.
fn inflate(source: impl Read, limits: &Limits, to: &Filling<'_>) -> io::Result<Digest> {
    let mut source = HashingStream::new(source);
    let mut decoder = Decoder::new(&mut source, limits)?;
    loop {
        let mut buffer = to.emptied.try_recv().unwrap_or_else(|_| Vec::with_capacity(BUFFER));
        buffer.clear();
        let filled = decoder.by_ref().take(BUFFER as u64).read_to_end(&mut buffer);
        let (sent, ended) = match filled {
            Ok(0) => break,
            Ok(_) => (to.full.send(Ok(buffer)), false),
            Err(error) => (to.full.send(Err(error)), true),
        };
        if ended || sent.is_err() {
            break;
        }
    }
    drop(decoder);
    // What follows the last frame belongs to the blob, and so does what follows an error.
    let mut rest = [0; REST];
    let goes_on = || !to.given_up.load(Ordering::Relaxed) && to.progress.check().is_ok();
    while goes_on() && source.read(&mut rest)? > 0 {}
    Ok(source.finish().1)
}

/// What the other thread filled.
struct Buffers<'a> {
    filled: Receiver<io::Result<Vec<u8>>>,
    empty: Sender<Vec<u8>>,
    current: Vec<u8>,
    at: usize,
    total: u64,
    limit: u64,
    progress: &'a Progress,
}

impl Read for Buffers<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.at == self.current.len() {
            // Here, so that a large file can be given up, too.
            self.progress.check().map_err(io::Error::other)?;
            let Ok(next) = self.filled.recv() else { return Ok(0) };
            let used = std::mem::replace(&mut self.current, next?);
            // Nobody waits for it any more once the blob has ended.
            let _ = self.empty.send(used);
            self.at = 0;
            self.total += self.current.len() as u64;
            if self.total > self.limit {
                return Err(io::Error::other(over_limit(self.limit)));
            }
        }
        let n = out.len().min(self.current.len() - self.at);
        out[..n].copy_from_slice(&self.current[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

/// A layer that holds more than it may.
pub fn over_limit(limit: u64) -> Error {
    let message = format!("it holds more than {limit} bytes (max_bytes allows more)");
    Error::new(ErrorKind::InvalidInput, message)
}

/// What a blob could not be read for: an error of ours that was passed through, bytes that are no archive, or the
/// source.
pub fn read_failed(error: io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof => {
            ErrorKind::InvalidInput
        }
        _ => ErrorKind::Io,
    };
    match error.downcast::<Error>() {
        Ok(ours) => ours,
        Err(error) => Error::new(kind, "its blob can't be read").with_source(error),
    }
}

#[cfg(test)]
mod tests;
