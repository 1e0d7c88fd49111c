//! Whom a silence or another alert keeps from being told.

use super::Engine;
use crate::alert::{Alert, Mute};
use crate::policy::silenced;

impl Engine {
    /// New alerts may be muted; muted ones may be told again.
    pub(super) fn mute_and_unmute(&mut self, fired: &[String], now_s: i64) {
        let again: Vec<String> = if std::mem::take(&mut self.recheck_muted) {
            self.muted.iter().cloned().collect()
        } else {
            Vec::new()
        };
        let again = again.iter().map(|id| (id, false));
        for (id, is_new) in fired.iter().map(|id| (id, true)).chain(again) {
            let Some(alert) = self.alerts.get(id) else {
                continue;
            };
            let mute = if alert.is_over() && !is_new {
                None
            } else {
                self.mute_of(alert, now_s)
            };
            if alert.muted == mute {
                continue;
            }
            self.set_mute(id, mute.as_ref(), now_s);
        }
    }

    pub(super) fn mute_of(&self, alert: &Alert, now_s: i64) -> Option<Mute> {
        silenced(alert, self.silences.values(), now_s).or_else(|| {
            let rule = self.rules.named(&alert.rule)?;
            let account = alert.account()?;
            let by = rule
                .inhibited_by
                .iter()
                .filter_map(|by| self.inhibitors.get(&(by.clone(), account.to_owned())));
            by.flatten()
                .find(|id| **id != alert.id)
                .cloned()
                .map(Mute::Inhibited)
        })
    }

    pub(super) fn set_mute(&mut self, id: &str, mute: Option<&Mute>, now_s: i64) {
        let Some(alert) = self.alerts.get_mut(id) else {
            return;
        };
        let was_told = alert
            .notifications
            .values()
            .any(|p| p.delivered_revision > 0);
        alert.muted = mute.cloned();
        if mute.is_some() {
            self.muted.insert(id.to_owned());
            if let Some(waiting) = self
                .waiting
                .get_mut(&(alert.rule.clone(), alert.route.clone()))
            {
                waiting.remove(id);
            }
        } else {
            self.muted.remove(id);
            if !alert.is_over() && !was_told && alert.part_of.is_none() && alert.group.is_none() {
                // It is told now, as if it fired now: its clocks start when somebody can know of it.
                self.fired.push(id.to_owned());
            }
        }
        if was_told {
            alert.revise(now_s);
        }
        self.dirty.insert(id.to_owned());
    }

    /// Keeps track of alerts that explain others, and looks again at what they explained when they are over.
    pub(super) fn note_inhibitor(&mut self, alert: &Alert, fires: bool) {
        if !self.rules.is_inhibitor(&alert.rule) {
            return;
        }
        let Some(account) = alert.account() else {
            return;
        };
        let place = (alert.rule.clone(), account.to_owned());
        let alerts = self.inhibitors.entry(place.clone()).or_default();
        if fires {
            alerts.insert(alert.id.clone());
        } else {
            alerts.remove(&alert.id);
            if alerts.is_empty() {
                self.inhibitors.remove(&place);
            }
            self.recheck_muted = true;
        }
    }
}
