// SPDX-License-Identifier: Apache-2.0
//! Protobuf to resources, one at a time, trusting nothing.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, BufRead, BufReader, Read};

use super::mode::Mode;
use super::path;
use super::resource::Resource;
use super::wire::{self, Fields, Value, field};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Escaped, Result};
use crate::inode::{FileType, Xattr};

/// Largest resource in bytes: a file with some hundred thousand hard links fits. It bounds what one length in a
/// hostile manifest can make us read before it is refused.
const RESOURCE_MAX: u64 = 32 << 20;

/// Most paths of a resource: ext4 and btrfs allow 65,000 links, and each takes memory beyond its bytes.
const PATHS_MAX: usize = 1 << 18;

/// Most xattrs of a resource: the kernel lists names in 64 KiB, three bytes each at the least.
const XATTRS_MAX: usize = 1 << 15;

/// Device numbers that the kernel has: 12 bits of major, 20 of minor.
const DEVICE_MAX: (u64, u64) = (0xfff, 0xf_ffff);

/// Bytes asked of the source at once.
const READ_BUFFER: usize = 64 << 10;

/// Bytes by which the buffer of a resource grows while it is read: memory follows what arrives, not what is claimed.
const GROWTH: u64 = 64 << 10;

/// Reads a manifest as a stream.
pub struct Reader<R> {
    source: BufReader<R>,
    /// Bytes taken off the source.
    offset: u64,
    body: Vec<u8>,
    /// First path of the resource before.
    last: Vec<u8>,
    /// Later paths of resources with several, which no resource may repeat.
    pending: BinaryHeap<Reverse<Vec<u8>>>,
}

impl<R: Read> Reader<R> {
    /// Reads from the first byte of a manifest.
    pub fn new(source: R) -> Self {
        Self {
            source: BufReader::with_capacity(READ_BUFFER, source),
            offset: 0,
            body: Vec::new(),
            last: Vec::new(),
            pending: BinaryHeap::new(),
        }
    }

    /// The next resource; `None` at the end.
    ///
    /// # Errors
    /// `InvalidManifest` with the byte offset, and the path where one is known; `Io` if the source fails.
    #[allow(clippy::should_implement_trait, reason = "an iterator of results would hide that an error is the end")]
    pub fn next(&mut self) -> Result<Option<Resource>> {
        let Some(start) = self.read_body()? else {
            self.check_duplicates(None)?;
            return Ok(None);
        };
        let resource = decode(&self.body, start)?;
        self.check_order(&resource, start)?;
        Ok(Some(resource))
    }

    /// Reads the bytes of the next resource and gives their offset.
    fn read_body(&mut self) -> Result<Option<u64>> {
        let start = self.offset;
        if self.source.fill_buf().map_err(read_error)?.is_empty() {
            return Ok(None);
        }
        let (number, wire_type) = wire::tag(self.varint()?).map_err(|flaw| invalid(start, flaw))?;
        if (number, wire_type) != (field::RESOURCE, wire::BYTES) {
            return Err(invalid(start, "not a resource: is this a continuity manifest?"));
        }
        let len = self.varint()?;
        if len > RESOURCE_MAX {
            return Err(invalid(start, &format!("a resource of {len} bytes, over the limit of {RESOURCE_MAX}")));
        }
        let body = self.offset;
        self.body.clear();
        while (self.body.len() as u64) < len {
            let more = GROWTH.min(len - self.body.len() as u64);
            let n = self.source.by_ref().take(more).read_to_end(&mut self.body).map_err(read_error)?;
            self.offset += n as u64;
            if (n as u64) < more {
                return Err(invalid(self.offset, "the manifest ends inside a resource"));
            }
        }
        Ok(Some(body))
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0;
        for n in 0..wire::VARINT_MAX {
            let mut byte = [0];
            if let Err(e) = self.source.read_exact(&mut byte) {
                return Err(match e.kind() {
                    io::ErrorKind::UnexpectedEof => invalid(self.offset, "the manifest ends inside a number"),
                    _ => read_error(e),
                });
            }
            value =
                wire::push_varint(value, n, byte[0]).ok_or_else(|| invalid(self.offset, "a number over 64 bits"))?;
            self.offset += 1;
            if byte[0] < 0x80 {
                return Ok(value);
            }
        }
        Err(invalid(self.offset, "a number over 64 bits"))
    }

