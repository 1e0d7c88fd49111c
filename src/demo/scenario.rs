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
    /// Nothing to do yet.
    Wait,
    /// This phase begins.
    Begin(Phase),
    /// All alerts have fired and resolved.
    Finish,
    /// An alert did not fire or resolve in time, for this reason.
    Fail(String),
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
enum Precondition {
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
const PHASES: [(Phase, f64, Precondition); 6] = [
    (Phase::History, 0.0, Precondition::Start),
    (Phase::BankIncident, 0.18, Precondition::Fired(PAST_DUE)),
    (Phase::ProviderDown, 0.36, Precondition::Fired(PAYOUTS)),
    (Phase::ProviderBack, 0.54, Precondition::Fired(CHARGES)),
    (Phase::BankBack, 0.66, Precondition::Resolved(CHARGES)),
    (Phase::CardsBack, 0.82, Precondition::Resolved(PAYOUTS)),
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
    pub fn on_alert(&mut self, id: &str, rule: &str, resolved: bool, elapsed_s: f64) {
        let times = self
            .alerts
            .entry(id.to_owned())
            .or_insert_with(|| AlertTimes {
                rule: rule.to_owned(),
                fired_s: elapsed_s,
                resolved_s: None,
            });
        if resolved {
            times.resolved_s.get_or_insert(elapsed_s);
        }
    }

    /// The action at `elapsed_s`.
    pub fn next(&mut self, elapsed_s: f64) -> Action {
        let (planned_s, precondition) = match PHASES.get(self.next) {
            Some((_, part, precondition)) => (part * self.length_s, *precondition),
            None => (self.length_s, Precondition::Resolved(PAST_DUE)),
        };
        let met = self.is_met(precondition);
        if met && self.next == PHASES.len() {
            return Action::Finish;
        }
        if met && elapsed_s >= planned_s {
            let phase = PHASES[self.next].0;
            self.next += 1;
            self.waiting_since_s = elapsed_s;
            return Action::Begin(phase);
        }
        if !met && elapsed_s > planned_s.max(self.waiting_since_s) + PHASE_TIMEOUT_S {
            let what = match precondition {
                Precondition::Start => "the start".to_owned(),
                Precondition::Fired(rule) => format!("the alert {rule} to fire"),
                Precondition::Resolved(rule) => format!("the alert {rule} to resolve"),
            };
            return Action::Fail(format!("timed out waiting for {what}"));
        }
        Action::Wait
    }

    /// Whether `rule` has fired and none of its alerts fires any more.
    pub fn is_resolved(&self, rule: &str) -> bool {
        self.has_fired(rule) && !self.firing().any(|firing| firing == rule)
    }

    /// The rules of firing alerts, one entry per alert.
    pub fn firing(&self) -> impl Iterator<Item = &str> {
        self.alerts
            .values()
            .filter(|times| times.resolved_s.is_none())
            .map(|times| times.rule.as_str())
    }

    /// All alerts, ordered by firing time.
    pub fn alerts(&self) -> Vec<&AlertTimes> {
        let mut alerts: Vec<_> = self.alerts.values().collect();
        alerts.sort_by(|a, b| a.fired_s.total_cmp(&b.fired_s));
        alerts
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
        self.alerts.values().any(|times| times.rule == rule)
    }

    fn is_met(&self, precondition: Precondition) -> bool {
        match precondition {
            Precondition::Start => true,
            Precondition::Fired(rule) => self.has_fired(rule),
            Precondition::Resolved(rule) => self.is_resolved(rule),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_waits_for_its_time_and_its_precondition() {
        let mut scenario = Scenario::new(100.0);
        assert_eq!(scenario.next(0.0), Action::Begin(Phase::History));
        assert_eq!(scenario.next(50.0), Action::Wait, "nothing has fired");
        scenario.on_alert("al_1", PAST_DUE, false, 50.0);
        assert_eq!(scenario.next(50.0), Action::Begin(Phase::BankIncident));
        scenario.on_alert("al_2", PAYOUTS, false, 51.0);
        assert_eq!(scenario.next(52.0), Action::Begin(Phase::ProviderDown));
        scenario.on_alert("al_3", CHARGES, false, 53.0);
        assert_eq!(scenario.next(53.5), Action::Wait, "too early");
        assert_eq!(scenario.next(54.0), Action::Begin(Phase::ProviderBack));
        assert_eq!(scenario.firing().count(), 3);
        scenario.on_alert("al_3", CHARGES, true, 60.0);
        assert_eq!(scenario.next(66.0), Action::Begin(Phase::BankBack));
        scenario.on_alert("al_2", PAYOUTS, true, 70.0);
        assert_eq!(scenario.next(82.0), Action::Begin(Phase::CardsBack));
        assert_eq!(scenario.missing(), ["past_due_share has not resolved"]);
        assert_eq!(scenario.next(83.0), Action::Wait);
        scenario.on_alert("al_1", PAST_DUE, true, 84.0);
        scenario.on_alert("al_1", PAST_DUE, true, 85.0);
        assert_eq!(scenario.next(85.0), Action::Finish);
        assert!(scenario.missing().is_empty());
        assert_eq!(scenario.alerts()[0].resolved_s, Some(84.0));
    }

    #[test]
    fn a_timeout_names_the_missing_alert() {
        let mut scenario = Scenario::new(10.0);
        assert_eq!(scenario.next(0.0), Action::Begin(Phase::History));
        assert_eq!(scenario.next(1.8 + PHASE_TIMEOUT_S), Action::Wait);
        let reason = "timed out waiting for the alert past_due_share to fire".to_owned();
        assert_eq!(scenario.next(1.9 + PHASE_TIMEOUT_S), Action::Fail(reason));
        assert_eq!(scenario.missing().len(), 3);
    }

    #[test]
    fn an_alert_that_fires_again_is_not_resolved() {
        let mut scenario = Scenario::new(10.0);
        scenario.on_alert("al_1", CHARGES, false, 1.0);
        scenario.on_alert("al_1", CHARGES, true, 2.0);
        assert!(scenario.is_resolved(CHARGES));
        scenario.on_alert("al_2", CHARGES, false, 3.0);
        assert!(!scenario.is_resolved(CHARGES));
    }
}
