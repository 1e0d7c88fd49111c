//! `condition`: one alert for every entity that has a condition. Pure.

use revwatch_core::condition::ConditionKind;
use revwatch_core::span::Span;

use super::{Kind, RuleKind};
use crate::rule_text::Fields;

/// See [`RuleKind::Condition`].
pub const KIND: Kind = Kind {
    name: "condition",
    fields: &["condition", "after"],
    evaluates: || {
        ConditionKind::ALL
            .iter()
            .map(|kind| kind.as_str())
            .collect()
    },
    sample: "condition = \"past_due\"",
    read,
};

fn read(fields: &mut Fields<'_>) -> Option<RuleKind> {
    let condition = fields.required("condition");
    let after: Option<Span> = fields.optional("after");
    Some(RuleKind::Condition {
        condition: condition?,
        after_s: after.map_or(0, |span| span.0),
    })
}

/// For example `past_due for 7d`.
pub(super) fn describe(condition: ConditionKind, after_s: i64) -> String {
    match after_s {
        0 => condition.as_str().to_owned(),
        after_s => format!("{} for {}", condition.as_str(), Span(after_s)),
    }
}
