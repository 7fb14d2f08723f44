// SPDX-License-Identifier: Apache-2.0
//! Blobs to tars: gzip, zstd or nothing, as the first bytes tell; what a media type says is not needed.

use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};

use flate2::bufread::MultiGzDecoder;

/// Bytes of a blob that are read at once.
const BUFFER: usize = 64 << 10;

/// Bytes that tell the compression.
const MAGIC: usize = 4;

/// The largest window of a zstd frame, as a power of two: 64 MiB, which Go's reader takes, too. A larger one would
/// let a blob decide over our memory.
const ZSTD_WINDOW_LOG: u32 = 26;

/// A blob whose first bytes were looked at.
type Seen<R> = BufReader<Chain<Cursor<Vec<u8>>, R>>;

/// Decompresses what it wraps.
pub enum Decoder<R: Read> {
    /// Any number of members.
    Gzip(Box<MultiGzDecoder<Seen<R>>>),
    /// Any number of frames, skippable ones among them.
    Zstd(Box<zstd::stream::read::Decoder<'static, Seen<R>>>),
    /// As it is.
    Plain(Seen<R>),
}

impl<R: Read> Decoder<R> {
    /// Looks at the first bytes.
    pub fn new(mut source: R) -> io::Result<Self> {
        let mut magic = Vec::with_capacity(MAGIC);
        source.by_ref().take(MAGIC as u64).read_to_end(&mut magic)?;
        let kind = [magic.starts_with(&[0x1f, 0x8b]), is_zstd(&magic)];
        let seen = BufReader::with_capacity(BUFFER, Cursor::new(magic).chain(source));
        Ok(match kind {
            [true, _] => Self::Gzip(Box::new(MultiGzDecoder::new(seen))),
            [_, true] => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(seen)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                Self::Zstd(Box::new(decoder))
            }
            _ => Self::Plain(seen),
        })
    }
}

/// A frame, or a skippable one.
fn is_zstd(magic: &[u8]) -> bool {
    matches!(magic, [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18])
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Gzip(decoder) => decoder.read(buffer),
            Self::Zstd(decoder) => decoder.read(buffer),
            Self::Plain(source) => {
                // Past its own buffer, where that is large enough.
                if source.buffer().is_empty() && buffer.len() < BUFFER {
                    source.fill_buf()?;
                }
                source.read(buffer)
            }
        }
    }
}
