//! The pauses of a loop that tries again after a failure.

use std::time::Duration;

use revwatch_core::backoff::Backoff;
use revwatch_storage::system::random_share;

/// Pauses that double with each failure in a row, up to the longest. Each is between half and all of
/// that, at random, so that processes that lost the same server do not return to it at the same
/// moment.
#[derive(Debug)]
pub struct Retries {
    backoff: Backoff,
    /// In a row.
    failures: u32,
}

impl Retries {
    /// Before the first failure.
    pub fn new(backoff: Backoff) -> Self {
        Self {
            backoff,
            failures: 0,
        }
    }

    /// Registers a failure, and returns how long to pause after it.
    pub fn pause(&mut self) -> Duration {
        let longest = self.backoff.wait(self.failures);
        self.failures = self.failures.saturating_add(1);
        longest.mul_f64(0.5 + random_share() / 2.0)
    }

    /// Registers a success: the next failure is the first again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_until_a_success() {
        let (first, max) = (Duration::from_millis(100), Duration::from_secs(1));
        let mut retries = Retries::new(Backoff { first, max });
        for _ in 0..2 {
            assert!((first / 2..=first).contains(&retries.pause()));
            assert!((first..=2 * first).contains(&retries.pause()));
            for _ in 0..100 {
                assert!(retries.pause() <= max);
            }
            assert!((max / 2..=max).contains(&retries.pause()));
            retries.reset();
        }
    }
}
