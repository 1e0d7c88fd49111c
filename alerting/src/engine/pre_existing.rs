//! What was wrong already when revwatch began: it is listed, and people are notified of all of it at once.
//!
//! A condition was there before if it began and fell due before the beginning, or if the first event about its entity
//! says that it was so before, and it was due at once: every event since the beginning is there, so what none of them
//! explains is older. Its alert joins the digest, a group that is notified once: its rules have many routes, so it has
//! one of its own. Events arrive in any order: when a late one shows that a condition began after the beginning, its
//! alert becomes an ordinary one, and the other way round.

use std::collections::BTreeSet;

use revwatch_core::condition::{BeganBefore, Condition};
use serde::{Deserialize, Serialize};

use super::alert_table::AlertTable;
use super::groups::Place;
use super::{BEGAN, Engine, UnreadableDocumentError, WatchKey, parsed};
use crate::alert::{
    Alert, AlertTemplate, DIGEST, Evidence, Group, RuleCount, Severity, Sla, Subject, id,
};

/// When revwatch began, as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Beginning {
    /// Unix seconds.
    began_s: i64,
}

/// The key of the beginning in its space.
const KEY: &str = "began";
/// Stripe repeats a delivery within this time while it is still news: what happened so long before the first delivery
/// counts as after the beginning.
const STILL_NEWS_S: i64 = 3600;

impl Beginning {
    /// The beginning in the documents of its space.
    pub fn of(stored: &[(String, String)]) -> Result<Option<i64>, UnreadableDocumentError> {
        let Some(document) = stored.first() else {
            return Ok(None);
        };
        parsed(BEGAN, document).map(|Self { began_s }| Some(began_s))
    }
}

impl Engine {
    /// When revwatch began, in Unix seconds; `None`: it has not begun, or neither a setting nor a
    /// delivery says when.
    pub fn began_s(&self) -> Option<i64> {
        self.policy.began_s.or(self.began_s)
    }

    /// When its first delivery was received at the latest, whatever a setting says: since then, an event can be
    /// missing.
    pub(super) fn begun_s(&self) -> Option<i64> {
        let began_s = self.began_s?;
        Some(began_s.saturating_add(STILL_NEWS_S))
    }

    /// [`Engine::began_s`] of a revwatch whose first delivery was received at this time (Unix milliseconds).
    pub fn beginning_s(first_received_ms: i64) -> i64 {
        first_received_ms.div_euclid(1000) - STILL_NEWS_S
    }

    /// revwatch begins, or began, with a delivery that was received at this time (Unix milliseconds). `None`: no
    /// delivery of that time is left, so it was long ago.
    pub(super) fn begin(&mut self, first_received_ms: Option<i64>) {
        let began_s = first_received_ms.map_or(0, Self::beginning_s);
        self.began_s = Some(began_s);
        self.changes.put(BEGAN, KEY, &Beginning { began_s });
    }

    /// An alert of a condition that fell due at `due_s` was evaluated; `fired` is whether this made it fire. Whatever
    /// was known of the condition before, what is known now decides.
    pub(super) fn judge_beginning(
        &mut self,
        key: &WatchKey,
        condition: &Condition,
        due_s: i64,
        fired: bool,
        now_s: i64,
    ) {
        let Some(began_s) = self.began_s() else {
            return;
        };
        let Some(id) = self.watches.firing(key).cloned() else {
            return;
        };
        let Some(alert) = self.alerts.open_mut(&id) else {
            return;
        };
        match was_there(condition, due_s, began_s) {
            Some(is_older) if fired => alert.pre_existing = is_older,
            Some(false) if alert.pre_existing => self.make_ordinary(&id, now_s),
            // What fired before this beginning is no older than it because a person has set another one.
            Some(true) if !alert.pre_existing && alert.fired_s >= began_s => {
                self.make_pre_existing(&id, now_s);
            }
            _ => {}
        }
    }

    /// An event that arrived late shows that it began after the beginning.
    fn make_ordinary(&mut self, id: &str, now_s: i64) {
        let Some(alert) = self.alerts.open_mut(id) else {
            return;
        };
        alert.pre_existing = false;
        self.decide_again(id, now_s);
    }

