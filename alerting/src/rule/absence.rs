//! `absence`: no occurrence in a sliding window. Pure.

use revwatch_core::bucket::minute_of;
use revwatch_core::kpi::application::APP_RECEIVED;
use serde_json::Value;

use super::condition_or_metric::{MetricRule, RuleKind};
use super::count::CountMetric;
use super::fields::Fields;
use super::kind_description::Kind;
use super::measure::{Measure, MeasureNames};
use super::metric::Named;
use super::threshold::Threshold;
use super::window::{History, Window};
use crate::alert::{Side, Unit};
use crate::metric_value::{MetricQuery, Sample, Samples};

/// See [`Absence`].
pub const KIND: Kind = Kind {
    name: "absence",
    fields: &[
        "metric", "window", "delay", "no_data", "for", "owner", "realm",
    ],
    evaluates: CountMetric::names,
    sample: "metric = \"events\"\nwindow = \"24h\"",
    read,
};

/// Fewer than one occurrence. Every number of samples is enough.
const FEWER_THAN_ONE: Threshold = Threshold {
    side: Side::Below,
    limit: 1.0,
    clear: 1.0,
    min_samples: 0,
};

/// The events that came by webhook, in the hour of receipt.
const RECEIVED: &str = "events|received";

/// No occurrence in a sliding window.
#[derive(Debug)]
pub struct Absence {
    metric: CountMetric,
    window: Window,
}

fn read(fields: &mut Fields<'_>) -> Option<RuleKind> {
    let (metric, window) = (fields.metric(), Window::read(fields));
    let measure = metric.map(|metric| Absence { metric, window });
    MetricRule::read_with(fields, measure, |_, _| Some(FEWER_THAN_ONE))
}

impl Measure for Absence {
    fn names(&self) -> MeasureNames {
        MeasureNames::of(KIND.name, self.metric)
    }

    fn unit(&self) -> Unit {
        Unit::Count
    }

    fn history(&self) -> History {
        self.window.history(self.metric.counter())
    }

    fn samples(&self, query: MetricQuery<'_>) -> Samples {
        let mut samples = self.metric.occurrences(query, self.window);
        let (received, is_replaced): (_, fn(&Sample) -> bool) = match self.metric {
            // An old event that is delivered now shows that deliveries arrive.
            CountMetric::Events => (query.sum(self.window, RECEIVED), |it| it.value == Some(0.0)),
            // Its clock may be wrong: only what is received shows that it sends.
            CountMetric::AppEvents => (query.sum(self.window, APP_RECEIVED), |it| {
                it.value.is_some()
            }),
            _ => (0, |_| false),
        };
        let replaced = samples.values_mut().filter(|it| is_replaced(it));
        replaced.for_each(|sample| *sample = Sample::count(received));
        // Before the window began, there was no revwatch: nothing is missing yet.
        let minutes = query.minutes(self.window, self.metric.counter());
        let begun = query.inputs.begun_s.map(minute_of);
        if begun.is_some_and(|begun| begun >= *minutes.start()) {
            let unseen = samples.values_mut().filter(|s| s.value == Some(0.0));
            unseen.for_each(|sample| *sample = Sample::default());
        }
        samples
    }

    fn fields(&self) -> Vec<(&'static str, Value)> {
        self.window.fields()
    }

    fn describe(&self) -> String {
        format!("no {} in {}", self.metric(), self.window)
    }

    fn has_threshold(&self) -> bool {
        false
    }
}
