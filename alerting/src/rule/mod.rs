//! Rules: what to evaluate, the threshold, the severity, and the actions. Each kind of rule is one
//! file, and [`KINDS`] lists them. [`crate::rule_text`] defines their text form. Pure.

mod absence;
mod condition;
mod consecutive;
mod count;
mod drop;
mod gauge;
mod kind;
mod metric;
mod percentile;
mod ratio;
mod threshold;
mod window;

use std::collections::BTreeMap;
use std::sync::Arc;

use revwatch_core::condition::ConditionKind;
use revwatch_core::span::Span;
use revwatch_runtime::config::Clock;
use serde::Deserialize;

pub use self::kind::{KINDS, Kind, Measure};
pub use self::metric::Named;
pub use self::threshold::{Bounds, Threshold, Verdict};
pub use self::window::{History, Window};
use crate::alert::AlertTemplate;
pub use crate::alert::Severity;
use crate::rule_text::Fields;

/// One rule.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Unique; names the alert in messages, metrics and commands.
    pub name: String,
    /// What it evaluates, and when it fires.
    pub kind: RuleKind,
    /// The severity.
    pub severity: Severity,
    /// Selects the channels and addresses that are notified.
    pub route: String,
    /// Labels for routing and silencing.
    pub labels: BTreeMap<String, String>,
    /// The first line of the message.
    pub title: String,
    /// What the reader should do, in order.
    pub actions: Vec<String>,
    /// Where to read more.
    pub runbook: Option<String>,
    /// It fires after being true for this long.
    pub for_s: i64,
    /// It resolves after being false for this long.
    pub keep_firing_for_s: i64,
    /// While the newest event is older than this, metrics and missing events are not evaluated: the
    /// event that would change the result may be on its way.
    pub fresh_within_s: Option<i64>,
    /// Deadlines that replace its severity's (C13: an alert may override its own SLA).
    pub sla: SlaOverride,
    /// Rules whose alerts on the same account explain this one: while one fires, this one sends no
    /// notifications.
    pub inhibited_by: Vec<String>,
    /// The requirements it covers.
    pub requirement: Vec<String>,
}

/// What replaces the severity's deadlines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SlaOverride {
    /// Seconds.
    pub respond_s: Option<i64>,
    /// Seconds.
    pub resolve_s: Option<i64>,
    /// Which hours are counted.
    pub clock: Option<Clock>,
}

/// What a rule evaluates.
#[derive(Debug, Clone)]
pub enum RuleKind {
    /// One alert for every entity that has the condition.
    Condition {
        /// The condition.
        condition: ConditionKind,
        /// How long after it began the rule fires.
        after_s: i64,
    },
    /// One alert for the business, or for each segment of it.
    Metric(Box<MetricRule>),
}

/// A metric and its threshold.
#[derive(Debug, Clone)]
pub struct MetricRule {
    /// What is measured.
    pub measure: Arc<dyn Measure>,
    /// The dimension that divides the business into segments, for example `currency`.
    pub by: Option<String>,
    /// When the value is out of bounds.
    pub threshold: Threshold,
    /// The meaning of too few samples.
    pub no_data: NoData,
}

/// The meaning of too few samples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
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

impl Rule {
    /// When it fires and when it resolves, in words.
    pub fn describe(&self) -> String {
        let mut text = self.kind.describe();
        for (words, seconds) in [
            ("for", self.for_s),
            ("resolves after", self.keep_firing_for_s),
        ] {
            if seconds > 0 {
                text.push_str(&format!(", {words} {}", Span(seconds)));
            }
        }
        if let Some(within_s) = self.fresh_within_s {
            text.push_str(&format!(", events not older than {}", Span(within_s)));
        }
        text
    }
}

impl RuleKind {
    /// Its name in rule files.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Condition { .. } => condition::KIND.name,
            Self::Metric(rule) => rule.measure.kind().name,
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Condition { condition, after_s } => condition::describe(*condition, *after_s),
            Self::Metric(rule) => rule.describe(),
        }
    }
}

impl MetricRule {
    /// Reads the fields that rules on metrics have in common. `measure` is `None` if it has a
    /// fault.
    fn read<M: Measure + 'static>(fields: &mut Fields<'_>, measure: Option<M>) -> Option<RuleKind> {
        Self::read_with(fields, measure, Threshold::read)
    }

    /// The same with another threshold.
    fn read_with<M: Measure + 'static>(
        fields: &mut Fields<'_>,
        measure: Option<M>,
        threshold: fn(&mut Fields<'_>, Option<&Bounds>) -> Option<Threshold>,
    ) -> Option<RuleKind> {
        let by: Option<String> = fields.optional("by");
        if let Some(measure) = &measure {
            check_segments(fields, measure, by.as_deref());
        }
        let bounds = measure.as_ref().map(Measure::bounds);
        let threshold = threshold(fields, bounds.as_ref());
        let no_data: Option<NoData> = fields.optional("no_data");
        Some(RuleKind::Metric(Box::new(Self {
            measure: Arc::new(measure?),
            by,
            threshold: threshold?,
            no_data: no_data.unwrap_or_default(),
        })))
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
        match self.no_data {
            NoData::Unknown => {}
            NoData::Clear => text.push_str(", no data is fine"),
            NoData::Breach => text.push_str(", or no data"),
        }
        text
    }
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

impl From<&Rule> for AlertTemplate {
    fn from(rule: &Rule) -> Self {
        Self {
            rule: rule.name.clone(),
            severity: rule.severity,
            route: rule.route.clone(),
            labels: rule.labels.clone(),
            title: rule.title.clone(),
            actions: rule.actions.clone(),
            runbook: rule.runbook.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn built_in_rules_are_described_in_words() {
        let rules = crate::rule_text::built_in().expect("valid");
        let described = |name: &str| {
            let rule = rules.iter().find(|rule| rule.name == name);
            let rule = rule.expect("a built-in rule");
            (rule.kind.name(), rule.describe())
        };
        assert_eq!(
            described("payout_failure_rate"),
            (
                "ratio",
                "payout_failures in 1d above 5 %, resolved when at most 4 %, of at least 20"
                    .to_owned()
            )
        );
        assert_eq!(
            described("provider_lost_charges"),
            ("condition", "charges_lost".to_owned())
        );
    }
}
