//! Alerting as an engine without I/O: what the evaluator remembers, and every decision. The shell in
//! `alerting/src/evaluator/` reads the store, calls the engine, and writes and delivers what it decides.
//!
//! The order of the calls: [`Engine::open`] with the stored documents. A tick is [`Engine::required_reads`],
//! [`Engine::tick`] with what was read, and writing what it returns, repeated until nothing is left
//! ([`TickOutput::unfinished`](field@TickOutput::unfinished)). Messages are delivered between ticks:
//! [`Engine::due_lanes`], [`Engine::begin_attempt`], [`Engine::take_writes`] and write, attempt,
//! [`Engine::on_attempt_result`], [`Engine::take_writes`] and write. Nothing else changes what the engine knows.
//!
//! The engine is made of parts, each with its own fields and tests: `RuleSet`, `AlertTable`, `Watches`, `Groups`,
//! `Mutes`, `SlaClocks`, `Outbox`, `Freshness`, `CounterReads`, `Pipeline`, `Backlog` and `Changes`. A part knows no
//! other; what concerns several of them is in the methods of [`Engine`]: `tick.rs` (what is read and when),
//! `inputs.rs` (what rules evaluate), `firing.rs` (alerts fire and resolve), `returning.rs` (one that has just resolved returns), `muting.rs`, `grouping.rs`,
//! `pre_existing.rs` (what was wrong already), `attempts.rs` (messages and notices) and `commands.rs`. These only note what happened; `settle` decides for all of
//! it at once.
//!
//! Invariant: every change comes with the documents that make it durable. The shell writes them before anything is
//! delivered, and drops the engine when it cannot.

mod alert_table;
mod attempts;
mod backlog;
mod changes;
mod commands;
mod counter_reads;
mod firing;
mod freshness;
mod grouping;
mod groups;
mod inputs;
mod message_updates;
mod mutes;
mod muting;
mod other_ways;
mod outbox;
mod pipeline;
mod position;
mod pre_existing;
mod returning;
mod rule_set;
mod sla_clocks;
mod tick;
mod watches;

use std::collections::BTreeSet;

use revwatch_core::redact;
use revwatch_storage::ports::DocumentWrite;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use self::alert_table::AlertTable;
use self::attempts::GIVE_UP_S;
pub use self::attempts::{Attempt, AttemptResult, Origin};
use self::backlog::Backlog;
pub use self::backlog::{BacklogRead, PartitionBacklog};
use self::changes::Changes;
pub use self::counter_reads::CounterReadReason;
use self::counter_reads::CounterReads;
use self::freshness::Freshness;
use self::groups::{Groups, place};
use self::mutes::Mutes;
use self::outbox::Outbox;
use self::pipeline::Pipeline;
pub use self::pipeline::PipelineRead;
pub use self::position::{EvaluatorPosition, are_alerts_restored};
use self::pre_existing::Beginning;
use self::rule_set::RuleSet;
use self::sla_clocks::SlaClocks;
use self::tick::Progress;
pub use self::tick::{
    ChangeRead, CounterRead, DELIVERIES, Decisions, HistoryRead, ReadIntervals, ReadResult,
    ReadSet, ScanReason, TickOutput, TickTime, Unfinished, UnreadableCommand,
};
use self::watches::{StoredWatch, Watch, Watches};
pub use crate::alert::{ALERTS, HISTORY, SILENCES};
use crate::alert::{Alert, Subject};
use crate::policy::Policy;
use crate::rule::{Rule, RuleKind, Severity};
use crate::stage::Stage;

/// Rules that hold, but not yet for long enough, and those whose alert a person resolved.
pub const PENDING: &str = "pending";
/// When revwatch began.
pub const BEGAN: &str = "began";
/// How far the evaluator has read.
pub const POSITION: &str = "evaluator";

/// A rule and a subject that it watches.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WatchKey {
    /// The rule's name.
    pub rule: String,
    /// The subject.
    pub subject: Subject,
}

/// A change in the life of an alert, for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransitionEvent {
    /// The alert; `None` while it is pending.
    pub alert_id: Option<String>,
    /// The rule and the subject.
    pub key: WatchKey,
    /// The stage before.
    pub from: Stage,
    /// The stage after.
    pub to: Stage,
    /// The person who did it; `None`: no person did.
    pub by: Option<String>,
    /// Its severity and the seconds since it fired, when this stopped one of its clocks.
    pub clocked: Option<(Severity, i64)>,
    /// The event that led to the alert, if one did.
    pub event_id: Option<String>,
}

/// The documents as they were stored.
#[derive(Debug, Clone, Default)]
pub struct Documents {
    /// Space [`ALERTS`].
    pub alerts: Vec<(String, String)>,
    /// Space [`PENDING`].
    pub pending: Vec<(String, String)>,
    /// Space [`SILENCES`].
    pub silences: Vec<(String, String)>,
    /// Space [`BEGAN`].
    pub began: Vec<(String, String)>,
    /// Space [`POSITION`].
    pub position: Vec<(String, String)>,
}

