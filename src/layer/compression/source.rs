// SPDX-License-Identifier: Apache-2.0
//! A blob's bytes, of which the next ones can be looked at before they are taken.

use std::io::{self, BufRead, Read};

/// Bytes of a blob that are read at once.
const BUFFER: usize = 64 << 10;

/// See the [module](self).
pub struct Source<R> {
    inner: R,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl<R: Read> Source<R> {
    pub fn new(inner: R) -> Self {
        Self { inner, buffer: vec![0; BUFFER].into(), start: 0, end: 0 }
    }

    /// The next bytes: `wanted` or more, fewer only at the end.
    pub fn peek(&mut self, wanted: usize) -> io::Result<&[u8]> {
        if self.buffer.len() - self.start < wanted {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        while self.end - self.start < wanted {
            match self.inner.read(&mut self.buffer[self.end..]) {
                Ok(0) => break,
                Ok(n) => self.end += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(&self.buffer[self.start..self.end])
    }
}

impl<R: Read> BufRead for Source<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        self.peek(1)
    }

    fn consume(&mut self, n: usize) {
        self.start += n;
    }
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        // Past its own buffer, where that one is large enough.
        if self.start == self.end && out.len() >= BUFFER {
            return self.inner.read(out);
        }
        let next = self.fill_buf()?;
        let n = next.len().min(out.len());
        out[..n].copy_from_slice(&next[..n]);
        self.consume(n);
        Ok(n)
    }
}
