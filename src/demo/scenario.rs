//! The scenario: the order and timing of its phases. Pure: observed alerts and the elapsed time in,
//! the next action out.
//!
//! Invariant: a phase begins when its time has come *and* its precondition has been observed. If
//! that takes longer than [`PHASE_TIMEOUT_S`], the scenario ends with a reason.

use std::collections::BTreeMap;

/// One phase of the scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Four days of business arrive; many subscriptions are past due.
    History,
    /// A bank returns payouts.
    BankIncident,
    /// The largest provider loses the right to take charges.
    ProviderDown,
    /// It regains the right.
    ProviderBack,
    /// Payouts succeed again.
    BankBack,
    /// Past-due subscriptions pay.
    CardsBack,
}

/// The next action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Nothing new.
    Hold,
    /// This phase begins.
    Begin(Phase),
    /// Everything was observed.
    Finish,
    /// Something did not happen; the text says what.
    GiveUp(String),
}

/// The state of the scenario.
pub struct Scenario {
    length_s: f64,
    /// The next phase of [`PHASES`].
    next: usize,
    /// Since when that phase is due.
    waiting_since_s: f64,
    alerts: BTreeMap<String, AlertTimes>,
}

/// The times of one alert, in seconds since the start.
#[derive(Debug, Clone, PartialEq)]
pub struct AlertTimes {
    /// The rule's name.
    pub rule: String,
    /// When it fired.
    pub fired_s: f64,
    /// When it resolved.
    pub resolved_s: Option<f64>,
}

