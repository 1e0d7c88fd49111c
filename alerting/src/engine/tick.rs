//! One tick: what must be read for it, and what follows from what was read.
//!
//! A tick takes several rounds of [`Engine::required_reads`] and [`Engine::tick`], because what must be read depends on
//! what was read before:
//!
//! 1. how many deliveries were processed and, from time to time, the status of the pipeline and its backlog;
//! 2. the counters, if there is a [`CounterReadReason`], and the unread condition changes,
//!    page by page;
//! 3. all open conditions, if there is a [`ScanReason`]: they are evaluated some thousands at a time, and each part is
//!    written before the next;
//! 4. the conditions that fell due, and the commands.
//!
//! Invariant: nothing is decided before all changes are read. What a page shows as open, a later one may close. While the
//! workers are behind (`backlog.rs`), a delivery that still waits may close it: then only rules about the pipeline are
//! evaluated, and changes, conditions and what falls due are read afterwards.

use std::borrow::Cow;
use std::time::Duration;

use revwatch_core::bucket::Buckets;
use revwatch_core::condition::Condition;
use revwatch_core::counters::Counters;
use revwatch_core::redact;
use revwatch_storage::ports::{
    ChangeCursor, Changes as ChangePage, ConditionChange, DocumentWrite, DueWindow,
};

use super::backlog::BacklogRead;
#[cfg(doc)]
use super::backlog::PartitionBacklog;
use super::counter_reads::{CounterReadReason, CounterReads, LastCounterRead};
use super::pipeline::PipelineRead;
use super::{Engine, TransitionEvent};
use crate::alert::Command;
use crate::metric_value::MetricInputs;

/// The counters that grow with every delivery that a worker has processed.
pub const DELIVERIES: [&str; 5] = [
    "events|applied",
    "events|duplicate",
    "events|ignored",
    "events|other_mode",
    "events|dead",
];

/// The time, as the shell reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TickTime {
    /// Unix seconds.
    pub now_s: i64,
    /// Since a moment before the engine was opened. It is monotonic, whatever happens to the clock.
    pub elapsed: Duration,
}

/// How often the engine reads what it could read in every tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadIntervals {
    /// The status of the pipeline: the queue is another server.
    pub pipeline: Duration,
    /// The counters, while no delivery is processed.
    pub counters: Duration,
}

/// What must be read for the next round of a tick. Nothing, while a scan goes on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadSet {
    /// The status of the pipeline.
    pub pipeline: bool,
    /// The backlog of every partition.
    pub backlog: bool,
    /// What each partition has applied. It must be read after everything else in this set.
    pub applied: bool,
    /// The sum of the current counters [`DELIVERIES`].
    pub deliveries: bool,
    /// Counters, and why.
    pub counters: Option<HistoryRead>,
    /// One page of condition changes.
    pub changes: Option<ChangeRead>,
    /// All open conditions, and why.
    pub conditions: Option<ScanReason>,
    /// Open conditions that fell due in these windows.
    pub due: Vec<DueWindow>,
    /// The commands of operators.
    pub commands: bool,
    /// When the first delivery was received, if what is read with it shows that there was one.
    pub first_delivery: bool,
}

/// The current counters, and those of some hours and minutes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryRead {
    /// The hours and minutes.
    pub buckets: Buckets,
    /// Why now.
    pub reason: CounterReadReason,
}

/// One page of condition changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeRead {
    /// After this.
    pub cursor: ChangeCursor,
    /// At most so many.
    pub limit: usize,
}

