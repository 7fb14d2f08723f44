// SPDX-License-Identifier: Apache-2.0
//! One layer's entries, kept for another image that has the same layer.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};

use super::ContentHash;
use crate::digest::{Digest, TEXT_LEN};
use crate::error::{Error, ErrorKind, Result};
use crate::inode::{FileType, Xattr};
use crate::layer::{Entry, EntryKind, Expected, Limits, read};
use crate::tree::Progress;

/// Bytes of the file that are read or written at once.
const BUFFER: usize = 64 << 10;

/// The entries in a temporary file without a name, in a form of our own.
pub struct Recorded {
    file: File,
    entries: u64,
}

impl Recorded {
    /// Reads a layer, hashing the files in it.
    ///
    /// # Errors
    /// As [`read`]; `Io` for the temporary file.
    pub fn read(blob: impl Read + Send, expected: &Expected, limits: &Limits, progress: &Progress) -> Result<Self> {
        let mut out = BufWriter::with_capacity(BUFFER, tempfile::tempfile().map_err(failed)?);
        let mut entries = 0;
        let mut hash = ContentHash::default();
        read(blob, expected, limits, progress, &mut |entry, contents| {
            entries += 1;
            if entries > limits.entries {
                let message = format!("it holds more than {} entries (max_entries allows more)", limits.entries);
                return Err(Error::new(ErrorKind::InvalidInput, message));
            }
            let digest = hash.of(&entry, contents)?;
            put_entry(&mut out, &entry, digest).map_err(failed)
        })?;
        let file = out.into_inner().map_err(|error| failed(error.into_error()))?;
        Ok(Self { file, entries })
    }

    /// Hands over every entry, with the digest of its contents.
    pub fn replay(&mut self, visit: &mut dyn FnMut(Entry, Option<Digest>) -> Result<()>) -> Result<()> {
        self.file.rewind().map_err(failed)?;
        let mut from = BufReader::with_capacity(BUFFER, &self.file);
        for _ in 0..self.entries {
            let (entry, digest) = take_entry(&mut from).map_err(failed)?;
            visit(entry, digest)?;
        }
        Ok(())
    }
}

fn failed(error: io::Error) -> Error {
    Error::io("temporary file", std::env::temp_dir(), error)
}

fn put_entry(out: &mut impl Write, entry: &Entry, digest: Option<Digest>) -> io::Result<()> {
    put_bytes(out, &entry.name)?;
    for number in [entry.uid, entry.gid, entry.permissions] {
        put_number(out, number.into())?;
    }
    match &entry.kind {
        EntryKind::File(size) => {
            out.write_all(&[u8::MAX])?;
            put_number(out, *size)?;
        }
        EntryKind::Link(target) => {
            out.write_all(&[u8::MAX - 1])?;
            put_bytes(out, target)?;
        }
        EntryKind::Global => out.write_all(&[u8::MAX - 2])?,
        EntryKind::Special { file_type, target, device } => {
            let index = FileType::ALL.iter().position(|other| other == file_type).unwrap_or_default();
            out.write_all(&[index as u8])?;
            put_bytes(out, target)?;
            put_number(out, device.0.into())?;
            put_number(out, device.1.into())?;
        }
    }
    put_bytes(out, digest.map(|digest| digest.text()).as_ref().map_or(&[], |text| text.as_slice()))?;
    put_number(out, entry.xattrs.len() as u64)?;
    for xattr in &entry.xattrs {
        put_bytes(out, &xattr.name)?;
        put_bytes(out, &xattr.value)?;
    }
    Ok(())
}

fn take_entry(from: &mut impl Read) -> io::Result<(Entry, Option<Digest>)> {
    let name = take_bytes(from)?;
    let (uid, gid, permissions) = (take_u32(from)?, take_u32(from)?, take_u32(from)?);
    let mut tag = [0];
    from.read_exact(&mut tag)?;
    let kind = match tag[0] {
        u8::MAX => EntryKind::File(take_number(from)?),
        tag if tag == u8::MAX - 1 => EntryKind::Link(take_bytes(from)?),
        tag if tag == u8::MAX - 2 => EntryKind::Global,
        tag => EntryKind::Special {
            file_type: *FileType::ALL.get(usize::from(tag)).ok_or(io::ErrorKind::InvalidData)?,
            target: take_bytes(from)?,
            device: (take_u32(from)?, take_u32(from)?),
        },
    };
    let text = take_bytes(from)?;
    let digest = match text.len() {
        TEXT_LEN => Digest::parse(&text),
        _ => None,
    };
    let mut xattrs = Vec::new();
    for _ in 0..take_number(from)? {
        xattrs.push(Xattr { name: take_bytes(from)?, value: take_bytes(from)? });
    }
    Ok((Entry { name, kind, uid, gid, permissions, xattrs }, digest))
}

fn put_number(out: &mut impl Write, number: u64) -> io::Result<()> {
    out.write_all(&number.to_le_bytes())
}

fn put_bytes(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    put_number(out, bytes.len() as u64)?;
    out.write_all(bytes)
}

fn take_number(from: &mut impl Read) -> io::Result<u64> {
    let mut number = [0; 8];
    from.read_exact(&mut number)?;
    Ok(u64::from_le_bytes(number))
}

fn take_u32(from: &mut impl Read) -> io::Result<u32> {
    u32::try_from(take_number(from)?).map_err(|_| io::ErrorKind::InvalidData.into())
}

fn take_bytes(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let length = take_number(from)?;
    let mut bytes = Vec::new();
    match from.take(length).read_to_end(&mut bytes)? as u64 == length {
        true => Ok(bytes),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