#[derive(Debug, Clone, Copy)]
enum Until {
    Start,
    Fired(&'static str),
    Resolved(&'static str),
}

/// How long a due phase may wait for its precondition.
pub const PHASE_TIMEOUT_S: f64 = 60.0;

const PAST_DUE: &str = "past_due_share";
const PAYOUTS: &str = "payout_failure_rate";
const CHARGES: &str = "provider_lost_charges";

/// The rules that must fire and resolve.
pub const RULES: [&str; 3] = [PAST_DUE, PAYOUTS, CHARGES];

/// Each phase, its time as a fraction of the total length, and its precondition.
const PHASES: [(Phase, f64, Until); 6] = [
    (Phase::History, 0.0, Until::Start),
    (Phase::BankIncident, 0.18, Until::Fired(PAST_DUE)),
    (Phase::ProviderDown, 0.36, Until::Fired(PAYOUTS)),
    (Phase::ProviderBack, 0.54, Until::Fired(CHARGES)),
    (Phase::BankBack, 0.66, Until::Resolved(CHARGES)),
    (Phase::CardsBack, 0.82, Until::Resolved(PAYOUTS)),
];

impl Scenario {
    /// A scenario of about `length_s` seconds.
    pub fn new(length_s: f64) -> Self {
        Self {
            length_s,
            next: 0,
            waiting_since_s: 0.0,
            alerts: BTreeMap::new(),
        }
    }

    /// Records that an alert fired or resolved. Repeats are ignored.
    pub fn on_alert(&mut self, id: &str, rule: &str, over: bool, elapsed_s: f64) {
        let life = self
            .alerts
            .entry(id.to_owned())
            .or_insert_with(|| AlertTimes {
                rule: rule.to_owned(),
                fired_s: elapsed_s,
                resolved_s: None,
            });
        if over {
            life.resolved_s.get_or_insert(elapsed_s);
        }
    }

    /// The action at `elapsed_s`.
    pub fn next(&mut self, elapsed_s: f64) -> Action {
        let (planned_s, until) = match PHASES.get(self.next) {
            Some((_, part, until)) => (part * self.length_s, *until),
            None => (self.length_s, Until::Resolved(PAST_DUE)),
        };
        let seen = self.has_seen(until);
        if seen && self.next == PHASES.len() {
            return Action::Finish;
        }
        if seen && elapsed_s >= planned_s {
            let phase = PHASES[self.next].0;
            self.next += 1;
            self.waiting_since_s = elapsed_s;
            return Action::Begin(phase);
        }
        if !seen && elapsed_s > planned_s.max(self.waiting_since_s) + PHASE_TIMEOUT_S {
            let what = match until {
                Until::Start => "the start".to_owned(),
                Until::Fired(rule) => format!("the alert {rule} to fire"),
                Until::Resolved(rule) => format!("the alert {rule} to resolve"),
            };
            return Action::GiveUp(format!("timed out waiting for {what}"));
        }
        Action::Hold
    }

    /// Whether `rule` has fired and none of its alerts fires any more.
    pub fn is_resolved(&self, rule: &str) -> bool {
        self.has_fired(rule) && !self.firing().any(|firing| firing == rule)
    }

    /// The rules of firing alerts, one entry per alert.
    pub fn firing(&self) -> impl Iterator<Item = &str> {
        self.alerts
            .values()
            .filter(|life| life.resolved_s.is_none())
            .map(|life| life.rule.as_str())
    }

    /// All alerts, ordered by firing time.
    pub fn alerts(&self) -> Vec<&AlertTimes> {
        let mut lives: Vec<_> = self.alerts.values().collect();
        lives.sort_by(|a, b| a.fired_s.total_cmp(&b.fired_s));
        lives
    }

    /// The rules of [`RULES`] that have not fired or not resolved.
    pub fn missing(&self) -> Vec<String> {
        RULES
            .iter()
            .filter(|rule| !self.is_resolved(rule))
            .map(|rule| {
                format!(
                    "{rule} has not {}",
                    if self.has_fired(rule) {
                        "resolved"
                    } else {
                        "fired"
                    }
                )
            })
            .collect()
    }

    fn has_fired(&self, rule: &str) -> bool {
        self.alerts.values().any(|life| life.rule == rule)
    }

    fn has_seen(&self, until: Until) -> bool {
        match until {
            Until::Start => true,
            Until::Fired(rule) => self.has_fired(rule),
            Until::Resolved(rule) => self.is_resolved(rule),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_waits_for_its_time_and_its_precondition() {
        let mut play = Scenario::new(100.0);
        assert_eq!(play.next(0.0), Action::Begin(Phase::History));
        assert_eq!(play.next(50.0), Action::Hold, "nothing has fired");
        play.on_alert("al_1", PAST_DUE, false, 50.0);
        assert_eq!(play.next(50.0), Action::Begin(Phase::BankIncident));
        play.on_alert("al_2", PAYOUTS, false, 51.0);
        assert_eq!(play.next(52.0), Action::Begin(Phase::ProviderDown));
        play.on_alert("al_3", CHARGES, false, 53.0);
        assert_eq!(play.next(53.5), Action::Hold, "too early");
        assert_eq!(play.next(54.0), Action::Begin(Phase::ProviderBack));
        assert_eq!(play.firing().count(), 3);
        play.on_alert("al_3", CHARGES, true, 60.0);
        assert_eq!(play.next(66.0), Action::Begin(Phase::BankBack));
        play.on_alert("al_2", PAYOUTS, true, 70.0);
        assert_eq!(play.next(82.0), Action::Begin(Phase::CardsBack));
        assert_eq!(play.missing(), ["past_due_share has not resolved"]);
        assert_eq!(play.next(83.0), Action::Hold);
        play.on_alert("al_1", PAST_DUE, true, 84.0);
        play.on_alert("al_1", PAST_DUE, true, 85.0);
        assert_eq!(play.next(85.0), Action::Finish);
        assert!(play.missing().is_empty());
        assert_eq!(play.alerts()[0].resolved_s, Some(84.0));
    }

    #[test]
    fn a_timeout_names_the_missing_alert() {
        let mut play = Scenario::new(10.0);
        assert_eq!(play.next(0.0), Action::Begin(Phase::History));
        assert_eq!(play.next(1.8 + PHASE_TIMEOUT_S), Action::Hold);
        let reason = "timed out waiting for the alert past_due_share to fire".to_owned();
        assert_eq!(play.next(1.9 + PHASE_TIMEOUT_S), Action::GiveUp(reason));
        assert_eq!(play.missing().len(), 3);
    }

    #[test]
    fn an_alert_that_fires_again_is_not_resolved() {
        let mut play = Scenario::new(10.0);
        play.on_alert("al_1", CHARGES, false, 1.0);
        play.on_alert("al_1", CHARGES, true, 2.0);
        assert!(play.is_resolved(CHARGES));
        play.on_alert("al_2", CHARGES, false, 3.0);
        assert!(!play.is_resolved(CHARGES));
    }
}
