//! `condition`: one alert for every entity that has a condition. Pure.

use revwatch_core::condition::ConditionKind;
use revwatch_core::durations::Span;
use revwatch_runtime::config::Clock;

use super::condition_or_metric::{CONDITION, Delay, RuleKind};
use super::fields::Fields;
use super::kind_description::Kind;
use super::scope::{self, About};

/// See [`RuleKind::Condition`].
pub const KIND: Kind = Kind {
    name: CONDITION,
    fields: &["condition", "after", "after_clock", "owner", "realm"],
    evaluates: || {
        ConditionKind::ALL
            .iter()
            .map(|kind| kind.as_str())
            .collect()
    },
    sample: "condition = \"past_due\"",
    read,
};

/// When so many business hours have passed is found day by day, for every evaluation.
const MAX_BUSINESS_S: i64 = 30 * 86_400;

fn read(fields: &mut Fields<'_>) -> Option<RuleKind> {
    let condition: Option<ConditionKind> = fields.required("condition");
    let after: Option<Span> = fields.optional("after");
    let clock: Option<Clock> = fields.optional("after_clock");
    let is_long = after.is_some_and(|span| span.0 > MAX_BUSINESS_S);
    if clock == Some(Clock::BusinessHours) && is_long {
        let what = "`after` must be at most 30d if `after_clock` is \"business_hours\": 8h are about a day of those";
        fields.fault("after", what.into());
    }
    let about = condition.map(About::condition);
    let scope = about.unwrap_or(About::Billing).condition_scope();
    let scope = scope::read(fields, about, scope);
    Some(RuleKind::Condition {
        condition: condition?,
        after: Delay {
            seconds: after.map_or(0, |span| span.0),
            clock: clock.unwrap_or(Clock::Always),
        },
        scope,
    })
}
