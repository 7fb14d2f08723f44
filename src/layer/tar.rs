// SPDX-License-Identifier: Apache-2.0
//! Tars as Go's archive/tar reads them, which is what containerd unpacks with.
//!
//! A tar is untrusted: everything that would be held in memory is bounded by a named constant, and a size is only a
//! number until that many bytes have come.

mod header;
mod pax;
mod sparse;

use std::io::{self, Read};

use self::header::{BLOCK, Block, Format, Header};
use self::pax::Records;
use self::sparse::{Fragments, Sparse};
use super::entry::{Entry, EntryKind};
use super::read::{over_limit, read_failed};
use crate::error::{Error, ErrorKind, Escaped, Result};
use crate::inode::FileType;

/// Bytes of a long name, a long link or a set of PAX records: Go's own limit.
const SPECIAL_MAX: u64 = 1 << 20;

/// Reads a tar, one entry after the other.
pub struct TarReader<R> {
    source: R,
    /// Bytes of the present entry that were not read, and of the padding after it.
    body: u64,
    padding: u64,
    /// Most bytes that a file may have.
    limit: u64,
}

/// The contents of one file; holes of a sparse one are zeros.
pub struct Contents<'a, R> {
    tar: &'a mut TarReader<R>,
    sparse: Option<Sparse>,
}

impl<R: Read> TarReader<R> {
    /// At its first byte. A file of more than `limit` bytes is refused.
    pub fn new(source: R, limit: u64) -> Self {
        Self { source, body: 0, padding: 0, limit }
    }

    /// What follows the end of the archive.
    pub fn into_inner(self) -> R {
        self.source
    }

    /// The next entry; none at the end.
    ///
    /// # Errors
    /// `InvalidInput` for what is no tar; what the source fails with.
    pub fn next(&mut self) -> Result<Option<(Entry, Contents<'_, R>)>> {
        let mut records = Records::default();
        let (mut long_name, mut long_link) = (None, None);
        loop {
            self.skip()?;
            let Some(block) = self.header()? else { return Ok(None) };
            let mut header = Header::parse(&block)?;
            if header.size < 0 && !is_header_only(header.kind) {
                return Err(broken("a negative size"));
            }
            match header.kind {
                // To Go an entry of its own, which ends what was said of the next.
                b'g' => {
                    let records = Records::parse(&self.special(header.size)?)?;
                    return Ok(Some((global(header, &records), Contents { tar: self, sparse: None })));
                }
                b'x' => records = Records::parse(&self.special(header.size)?)?,
                b'L' => long_name = Some(until_nul(self.special(header.size)?)),
                b'K' => long_link = Some(until_nul(self.special(header.size)?)),
                _ => {
                    records.merge(&mut header)?;
                    for (long, field) in [(long_name, &mut header.name), (long_link, &mut header.link)] {
                        if let Some(long) = long.filter(|long| !long.is_empty()) {
                            *field = long;
                        }
                    }
                    return self.entry(&block, header, records).map(Some);
                }
            }
        }
    }

    fn entry(&mut self, block: &Block, mut header: Header, mut records: Records) -> Result<(Entry, Contents<'_, R>)> {
        if header.kind == 0 {
            header.kind = if header.name.ends_with(b"/") { b'5' } else { b'0' };
        }
        self.enter(if is_header_only(header.kind) { 0 } else { header.size })?;
        let fragments = match header.kind {
            b'S' if header.format == Format::Gnu => {
                Some(Fragments::old_gnu(block, &mut header, |block| self.extension(block))?)
            }
            _ => Fragments::pax(&records, &mut header, |byte| self.map_byte(byte))?,
        };
        let is_file = matches!(header.kind, b'0' | b'7' | b'S');
        let size = match u64::try_from(header.size) {
            Err(_) if is_file => return Err(invalid(&header.name, "a negative size")),
            size => size.unwrap_or_default(),
        };
        if is_file && size > self.limit {
            return Err(over_limit(self.limit).context(Escaped(&header.name)));
        }
        let sparse = match fragments {
            Some(_) if !is_file => return Err(invalid(&header.name, "a sparse entry that is no file")),
            Some(fragments) => Some(Sparse::new(fragments, size, &header.name)?),
            None => None,
        };
        let special = |file_type| EntryKind::Special {
            file_type,
            target: if file_type == FileType::Symlink { header.link.clone() } else { Vec::new() },
            device: (header.device.0 as u32, header.device.1 as u32),
        };
        let kind = match header.kind {
            // Go reads '7' as a regular file, and containerd refuses it.
            b'0' | b'S' => EntryKind::File(size),
            b'1' => EntryKind::Link(header.link.clone()),
            b'2' => special(FileType::Symlink),
            b'3' => special(FileType::CharDevice),
            b'4' => special(FileType::BlockDevice),
            b'5' => special(FileType::Directory),
            b'6' => special(FileType::Fifo),
            other => return Err(invalid(&header.name, &format!("entries of type {:?}", char::from(other)))),
        };
        // An ID is an int to containerd, of which the kernel takes 32 bits.
        let entry = Entry {
            name: header.name,
            kind,
            uid: header.uid as u32,
            gid: header.gid as u32,
            permissions: (header.mode & 0o7777) as u32,
            xattrs: records.take_xattrs(),
        };
        Ok((entry, Contents { tar: self, sparse }))
    }

