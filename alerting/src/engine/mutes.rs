//! Silences, and the alerts that inhibit others.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::alert::{Alert, Mute, Silence};
use crate::policy::silenced;

/// Silences, and the alerts that inhibit others.
pub(super) struct Mutes {
    silences: BTreeMap<String, Silence>,
    /// Unix second up to which the ends of silences were noticed.
    silences_checked_s: i64,
    /// Alerts that fire and inhibit others, by rule and account.
    inhibitors: HashMap<(String, String), BTreeSet<String>>,
    /// Alerts that are muted.
    muted: BTreeSet<String>,
    /// Whether the reason of some of them may have ended.
    recheck: bool,
}

/// So many silences that have ended are kept. Not for a time: a clock that was ahead for a moment would take away those
/// that go on once it is right.
const ENDED_SILENCES_KEPT: usize = 1000;

impl Mutes {
    /// Nothing is silenced yet. What was muted before is checked first: silences may have ended since.
    pub fn new() -> Self {
        Self {
            silences: BTreeMap::new(),
            silences_checked_s: 0,
            inhibitors: HashMap::new(),
            muted: BTreeSet::new(),
            recheck: true,
        }
    }

    /// Why no message of `alert` is sent now. `inhibited_by` are the rules that inhibit its own; `may_inhibit` is
    /// asked of each alert of these.
    pub fn reason(
        &self,
        alert: &Alert,
        inhibited_by: &[String],
        now_s: i64,
        may_inhibit: impl Fn(&str) -> bool,
    ) -> Option<Mute> {
        silenced(alert, self.silences.values(), now_s).or_else(|| {
            let account = alert.account()?;
            let by = inhibited_by
                .iter()
                .filter_map(|by| self.inhibitors.get(&(by.clone(), account.to_owned())));
            by.flatten()
                .find(|id| **id != alert.id && may_inhibit(id))
                .cloned()
                .map(Mute::Inhibited)
        })
    }

    /// Notes whether an alert is muted.
    pub fn set(&mut self, id: &str, is_muted: bool) {
        if is_muted {
            self.muted.insert(id.to_owned());
        } else {
            self.muted.remove(id);
        }
    }

    /// The muted alerts, if the reason of some of them may have ended since the last call.
    pub fn take_recheck(&mut self) -> Vec<String> {
        if std::mem::take(&mut self.recheck) {
            self.muted.iter().cloned().collect()
        } else {
            Vec::new()
        }
    }

    /// An alert may inhibit others no longer.
    pub fn recheck(&mut self) {
        self.recheck = true;
    }

    /// Adds or replaces a silence.
    pub fn add_silence(&mut self, silence: Silence) {
        self.silences.insert(silence.id.clone(), silence);
        self.recheck = true;
    }

    pub fn silence(&self, id: &str) -> Option<&Silence> {
        self.silences.get(id)
    }

    pub fn silences(&self) -> impl Iterator<Item = &Silence> {
        self.silences.values()
    }

    /// Silences of which something else has to be stored, because a clock was or is wrong.
    pub fn changed_by_clock(&self, now_s: i64) -> Vec<Silence> {
        let silences = self.silences.values();
        silences.filter_map(|silence| silence.at(now_s)).collect()
    }

    /// Time passes: silences end. Returns those that are no longer kept.
    pub fn on_time(&mut self, now_s: i64) -> Vec<String> {
        let since_s = std::mem::replace(&mut self.silences_checked_s, now_s);
        let has_ended = |silence: &Silence| since_s < silence.until_s && silence.until_s <= now_s;
        self.recheck |= self.silences.values().any(has_ended);
        let ended = self.silences.values().filter(|it| it.until_s <= now_s);
        if ended.clone().count() <= ENDED_SILENCES_KEPT {
            return Vec::new();
        }
        let mut ended: Vec<_> = ended.map(|it| (it.until_s, it.id.clone())).collect();
        ended.sort();
        let surplus = ended.len() - ENDED_SILENCES_KEPT;
        let old: Vec<String> = ended.into_iter().take(surplus).map(|(_, id)| id).collect();
        for id in &old {
            self.silences.remove(id);
        }
        old
    }

