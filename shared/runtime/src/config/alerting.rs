//! Settings of the evaluator: severities, notification targets, and business hours.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use revwatch_core::durations::Span;

/// Evaluation of rules, and what their severities mean.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlertingConfig {
    /// Time between two evaluations.
    pub tick_seconds: f64,
    /// An evaluator that has not renewed its lease for this long is replaced by another.
    pub lease_seconds: f64,
    /// Messages to one destination per second, sustained.
    pub messages_per_second: f64,
    /// Above this number, alerts of one rule that are not yet notified are notified as one group.
    pub group_above: usize,
    /// How long others may join such a group.
    pub group_open: Span,
    /// How long resolved alerts are kept.
    pub history: Span,
    /// What was wrong before this moment (RFC 3339) is only listed. Empty: an hour before the first delivery.
    pub began: String,
    /// Business hours, for clocks that count them.
    pub business_hours: BusinessHours,
    /// The meaning of each severity (C13).
    pub severity: Severities,
    /// The first matching route decides; without a match the severity does.
    #[serde(default)]
    pub routes: Vec<Route>,
}

/// Business hours.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BusinessHours {
    /// For example `Europe/Lisbon`.
    pub time_zone: String,
    /// `mon` to `sun`.
    pub days: Vec<String>,
    /// For example `09:00`.
    pub from: String,
    /// For example `18:00`; after `from`.
    pub to: String,
    /// Holidays as dates, for example `2026-12-25`.
    #[serde(default)]
    pub holidays: Vec<String>,
}

/// Every severity.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Severities {
    /// Revenue is blocked.
    pub critical: Treatment,
    /// Revenue is impaired.
    pub high: Treatment,
    /// May become a loss.
    pub medium: Treatment,
    /// For the record.
    pub low: Treatment,
}

/// The treatment of alerts of one severity.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Treatment {
    /// Time until an alert must be acknowledged.
    pub respond: Span,
    /// Time until an alert must be resolved.
    pub resolve: Span,
    /// The hours that these times count.
    pub clock: Clock,
    /// The notifiers to use, by name. Unconfigured ones are skipped; an empty list means no
    /// notification.
    #[serde(rename = "notify")]
    pub notifiers: Vec<String>,
    /// Whether those who were notified get a reminder before each deadline, and when it has passed.
    pub remind: bool,
    /// The steps that follow while the alert is not acknowledged.
    #[serde(default)]
    pub escalate: Vec<EscalationStep>,
}

/// The hours that a clock counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Clock {
    /// All hours.
    Always,
    /// Only `business_hours`.
    BusinessHours,
}

/// One step of an escalation chain.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EscalationStep {
    /// Time since the deadline to respond passed, on the same clock.
    pub after: Span,
    /// The notifiers to use.
    #[serde(rename = "notify")]
    pub notifiers: Vec<String>,
    /// The route whose channels and addresses are used; the alert's own by default.
    pub route: Option<String>,
}

/// An exception to the treatment of a severity.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Severities it applies to; empty: all.
    #[serde(default)]
    pub severity: Vec<String>,
    /// Rules it applies to; empty: all.
    #[serde(default)]
    pub rules: Vec<String>,
    /// Labels that must match.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The notifiers to use; those of the severity by default.
    #[serde(rename = "notify")]
    pub notifiers: Option<Vec<String>>,
    /// The route whose channels and addresses are used; the rule's own by default.
    pub route: Option<String>,
}