    /// An event that arrived late shows that it began, and fell due, before the beginning. Those who have its message
    /// read that in it.
    fn make_pre_existing(&mut self, id: &str, now_s: i64) {
        let Some(alert) = self.alerts.open_mut(id) else {
            return;
        };
        alert.pre_existing = true;
        self.clocks.stop(id, &alert.sla);
        alert.sla = Sla::default();
        self.groups.stop_waiting(alert);
        self.decide_again(id, now_s);
    }

    /// An alert leaves its group: whether it is sent alone, in another group or in the digest is decided again.
    fn decide_again(&mut self, id: &str, now_s: i64) {
        let Some(alert) = self.alerts.open_mut(id) else {
            return;
        };
        if !alert.notifications.is_empty() {
            alert.revise(now_s);
        }
        let (group_id, alert) = (alert.part_of.take(), alert.clone());
        self.mutes.recheck();
        self.changes.fire(id);
        self.changes.touch(id);
        if let Some(group_id) = group_id {
            self.leave_group(&group_id, &alert, now_s);
        }
    }

    fn leave_group(&mut self, group_id: &str, alert: &Alert, now_s: i64) {
        self.groups.remove_member(group_id, &alert.id);
        let Some(left) = self.alerts.open_mut(group_id) else {
            return;
        };
        let Some(group) = &mut left.group else {
            return;
        };
        group.open = group.open.saturating_sub(1);
        group.joined = group.joined.saturating_sub(1);
        group.top.retain(|member| member.alert_id != alert.id);
        let amounts = alert.evidence.amounts();
        left.evidence.add_amounts(&amounts, -1);
        group.add_amounts(&amounts, -1);
        if let Some(count) = group.rules.iter_mut().find(|c| c.rule == alert.rule) {
            count.joined = count.joined.saturating_sub(1);
        }
        group.rules.retain(|count| count.joined > 0);
        if let Some(count) = group.rules.first() {
            left.severity = count.severity;
        }
        let (open, unnamed) = (group.open, group.top.is_empty());
        if open == 0 {
            left.evidence.set_amounts(group.amounts());
            if left.is_withdrawn() {
                // A group without alerts is not sent, and those who have it read that.
                left.notifiers = left.reached();
                let Alert {
                    notifiers,
                    notifications,
                    ..
                } = left;
                notifications.retain(|key, _| notifiers.contains(&key.notifier));
            }
            self.resolve(group_id, None, now_s, None);
            return;
        }
        left.revise(now_s);
        self.changes.touch(group_id);
        if unnamed {
            self.name_members(group_id);
        }
    }

    /// What a digest says of its beginning is that of its open members, whichever came and went.
    pub(super) fn date_digests(&mut self, changed: &mut BTreeSet<String>, now_s: i64) {
        let group_of = |id: &String| {
            let alert = self.alerts.get(id)?;
            alert.part_of.clone().or_else(|| Some(id.clone()))
        };
        let digests: BTreeSet<String> = changed.iter().filter_map(group_of).collect();
        for id in digests {
            if !self.alerts.open(&id).is_some_and(Alert::is_digest) {
                continue;
            }
            let members = self.groups.members(&id);
            let open: Vec<&Alert> = members.filter_map(|id| self.alerts.open(id)).collect();
            let Some(since_s) = open.iter().map(|alert| alert.since_s).min() else {
                continue;
            };
            let began_before = open.iter().any(|alert| alert.evidence.began_before);
            let Some(digest) = self.alerts.open_mut(&id) else {
                continue;
            };
            if (digest.since_s, digest.evidence.began_before) == (since_s, began_before) {
                continue;
            }
            digest.since_s = since_s;
            digest.evidence.began_before = began_before;
            if digest.fired_s < now_s {
                digest.revise(now_s);
            }
            changed.insert(id);
        }
    }

