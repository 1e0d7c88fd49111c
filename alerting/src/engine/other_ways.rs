//! Other notifiers for messages that theirs do not deliver.

use std::collections::BTreeSet;
use std::iter;

use super::Engine;
use super::message_updates::message_keys;
use crate::alert::{Alert, MessageKey};

impl Engine {
    /// The message `key` is not delivered, and will not be soon: another notifier is used as well, once for the alert
    /// and once for each notice. What only waits for the same notifier goes around it, too.
    pub(super) fn use_another_way(
        &mut self,
        alert_id: &str,
        key: &MessageKey,
        reason: &str,
        was_replaced: bool,
    ) {
        let Some(alert) = self.alerts.get_mut(alert_id) else {
            return;
        };
        let route = message_keys(alert).find(|(of, _)| of == key);
        let route = route.map_or_else(|| alert.route.clone(), |(_, route)| route);
        let is_new = self
            .outbox
            .break_notifier(&key.notifier, &format!("{reason} (route {route})"));
        let list = notifiers_of(alert, key.notice);
        let all_broken = list.iter().all(|name| self.outbox.is_broken(name));
        // An alert that fires while its notifier is known to be broken has gone around it already.
        if all_broken || (is_new && key.notice == 0 && !was_replaced) {
            let used = self.outbox.broken_notifiers().map(|(name, _)| name);
            let used: BTreeSet<&str> = list.iter().chain(used).map(String::as_str).collect();
            let other = self.policy.alternative_to(&key.notifier, &used);
            list.extend(other);
        }
        if is_new {
            let waits = |alert: &Alert| alert.notifiers.contains(&key.notifier);
            let waiting = self.alerts.values().filter(|alert| waits(alert));
            let waiting: Vec<_> = waiting.map(|alert| alert.id.clone()).collect();
            for id in waiting {
                self.changes.touch(&id);
            }
        }
    }

    /// What only broken notifiers would deliver takes another way at once: it does not wait for failures of its own.
    pub(super) fn go_around(&mut self, id: &str) {
        let Some(alert) = self.alerts.open_mut(id) else {
            return;
        };
        if alert.muted.is_some() || alert.part_of.is_some() {
            return;
        }
        let numbers: Vec<_> = alert.notices.iter().map(|notice| notice.number).collect();
        for number in iter::once(0).chain(numbers) {
            let is_delivered = alert
                .notifications
                .iter()
                .any(|(key, state)| key.notice == number && state.delivered_revision > 0);
            let list = notifiers_of(alert, number);
            let is_stuck = !list.is_empty() && list.iter().all(|name| self.outbox.is_broken(name));
            if is_stuck && !is_delivered {
                let used = self.outbox.broken_notifiers().map(|(name, _)| name);
                let used: BTreeSet<&str> = list.iter().chain(used).map(String::as_str).collect();
                let other = self.policy.alternative_to("", &used);
                list.extend(other);
            }
        }
    }
}

/// The notifiers of an alert's own message, or of one of its notices.
fn notifiers_of(alert: &mut Alert, notice: u32) -> &mut Vec<String> {
    match alert.notices.iter_mut().find(|of| of.number == notice) {
        Some(notice) => &mut notice.notifiers,
        None => &mut alert.notifiers,
    }
}
