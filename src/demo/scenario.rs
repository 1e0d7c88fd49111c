//! The play: which beat comes when. Pure: what was seen and the elapsed time in, a cue out.
//!
//! Invariant: a beat begins when its hour has come *and* what it waits for has been seen; nothing
//! is hoped for. What does not happen within [`PATIENCE_S`] ends the play with a reason.

use std::collections::BTreeMap;

/// One part of the play.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    /// Four days of business arrive; many subscriptions are past due.
    History,
    /// A bank returns payouts.
    BankIncident,
    /// The largest provider loses its charges.
    ProviderDown,
    /// It gets them back.
    ProviderBack,
    /// Payouts arrive again.
    BankBack,
    /// Past-due subscriptions pay.
    CardsBack,
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cue {
    /// Nothing new.
    Hold,
    /// This beat begins.
    Begin(Beat),
    /// Everything has been seen.
    Finish,
    /// Something did not happen; the text says what.
    GiveUp(String),
}

/// See the module.
pub struct Scenario {
    length_s: f64,
    /// The beat of [`BEATS`] that comes next.
    next: usize,
    /// When that beat began to be waited for.
    waiting_since_s: f64,
    alerts: BTreeMap<String, Life>,
}

/// One alert, in seconds since the start.
#[derive(Debug, Clone, PartialEq)]
pub struct Life {
    /// The rule's name.
    pub rule: String,
    /// Told.
    pub fired_s: f64,
    /// Told to be over.
    pub resolved_s: Option<f64>,
}

