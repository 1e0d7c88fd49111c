//! The messages of alerts: attempts, their results, and the notices that are due.

use super::Engine;
use super::message_updates::{LOG, UpdateReason, message_keys, update_reason};
use super::outbox::Lane;
use super::sla_clocks::notice_skip;
use crate::alert::{Alert, AlertState, Failing, MessageKey, NoticeKind, NotificationState};
use crate::message::{Message, render};
use crate::outcome::Outcome;

/// One attempt to deliver a message.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// The alert that the message is about.
    pub alert_id: String,
    /// Which message, by which notifier.
    pub message_key: MessageKey,
    /// The revision it shows.
    pub revision: u32,
    /// What is sent.
    pub message: Message,
    /// An earlier attempt, at this revision, ended without a response: the destination is searched for it before
    /// anything is sent again. If it cannot be searched, this message is sent, which says that it may be a duplicate.
    pub unconfirmed: Option<(Message, u32)>,
    /// The alert is muted, and no attempt is known to have arrived: nothing is sent if the earlier one did not.
    pub is_muted: bool,
    /// A destination that cannot be searched now may be searched later; otherwise this counts as not found.
    pub may_defer: bool,
    /// For logs and traces.
    pub origin: Origin,
}

/// What led to an alert.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// The rule.
    pub rule: String,
    /// The events that show it, as far as a message names them. A metric has none.
    pub event_ids: Vec<String>,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptResult {
    /// The alert that the message is about.
    pub alert_id: String,
    /// Which message, by which notifier.
    pub message_key: MessageKey,
    /// The revision it showed.
    pub revision: u32,
    /// What is known about the delivery.
    pub outcome: Outcome,
    /// It was sent although an earlier attempt may have arrived.
    pub possible_duplicate: bool,
    /// Some recipients have it, and others do not.
    pub is_partly_delivered: bool,
}

/// The message as it is sent. More people read the log than the messages: it gets ids and kinds, and no names.
fn render_for(alert: &Alert, key: &MessageKey, state: &NotificationState) -> Message {
    if key.notifier == LOG {
        render(&alert.redacted(), key, state)
    } else {
        render(alert, key, state)
    }
}

/// A message that cannot be delivered until a person repairs something is tried again this often.
const BROKEN_RETRY_MS: i64 = 300_000;
/// After so many failures, or so long, another notifier is used as well. The former attempts may still arrive:
/// twice is better than too late.
const MAX_FAILED: u32 = 3;
const MAX_WAIT_MS: i64 = 120_000;
/// After so many failed attempts (about a minute) the engine no longer waits until a destination can be searched:
/// a duplicate is better than nothing.
const MAX_LOOKUPS: u32 = 5;
/// That an alert is resolved is not delivered later than this.
pub(super) const GIVE_UP_S: i64 = 86_400;

impl Engine {
    /// Lanes with a message to deliver, and when they may begin (Unix milliseconds).
    pub fn lanes(&self) -> impl Iterator<Item = (&Lane, i64)> {
        self.outbox.lanes()
    }

    /// Lanes that may begin, that with the most severe message first.
    pub fn due_lanes(&mut self, now_ms: i64) -> Vec<Lane> {
        self.outbox.due(now_ms)
    }

    /// Begins the next attempt of a lane. It must be written ([`Engine::take_writes`]) before it is made.
    pub fn begin_attempt(&mut self, lane: &Lane, now_ms: i64) -> Option<Attempt> {
        let (id, key) = self.outbox.next(lane, now_ms)?;
        let alert = self.alerts.get_mut(&id)?;
        self.groups.stop_waiting(alert);
        let state = alert.notifications.get(&key).cloned().unwrap_or_default();
        let message = render_for(alert, &key, &state);
        // A change in place can be repeated; a message that cannot be changed would be sent twice.
        let is_change = message.receipt.is_some()
            && self
                .policy
                .capabilities(&key.notifier)
                .is_some_and(|capabilities| capabilities.edits);
        let unconfirmed = state
            .attempting_revision
            .filter(|_| !is_change)
            .map(|revision| {
                let state = NotificationState {
                    possible_duplicate: true,
                    ..state.clone()
                };
                (render_for(alert, &key, &state), revision)
            });
        let is_muted = alert.muted.is_some() && state.delivered_revision == 0;
        let revision = alert.revision;
        let origin = Origin {
            rule: alert.rule.clone(),
            event_ids: alert.evidence.event_ids.clone(),
        };
        alert
            .notifications
            .entry(key.clone())
            .or_default()
            .attempting_revision = Some(revision);
        self.outbox.begin(&id, &key);
        self.changes.touch(&id);
        let may_defer = state.attempts < MAX_LOOKUPS;
        Some(Attempt {
            alert_id: id,
            message_key: key,
            revision,
            message,
            unconfirmed,
            is_muted,
            may_defer,
            origin,
        })
    }

