//! Settings of the evaluator: what severities mean, who is told how, and when people work.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use revwatch_core::span::Span;

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
    /// More alerts of one rule than these, not yet told, are told as one.
    pub group_above: usize,
    /// For how long others may join such a group.
    pub group_open: Span,
    /// How long alerts that are over are kept.
    pub history: Span,
    /// When people work, for clocks that count business hours.
    pub business_hours: BusinessHours,
    /// What each severity means (C13).
    pub severity: Severities,
    /// The first that fits an alert decides; without one its severity does.
    #[serde(default)]
    pub routes: Vec<Route>,
}

/// When people work.
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
    /// Dates, for example `2026-12-25`, on which nobody works.
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

/// How alerts of one severity are treated.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Treatment {
    /// Time until somebody must have acknowledged.
    pub respond: Span,
    /// Time until it must be over.
    pub resolve: Span,
    /// Which hours these times count.
    pub clock: Clock,
    /// Who is told: names of notifiers. Those that are not configured are left out; empty means nobody.
    #[serde(rename = "notify")]
    pub notifiers: Vec<String>,
    /// What follows while nobody acknowledges.
    #[serde(default)]
    pub escalate: Vec<EscalationStep>,
}

/// Which hours a clock counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Clock {
    /// All.
    Always,
    /// Those of `business_hours`.
    BusinessHours,
}

/// One step of an escalation chain.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EscalationStep {
    /// Since the time to respond ran out, on the same clock.
    pub after: Span,
    /// Who is told.
    #[serde(rename = "notify")]
    pub notifiers: Vec<String>,
    /// The route whose channels and addresses are used; the alert's own by default.
    pub route: Option<String>,
}

/// An exception to what a severity says.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Severities it is about; empty: all.
    #[serde(default)]
    pub severity: Vec<String>,
    /// Rules it is about; empty: all.
    #[serde(default)]
    pub rules: Vec<String>,
    /// Labels that must be there.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Who is told; as the severity says by default.
    #[serde(rename = "notify")]
    pub notifiers: Option<Vec<String>>,
    /// The route whose channels and addresses are used; the rule's own by default.
    pub route: Option<String>,
}
