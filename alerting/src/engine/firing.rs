//! Alerts fire, change and resolve as the evaluations of their rules say.

use super::watches::StoredWatch;
use super::{Engine, PENDING, REFRESH_S, TransitionEvent, Watch, WatchKey, key_of};
use crate::alert::report::counts;
use crate::alert::{Alert, AlertState, Evidence, NoticeKind, Subject};
use crate::metric_evaluation::{Evaluation, trend};
use crate::metric_value::MetricInputs;
use crate::phase::{Effect, HoldTimes, Phase, next_phase};
use crate::rule::MetricRule;
use crate::stage::{Stage, is_drawn};

/// So long, the members of a group whose problems happen again are counted before one notice says it of all.
const AGAIN_WAIT_S: i64 = 60;

impl Engine {
    /// One evaluation of one rule and one subject. `metric` is given when the rule is on a metric.
    pub(super) fn observe(
        &mut self,
        index: usize,
        key: WatchKey,
        evaluation: Evaluation,
        now_s: i64,
        metric: Option<(&MetricRule, MetricInputs<'_>)>,
    ) {
        let hold = self.hold_times(index, &key, now_s);
        let before = self.phase(&key);
        let (after, effect) = next_phase(hold, before, evaluation, now_s);
        self.set_phase(&key, before, after, now_s, hold);
        let segment = match &key.subject {
            Subject::Segment { value, .. } => value.as_str(),
            _ => "",
        };
        let with_trend = |mut evidence: Evidence| {
            if let Some((metric, inputs)) = metric {
                evidence.trend = trend(metric, inputs, segment);
            }
            evidence
        };
        match effect {
            Effect::Nothing => {}
            Effect::Fire { since_s, evidence } => {
                let alert = Alert::fire(
                    &self.rules.all()[index],
                    &key.subject,
                    since_s,
                    now_s,
                    with_trend(evidence),
                );
                self.fire_or_return(key, before, alert, now_s);
            }
            Effect::Show { since_s, evidence } => {
                // A metric's beginning is that of the alert: it would move with every evaluation.
                let since_s = metric.is_none().then_some(since_s);
                self.show(&key, since_s, evidence, with_trend, now_s);
            }
            Effect::Resolve { evidence } => {
                let evidence = evidence.map(with_trend);
                if let Some(Watch::Firing { alert_id }) = self.set_watch(key, None) {
                    self.resolve(&alert_id, evidence, now_s, None);
                }
            }
        }
    }

    /// The condition of a rule and a subject holds, and the rule's time has moved into the future: what fires ends as
    /// if the condition had closed, and what a person resolved may fire again at the new time.
    pub(super) fn postpone(
        &mut self,
        index: usize,
        key: WatchKey,
        (since_s, evidence): (i64, Evidence),
        now_s: i64,
    ) {
        if self.watches.get(&key).is_none() {
            return;
        }
        // Readers see why it ends.
        self.show(&key, Some(since_s), evidence, |evidence| evidence, now_s);
        self.clear(index, key, now_s);
    }

    /// The condition of a rule and a subject no longer counts.
    pub(super) fn clear(&mut self, index: usize, key: WatchKey, now_s: i64) {
        let clear = Evaluation::Clear { evidence: None };
        self.observe(index, key, clear, now_s, None);
    }

    /// A firing alert has this evidence now. `since_s` is given when the rule is on a condition.
    fn show(
        &mut self,
        key: &WatchKey,
        since_s: Option<i64>,
        evidence: Evidence,
        with_trend: impl Fn(Evidence) -> Evidence,
        now_s: i64,
    ) {
        let Some(alert_id) = self.watches.firing(key) else {
            return;
        };
        let Some(alert) = self.alerts.get_mut(alert_id) else {
            return;
        };
        let shown = Evidence {
            trend: Vec::new(),
            ..alert.evidence.clone()
        };
        let moved = shown != evidence || since_s.is_some_and(|since_s| since_s != alert.since_s);
        // A metric moves all the time; an entity changes when something happened to it.
        let is_due = since_s.is_some() || now_s - alert.revised_s >= REFRESH_S;
        let before = alert.evidence.amounts();
        if moved || (alert.has_unsent_changes && is_due) {
            alert.since_s = since_s.unwrap_or(alert.since_s);
            alert.evidence = with_trend(evidence);
            if is_due {
                alert.revise(now_s);
            } else {
                alert.has_unsent_changes = true;
            }
            self.changes.touch(alert_id);
        }
        let alert_id = alert_id.clone();
        self.member_shows(&alert_id, &before, is_due.then_some(now_s));
    }

    /// How many times the problem had happened when the readers of the alert that fires were notified last.
    pub(super) fn notified_times(&self, key: &WatchKey) -> Option<u32> {
        let alert = self.alerts.get(self.watches.firing(key)?)?;
        alert.evidence.times
    }

    /// The problem of a firing alert may have happened again: the same people are notified, by a notice. Those who do
    /// not have the alert's own message yet read it there. The members of a group are counted for a minute, and
    /// notified of together.
    pub(super) fn notify_again(&mut self, key: &WatchKey, notified_times: Option<u32>, now_s: i64) {
        let Some(id) = self.watches.firing(key).cloned() else {
            return;
        };
        let Some(alert) = self.alerts.open_mut(&id) else {
            return;
        };
        // What fired before conditions said how often they had happened is not news.
        let news = alert.evidence.times.zip(notified_times);
        let Some((times, _)) = news.filter(|(times, notified)| times > notified) else {
            return;
        };
        if let Some(group_id) = alert.part_of.clone() {
            self.count_again(&group_id, now_s);
            return;
        }
        if alert.pre_existing || alert.reached().is_empty() {
            return;
        }
        let rule = self.rules.named(&alert.rule);
        let notice = self
            .policy
            .notice(alert, rule, NoticeKind::Again(times), now_s);
        alert.notices.push(notice);
        alert.revise(now_s);
        self.changes.touch(&id);
    }

    fn hold_times(&self, index: usize, key: &WatchKey, now_s: i64) -> HoldTimes {
        let alert = self.watches.firing(key).and_then(|id| self.alerts.get(id));
        let keep_firing_for_s = alert.map_or(0, |alert| {
            let clear_since_s = alert.clear_since_s.unwrap_or(now_s);
            self.rules.keep_firing_for_s(alert, clear_since_s)
        });
        HoldTimes {
            for_s: self.rules.all()[index].for_s,
            keep_firing_for_s,
        }
    }

    /// The problem of one member of a group has happened again.
    fn count_again(&mut self, group_id: &str, now_s: i64) {
        let Some(group) = self.alerts.open_mut(group_id) else {
            return;
        };
        if group.reached().is_empty() {
            return;
        }
        self.clocks.stop(group_id, &group.sla);
        let upcoming = &mut group.sla.upcoming;
        let counted = upcoming.iter_mut().find_map(|(_, kind)| match kind {
            NoticeKind::Again(members) => Some(members),
            _ => None,
        });
        match counted {
            Some(members) => *members += 1,
            None => {
                upcoming.push((now_s + AGAIN_WAIT_S, NoticeKind::Again(1)));
                upcoming.sort_unstable();
            }
        }
        self.changes.touch(group_id);
        self.start_clock(group_id);
    }

    pub(super) fn phase(&self, key: &WatchKey) -> Phase {
        match self.watches.get(key) {
            None => Phase::Inactive,
            Some(Watch::Pending { since_s }) => Phase::Pending { since_s: *since_s },
            Some(Watch::Dismissed) => Phase::Dismissed,
            Some(Watch::Firing { alert_id }) => Phase::Firing {
                clear_since_s: self.alerts.get(alert_id).and_then(|a| a.clear_since_s),
            },
        }
    }

    /// Remembers the new phase, as far as it is not about an alert that fires or resolves.
    pub(super) fn set_phase(
        &mut self,
        key: &WatchKey,
        before: Phase,
        after: Phase,
        now_s: i64,
        hold: HoldTimes,
    ) {
        if before == after {
            return;
        }
        match (before, after) {
            (Phase::Firing { .. }, Phase::Firing { clear_since_s }) => {
                let Some(alert_id) = self.watches.firing(key).cloned() else {
                    return;
                };
                let Some(alert) = self.alerts.get_mut(&alert_id) else {
                    return;
                };
                if let Some(earlier_s) = alert.clear_since_s {
                    self.watches
                        .cancel_close(earlier_s + hold.keep_firing_for_s, key);
                }
                if clear_since_s.is_some() {
                    self.watches.close_at(now_s + hold.keep_firing_for_s, key);
                }
                alert.clear_since_s = clear_since_s;
                self.changes.touch(&alert_id);
            }
            (_, Phase::Pending { since_s }) => {
                self.store_watch(key, Some(since_s));
                self.set_watch(key.clone(), Some(Watch::Pending { since_s }));
                self.record_transition(None, key, Stage::Inactive, Stage::Pending, None);
            }
            (Phase::Pending { .. }, Phase::Inactive) => {
                self.forget_watch(key);
                self.set_watch(key.clone(), None);
                self.record_transition(None, key, Stage::Pending, Stage::Inactive, None);
            }
            (Phase::Pending { .. }, Phase::Firing { .. }) => self.forget_watch(key),
            (Phase::Dismissed, Phase::Inactive) => {
                self.forget_watch(key);
                self.set_watch(key.clone(), None);
            }
            _ => {}
        }
    }

    pub(super) fn fire(&mut self, key: WatchKey, before: Phase, mut alert: Alert) {
        alert.id = self.alerts.unused(alert.id);
        let from = if matches!(before, Phase::Pending { .. }) {
            Stage::Pending
        } else {
            Stage::Inactive
        };
        self.record_transition(Some(&alert), &key, from, Stage::Firing, None);
        self.set_watch(
            key,
            Some(Watch::Firing {
                alert_id: alert.id.clone(),
            }),
        );
        self.note_inhibitor(&alert, true);
        self.changes.fire(&alert.id);
        self.changes.touch(&alert.id);
        self.alerts.insert(alert);
    }

    /// Resolves an alert. Its watch is already removed or dismissed.
    pub(super) fn resolve(
        &mut self,
        id: &str,
        evidence: Option<Evidence>,
        now_s: i64,
        by: Option<&str>,
    ) {
        let Some(mut alert) = self.alerts.open(id).cloned() else {
            return;
        };
        self.clocks.stop(id, &alert.sla);
        if let Some(clear_since_s) = alert.clear_since_s {
            let keep_firing_s = self.rules.keep_firing_for_s(&alert, clear_since_s);
            self.watches
                .cancel_close(clear_since_s + keep_firing_s, &key_of(&alert));
        }
        self.record_transition(
            Some(&alert),
            &key_of(&alert),
            alert.state.into(),
            Stage::Resolved,
            by,
        );
        alert.state = AlertState::Resolved;
        alert.resolved_s = Some(now_s);
        alert.resolved_by = by.map(str::to_owned);
        self.clock(&alert, alert.resolved_s);
        if let Some(evidence) = evidence {
            alert.evidence = evidence;
        }
        alert.revise(now_s);
        self.note_inhibitor(&alert, false);
        self.changes.touch(id);
        self.groups.stop_waiting(&alert);
        let group_id = alert.part_of.clone();
        let before = self
            .alerts
            .insert(alert)
            .map(|alert| alert.evidence.amounts())
            .unwrap_or_default();
        self.member_shows(id, &before, None);
        if let Some(group_id) = group_id {
            self.member_is_over(&group_id, id, now_s, by);
        }
    }

    /// Ends a watch whatever its rule says.
    pub(super) fn end_watch(&mut self, key: &WatchKey, now_s: i64, by: Option<&str>) {
        match self.set_watch(key.clone(), None) {
            Some(Watch::Firing { alert_id }) => self.resolve(&alert_id, None, now_s, by),
            Some(Watch::Pending { .. }) => {
                self.forget_watch(key);
                self.record_transition(None, key, Stage::Pending, Stage::Inactive, None);
            }
            Some(Watch::Dismissed) => self.forget_watch(key),
            None => {}
        }
    }

    /// Sets or removes a watch; returns the earlier one.
    pub(super) fn set_watch(&mut self, key: WatchKey, watch: Option<Watch>) -> Option<Watch> {
        let (for_s, rule) = (self.rules.for_s(&key.rule), key.rule.clone());
        let is_pending =
            |watch: Option<&Watch>| i64::from(matches!(watch, Some(Watch::Pending { .. })));
        let pending = is_pending(watch.as_ref());
        let earlier = self.watches.set(key, watch, for_s);
        let more = pending - is_pending(earlier.as_ref());
        if more != 0 {
            let severity = self.rules.named(&rule).map_or("", |r| r.severity.as_str());
            self.alerts.count_pending(&rule, severity, more);
        }
        earlier
    }

    pub(super) fn store_watch(&mut self, key: &WatchKey, since_s: Option<i64>) {
        let stored = StoredWatch {
            key: key.clone(),
            since_s,
        };
        self.changes
            .put(PENDING, &StoredWatch::document_key(key), &stored);
    }

    pub(super) fn forget_watch(&mut self, key: &WatchKey) {
        self.changes
            .delete(PENDING, &StoredWatch::document_key(key));
    }

    pub(super) fn record_transition(
        &mut self,
        alert: Option<&Alert>,
        key: &WatchKey,
        from: Stage,
        to: Stage,
        by: Option<&str>,
    ) {
        debug_assert!(
            is_drawn(from, to),
            "{from:?} → {to:?} is not in TRANSITIONS"
        );
        let (alert_id, by) = (alert.map(|alert| alert.id.clone()), by.map(str::to_owned));
        let event_id = alert.and_then(|alert| alert.evidence.event_ids.first().cloned());
        self.changes.record(TransitionEvent {
            alert_id,
            key: key.clone(),
            from,
            to,
            by,
            clocked: None,
            event_id,
        });
    }

    /// Notes how long the last transition took, if the alert's clocks count.
    pub(super) fn clock(&mut self, alert: &Alert, at_s: Option<i64>) {
        if let Some(at_s) = at_s.filter(|_| counts(alert)) {
            let seconds = (at_s - alert.started_s()).max(0);
            self.changes.clock_last(alert.severity, seconds);
        }
    }

    /// The stage of a rule and a subject.
    pub fn stage_of(&self, key: &WatchKey) -> Stage {
        match self.watches.get(key) {
            None | Some(Watch::Dismissed) => Stage::Inactive,
            Some(Watch::Pending { .. }) => Stage::Pending,
            Some(Watch::Firing { alert_id }) => self
                .alerts
                .get(alert_id)
                .map_or(Stage::Inactive, |a| a.state.into()),
        }
    }

    /// How many alerts there are by rule, severity and stage; groups are not counted, their members are.
    pub fn counts(&self) -> impl Iterator<Item = (&str, &str, Stage, i64)> {
        self.alerts.counts()
    }
}
