//! `condition`: one alert for every entity that has a condition. Pure.

use revwatch_core::condition::ConditionKind;
use revwatch_core::durations::Span;

use super::condition_or_metric::{CONDITION, RuleKind};
use super::fields::Fields;
use super::kind_description::Kind;
use super::scope::{self, About};

/// See [`RuleKind::Condition`].
pub const KIND: Kind = Kind {
    name: CONDITION,
    fields: &["condition", "after", "owner", "realm"],
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
    let condition: Option<ConditionKind> = fields.required("condition");
    let after: Option<Span> = fields.optional("after");
    let about = condition.map(About::condition);
    let scope = about.unwrap_or(About::Billing).condition_scope();
    let scope = scope::read(fields, about, scope);
    Some(RuleKind::Condition {
        condition: condition?,
        after_s: after.map_or(0, |span| span.0),
        scope,
    })
}
