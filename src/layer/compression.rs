// SPDX-License-Identifier: Apache-2.0
//! Blobs to tars: gzip, zstd or nothing, as the first bytes tell; what a media type says is not needed.
//!
//! What containerd reads is read, also where it leaves the work to `unpigz` or `igzip`: those pass over what follows
//! the last member, while Go's reader refuses it. The blob's digest covers it in either case.

mod gzip;
mod source;
mod zstd;

use std::io::{self, Read};

use self::gzip::Members;
use self::source::Source;
use self::zstd::Frames;
use super::Limits;

/// Bytes that tell the compression.
const MAGIC: usize = 4;

/// Decompresses what it wraps.
pub enum Decoder<R: Read> {
    /// Any number of members.
    Gzip(Members<R>),
    /// Any number of frames, skippable ones among them.
    Zstd(Frames<R>),
    /// As it is.
    Plain(Source<R>),
}

impl<R: Read> Decoder<R> {
    /// Looks at the first bytes.
    pub fn new(source: R, limits: &Limits) -> io::Result<Self> {
        let mut source = Source::new(source);
        let magic = source.peek(MAGIC)?;
        Ok(if gzip::is_member(magic) {
            Self::Gzip(Members::new(source))
        } else if zstd::is_frame(magic) {
            Self::Zstd(Frames::new(source, limits.window_log()))
        } else {
            Self::Plain(source)
        })
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Gzip(members) => members.read(buffer),
            Self::Zstd(frames) => frames.read(buffer),
            Self::Plain(source) => source.read(buffer),
        }
    }
}