    /// The next header; none at the end, which is two blocks of zeros or that of the bytes.
    fn header(&mut self) -> Result<Option<Block>> {
        let Some(block) = self.block(true)? else { return Ok(None) };
        if block.iter().any(|&byte| byte != 0) {
            return Ok(Some(block));
        }
        match self.block(true)? {
            Some(block) if block.iter().any(|&byte| byte != 0) => Err(broken("a header after one block of zeros")),
            _ => Ok(None),
        }
    }

    /// A block; none at the end of the bytes, if that `may_end` them.
    fn block(&mut self, may_end: bool) -> Result<Option<Block>> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.source.read(&mut block[filled..]) {
                Ok(0) if filled == 0 && may_end => return Ok(None),
                Ok(0) => return Err(broken("it ends within a header")),
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(read_failed(error)),
            }
        }
        Ok(Some(block))
    }

    /// A further block of an old GNU sparse map, which stands before the contents and is not counted among them.
    fn extension(&mut self, block: &mut Block) -> Result<()> {
        if let Some(next) = self.block(false)? {
            *block = next;
        }
        Ok(())
    }

    /// One byte of a sparse map that is the beginning of the contents.
    fn map_byte(&mut self, byte: &mut u8) -> Result<()> {
        let mut one = [0];
        match self.read_body(&mut one).map_err(read_failed)? {
            0 => Err(broken("a sparse map that does not end")),
            _ => {
                *byte = one[0];
                Ok(())
            }
        }
    }

    /// Begins a body of that size.
    fn enter(&mut self, size: i64) -> Result<()> {
        self.body = u64::try_from(size).map_err(|_| broken("a negative size"))?;
        self.padding = self.body.wrapping_neg() % BLOCK as u64;
        Ok(())
    }

    /// The body of an entry that says something about the next.
    fn special(&mut self, size: i64) -> Result<Vec<u8>> {
        self.enter(size)?;
        if self.body > SPECIAL_MAX {
            return Err(broken(&format!("a name or PAX records of more than {SPECIAL_MAX} bytes")));
        }
        let mut body = Vec::new();
        let wanted = self.body;
        BodyReader(self).read_to_end(&mut body).map_err(read_failed)?;
        match body.len() as u64 == wanted {
            true => Ok(body),
            false => Err(broken("it ends within a name")),
        }
    }

    /// Goes to the next header.
    fn skip(&mut self) -> Result<()> {
        let rest = self.body.checked_add(self.padding).ok_or_else(|| broken("a size over 2^63"))?;
        let skipped = io::copy(&mut self.source.by_ref().take(rest), &mut io::sink()).map_err(read_failed)?;
        // Padding that the last entry lacks is forgiven, as Go does.
        if skipped < self.body {
            return Err(broken("it ends within an entry"));
        }
        (self.body, self.padding) = (0, 0);
        Ok(())
    }

    fn read_body(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.body).unwrap_or(usize::MAX).min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        let n = self.source.read(&mut buffer[..wanted])?;
        if n == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ends within an entry"));
        }
        self.body -= n as u64;
        Ok(n)
    }
}

/// The stored bytes of the present entry.
struct BodyReader<'a, R>(&'a mut TarReader<R>);

impl<R: Read> Read for BodyReader<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read_body(buffer)
    }
}

impl<R: Read> Read for Contents<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.sparse {
            None => self.tar.read_body(buffer),
            Some(sparse) => sparse.read(buffer, |buffer| self.tar.read_body(buffer)),
        }
    }
}

/// Types without contents: what they claim is not read.
fn is_header_only(kind: u8) -> bool {
    matches!(kind, b'1'..=b'6')
}

/// All that Go hands over of a global header is the name.
fn global(header: Header, records: &Records) -> Entry {
    let name = match records.get("path") {
        b"" => header.name,
        path => path.to_vec(),
    };
    Entry { name, kind: EntryKind::Global, uid: 0, gid: 0, permissions: 0, xattrs: Vec::new() }
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(nul) = bytes.iter().position(|&byte| byte == 0) {
        bytes.truncate(nul);
    }
    bytes
}

fn broken(what: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("it is no tar: {what}"))
}

fn invalid(name: &[u8], what: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("{}: {what}", Escaped(name)))
}

#[cfg(test)]
mod tests;
