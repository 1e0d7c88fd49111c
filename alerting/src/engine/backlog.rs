//! The backlog: have the workers applied the deliveries that had been received? Until then the state is one of the
//! past, and a problem that it shows may have ended in a delivery that still waits.
//!
//! The workers are behind when an engine is opened, when the queue answers again after it did not, and when deliveries
//! are applied again after they had waited. They are behind until each partition has applied what had been received by
//! then, or stands still.

use std::time::Duration;

use super::TickTime;

/// The deliveries of one partition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PartitionBacklog {
    /// How many wait; see [`revwatch_storage::ports::Consume::depth`].
    pub waiting: u64,
    /// Those received up to this Unix millisecond are applied; see
    /// [`revwatch_storage::ports::Health::high_watermark_ms`].
    pub applied_until_ms: Option<i64>,
}

/// The backlog, as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BacklogRead {
    /// One for every partition.
    Partitions(Vec<PartitionBacklog>),
    /// The queue did not answer.
    Unknown,
}

/// What is known of the backlog: nothing before the first read.
#[derive(Default)]
pub(super) struct Backlog {
    /// When it was last read: [`TickTime::elapsed`].
    read_at: Option<Duration>,
    /// Since when the queue has not answered.
    unknown_since: Option<Duration>,
    /// As the queue last answered.
    partitions: Vec<Partition>,
    processed: Option<Processed>,
    behind: Option<Behind>,
}

/// How many deliveries were processed.
struct Processed {
    deliveries: i64,
    /// Since when it has been so many.
    since: Duration,
}

struct Partition {
    backlog: PartitionBacklog,
    /// Since when nothing has been applied.
    still_since: Duration,
}

/// The workers are behind.
struct Behind {
    since: Duration,
    /// What was received by this Unix millisecond must be applied.
    until_ms: i64,
}

/// While the workers are behind, the backlog is read this often.
const INTERVAL: Duration = Duration::from_millis(500);
/// While a partition has stopped and others work, the backlog is read this often.
const STOPPED_INTERVAL: Duration = Duration::from_secs(2);
/// A partition in which nothing waits has applied everything when it has stood still for this long: RabbitMQ does not
/// count the deliveries that a worker has received and not acknowledged yet.
const QUIET: Duration = Duration::from_secs(2);
/// A partition whose deliveries have waited for this long while it stood still has stopped. When it continues, the
/// workers are behind. A queue that has not answered for this long is not waited for.
const STOPPED: Duration = Duration::from_secs(10);
/// A partition that stands still for longer is not waited for: alerts about the others matter more.
const GIVE_UP: Duration = Duration::from_secs(60);
/// Decisions wait no longer than this for workers that are behind.
const LONGEST_WAIT: Duration = Duration::from_mins(5);

impl PartitionBacklog {
    /// Whether deliveries were applied since `earlier`, or the first ones wait.
    fn has_moved(self, earlier: Self) -> bool {
        self.applied_until_ms != earlier.applied_until_ms
            || self.waiting < earlier.waiting
            || (earlier.waiting == 0 && self.waiting > 0)
    }
}

impl Partition {
    /// Whether it continues after it had stopped.
    fn update(&mut self, backlog: PartitionBacklog, elapsed: Duration) -> bool {
        let had_stopped = self.has_stopped(elapsed);
        let has_moved = backlog.has_moved(self.backlog);
        self.backlog = backlog;
        if has_moved {
            self.still_since = elapsed;
        }
        had_stopped && has_moved
    }

    fn has_stopped(&self, elapsed: Duration) -> bool {
        self.backlog.waiting > 0 && self.still_for(elapsed) >= STOPPED
    }

    /// Whether what was received by `until_ms` is applied, or is not waited for.
    fn has_caught_up(&self, until_ms: i64, elapsed: Duration) -> bool {
        let applied_until_ms = self.backlog.applied_until_ms;
        let still_for = self.still_for(elapsed);
        applied_until_ms.is_some_and(|applied_ms| applied_ms >= until_ms)
            || (self.backlog.waiting == 0 && still_for >= QUIET)
            || still_for >= GIVE_UP
    }

    fn still_for(&self, elapsed: Duration) -> Duration {
        elapsed.saturating_sub(self.still_since)
    }
}

impl Backlog {
    /// Whether the backlog must be read, however recent the rest of the pipeline's status is.
    pub fn is_read_due(&self, elapsed: Duration) -> bool {
        let interval = if self.behind.is_some() {
            Some(INTERVAL)
        } else {
            let works = |it: &Processed| elapsed.saturating_sub(it.since) < STOPPED;
            (self.has_any_stopped(elapsed) && self.processed.as_ref().is_some_and(works))
                .then_some(STOPPED_INTERVAL)
        };
        let since = elapsed.saturating_sub(self.read_at.unwrap_or_default());
        interval.is_some_and(|interval| since >= interval)
    }