/// A stored document cannot be read. The cause is not quoted: documents hold personal data.
#[derive(Debug, thiserror::Error)]
#[error("the stored document {key} in {space} cannot be read at {place}")]
pub struct UnreadableDocumentError {
    space: &'static str,
    key: String,
    place: String,
}

/// Alerting as an engine without I/O: what the evaluator remembers, and every decision.
pub struct Engine {
    rules: RuleSet,
    policy: Policy,
    alerts: AlertTable,
    watches: Watches,
    groups: Groups,
    mutes: Mutes,
    clocks: SlaClocks,
    outbox: Outbox,
    freshness: Freshness,
    intervals: ReadIntervals,
    counter_reads: CounterReads,
    pipeline: Pipeline,
    backlog: Backlog,
    progress: Progress,
    changes: Changes,
    /// When revwatch began, by its first delivery. The settings may say another moment: see [`Engine::began_s`].
    began_s: Option<i64>,
    position: EvaluatorPosition,
}

/// A message shows a new metric value at most this often.
const REFRESH_S: i64 = 300;

impl Engine {
    /// Continues from the documents of an earlier evaluator; without any, begins.
    pub fn open(
        rules: Vec<Rule>,
        policy: Policy,
        stored: &Documents,
    ) -> Result<Self, UnreadableDocumentError> {
        let position = EvaluatorPosition::of(&stored.position)?;
        let mut engine = Self {
            rules: RuleSet::new(rules, &policy.business_hours()),
            policy,
            alerts: AlertTable::default(),
            watches: Watches::default(),
            groups: Groups::default(),
            mutes: Mutes::new(),
            clocks: SlaClocks::default(),
            outbox: Outbox::default(),
            freshness: Freshness::default(),
            intervals: ReadIntervals::default(),
            counter_reads: CounterReads::default(),
            pipeline: Pipeline::default(),
            backlog: Backlog::new(position.not_waited_for.clone()),
            progress: Progress::default(),
            changes: Changes::since(position.clone()),
            began_s: Beginning::of(&stored.began)?,
            position,
        };
        for document in &stored.silences {
            engine.mutes.add_silence(parsed(SILENCES, document)?);
        }
        for document in &stored.pending {
            let stored: StoredWatch = parsed(PENDING, document)?;
            let watch = stored.watch();
            engine.set_watch(stored.key, Some(watch));
        }
        for document in &stored.alerts {
            engine.admit(parsed(ALERTS, document)?);
        }
        engine.repair_groups();
        Ok(engine)
    }

    /// Reads at other intervals than [`ReadIntervals::default`].
    pub fn with_intervals(mut self, intervals: ReadIntervals) -> Self {
        self.intervals = intervals;
        self
    }

    /// The store's last recovery of which the engine knows.
    pub fn recovery_id(&self) -> &str {
        &self.position.recovery_id
    }

    /// The store has recovered: the changes since cannot be followed, and all open conditions are evaluated.
    pub fn on_recovery(&mut self, recovery_id: &str) {
        recovery_id.clone_into(&mut self.position.recovery_id);
        self.position.rules.clear();
    }

    /// Adds an alert of an earlier evaluator.
    fn admit(&mut self, mut alert: Alert) {
        let id = alert.id.clone();
        if self.policy.replace_missing(&mut alert) {
            self.changes.touch(&id);
        }
        if let Some(group_id) = &alert.part_of {
            self.groups.add_member(group_id, &id);
        }
        for (key, state) in &alert.notifications {
            if let Some(reason) = &state.broken {
                self.outbox.break_notifier(&key.notifier, reason);
            }
        }
        if !alert.is_resolved() {
            let key = key_of(&alert);
            if alert.group.is_some() {
                // Only the newest takes more members.
                let place = place(&alert);
                let newer = |other: &Alert| other.fired_s < alert.fired_s;
                if self
                    .groups
                    .open_at(&place)
                    .is_none_or(|o| self.alerts.get(o).is_none_or(newer))
                {
                    self.groups.open(place, &id);
                }
            } else {
                if let Some(clear_since_s) = alert.clear_since_s {
                    let keep_firing_s = self.rules.keep_firing_for_s(&alert, clear_since_s);
                    self.watches.close_at(clear_since_s + keep_firing_s, &key);
                }
                if self
                    .set_watch(
                        key.clone(),
                        Some(Watch::Firing {
                            alert_id: id.clone(),
                        }),
                    )
                    .is_some()
                {
                    // A crash came before the document that the alert replaces was deleted.
                    self.forget_watch(&key);
                }
                self.note_inhibitor(&alert, true);
            }
            self.clocks.start(&id, &alert.sla);
        }
        if alert.is_resolved() {
            self.changes.admit_resolved(&id);
        } else if alert.pre_existing && alert.group.is_none() && alert.part_of.is_none() {
            // It is not in a digest yet.
            self.changes.fire(&id);
        }
        self.mutes.set(&id, alert.muted.is_some());
        self.alerts.insert(alert);
        self.enqueue(&id);
    }

