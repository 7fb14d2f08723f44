// SPDX-License-Identifier: Apache-2.0
//! One header block.

use super::broken;
use crate::error::Result;

/// Bytes of a block.
pub const BLOCK: usize = 512;

/// One block.
pub type Block = [u8; BLOCK];

/// What the magic says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Before POSIX.
    V7,
    /// POSIX, with or without PAX records.
    Ustar,
    /// Jörg Schilling's star.
    Star,
    /// GNU.
    Gnu,
}

/// The fields that matter, as they are.
#[derive(Debug, Clone)]
pub struct Header {
    pub format: Format,
    pub kind: u8,
    pub name: Vec<u8>,
    pub link: Vec<u8>,
    pub mode: i64,
    pub uid: i64,
    pub gid: i64,
    pub size: i64,
    pub device: (i64, i64),
}

impl Header {
    /// Takes a block apart.
    ///
    /// # Errors
    /// `InvalidInput` for a wrong checksum and for numbers that are none.
    pub fn parse(block: &Block) -> Result<Self> {
        check_sum(block)?;
        let format = match (&block[257..263], &block[263..265], &block[508..512]) {
            (b"ustar\0", _, b"tar\0") => Format::Star,
            (b"ustar\0", ..) => Format::Ustar,
            (b"ustar ", b" \0", _) => Format::Gnu,
            _ => Format::V7,
        };
        let mut header = Self {
            format,
            kind: block[156],
            name: text(&block[..100]),
            link: text(&block[157..257]),
            mode: number(&block[100..108])?,
            uid: number(&block[108..116])?,
            gid: number(&block[116..124])?,
            size: number(&block[124..136])?,
            device: (0, 0),
        };
        if format != Format::V7 {
            header.device = (number(&block[329..337])?, number(&block[337..345])?);
        }
        let prefix = match format {
            Format::Ustar => text(&block[345..500]),
            Format::Star => text(&block[345..476]),
            Format::Gnu => gnu_prefix(block),
            Format::V7 => Vec::new(),
        };
        if !prefix.is_empty() {
            header.name = [prefix.as_slice(), b"/", &header.name].concat();
        }
        Ok(header)
    }
}

/// The prefix that GNU's format does not have, and that writers of old (Go before 1.8) put where its two times belong:
/// ASCII, where what stands there cannot be times.
fn gnu_prefix(block: &Block) -> Vec<u8> {
    let is_time = |field: &[u8]| field[0] == 0 || number(field).is_ok();
    if is_time(&block[345..357]) && is_time(&block[357..369]) {
        return Vec::new();
    }
    Some(text(&block[345..500])).filter(|prefix| prefix.is_ascii()).unwrap_or_default()
}

/// The sum of all bytes, its own field taken for spaces; old programs summed signed bytes.
fn check_sum(block: &Block) -> Result<()> {
    let byte = |(n, &byte): (usize, &u8)| if (148..156).contains(&n) { b' ' } else { byte };
    let unsigned: i64 = block.iter().enumerate().map(|at| i64::from(byte(at))).sum();
    let signed: i64 = block.iter().enumerate().map(|at| i64::from(byte(at) as i8)).sum();
    match octal(&block[148..156]) {
        Some(sum) if sum == unsigned || sum == signed => Ok(()),
        _ => Err(broken("a header with a wrong checksum")),
    }
}

/// Up to the first NUL.
fn text(field: &[u8]) -> Vec<u8> {
    field.split(|&byte| byte == 0).next().unwrap_or_default().to_vec()
}

/// Octal digits, or base 256 if the first bit is set.
pub fn number(field: &[u8]) -> Result<i64> {
    let parsed = match field.first() {
        Some(first) if first & 0x80 != 0 => base_256(field),
        _ => octal(field),
    };
    parsed.ok_or_else(|| broken("a number that is none"))
}

/// Two's complement, big-endian, without its first bit.
fn base_256(field: &[u8]) -> Option<i64> {
    let negative = field[0] & 0x40 != 0;
    let flip = if negative { 0xff } else { 0 };
    let mut value: u64 = 0;
    for (n, byte) in field.iter().enumerate() {
        let byte = if n == 0 { (byte ^ flip) & 0x7f } else { byte ^ flip };
        if value >> 56 != 0 {
            return None;
        }
        value = value << 8 | u64::from(byte);
    }
    let value = i64::try_from(value).ok()?;
    Some(if negative { !value } else { value })
}

fn octal(field: &[u8]) -> Option<i64> {
    let is_filling = |byte: &u8| matches!(byte, b' ' | 0);
    let start = field.iter().position(|byte| !is_filling(byte)).unwrap_or(field.len());
    let end = field.iter().rposition(|byte| !is_filling(byte)).map_or(start, |last| last + 1);
    let mut value: i64 = 0;
    for &digit in field[start..end].split(|&byte| byte == 0).next().unwrap_or_default() {
        if !(b'0'..=b'7').contains(&digit) {
            return None;
        }
        value = value.checked_mul(8)?.checked_add(i64::from(digit - b'0'))?;
    }
    Some(value)
}