    /// So many deliveries were processed. This is read in every tick: all that have stopped may continue in this one.
    pub fn note_processed(&mut self, deliveries: i64, time: TickTime) {
        let is_same = |it: &Processed| it.deliveries == deliveries;
        if self.processed.as_ref().is_some_and(is_same) {
            return;
        }
        if self.have_all_stopped(time.elapsed) {
            self.begin(time);
        }
        self.processed = Some(Processed {
            deliveries,
            since: time.elapsed,
        });
    }

    /// The backlog was read.
    pub fn update(&mut self, read: BacklogRead, time: TickTime) {
        let at = time.elapsed;
        let is_first = self.read_at.replace(at).is_none();
        let BacklogRead::Partitions(read) = read else {
            self.on_unknown(is_first, time);
            return;
        };
        self.unknown_since = None;
        let continues = if self.partitions.len() == read.len() {
            let partitions = self.partitions.iter_mut().zip(read);
            partitions.fold(false, |continues, (partition, backlog)| {
                partition.update(backlog, at) || continues
            })
        } else {
            let first_read = |backlog| Partition {
                backlog,
                still_since: at,
            };
            self.partitions = read.into_iter().map(first_read).collect();
            true
        };
        if continues {
            self.begin(time);
        }
        let until_ms = self.behind.as_ref().map(|behind| behind.until_ms);
        if until_ms.is_some_and(|until_ms| self.left(until_ms, at).count() == 0) {
            self.behind = None;
        }
    }

    /// How many deliveries wait, while decisions must wait for them.
    pub fn waiting(&self, elapsed: Duration) -> Option<u64> {
        let behind = self.behind.as_ref()?;
        let waited = elapsed.saturating_sub(behind.since);
        let left = self.left(behind.until_ms, elapsed);
        (waited < LONGEST_WAIT).then(|| left.map(|partition| partition.backlog.waiting).sum())
    }

    /// The workers are behind from now on, unless they are already.
    fn begin(&mut self, time: TickTime) {
        self.behind.get_or_insert(Behind {
            since: time.elapsed,
            until_ms: time.now_s.saturating_mul(1000),
        });
    }

    /// The queue did not answer. It may be slow because of the backlog.
    fn on_unknown(&mut self, is_first: bool, time: TickTime) {
        let since = *self.unknown_since.get_or_insert(time.elapsed);
        if time.elapsed.saturating_sub(since) >= STOPPED {
            self.partitions.clear();
            self.behind = None;
        } else if is_first {
            self.begin(time);
        }
    }

    /// The partitions that have not applied what was received by `until_ms`.
    fn left(&self, until_ms: i64, elapsed: Duration) -> impl Iterator<Item = &Partition> {
        let partitions = self.partitions.iter();
        partitions.filter(move |partition| !partition.has_caught_up(until_ms, elapsed))
    }

    fn has_any_stopped(&self, elapsed: Duration) -> bool {
        let mut partitions = self.partitions.iter();
        partitions.any(|partition| partition.has_stopped(elapsed))
    }

