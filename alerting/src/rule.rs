//! Rules: what to look at, when that is too much, how bad it is and what to do then. How they are written is
//! in [`crate::rule_text`]. Pure.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use revwatch_core::condition::ConditionKind;
use revwatch_runtime::config::Clock;
use serde::{Deserialize, Serialize};

use crate::alert::Side;
use crate::metric::{
    CountMetric, DurationMetric, GaugeMetric, LevelMetric, RatioMetric, ShareMetric,
};

/// One rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Unique; names the alert in messages, metrics and commands.
    pub name: String,
    /// What it looks at and when that is too much.
    pub kind: RuleKind,
    /// How bad.
    pub severity: Severity,
    /// Whom it tells: chooses channels and addresses.
    pub route: String,
    /// Words to route and silence by.
    pub labels: BTreeMap<String, String>,
    /// The first line of the message.
    pub title: String,
    /// What to do, in order.
    pub actions: Vec<String>,
    /// Where to read on.
    pub runbook: Option<String>,
    /// It fires after holding for this long.
    pub for_s: i64,
    /// It resolves after being over for this long.
    pub keep_firing_for_s: i64,
    /// While the newest event is older than this, it says nothing of figures and of what was due but did not
    /// happen: the event that would show it may be on its way.
    pub fresh_within_s: Option<i64>,
    /// Times other than its severity's (C13: an alert may override its own SLA).
    pub sla: SlaOverride,
    /// Rules whose alerts on the same account explain this one: while one fires, nobody is told of it.
    pub inhibited_by: Vec<String>,
    /// The requirements it answers to.
    pub requirement: Vec<String>,
}

/// What replaces the severity's times.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SlaOverride {
    /// Seconds.
    pub respond_s: Option<i64>,
    /// Seconds.
    pub resolve_s: Option<i64>,
    /// Which hours are counted.
    pub clock: Option<Clock>,
}

/// What a rule looks at.
#[derive(Debug, Clone, PartialEq)]
pub enum RuleKind {
    /// One alert for every entity that has the condition.
    Condition {
        /// Which.
        condition: ConditionKind,
        /// How long after it began.
        after_s: i64,
    },
    /// One alert for the business, or for each part of it.
    Metric(Box<MetricRule>),
}

/// A figure, and when it is too much.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricRule {
    /// What is measured.
    pub measure: Measure,
    /// What the business is divided by, for example `currency`.
    pub by: Option<String>,
    /// When it is too much.
    pub threshold: Threshold,
    /// What it means that there is too little to judge.
    pub no_data: NoData,
}

/// How a figure is made of counters. Metrics are named in [`crate::metric`].
#[derive(Debug, Clone, PartialEq)]
pub enum Measure {
    /// A share over a sliding window.
    Ratio(RatioMetric, Window),
    /// How many in a sliding window.
    Count(CountMetric, Window),
    /// None of them in a sliding window.
    Absence(CountMetric, Window),
    /// A level as it is now.
    Gauge(GaugeMetric),
    /// How much a level has fallen.
    Drop(LevelMetric, Fall),
    /// A level that was too high at the end of several closed days in a row.
    Consecutive(ShareMetric, ClosedDays),
    /// A percentile of durations in a sliding window, or (`None`) their mean.
    Percentile(DurationMetric, Option<i64>, Window),
}

/// Whole hours of history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// How many, beside the one under way.
    pub hours: u32,
    /// How many of the newest are left out: what began only now cannot have come to anything.
    pub delay_hours: u32,
}

/// How a fall is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fall {
    /// Compared with so many hours ago.
    pub hours: u32,
    /// In units instead of as a share of what was there.
    pub absolute: bool,
}

/// Which days, and whose.
#[derive(Debug, Clone, PartialEq)]
pub struct ClosedDays {
    /// How many in a row.
    pub days: u32,
    /// Whose midnight closes a day.
    pub time_zone: TimeZone,
}

/// Fires strictly beyond `limit`; resolves at `clear` or better; judges nothing below `min_samples`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Threshold {
    /// On which side the trouble is.
    pub side: Side,
    /// In the metric's unit.
    pub limit: f64,
    /// Not on the troubled side of `limit`.
    pub clear: f64,
    /// At least 1 where there are samples.
    pub min_samples: i64,
}

/// What it means that there is too little to judge.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoData {
    /// Nothing: what fires goes on, what does not does not begin.
    #[default]
    Unknown,
    /// All is well.
    Clear,
    /// That is the trouble.
    Breach,
}

/// How bad an alert is (C13).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// For the record.
    Low,
    /// May become a loss.
    Medium,
    /// Revenue is impaired.
    High,
    /// Revenue is blocked.
    Critical,
}

impl Severity {
    /// All, from the least.
    pub const ALL: [Self; 4] = [Self::Low, Self::Medium, Self::High, Self::Critical];

    /// The word in rule files and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}
