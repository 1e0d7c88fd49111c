//! How recent the events are that rules evaluate.

use std::collections::BTreeMap;

use revwatch_core::source::Source;

use crate::metric_value::MetricInputs;
use crate::metric_value::newest_event_s;
use crate::rule::Rule;

/// How recent the events are that rules evaluate. Nothing is known before the counters were read for the first time.
#[derive(Default)]
pub(super) struct Freshness {
    /// Of each source that a rule may need.
    newest_event_s: BTreeMap<Source, i64>,
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
    pub fn update(&mut self, inputs: MetricInputs<'_>) {
        let newest = [Source::Stripe, Source::App]
            .into_iter()
            .filter_map(|source| {
                let newest_s = newest_event_s(inputs.counters, source, inputs.now_s)?;
                Some((source, newest_s))
            });
        self.newest_event_s = newest.collect();
        self.stalled_s = inputs.pipeline.stalled_s;
    }

    /// Why `rule` must wait; `None`: it may be evaluated.
    pub fn lateness(&self, rule: &Rule, now_s: i64) -> Option<Lateness> {
        let within_s = rule.fresh_within_s?;
        if self.stalled_s >= STALLED_S {
            return Some(Lateness::Stalled);
        }
        match self.newest_event_s.get(&rule.kind.source()) {
            None => Some(Lateness::NoEvent),
            Some(newest_s) => {
                (now_s.saturating_sub(*newest_s) > within_s).then_some(Lateness::NewestEventTooOld)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use revwatch_core::bucket::Bucket;
    use revwatch_core::counters::Counters;

    use super::super::tests::rules;
    use super::*;
    use crate::metric_value::PipelineStatus;

    /// After an event of each source in the hour before these times.
    fn freshness(events: [Option<i64>; 2], stalled_s: i64) -> Freshness {
        let mut counters = Counters::default();
        for (name, end_s) in ["created", "app_created"].into_iter().zip(events) {
            if let Some(end_s) = end_s {
                counters.add(Bucket::hour_of(end_s - 1), &["events", name], 1);
            }
        }
        let pipeline = PipelineStatus {
            stalled_s,
            ..PipelineStatus::default()
        };
        let mut freshness = Freshness::default();
        freshness.update(MetricInputs {
            counters: &counters,
            pipeline: &pipeline,
            begun_s: None,
            now_s: 1_000_000,
        });
        freshness
    }

    #[test]
    fn only_a_rule_with_fresh_within_waits_and_says_why() {
        let rules = rules();
        let rule = |name| rules.iter().find(|r| r.name == name).expect("a rule");
        let (due, lost) = (rule("due"), rule("lost"));
        let none = Freshness::default();
        assert_eq!(none.lateness(due, 9000), Some(Lateness::NoEvent));
        assert_eq!(none.lateness(lost, 9000), None);
        let old = freshness([Some(3600), None], 0);
        assert_eq!(old.lateness(due, 10_800), None, "two hours, and no more");
        let late = old.lateness(due, 10_801);
        assert_eq!(late, Some(Lateness::NewestEventTooOld));
        let new = |stalled_s| freshness([Some(7200), None], stalled_s).lateness(due, 9000);
        assert_eq!(new(STALLED_S), Some(Lateness::Stalled));
        assert_eq!(new(STALLED_S - 1), None);
    }

    /// A silent application makes only what it alone says unknown, and Stripe's events do not help.
    #[test]
    fn each_rule_waits_for_the_source_that_it_needs() {
        let text = "severity = \"low\"\nroute = \"x\"\ntitle = \"t\"\nactions = [\"a\"]\n";
        let parsed = |fields: &str| {
            let text = format!("[[rule]]\nname = \"r\"\n{text}{fields}");
            let rules = crate::rule_text::parse(&[("f".into(), text)]);
            rules.expect("valid").remove(0)
        };
        let count = |metric| {
            let kind = "kind = \"count\"\nwindow = \"1h\"\nabove = 1\n";
            parsed(&format!("{kind}metric = \"{metric}\""))
        };
        let failures = count("account_creation_failures");
        assert_eq!(failures.fresh_within_s, Some(86_400), "by default");
        let ticket = parsed("kind = \"condition\"\ncondition = \"ticket_unanswered\"");
        let [now_s, day_s] = [200_000, 86_400];
        let hour = |end_s: i64| Some(end_s / 3600 * 3600);
        for (events, is_late) in [
            ([hour(now_s), None], true),
            ([hour(now_s), hour(now_s - day_s)], true),
            ([None, hour(now_s)], false),
        ] {
            let freshness = freshness(events, 0);
            for rule in [&failures, &ticket] {
                assert_eq!(
                    freshness.lateness(rule, now_s).is_some(),
                    is_late,
                    "{events:?}"
                );
            }
            for metric in ["payouts_failed", "app_events"] {
                assert_eq!(freshness.lateness(&count(metric), now_s), None, "{metric}");
            }
        }
    }
}
