// SPDX-License-Identifier: Apache-2.0
//! How much a layer may hold.

use std::fs;
use std::path::Path;

/// The largest zstd window that containerd reads, as a power of two: 512 MiB (`zstd --long=29`).
pub const WINDOW_LOG_MAX: u32 = 29;

/// The smallest limit of a window, as a power of two: the 8 MiB that every decoder has to take.
const WINDOW_LOG_MIN: u32 = 23;

/// What one image may make us read and remember. A tar that claims more is refused before memory is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Entries of all layers of an image together.
    pub entries: u64,
    /// Bytes of one layer, uncompressed.
    pub bytes: u64,
    /// Bytes of the window of a zstd frame, which one read of a layer holds in memory; rounded down to a power of two,
    /// at least 8 MiB, and never above the 512 MiB that containerd reads. 0 takes half of the memory that the machine
    /// and the control group allow.
    pub window: u64,
}

impl Default for Limits {
    /// Five million entries, 256 GiB: beyond any image that runs on a node of the field. A machine of 512 MB reads
    /// windows of 128 MiB, one of 2 GB all that containerd reads.
    fn default() -> Self {
        Self { entries: 5_000_000, bytes: 256 << 30, window: 0 }
    }
}

impl Limits {
    /// The largest window, as a power of two.
    pub(super) fn window_log(&self) -> u32 {
        let window = match self.window {
            0 => memory() / 2,
            window => window,
        };
        window.checked_ilog2().unwrap_or(0).clamp(WINDOW_LOG_MIN, WINDOW_LOG_MAX)
    }
}

/// Bytes of memory that the machine has, or fewer if a control group bounds them. What cannot be read bounds nothing.
fn memory() -> u64 {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        total.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
    });
    let group = fs::read_to_string("/proc/self/cgroup").ok().and_then(|text| {
        let path = Path::new(text.lines().find_map(|line| line.strip_prefix("0::/"))?);
        let limit = |group: &Path| fs::read_to_string(group.join("memory.max")).ok()?.trim().parse::<u64>().ok();
        path.ancestors().filter_map(|group| limit(&Path::new("/sys/fs/cgroup").join(group))).min()
    });
    machine.into_iter().chain(group).min().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_a_power_of_two_within_what_containerd_reads() {
        let log = |window| Limits { window, ..Limits::default() }.window_log();
        for (window, expected) in [(1, 23), (8 << 20, 23), (100 << 20, 26), (128 << 20, 27), (4 << 30, 29)] {
            assert_eq!(log(window), expected, "{window}");
        }
        assert_eq!(log(0), log(memory() / 2));
    }
}
