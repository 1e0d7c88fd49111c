//! `consecutive`: a level that was out of bounds at the end of several consecutive closed days.
//! Pure.

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use serde_json::{Value, json};

use super::condition_or_metric::{MetricRule, RuleKind};
use super::fields::Fields;
use super::kind_description::Kind;
use super::measure::{Measure, MeasureNames};
use super::metric::{Named, metrics};
use super::threshold::{Threshold, Verdict};
use super::window::History;
use crate::alert::Unit;
use crate::metric_value::{MetricQuery, Samples};

/// See [`Consecutive`].
pub const KIND: Kind = Kind {
    name: "consecutive",
    fields: &[
        "metric",
        "days",
        "time_zone",
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
    evaluates: ShareMetric::names,
    sample: "metric = \"past_due_share\"\ndays = 2\nabove = 0.08",
    read,
};

metrics! {
    /// Shares that are also known for earlier hours.
    ShareMetric {
        /// Past due ÷ (active + past due) subscriptions.
        PastDueShare = "past_due_share" of Billing by [],
    }
}

/// A level that was out of bounds at the end of several consecutive closed days.
#[derive(Debug)]
pub struct Consecutive {
    metric: ShareMetric,
    days: u32,
    /// The zone whose midnight closes a day.
    time_zone: TimeZone,
}

fn read(fields: &mut Fields<'_>) -> Option<RuleKind> {
    let metric = fields.metric();
    let days = fields.required("days");
    if days.is_some_and(|days| !(1..=31).contains(&days)) {
        fields.fault("days", "`days` must be 1 to 31".into());
    }
    let name: Option<String> = fields.optional("time_zone");
    let zone = TimeZone::get(name.as_deref().unwrap_or("UTC"));
    if let (Err(_), Some(name)) = (&zone, name) {
        fields.fault(
            "time_zone",
            format!("`time_zone` {name:?} is unknown: use a name such as Europe/Lisbon"),
        );
    }
    let measure = metric.map(|metric| Consecutive {
        metric,
        days: days.unwrap_or(1),
        time_zone: zone.unwrap_or(TimeZone::UTC),
    });
    MetricRule::read(fields, measure)
}

impl Measure for Consecutive {
    fn names(&self) -> MeasureNames {
        MeasureNames::of(KIND.name, self.metric)
    }

    fn unit(&self) -> Unit {
        Unit::Share
    }

    fn history(&self) -> History {
        History {
            // A local day can begin up to 26 hours away from the UTC day and last 25.
            hours: self.days.saturating_add(2).saturating_mul(25),
            trend_step_hours: Some(24),
            ..History::default()
        }
    }

    fn time_zone(&self) -> Option<&TimeZone> {
        Some(&self.time_zone)
    }

    fn samples(&self, query: MetricQuery<'_>) -> Samples {
        match self.metric {
            ShareMetric::PastDueShare => query.past_due().alone(),
        }
    }

    /// When the first of the days began, if the value was out of bounds at the end of each. A day
    /// with too few samples breaks the sequence. A value that is clear by now is not worth an alert.
    fn breached_since(
        &self,
        _current: Verdict,
        threshold: &Threshold,
        query: MetricQuery<'_>,
    ) -> Option<i64> {
        let midnights = midnights(query.inputs.now_s, &self.time_zone, self.days)?;
        let (since_s, ends) = midnights.split_last()?;
        let is_breached = |end_s: &i64| {
            // The last hour of the day.
            let mut closing = self.samples(query.at(end_s.saturating_sub(1)));
            let closing = closing.remove("");
            closing.is_some_and(|sample| threshold.compare(&sample) == Verdict::Breached)
        };
        ends.iter().all(is_breached).then_some(*since_s)
    }

    fn fields(&self) -> Vec<(&'static str, Value)> {
        let zone = self.time_zone.iana_name().unwrap_or("UTC");
        vec![("days", json!(self.days)), ("time_zone", json!(zone))]
    }

    fn describe(&self) -> String {
        let zone = self.time_zone.iana_name().unwrap_or("UTC");
        format!(
            "{} at the end of {} days ({zone})",
            self.metric(),
            self.days
        )
    }
}

/// The midnight that began today, and those before it: `days + 1` of them, newest first. `None`
/// only at the end of the calendar. Days are calendar days: 23 or 25 hours long where clocks
/// change.
fn midnights(now_s: i64, zone: &TimeZone, days: u32) -> Option<Vec<i64>> {
    let today = Timestamp::from_second(now_s)
        .ok()?
        .to_zoned(zone.clone())
        .date();
    (0..=days)
        .map(|back| {
            let date = today.checked_sub(i64::from(back).days()).ok()?;
            Some(date.to_zoned(zone.clone()).ok()?.timestamp().as_second())
        })
        .collect()
}
