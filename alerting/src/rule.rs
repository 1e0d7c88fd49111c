//! Rules: what to evaluate, the threshold, the severity, and the actions. [`crate::rule_text`]
//! defines their text form. Pure.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use revwatch_core::condition::ConditionKind;
use revwatch_runtime::config::Clock;
use serde::Deserialize;

pub use crate::alert::Severity;
use crate::alert::{AlertTemplate, Side};
use crate::metric::{
    CountMetric, DurationMetric, GaugeMetric, LevelMetric, RatioMetric, ShareMetric,
};

/// One rule.
#[derive(Debug, Clone, PartialEq)]
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
#[derive(Debug, Clone, PartialEq)]
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
#[derive(Debug, Clone, PartialEq)]
pub struct MetricRule {
    /// What is measured.
    pub measure: Measure,
    /// The dimension that divides the business into segments, for example `currency`.
    pub by: Option<String>,
    /// When the value is out of bounds.
    pub threshold: Threshold,
    /// The meaning of too few samples.
    pub no_data: NoData,
}

/// How a metric value is computed from counters. [`crate::metric`] names the metrics.
#[derive(Debug, Clone, PartialEq)]
pub enum Measure {
    /// A share over a sliding window.
    Ratio(RatioMetric, Window),
    /// A number of occurrences in a sliding window.
    Count(CountMetric, Window),
    /// No occurrence in a sliding window.
    Absence(CountMetric, Window),
    /// The current level.
    Gauge(GaugeMetric),
    /// How much a level has fallen.
    Drop(LevelMetric, Fall),
    /// A level that was too high at the end of several consecutive closed days.
    Consecutive(ShareMetric, ClosedDays),
    /// A percentile of durations in a sliding window, or (`None`) their mean.
    Percentile(DurationMetric, Option<i64>, Window),
}

/// Full hours of history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Number of hours, in addition to the current one.
    pub hours: u32,
    /// Number of newest hours to leave out: what began only now cannot have completed.
    pub delay_hours: u32,
}

/// How a drop is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fall {
    /// Compared with the level this many hours ago.
    pub hours: u32,
    /// In units instead of as a share of the earlier level.
    pub absolute: bool,
}

/// Which days, in which time zone.
#[derive(Debug, Clone, PartialEq)]
pub struct ClosedDays {
    /// How many consecutive days.
    pub days: u32,
    /// The zone whose midnight closes a day.
    pub time_zone: TimeZone,
}

/// Fires strictly beyond `limit`; resolves at `clear` or better; not evaluated below `min_samples`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Threshold {
    /// The side of the limit on which the rule fires.
    pub side: Side,
    /// In the metric's unit.
    pub limit: f64,
    /// Never on the firing side of `limit`.
    pub clear: f64,
    /// At least 1 if the metric has samples.
    pub min_samples: i64,
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
