//! How recent the events are that rules evaluate.

use crate::rule::Rule;

/// How recent the events are that rules evaluate. Nothing is known before the counters were read for the first time.
#[derive(Default)]
pub(super) struct Freshness {
    newest_event_s: Option<i64>,
    /// See [`crate::metric_value::PipelineStatus::stalled_s`].
    stalled_s: i64,
}

/// Why a rule with `fresh_within` cannot be evaluated now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lateness {
    /// Deliveries wait in the queue, and none was applied for some time.
    Stalled,
    /// The newest event is older than the rule allows.
    NewestEventTooOld,
    /// No event is known.
    NoEvent,
}

/// Deliveries that wait for longer than this while none is applied make all rules with `fresh_within` late.
const STALLED_S: i64 = 300;

impl Freshness {
    /// The counters and the pipeline were read.
    pub fn update(&mut self, newest_event_s: Option<i64>, stalled_s: i64) {
        (self.newest_event_s, self.stalled_s) = (newest_event_s, stalled_s);
    }

    /// Why `rule` must wait; `None`: it may be evaluated.
    pub fn lateness(&self, rule: &Rule, now_s: i64) -> Option<Lateness> {
        let within_s = rule.fresh_within_s?;
        if self.stalled_s >= STALLED_S {
            return Some(Lateness::Stalled);
        }
        match self.newest_event_s {
            None => Some(Lateness::NoEvent),
            Some(newest_s) => (now_s - newest_s > within_s).then_some(Lateness::NewestEventTooOld),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::rules;
    use super::*;

    #[test]
    fn only_a_rule_with_fresh_within_waits_and_says_why() {
        let rules = rules();
        let rule = |name| rules.iter().find(|r| r.name == name).expect("a rule");
        let (due, lost) = (rule("due"), rule("lost"));
        let mut freshness = Freshness::default();
        assert_eq!(freshness.lateness(due, 9000), Some(Lateness::NoEvent));
        freshness.update(Some(1800), 0);
        assert_eq!(
            freshness.lateness(due, 9000),
            None,
            "two hours, and no more"
        );
        let late = freshness.lateness(due, 9001);
        assert_eq!(late, Some(Lateness::NewestEventTooOld));
        freshness.update(Some(9000), STALLED_S);
        assert_eq!(freshness.lateness(due, 9000), Some(Lateness::Stalled));
        freshness.update(Some(9000), STALLED_S - 1);
        assert_eq!(freshness.lateness(due, 9000), None);
        assert_eq!(Freshness::default().lateness(lost, 9000), None);
    }
}
