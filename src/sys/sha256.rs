// SPDX-License-Identifier: Apache-2.0
//! SHA-256 of two streams at once.
//!
//! The processor's SHA instructions wait for their own results: each round needs the one before, and half of what the
//! unit could do is lost. The rounds of a second stream fit into the gaps. On x86-64 with SHA instructions two streams
//! take little longer than one; elsewhere they are hashed one after the other, by sha2.

/// The state before the first block (FIPS 180-4, 5.3.3).
pub const INITIAL: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// Bytes of a block.
pub const BLOCK: usize = 64;

/// Adds blocks to one stream.
pub fn compress(state: &mut [u32; 8], blocks: &[[u8; BLOCK]]) {
    sha2::block_api::compress256(state, blocks);
}

/// Adds blocks to two streams, as many to each.
///
/// # Panics
/// If the slices differ in length.
#[allow(unsafe_code)]
pub fn compress_pair(states: [&mut [u32; 8]; 2], blocks: [&[[u8; BLOCK]]; 2]) {
    assert_eq!(blocks[0].len(), blocks[1].len(), "as many blocks of both");
    #[cfg(target_arch = "x86_64")]
    if is_paired() {
        // SAFETY: the processor has the instructions that the function is compiled for.
        unsafe { x86::compress_pair(states, blocks) };
        return;
    }
    let [first, second] = states;
    compress(first, blocks[0]);
    compress(second, blocks[1]);
}