    /// Notes how an attempt ended.
    pub fn on_attempt_result(&mut self, result: &AttemptResult, now_ms: i64) {
        let AttemptResult {
            alert_id,
            message_key: key,
            outcome,
            possible_duplicate,
            ..
        } = result;
        self.outbox.end(alert_id, key);
        let Some(alert) = self.alerts.get_mut(alert_id) else {
            return;
        };
        let state = alert.notifications.entry(key.clone()).or_default();
        state.possible_duplicate |= possible_duplicate;
        note(state, result, now_ms);
        let broken = state.broken.clone().filter(|_| is_failure(outcome));
        let was_replaced = state.is_replaced;
        state.is_replaced |= broken.is_some();
        match (outcome, broken) {
            (Outcome::Delivered { .. }, _) if self.outbox.repair(&key.notifier) => {
                self.retry_broken(&key.notifier);
            }
            (_, Some(reason)) => self.use_another_way(alert_id, key, &reason, was_replaced),
            _ => {}
        }
        self.changes.touch(alert_id);
    }

    /// Settings have changed, perhaps to repair a notifier: messages that it could not deliver are tried at once.
    pub fn retry_broken_now(&mut self) {
        for alert in self.alerts.values_mut() {
            for state in alert
                .notifications
                .values_mut()
                .filter(|state| state.broken.is_some())
            {
                state.failing = None;
                state.not_before_ms = 0;
                self.changes.touch(&alert.id);
            }
        }
    }

    /// A notifier works again: messages that it could not deliver are tried now.
    fn retry_broken(&mut self, notifier: &str) {
        for alert in self.alerts.values_mut() {
            let broken = alert
                .notifications
                .iter_mut()
                .filter(|(key, p)| key.notifier == notifier && p.broken.is_some());
            for (_, state) in broken {
                state.broken = None;
                state.failing = None;
                state.not_before_ms = 0;
                self.changes.touch(&alert.id);
            }
        }
    }

    /// Puts the messages of an alert that need an update into the outbox.
    pub(super) fn enqueue(&mut self, id: &str) {
        let Some(alert) = self.alerts.get(id) else {
            return;
        };
        let untouched = alert.notifications.is_empty()
            && alert.state == AlertState::Firing
            && alert.muted.is_none();
        if untouched
            && alert.part_of.is_none()
            && alert.group.is_none()
            && !alert.notifiers.is_empty()
        {
            self.groups.wait(alert);
        }
        let messages = message_keys(alert)
            .filter(|(key, _)| self.update_reason(alert, key).is_some())
            .map(|(key, route)| {
                let not_before_ms = alert.notifications.get(&key).map_or(0, |p| p.not_before_ms);
                (key, route, not_before_ms)
            })
            .collect();
        self.outbox.put(alert, messages);
    }

    /// Whether a resolved alert has no message left to deliver.
    pub(super) fn is_done(&self, alert: &Alert, now_s: i64) -> bool {
        let gives_up = alert
            .resolved_s
            .is_some_and(|at_s| now_s - at_s > GIVE_UP_S);
        message_keys(alert).all(|(key, _)| {
            !self.outbox.is_in_flight(&alert.id, &key)
                && (gives_up || self.update_reason(alert, &key).is_none())
        })
    }

    fn update_reason(&self, alert: &Alert, key: &MessageKey) -> Option<UpdateReason> {
        let capabilities = self.policy.capabilities(&key.notifier)?;
        update_reason(alert, key, capabilities)
    }

