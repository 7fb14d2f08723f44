// SPDX-License-Identifier: Apache-2.0
//! Protobuf's wire format over byte slices: varints, tags, length-delimited fields. Nothing here allocates by a
//! length that was read.

/// Wire types that proto3 uses; 3 and 4 are groups, which it does not have.
pub const VARINT: u32 = 0;
const FIXED64: u32 = 1;
pub const BYTES: u32 = 2;
const FIXED32: u32 = 5;

/// Most bytes of a varint.
pub const VARINT_MAX: usize = 10;

/// Field numbers of `Manifest`, `Resource` and `XAttr`, see `protos/manifest.proto`.
pub mod field {
    pub const RESOURCE: u32 = 1;
    pub const PATH: u32 = 1;
    pub const UID: u32 = 2;
    pub const GID: u32 = 3;
    pub const USER: u32 = 4;
    pub const GROUP: u32 = 5;
    pub const MODE: u32 = 6;
    pub const SIZE: u32 = 7;
    pub const DIGEST: u32 = 8;
    pub const TARGET: u32 = 9;
    pub const MAJOR: u32 = 10;
    pub const MINOR: u32 = 11;
    pub const XATTR: u32 = 12;
    pub const XATTR_NAME: u32 = 1;
    pub const XATTR_DATA: u32 = 2;
}

/// A field as it stands on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    /// A fixed-width number: no field of ours, skipped.
    Fixed,
}

/// Reads fields off a slice.
pub struct Fields<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    pub fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0 }
    }

    /// Offset of the next byte in the slice.
    pub fn offset(&self) -> usize {
        self.at
    }

    /// The next field's number and value; `None` at the end.
    pub fn next(&mut self) -> Result<Option<(u32, Value<'a>)>, &'static str> {
        if self.at == self.data.len() {
            return Ok(None);
        }
        let (number, wire_type) = tag(self.varint()?)?;
        let value = match wire_type {
            VARINT => Value::Varint(self.varint()?),
            BYTES => {
                let len = self.varint()?;
                let len = usize::try_from(len).map_err(|_| "a length beyond its message")?;
                Value::Bytes(self.take(len)?)
            }
            FIXED64 => self.take(8).map(|_| Value::Fixed)?,
            FIXED32 => self.take(4).map(|_| Value::Fixed)?,
            _ => return Err("an unknown wire type"),
        };
        Ok(Some((number, value)))
    }

    fn varint(&mut self) -> Result<u64, &'static str> {
        let mut value = 0;
        for n in 0..VARINT_MAX {
            let byte = *self.data.get(self.at).ok_or("a number cut short")?;
            self.at += 1;
            value = push_varint(value, n, byte).ok_or("a number over 64 bits")?;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err("a number over 64 bits")
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], &'static str> {
        let end =
            self.at.checked_add(len).filter(|&end| end <= self.data.len()).ok_or("a length beyond its message")?;
        let taken = &self.data[self.at..end];
        self.at = end;
        Ok(taken)
    }
}

/// Adds the `n`th byte of a varint.
pub fn push_varint(value: u64, n: usize, byte: u8) -> Option<u64> {
    let bits = u64::from(byte & 0x7f);
    if n == VARINT_MAX - 1 && bits > 1 {
        return None;
    }
    Some(value | bits << (7 * n))
}

/// Splits a tag into field number and wire type.
pub fn tag(tag: u64) -> Result<(u32, u32), &'static str> {
    let number = u32::try_from(tag >> 3).ok().filter(|&number| number != 0).ok_or("an impossible field number")?;
    Ok((number, (tag & 7) as u32))
}

/// Appends a varint.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a number, unless it is zero.
pub fn put_number(out: &mut Vec<u8>, number: u32, value: u64) {
    if value != 0 {
        put_varint(out, u64::from(number << 3 | VARINT));
        put_varint(out, value);
    }
}

/// Appends bytes, empty ones too: for repeated fields.
pub fn put_bytes(out: &mut Vec<u8>, number: u32, value: &[u8]) {
    put_varint(out, u64::from(number << 3 | BYTES));
    put_varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// Appends bytes, unless they are empty.
pub fn put_some_bytes(out: &mut Vec<u8>, number: u32, value: &[u8]) {
    if !value.is_empty() {
        put_bytes(out, number, value);
    }
}

/// Bytes that [`put_bytes`] appends for a field number under 16.
pub fn bytes_len(value: usize) -> usize {
    1 + varint_len(value as u64) + value
}

/// Bytes of a varint.
pub fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_round_trip_at_every_width() {
        for value in (0..64).flat_map(|n| [1u64 << n, (1 << n) - 1]).chain([u64::MAX]) {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(out.len(), varint_len(value));
            assert_eq!(Fields::new(&out).varint(), Ok(value));
        }
    }

    #[test]
    fn what_is_cut_short_or_too_long_is_an_error() {
        for bad in [
            &b"\x80"[..],
            b"\x0a",
            b"\x0a\x05abcd",
            b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",
            b"\x0b",
            b"\x02\x00",
            b"\x09abc",
        ] {
            let mut fields = Fields::new(bad);
            let failed = loop {
                match fields.next() {
                    Ok(Some(_)) => {}
                    Ok(None) => break false,
                    Err(_) => break true,
                }
            };
            assert!(failed, "{bad:?}");
        }
    }
}
