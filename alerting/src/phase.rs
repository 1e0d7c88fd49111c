//! When a rule fires and resolves for one subject, as a pure function: phase, evaluation and time in, new phase and
//! effect out.

use crate::alert::Evidence;
use crate::metric_evaluation::Evaluation;

/// What is remembered of one rule and one subject between evaluations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The rule does not hold.
    Inactive,
    /// The rule holds since this Unix second, not yet for long enough.
    Pending {
        /// Unix seconds.
        since_s: i64,
    },
    /// There is an alert.
    Firing {
        /// Unix seconds since which the rule is clear, not yet for long enough.
        clear_since_s: Option<i64>,
    },
    /// A person resolved the alert while the rule held; it does not fire again before the rule was clear.
    Dismissed,
}

/// What an evaluation causes.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Nothing that readers should know.
    Nothing,
    /// A new alert, about a problem that began at this Unix second.
    Fire {
        /// Unix seconds.
        since_s: i64,
        /// What to show.
        evidence: Evidence,
    },
    /// The alert continues; this is its evidence now.
    Show {
        /// Unix second at which the problem began, as is known now.
        since_s: i64,
        /// What to show.
        evidence: Evidence,
    },
    /// The alert is resolved.
    Resolve {
        /// What to show last; `None`: what was shown before.
        evidence: Option<Evidence>,
    },
}

/// How long a rule must hold before it fires, and be clear before it resolves; seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HoldTimes {
    /// Before it fires.
    pub for_s: i64,
    /// Before it resolves.
    pub keep_firing_for_s: i64,
}

/// The phase of one subject after an evaluation, and what that causes.
///
/// Invariant: what is unknown neither fires nor resolves.
pub fn next_phase(
    hold: HoldTimes,
    phase: Phase,
    evaluation: Evaluation,
    now_s: i64,
) -> (Phase, Effect) {
    match (phase, evaluation) {
        (phase, Evaluation::Unknown) => (phase, Effect::Nothing),
        (Phase::Inactive | Phase::Pending { .. } | Phase::Dismissed, Evaluation::Clear { .. }) => {
            (Phase::Inactive, Effect::Nothing)
        }
        (Phase::Inactive | Phase::Pending { .. }, Evaluation::Between) => {
            (Phase::Inactive, Effect::Nothing)
        }
        (Phase::Dismissed, Evaluation::Between | Evaluation::Breached { .. }) => {
            (Phase::Dismissed, Effect::Nothing)
        }
        (Phase::Inactive | Phase::Pending { .. }, Evaluation::Breached { since_s, evidence }) => {
            let holding_since_s = match phase {
                Phase::Pending { since_s } => since_s,
                _ => now_s,
            };
            if now_s - holding_since_s < hold.for_s {
                return (
                    Phase::Pending {
                        since_s: holding_since_s,
                    },
                    Effect::Nothing,
                );
            }
            (
                Phase::Firing {
                    clear_since_s: None,
                },
                Effect::Fire { since_s, evidence },
            )
        }
        (Phase::Firing { .. }, Evaluation::Breached { since_s, evidence }) => (
            Phase::Firing {
                clear_since_s: None,
            },
            Effect::Show { since_s, evidence },
        ),
        (Phase::Firing { .. }, Evaluation::Between) => (
            Phase::Firing {
                clear_since_s: None,
            },
            Effect::Nothing,
        ),
        (Phase::Firing { clear_since_s }, Evaluation::Clear { evidence }) => {
            let clear_since_s = clear_since_s.unwrap_or(now_s);
            if now_s - clear_since_s < hold.keep_firing_for_s {
                return (
                    Phase::Firing {
                        clear_since_s: Some(clear_since_s),
                    },
                    Effect::Nothing,
                );
            }
            (Phase::Inactive, Effect::Resolve { evidence })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breached() -> Evaluation {
        Evaluation::Breached {
            since_s: 5,
            evidence: Evidence::default(),
        }
    }

    fn clear() -> Evaluation {
        Evaluation::Clear { evidence: None }
    }

    /// Feeds evaluations at times and notes what happens: F(ired), R(esolved), p(ending), - (inactive), f(iring),
    /// d(ismissed).
    fn check(hold: HoldTimes, start: Phase, evaluations: &[(i64, Evaluation)], expected: &str) {
        let mut phase = start;
        let mut log = String::new();
        for (now_s, evaluation) in evaluations {
            let (next, effect) = next_phase(hold, phase, evaluation.clone(), *now_s);
            log.push(match (effect, next) {
                (Effect::Fire { .. }, Phase::Firing { .. }) => 'F',
                (Effect::Resolve { .. }, Phase::Inactive) => 'R',
                (Effect::Nothing | Effect::Show { .. }, Phase::Firing { .. }) => 'f',
                (Effect::Nothing, Phase::Pending { .. }) => 'p',
                (Effect::Nothing, Phase::Inactive) => '-',
                (Effect::Nothing, Phase::Dismissed) => 'd',
                other => panic!("{other:?}"),
            });
            phase = next;
        }
        assert_eq!(log, expected, "{evaluations:?}");
    }

    #[test]
    fn fires_at_once_and_resolves_when_clear_not_in_between() {
        use Evaluation::{Between, Unknown};
        let b = breached;
        let at_once = HoldTimes::default();
        check(
            at_once,
            Phase::Inactive,
            &[
                (0, clear()),
                (1, b()),
                (2, b()),
                (3, Between),
                (4, Unknown),
                (5, clear()),
                (6, clear()),
            ],
            "-FfffR-",
        );
        check(
            at_once,
            Phase::Inactive,
            &[(0, Between), (1, Unknown), (2, b())],
            "--F",
        );
    }

    #[test]
    fn waits_for_its_time_before_it_fires_and_before_it_resolves() {
        use Evaluation::{Between, Unknown};
        let b = breached;
        let hold = HoldTimes {
            for_s: 10,
            keep_firing_for_s: 20,
        };
        let go = |evaluations: &[(i64, Evaluation)], expected| {
            check(hold, Phase::Inactive, evaluations, expected);
        };
        go(&[(0, b()), (9, b()), (10, b())], "ppF");
        go(
            &[(0, b()), (5, Between), (6, b()), (15, b()), (16, b())],
            "p-ppF",
        );
        go(&[(0, b()), (5, Unknown), (10, b())], "ppF");
        go(
            &[
                (0, b()),
                (10, b()),
                (11, clear()),
                (30, clear()),
                (31, clear()),
            ],
            "pFffR",
        );
        go(
            &[
                (0, b()),
                (10, b()),
                (11, clear()),
                (20, b()),
                (21, clear()),
                (40, clear()),
                (41, clear()),
            ],
            "pFffffR",
        );
        go(
            &[
                (0, b()),
                (10, b()),
                (11, clear()),
                (20, Between),
                (31, clear()),
                (51, clear()),
            ],
            "pFfffR",
        );
    }

    #[test]
    fn a_dismissed_rule_fires_again_only_after_it_was_clear() {
        use Evaluation::{Between, Unknown};
        let b = breached;
        check(
            HoldTimes::default(),
            Phase::Dismissed,
            &[(0, b()), (1, Between), (2, Unknown), (3, clear()), (4, b())],
            "ddd-F",
        );
    }
}
