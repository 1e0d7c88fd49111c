//! Partitions that stand still, and since when; for `/readyz`, a gauge and the log.
//!
//! A worker notes what it does itself ([`Standing`]), and watches from outside whether waiting deliveries become fewer
//! ([`Movement`]): a partition may stand still because it has no worker, or because one does not notice.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use revwatch_storage::failure_log::FailureLog;
use tokio::time::Instant;

/// What this worker's partitions wait for. Clones share one state.
#[derive(Debug, Clone, Default)]
pub(crate) struct Standing {
    marks: Arc<Mutex<BTreeMap<Subject, Mark>>>,
    /// What the log says of all that fail.
    pub(crate) log: FailureLog,
}

/// What stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    /// What all partitions depend on: recovery, pauses, the conversion.
    Maintenance,
    /// One partition.
    Partition(u32),
}

#[derive(Debug, Clone)]
struct Mark {
    since: Instant,
    why: Why,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Why {
    /// A batch is in progress.
    Batch,
    /// It waits after an error.
    Failure {
        reason: &'static str,
        /// A retry alone cannot help.
        persistent: bool,
    },
}

/// An outage may be over after this time: it alone does not make a process unready.
const OUTAGE: Duration = Duration::from_secs(10);
/// A batch takes far less.
const STANDS: Duration = Duration::from_mins(1);

impl Standing {
    /// A batch begins. An earlier failure stays the reason until one is processed.
    pub(crate) fn begins(&self, subject: Subject, now: Instant) {
        self.with(|marks| {
            marks.entry(subject).or_insert(Mark {
                since: now,
                why: Why::Batch,
            });
        });
    }

    /// It waits after an error.
    pub(crate) fn fails(
        &self,
        subject: Subject,
        reason: &'static str,
        persistent: bool,
        now: Instant,
    ) {
        let why = Why::Failure { reason, persistent };
        self.with(|marks| {
            let since = marks.get(&subject).map_or(now, |mark| mark.since);
            marks.insert(subject, Mark { since, why });
        });
    }

    /// It works, or has nothing to do.
    pub(crate) fn works(&self, subject: Subject) {
        self.with(|marks| marks.remove(&subject));
    }

    /// For how long a partition has been at the same batch or failure.
    pub(crate) fn of_partition(&self, number: u32, now: Instant) -> Duration {
        self.with(|marks| {
            let mark = marks.get(&Subject::Partition(number));
            mark.map_or(Duration::ZERO, |mark| now.duration_since(mark.since))
        })
    }

    /// Why this worker is not ready; `None`: it is.
    pub(crate) fn unready(&self, now: Instant) -> Option<String> {
        self.with(|marks| {
            marks.iter().find_map(|(subject, mark)| {
                let stands = now.duration_since(mark.since);
                let what = match (&mark.why, stands) {
                    (Why::Failure { reason, persistent }, _) if *persistent || stands >= OUTAGE => {
                        format!("{reason}, see the log")
                    }
                    (Why::Batch, _) if stands >= STANDS => {
                        format!("has been at one batch for {} s", stands.as_secs())
                    }
                    _ => return None,
                };
                Some(match subject {
                    Subject::Maintenance => format!("recovery and pauses: {what}"),
                    Subject::Partition(number) => format!("partition {number}: {what}"),
                })
            })
        })
    }

