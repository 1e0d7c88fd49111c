//! The backlog: have the workers applied the deliveries that had been received? Until then the state is one of the
//! past, and a problem that it shows may have ended in a delivery that still waits.
//!
//! The workers are behind when an engine is opened, and when they apply deliveries that had waited for some seconds. They
//! are behind until each partition has applied what had been received by then, or stands still.

use std::collections::BTreeMap;
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
    behind: Option<Behind>,
    not_waited_for: BTreeMap<u32, Option<i64>>,
}

struct Partition {
    backlog: PartitionBacklog,
    /// When it was read how many wait.
    read_at: Duration,
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
/// A partition in which nothing waits has applied everything when it has stood still for this long: RabbitMQ does not
/// count the deliveries that a worker has received and not acknowledged yet.
const QUIET: Duration = Duration::from_secs(2);
/// Workers that apply deliveries which had waited for longer are behind.
const LATE_MS: i64 = 5000;
/// A queue that has not answered for this long is not waited for.
const UNANSWERED: Duration = Duration::from_secs(10);
/// A partition that stands still for longer is not waited for: alerts about the others matter more.
const GIVE_UP: Duration = Duration::from_secs(60);
/// Decisions wait no longer than this for workers that are behind.
const LONGEST_WAIT: Duration = Duration::from_mins(5);

impl Partition {
    /// Deliveries received up to `applied_until_ms` are applied. Returns whether that is new, and late.
    fn advance(&mut self, applied_until_ms: Option<i64>, time: TickTime) -> bool {
        if applied_until_ms == self.backlog.applied_until_ms {
            return false;
        }
        self.backlog.applied_until_ms = applied_until_ms;
        self.still_since = time.elapsed;
        applied_until_ms.is_some_and(|ms| now_ms(time).saturating_sub(ms) > LATE_MS)
    }

    /// Whether what was received by `until_ms` is applied, or is not waited for.
    fn has_caught_up(&self, until_ms: i64, elapsed: Duration) -> bool {
        let applied_until_ms = self.backlog.applied_until_ms;
        let quiet_for = self.read_at.saturating_sub(self.still_since);
        applied_until_ms.is_some_and(|applied_ms| applied_ms >= until_ms)
            || (self.backlog.waiting == 0 && quiet_for >= QUIET)
            || self.still_for(elapsed) >= GIVE_UP
    }

    fn still_for(&self, elapsed: Duration) -> Duration {
        elapsed.saturating_sub(self.still_since)
    }
}

impl Backlog {
    /// As another evaluator left it: see [`super::EvaluatorPosition::not_waited_for`].
    pub fn new(not_waited_for: BTreeMap<u32, Option<i64>>) -> Self {
        Self {
            not_waited_for,
            ..Self::default()
        }
    }

    /// See [`super::EvaluatorPosition::not_waited_for`].
    pub fn not_waited_for(&self) -> &BTreeMap<u32, Option<i64>> {
        &self.not_waited_for
    }

    /// Whether the backlog must be read, however recent the rest of the pipeline's status is.
    pub fn is_read_due(&self, elapsed: Duration) -> bool {
        let since = elapsed.saturating_sub(self.read_at.unwrap_or_default());
        self.behind.is_some() && since >= INTERVAL
    }

    /// Whether the partitions are known.
    pub fn is_known(&self) -> bool {
        !self.partitions.is_empty()
    }

    /// The backlog was read.
    pub fn update(&mut self, read: BacklogRead, time: TickTime) {
        if self.read_at.replace(time.elapsed).is_none() {
            self.begin(time);
        }
        let BacklogRead::Partitions(read) = read else {
            self.on_unknown(time.elapsed);
            return;
        };
        self.unknown_since = None;
        if self.partitions.len() == read.len() {
            let applied: Vec<_> = read.iter().map(|found| found.applied_until_ms).collect();
            self.note_applied(&applied, time);
            for (partition, found) in self.partitions.iter_mut().zip(read) {
                (partition.backlog, partition.read_at) = (found, time.elapsed);
            }
        } else {
            let first_read = |backlog| Partition {
                backlog,
                read_at: time.elapsed,
                still_since: time.elapsed,
            };
            self.partitions = read.into_iter().map(first_read).collect();
            self.begin(time);
        }
        self.give_up(time.elapsed);
        let until_ms = self.behind.as_ref().map(|behind| behind.until_ms);
        if until_ms.is_some_and(|until_ms| self.left(until_ms, time.elapsed).count() == 0) {
            self.behind = None;
        }
    }

    /// Of each partition: what is applied, see [`PartitionBacklog::applied_until_ms`]. It must be read after what is to
    /// be evaluated: then nothing is evaluated that was applied late.
    pub fn note_applied(&mut self, applied_until_ms: &[Option<i64>], time: TickTime) {
        if self.partitions.len() != applied_until_ms.len() {
            return;
        }
        let partitions = self.partitions.iter_mut().zip(applied_until_ms);
        let are_late = partitions.fold(false, |are_late, (partition, applied_until_ms)| {
            partition.advance(*applied_until_ms, time) || are_late
        });
        if are_late {
            self.begin(time);
        }
    }

    /// How many deliveries wait, while decisions must wait for them.
    pub fn waiting(&self, elapsed: Duration) -> Option<u64> {
        let behind = self.behind.as_ref()?;
        let waited = elapsed.saturating_sub(behind.since);
        let left = self.left(behind.until_ms, elapsed);
        (waited < LONGEST_WAIT).then(|| left.map(|partition| partition.backlog.waiting).sum())
    }

