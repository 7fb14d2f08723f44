// SPDX-License-Identifier: Apache-2.0
//! Resources to protobuf, in the reference's field order and with its omissions.

use std::io::{self, Write};

use super::resource::Resource;
use super::wire::{self, field};

/// Writes a manifest one resource at a time. The caller keeps the order.
pub struct Writer<W> {
    out: W,
    body: Vec<u8>,
    head: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// A manifest with no resource yet.
    pub fn new(out: W) -> Self {
        Self { out, body: Vec::new(), head: Vec::new() }
    }

    /// Writes a resource; returns how many bytes that took.
    ///
    /// # Errors
    /// What the underlying writer gives.
    pub fn write(&mut self, resource: &Resource) -> io::Result<u64> {
        self.body.clear();
        encode(resource, &mut self.body);
        self.head.clear();
        wire::put_varint(&mut self.head, u64::from(field::RESOURCE << 3 | wire::BYTES));
        wire::put_varint(&mut self.head, self.body.len() as u64);
        self.out.write_all(&self.head)?;
        self.out.write_all(&self.body)?;
        Ok((self.head.len() + self.body.len()) as u64)
    }

    /// The underlying writer, for bytes that were encoded before.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.out
    }

    /// The underlying writer; nothing is buffered here.
    pub fn into_inner(self) -> W {
        self.out
    }
}

fn encode(resource: &Resource, out: &mut Vec<u8>) {
    for path in &resource.paths {
        wire::put_bytes(out, field::PATH, path);
    }
    wire::put_number(out, field::UID, resource.uid.into());
    wire::put_number(out, field::GID, resource.gid.into());
    wire::put_some_bytes(out, field::USER, &resource.user);
    wire::put_some_bytes(out, field::GROUP, &resource.group);
    wire::put_number(out, field::MODE, resource.mode.bits().into());
    wire::put_number(out, field::SIZE, resource.size);
    if let Some(digest) = &resource.digest {
        wire::put_bytes(out, field::DIGEST, &digest.text());
    }
    wire::put_some_bytes(out, field::TARGET, &resource.target);
    wire::put_number(out, field::MAJOR, resource.device.0);
    wire::put_number(out, field::MINOR, resource.device.1);
    for xattr in &resource.xattrs {
        let name = wire::bytes_len(xattr.name.len());
        let data = if xattr.value.is_empty() { 0 } else { wire::bytes_len(xattr.value.len()) };
        wire::put_varint(out, u64::from(field::XATTR << 3 | wire::BYTES));
        wire::put_varint(out, (name + data) as u64);
        wire::put_bytes(out, field::XATTR_NAME, &xattr.name);
        wire::put_some_bytes(out, field::XATTR_DATA, &xattr.value);
    }
}
