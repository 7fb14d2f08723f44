// SPDX-License-Identifier: Apache-2.0
//! SHA-256 digests in their canonical form, `sha256:<64 lower-case hex digits>`.

use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

use sha2::Digest as _;

use crate::error::{Error, ErrorKind, Result};

mod lane;

pub use crate::sys::sha256::is_paired;
pub use lane::{Lane, advance};

/// Length of the canonical form in bytes.
pub const TEXT_LEN: usize = 7 + 64;

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

/// How this machine computes digests: the processor's own instructions, where sha2 finds them, or portable code.
pub fn implementation() -> &'static str {
    if is_paired() {
        return "SHA instructions of x86, two files at once";
    }
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    if std::is_x86_feature_detected!("sha") && std::is_x86_feature_detected!("sse4.1") {
        return "SHA instructions of x86";
    }
    #[cfg(target_arch = "aarch64")]
    if std::arch::is_aarch64_feature_detected!("sha2") {
        return "SHA2 instructions of ARMv8";
    }
    "portable code"
}

impl Digest {
    /// The digest of nothing.
    pub const EMPTY: Self = Self([
        0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27, 0xae,
        0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
    ]);

    /// The digest of `data`.
    pub fn of(data: &[u8]) -> Self {
        Self(sha2::Sha256::digest(data).into())
    }

    /// The 64 hex digits, without the algorithm: the name of the file that holds the content.
    pub fn hex(&self) -> String {
        self.to_string().split_off(7)
    }

    /// The canonical form, without an allocation.
    pub fn text(&self) -> [u8; TEXT_LEN] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; TEXT_LEN];
        text[..7].copy_from_slice(b"sha256:");
        for (pair, byte) in text[7..].chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        text
    }

    /// Parses the canonical form; anything else, upper-case digits too, is refused.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let digits = text.strip_prefix(b"sha256:")?;
        if digits.len() != 64 {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = hex_value(pair[0])? << 4 | hex_value(pair[1])?;
        }
        Some(Self(bytes))
    }
}

fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.text() {
            f.write_str(char::from(byte).encode_utf8(&mut [0; 4]))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text.as_bytes()).ok_or_else(|| {
            Error::new(ErrorKind::InvalidInput, format!("{text:?} is not a digest: expected sha256:<64 hex digits>"))
        })
    }
}

/// A SHA-256 in the making.
#[derive(Clone, Default)]
pub struct Hasher(sha2::Sha256);

impl Hasher {
    /// Adds bytes.
    pub fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    /// The digest of what was added; the hasher begins anew.
    pub fn finish(&mut self) -> Digest {
        Digest(self.0.finalize_reset().into())
    }
}

/// Passes bytes through, hashing and counting what passed.
pub struct HashingStream<S> {
    inner: S,
    hasher: Hasher,
    bytes: u64,
}

impl<S> HashingStream<S> {
    /// Wraps a reader or a writer.
    pub fn new(inner: S) -> Self {
        Self { inner, hasher: Hasher::default(), bytes: 0 }
    }

    /// The stream, the digest and the number of bytes that passed.
    pub fn finish(mut self) -> (S, Digest, u64) {
        let digest = self.hasher.finish();
        (self.inner, digest, self.bytes)
    }

    fn passed(&mut self, data: &[u8]) {
        self.hasher.update(data);
        self.bytes += data.len() as u64;
    }
}

impl<W: Write> Write for HashingStream<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(data)?;
        self.passed(&data[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<R: Read> Read for HashingStream<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.passed(&buffer[..n]);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn text_and_parse_are_inverse() {
        let digest = Digest::of(b"");
        assert_eq!(digest.to_string(), EMPTY);
        assert_eq!(EMPTY.parse::<Digest>().unwrap(), digest);
        assert_eq!(Digest::EMPTY, digest);
        assert_eq!(digest.hex(), &EMPTY[7..]);
    }

    #[test]
    fn only_the_canonical_form_parses() {
        for bad in ["", "sha256:", "md5:00", &EMPTY[..70], &EMPTY.to_uppercase(), &EMPTY.replace('e', "g")] {
            assert_eq!(bad.parse::<Digest>().unwrap_err().kind(), ErrorKind::InvalidInput, "{bad}");
        }
    }

    #[test]
    fn a_stream_hashes_what_passes() {
        let mut stream = HashingStream::new(Vec::new());
        stream.write_all(b"ab").unwrap();
        stream.write_all(b"c").unwrap();
        let (bytes, digest, count) = stream.finish();
        assert_eq!((bytes.as_slice(), digest, count), (&b"abc"[..], Digest::of(b"abc"), 3));
    }
}
