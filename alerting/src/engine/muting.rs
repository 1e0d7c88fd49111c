//! Mutes and unmutes alerts as silences and other alerts begin and end.

use super::Engine;
use crate::alert::{Alert, Mute, Sla};

impl Engine {
    /// New alerts may be muted; muted ones may be delivered again.
    pub(super) fn mute_and_unmute(&mut self, fired: &[String], now_s: i64) {
        let again = self.mutes.take_recheck();
        let again = again.iter().map(|id| (id, false));
        for (id, is_new) in fired.iter().map(|id| (id, true)).chain(again) {
            // One that resolved while it was muted stays so: it is not sent late.
            if is_new || self.alerts.open(id).is_some() {
                self.decide_mute(id, now_s);
            }
        }
    }

    /// Mutes or unmutes an alert if there is a reason.
    pub(super) fn decide_mute(&mut self, id: &str, now_s: i64) {
        let Some(alert) = self.alerts.get(id) else {
            return;
        };
        let mute = self.mute_reason(alert, now_s);
        if alert.muted != mute {
            self.set_mute(id, mute.as_ref(), now_s);
        }
    }

    pub(super) fn set_mute(&mut self, id: &str, mute: Option<&Mute>, now_s: i64) {
        let Some(alert) = self.alerts.get_mut(id) else {
            return;
        };
        let was_delivered = alert
            .notifications
            .values()
            .any(|p| p.delivered_revision > 0);
        alert.muted = mute.cloned();
        self.mutes.set(id, mute.is_some());
        if mute.is_none() && !was_delivered {
            // Its clocks start again: what they caused before is not due, unless it may have arrived.
            let Alert {
                notices,
                notifications,
                ..
            } = alert;
            let may_have_arrived = |number: u32| {
                let mut attempts = notifications.iter().filter(|(key, _)| key.notice == number);
                attempts.any(|(_, state)| state.attempting_revision.is_some())
            };
            notices.retain(|it| may_have_arrived(it.number));
            let is_due = |number: u32| notices.iter().any(|it| it.number == number);
            notifications.retain(|key, _| key.notice == 0 || is_due(key.notice));
        }
        if mute.is_some() {
            self.groups.stop_waiting(alert);
        } else if !alert.is_resolved()
            && (!was_delivered || alert.sla == Sla::default())
            && alert.part_of.is_none()
            && alert.group.is_none()
        {
            // It is delivered now, as if it fired now: its clocks start when a person can know of it. One that was
            // delivered and has no clocks was wrong already: it joins the digest now, or has become an ordinary one.
            self.changes.fire(id);
        } else if !alert.is_resolved()
            && !was_delivered
            && alert.group.is_some()
            && !alert.is_digest()
            && let Some(rule) = self.rules.named(&alert.rule)
        {
            self.clocks.stop(id, &alert.sla);
            self.policy.apply(alert, rule, now_s);
            self.clocks.start(id, &alert.sla);
        }
        if was_delivered {
            alert.revise(now_s);
        }
        self.changes.touch(id);
    }

    fn mute_reason(&self, alert: &Alert, now_s: i64) -> Option<Mute> {
        let rule = self.rules.named(&alert.rule);
        let inhibited_by = rule.map_or(&[][..], |rule| &rule.inhibited_by);
        // People have no message of their own about what was wrong already: it does not stand for what is news.
        let may_inhibit = |id: &str| {
            let inhibitor = self.alerts.get(id);
            alert.pre_existing || !inhibitor.is_some_and(|inhibitor| inhibitor.pre_existing)
        };
        self.mutes.reason(alert, inhibited_by, now_s, may_inhibit)
    }

    /// Keeps track of the alerts that inhibit others.
    pub(super) fn note_inhibitor(&mut self, alert: &Alert, fires: bool) {
        if !self.rules.is_inhibitor(&alert.rule) {
            return;
        }
        if fires {
            self.mutes.add_inhibitor(alert);
        } else {
            self.mutes.remove_inhibitor(alert);
        }
    }
}