#[derive(Debug, Clone, Copy)]
enum Until {
    Start,
    Fired(&'static str),
    Resolved(&'static str),
}

/// How long past its time a beat is waited for.
pub const PATIENCE_S: f64 = 60.0;

const PAST_DUE: &str = "past_due_share";
const PAYOUTS: &str = "payout_failure_rate";
const CHARGES: &str = "provider_lost_charges";

/// The rules that must fire and resolve.
pub const RULES: [&str; 3] = [PAST_DUE, PAYOUTS, CHARGES];

/// Each beat, its time as a part of the whole length, and what must have been seen before.
const BEATS: [(Beat, f64, Until); 6] = [
    (Beat::History, 0.0, Until::Start),
    (Beat::BankIncident, 0.18, Until::Fired(PAST_DUE)),
    (Beat::ProviderDown, 0.36, Until::Fired(PAYOUTS)),
    (Beat::ProviderBack, 0.54, Until::Fired(CHARGES)),
    (Beat::BankBack, 0.66, Until::Resolved(CHARGES)),
    (Beat::CardsBack, 0.82, Until::Resolved(PAYOUTS)),
];

impl Scenario {
    /// A play of about `length_s` seconds.
    pub fn new(length_s: f64) -> Self {
        Self {
            length_s,
            next: 0,
            waiting_since_s: 0.0,
            alerts: BTreeMap::new(),
        }
    }

    /// An alert was told: it fires, or it is over. The same may be told again.
    pub fn on_alert(&mut self, id: &str, rule: &str, over: bool, elapsed_s: f64) {
        let life = self.alerts.entry(id.to_owned()).or_insert_with(|| Life {
            rule: rule.to_owned(),
            fired_s: elapsed_s,
            resolved_s: None,
        });
        if over {
            life.resolved_s.get_or_insert(elapsed_s);
        }
    }

    /// What to do at `elapsed_s`.
    pub fn next(&mut self, elapsed_s: f64) -> Cue {
        let (planned_s, until) = match BEATS.get(self.next) {
            Some((_, part, until)) => (part * self.length_s, *until),
            None => (self.length_s, Until::Resolved(PAST_DUE)),
        };
        let seen = self.has_seen(until);
        if seen && self.next == BEATS.len() {
            return Cue::Finish;
        }
        if seen && elapsed_s >= planned_s {
            let beat = BEATS[self.next].0;
            self.next += 1;
            self.waiting_since_s = elapsed_s;
            return Cue::Begin(beat);
        }
        if !seen && elapsed_s > planned_s.max(self.waiting_since_s) + PATIENCE_S {
            let what = match until {
                Until::Start => "the start".to_owned(),
                Until::Fired(rule) => format!("the alert {rule} to fire"),
                Until::Resolved(rule) => format!("the alert {rule} to resolve"),
            };
            return Cue::GiveUp(format!("waited in vain for {what}"));
        }
        Cue::Hold
    }

    /// Whether `rule` has fired and nothing of it fires any more.
    pub fn is_resolved(&self, rule: &str) -> bool {
        self.has_fired(rule) && !self.firing().any(|firing| firing == rule)
    }

    /// Rules whose alerts fire, one entry per alert.
    pub fn firing(&self) -> impl Iterator<Item = &str> {
        self.alerts
            .values()
            .filter(|life| life.resolved_s.is_none())
            .map(|life| life.rule.as_str())
    }

    /// All alerts, by the time of firing.
    pub fn alerts(&self) -> Vec<&Life> {
        let mut lives: Vec<_> = self.alerts.values().collect();
        lives.sort_by(|a, b| a.fired_s.total_cmp(&b.fired_s));
        lives
    }

    /// Of [`RULES`], what has not fired, or not resolved.
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
    fn a_beat_waits_for_its_hour_and_for_what_it_needs() {
        let mut play = Scenario::new(100.0);
        assert_eq!(play.next(0.0), Cue::Begin(Beat::History));
        assert_eq!(play.next(50.0), Cue::Hold, "nothing has fired");
        play.on_alert("al_1", PAST_DUE, false, 50.0);
        assert_eq!(play.next(50.0), Cue::Begin(Beat::BankIncident));
        play.on_alert("al_2", PAYOUTS, false, 51.0);
        assert_eq!(play.next(52.0), Cue::Begin(Beat::ProviderDown));
        play.on_alert("al_3", CHARGES, false, 53.0);
        assert_eq!(play.next(53.5), Cue::Hold, "too early");
        assert_eq!(play.next(54.0), Cue::Begin(Beat::ProviderBack));
        assert_eq!(play.firing().count(), 3);
        play.on_alert("al_3", CHARGES, true, 60.0);
        assert_eq!(play.next(66.0), Cue::Begin(Beat::BankBack));
        play.on_alert("al_2", PAYOUTS, true, 70.0);
        assert_eq!(play.next(82.0), Cue::Begin(Beat::CardsBack));
        assert_eq!(play.missing(), ["past_due_share has not resolved"]);
        assert_eq!(play.next(83.0), Cue::Hold);
        play.on_alert("al_1", PAST_DUE, true, 84.0);
        play.on_alert("al_1", PAST_DUE, true, 85.0);
        assert_eq!(play.next(85.0), Cue::Finish);
        assert!(play.missing().is_empty());
        assert_eq!(play.alerts()[0].resolved_s, Some(84.0));
    }

    #[test]
    fn what_never_happens_is_named() {
        let mut play = Scenario::new(10.0);
        assert_eq!(play.next(0.0), Cue::Begin(Beat::History));
        assert_eq!(play.next(1.8 + PATIENCE_S), Cue::Hold);
        let reason = "waited in vain for the alert past_due_share to fire".to_owned();
        assert_eq!(play.next(1.9 + PATIENCE_S), Cue::GiveUp(reason));
        assert_eq!(play.missing().len(), 3);
    }

    #[test]
    fn an_alert_that_fires_anew_is_not_over() {
        let mut play = Scenario::new(10.0);
        play.on_alert("al_1", CHARGES, false, 1.0);
        play.on_alert("al_1", CHARGES, true, 2.0);
        assert!(play.is_resolved(CHARGES));
        play.on_alert("al_2", CHARGES, false, 3.0);
        assert!(!play.is_resolved(CHARGES));
    }
}
