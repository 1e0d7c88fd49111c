//! Limits the log lines about something that a sender or an outage repeats. Pure: the caller gives the
//! time. Metrics count every case.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Which cases have a log line, and how many have none.
pub struct LimitedLog {
    lines_per_interval: u32,
    interval: Mutex<Option<Interval>>,
    /// Cases without a line since the last line.
    unlogged: AtomicU64,
}

struct Interval {
    began: Instant,
    lines: u32,
}

const INTERVAL: Duration = Duration::from_secs(10);

impl LimitedLog {
    /// Writes at most this many lines in ten seconds.
    pub fn new(lines_per_interval: u32) -> Self {
        Self {
            lines_per_interval,
            interval: Mutex::default(),
            unlogged: AtomicU64::default(),
        }
    }

    /// One more case. `Some`: it has a log line, which also names this number of earlier ones without a
    /// line.
    pub fn one_more(&self, now: Instant) -> Option<u64> {
        let line = self.line(now);
        if line.is_none() {
            self.unlogged.fetch_add(1, Ordering::Relaxed);
        }
        line
    }

    /// It has ended, perhaps. `Some`: this number of earlier cases have no line yet; they get one now.
    pub fn ended(&self, now: Instant) -> Option<u64> {
        // The usual case takes no lock.
        if self.unlogged.load(Ordering::Relaxed) == 0 {
            return None;
        }
        self.line(now)
    }

    fn line(&self, now: Instant) -> Option<u64> {
        let mut interval = self.interval.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *interval {
            Some(Interval { began, lines }) if now.saturating_duration_since(*began) < INTERVAL => {
                if *lines >= self.lines_per_interval {
                    return None;
                }
                *lines += 1;
            }
            interval => {
                *interval = Some(Interval {
                    began: now,
                    lines: 1,
                });
            }
        }
        Some(self.unlogged.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_has_a_line_at_once_and_then_one_per_interval() {
        let (log, start) = (LimitedLog::new(1), Instant::now());
        assert_eq!(log.ended(start), None);
        assert_eq!(log.one_more(start), Some(0), "the first");
        for _ in 0..1000 {
            assert_eq!(log.one_more(start + Duration::from_secs(9)), None);
        }
        assert_eq!(log.one_more(start + INTERVAL), Some(1000));
        assert_eq!(log.one_more(start + INTERVAL), None);
        assert_eq!(
            log.ended(start + INTERVAL),
            None,
            "some are stored, some not"
        );
        assert_eq!(log.ended(start + 2 * INTERVAL), Some(1), "the last");
        assert_eq!(log.ended(start + 4 * INTERVAL), None);
    }

    #[test]
    fn a_few_cases_have_a_line_each() {
        let (log, start) = (LimitedLog::new(3), Instant::now());
        let lines = [0, 1, 2, 3, 4].map(|s| log.one_more(start + Duration::from_secs(s)));
        assert_eq!(lines, [Some(0), Some(0), Some(0), None, None]);
        assert_eq!(log.one_more(start + INTERVAL), Some(2));
    }
}