    /// Whether deliveries wait and none was processed for some time.
    fn have_all_stopped(&self, elapsed: Duration) -> bool {
        let idle = |it: &Processed| elapsed.saturating_sub(it.since) >= STOPPED;
        self.has_any_stopped(elapsed) && self.processed.as_ref().is_some_and(idle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN_S: i64 = 1000;

    fn at(seconds: i64) -> TickTime {
        TickTime {
            now_s: BEGIN_S + seconds,
            elapsed: Duration::from_secs(seconds.unsigned_abs()),
        }
    }

    /// Of each partition: deliveries that wait, and the second up to which they are applied.
    fn read(partitions: &[(u64, i64)]) -> BacklogRead {
        let partitions = partitions.iter();
        let backlog = partitions.map(|(waiting, applied_s)| PartitionBacklog {
            waiting: *waiting,
            applied_until_ms: Some((BEGIN_S + applied_s) * 1000),
        });
        BacklogRead::Partitions(backlog.collect())
    }

    /// What waits after each read, which is `(second, partitions)`.
    fn waits(reads: &[(i64, &[(u64, i64)])]) -> Vec<Option<u64>> {
        let mut backlog = Backlog::default();
        let after = |(seconds, partitions): &(i64, &[(u64, i64)])| {
            let time = at(*seconds);
            backlog.update(read(partitions), time);
            backlog.waiting(time.elapsed)
        };
        reads.iter().map(after).collect()
    }

    #[test]
    fn an_opened_engine_waits_for_what_had_been_received() {
        let reads: &[(i64, &[(u64, i64)])] = &[
            (0, &[(400, -60), (2, -1)]),
            (1, &[(150, -30), (3, 0)]),
            (2, &[(40, -1), (9, 1)]),
            (3, &[(40, 0), (9, 1)]),
        ];
        assert_eq!(waits(reads), [Some(402), Some(150), Some(40), None]);
    }

    #[test]
    fn a_partition_in_which_nothing_waits_must_be_quiet() {
        let reads: &[(i64, &[(u64, i64)])] = &[
            (0, &[(0, -60)]),
            (1, &[(0, -50)]),
            (2, &[(0, -50)]),
            (3, &[(0, -50)]),
        ];
        assert_eq!(waits(reads), [Some(0), Some(0), Some(0), None]);
    }

    #[test]
    fn a_partition_that_stands_still_is_given_up_and_waited_for_when_it_continues() {
        let reads: &[(i64, &[(u64, i64)])] = &[
            (0, &[(7, -9)]),
            (59, &[(8, -9)]),
            (60, &[(8, -9)]),
            (70, &[(9, -9)]),
            (71, &[(5, -9)]),
            (72, &[(0, 65)]),
            (73, &[(0, 71)]),
        ];
        let expected = [Some(7), Some(8), None, None, Some(5), Some(0), None];
        assert_eq!(waits(reads), expected);
    }

    #[test]
    fn a_worker_that_is_slow_or_idle_is_not_behind() {
        let reads: &[(i64, &[(u64, i64)])] = &[
            (0, &[(0, -60)]),
            (2, &[(0, -60)]),
            (300, &[(50, -60)]),
            (309, &[(40, -60)]),
            (318, &[(60, 1)]),
        ];
        assert_eq!(waits(reads), [Some(0), None, None, None, None]);
    }

    #[test]
    fn decisions_do_not_wait_for_ever() {
        let reads: &[(i64, &[(u64, i64)])] = &[
            (0, &[(900, -900)]),
            (50, &[(800, -800)]),
            (100, &[(700, -700)]),
            (150, &[(600, -600)]),
            (200, &[(500, -500)]),
            (250, &[(400, -400)]),
            (299, &[(300, -300)]),
            (300, &[(200, -200)]),
            (311, &[(100, -100)]),
        ];
        let waits = waits(reads);
        assert_eq!((waits[6], waits[7], waits[8]), (Some(300), None, None));
    }

    #[test]
    fn a_queue_that_does_not_answer_is_waited_for_some_seconds() {
        let mut backlog = Backlog::default();
        let mut waits = |seconds, found| {
            backlog.update(found, at(seconds));
            backlog.waiting(at(seconds).elapsed)
        };
        let waiting = || read(&[(5, 0)]);
        assert_eq!(waits(0, BacklogRead::Unknown), Some(0));
        assert_eq!(waits(9, BacklogRead::Unknown), Some(0));
        assert_eq!(waits(10, BacklogRead::Unknown), None);
        assert_eq!(waits(20, waiting()), Some(5), "it answers again");
        assert_eq!(waits(21, BacklogRead::Unknown), Some(5), "it is slow");
        assert_eq!(waits(25, waiting()), Some(5));
        assert_eq!(waits(26, BacklogRead::Unknown), Some(5));
        assert_eq!(waits(36, BacklogRead::Unknown), None);
        assert_eq!(waits(37, BacklogRead::Unknown), None);
    }

    #[test]
    fn what_continues_is_noticed_in_the_same_tick() {
        let mut backlog = Backlog::default();
        let mut tick = |seconds, found: Option<BacklogRead>, processed| {
            if let Some(found) = found {
                backlog.update(found, at(seconds));
            }
            backlog.note_processed(processed, at(seconds));
            backlog.waiting(at(seconds).elapsed)
        };
        assert_eq!(tick(0, Some(read(&[(0, -60)])), 7), Some(0));
        assert_eq!(tick(2, Some(read(&[(0, -60)])), 7), None);
        assert_eq!(tick(10, Some(read(&[(3, -60)])), 7), None);
        assert_eq!(tick(20, Some(read(&[(9, -60)])), 7), None);
        assert_eq!(tick(24, None, 8), Some(9), "the workers are back");
        assert_eq!(tick(25, Some(read(&[(0, 24)])), 16), None);
    }

    #[test]
    fn the_backlog_is_read_often_only_while_that_matters() {
        let mut backlog = Backlog::default();
        assert!(!backlog.is_read_due(at(0).elapsed));
        backlog.note_processed(7, at(0));
        backlog.update(read(&[(0, -60), (0, -60)]), at(0));
        assert!(backlog.is_read_due(at(1).elapsed), "behind");
        backlog.update(read(&[(0, -60), (0, -60)]), at(2));
        assert!(!backlog.is_read_due(at(3).elapsed));
        backlog.update(read(&[(1, -60), (0, -60)]), at(10));
        assert!(!backlog.is_read_due(at(20).elapsed), "nothing works");
        backlog.note_processed(8, at(19));
        assert!(!backlog.is_read_due(at(19).elapsed), "it has not stopped");
        assert!(
            backlog.is_read_due(at(20).elapsed),
            "it has, and others work"
        );
    }
}