    fn check_order(&mut self, resource: &Resource, start: u64) -> Result<()> {
        let first = resource.first_path();
        match first.cmp(&self.last) {
            std::cmp::Ordering::Greater => {}
            std::cmp::Ordering::Equal => return Err(invalid_path(start, first, "stands twice")),
            std::cmp::Ordering::Less => {
                let message = format!("stands after {}: not sorted", cut(&self.last));
                return Err(invalid_path(start, first, &message));
            }
        }
        self.check_duplicates(Some(first))?;
        self.last.clear();
        self.last.extend_from_slice(first);
        self.pending.extend(resource.paths[1..].iter().cloned().map(Reverse));
        Ok(())
    }

    /// Lets go of later paths up to `next`, none of which may equal another or `next`.
    fn check_duplicates(&mut self, next: Option<&[u8]>) -> Result<()> {
        while let Some(Reverse(path)) = self.pending.peek() {
            if next.is_some_and(|next| path.as_slice() > next) {
                break;
            }
            let twice = next == Some(path) || {
                let path = self.pending.pop();
                path.as_ref() == self.pending.peek()
            };
            if twice {
                let path = self.pending.peek().map_or(&b""[..], |Reverse(path)| path);
                return Err(invalid_path(self.offset, path, "stands twice"));
            }
        }
        Ok(())
    }
}

/// Decodes and checks one resource; `start` is the offset of its first byte in the manifest.
fn decode(body: &[u8], start: u64) -> Result<Resource> {
    let mut resource = Resource {
        paths: Vec::with_capacity(1),
        uid: 0,
        gid: 0,
        user: Vec::new(),
        group: Vec::new(),
        mode: Mode::new(FileType::Regular, 0),
        size: 0,
        digest: None,
        target: Vec::new(),
        device: (0, 0),
        xattrs: Vec::new(),
    };
    let mut fields = Fields::new(body);
    loop {
        let at = start + fields.offset() as u64;
        match fields.next() {
            Ok(Some((number, value))) => {
                set(&mut resource, number, value).map_err(|flaw| match resource.paths.first() {
                    Some(path) => invalid_path(at, path, &flaw),
                    None => invalid(at, &flaw),
                })?;
            }
            Ok(None) => break,
            Err(flaw) => return Err(invalid(at, flaw)),
        }
    }
    check(&resource).map_err(|flaw| match resource.paths.first() {
        Some(path) => invalid_path(start, path, &flaw),
        None => invalid(start, &flaw),
    })?;
    Ok(resource)
}

fn set(resource: &mut Resource, number: u32, value: Value<'_>) -> Result<(), String> {
    match (number, value) {
        (field::PATH, Value::Bytes(path)) => {
            check_path(path, &resource.paths)?;
            resource.paths.push(path.to_vec());
        }
        (field::UID, Value::Varint(id)) => resource.uid = narrow(id, "uid")?,
        (field::GID, Value::Varint(id)) => resource.gid = narrow(id, "gid")?,
        (field::USER, Value::Bytes(name)) => resource.user = name.to_vec(),
        (field::GROUP, Value::Bytes(name)) => resource.group = name.to_vec(),
        (field::MODE, Value::Varint(bits)) => {
            let mode = u32::try_from(bits).ok().and_then(Mode::from_bits);
            resource.mode = mode.ok_or_else(|| format!("mode {bits:#x} is of an unknown type"))?;
        }
        (field::SIZE, Value::Varint(size)) => resource.size = size,
        (field::DIGEST, Value::Bytes(text)) => {
            let digest =
                Digest::parse(text).ok_or_else(|| format!("digest {} is not sha256:<64 hex digits>", Escaped(text)))?;
            if resource.digest.is_some_and(|before| before != digest) {
                return Err("two digests that differ".into());
            }
            resource.digest = Some(digest);
        }
        (field::TARGET, Value::Bytes(target)) => resource.target = target.to_vec(),
        (field::MAJOR, Value::Varint(major)) => resource.device.0 = major,
        (field::MINOR, Value::Varint(minor)) => resource.device.1 = minor,
        (field::XATTR, Value::Bytes(message)) => {
            let xattr = decode_xattr(message)?;
            if resource.xattrs.len() == XATTRS_MAX {
                return Err(format!("more than {XATTRS_MAX} xattrs"));
            }
            if resource.xattrs.last().is_some_and(|last| last.name >= xattr.name) {
                return Err("xattrs are not sorted, or one stands twice".into());
            }
            resource.xattrs.push(xattr);
        }
        (1..=field::XATTR, _) => return Err(format!("field {number} is of the wrong type")),
        // Fields of a later version of the format, and alternate data streams of Windows.
        _ => {}
    }
    Ok(())
}