    /// The workers are behind: what has been received by now must be applied.
    fn begin(&mut self, time: TickTime) {
        let until_ms = now_ms(time);
        let since = self.behind.as_ref().map_or(time.elapsed, |it| it.since);
        self.behind = Some(Behind { since, until_ms });
    }

    /// Notes the partitions that stand still although deliveries wait in them, until they continue.
    fn give_up(&mut self, elapsed: Duration) {
        for (number, partition) in (0..).zip(&self.partitions) {
            let PartitionBacklog {
                waiting,
                applied_until_ms,
            } = partition.backlog;
            if self.not_waited_for.get(&number) == Some(&applied_until_ms) {
                continue;
            }
            self.not_waited_for.remove(&number);
            let stands = waiting > 0 && partition.still_for(elapsed) >= GIVE_UP;
            if self.behind.is_some() && stands {
                self.not_waited_for.insert(number, applied_until_ms);
            }
        }
    }

    /// The queue did not answer. It may be slow because of the backlog.
    fn on_unknown(&mut self, elapsed: Duration) {
        let since = *self.unknown_since.get_or_insert(elapsed);
        if elapsed.saturating_sub(since) >= UNANSWERED {
            self.partitions.clear();
            self.behind = None;
        }
    }

    /// The partitions that have not applied what was received by `until_ms`.
    fn left(&self, until_ms: i64, elapsed: Duration) -> impl Iterator<Item = &Partition> {
        let partitions = (0_u32..).zip(&self.partitions);
        let left = partitions.filter(move |(number, partition)| {
            let applied_until_ms = &partition.backlog.applied_until_ms;
            !partition.has_caught_up(until_ms, elapsed)
                && self.not_waited_for.get(number) != Some(applied_until_ms)
        });
        left.map(|(_, partition)| partition)
    }
}

fn now_ms(time: TickTime) -> i64 {
    time.now_s.saturating_mul(1000)
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
            (3, &[(40, 1), (9, 1)]),
        ];
        assert_eq!(waits(reads), [Some(402), Some(153), Some(40), None]);
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
            (59, &[(3, -9)]),
            (60, &[(8, -9)]),
            (70, &[(0, -9)]),
            (71, &[(5, -8)]),
            (72, &[(0, 68)]),
            (73, &[(0, 71)]),
        ];
        let expected = [Some(7), Some(3), None, None, Some(5), Some(0), None];
        assert_eq!(waits(reads), expected);
    }

    #[test]
    fn another_evaluator_does_not_wait_again_for_a_partition_that_still_stands() {
        let mut backlog = Backlog::default();
        backlog.update(read(&[(7, -9), (0, 1)]), at(0));
        backlog.update(read(&[(7, -9), (0, 1)]), at(59));
        assert!(backlog.not_waited_for().is_empty());
        backlog.update(read(&[(7, -9), (0, 1)]), at(60));
        let stands = BTreeMap::from([(0, Some((BEGIN_S - 9) * 1000))]);
        assert_eq!(backlog.not_waited_for(), &stands);
        let mut waits = |seconds, partitions: &[(u64, i64)]| {
            let mut next = Backlog::new(backlog.not_waited_for().clone());
            next.update(read(partitions), at(seconds));
            let waits = next.waiting(at(seconds).elapsed).is_some();
            next.update(read(partitions), at(seconds + 2));
            backlog = next;
            (waits, backlog.waiting(at(seconds + 2).elapsed).is_some())
        };
        assert_eq!(waits(70, &[(7, -9), (0, 71)]), (false, false));
        assert_eq!(
            waits(80, &[(7, -9), (3, 60)]),
            (true, true),
            "the other one"
        );
        assert_eq!(waits(90, &[(5, -8), (0, 91)]), (true, true), "it continues");
        assert!(backlog.not_waited_for().is_empty());
    }

    #[test]
    fn workers_are_behind_when_they_apply_what_has_waited() {
        let reads: &[(i64, &[(u64, i64)])] = &[
            (0, &[(0, -60)]),
            (2, &[(0, -60)]),
            (300, &[(50, -60)]),
            (309, &[(90, 304)]),
            (318, &[(60, 312)]),
            (319, &[(10, 317)]),
            (320, &[(10, 318)]),
        ];
        let expected = [Some(0), None, None, None, Some(60), Some(10), None];
        assert_eq!(waits(reads), expected);
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
    fn what_is_late_is_noticed_before_it_is_evaluated() {
        let mut backlog = Backlog::default();
        backlog.update(read(&[(0, -60)]), at(0));
        backlog.update(read(&[(0, -60)]), at(2));
        let mut waits = |seconds: i64, applied_s: i64| {
            backlog.note_applied(&[Some((BEGIN_S + applied_s) * 1000)], at(seconds));
            backlog.waiting(at(seconds).elapsed).is_some()
        };
        assert!(!waits(90, -60), "idle");
        assert!(!waits(91, 90));
        assert!(waits(120, 100), "the workers are back");
    }

    #[test]
    fn the_backlog_is_read_often_only_while_the_workers_are_behind() {
        let mut backlog = Backlog::default();
        assert!(!backlog.is_read_due(at(0).elapsed));
        backlog.update(read(&[(0, -60), (0, -60)]), at(0));
        assert!(backlog.is_read_due(at(1).elapsed));
        backlog.update(read(&[(0, -60), (0, -60)]), at(2));
        assert!(!backlog.is_read_due(at(3).elapsed));
    }
}
