//! Limits the log lines about webhooks that are not stored: while the queue is away, every one is
//! refused. Pure: the caller gives the time. Metrics and traces have each of them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Which log lines are written, and how many webhooks are without one.
#[derive(Default)]
pub(crate) struct UnstoredLog {
    logged_at: Mutex<Option<Instant>>,
    /// Webhooks without a line since the last line.
    unlogged: AtomicU64,
}

/// Between two lines.
const INTERVAL: Duration = Duration::from_secs(10);

impl UnstoredLog {
    /// A webhook is not stored. `Some`: it has a log line, which also names this number of earlier ones
    /// without a line.
    pub(crate) fn not_stored(&self, now: Instant) -> Option<u64> {
        let line = self.line(now);
        if line.is_none() {
            self.unlogged.fetch_add(1, Ordering::Relaxed);
        }
        line
    }

    /// A webhook is stored. `Some`: this number of earlier ones were not and have no line yet; they
    /// get one now.
    pub(crate) fn stored(&self, now: Instant) -> Option<u64> {
        // The usual case takes no lock.
        if self.unlogged.load(Ordering::Relaxed) == 0 {
            return None;
        }
        self.line(now)
    }

    fn line(&self, now: Instant) -> Option<u64> {
        let mut logged_at = self
            .logged_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if logged_at.is_some_and(|at| now.saturating_duration_since(at) < INTERVAL) {
            return None;
        }
        *logged_at = Some(now);
        Some(self.unlogged.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_has_a_line_at_once_and_then_one_per_interval() {
        let (log, start) = (UnstoredLog::default(), Instant::now());
        assert_eq!(log.stored(start), None);
        assert_eq!(log.not_stored(start), Some(0), "the first");
        for _ in 0..1000 {
            assert_eq!(log.not_stored(start + Duration::from_secs(9)), None);
        }
        assert_eq!(log.not_stored(start + INTERVAL), Some(1000));
        assert_eq!(log.not_stored(start + INTERVAL), None);
        assert_eq!(
            log.stored(start + INTERVAL),
            None,
            "some are stored, some not"
        );
        assert_eq!(log.stored(start + 2 * INTERVAL), Some(1), "the last");
        assert_eq!(log.stored(start + 4 * INTERVAL), None);
    }
}
