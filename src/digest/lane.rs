// SPDX-License-Identifier: Apache-2.0
//! Digests of two streams side by side, which takes little longer than one: see [`crate::sys::sha256`].
//!
//! A lane is a buffer that its owner fills and that is hashed block by block. The padding that ends a SHA-256 is
//! written behind the last bytes, so that it is hashed with the rest and in step with the other lane.

use super::Digest;
use crate::sys::sha256::{BLOCK, INITIAL, compress, compress_pair};

/// Bytes behind the buffer for what is left of a block and the padding, which together are at most two blocks.
const PADDING: usize = 2 * BLOCK;

/// A SHA-256 in the making, with the bytes that it has not seen yet.
pub struct Lane {
    state: [u32; 8],
    buffer: Box<[u8]>,
    /// `hashed..filled` of the buffer waits to be hashed.
    hashed: usize,
    filled: usize,
    /// Bytes of the stream so far.
    length: u64,
    ended: bool,
}

impl Lane {
    /// Takes up to `capacity` bytes at once.
    pub fn new(capacity: usize) -> Self {
        Self {
            state: INITIAL,
            buffer: vec![0; capacity + PADDING].into(),
            hashed: 0,
            filled: 0,
            length: 0,
            ended: false,
        }
    }

    /// Where the next bytes of the stream go; for [`add`](Self::add). As large as it gets once no block waits.
    pub fn space(&mut self) -> &mut [u8] {
        self.buffer.copy_within(self.hashed..self.filled, 0);
        self.filled -= self.hashed;
        self.hashed = 0;
        let capacity = self.buffer.len() - PADDING;
        &mut self.buffer[self.filled..capacity]
    }

    /// Adds the first `n` bytes of [`space`](Self::space).
    pub fn add(&mut self, n: usize) {
        debug_assert!(!self.ended);
        self.filled += n;
        self.length += n as u64;
    }

    /// No byte follows.
    pub fn end(&mut self) {
        // A bit that is set, then zeros, then the length in bits at the end of a block (FIPS 180-4, 5.1.1).
        let zeros = (2 * BLOCK - 1 - size_of::<u64>() - self.length as usize % BLOCK) % BLOCK;
        self.space();
        let (set, length) = (self.filled, self.filled + 1 + zeros);
        self.buffer[set] = 0x80;
        self.buffer[set + 1..length].fill(0);
        self.filled = length + size_of::<u64>();
        self.buffer[length..self.filled].copy_from_slice(&(self.length * 8).to_be_bytes());
        self.ended = true;
    }

    /// Whether [`end`](Self::end) was called.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// Whether a block waits to be hashed.
    pub fn waits(&self) -> bool {
        self.blocks() > 0
    }

    /// The digest of a stream that has ended and of which nothing waits. The lane begins anew.
    pub fn finish(&mut self) -> Digest {
        debug_assert!(self.ended && !self.waits());
        let mut bytes = [0; 32];
        for (to, word) in bytes.chunks_exact_mut(4).zip(self.state) {
            to.copy_from_slice(&word.to_be_bytes());
        }
        self.clear();
        Digest(bytes)
    }

    /// Forgets the stream.
    pub fn clear(&mut self) {
        (self.state, self.hashed, self.filled, self.length, self.ended) = (INITIAL, 0, 0, 0, false);
    }

    /// The state, and the blocks that wait, up to `most`.
    fn take(&mut self, most: usize) -> (&mut [u32; 8], &[[u8; BLOCK]]) {
        let (blocks, _) = self.buffer[self.hashed..self.filled].as_chunks();
        let blocks = &blocks[..blocks.len().min(most)];
        self.hashed += blocks.len() * BLOCK;
        (&mut self.state, blocks)
    }

    fn blocks(&self) -> usize {
        (self.filled - self.hashed) / BLOCK
    }
}

/// Hashes until of one of the lanes no block waits, or if that is so already, what waits in the other.
pub fn advance(lanes: &mut [Lane; 2]) {
    let [first, second] = lanes;
    match first.blocks().min(second.blocks()) {
        0 => {
            for lane in lanes {
                let (state, blocks) = lane.take(usize::MAX);
                compress(state, blocks);
            }
        }
        both => {
            let (a, of_a) = first.take(both);
            let (b, of_b) = second.take(both);
            compress_pair([a, b], [of_a, of_b]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPACITY: usize = 256;

    /// Runs two streams through lanes that get at most so many bytes at once.
    fn digests(streams: [&[u8]; 2], at_once: [usize; 2]) -> [Digest; 2] {
        let mut lanes = [Lane::new(CAPACITY), Lane::new(CAPACITY)];
        let mut rest = streams;
        let mut found = [None; 2];
        while found.contains(&None) {
            for n in 0..2 {
                while found[n].is_none() && !lanes[n].waits() {
                    if lanes[n].is_ended() {
                        found[n] = Some(lanes[n].finish());
                    } else if rest[n].is_empty() {
                        lanes[n].end();
                    } else {
                        let space = lanes[n].space();
                        let len = space.len().min(at_once[n]).min(rest[n].len());
                        space[..len].copy_from_slice(&rest[n][..len]);
                        lanes[n].add(len);
                        rest[n] = &rest[n][len..];
                    }
                }
            }
            advance(&mut lanes);
        }
        found.map(Option::unwrap)
    }

    #[test]
    fn streams_of_every_length_have_the_digests_that_they_have_alone() {
        let bytes: Vec<u8> = (0..2000_u32).map(|n| (n * n / 7) as u8).collect();
        let other = 700;
        for len in (0..=3 * CAPACITY).chain([1999, 2000]) {
            let streams = [&bytes[..len], &bytes[..other]];
            assert_eq!(digests(streams, [CAPACITY, 100]), streams.map(Digest::of), "{len} bytes");
        }
    }

    #[test]
    fn bytes_may_come_in_any_pieces() {
        let bytes: Vec<u8> = (0..1000_u32).map(|n| (n * 13) as u8).collect();
        for at_once in 1..130 {
            let streams = [&bytes[..], &bytes[1..990]];
            assert_eq!(digests(streams, [at_once, 131 - at_once]), streams.map(Digest::of), "{at_once} bytes at once");
        }
    }

    #[test]
    fn a_lane_that_was_cleared_begins_anew() {
        let mut lanes = [Lane::new(CAPACITY), Lane::new(CAPACITY)];
        for lane in &mut lanes {
            lane.space()[..100].fill(7);
            lane.add(100);
        }
        advance(&mut lanes);
        for lane in &mut lanes {
            lane.clear();
            lane.end();
        }
        advance(&mut lanes);
        assert_eq!(lanes.map(|mut lane| lane.finish()), [Digest::EMPTY; 2]);
    }
}
