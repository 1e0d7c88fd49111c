//! Many alerts of one rule at once are delivered as one.
//!
//! The alerts of a rule are delivered one by one until more of them wait than the settings allow; those that wait then
//! form a group, which others join for some time. So a few alerts are delivered each on its own, and a storm, or a
//! slow destination, gives few messages.

use std::collections::BTreeSet;

use revwatch_core::amounts::Amounts;

use super::Engine;
use super::groups::{Place, keep_largest, member, place};
use crate::alert::{Alert, AlertState, Evidence, Group, Member, Sla, Subject, id};

impl Engine {
    /// Decides for new alerts whether they are delivered alone or in a group. Some may be resolved already: they
    /// are delivered as that.
    pub(super) fn group(&mut self, fired: Vec<String>, now_s: i64) {
        let later = self.changes.take_fired();
        let (mut joined, mut crowded, mut over) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
        for id in fired.into_iter().chain(later) {
            let Some(alert) = self.alerts.get_mut(&id) else {
                continue;
            };
            if alert.muted.is_some() || alert.part_of.is_some() {
                continue;
            }
            let Some(rule) = self.rules.named(&alert.rule) else {
                continue;
            };
            self.policy.apply(alert, rule, now_s);
            // One that had been a member has none.
            alert.actions.clone_from(&rule.actions);
            if alert.pre_existing {
                alert.sla = Sla::default();
                let is_resolved = alert.is_resolved();
                if is_resolved {
                    alert.notifiers = alert.reached();
                }
                self.changes.touch(&id);
                joined.extend(
                    (!is_resolved)
                        .then(|| self.join_digest(&id, now_s))
                        .flatten(),
                );
                continue;
            }
            if alert.is_resolved() {
                alert.sla.upcoming.clear();
                over.push(id.clone());
            }
            self.changes.touch(&id);
            let place = place(alert);
            if !alert.notifiers.is_empty() {
                if let Some(group_id) = self.joinable(&place, now_s) {
                    self.join(&group_id, &id);
                    joined.insert(group_id);
                    continue;
                }
                let alert = self.alerts.get(&id);
                let waiting = alert.map_or(0, |alert| self.groups.wait(alert));
                if waiting > self.policy.group_above {
                    crowded.insert(place);
                }
            }
            self.start_clock(&id);
        }
        for place in crowded {
            if let Some(group_id) = self.form_group(&place, now_s) {
                joined.insert(group_id);
            }
        }
        for group_id in joined {
            if let Some(group) = self
                .alerts
                .get_mut(&group_id)
                .filter(|g| g.fired_s < now_s || g.revision > 1)
            {
                group.revise(now_s);
            }
            self.changes.touch(&group_id);
        }
        for id in over {
            let Some(alert) = self.alerts.get(&id).cloned() else {
                continue;
            };
            match &alert.part_of {
                Some(group_id) => {
                    self.member_is_over(group_id, &id, now_s, alert.resolved_by.as_deref());
                }
                None => self.groups.stop_waiting(&alert),
            }
        }
    }

    /// A member of a group is resolved; the group is when all are, by the person who resolved the last one.
    pub(super) fn member_is_over(
        &mut self,
        group_id: &str,
        id: &str,
        now_s: i64,
        by: Option<&str>,
    ) {
        let amounts = self
            .alerts
            .get(id)
            .map(|a| a.evidence.amounts())
            .unwrap_or_default();
        let Some(alert) = self.alerts.open_mut(group_id) else {
            return;
        };
        let Some(group) = &mut alert.group else {
            return;
        };
        group.open = group.open.saturating_sub(1);
        group.top.retain(|member| member.alert_id != id);
        let (open, unnamed) = (group.open, group.top.is_empty());
        if open == 0 {
            // What it was about, not what was left of it.
            alert.evidence.set_amounts(group.amounts());
            self.resolve(group_id, None, now_s, by);
            return;
        }
        alert.evidence.add_amounts(&amounts, -1);
        alert.revise(now_s);
        self.changes.touch(group_id);
        if unnamed {
            self.name_members(group_id);
        }
    }

    /// What an alert shows may have changed, and with it the sums of its group. Readers of the group see it with
    /// an update at `now_s`, or with the next one.
    pub(super) fn member_shows(&mut self, id: &str, before: &Amounts, now_s: Option<i64>) {
        let Some(alert) = self
            .alerts
            .get(id)
            .filter(|a| a.evidence.amounts() != *before)
        else {
            return;
        };
        let Some(group_id) = alert.part_of.clone() else {
            return;
        };
        let (member, after) = (member(alert), alert.evidence.amounts());
        let Some(alert) = self.alerts.open_mut(&group_id) else {
            return;
        };
        let Some(group) = &mut alert.group else {
            return;
        };
        if let Some(named) = group.top.iter_mut().find(|named| named.alert_id == id) {
            *named = member;
            keep_largest(&mut group.top);
        }
        for (amounts, times) in [(before, -1), (&after, 1)] {
            alert.evidence.add_amounts(amounts, times);
            group.add_amounts(amounts, times);
        }
        if let Some(now_s) = now_s {
            alert.revise(now_s);
        }
        self.changes.touch(&group_id);
    }