    /// Notifiers that cannot deliver until a person repairs something.
    #[cfg(test)]
    fn broken_notifiers(&self) -> impl Iterator<Item = &String> {
        self.outbox.broken_notifiers().map(|(name, _)| name)
    }

    /// Time passes: notices fall due, what has been clear for long enough resolves, silences end.
    fn on_time(&mut self, now_s: i64) {
        // Stored, so that a restart does not prolong them.
        for silence in self.mutes.changed_by_clock(now_s) {
            self.silence(silence, now_s);
        }
        // A delivery that still waits may say that it breaches again.
        if !self.is_catching_up() {
            self.close_what_is_clear(now_s);
        }
        for id in self.groups.take_empty() {
            self.resolve(&id, None, now_s, None);
        }
        self.run_clocks(now_s);
        for id in self.mutes.on_time(now_s) {
            self.changes.delete(SILENCES, &id);
        }
    }

    fn close_what_is_clear(&mut self, now_s: i64) {
        while let Some(key) = self.watches.pop_closing(now_s) {
            match self.rules.position(&key.rule) {
                // It may be unknown by now: its next evaluation decides.
                Some(index) if matches!(self.rules.all()[index].kind, RuleKind::Metric(_)) => {}
                Some(index) => self.clear(index, key, now_s),
                None => self.end_watch(&key, now_s, None),
            }
        }
    }

    /// Decides which messages follow from what happened since the last time, and returns the documents that must be
    /// written, in this order, before any message is sent.
    fn settle(&mut self, now_s: i64) -> Vec<DocumentWrite> {
        let fired = self.changes.take_fired();
        self.mute_and_unmute(&fired, now_s);
        self.group(fired, now_s);
        let mut dirty = self.changes.take_dirty();
        self.date_digests(&mut dirty, now_s);
        for id in &dirty {
            self.go_around(id);
            self.enqueue(id);
            if let Some(alert) = self.alerts.get(id) {
                self.changes.put(ALERTS, id, alert);
            }
        }
        self.retire(dirty, now_s);
        self.changes.put_position(&self.position);
        self.changes.take_writes(|id| self.groups.is_group(id))
    }

    /// Every alert that is not in the history; groups as well as their members.
    pub fn alerts(&self) -> impl Iterator<Item = &Alert> {
        self.alerts.values()
    }

    /// The alert with this id, unless it is in the history.
    pub fn alert(&self, id: &str) -> Option<&Alert> {
        self.alerts.get(id)
    }

    /// The rules.
    pub fn rules(&self) -> &[Rule] {
        self.rules.all()
    }

    /// The next moment after `now_s` at which time alone changes something.
    pub fn next_moment_s(&self, now_s: i64) -> Option<i64> {
        let moments = [self.watches.next_s(now_s), self.clocks.next_s(now_s)];
        moments.into_iter().flatten().min()
    }

    /// Moves resolved alerts whose messages are delivered into the history. An alert becomes done only by a change, or
    /// when its messages are given up.
    fn retire(&mut self, dirty: BTreeSet<String>, now_s: i64) {
        let mut candidates = dirty;
        candidates.extend(self.changes.take_admitted());
        let given_up = self.alerts.resolved_before(now_s - GIVE_UP_S);
        candidates.extend(given_up.cloned());
        candidates.extend(self.alerts.take_rested(now_s));
        let is_over = |alert: &Alert| alert.is_resolved() && self.is_done(alert, now_s);
        candidates.retain(|id| self.alerts.get(id).is_some_and(is_over));
        for id in candidates {
            let alert = self.alerts.get(&id);
            let until_s = alert.and_then(|alert| self.rules.may_return_until_s(alert));
            if let Some(until_s) = until_s.filter(|until_s| *until_s > now_s) {
                self.alerts.rest_until(until_s, &id);
                continue;
            }
            self.mutes.set(&id, false);
            self.outbox.clear(&id);
            let Some(alert) = self.alerts.remove(&id) else {
                continue;
            };
            self.groups.forget(&alert);
            self.changes.delete(ALERTS, &id);
            self.changes.put(HISTORY, &id, &alert);
        }
    }
}

fn key_of(alert: &Alert) -> WatchKey {
    WatchKey {
        rule: alert.rule.clone(),
        subject: alert.subject.clone(),
    }
}

fn parsed<T: DeserializeOwned>(
    space: &'static str,
    (key, body): &(String, String),
) -> Result<T, UnreadableDocumentError> {
    serde_json::from_str(body).map_err(|error| UnreadableDocumentError {
        space,
        key: redact::id(key).into_owned(),
        place: redact::place(&error),
    })
}

fn json<T: Serialize>(body: &T) -> String {
    serde_json::to_string(body).expect("plain data has a JSON form")
}

#[cfg(test)]
mod tests;
