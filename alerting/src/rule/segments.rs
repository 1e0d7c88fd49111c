//! The segments of the business that a rule can have, for the dimensions of which all are known. Pure.

use revwatch_core::counters::UNKNOWN;
use revwatch_core::entity::EntityKind;
use revwatch_core::entity::account::milestone::{
    FIRST_PAYMENT, LINK_CLICKED, LINK_GENERATED, Milestone,
};
use revwatch_core::entity::recurring::MrrUnknown;
use revwatch_core::entity::risk::Risk;
use revwatch_core::kpi::not_sent;
use revwatch_runtime::config::NOTIFIERS;

/// The days of the week, from that of 1970-01-01 on.
pub(crate) const WEEKDAYS: [&str; 7] = ["thu", "fri", "sat", "sun", "mon", "tue", "wed"];

/// All segments of a dimension; `None`: what events name, as currencies and countries.
pub fn known_segments(by: &str) -> Option<Vec<String>> {
    let known: Vec<&str> = match by {
        "kind" => {
            let needed = EntityKind::ALL.into_iter();
            let needed = needed.filter(|kind| kind.is_needed_when_named());
            needed.map(EntityKind::plural).collect()
        }
        "milestone" => {
            let milestones = Milestone::ALL.into_iter().map(Milestone::as_str);
            milestones
                .chain([FIRST_PAYMENT, LINK_GENERATED, LINK_CLICKED])
                .collect()
        }
        "notifier" => NOTIFIERS.to_vec(),
        "reason" => MrrUnknown::ALL
            .into_iter()
            .map(MrrUnknown::as_str)
            .collect(),
        "risk" => {
            let risks = Risk::ALL.into_iter().map(Risk::as_str);
            risks.chain(["closed", UNKNOWN]).collect()
        }
        "types" => return Some(not_sent::names()),
        "weekday" => {
            let from_monday = WEEKDAYS.into_iter().cycle().skip(4);
            from_monday.take(WEEKDAYS.len()).collect()
        }
        _ => return None,
    };
    Some(known.into_iter().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::rule::RuleKind;
    use crate::rule_text::built_in;

    /// docs/rules.md lists them.
    #[test]
    fn every_known_segment_is_documented() {
        let page = include_str!("../../../docs/rules.md");
        for by in [
            "kind",
            "milestone",
            "notifier",
            "reason",
            "risk",
            "types",
            "weekday",
        ] {
            let known = known_segments(by).expect("known").into_iter();
            let known: Vec<_> = known.map(|segment| format!("`{segment}`")).collect();
            let row = format!("| `{by}` | {} |", known.join(", "));
            assert!(page.contains(&row), "no row {row}");
        }
    }

    #[test]
    fn every_dimension_of_a_shipped_rule_is_known_or_named_by_events() {
        let rules = built_in().expect("valid");
        let dimensions: BTreeSet<String> = rules
            .iter()
            .filter_map(|rule| match &rule.kind {
                RuleKind::Metric(metric) => metric.by.clone(),
                RuleKind::Condition { .. } => None,
            })
            .collect();
        assert!(dimensions.len() > 5, "{dimensions:?}");
        for by in dimensions {
            let is_named = ["currency", "country", "source"].contains(&by.as_str());
            assert_ne!(known_segments(&by).is_some(), is_named, "{by}");
        }
    }
}