    /// Starts waiting for the first notice of an alert.
    pub(super) fn start_clock(&mut self, id: &str) {
        if let Some(alert) = self.alerts.get(id) {
            self.clocks.start(id, &alert.sla);
        }
    }

    pub(super) fn run_clocks(&mut self, now_s: i64) {
        while let Some(id) = self.clocks.pop_due(now_s) {
            let Some(alert) = self.alerts.get_mut(&id) else {
                continue;
            };
            let due: Vec<NoticeKind> = alert
                .sla
                .upcoming
                .iter()
                .take_while(|(at_s, _)| *at_s <= now_s)
                .map(|(_, kind)| *kind)
                .collect();
            alert.sla.upcoming.drain(..due.len());
            let rule = self.rules.named(&alert.rule);
            for kind in &due {
                if notice_skip(alert, *kind, &due).is_none() {
                    let notice = self.policy.notice(alert, rule, *kind, now_s);
                    alert.notices.push(notice);
                    alert.revise(now_s);
                }
            }
            self.changes.touch(&id);
            self.start_clock(&id);
        }
    }
}

/// Whether readers lack the message, or may lack it, because its destination does not take it.
fn is_failure(outcome: &Outcome) -> bool {
    matches!(
        outcome,
        Outcome::Failed { .. } | Outcome::Unknown { .. } | Outcome::RetryAfter { .. }
    )
}

/// What the outcome of an attempt means for the next one.
fn note(state: &mut NotificationState, result: &AttemptResult, now_ms: i64) {
    let tried = state.attempting_revision;
    state.attempts += 1;
    let pause_ms = 1000_i64 << state.attempts.min(8);
    match &result.outcome {
        Outcome::Delivered { receipt } => {
            *state = NotificationState {
                delivered_revision: result.revision,
                receipt: receipt.clone().or(state.receipt.take()),
                possible_duplicate: state.possible_duplicate,
                failures: std::mem::take(&mut state.failures),
                ..NotificationState::default()
            };
        }
        Outcome::RetryAfter { wait_ms } => {
            state.attempting_revision = None;
            state.not_before_ms = now_ms + (*wait_ms).max(1);
            let reason = "it limits how many messages it takes, and asks to wait";
            note_failure(state, reason, 0, now_ms);
        }
        // The engine does not give up: the token, the channel or the network may be repaired.
        Outcome::Failed {
            permanent: false,
            reason,
        } => {
            state.attempting_revision = None;
            state.not_before_ms = now_ms + pause_ms;
            note_failure(state, reason, 1, now_ms);
        }
        Outcome::Failed {
            permanent: true,
            reason,
        } => {
            state.attempting_revision = None;
            state.not_before_ms = now_ms + BROKEN_RETRY_MS;
            note_failure(state, reason, 1, now_ms);
            state.broken = Some(reason.clone());
        }
        // `attempting_revision` stays: the next attempt searches the destination first.
        Outcome::Unknown { reason } => {
            state.not_before_ms = now_ms + pause_ms;
            note_failure(state, reason, 1, now_ms);
        }
        // The message was deleted: the next attempt posts a new one.
        Outcome::Gone => {
            state.attempting_revision = None;
            state.receipt = None;
            state.not_before_ms = now_ms;
        }
        Outcome::Withheld => state.attempting_revision = None,
    }
    if result.is_partly_delivered {
        // Who has it is remembered in memory. If that is lost, the next attempt must search, or say that it may be a
        // duplicate.
        state.attempting_revision = tried;
    }
}

/// Notes an attempt that did not deliver, and whether another notifier must: after a few failures, or if the next
/// attempt would come too late.
fn note_failure(state: &mut NotificationState, reason: &str, failed: u32, now_ms: i64) {
    state.note_failure(reason, now_ms.div_euclid(1000));
    let failing = state.failing.get_or_insert(Failing {
        since_ms: now_ms,
        failed: 0,
    });
    failing.failed = failing.failed.saturating_add(failed);
    let waits_ms = state.not_before_ms.max(now_ms) - failing.since_ms;
    if failing.failed >= MAX_FAILED || waits_ms >= MAX_WAIT_MS {
        state.broken = Some(reason.to_owned());
    }
}
