// SPDX-License-Identifier: Apache-2.0
//! When to try again what failed: later each time, up to a longest wait.

use std::time::{Duration, Instant};

/// Waits that double, from the first to the last.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    /// After the first failure.
    pub first: Duration,
    /// The longest.
    pub last: Duration,
}

/// Something that failed.
#[derive(Debug, Clone, Copy)]
pub struct Retry {
    /// When it is tried again.
    pub due: Instant,
    /// How long that is after the failure.
    pub wait: Duration,
    /// How often it failed, one after the other.
    pub failures: u32,
}

impl Backoff {
    /// After a failure now, and what was before it.
    pub fn after(&self, before: Option<&Retry>) -> Retry {
        let wait = before.map_or(self.first, |before| (before.wait * 2).min(self.last));
        Retry {
            due: Instant::now() + wait,
            wait,
            failures: before.map_or(1, |before| before.failures.saturating_add(1)),
        }
    }
}

impl Retry {
    /// Whether the wait is over.
    pub fn is_due(&self) -> bool {
        self.due <= Instant::now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_last() {
        let backoff = Backoff { first: Duration::from_secs(1), last: Duration::from_secs(5) };
        let mut retry = None;
        for (failures, seconds) in [(1, 1), (2, 2), (3, 4), (4, 5), (5, 5)] {
            let next = backoff.after(retry.as_ref());
            assert_eq!((next.failures, next.wait), (failures, Duration::from_secs(seconds)));
            assert!(!next.is_due() && next.due <= Instant::now() + next.wait);
            retry = Some(next);
        }
    }
}