/// What was read: everything that [`ReadSet`] requests.
#[derive(Debug, Default)]
pub struct ReadResult<'a> {
    /// See [`ReadSet::pipeline`].
    pub pipeline: Option<PipelineRead>,
    /// See [`ReadSet::backlog`].
    pub backlog: Option<BacklogRead>,
    /// See [`ReadSet::applied`]: for each partition as in [`PartitionBacklog::applied_until_ms`].
    pub applied: Option<Vec<Option<i64>>>,
    /// See [`ReadSet::deliveries`].
    pub deliveries: Option<i64>,
    /// See [`ReadSet::counters`].
    pub counters: Option<CounterRead<'a>>,
    /// See [`ReadSet::changes`].
    pub changes: Option<ChangePage>,
    /// See [`ReadSet::conditions`].
    pub conditions: Option<Vec<Condition>>,
    /// See [`ReadSet::due`].
    pub due: Vec<Condition>,
    /// See [`ReadSet::commands`]: keys and bodies.
    pub commands: Vec<(String, String)>,
    /// See [`ReadSet::first_delivery`]: Unix milliseconds; the inner `None`: the oldest deliveries are gone.
    pub first_delivery: Option<Option<i64>>,
}

/// Counters as they were read.
#[derive(Debug)]
pub struct CounterRead<'a> {
    /// The counters.
    pub counters: Cow<'a, Counters>,
    /// How long reading them took.
    pub took: Duration,
}

/// Why all open conditions are evaluated, not only those that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScanReason {
    /// Rules were added, changed or removed; or this is the first tick of all, or an earlier scan did not end.
    RulesChanged,
    /// These rules skipped conditions while events were late for them, and events are late no longer.
    NoLongerLate(Vec<String>),
    /// The store no longer has all changes since the last tick.
    ChangesLost,
    /// So many changes are unread that to evaluate all open conditions costs less.
    TooManyChanges,
}

/// What follows from a round of a tick.
#[must_use]
#[derive(Debug, Default)]
pub struct TickOutput {
    /// What was decided.
    pub decisions: Decisions,
    /// Commands that were carried out, by key.
    pub commands: Vec<(String, Command)>,
    /// Commands that were discarded.
    pub unreadable: Vec<UnreadableCommand>,
    /// Why the tick needs another round; `None`: it has ended.
    pub unfinished: Option<Unfinished>,
    /// After writing, old alerts are to be removed from the history.
    pub cut_history: bool,
}

/// What was decided: to be written before any message is sent.
#[must_use]
#[derive(Debug, Default)]
pub struct Decisions {
    /// Documents, in the order in which they must be written.
    pub writes: Vec<DocumentWrite>,
    /// For the log and the metrics.
    pub transitions: Vec<TransitionEvent>,
}

/// A command that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadableCommand {
    /// Its key.
    pub key: String,
    /// Line and column; not what stands there.
    pub place: String,
}

/// Why a tick needs another round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unfinished {
    /// Changes of conditions are unread, or may be.
    ChangesUnread,
    /// The changes are read, and what the workers have applied is not.
    AppliedUnread,
    /// All open conditions must be read.
    ScanDue,
    /// So many conditions are read and not evaluated yet.
    ScanUnderWay(usize),
    /// What fell due is unread, and so are the commands.
    CommandsUnread,
}

/// How far the tick is.
#[derive(Default)]
pub(super) struct Progress {
    step: Step,
    /// The tick's time. Everything in it is evaluated as of this Unix second, however long it takes.
    now_s: i64,
    /// The workers are behind: only rules about the pipeline are evaluated.
    is_catching_up: bool,
    /// Of the condition changes, where the tick began.
    began_at: ChangeCursor,
}

#[derive(Default)]
enum Step {
    /// A tick has not begun.
    #[default]
    Begin,
    Follow(Follow),
    /// A scan is due.
    Scan(ScanReason),
    /// These conditions are read and not evaluated yet.
    Scanning(std::vec::IntoIter<Condition>),
    Finish,
}

/// Condition changes are read to the end.
#[derive(Default)]
struct Follow {
    /// The counters must be read first.
    counters: Option<PlannedCounterRead>,
    unread: Vec<ConditionChange>,
    scan: Option<ScanReason>,
    /// All are read. Before anything is decided, what the workers have applied must be read.
    are_all_read: bool,
}

struct PlannedCounterRead {
    read: HistoryRead,
    at: Duration,
    deliveries: i64,
}