/// Whether [`compress_pair`] is faster than two calls of [`compress`].
pub fn is_paired() -> bool {
    #[cfg(target_arch = "x86_64")]
    let paired = std::is_x86_feature_detected!("sha")
        && std::is_x86_feature_detected!("ssse3")
        && std::is_x86_feature_detected!("sse4.1");
    #[cfg(not(target_arch = "x86_64"))]
    let paired = false;
    paired
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_extract_epi32, _mm_set_epi32, _mm_set_epi64x,
        _mm_sha256msg1_epu32, _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32, _mm_shuffle_epi8, _mm_shuffle_epi32,
    };

    use super::BLOCK;

    /// Constants of the rounds (FIPS 180-4, 4.2.2), four for each step of [`compress_pair`].
    #[rustfmt::skip]
    const K: [[u32; 4]; 16] = [
        [0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5], [0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5],
        [0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3], [0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174],
        [0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc], [0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da],
        [0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7], [0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967],
        [0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13], [0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85],
        [0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3], [0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070],
        [0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5], [0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3],
        [0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208], [0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2],
    ];

    /// As the instructions want it: the state's words a, b, e, f in one register and c, d, g, h in another, the first
    /// one highest.
    ///
    /// No closure is handed to a function here: that function is compiled without the instructions, and would have to
    /// call what should be one of them.
    #[derive(Clone, Copy)]
    struct Lane {
        abef: __m128i,
        cdgh: __m128i,
        /// The last sixteen words of the message schedule, in a ring of four registers.
        words: [__m128i; 4],
    }

    impl Lane {
        #[inline]
        #[target_feature(enable = "sha,ssse3,sse4.1")]
        fn new(state: &[u32; 8]) -> Self {
            let [a, b, c, d, e, f, g, h] = state.map(u32::cast_signed);
            let (abef, cdgh) = (_mm_set_epi32(a, b, e, f), _mm_set_epi32(c, d, g, h));
            Self { abef, cdgh, words: [abef; 4] }
        }

        #[inline]
        #[target_feature(enable = "sha,ssse3,sse4.1")]
        fn state(&self) -> [u32; 8] {
            let words = |register| {
                [
                    _mm_extract_epi32::<3>(register),
                    _mm_extract_epi32::<2>(register),
                    _mm_extract_epi32::<1>(register),
                    _mm_extract_epi32::<0>(register),
                ]
            };
            let ([a, b, e, f], [c, d, g, h]) = (words(self.abef), words(self.cdgh));
            [a, b, c, d, e, f, g, h].map(i32::cast_unsigned)
        }

        /// Begins a block: its bytes are sixteen words, the first byte of each the highest.
        #[inline]
        #[target_feature(enable = "sha,ssse3,sse4.1")]
        fn begin(&mut self, block: &[u8; BLOCK]) {
            let swapped = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
            let (halves, _) = block.as_chunks::<8>();
            macro_rules! words {
                ($n:literal) => {{
                    let (low, high) = (i64::from_le_bytes(halves[2 * $n]), i64::from_le_bytes(halves[2 * $n + 1]));
                    _mm_shuffle_epi8(_mm_set_epi64x(high, low), swapped)
                }};
            }
            self.words = [words!(0), words!(1), words!(2), words!(3)];
        }

        /// Four words of the schedule, from the sixteen before them.
        #[inline]
        #[target_feature(enable = "sha,ssse3,sse4.1")]
        fn extend(&mut self, step: usize) {
            let (w0, w1) = (self.words[step % 4], self.words[(step + 1) % 4]);
            let (w2, w3) = (self.words[(step + 2) % 4], self.words[(step + 3) % 4]);
            let sum = _mm_add_epi32(_mm_sha256msg1_epu32(w0, w1), _mm_alignr_epi8::<4>(w3, w2));
            self.words[step % 4] = _mm_sha256msg2_epu32(sum, w3);
        }

        /// Words and constants of four rounds.
        #[inline]
        #[target_feature(enable = "sha,ssse3,sse4.1")]
        fn input(&self, step: usize) -> __m128i {
            let [k0, k1, k2, k3] = K[step].map(u32::cast_signed);
            _mm_add_epi32(self.words[step % 4], _mm_set_epi32(k3, k2, k1, k0))
        }

        #[inline]
        #[target_feature(enable = "sha,ssse3,sse4.1")]
        fn end(&mut self, before: &Self) {
            self.abef = _mm_add_epi32(self.abef, before.abef);
            self.cdgh = _mm_add_epi32(self.cdgh, before.cdgh);
        }
    }

    /// Rounds of the one stream, then of the other: the processor does both at the same time.
    #[target_feature(enable = "sha,ssse3,sse4.1")]
    pub fn compress_pair(states: [&mut [u32; 8]; 2], blocks: [&[[u8; BLOCK]]; 2]) {
        let [first, second] = states;
        let (mut a, mut b) = (Lane::new(first), Lane::new(second));
        for (of_a, of_b) in blocks[0].iter().zip(blocks[1]) {
            let (before_a, before_b) = (a, b);
            a.begin(of_a);
            b.begin(of_b);
            // A macro, so that it is unrolled whatever the compiler optimises for: each index is a constant.
            macro_rules! steps {
                ($($step:literal)*) => {$(
                    if $step >= 4 {
                        a.extend($step);
                        b.extend($step);
                    }
                    let (x, y) = (a.input($step), b.input($step));
                    a.cdgh = _mm_sha256rnds2_epu32(a.cdgh, a.abef, x);
                    b.cdgh = _mm_sha256rnds2_epu32(b.cdgh, b.abef, y);
                    a.abef = _mm_sha256rnds2_epu32(a.abef, a.cdgh, _mm_shuffle_epi32::<0b1110>(x));
                    b.abef = _mm_sha256rnds2_epu32(b.abef, b.cdgh, _mm_shuffle_epi32::<0b1110>(y));
                )*};
            }
            steps!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
            a.end(&before_a);
            b.end(&before_b);
        }
        (*first, *second) = (a.state(), b.state());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks that no two streams share.
    fn blocks(seed: u32, count: usize) -> Vec<[u8; BLOCK]> {
        let mut word = seed;
        let mut byte = || {
            word = word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (word >> 24) as u8
        };
        (0..count).map(|_| std::array::from_fn(|_| byte())).collect()
    }

    #[test]
    fn two_streams_at_once_are_what_sha2_makes_of_each() {
        let (mut states, mut expected) = ([INITIAL; 2], [INITIAL; 2]);
        for count in [0, 1, 2, 3, 7, 64, 1000] {
            let (of_a, of_b) = (blocks(count as u32 + 1, count), blocks(!(count as u32), count));
            let [a, b] = &mut states;
            compress_pair([a, b], [&of_a, &of_b]);
            compress(&mut expected[0], &of_a);
            compress(&mut expected[1], &of_b);
            assert_eq!(states, expected, "{count} blocks");
        }
        assert_ne!(states[0], states[1]);
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn a_processor_with_sha_instructions_pairs() {
        let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap();
        assert_eq!(is_paired(), flags.contains(" sha_ni"));
    }

    #[test]
    #[should_panic(expected = "as many blocks of both")]
    fn streams_of_different_lengths_are_refused() {
        let [mut a, mut b] = [INITIAL; 2];
        compress_pair([&mut a, &mut b], [&blocks(1, 2), &blocks(2, 1)]);
    }
}
