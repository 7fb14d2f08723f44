// SPDX-License-Identifier: Apache-2.0
//! Sparse files: where the stored bytes belong; what lies between is zeros.

use std::collections::VecDeque;
use std::io;

use super::header::{Block, Header, number};
use super::pax::{Records, integer};
use super::{broken, invalid};
use crate::error::Result;

/// Fragments of one file: 4 MiB of memory. A file of more holes is refused.
const FRAGMENTS_MAX: usize = 1 << 18;

/// Digits of a number in a sparse map.
const DIGITS_MAX: usize = 20;

/// Offset and length of stored bytes, in order.
#[derive(Default)]
pub struct Fragments(VecDeque<(u64, u64)>);

impl Fragments {
    fn push(&mut self, offset: u64, length: u64) -> Result<()> {
        if self.0.len() == FRAGMENTS_MAX {
            return Err(broken("a sparse file of too many fragments"));
        }
        self.0.push_back((offset, length));
        Ok(())
    }

    /// The map of GNU's own header, whose further blocks `extension` reads; the header learns its real size.
    pub fn old_gnu(
        block: &Block,
        header: &mut Header,
        mut extension: impl FnMut(&mut Block) -> Result<()>,
    ) -> Result<Self> {
        let mut fragments = Self::default();
        header.size = number(&block[483..495])?;
        let mut block = *block;
        let (mut from, mut entries, mut extended) = (386, 4, 482);
        loop {
            for entry in block[from..from + entries * 24].chunks_exact(24) {
                if entry[0] == 0 {
                    break;
                }
                let (offset, length) = (number(&entry[..12])?, number(&entry[12..])?);
                let valid = |n: i64| u64::try_from(n).map_err(|_| broken("a negative number in a sparse map"));
                fragments.push(valid(offset)?, valid(length)?)?;
            }
            if block[extended] == 0 {
                return Ok(fragments);
            }
            extension(&mut block)?;
            (from, entries, extended) = (0, 21, 504);
        }
    }

    /// The map of PAX records, in one of its three forms; none if the entry is not sparse. `next` reads bytes of the
    /// contents, where the last form keeps it. The header learns its real name and size.
    pub fn pax(
        records: &Records,
        header: &mut Header,
        mut next: impl FnMut(&mut u8) -> Result<()>,
    ) -> Result<Option<Self>> {
        let in_contents = match (records.get("GNU.sparse.major"), records.get("GNU.sparse.minor")) {
            (b"0", b"0" | b"1") => false,
            (b"1", b"0") => true,
            (b"", b"") if !records.get("GNU.sparse.map").is_empty() => false,
            _ => return Ok(None),
        };
        if !records.get("GNU.sparse.name").is_empty() {
            header.name = records.get("GNU.sparse.name").to_vec();
        }
        let size = [records.get("GNU.sparse.size"), records.get("GNU.sparse.realsize")];
        if let Some(size) = size.into_iter().find(|size| !size.is_empty()) {
            let size = integer(size).ok_or_else(|| invalid(&header.name, "a sparse file of a size that is none"));
            header.size = size?;
        }
        let mut fragments = Self::default();
        if in_contents {
            fragments.read_map(&mut next)?;
        } else {
            let numbers: Vec<_> = records.get("GNU.sparse.map").split(|&byte| byte == b',').collect();
            for pair in numbers.chunks(2).filter(|pair| !pair[0].is_empty()) {
                match pair {
                    [offset, length] => fragments.push(digits(offset)?, digits(length)?)?,
                    _ => return Err(broken("a sparse map with half an entry")),
                }
            }
        }
        Ok(Some(fragments))
    }

    /// Numbers on lines of their own: how many entries, then each; filled up to a whole block.
    fn read_map(&mut self, next: &mut impl FnMut(&mut u8) -> Result<()>) -> Result<()> {
        let mut read = 0_usize;
        let mut line = |read: &mut usize| {
            let mut text = Vec::new();
            loop {
                let mut byte = 0;
                next(&mut byte)?;
                *read += 1;
                match byte {
                    b'\n' => return digits(&text),
                    _ if text.len() == DIGITS_MAX => return Err(broken("a sparse map with a long number")),
                    byte => text.push(byte),
                }
            }
        };
        let entries = line(&mut read)?;
        if entries > FRAGMENTS_MAX as u64 {
            return Err(broken("a sparse file of too many fragments"));
        }
        for _ in 0..entries {
            let (offset, length) = (line(&mut read)?, line(&mut read)?);
            self.push(offset, length)?;
        }
        for _ in 0..read.wrapping_neg() % super::BLOCK {
            next(&mut 0)?;
        }
        Ok(())
    }
}

fn digits(text: &[u8]) -> Result<u64> {
    let number = integer(text).and_then(|number| u64::try_from(number).ok());
    number.ok_or_else(|| broken("a sparse map with a number that is none"))
}

/// A sparse file, as it is read.
pub struct Sparse {
    fragments: Fragments,
    at: u64,
    size: u64,
}

impl Sparse {
    /// # Errors
    /// `InvalidInput` for fragments that overlap, go backwards or past the end.
    pub fn new(fragments: Fragments, size: u64, name: &[u8]) -> Result<Self> {
        let mut end = 0;
        for &(offset, length) in &fragments.0 {
            let next = offset.checked_add(length).filter(|&next| offset >= end && next <= size);
            end = next.ok_or_else(|| invalid(name, "a sparse file whose fragments do not fit into it"))?;
        }
        Ok(Self { fragments, at: 0, size })
    }

    /// Zeros in holes, else what `stored` reads.
    pub fn read(
        &mut self,
        buffer: &mut [u8],
        stored: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        while self.fragments.0.front().is_some_and(|&(offset, length)| offset + length <= self.at) {
            self.fragments.0.pop_front();
        }
        let (hole_ends, data_ends) = match self.fragments.0.front() {
            Some(&(offset, length)) => (offset.max(self.at), offset + length),
            None => (self.size, self.size),
        };
        let fits = |until: u64| usize::try_from(until - self.at).unwrap_or(usize::MAX).min(buffer.len());
        let n = if hole_ends > self.at {
            let n = fits(hole_ends);
            buffer[..n].fill(0);
            n
        } else {
            let n = fits(data_ends);
            match stored(&mut buffer[..n])? {
                0 if n > 0 => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ends within a sparse file")),
                read => read,
            }
        };
        self.at += n as u64;
        Ok(n)
    }
}