/// Checks a path before it takes memory.
fn check_path(path: &[u8], before: &[Vec<u8>]) -> Result<(), String> {
    if before.last().is_some_and(|last| last.as_slice() >= path) {
        return Err("the paths of a resource are not sorted, or one stands twice".into());
    }
    if before.len() == PATHS_MAX {
        return Err(format!("more than {PATHS_MAX} paths"));
    }
    path::flaw(path).map_or(Ok(()), |flaw| Err(format!("path {} {flaw}", cut(path))))
}

fn narrow(id: u64, what: &str) -> Result<u32, String> {
    u32::try_from(id).map_err(|_| format!("{what} {} is out of range", id as i64))
}

fn decode_xattr(message: &[u8]) -> Result<Xattr, String> {
    let mut xattr = Xattr { name: Vec::new(), value: Vec::new() };
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next()? {
        match (number, value) {
            (field::XATTR_NAME, Value::Bytes(name)) => xattr.name = name.to_vec(),
            (field::XATTR_DATA, Value::Bytes(data)) => xattr.value = data.to_vec(),
            _ => {}
        }
    }
    match xattr.name.as_slice() {
        b"" => Err("an xattr without a name".into()),
        name if name.contains(&0) => Err("an xattr's name holds a NUL byte".into()),
        _ => Ok(xattr),
    }
}

fn check(resource: &Resource) -> Result<(), String> {
    if resource.paths.is_empty() {
        return Err("a resource without a path".into());
    }
    let kind = resource.mode.file_type();
    if resource.paths.len() > 1 && matches!(kind, FileType::Directory) {
        return Err("a directory with several paths".into());
    }
    if resource.first_path() == path::ROOT && kind != FileType::Directory {
        return Err("the root is not a directory".into());
    }
    if kind == FileType::Regular && resource.digest.is_none() {
        return Err("a file without a digest".into());
    }
    if resource.target.contains(&0) || kind == FileType::Symlink && resource.target.is_empty() {
        return Err("a symlink without a usable target".into());
    }
    if kind == FileType::Symlink && resource.mode.permissions() != 0o777 {
        return Err("a symlink with permissions other than 0777".into());
    }
    if !resource.xattrs.is_empty() && !matches!(kind, FileType::Regular | FileType::Directory) {
        return Err(format!("a {} with xattrs", kind.name()));
    }
    if resource.device.0 > DEVICE_MAX.0 || resource.device.1 > DEVICE_MAX.1 {
        return Err(format!("device {}:{} is out of range", resource.device.0, resource.device.1));
    }
    Ok(())
}

fn invalid(offset: u64, flaw: &str) -> Error {
    Error::new(ErrorKind::InvalidManifest, format!("invalid manifest at byte {offset}: {flaw}"))
}

/// Bytes of a path or a value that an error shows.
const SHOWN_MAX: usize = 256;

/// What an error shows of bytes that may be long.
fn cut(bytes: &[u8]) -> String {
    match bytes.get(..SHOWN_MAX) {
        Some(shown) => format!("{}… ({} bytes)", Escaped(shown), bytes.len()),
        None => Escaped(bytes).to_string(),
    }
}

fn invalid_path(offset: u64, path: &[u8], flaw: &str) -> Error {
    invalid(offset, &format!("{}: {flaw}", cut(path)))
}

fn read_error(error: io::Error) -> Error {
    Error::new(ErrorKind::Io, "reading the manifest").with_source(error)
}

#[cfg(test)]
mod tests;
