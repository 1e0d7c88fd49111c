//! `percentile`: a percentile of durations in a sliding window, or their mean. Pure.

use std::collections::BTreeMap;

use revwatch_core::histogram::{PROCESSING_BOUNDS_MS, percentile, rank};
use serde::Deserialize;
use serde_json::{Value, json};

use super::condition_or_metric::{MetricRule, RuleKind};
use super::fields::Fields;
use super::kind_description::Kind;
use super::measure::{Measure, MeasureNames};
use super::metric::{Named, metrics};
use super::threshold::Bounds;
use super::window::{History, Window};
use crate::alert::Unit;
use crate::metric_value::{MetricQuery, Sample, Samples, number};

/// See [`Percentile`].
pub const KIND: Kind = Kind {
    name: "percentile",
    fields: &[
        "metric",
        "percentile",
        "window",
        "delay",
        "above",
        "clear_below",
        "below",
        "clear_above",
        "min_denominator",
        "no_data",
        "for",
        "owner",
        "realm",
    ],
    evaluates: DurationMetric::names,
    sample: "metric = \"processing_seconds\"\npercentile = 99\nwindow = \"1h\"\nabove = 5",
    read,
};

metrics! {
    /// Durations.
    DurationMetric {
        /// From received to applied.
        Processing = "processing_seconds" of Pipeline by [],
        /// From an account's creation to enabled charges.
        Onboarding = "onboarding_seconds" of Accounts by [],
        /// From an account's creation to the submitted form.
        StageStarted = "onboarding_started_seconds" of Accounts by [],
        /// From there to an external account for payouts.
        StageExternalAccount = "external_account_seconds" of Accounts by [],
        /// From there to enabled charges.
        StageCharges = "charges_enabled_seconds" of Accounts by [],
        /// From there to the first payment of its own.
        StageFirstPayment = "first_payment_seconds" of Accounts by [],
        /// From a provider's registration to its connected account.
        AccountCreated = "account_created_seconds" of Application by [],
        /// From the opening of a support ticket to the first response.
        FirstResponse = "first_response_seconds" of Application by [],
    }
}

/// A percentile of durations in a sliding window, or their mean.
#[derive(Debug)]
pub struct Percentile {
    metric: DurationMetric,
    statistic: Statistic,
    window: Window,
}

/// What is computed from the durations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "expected 1 to 100, or \"mean\"")]
enum Statistic {
    Percent(i64),
    Mean(Mean),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Mean {
    Mean,
}

fn read(fields: &mut Fields<'_>) -> Option<RuleKind> {
    let metric = fields.metric();
    let statistic = fields.required("percentile");
    match statistic {
        Some(Statistic::Percent(percent)) if !(1..=100).contains(&percent) => fields.fault(
            "percentile",
            "`percentile` must be 1 to 100, or \"mean\"".into(),
        ),
        Some(Statistic::Mean(_)) if metric == Some(DurationMetric::Processing) => fields.fault(
            "percentile",
            "`percentile` must be 1 to 100: no mean is kept for this metric".into(),
        ),
        _ => {}
    }
    let window = Window::read(fields);
    let measure = metric.map(|metric| Percentile {
        metric,
        statistic: statistic.unwrap_or(Statistic::Percent(50)),
        window,
    });
    MetricRule::read(fields, measure)
}

impl Measure for Percentile {
    fn names(&self) -> MeasureNames {
        MeasureNames::of(KIND.name, self.metric)
    }

    fn unit(&self) -> Unit {
        Unit::Seconds
    }

    fn bounds(&self) -> Bounds {
        if self.metric != DurationMetric::Processing {
            return Bounds::NotNegative;
        }
        let bounds = PROCESSING_BOUNDS_MS.iter();
        Bounds::OneOf(bounds.map(|ms| f64::from(*ms) / 1000.0).collect())
    }

    fn history(&self) -> History {
        self.window.history(self.metric.buckets().0)
    }

