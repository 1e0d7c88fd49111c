//! Every alert that is not in the history, by id, and how many there are by rule, severity and stage.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{WatchKey, key_of};
use crate::alert::{Alert, id};
use crate::stage::Stage;

/// Every alert that is not in the history, by id, and how many there are by rule, severity and stage.
///
/// Invariant: the counts follow from the alerts and from [`AlertTable::count_pending`]. An alert changes its state
/// only by [`AlertTable::insert`]; everything else about it may change in place.
#[derive(Default)]
pub(super) struct AlertTable {
    by_id: HashMap<String, Alert>,
    /// Those that are resolved, by when: perhaps a message is not delivered yet.
    resolved: BTreeSet<(i64, String)>,
    /// The last of them by what they are about.
    last: HashMap<WatchKey, String>,
    /// Those of which all is delivered, but which may return, by until when.
    resting: BTreeSet<(i64, String)>,
    counts: BTreeMap<(String, String, Stage), i64>,
}

impl AlertTable {
    /// The last alert of a rule and a subject, if it is resolved and not in the history yet.
    pub fn last_resolved(&self, key: &WatchKey) -> Option<&Alert> {
        self.get(self.last.get(key)?)
    }

    /// A resolved alert stays until then: it may return.
    pub fn rest_until(&mut self, until_s: i64, id: &str) {
        self.resting.insert((until_s, id.to_owned()));
    }

    /// Those that have stayed for long enough.
    pub fn take_rested(&mut self, now_s: i64) -> Vec<String> {
        let later = self.resting.split_off(&(now_s + 1, String::new()));
        let rested = std::mem::replace(&mut self.resting, later);
        rested.into_iter().map(|(_, id)| id).collect()
    }

    /// Adds an alert, or replaces the one that has its id; returns the earlier one.
    pub fn insert(&mut self, alert: Alert) -> Option<Alert> {
        let earlier = self.remove(&alert.id);
        if alert.is_resolved() {
            self.resolved.insert(resolved_key(&alert));
            let key = key_of(&alert);
            let is_older = |last: &Alert| last.resolved_s <= alert.resolved_s;
            if self.last_resolved(&key).is_none_or(is_older) {
                self.last.insert(key, alert.id.clone());
            }
        }
        self.count(&alert, 1);
        self.by_id.insert(alert.id.clone(), alert);
        earlier
    }

    pub fn remove(&mut self, id: &str) -> Option<Alert> {
        let alert = self.by_id.remove(id)?;
        self.resolved.remove(&resolved_key(&alert));
        let key = key_of(&alert);
        if self.last.get(&key).is_some_and(|last| last == id) {
            self.last.remove(&key);
        }
        self.count(&alert, -1);
        Some(alert)
    }

    pub fn get(&self, id: &str) -> Option<&Alert> {
        self.by_id.get(id)
    }

    /// The alert `id`, unless it is resolved.
    pub fn open(&self, id: &str) -> Option<&Alert> {
        self.get(id).filter(|alert| !alert.is_resolved())
    }

    pub fn get_mut(&mut self, id: &str) -> Option<&mut Alert> {
        self.by_id.get_mut(id)
    }

    pub fn open_mut(&mut self, id: &str) -> Option<&mut Alert> {
        self.get_mut(id).filter(|alert| !alert.is_resolved())
    }

    /// This id, or another one made of it: what fires again within its second is another alert.
    pub fn unused(&self, mut alert_id: String) -> String {
        while self.by_id.contains_key(&alert_id) {
            alert_id = id(&alert_id);
        }
        alert_id
    }

    pub fn values(&self) -> impl Iterator<Item = &Alert> {
        self.by_id.values()
    }

    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut Alert> {
        self.by_id.values_mut()
    }

    /// The alerts that were resolved before this Unix second.
    pub fn resolved_before(&self, unix_s: i64) -> impl Iterator<Item = &String> {
        let earlier = self.resolved.range(..(unix_s, String::new()));
        earlier.map(|(_, id)| id)
    }

    /// Counts rules and subjects that are pending: they have no alert.
    pub fn count_pending(&mut self, rule: &str, severity: &str, by: i64) {
        let key = (rule.to_owned(), severity.to_owned(), Stage::Pending);
        *self.counts.entry(key).or_default() += by;
    }

    /// By rule, severity and stage. Groups are not counted: their members are.
    pub fn counts(&self) -> impl Iterator<Item = (&str, &str, Stage, i64)> {
        self.counts
            .iter()
            .map(|((rule, severity, stage), n)| (rule.as_str(), severity.as_str(), *stage, *n))
    }

    fn count(&mut self, alert: &Alert, by: i64) {
        if alert.group.is_none() && !alert.is_resolved() {
            let severity = alert.severity.as_str().to_owned();
            let key = (alert.rule.clone(), severity, alert.state.into());
            *self.counts.entry(key).or_default() += by;
        }
    }
}

fn resolved_key(alert: &Alert) -> (i64, String) {
    (alert.resolved_s.unwrap_or(i64::MAX), alert.id.clone())
}

#[cfg(test)]
mod tests {
    use super::super::tests::rules;
    use super::*;
    use crate::alert::{AlertState, Evidence, Group, Subject};

    #[test]
    fn counts_follow_the_alerts_through_their_stages() {
        let rule = &rules()[0];
        let mut alert = Alert::fire(rule, &Subject::Business, 0, 0, Evidence::default());
        let mut table = AlertTable::default();
        let counts = |table: &AlertTable| {
            let found = table.counts().filter(|(.., n)| *n != 0);
            let found =
                found.map(|(rule, severity, stage, n)| (format!("{rule} {severity}"), stage, n));
            found.collect::<Vec<_>>()
        };
        let one = |stage| vec![("lost critical".to_owned(), stage, 1)];
        assert!(table.insert(alert.clone()).is_none());
        assert_eq!(counts(&table), one(Stage::Firing));
        alert.state = AlertState::Acknowledged;
        assert!(table.insert(alert.clone()).is_some());
        assert_eq!(counts(&table), one(Stage::Acknowledged));
        assert!(
            table.open(&alert.id).is_some() && table.resolved_before(i64::MAX).next().is_none()
        );
        (alert.state, alert.resolved_s) = (AlertState::Resolved, Some(100));
        table.insert(alert.clone());
        assert!(counts(&table).is_empty() && table.open(&alert.id).is_none());
        assert_eq!(table.resolved_before(100).count(), 0);
        assert_eq!(table.resolved_before(101).collect::<Vec<_>>(), [&alert.id]);
        table.remove(&alert.id);
        assert!(table.resolved_before(i64::MAX).next().is_none() && table.get(&alert.id).is_none());
        table.count_pending("lost", "critical", 1);
        assert_eq!(counts(&table), one(Stage::Pending));
    }

    #[test]
    fn a_group_is_not_counted() {
        let mut group = Alert::fire(&rules()[0], &Subject::Business, 0, 0, Evidence::default());
        group.group = Some(Group::default());
        let mut table = AlertTable::default();
        table.insert(group);
        assert!(table.counts().next().is_none());
    }
}
