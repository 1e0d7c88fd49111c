//! The pauses of a loop that tries again after a failure.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use revwatch_core::backoff::Backoff;

/// Pauses that double with each failure in a row. They vary at random, so that processes that lost
/// the same server do not all return to it at the same moment.
#[derive(Debug)]
pub struct Retries {
    backoff: Backoff,
    pauses: ExponentialBackoff,
}

impl Retries {
    /// Before the first failure.
    pub fn new(backoff: Backoff) -> Self {
        let pauses = ExponentialBuilder::new()
            .with_min_delay(backoff.first)
            .with_max_delay(backoff.max)
            .with_jitter()
            .without_max_times()
            .build();
        Self { backoff, pauses }
    }

    /// Registers a failure, and returns how long to pause after it.
    pub fn pause(&mut self) -> Duration {
        self.pauses.next().unwrap_or(self.backoff.max)
    }

    /// Registers a success: the next failure is the first again.
    pub fn reset(&mut self) {
        *self = Self::new(self.backoff);
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
            // Each varies by at most its own length.
            assert!((first..=2 * first).contains(&retries.pause()));
            assert!((2 * first..=4 * first).contains(&retries.pause()));
            for _ in 0..100 {
                retries.pause();
            }
            assert!((max..=2 * max).contains(&retries.pause()));
            retries.reset();
        }
    }
}
