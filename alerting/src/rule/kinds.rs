//! The kinds of rules: one file each, and this table. It imports the kinds; no kind imports it.

use super::kind_description::Kind;
use super::{absence, condition, consecutive, count, drop, gauge, percentile, ratio};

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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::metric_value::{MetricInputs, MetricQuery, PipelineStatus};
    use crate::rule::{MetricRule, Rule, RuleKind};
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
            begun_s: None,
            counters: &counters,
            pipeline: &pipeline,
            now_s: 1_000_000,
        };
        for rule in metric_samples() {
            let measure = rule.measure;
            let kind = KINDS.iter().find(|kind| kind.name == measure.kind());
            let kind = kind.expect("a kind of the table");
            let history = measure.history();
            assert!(measure.hours_needed() >= history.hours, "{measure:?}");
            assert!(
                history
                    .edges_hours()
                    .iter()
                    .all(|edge| *edge <= history.hours + 1),
                "{measure:?}"
            );
            assert!(
                !measure.is_money() || measure.segments().contains(&"currency"),
                "{measure:?}"
            );
            assert!((kind.evaluates)().contains(&measure.metric()));
            // Without any event nothing is known, not even that a number is 0; a drop has no past to compare with.
            let figures = counters.of(&rule.scope);
            let query = MetricQuery::new(inputs, &figures, rule.by.as_deref());
            let values: Vec<_> = measure.samples(query).values().map(|s| s.value).collect();
            let expected = if kind.name == "drop" {
                vec![]
            } else {
                vec![None]
            };
            assert_eq!(values, expected, "{measure:?}");
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
