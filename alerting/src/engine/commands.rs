//! Carries out commands: acknowledge, resolve, silence.

use revwatch_storage::ports::COMMANDS;

use super::{Engine, SILENCES, Watch, key_of};
use crate::alert::{AlertState, Command, CommandKind, Silence};
use crate::policy::silenced;
use crate::stage::Stage;

impl Engine {
    /// Carries out the command stored under `key`, deletes it and returns it. One that cannot be read is deleted too.
    pub(super) fn on_command(
        &mut self,
        key: &str,
        body: &str,
        now_s: i64,
    ) -> Result<Command, serde_json::Error> {
        self.changes.delete(COMMANDS, key);
        let command: Command = serde_json::from_str(body)?;
        let (by, at_s) = (command.by.as_str(), command.at_s.min(now_s));
        match &command.kind {
            CommandKind::Acknowledge { alert_id } => {
                for id in self.with_members(alert_id) {
                    self.acknowledge(&id, by, at_s, now_s);
                }
            }
            CommandKind::Resolve { alert_id } => {
                // Members first: a group resolves when they are resolved.
                for id in self.with_members(alert_id).into_iter().rev() {
                    self.dismiss(&id, by, now_s);
                }
            }
            // The clock of the process that stored the command may be ahead.
            CommandKind::Silence(silence) => {
                let silence = silence.at(now_s).unwrap_or_else(|| silence.clone());
                self.silence(silence, now_s);
            }
            CommandKind::Unsilence { silence_id } => {
                let silence = self.mutes.silence(silence_id);
                if let Some(silence) = silence.filter(|s| s.is_active(now_s)).cloned() {
                    let until_s = now_s;
                    let ended = Silence {
                        until_s,
                        ahead_until_s: None,
                        ..silence
                    };
                    self.silence(ended, now_s);
                }
            }
        }
        Ok(command)
    }

    /// Every silence that is kept, also ended ones.
    pub fn silences(&self) -> impl Iterator<Item = &Silence> {
        self.mutes.silences()
    }

    /// An alert and, if it is a group, its members after it.
    fn with_members(&self, id: &str) -> Vec<String> {
        let members = self.groups.members(id).cloned();
        std::iter::once(id.to_owned()).chain(members).collect()
    }

    fn acknowledge(&mut self, id: &str, by: &str, at_s: i64, now_s: i64) {
        let Some(mut alert) = self
            .alerts
            .get(id)
            .filter(|a| a.state == AlertState::Firing)
            .cloned()
        else {
            return;
        };
        self.record_transition(
            Some(&alert),
            &key_of(&alert),
            Stage::Firing,
            Stage::Acknowledged,
            Some(by),
        );
        self.clocks.stop(id, &alert.sla);
        self.groups.stop_waiting(&alert);
        alert.state = AlertState::Acknowledged;
        alert.acknowledged_s = Some(at_s.max(alert.fired_s));
        alert.acknowledged_by = Some(by.to_owned());
        self.clock(&alert, alert.acknowledged_s);
        alert
            .sla
            .upcoming
            .retain(|(_, kind)| !kind.asks_for_response());
        alert.revise(now_s);
        self.clocks.start(id, &alert.sla);
        self.alerts.insert(alert);
        self.changes.touch(id);
    }

    /// Resolves an alert for a person. It does not fire again until its rule has not held in between.
    fn dismiss(&mut self, id: &str, by: &str, now_s: i64) {
        let Some(alert) = self.alerts.open(id) else {
            return;
        };
        let key = key_of(alert);
        if alert.clear_since_s.is_some() {
            // The rule no longer holds. A dismissed watch would wait for an evaluation that says so once more.
            self.set_watch(key, None);
        } else if alert.group.is_none() {
            self.store_watch(&key, None);
            self.set_watch(key, Some(Watch::Dismissed));
        }
        self.resolve(id, None, now_s, Some(by));
    }

    pub(super) fn silence(&mut self, silence: Silence, now_s: i64) {
        self.changes.put(SILENCES, &silence.id, &silence);
        let matched: Vec<_> = self
            .alerts
            .values()
            .filter(|a| {
                !a.is_resolved() && a.muted.is_none() && silenced(a, [&silence], now_s).is_some()
            })
            .map(|a| a.id.clone())
            .collect();
        for id in matched {
            let mute = self
                .alerts
                .get(&id)
                .and_then(|a| silenced(a, [&silence], now_s));
            self.set_mute(&id, mute.as_ref(), now_s);
        }
        self.mutes.add_silence(silence);
    }
}
