//! Metric values and what they are computed from. Each kind of rule computes its own, with what
//! [`MetricQuery`] offers. Pure.

// What a sender sends must neither panic nor wrap; see `revwatch_core`.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use revwatch_core::amounts::{Amounts, MoneyDoubt, NOT_READABLE, TOO_LARGE};
use revwatch_core::bucket::{Bucket, covering, hour_of, last_minute, window_minutes};
use revwatch_core::counters::{
    Counters, Figures, MRR_PAST_DUE, MRR_PAST_DUE_INCOMPLETE, UNKNOWN, sum,
};
use revwatch_core::kpi::application::{APP_APPLIED, APP_CREATED};
use revwatch_core::kpi::{Ratio, beyond, by_first};
use revwatch_core::mode::OTHER_MODE;
use revwatch_core::money::Money;
use revwatch_core::source::Source;

use crate::rule::WEEKDAYS;
use crate::rule::window::Window;

/// The pipeline's own status, in addition to the counters; `None` where it could not be queried.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PipelineStatus {
    /// Deliveries waiting to be applied.
    pub queue_depth: Option<i64>,
    /// Deliveries that cannot be applied.
    pub dead_letters: Option<i64>,
    /// Deliveries that an operator has parked.
    pub parked: Option<i64>,
    /// For how many seconds deliveries have waited while none was applied; 0 while the pipeline
    /// works.
    pub stalled_s: i64,
    /// Notifiers that do not deliver, and why.
    pub broken_notifiers: BTreeMap<String, String>,
}

/// Everything that metric values are computed from.
#[derive(Debug, Clone, Copy)]
pub struct MetricInputs<'a> {
    /// Current counters, and those of all buckets that the rules need.
    pub counters: &'a Counters,
    /// See [`PipelineStatus`].
    pub pipeline: &'a PipelineStatus,
    /// Until when revwatch has certainly begun, in Unix seconds: what came before is not known to be missing.
    pub begun_s: Option<i64>,
    /// Unix seconds.
    pub now_s: i64,
}

/// A metric value of one segment of the business.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sample {
    /// `None`: there is no data.
    pub value: Option<f64>,
    /// The number of samples behind the value.
    pub samples: i64,
    /// The parts of a share.
    pub parts: Option<(i64, i64)>,
    /// The amounts concerned.
    pub money: Amounts,
    /// Between which values `value` is, if it is not exactly known.
    pub range: Option<(f64, f64)>,
    /// The most that the parts may be, if that is not exactly known; `None`: there is no bound.
    pub parts_high: Option<(Option<i64>, Option<i64>)>,
    /// Why, if that is known.
    pub reason: Option<String>,
}

/// A sample for each segment; without segments, one under the empty name.
pub type Samples = BTreeMap<String, Sample>;

impl Sample {
    /// A number of things.
    pub fn count(value: i64) -> Self {
        Self {
            value: Some(number(value)),
            samples: 1,
            ..Self::default()
        }
    }

    /// A part of something, and the amounts concerned.
    pub fn share(ratio: Ratio, money: Amounts) -> Self {
        Self {
            value: ratio.value(),
            samples: ratio.total,
            parts: Some((ratio.part, ratio.total)),
            money,
            ..Self::default()
        }
    }

    /// The only sample: that of the complete business.
    pub fn alone(self) -> Samples {
        BTreeMap::from([(String::new(), self)])
    }
}

/// The end of the newest hour in which a source created an applied event, among the hours in `counters`. One that is in
/// the future says nothing of now.
pub fn newest_event_s(counters: &Counters, source: Source, now_s: i64) -> Option<i64> {
    let now = hour_of(now_s);
    let created = match source {
        Source::App => APP_CREATED,
        Source::Stripe | Source::Snapshot => "events|created",
    };
    let hours = counters
        .iter()
        .filter_map(|(bucket, name, count)| match bucket {
            Bucket::Hour(hour) if name == created && count > 0 && hour <= now => Some(hour),
            _ => None,
        });
    hours
        .max()
        .map(|hour| i64::from(hour).saturating_add(1).saturating_mul(3600))
}

/// A count or an amount as a metric value.
#[expect(
    clippy::cast_precision_loss,
    reason = "counts and amounts stay far below 2^53"
)]
pub(crate) fn number(value: i64) -> f64 {
    value as f64
}

/// Counters as of one time.
#[derive(Debug, Clone, Copy)]
pub struct MetricQuery<'a> {
    /// The counters and the pipeline's status.
    pub inputs: MetricInputs<'a>,
    /// The counters of the classes that the rule is about.
    pub figures: &'a Figures<'a>,
    /// The dimension that divides the business into segments.
    pub by: Option<&'a str>,
    /// Unix seconds, not after now.
    pub at_s: i64,
}

impl<'a> MetricQuery<'a> {
    /// As of now.
    pub fn new(inputs: MetricInputs<'a>, figures: &'a Figures<'a>, by: Option<&'a str>) -> Self {
        Self {
            inputs,
            figures,
            by,
            at_s: inputs.now_s,
        }
    }

    /// The same as of `at_s`, which is not after now.
    #[must_use]
    pub fn at(self, at_s: i64) -> Self {
        Self { at_s, ..self }
    }

