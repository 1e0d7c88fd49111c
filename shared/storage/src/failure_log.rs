//! Which of the failures that a loop meets again and again are logged.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use revwatch_core::backoff::Backoff;

/// How long after a line about a failure the next one about the same may follow.
const PAUSE: Backoff = Backoff {
    first: Duration::from_secs(5),
    max: Duration::from_secs(60),
};
/// A failure that was not seen for so long is over; the next one is new.
const OVER_AFTER: Duration = Duration::from_secs(60);
/// Failures of different texts that are kept apart.
const MAX_TEXTS: usize = 64;

/// Lets the first line about a failure through, then ever fewer. Clones share what they let through, so that all
/// partitions that fail for one reason say so once.
#[derive(Debug, Clone, Default)]
pub struct FailureLog(Arc<Mutex<BTreeMap<String, Lines>>>);

#[derive(Debug)]
struct Lines {
    logged: u32,
    not_logged: u64,
    next: Instant,
    seen: Instant,
}

impl FailureLog {
    /// `Some`: log this failure, and that so many were not logged before it.
    pub fn admit(&self, failure: &dyn Display) -> Option<u64> {
        self.admit_at(failure, Instant::now())
    }

    fn admit_at(&self, failure: &dyn Display, now: Instant) -> Option<u64> {
        let mut texts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        texts.retain(|_, lines| now < lines.seen + OVER_AFTER);
        let text = failure.to_string();
        if texts.len() >= MAX_TEXTS && !texts.contains_key(&text) {
            texts.clear();
        }
        let lines = texts.entry(text).or_insert(Lines {
            logged: 0,
            not_logged: 0,
            next: now,
            seen: now,
        });
        lines.seen = now;
        if now < lines.next {
            lines.not_logged += 1;
            return None;
        }
        lines.next = now + PAUSE.wait(lines.logged);
        lines.logged += 1;
        Some(std::mem::take(&mut lines.not_logged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_rare_while_a_failure_lasts() {
        let (log, start) = (FailureLog::default(), Instant::now());
        let at = |second| start + Duration::from_secs(second);
        let same = log.clone();
        let lines: Vec<(u64, u64)> = (0..200)
            .filter_map(|second| Some((second, same.admit_at(&"full", at(second))?)))
            .collect();
        let expected = [
            (0, 0),
            (5, 4),
            (15, 9),
            (35, 19),
            (75, 39),
            (135, 59),
            (195, 59),
        ];
        assert_eq!(lines, expected);
        assert_eq!(log.admit_at(&"gone", at(200)), Some(0), "another failure");
        assert_eq!(log.admit_at(&"gone", at(200)), None);
        assert_eq!(log.admit_at(&"full", at(260)), Some(0), "it was over");
        for text in 0..1000 {
            assert_eq!(log.admit_at(&text, at(400)), Some(0));
        }
        let kept = log.0.lock().expect("unpoisoned").len();
        assert!(kept <= MAX_TEXTS, "{kept}");
    }
}