/// Condition changes read at once.
const PAGE: usize = 1000;
/// More changes than these are not kept in memory: to evaluate all open conditions costs less.
pub(super) const MAX_UNREAD: usize = 50_000;
/// Conditions of a scan that are evaluated before what follows from them is written.
pub(super) const SCAN_PART: usize = 5000;
/// The history is cut this often.
const HISTORY_PERIOD_S: i64 = 86_400;

impl Default for ReadIntervals {
    fn default() -> Self {
        Self {
            pipeline: Duration::from_secs(10),
            counters: Duration::from_secs(30),
        }
    }
}

impl ReadIntervals {
    /// Everything is read in every tick.
    pub const NONE: Self = Self {
        pipeline: Duration::ZERO,
        counters: Duration::ZERO,
    };
}

impl TickOutput {
    fn unfinished(why: Unfinished) -> Self {
        Self {
            unfinished: Some(why),
            ..Self::default()
        }
    }
}

impl Engine {
    /// What must be read for the next round of a tick.
    pub fn required_reads(&self, time: TickTime) -> ReadSet {
        ReadSet {
            first_delivery: self.began_s.is_none(),
            ..self.reads_of_step(time)
        }
    }

    fn reads_of_step(&self, time: TickTime) -> ReadSet {
        match &self.progress.step {
            Step::Begin => {
                let interval = self.intervals.pipeline;
                let pipeline = self.pipeline.is_read_due(interval, time.elapsed);
                ReadSet {
                    pipeline,
                    backlog: pipeline || self.backlog.is_read_due(time.elapsed),
                    deliveries: true,
                    ..ReadSet::default()
                }
            }
            Step::Follow(Follow {
                counters,
                are_all_read,
                ..
            }) => ReadSet {
                counters: counters.as_ref().map(|planned| planned.read.clone()),
                changes: (!self.is_catching_up() && !are_all_read).then(|| ChangeRead {
                    cursor: self.position.cursor.clone(),
                    limit: PAGE,
                }),
                applied: self.must_check_applied() && (counters.is_some() || *are_all_read),
                ..ReadSet::default()
            },
            Step::Scan(reason) => ReadSet {
                conditions: Some(reason.clone()),
                applied: self.must_check_applied(),
                ..ReadSet::default()
            },
            Step::Scanning(_) => ReadSet::default(),
            // Most ticks are within the second of the last one: nothing falls due in them.
            Step::Finish => ReadSet {
                due: match self.is_catching_up() {
                    true => Vec::new(),
                    false => self.due_windows(self.progress.now_s),
                },
                commands: true,
                ..ReadSet::default()
            },
        }
    }

    /// How many deliveries wait, while the workers are behind and decisions must wait for them.
    pub fn waiting_for(&self, time: TickTime) -> Option<u64> {
        self.backlog.waiting(time.elapsed)
    }

    /// In this tick; see [`Engine::waiting_for`].
    pub(super) fn is_catching_up(&self) -> bool {
        self.progress.is_catching_up
    }

    /// The next round of a tick, with everything that [`Engine::required_reads`] requested. The decisions must be
    /// written before the next round. Changes and conditions that are missing are requested again: they do not count
    /// as none.
    pub fn tick(&mut self, read: ReadResult<'_>, time: TickTime) -> TickOutput {
        if let Some(first_received_ms) = read.first_delivery {
            self.begin(first_received_ms);
        }
        match std::mem::take(&mut self.progress.step) {
            Step::Begin => self.begin_tick(read, time),
            Step::Follow(follow) => self.follow(follow, read, time),
            Step::Scan(reason) => self.begin_scan_of(reason, read, time),
            Step::Scanning(open) => self.scan_part(open, time),
            Step::Finish => self.finish_tick(&read, time),
        }
    }

    /// What follows from attempts and their results; see [`Engine::begin_attempt`]. A tick returns its own decisions.
    pub fn take_writes(&mut self, now_s: i64) -> Decisions {
        Decisions {
            writes: self.settle(now_s),
            transitions: self.changes.take_transitions(),
        }
    }

