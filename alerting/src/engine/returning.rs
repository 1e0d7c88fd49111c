//! Problems that come and go: an alert that has just resolved returns.

use super::message_updates::message_keys;
use super::{Engine, Watch, WatchKey};
use crate::alert::{Alert, AlertState, MessageKey};
use crate::phase::Phase;
use crate::stage::Stage;

impl Engine {
    /// `alert` fires. If the last one about the same problem has just resolved, and its messages can say so, that one
    /// returns instead.
    pub(super) fn fire_or_return(
        &mut self,
        key: WatchKey,
        before: Phase,
        mut alert: Alert,
        now_s: i64,
    ) {
        let last = self.alerts.last_resolved(&key).filter(|last| {
            let until_s = self.rules.may_return_until_s(last);
            until_s.is_some_and(|until_s| now_s < until_s)
        });
        let Some(last) = last.cloned() else {
            self.fire(key, before, alert);
            return;
        };
        // It stays for a while, so that it does not come and go with the problem.
        alert.returned_s = Some(now_s);
        // A member has no messages of its own, and what was wrong already had none.
        let is_single = last.part_of.is_none() && !last.pre_existing;
        if !is_single || self.has_open_resolution(&last) {
            self.fire(key, before, alert);
            return;
        }
        self.return_as(key, last, alert, now_s);
    }

    /// `last` is open again, with what `new` shows.
    fn return_as(&mut self, key: WatchKey, last: Alert, new: Alert, now_s: i64) {
        let id = last.id.clone();
        let mut alert = Alert {
            state: match last.acknowledged_s {
                Some(_) => AlertState::Acknowledged,
                None => AlertState::Firing,
            },
            resolved_s: None,
            clear_since_s: None,
            since_s: new.since_s,
            evidence: new.evidence,
            returned_s: new.returned_s,
            ..last
        };
        self.record_transition(
            Some(&alert),
            &key,
            Stage::Resolved,
            alert.state.into(),
            None,
        );
        // Where a message cannot be changed, people were notified that it is over: they are notified again.
        let policy = &self.policy;
        let edits = |name: &str| policy.capabilities(name).is_some_and(|it| it.edits);
        alert
            .notifications
            .retain(|key, _| key.notice > 0 || edits(&key.notifier));
        // What fell due while it was resolved was no breach.
        alert.sla.upcoming.retain(|(at_s, _)| *at_s > now_s);
        alert.revise(now_s);
        self.set_watch(
            key,
            Some(Watch::Firing {
                alert_id: id.clone(),
            }),
        );
        self.note_inhibitor(&alert, true);
        self.clocks.start(&id, &alert.sla);
        self.changes.touch(&id);
        self.alerts.insert(alert);
        self.decide_mute(&id, now_s);
    }

    /// Whether an attempt that says that it is over has no outcome yet, where that cannot be changed.
    fn has_open_resolution(&self, alert: &Alert) -> bool {
        let cannot_change = |key: &MessageKey| {
            let capabilities = self.policy.capabilities(&key.notifier);
            key.notice == 0 && !capabilities.is_some_and(|it| it.edits)
        };
        let is_open = |key: &MessageKey| {
            let state = alert.notifications.get(key);
            self.outbox.is_in_flight(&alert.id, key)
                || state.is_some_and(|it| it.attempting_revision.is_some())
        };
        message_keys(alert).any(|(key, _)| cannot_change(&key) && is_open(&key))
    }
}
