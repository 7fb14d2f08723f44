// SPDX-License-Identifier: Apache-2.0
//! The frames of a zstd stream, one decoder for each: a frame's window is known, and bounded, before memory is taken.

use std::io::{self, Read};

use zstd::stream::read::Decoder;

use super::source::Source;
use crate::error::{Error, ErrorKind};
use crate::layer::limits::WINDOW_LOG_MAX;

/// Begins a frame.
const FRAME: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Bytes of a skippable frame before what is skipped: magic and size.
const SKIPPABLE: usize = 8;

/// Bytes that a frame's header has at most.
const HEADER: usize = 18;

/// A frame, or a skippable one.
pub fn is_frame(magic: &[u8]) -> bool {
    magic.starts_with(&FRAME) || is_skippable(magic)
}

fn is_skippable(magic: &[u8]) -> bool {
    matches!(magic, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
}

/// See the [module](self).
pub struct Frames<R: Read> {
    at: At<R>,
    /// The largest window, as a power of two.
    window_log: u32,
}

enum At<R: Read> {
    Between(Source<R>),
    Within(Box<Decoder<'static, Source<R>>>),
    End,
}

impl<R: Read> Frames<R> {
    /// At the first frame.
    pub fn new(source: Source<R>, window_log: u32) -> Self {
        Self { at: At::Between(source), window_log }
    }

    /// Goes to the next frame, or to the end.
    fn enter(&mut self, mut source: Source<R>) -> io::Result<At<R>> {
        let header = source.peek(HEADER)?;
        if header.is_empty() {
            return Ok(At::End);
        }
        if is_skippable(header) {
            let size = header.get(4..SKIPPABLE).and_then(|size| size.try_into().ok()).ok_or_else(cut_off)?;
            let size = SKIPPABLE as u64 + u64::from(u32::from_le_bytes(size));
            return match io::copy(&mut source.by_ref().take(size), &mut io::sink())? == size {
                true => Ok(At::Between(source)),
                false => Err(cut_off()),
            };
        }
        if !header.starts_with(&FRAME) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "something else than a zstd frame follows a frame"));
        }
        let window = window(header).ok_or_else(cut_off)?;
        let limit = 1 << self.window_log;
        if window > limit {
            let remedy = match self.window_log {
                WINDOW_LOG_MAX => "the most that containerd reads",
                _ => "max_window allows more",
            };
            let message = format!("its zstd window of {window} bytes is larger than {limit} ({remedy})");
            return Err(io::Error::other(Error::new(ErrorKind::InvalidInput, message)));
        }
        let mut decoder = Decoder::with_buffer(source)?.single_frame();
        decoder.window_log_max(self.window_log)?;
        Ok(At::Within(Box::new(decoder)))
    }
}

impl<R: Read> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            self.at = match std::mem::replace(&mut self.at, At::End) {
                At::End => return Ok(0),
                At::Between(source) => self.enter(source)?,
                At::Within(mut decoder) => match decoder.read(buffer)? {
                    0 => At::Between(decoder.finish()),
                    n => {
                        self.at = At::Within(decoder);
                        return Ok(n);
                    }
                },
            };
        }
    }
}

/// Bytes of what came before that a frame may refer to; none if the header is cut off.
fn window(header: &[u8]) -> Option<u64> {
    let descriptor = *header.get(4)?;
    let is_single_segment = descriptor & 0x20 != 0;
    if !is_single_segment {
        let byte = u64::from(*header.get(5)?);
        let base = 1_u64 << (10 + (byte >> 3));
        return Some(base + base / 8 * (byte & 7));
    }
    // The window is the contents, whose size follows the ID of a dictionary.
    let start = 5 + [0, 1, 2, 4][usize::from(descriptor & 3)];
    let size = |length: usize| {
        let mut bytes = [0; 8];
        bytes[..length].copy_from_slice(header.get(start..start + length)?);
        Some(u64::from_le_bytes(bytes))
    };
    match descriptor >> 6 {
        0 => size(1),
        1 => size(2).map(|size| size + 256),
        2 => size(4),
        _ => size(8),
    }
}

fn cut_off() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "it ends within a zstd frame")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_says_how_large_the_window_is() {
        let with = |rest: &[u8]| window(&[&FRAME[..], rest].concat());
        for (rest, expected) in [
            (&[0x00, 0x00][..], Some(1 << 10)),
            (&[0x00, 0x88][..], Some(128 << 20)),
            (&[0x00, 0x9d][..], Some((512 << 20) + 5 * (64 << 20))),
            (&[0x20, 0x07][..], Some(7)),
            (&[0x61, 0xff, 0x01, 0x00][..], Some(257)),
            (&[0xa0, 0x00, 0x00, 0x00, 0x10][..], Some(256 << 20)),
            (&[0xe0, 0, 0, 0, 0, 1, 0, 0, 0][..], Some(1 << 32)),
            (&[0x00][..], None),
            (&[0xa0, 0x00][..], None),
        ] {
            assert_eq!(with(rest), expected, "{rest:x?}");
        }
    }
}