    fn begin_tick(&mut self, read: ReadResult<'_>, time: TickTime) -> TickOutput {
        if let Some(pipeline) = read.pipeline {
            self.pipeline.update(pipeline, time.elapsed);
        }
        if let Some(backlog) = read.backlog {
            self.backlog.update(backlog, time);
            let not_waited_for = self.backlog.not_waited_for();
            self.position.not_waited_for.clone_from(not_waited_for);
        }
        let was_catching_up = self.is_catching_up();
        let is_catching_up = self.waiting_for(time).is_some();
        if was_catching_up && !is_catching_up {
            // Most rules have not been evaluated on the counters that were read meanwhile.
            self.counter_reads = CounterReads::default();
        }
        let is_ripe = !is_catching_up && self.watches.is_ripe(time.now_s);
        let interval = self.intervals.counters;
        let buckets = self.buckets_needed(time.now_s);
        let counters = read.deliveries.and_then(|deliveries| {
            let reads = &self.counter_reads;
            let reason = reads.reason(deliveries, is_ripe, interval, time)?;
            Some(PlannedCounterRead {
                read: HistoryRead { buckets, reason },
                at: time.elapsed,
                deliveries,
            })
        });
        self.progress = Progress {
            now_s: time.now_s,
            is_catching_up,
            began_at: self.position.cursor.clone(),
            step: Step::Follow(Follow {
                counters,
                ..Follow::default()
            }),
        };
        TickOutput::unfinished(Unfinished::ChangesUnread)
    }

    /// Evaluates the counters, and takes a page of changes.
    fn follow(&mut self, mut follow: Follow, read: ReadResult<'_>, time: TickTime) -> TickOutput {
        let now_s = self.progress.now_s;
        self.check_applied(read.applied.as_deref(), time);
        if let (Some(planned), Some(read)) = (follow.counters.take(), read.counters) {
            self.evaluate_counters(&planned, &read, time);
        }
        if self.is_catching_up() {
            self.progress.step = Step::Finish;
            return TickOutput::unfinished(Unfinished::CommandsUnread);
        }
        if follow.are_all_read {
            return self.decide(follow, now_s);
        }
        let Some(page) = read.changes else {
            self.progress.step = Step::Follow(follow);
            return TickOutput::unfinished(Unfinished::ChangesUnread);
        };
        self.position.cursor = page.cursor;
        follow.unread.extend(page.changes);
        let overflow = [
            (page.gap, ScanReason::ChangesLost),
            (follow.unread.len() > MAX_UNREAD, ScanReason::TooManyChanges),
        ];
        let overflow = overflow.into_iter().find(|(holds, _)| *holds);
        follow.scan = follow
            .scan
            .or_else(|| self.scan_reason(now_s))
            .or(overflow.map(|(_, reason)| reason));
        // Changes need not be followed when all open conditions are evaluated.
        if follow.scan.is_some() {
            follow.unread.clear();
        }
        if page.more || page.gap {
            self.progress.step = Step::Follow(follow);
            return TickOutput::unfinished(Unfinished::ChangesUnread);
        }
        if self.must_check_applied() && read.applied.is_none() && !follow.unread.is_empty() {
            follow.are_all_read = true;
            self.progress.step = Step::Follow(follow);
            return TickOutput::unfinished(Unfinished::AppliedUnread);
        }
        self.decide(follow, now_s)
    }

    /// All changes are read: what they lead to, or the scan that replaces them.
    fn decide(&mut self, follow: Follow, now_s: i64) -> TickOutput {
        if let Some(reason) = follow.scan {
            self.progress.step = Step::Scan(reason);
            return TickOutput::unfinished(Unfinished::ScanDue);
        }
        self.on_changes(&follow.unread, now_s);
        self.progress.step = Step::Finish;
        TickOutput::unfinished(Unfinished::CommandsUnread)
    }

    /// Whether what was applied late must be noticed before anything is decided. It need not where no worker is.
    fn must_check_applied(&self) -> bool {
        self.backlog.is_known() && !self.is_catching_up()
    }

