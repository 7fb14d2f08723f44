// SPDX-License-Identifier: Apache-2.0
//! The members of a gzip stream. Whatever follows the last one is passed over, as pigz does.

use std::io::{self, Read};

use flate2::bufread::GzDecoder;

use super::source::Source;

/// Begins a member.
const MEMBER: [u8; 2] = [0x1f, 0x8b];

/// Whether these bytes begin a member.
pub fn is_member(bytes: &[u8]) -> bool {
    bytes.starts_with(&MEMBER)
}

/// See the [module](self); none at its end.
pub struct Members<R: Read>(Option<Box<GzDecoder<Source<R>>>>);

impl<R: Read> Members<R> {
    /// At the first member.
    pub fn new(source: Source<R>) -> Self {
        Self(Some(Box::new(GzDecoder::new(source))))
    }
}

impl<R: Read> Read for Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.0 {
            match member.read(buffer)? {
                0 if !buffer.is_empty() => {}
                n => return Ok(n),
            }
            if let Some(mut source) = self.0.take().map(|member| member.into_inner())
                && is_member(source.peek(MEMBER.len())?)
            {
                *self = Self::new(source);
            }
        }
        Ok(0)
    }
}
