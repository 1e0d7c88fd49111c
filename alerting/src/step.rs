//! The life of an alert, as a pure function: state, reading and `now` in, new state and effects out.

use revwatch_shared::entity::EntityKey;

use crate::alert::{Alert, AlertState};
use crate::reading::Reading;
use crate::rule::Rule;

/// What is remembered of one rule and one subject between evaluations.
#[derive(Debug, Clone, PartialEq)]
pub enum Watch {
    /// Nothing is the matter.
    Idle,
    /// It has held since this Unix second, not yet for long enough.
    Pending {
        /// Unix seconds.
        since_s: i64,
    },
    /// It fires.
    Firing(Box<Alert>),
}

/// What an evaluation causes.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// A new alert, to be stored and told.
    Fired(Box<Alert>),
    /// The alert's particulars changed; to be stored, and told if its revision grew.
    Changed(Box<Alert>),
    /// The alert is over; to be stored and told.
    Resolved(Box<Alert>),
}

/// One step of `rule` for one subject.
///
/// Invariant: what is unknown neither fires nor resolves.
pub fn step(
    rule: &Rule,
    subject: Option<&EntityKey>,
    watch: Watch,
    reading: Reading,
    now_s: i64,
) -> (Watch, Vec<Effect>) {
    match (watch, reading) {
        (watch, Reading::Unknown) => (watch, Vec::new()),
        (Watch::Idle | Watch::Pending { .. }, Reading::Clear { .. } | Reading::Between) => (Watch::Idle, Vec::new()),
        (before @ (Watch::Idle | Watch::Pending { .. }), Reading::Breached { since_s, evidence }) => {
            let holding_since_s = match before {
                Watch::Pending { since_s } => since_s,
                _ => now_s,
            };
            if now_s - holding_since_s < rule.for_s {
                return (Watch::Pending { since_s: holding_since_s }, Vec::new());
            }
            let alert = Box::new(Alert::fire(rule, subject.cloned(), since_s, now_s, evidence));
            (Watch::Firing(alert.clone()), vec![Effect::Fired(alert)])
        }
        (Watch::Firing(mut alert), Reading::Breached { evidence, .. }) => {
            alert.last_held_s = now_s;
            // What the message shows moves with every event; readers are told when it fires and when it
            // is over, not at every tick.
            if alert.evidence == evidence {
                return (Watch::Firing(alert), Vec::new());
            }
            alert.evidence = evidence;
            (Watch::Firing(alert.clone()), vec![Effect::Changed(alert)])
        }
        (Watch::Firing(mut alert), Reading::Between) => {
            alert.last_held_s = now_s;
            (Watch::Firing(alert), Vec::new())
        }
        (Watch::Firing(mut alert), Reading::Clear { evidence }) => {
            if now_s - alert.last_held_s < rule.keep_firing_for_s {
                return (Watch::Firing(alert), Vec::new());
            }
            alert.evidence = evidence.unwrap_or(alert.evidence);
            (Watch::Idle, vec![Effect::Resolved(Box::new(resolve(*alert, now_s)))])
        }
    }
}

/// Ends an alert, whatever its rule would say (the rule may be gone).
pub fn resolve(mut alert: Alert, now_s: i64) -> Alert {
    alert.state = AlertState::Resolved;
    alert.resolved_s = Some(now_s);
    alert.revision += 1;
    alert
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::Evidence;

    fn rule(for_s: i64, keep_firing_for_s: i64) -> Rule {
        let rule = crate::rule::built_in().expect("valid").remove(0);
        Rule { for_s, keep_firing_for_s, ..rule }
    }

    fn breached() -> Reading {
        Reading::Breached { since_s: 5, evidence: Evidence::default() }
    }

    fn clear() -> Reading {
        Reading::Clear { evidence: None }
    }

    /// Feeds readings at times and notes what happens: F(ired), C(hanged), R(esolved), p(ending), - (idle), f(iring).
    fn check(rule: &Rule, readings: &[(i64, Reading)], expected: &str) {
        let mut watch = Watch::Idle;
        let mut log = String::new();
        for (now_s, reading) in readings {
            let (next, effects) = step(rule, None, watch, reading.clone(), *now_s);
            log.push(match (effects.as_slice(), &next) {
                ([Effect::Fired(_)], Watch::Firing(_)) => 'F',
                ([Effect::Changed(_)], Watch::Firing(_)) => 'C',
                ([Effect::Resolved(_)], Watch::Idle) => 'R',
                ([], Watch::Pending { .. }) => 'p',
                ([], Watch::Idle) => '-',
                ([], Watch::Firing(_)) => 'f',
                other => panic!("{other:?}"),
            });
            watch = next;
        }
        assert_eq!(log, expected, "{readings:?}");
    }

    #[test]
    fn fires_at_once_and_resolves_when_clear_not_in_between() {
        use Reading::{Between, Unknown};
        let (b, rule) = (breached, rule(0, 0));
        check(
            &rule,
            &[(0, clear()), (1, b()), (2, b()), (3, Between), (4, Unknown), (5, clear()), (6, clear())],
            "-FfffR-",
        );
        check(&rule, &[(0, Between), (1, Unknown), (2, b())], "--F");
    }

    #[test]
    fn waits_for_its_time_before_it_fires_and_before_it_resolves() {
        use Reading::{Between, Unknown};
        let (b, rule) = (breached, rule(10, 20));
        check(&rule, &[(0, b()), (9, b()), (10, b())], "ppF");
        check(&rule, &[(0, b()), (5, Between), (6, b()), (15, b()), (16, b())], "p-ppF");
        check(&rule, &[(0, b()), (9, Unknown), (10, b())], "ppF");
        check(&rule, &[(0, b()), (10, b()), (29, clear()), (30, clear())], "pFfR");
        check(&rule, &[(0, b()), (10, b()), (20, b()), (39, clear()), (40, clear()), (41, b())], "pFffRp");
    }

    #[test]
    fn changed_evidence_is_kept_without_a_new_revision() {
        let rule = rule(0, 0);
        let other = Evidence { detail: Some("x".into()), ..Evidence::default() };
        check(&rule, &[(1, breached()), (2, Reading::Breached { since_s: 5, evidence: other })], "FC");
    }
}
