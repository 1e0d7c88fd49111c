//! The kinds of rules: one file each, and this registry.

use std::fmt;

use jiff::tz::TimeZone;

use super::threshold::{Bounds, Threshold, Verdict};
use super::window::History;
use super::{RuleKind, absence, condition, consecutive, count, drop, gauge, percentile, ratio};
use crate::alert::Unit;
use crate::evaluation::POINTS;
use crate::metric_value::{MetricInputs, MetricQuery, Sample, Samples};
use crate::rule_text::Fields;

/// Every kind of rule, in the order of the documentation.
pub const KINDS: [&Kind; 8] = [
    &condition::KIND,
    &ratio::KIND,
    &count::KIND,
    &gauge::KIND,
    &drop::KIND,
    &consecutive::KIND,
    &percentile::KIND,
    &absence::KIND,
];

/// A kind of rule, as rule files name it.
pub struct Kind {
    /// The value of `kind`.
    pub name: &'static str,
    /// The fields that it accepts, in addition to those of every rule.
    pub fields: &'static [&'static str],
    /// The conditions or metrics that it evaluates.
    pub evaluates: fn() -> Vec<&'static str>,
    /// The fields of a minimal rule of this kind.
    pub sample: &'static str,
    /// Reads its fields.
    pub(crate) read: fn(&mut Fields<'_>) -> Option<RuleKind>,
}

impl Kind {
    /// A minimal rule of this kind, as text.
    pub fn sample_rule(&self) -> String {
        format!(
            "[[rule]]\nname = \"{name}_sample\"\nkind = \"{name}\"\n{fields}\nseverity = \"high\"\n\
             route = \"default\"\ntitle = \"A sample\"\nactions = [\"Read it.\"]\n",
            name = self.name,
            fields = self.sample
        )
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// How the metric values of one rule are computed: the part in which kinds of rules differ.
pub trait Measure: fmt::Debug + Send + Sync {
    /// Its kind.
    fn kind(&self) -> &'static Kind;

    /// The metric's name in rule files.
    fn metric(&self) -> &'static str;

    /// The dimensions that the metric can be divided by.
    fn segments(&self) -> &'static [&'static str];

    /// The unit of its values.
    fn unit(&self) -> Unit;

    /// Whether it is computed from amounts of money, which exist per currency only.
    fn is_money(&self) -> bool {
        self.unit() == Unit::Minor
    }

    /// The thresholds that make sense.
    fn bounds(&self) -> Bounds {
        match self.unit() {
            Unit::Share => Bounds::Share,
            _ => Bounds::NotNegative,
        }
    }

    /// The earlier hours that it reads.
    fn history(&self) -> History;

    /// The time zone whose midnights matter.
    fn time_zone(&self) -> Option<&TimeZone> {
        None
    }

    /// The values of all segments.
    fn samples(&self, query: MetricQuery<'_>) -> Samples;

    /// The value of a segment without any counter.
    fn missing(&self) -> Sample {
        Sample::default()
    }

    /// When the breach began, if the current value is one; `verdict` is [`Verdict::Breached`] or
    /// [`Verdict::Between`].
    fn breached_since(
        &self,
        verdict: Verdict,
        _threshold: &Threshold,
        inputs: MetricInputs<'_>,
    ) -> Option<i64> {
        (verdict == Verdict::Breached).then_some(inputs.now_s)
    }

    /// What is compared with the threshold, for example `payout_failures in 1d`.
    fn describe(&self) -> String;

    /// Whether people choose the threshold, so that a description names it.
    fn has_threshold(&self) -> bool {
        true
    }
}

impl dyn Measure {
    /// Number of hours before the current one that it needs, including its trend.
    pub fn hours_needed(&self) -> u32 {
        let History {
            hours,
            trend_step_hours,
            ..
        } = self.history();
        hours + trend_step_hours.unwrap_or(0) * u32::try_from(POINTS).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::metric_value::PipelineStatus;
    use crate::rule::{MetricRule, Rule};
    use crate::rule_text::{DEFAULT_RULES, parse};
    use revwatch_core::counters::Counters;

    const PAGE: &str = include_str!("../../../docs/rules.md");

    fn sample(kind: &Kind) -> Rule {
        let mut rules = parse(&[(kind.name.to_owned(), kind.sample_rule())]).expect("valid");
        rules.remove(0)
    }

    fn metric_samples() -> Vec<MetricRule> {
        let kinds = KINDS.iter().map(|kind| sample(kind).kind);
        kinds
            .filter_map(|kind| match kind {
                RuleKind::Metric(metric) => Some(*metric),
                RuleKind::Condition { .. } => None,
            })
            .collect()
    }

    #[test]
    fn the_sample_of_each_kind_is_a_rule_that_describes_itself() {
        for kind in KINDS {
            let rule = sample(kind);
            assert_eq!(rule.kind.name(), kind.name);
            let text = rule.describe();
            let names = (kind.evaluates)();
            assert!(
                names.iter().any(|name| text.contains(name)),
                "{text:?} names none of {names:?}"
            );
        }
    }

    #[test]
    fn each_metric_kind_has_a_unit_hours_and_values() {
        let (counters, pipeline) = (Counters::default(), PipelineStatus::default());
        let inputs = MetricInputs {
            counters: &counters,
            pipeline: &pipeline,
            now_s: 1_000_000,
        };
        for rule in metric_samples() {
            let measure = rule.measure;
            let history = measure.history();
            assert!(measure.hours_needed() >= history.hours, "{measure:?}");
            assert!(
                history
                    .edges_hours
                    .iter()
                    .all(|edge| *edge <= history.hours + 1),
                "{measure:?}"
            );
            assert!(
                !measure.is_money() || measure.segments().contains(&"currency"),
                "{measure:?}"
            );
            assert!((measure.kind().evaluates)().contains(&measure.metric()));
            let query = MetricQuery::new(inputs, rule.by.as_deref(), inputs.now_s);
            for sample in measure.samples(query).values() {
                assert!(
                    sample.value.is_none() || measure.kind().name == "drop",
                    "a value without events: {measure:?}"
                );
            }
        }
    }

    #[test]
    fn each_kind_is_documented_with_its_fields_and_its_sample() {
        let names: BTreeSet<&str> = KINDS.iter().map(|kind| kind.name).collect();
        assert_eq!(names.len(), KINDS.len(), "names are unique");
        for kind in KINDS {
            for field in kind.fields {
                let name = kind.name;
                assert!(PAGE.contains(&format!("`{field}`")), "{field} of {name}");
            }
            let sample = format!("kind = \"{}\"\n{}", kind.name, kind.sample);
            let block: String = sample.lines().map(|line| format!("    {line}\n")).collect();
            assert!(PAGE.contains(&block), "the page does not show:\n{block}");
        }
    }

    #[test]
    fn the_built_in_file_lists_every_kind_condition_and_metric() {
        for kind in KINDS {
            let name = kind.name;
            assert!(
                DEFAULT_RULES.contains(&format!("\n# {name}:")),
                "{name} is not documented"
            );
            for name in (kind.evaluates)() {
                assert!(DEFAULT_RULES.contains(name), "{name} is not documented");
            }
        }
    }
}