    /// A crash between two parts of a very large write leaves members without their group, or a group that
    /// does not know of all its members.
    pub(super) fn repair_groups(&mut self) {
        let mut open = std::collections::HashMap::<String, Vec<String>>::new();
        for alert in self.alerts.values().filter(|a| !a.is_resolved()) {
            if let Some(group_id) = &alert.part_of {
                open.entry(group_id.clone())
                    .or_default()
                    .push(alert.id.clone());
            }
        }
        for (group_id, members) in &open {
            if self.alerts.open(group_id).is_some() {
                continue;
            }
            self.groups.disband(group_id);
            for id in members {
                if let Some(alert) = self.alerts.get_mut(id) {
                    alert.part_of = None;
                    self.changes.fire(id);
                }
            }
        }
        let groups: Vec<String> = self
            .alerts
            .values()
            .filter(|a| a.group.is_some() && !a.is_resolved())
            .map(|a| a.id.clone())
            .collect();
        for id in groups {
            let members = open.remove(&id).unwrap_or_default();
            let known = u32::try_from(members.len()).unwrap_or(u32::MAX);
            let mut amounts = Amounts::default();
            for alert in members.iter().filter_map(|id| self.alerts.get(id)) {
                amounts.add(&alert.evidence.amounts(), 1);
            }
            let Some(alert) = self.alerts.get_mut(&id) else {
                continue;
            };
            let Some(group) = alert.group.as_mut().filter(|group| group.open != known) else {
                continue;
            };
            group.joined += known.saturating_sub(group.open);
            group.open = known;
            if group.open == group.joined {
                (group.money, group.money_doubt) = (amounts.money.clone(), amounts.doubt.clone());
            }
            alert.evidence.set_amounts(amounts);
            let is_digest = alert.is_digest();
            self.changes.touch(&id);
            self.name_members(&id);
            if is_digest {
                self.recount_rules(&id);
            }
            if known == 0 {
                self.groups.note_empty(id);
            }
        }
    }

    fn joinable(&mut self, place: &Place, now_s: i64) -> Option<String> {
        let id = self.groups.open_at(place)?.clone();
        let open_s = self.policy.group_open_s;
        // A person who acknowledged a group acknowledged it as it was then.
        let takes = |g: &&Alert| g.state == AlertState::Firing && now_s - g.started_s() <= open_s;
        let group = self.alerts.get(&id).filter(takes);
        if group.is_none() {
            self.groups.close(place);
            return None;
        }
        Some(id)
    }

    /// Makes one alert of all that wait at a place.
    fn form_group(&mut self, place: &Place, now_s: i64) -> Option<String> {
        let waiting = self.groups.take_waiting(place);
        let rule = self.rules.named(&place.0)?;
        let members = || waiting.iter().filter_map(|id| self.alerts.get(id));
        let first = members().min_by_key(|a| (a.fired_s, &a.id))?;
        let since_s = members().map(|a| a.since_s).min().unwrap_or(now_s);
        let mut group = Alert::fire(
            rule,
            &Subject::Business,
            since_s,
            first.fired_s,
            Evidence::default(),
        );
        // Its first alert may have been the first of another one, and have left it.
        let name = format!("group\n{}\n{}\n{}\n{now_s}", place.0, place.1, first.id);
        group.id = self.alerts.unused(id(&name));
        group.group = Some(Group::default());
        self.policy.apply(&mut group, rule, now_s);
        // Its clocks are the first of those that run already. They may have started long after the alert fired, as when
        // a silence ended.
        let running = members().filter(|a| !a.is_resolved()).map(|a| &a.sla);
        if let Some(sla) = running.min_by_key(|sla| sla.respond_due_s) {
            group.sla = sla.clone();
        }
        let id = group.id.clone();
        self.alerts.insert(group);
        self.groups.open(place.clone(), &id);
        for member in waiting {
            self.join(&id, &member);
        }
        self.start_clock(&id);
        Some(id)
    }

    pub(super) fn join(&mut self, group_id: &str, id: &str) {
        let Some(alert) = self.alerts.get_mut(id) else {
            return;
        };
        self.clocks.stop(id, &alert.sla);
        alert.part_of = Some(group_id.to_owned());
        // The group has its clocks and its messages. Those who have a message of its own see its end.
        alert.notifiers = alert.reached();
        if alert.notifiers.is_empty() {
            alert.actions.clear();
        }
        alert.sla.upcoming.clear();
        let (member, evidence, since_s) = (member(alert), alert.evidence.clone(), alert.since_s);
        self.changes.touch(id);
        self.groups.add_member(group_id, id);
        let Some(alert) = self.alerts.get_mut(group_id) else {
            return;
        };
        alert.since_s = alert.since_s.min(since_s);
        let amounts = evidence.amounts();
        alert.evidence.add_amounts(&amounts, 1);
        if alert.evidence.event_ids.len() < 3 {
            alert
                .evidence
                .event_ids
                .extend(evidence.event_ids.into_iter().take(1));
        }
        let Some(group) = &mut alert.group else {
            return;
        };
        group.add_amounts(&amounts, 1);
        group.joined += 1;
        group.open += 1;
        group.top.push(member);
        keep_largest(&mut group.top);
    }

    /// Names the largest of those that are still open.
    pub(super) fn name_members(&mut self, group_id: &str) {
        let members = self.groups.members(group_id);
        let open = members.filter_map(|id| self.alerts.open(id));
        let mut top: Vec<Member> = open.map(member).collect();
        keep_largest(&mut top);
        if let Some(group) = self.alerts.get_mut(group_id).and_then(|a| a.group.as_mut()) {
            group.top = top;
        }
    }
}
