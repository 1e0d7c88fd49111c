//! What differs between the kinds of rules on metrics. Pure.

use std::collections::BTreeSet;
use std::fmt;

use jiff::tz::TimeZone;
use serde_json::Value;

use super::metric::Named;
use super::scope::About;
use super::threshold::{Bounds, Threshold, Verdict};
use super::window::{History, POINTS};
use crate::alert::Unit;
use crate::metric_value::{MetricQuery, Sample, Samples};

/// How the metric values of one rule are computed: the part in which kinds of rules differ.
pub trait Measure: fmt::Debug + Send + Sync {
    /// What rule files call it.
    fn names(&self) -> MeasureNames;

    /// See [`MeasureNames::kind`].
    fn kind(&self) -> &'static str {
        self.names().kind
    }

    /// See [`MeasureNames::metric`].
    fn metric(&self) -> &'static str {
        self.names().metric
    }

    /// See [`MeasureNames::segments`].
    fn segments(&self) -> &'static [&'static str] {
        self.names().segments
    }

    /// See [`MeasureNames::about`].
    fn about(&self) -> About {
        self.names().about
    }

    /// The unit of its values.
    fn unit(&self) -> Unit;

    /// Whether it is computed from amounts of money, which exist per currency only.
    fn is_money(&self) -> bool {
        self.unit() == Unit::Minor
    }

    /// The thresholds that make sense.
    fn bounds(&self) -> Bounds {
        match self.unit() {
            Unit::Share => Bounds::Share,
            _ => Bounds::NotNegative,
        }
    }

    /// Whether it measures the pipeline itself, not the state that the pipeline keeps.
    fn is_about_pipeline(&self) -> bool {
        false
    }

    /// The earlier counters that it reads.
    fn history(&self) -> History;

    /// The time zone whose midnights matter.
    fn time_zone(&self) -> Option<&TimeZone> {
        None
    }

    /// The values of all segments.
    fn samples(&self, query: MetricQuery<'_>) -> Samples;

    /// The value of a segment without any counter.
    fn missing(&self) -> Sample {
        Sample::default()
    }

    /// When the breach began, if the current value is one; `verdict` is [`Verdict::Breached`] or
    /// [`Verdict::Between`].
    fn breached_since(
        &self,
        verdict: Verdict,
        _threshold: &Threshold,
        query: MetricQuery<'_>,
    ) -> Option<i64> {
        (verdict == Verdict::Breached).then_some(query.inputs.now_s)
    }

    /// Its own fields in rule files, besides the metric and the threshold.
    fn fields(&self) -> Vec<(&'static str, Value)>;

    /// What is compared with the threshold, for example `payout_failures in 1d`.
    fn describe(&self) -> String;

    /// Whether people choose the threshold, so that a description names it.
    fn has_threshold(&self) -> bool {
        true
    }
}

/// What rule files call a measure.
#[derive(Debug, Clone, Copy)]
pub struct MeasureNames {
    /// The name of its kind.
    pub kind: &'static str,
    /// The metric's name.
    pub metric: &'static str,
    /// The dimensions that the metric can be divided by.
    pub segments: &'static [&'static str],
    /// Whose figures it is computed from.
    pub about: About,
}

impl MeasureNames {
    /// Of a metric of `kind`.
    pub(super) fn of(kind: &'static str, metric: impl Named) -> Self {
        Self {
            kind,
            metric: metric.name(),
            segments: metric.segments(),
            about: metric.about(),
        }
    }
}

impl dyn Measure {
    /// Number of hours before the current one that it needs, including its trend.
    pub fn hours_needed(&self) -> u32 {
        let History {
            hours,
            trend_step_hours,
            ..
        } = self.history();
        hours.saturating_add(trend_step_hours.unwrap_or(0).saturating_mul(POINTS))
    }

    /// How many hours before now the hours are whose minutes it needs, including its trend.
    pub fn ages_of_minutes(&self) -> BTreeSet<u32> {
        self.history().ages_of_minutes()
    }
}