    /// An alert fires that inhibits others of its account.
    pub fn add_inhibitor(&mut self, alert: &Alert) {
        if let Some(account) = alert.account() {
            let place = (alert.rule.clone(), account.to_owned());
            let alerts = self.inhibitors.entry(place).or_default();
            alerts.insert(alert.id.clone());
        }
    }

    /// It fires no longer: what it inhibited is checked again.
    pub fn remove_inhibitor(&mut self, alert: &Alert) {
        let Some(account) = alert.account() else {
            return;
        };
        let place = (alert.rule.clone(), account.to_owned());
        if let Some(alerts) = self.inhibitors.get_mut(&place) {
            alerts.remove(&alert.id);
            if alerts.is_empty() {
                self.inhibitors.remove(&place);
            }
        }
        self.recheck = true;
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::rules;
    use super::*;
    use crate::alert::{Evidence, Matcher, Subject};

    fn alert(id: &str, rule: &str) -> Alert {
        let rules = rules();
        let rule = rules.iter().find(|r| r.name == rule).expect("a rule");
        let evidence = Evidence {
            account: Some("acct_1".into()),
            ..Evidence::default()
        };
        let alert = Alert::fire(rule, &Subject::Business, 0, 0, evidence);
        Alert {
            id: id.into(),
            ..alert
        }
    }

    fn silence(until_s: i64) -> Silence {
        let matches = Matcher {
            rule: Some("payout".into()),
            ..Matcher::default()
        };
        Silence {
            id: "s".into(),
            matches,
            from_s: 0,
            until_s,
            ahead_until_s: None,
            by: "ana".into(),
            reason: String::new(),
        }
    }

    #[test]
    fn a_mute_has_a_reason_and_a_silence_comes_first() {
        let mut mutes = Mutes::new();
        let (payout, lost) = (alert("al_payout", "payout"), alert("al_lost", "lost"));
        let by = ["lost".to_owned()];
        assert_eq!(mutes.reason(&payout, &by, 5, |_| true), None);
        mutes.add_inhibitor(&lost);
        let inhibited = Some(Mute::Inhibited("al_lost".into()));
        assert_eq!(mutes.reason(&payout, &by, 5, |_| true), inhibited);
        assert_eq!(mutes.reason(&payout, &[], 5, |_| true), None);
        assert_eq!(
            mutes.reason(&lost, &by, 5, |_| true),
            None,
            "none inhibits itself"
        );
        mutes.add_silence(silence(10));
        let silenced = Some(Mute::Silence("s".into()));
        assert_eq!(mutes.reason(&payout, &by, 9, |_| true), silenced);
        assert_eq!(mutes.reason(&payout, &by, 10, |_| true), inhibited);
        mutes.remove_inhibitor(&lost);
        assert_eq!(mutes.reason(&payout, &by, 10, |_| true), None);
    }

    #[test]
    fn muted_alerts_are_checked_again_when_a_reason_may_have_ended() {
        let mut mutes = Mutes::new();
        mutes.set("al_1", true);
        assert_eq!(mutes.take_recheck(), ["al_1"], "after a restart");
        assert!(mutes.take_recheck().is_empty());
        mutes.remove_inhibitor(&alert("al_lost", "lost"));
        assert_eq!(mutes.take_recheck(), ["al_1"]);
        mutes.add_silence(silence(10));
        assert_eq!(mutes.take_recheck(), ["al_1"]);
        assert!(mutes.on_time(9).is_empty() && mutes.take_recheck().is_empty());
        assert!(mutes.on_time(10).is_empty());
        assert_eq!(mutes.take_recheck(), ["al_1"]);
        mutes.set("al_1", false);
        assert!(mutes.on_time(i64::MAX).is_empty(), "a clock may be ahead");
        for n in 0..ENDED_SILENCES_KEPT {
            mutes.add_silence(Silence {
                id: format!("later {n}"),
                ..silence(20)
            });
        }
        assert!(mutes.on_time(19).is_empty(), "the others go on");
        assert_eq!(mutes.on_time(20), ["s"]);
        assert!(mutes.silence("s").is_none());
    }
}