    fn with<T>(&self, f: impl FnOnce(&mut BTreeMap<Subject, Mark>) -> T) -> T {
        f(&mut self.marks.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Whether the deliveries of each partition become fewer, applied by any worker. Pure.
#[derive(Debug, Default)]
pub(crate) struct Movement {
    seen: Vec<Seen>,
}

/// A partition as it was last seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Waiting deliveries.
    pub(crate) depth: u64,
    /// Of what was committed last.
    pub(crate) high_watermark_ms: Option<i64>,
    /// Since when deliveries have waited while none was applied.
    since: Option<Instant>,
}

impl Seen {
    pub(crate) fn new(depth: u64, high_watermark_ms: Option<i64>) -> Self {
        Self {
            depth,
            high_watermark_ms,
            since: None,
        }
    }
}

impl Movement {
    /// Compares with what was seen before. `rests`: an operator has paused everything. More deliveries are no movement:
    /// they arrive at a partition that stands still, too.
    pub(crate) fn see(&mut self, found: Vec<Seen>, rests: bool, now: Instant) {
        let before = std::mem::take(&mut self.seen);
        self.seen = found;
        for (number, seen) in self.seen.iter_mut().enumerate() {
            let stood = before.get(number).filter(|before| {
                seen.depth >= before.depth && seen.high_watermark_ms == before.high_watermark_ms
            });
            seen.since = match stood {
                _ if rests || seen.depth == 0 => None,
                Some(before) => before.since.or(Some(now)),
                None => Some(now),
            };
        }
    }

    /// For how long each partition has stood still.
    pub(crate) fn stands(&self, now: Instant) -> impl Iterator<Item = (u32, Duration)> {
        let stands = |seen: &Seen| {
            seen.since
                .map_or(Duration::ZERO, |at| now.duration_since(at))
        };
        (0..).zip(self.seen.iter().map(stands).collect::<Vec<_>>())
    }

    /// A partition that has stood still for too long, by its number.
    pub(crate) fn first(&self, now: Instant) -> Option<String> {
        let (number, stands) = self.stands(now).find(|(_, stands)| *stands >= STANDS)?;
        Some(format!(
            "partition {number}: deliveries wait, and none was applied for {} s",
            stands.as_secs()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Subject = Subject::Partition(1);

    fn after(start: Instant, s: u64) -> Instant {
        start + Duration::from_secs(s)
    }

    #[test]
    fn an_outage_that_lasts_and_a_fault_make_it_unready() {
        let (standing, start) = (Standing::default(), Instant::now());
        standing.fails(ONE, "the queue is unavailable", false, start);
        assert_eq!(standing.unready(after(start, 9)), None);
        // It fails again and again.
        standing.fails(ONE, "the queue is unavailable", false, after(start, 9));
        assert_eq!(
            standing.unready(after(start, 10)).as_deref(),
            Some("partition 1: the queue is unavailable, see the log")
        );
        // A batch begins, and may fail like the one before.
        standing.begins(ONE, after(start, 11));
        assert!(standing.unready(after(start, 11)).is_some());
        standing.works(ONE);
        assert_eq!(standing.unready(after(start, 11)), None);

        standing.fails(
            Subject::Maintenance,
            "the state is of a later version",
            true,
            start,
        );
        assert_eq!(
            standing.unready(start).as_deref(),
            Some("recovery and pauses: the state is of a later version, see the log")
        );
    }

    #[test]
    fn a_batch_that_does_not_end_makes_it_unready() {
        let (standing, start) = (Standing::default(), Instant::now());
        standing.begins(ONE, start);
        assert_eq!(
            standing.of_partition(1, after(start, 7)),
            Duration::from_secs(7)
        );
        assert_eq!(standing.unready(after(start, 59)), None);
        assert!(standing.unready(after(start, 60)).is_some());
        standing.works(ONE);
        assert_eq!(standing.of_partition(1, after(start, 60)), Duration::ZERO);
    }

    #[test]
    fn a_partition_stands_still_while_deliveries_wait_and_arrive_and_none_is_applied() {
        let (mut movement, start) = (Movement::default(), Instant::now());
        let see = |movement: &mut Movement, depths: [u64; 3], applied_ms, at_s| {
            let seen = depths.map(|depth| Seen::new(depth, Some(applied_ms)));
            movement.see(seen.to_vec(), false, after(start, at_s));
        };
        see(&mut movement, [0, 5, 5], 1, 0);
        see(&mut movement, [0, 7, 4], 1, 50);
        assert_eq!(movement.first(after(start, 59)), None);
        let stands = |movement: &Movement, at_s| -> Vec<u64> {
            let all = movement.stands(after(start, at_s));
            all.map(|(_, stands)| stands.as_secs()).collect()
        };
        assert_eq!(stands(&movement, 60), [0, 60, 10]);
        assert!(
            movement
                .first(after(start, 60))
                .is_some_and(|text| text.starts_with("partition 1:"))
        );
        // Something was applied.
        see(&mut movement, [0, 9, 4], 2, 61);
        assert_eq!(stands(&movement, 61), [0, 0, 0]);
        movement.see(vec![Seen::new(9, Some(2))], true, after(start, 200));
        assert_eq!(
            stands(&movement, 300),
            [0],
            "an operator has paused everything"
        );
    }
}
