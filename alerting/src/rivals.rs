//! Whether evaluators of several stores work on one queue. Pure.
//!
//! Each store has its lease, so each has an evaluator, and each alert is sent by all of them. They share the journal: an
//! evaluator writes a line to it when it begins, and another one when it has read a line that another evaluator wrote
//! since. So two of them answer each other for as long as both work, and one alone writes nothing more. One that lost its
//! lease to another process of its store stops within seconds, and one whose store is gone, too: both fall silent.

use std::collections::BTreeMap;
use std::time::Duration;

use revwatch_storage::ports::JournalEntry;
use serde::{Deserialize, Serialize};

/// The journal's space of these lines; the key is the evaluator's.
pub(crate) const EVALUATORS: &str = "evaluator";

/// What one evaluator knows of others, since it began.
#[derive(Debug)]
pub(crate) struct Rivals {
    key: String,
    store: String,
    /// The number of its newest line.
    number: u64,
    /// The number of the line with which it began.
    first: u64,
    /// That line was read: what follows was written since.
    has_begun: bool,
    is_line_due: bool,
    /// Of each other evaluator, the number of its newest line.
    newest: BTreeMap<String, u64>,
    /// Those that have written since.
    others: BTreeMap<String, Other>,
}

/// Another evaluator.
#[derive(Debug)]
struct Other {
    store: String,
    /// When its first line and its newest were read.
    since: Duration,
    last: Duration,
}

/// A line.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    /// Which store: its servers and database.
    store: String,
    /// Grows with each line of this key.
    number: u64,
}

/// An evaluator that has lost its lease writes no line for so long.
const LASTS_FROM: Duration = Duration::from_mins(1);
/// Several of its answers are missing.
const SILENT_AFTER: Duration = Duration::from_mins(1);

impl Rivals {
    /// Of the evaluator with this key on this store.
    pub(crate) fn new(key: &str, store: String) -> Self {
        Self {
            key: key.to_owned(),
            store,
            number: 0,
            first: 0,
            has_begun: false,
            is_line_due: false,
            newest: BTreeMap::new(),
            others: BTreeMap::new(),
        }
    }

    /// It has taken the lease.
    pub(crate) fn begin(&mut self) {
        self.first = self.number + 1;
        (self.has_begun, self.is_line_due) = (false, true);
        self.others.clear();
    }

    /// The line that has to be written now.
    pub(crate) fn line(&self, at_ms: i64) -> Option<JournalEntry> {
        let line = Line {
            store: self.store.clone(),
            number: self.number + 1,
        };
        self.is_line_due.then(|| JournalEntry {
            at_ms,
            space: EVALUATORS.to_owned(),
            key: self.key.clone(),
            body: serde_json::to_string(&line).ok(),
        })
    }

    /// The journal has taken it.
    pub(crate) fn written(&mut self) {
        self.number += 1;
        self.is_line_due = false;
    }

    /// The next entry of the journal, in its order; one may come repeatedly. `now` is since any fixed time.
    pub(crate) fn read(&mut self, entry: &JournalEntry, now: Duration) {
        if entry.space != EVALUATORS {
            return;
        }
        // A later version may write something else.
        let line = entry.body.as_deref().map(serde_json::from_str::<Line>);
        let Some(Ok(line)) = line else { return };
        if entry.key == self.key {
            self.has_begun |= line.number >= self.first;
            return;
        }
        let newest = self.newest.entry(entry.key.clone()).or_default();
        if line.number <= *newest {
            return;
        }
        *newest = line.number;
        if !self.has_begun {
            return;
        }
        self.is_line_due = true;
        let other = self.others.entry(entry.key.clone()).or_insert(Other {
            store: line.store,
            since: now,
            last: now,
        });
        other.last = now;
    }

    /// The journal was read to its end. Returns the stores of those that have worked for a while, and still do.
    pub(crate) fn lasting(&mut self, now: Duration) -> Vec<&str> {
        self.others
            .retain(|_, other| now.saturating_sub(other.last) < SILENT_AFTER);
        let lasting = self.others.values();
        let lasting = lasting.filter(|other| other.last.saturating_sub(other.since) >= LASTS_FROM);
        lasting.map(|other| other.store.as_str()).collect()
    }

    /// Whether there may be any.
    pub(crate) fn may_be(&self) -> bool {
        !self.others.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The journal of a virtual host, and evaluators that take turns every ten seconds.
    #[derive(Default)]
    struct Host {
        journal: Vec<JournalEntry>,
        now: Duration,
    }

    impl Host {
        fn turn(&mut self, rivals: &mut Rivals) -> usize {
            self.write(rivals);
            for entry in &self.journal {
                rivals.read(entry, self.now);
            }
            self.write(rivals);
            rivals.lasting(self.now).len()
        }

        fn write(&mut self, rivals: &mut Rivals) {
            if let Some(line) = rivals.line(0) {
                self.journal.push(line);
                rivals.written();
            }
        }

        /// How many others each sees after so long.
        fn after(&mut self, s: u64, all: &mut [&mut Rivals]) -> Vec<usize> {
            let mut seen = Vec::new();
            for _ in 0..s / 10 {
                self.now += Duration::from_secs(10);
                seen = all.iter_mut().map(|one| self.turn(one)).collect();
            }
            seen
        }
    }

    fn evaluator(key: &str) -> Rivals {
        let mut rivals = Rivals::new(key, format!("Redis of {key}"));
        rivals.begin();
        rivals
    }

    #[test]
    fn two_that_work_at_the_same_time_see_each_other_after_a_minute_until_one_ends() {
        let (mut host, mut a, mut b) = (Host::default(), evaluator("a"), evaluator("b"));
        assert_eq!(host.after(600, &mut [&mut a]), [0]);
        assert_eq!(host.journal.len(), 1, "one alone writes nothing more");
        assert_eq!(host.after(50, &mut [&mut a, &mut b]), [0, 0]);
        assert_eq!(host.after(40, &mut [&mut a, &mut b]), [1, 1]);
        assert_eq!(a.lasting(host.now), ["Redis of b"]);
        assert_eq!(host.after(80, &mut [&mut a]), [0]);
        assert!(!a.may_be());
        let lines = host.journal.len();
        host.after(600, &mut [&mut a]);
        assert_eq!(host.journal.len(), lines, "it is answered no more");
    }

    #[test]
    fn one_that_was_replaced_is_none() {
        let (mut host, mut a, mut b) = (Host::default(), evaluator("a"), evaluator("b"));
        host.after(600, &mut [&mut a]);
        // It does not know yet that it has lost its lease, or that its store is gone.
        host.after(20, &mut [&mut a, &mut b]);
        for _ in 0..60 {
            assert_eq!(host.after(10, &mut [&mut b]), [0]);
        }
        // Then it takes the lease back, and again.
        for _ in 0..3 {
            a.begin();
            assert_eq!(host.after(50, &mut [&mut a]), [0]);
            b.begin();
            assert_eq!(host.after(50, &mut [&mut b]), [0]);
        }
    }

    #[test]
    fn an_entry_of_another_kind_or_of_before_is_no_line() {
        let (mut host, mut a) = (Host::default(), evaluator("a"));
        host.after(10, &mut [&mut evaluator("b")]);
        for body in [None, Some("{}"), Some("no JSON")] {
            let mut entry = a.line(0).expect("due");
            (entry.key, entry.body) = ("c".to_owned(), body.map(str::to_owned));
            host.journal.push(entry);
        }
        host.after(10, &mut [&mut a]);
        assert!(!a.may_be());
    }
}
