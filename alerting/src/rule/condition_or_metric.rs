//! What a rule evaluates: a condition, or a metric and its threshold. Pure.

use std::sync::Arc;

use revwatch_core::class::Scope;
use revwatch_core::condition::ConditionKind;
use revwatch_core::durations::Span;
use revwatch_core::source::Source;
use revwatch_runtime::config::Clock;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::fields::Fields;
use super::measure::Measure;
use super::scope::{self, About};
use super::threshold::{Bounds, Threshold};

/// What a rule evaluates.
#[derive(Debug, Clone)]
pub enum RuleKind {
    /// One alert for every entity that has the condition.
    Condition {
        /// The condition.
        condition: ConditionKind,
        /// How long after it fell due the rule fires.
        after: Delay,
        /// Whose entities are concerned.
        scope: Scope,
    },
    /// One alert for the business, or for each segment of it.
    Metric(Box<MetricRule>),
}

/// How long after a condition fell due a rule fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Delay {
    /// Seconds.
    pub seconds: i64,
    /// Which hours are counted.
    pub clock: Clock,
}

/// A metric and its threshold.
#[derive(Debug, Clone)]
pub struct MetricRule {
    /// What is measured.
    pub measure: Arc<dyn Measure>,
    /// The dimension that divides the business into segments, for example `currency`.
    pub by: Option<String>,
    /// Whose figures are measured.
    pub scope: Scope,
    /// When the value is out of bounds.
    pub threshold: Threshold,
    /// The meaning of too few samples.
    pub no_data: NoData,
}

/// The meaning of too few samples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NoData {
    /// Unknown: a firing alert keeps firing, and none begins.
    #[default]
    Unknown,
    /// The value counts as good.
    Clear,
    /// The value counts as a breach.
    Breach,
}

/// The name of [`RuleKind::Condition`] in rule files.
pub(super) const CONDITION: &str = "condition";

impl RuleKind {
    /// Whose events it needs.
    pub fn source(&self) -> Source {
        let about = match self {
            Self::Condition { condition, .. } => About::condition(*condition),
            Self::Metric(rule) => rule.measure.about(),
        };
        match about {
            About::Application => Source::App,
            _ => Source::Stripe,
        }
    }

    /// Its name in rule files.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Condition { .. } => CONDITION,
            Self::Metric(rule) => rule.measure.kind(),
        }
    }

    /// The fields that depend on the kind, as rule files write them; null where one is not set.
    pub(crate) fn fields(&self) -> Vec<(&'static str, Value)> {
        match self {
            Self::Condition {
                condition,
                after,
                scope,
            } => {
                let clock = Some(after.clock).filter(|clock| *clock != Clock::Always);
                let mut fields = vec![
                    ("condition", json!(condition)),
                    ("after", json!(duration_field(after.seconds))),
                    ("after_clock", json!(clock)),
                ];
                fields.extend(scope::fields(scope, About::condition(*condition)));
                fields
            }
            Self::Metric(rule) => rule.fields(),
        }
    }

    pub(super) fn describe(&self) -> String {
        match self {
            Self::Condition {
                condition,
                after,
                scope,
            } => describe_condition(*condition, *after, scope),
            Self::Metric(rule) => rule.describe(),
        }
    }
}

impl MetricRule {
    /// Reads the fields that rules on metrics have in common. `measure` is `None` if it has a
    /// fault.
    pub(super) fn read<M: Measure + 'static>(
        fields: &mut Fields<'_>,
        measure: Option<M>,
    ) -> Option<RuleKind> {
        Self::read_with(fields, measure, Threshold::read)
    }

    /// The same with another threshold.
    pub(super) fn read_with<M: Measure + 'static>(
        fields: &mut Fields<'_>,
        measure: Option<M>,
        threshold: fn(&mut Fields<'_>, Option<&Bounds>) -> Option<Threshold>,
    ) -> Option<RuleKind> {
        let by: Option<String> = fields.optional("by");
        if let Some(measure) = &measure {
            check_segments(fields, measure, by.as_deref());
        }
        let about = measure.as_ref().map(Measure::about);
        let scope = about.map_or(Scope::PLATFORM, About::metric_scope);
        let scope = scope::read(fields, about, scope);
        let bounds = measure.as_ref().map(Measure::bounds);
        let threshold = threshold(fields, bounds.as_ref());
        let no_data: Option<NoData> = fields.optional("no_data");
        Some(RuleKind::Metric(Box::new(Self {
            measure: Arc::new(measure?),
            by,
            scope,
            threshold: threshold?,
            no_data: no_data.unwrap_or_default(),
        })))
    }

    fn fields(&self) -> Vec<(&'static str, Value)> {
        let Self {
            measure,
            by,
            scope,
            threshold,
            no_data,
        } = self;
        let mut fields = vec![("metric", json!(measure.metric())), ("by", json!(by))];
        fields.extend(measure.fields());
        if measure.has_threshold() {
            fields.extend(threshold.fields());
        }
        fields.push(("no_data", json!(no_data)));
        fields.extend(scope::fields(scope, measure.about()));
        fields
    }

    fn describe(&self) -> String {
        let mut text = self.measure.describe();
        if self.measure.has_threshold() {
            text.push(' ');
            text.push_str(&self.threshold.describe(self.measure.unit()));
        }
        if self.threshold.min_samples > 1 {
            text.push_str(&format!(", of at least {}", self.threshold.min_samples));
        }
        if let Some(by) = &self.by {
            text.push_str(&format!(", each {by}"));
        }
        text.push_str(&scope::describe(
            &self.scope,
            &self.measure.about().metric_scope(),
        ));
        match self.no_data {
            NoData::Unknown => {}
            NoData::Clear => text.push_str(", no data is fine"),
            NoData::Breach => text.push_str(", or no data"),
        }
        text
    }
}

/// A duration as rule files write it; `None` if it is 0, which is the same as leaving it out.
pub(crate) fn duration_field(seconds: i64) -> Option<Span> {
    Some(Span(seconds)).filter(|_| seconds > 0)
}

/// Checks the dimension that divides the business.
fn check_segments(fields: &mut Fields<'_>, measure: &dyn Measure, by: Option<&str>) {
    let known = measure.segments();
    match by {
        None if measure.is_money() && !fields.has("by") => fields.fault(
            "metric",
            format!(
                "`metric` {:?} is money, and amounts of different currencies are never added: set `by = \"currency\"`",
                measure.metric()
            ),
        ),
        Some(by) if !known.contains(&by) => {
            let fix = match known {
                [] => "leave it out".to_owned(),
                known => format!("use one of {}", known.join(", ")),
            };
            fields.fault("by", format!("`by` {by:?} is unknown to this metric: {fix}"));
        }
        _ => {}
    }
}

/// For example `past_due for 7d, of connected accounts`.
fn describe_condition(condition: ConditionKind, after: Delay, scope: &Scope) -> String {
    let mut text = condition.as_str().to_owned();
    if after.seconds > 0 {
        text.push_str(&format!(" for {}", Span(after.seconds)));
        if after.clock == Clock::BusinessHours {
            text.push_str(" of business hours");
        }
    }
    let default = About::condition(condition).condition_scope();
    text.push_str(&scope::describe(scope, &default));
    text
}