    /// Whether any event of the deployment's mode was ever processed.
    pub fn has_data(self) -> bool {
        let counters = self.inputs.counters;
        let mut events = counters.under(Bucket::Current, "events");
        events.any(|(rest, _)| rest[0] != OTHER_MODE)
    }

    /// Whether the application ever sent an event that was applied.
    pub fn has_application(self) -> bool {
        let applied = self.inputs.counters.get(Bucket::Current, &APP_APPLIED);
        applied > 0
    }

    /// The minutes of a window, for the counters below `name`.
    pub fn minutes(self, window: Window, name: &str) -> RangeInclusive<u32> {
        let seconds = |hours: u32| i64::from(hours).saturating_mul(3600);
        let until_s = self.at_s.saturating_sub(seconds(window.delay_hours));
        let from_s = until_s.saturating_sub(seconds(window.hours));
        window_minutes(name, from_s, until_s, self.inputs.now_s)
    }

    /// The sum of a counter over a window.
    pub fn sum(self, window: Window, name: &str) -> i64 {
        let parts: Vec<&str> = name.split('|').collect();
        let buckets = covering(self.minutes(window, name));
        sum(buckets.map(|bucket| self.figures.get(bucket, &parts)))
    }

    /// The counters below `name` over a window: bucket, the rest of the name, and the value.
    pub fn family(
        self,
        window: Window,
        name: &'a str,
    ) -> impl Iterator<Item = (Bucket, Vec<&'a str>, i64)> {
        let figures = self.figures;
        covering(self.minutes(window, name)).flat_map(move |bucket| {
            figures
                .under(bucket, name)
                .map(move |(rest, n)| (bucket, rest, n))
        })
    }

    /// The counters directly below `name`, whose last part is a segment: that and the value.
    pub fn by_segment(self, window: Window, name: &'a str) -> impl Iterator<Item = (String, i64)> {
        self.family(window, name)
            .filter_map(move |(bucket, rest, n)| match rest.as_slice() {
                [segment] => Some((self.segment(bucket, segment), n)),
                _ => None,
            })
    }

    /// The segment that a counter belongs to; `segment` is the end of its name.
    pub fn segment(self, bucket: Bucket, segment: &str) -> String {
        match (self.by, bucket.hour()) {
            (None, _) => String::new(),
            (Some("weekday"), Some(hour)) => WEEKDAYS[(hour / 24 % 7) as usize].to_owned(),
            (Some(_), _) => segment.to_owned(),
        }
    }

    /// The current value of a counter.
    pub fn current(self, name: &[&str]) -> i64 {
        self.figures.get(Bucket::Current, name)
    }

    /// Current amounts, by currency, of objects that may have amounts that cannot be read.
    pub fn current_money(self, family: &'a str) -> Amounts {
        let not_readable = self.current(&["amount_unknown", family]);
        let mut doubt = MoneyDoubt::default();
        if not_readable > 0 {
            doubt.unbounded.insert(UNKNOWN.to_owned(), not_readable);
            doubt.reasons.insert(NOT_READABLE.to_owned(), not_readable);
        }
        self.add_too_large([family], &mut doubt);
        Amounts {
            money: self.by_currency(family),
            doubt,
        }
    }

    /// Of a sum that is too large, nothing is known.
    fn add_too_large(self, families: impl IntoIterator<Item = &'a str>, doubt: &mut MoneyDoubt) {
        for currency in families.into_iter().flat_map(|it| beyond(self.figures, it)) {
            doubt.unbounded.insert(currency, 1);
            doubt.reasons.insert(TOO_LARGE.to_owned(), 1);
        }
    }

    /// Current MRR, by currency; `incomplete` counts the subscriptions of which it is not exactly known.
    pub fn current_mrr(self, families: [&'a str; 3], incomplete: &'a str) -> Amounts {
        let [low, extra, unbounded] = families;
        let counts = |family| by_first(self.figures, family);
        let mut doubt = MoneyDoubt {
            extra_minor: counts(extra),
            unbounded: counts(unbounded),
            reasons: counts(incomplete),
        };
        self.add_too_large(families, &mut doubt);
        Amounts {
            money: self.by_currency(low),
            doubt,
        }
    }

    fn by_currency(self, family: &'a str) -> Vec<Money> {
        let sums = by_first(self.figures, family).into_iter();
        sums.map(|(currency, minor)| Money::new(minor, &currency))
            .collect()
    }

    /// The level before a minute: the current one minus the changes since.
    pub fn level_before(self, minute: u32, current: &[&str], change: &[&str]) -> i64 {
        let since = covering(minute..=last_minute(hour_of(self.inputs.now_s)));
        let since = sum(since.map(|bucket| self.figures.get(bucket, change)));
        self.current(current).saturating_sub(since)
    }

    /// Past due ÷ (active + past due) subscriptions, with the MRR that is past due.
    pub fn past_due(self) -> Sample {
        let next_hour = last_minute(hour_of(self.at_s)).saturating_add(1);
        let level = |name: &str| self.level_before(next_hour, &["base", name], &["base", name]);
        let ratio = Ratio {
            part: level("past_due"),
            total: level("all"),
        };
        Sample::share(
            ratio,
            self.current_mrr(MRR_PAST_DUE, MRR_PAST_DUE_INCOMPLETE),
        )
    }
}