    /// Decides nothing in this tick if what was read in it was applied late: the changes are read again afterwards.
    fn check_applied(&mut self, applied_until_ms: Option<&[Option<i64>]>, time: TickTime) {
        let Some(applied_until_ms) = applied_until_ms else {
            return;
        };
        self.backlog.note_applied(applied_until_ms, time);
        if self.waiting_for(time).is_some() {
            self.progress.is_catching_up = true;
            self.position.cursor.clone_from(&self.progress.began_at);
        }
    }

    fn evaluate_counters(
        &mut self,
        planned: &PlannedCounterRead,
        read: &CounterRead<'_>,
        time: TickTime,
    ) {
        let broken = self.outbox.broken_notifiers();
        let pipeline = self
            .pipeline
            .status(planned.deliveries, broken, time.elapsed);
        let now_s = self.progress.now_s;
        // If there was no delivery when the tick began, the first one may be in these counters.
        let is_first = planned.deliveries == 0;
        self.on_counters(MetricInputs {
            begun_s: self.begun_s().or(is_first.then_some(now_s)),
            counters: &read.counters,
            pipeline: &pipeline,
            now_s,
        });
        self.counter_reads.note(LastCounterRead {
            at: planned.at,
            took: read.took,
            hour: *planned.read.buckets.hours.end(),
            deliveries: planned.deliveries,
        });
    }

    fn begin_scan_of(
        &mut self,
        reason: ScanReason,
        read: ReadResult<'_>,
        time: TickTime,
    ) -> TickOutput {
        let Some(open) = read.conditions else {
            self.progress.step = Step::Scan(reason);
            return TickOutput::unfinished(Unfinished::ScanDue);
        };
        self.check_applied(read.applied.as_deref(), time);
        if self.is_catching_up() {
            self.progress.step = Step::Finish;
            return TickOutput::unfinished(Unfinished::CommandsUnread);
        }
        self.begin_scan(&open, self.progress.now_s);
        self.scan_part(open.into_iter(), time)
    }

    /// Evaluates the next conditions of a scan, and decides what follows from them.
    fn scan_part(&mut self, mut open: std::vec::IntoIter<Condition>, time: TickTime) -> TickOutput {
        let now_s = self.progress.now_s;
        let mut decisions = Decisions::default();
        if open.len() > 0 {
            for condition in open.by_ref().take(SCAN_PART) {
                self.on_open(&condition, now_s);
            }
            decisions = self.take_writes(time.now_s);
        }
        let unfinished = match open.len() {
            0 => {
                self.end_scan();
                self.position.until_s = now_s;
                self.progress.step = Step::Finish;
                Unfinished::CommandsUnread
            }
            remaining => {
                self.progress.step = Step::Scanning(open);
                Unfinished::ScanUnderWay(remaining)
            }
        };
        TickOutput {
            decisions,
            ..TickOutput::unfinished(unfinished)
        }
    }

    /// What fell due, commands, and what time alone changes; then the tick ends.
    fn finish_tick(&mut self, read: &ReadResult<'_>, time: TickTime) -> TickOutput {
        let now_s = self.progress.now_s;
        for condition in &read.due {
            self.on_open(condition, now_s);
        }
        if !self.is_catching_up() {
            self.position.until_s = now_s;
        }
        let mut output = TickOutput::default();
        for (key, body) in &read.commands {
            match self.on_command(key, body, now_s) {
                Ok(command) => output.commands.push((key.clone(), command)),
                // Not what serde says of it: that quotes what it found.
                Err(error) => output.unreadable.push(UnreadableCommand {
                    key: key.clone(),
                    place: redact::place(&error),
                }),
            }
        }
        self.on_time(now_s);
        output.decisions = self.take_writes(time.now_s);
        // Also when the last time is in the future: the clock was ahead.
        if !(0..=HISTORY_PERIOD_S).contains(&(now_s - self.position.history_cut_s)) {
            // Written with the next tick: an evaluator that dies first cuts again.
            self.position.history_cut_s = now_s;
            output.cut_history = true;
        }
        output
    }
}