    fn samples(&self, query: MetricQuery<'_>) -> Samples {
        let (samples, value) = match self.statistic {
            Statistic::Percent(percent) => self.percentile(query, percent),
            Statistic::Mean(_) => self.mean(query),
        };
        Sample {
            value,
            samples,
            ..Sample::default()
        }
        .alone()
    }

    fn fields(&self) -> Vec<(&'static str, Value)> {
        let statistic = match self.statistic {
            Statistic::Percent(percent) => json!(percent),
            Statistic::Mean(_) => json!("mean"),
        };
        let mut fields = self.window.fields();
        fields.push(("percentile", statistic));
        fields
    }

    fn describe(&self) -> String {
        let statistic = match self.statistic {
            Statistic::Percent(percent) => format!("{percent} %"),
            Statistic::Mean(_) => "mean".to_owned(),
        };
        format!("{statistic} of {} in {}", self.metric(), self.window)
    }
}

impl Percentile {
    /// The number of durations, and the percentile.
    fn percentile(&self, query: MetricQuery<'_>, percent: i64) -> (i64, Option<f64>) {
        let (family, label) = self.metric.buckets();
        let mut buckets = BTreeMap::<u32, i64>::new();
        for (_, rest, n) in query.family(self.window, family) {
            if let Some(bucket) = after_label(&rest, label).and_then(|last| last.parse().ok()) {
                let count: &mut i64 = buckets.entry(bucket).or_default();
                *count = count.saturating_add(n);
            }
        }
        let counts: Vec<(u32, i64)> = buckets.into_iter().collect();
        let value = match self.metric {
            DurationMetric::Processing => {
                rank(&counts, percent).map(|bound_ms| f64::from(bound_ms) / 1000.0)
            }
            _ => percentile(&counts, percent).map(number),
        };
        (counts.iter().map(|(_, n)| n).sum(), value)
    }

    /// The number of durations, and their mean.
    fn mean(&self, query: MetricQuery<'_>) -> (i64, Option<f64>) {
        let Some((family, label)) = self.metric.sums() else {
            return (0, None);
        };
        let (mut count, mut seconds) = (0, 0);
        for (_, rest, n) in query.family(self.window, family) {
            match after_label(&rest, label) {
                Some("count") => count = i64::saturating_add(count, n),
                Some("seconds") => seconds = i64::saturating_add(seconds, n),
                _ => {}
            }
        }
        (count, (count > 0).then(|| number(seconds) / number(count)))
    }
}

impl DurationMetric {
    /// The family of histogram buckets, and the label that they begin with (empty: none).
    fn buckets(self) -> (&'static str, &'static str) {
        match self {
            Self::Processing => ("events", "processing"),
            Self::Onboarding => ("onboarded_bucket", ""),
            Self::StageStarted => ("stage_bucket", "onboarding_started"),
            Self::StageExternalAccount => ("stage_bucket", "external_account_added"),
            Self::StageCharges => ("stage_bucket", "charges_enabled"),
            Self::StageFirstPayment => ("stage_bucket", "first_payment"),
            Self::AccountCreated => ("signup_stage_bucket", "account_created"),
            Self::FirstResponse => ("first_response_bucket", ""),
        }
    }

    /// The same for the count and the sum of seconds, where they are kept.
    fn sums(self) -> Option<(&'static str, &'static str)> {
        let (_, label) = self.buckets();
        match self {
            Self::Processing => None,
            Self::Onboarding => Some(("onboarded", label)),
            Self::StageStarted
            | Self::StageExternalAccount
            | Self::StageCharges
            | Self::StageFirstPayment => Some(("stage", label)),
            Self::AccountCreated => Some(("signup_stage", label)),
            Self::FirstResponse => Some(("first_response", label)),
        }
    }
}

/// The end of a counter's name, after `label`.
fn after_label<'a>(rest: &[&'a str], label: &str) -> Option<&'a str> {
    match rest {
        [last] if label.is_empty() => Some(*last),
        [first, last] if *first == label => Some(*last),
        _ => None,
    }
}