    /// A new alert joins the digest; returns the digest.
    pub(super) fn join_digest(&mut self, id: &str, now_s: i64) -> Option<String> {
        let alert = self.alerts.get(id)?;
        let place: Place = (DIGEST.to_owned(), DIGEST.to_owned());
        let count = RuleCount {
            rule: alert.rule.clone(),
            title: alert.title.clone(),
            severity: alert.severity,
            joined: 1,
        };
        let notifiers = alert.notifiers.clone();
        let open = self.groups.open_at(&place).cloned();
        let digest_id = match open.filter(|id| self.alerts.open(id).is_some()) {
            Some(digest_id) => digest_id,
            None => {
                let digest = digest(alert, &self.alerts, now_s);
                let digest_id = digest.id.clone();
                self.alerts.insert(digest);
                self.groups.open(place, &digest_id);
                self.decide_mute(&digest_id, now_s);
                digest_id
            }
        };
        self.join(&digest_id, id);
        let digest = self.alerts.get_mut(&digest_id)?;
        digest.severity = digest.severity.max(count.severity);
        let more = notifiers
            .into_iter()
            .filter(|name| !digest.notifiers.contains(name));
        let more: Vec<String> = more.collect();
        digest.notifiers.extend(more);
        count_rule(digest.group.as_mut()?, count);
        Some(digest_id)
    }

    /// Counts the rules of a digest again.
    pub(super) fn recount_rules(&mut self, digest_id: &str) {
        let members = self.groups.members(digest_id);
        let counts: Vec<RuleCount> = members
            .filter_map(|id| self.alerts.get(id))
            .map(|alert| RuleCount {
                rule: alert.rule.clone(),
                title: alert.title.clone(),
                severity: alert.severity,
                joined: 1,
            })
            .collect();
        let digest = self.alerts.get_mut(digest_id);
        if let Some(group) = digest.and_then(|digest| digest.group.as_mut()) {
            group.rules.clear();
            for count in counts {
                count_rule(group, count);
            }
        }
    }
}

/// Whether a condition that fell due at `due_s` was there before the beginning; `None`: that was forgotten.
pub(super) fn was_there(condition: &Condition, due_s: i64, began_s: i64) -> Option<bool> {
    // What holds only from now on was not due before, as a trial that is shorter than the warning.
    let is_older = due_s.max(condition.since_s) < began_s;
    match condition.began_before {
        None => Some(is_older),
        Some(BeganBefore::FirstSeen) if condition.key.kind.has_due_date() => Some(due_s < began_s),
        // What falls due after it was first seen is news at that time.
        Some(BeganBefore::FirstSeen) => Some(is_older || due_s <= condition.since_s),
        Some(BeganBefore::Forgotten) => is_older.then_some(true),
    }
}

/// A digest without members.
fn digest(first: &Alert, alerts: &AlertTable, now_s: i64) -> Alert {
    let template = AlertTemplate {
        rule: DIGEST.to_owned(),
        severity: Severity::Low,
        route: DIGEST.to_owned(),
        labels: std::collections::BTreeMap::new(),
        title: "wrong already when revwatch began".to_owned(),
        actions: Vec::new(),
        runbook: None,
    };
    let mut digest = Alert::fire(
        template,
        &Subject::Business,
        first.since_s,
        now_s,
        Evidence::default(),
    );
    // Its first alert may have been the first of another one, and have left it.
    digest.id = alerts.unused(id(&format!("{DIGEST}\n{}\n{now_s}", first.id)));
    digest.actions = vec![
        format!("List all: `revwatch alerts list --group {}`", digest.id),
        "Resolve what is no longer a problem: `revwatch alerts resolve ID`".to_owned(),
    ];
    digest.pre_existing = true;
    digest.group = Some(Group::default());
    digest.sla = Sla::default();
    digest
}

/// The most severe first, and then by name.
fn count_rule(group: &mut Group, count: RuleCount) {
    match group
        .rules
        .iter_mut()
        .find(|known| known.rule == count.rule)
    {
        Some(known) => known.joined += count.joined,
        None => group.rules.push(count),
    }
    group
        .rules
        .sort_by(|a, b| (b.severity, &a.rule).cmp(&(a.severity, &b.rule)));
}
