//! How long to wait before something that failed is tried again.

use std::time::Duration;

/// Waits that double with each failure in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The wait after the first failure.
    pub first: Duration,
    /// The longest wait.
    pub max: Duration,
}

impl Backoff {
    /// The wait after another failure, when `earlier` failures in a row precede it.
    pub fn wait(self, earlier: u32) -> Duration {
        let doubled = 2_u32.saturating_pow(earlier);
        self.first.saturating_mul(doubled).min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let backoff = Backoff {
            first: Duration::from_millis(100),
            max: Duration::from_secs(1),
        };
        let waits: Vec<u128> = [0, 1, 2, 3, 4, 50, u32::MAX]
            .map(|earlier| backoff.wait(earlier).as_millis())
            .into();
        assert_eq!(waits, [100, 200, 400, 800, 1000, 1000, 1000]);
        let none = Backoff {
            max: Duration::ZERO,
            ..backoff
        };
        assert_eq!(none.wait(3), Duration::ZERO);
    }
}
