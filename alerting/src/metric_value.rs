//! Computes metric values from counters. Pure.

use std::collections::BTreeMap;

use revwatch_core::counters::{Bucket, Counters, hour_of};
use revwatch_core::histogram::{percentile, rank};
use revwatch_core::kpi::Ratio;
use revwatch_core::money::Money;

use crate::metric::{
    CountMetric, DurationMetric, GaugeMetric, LevelMetric, RatioMetric, ShareMetric,
};
use crate::rule::{Fall, Measure, Window};

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
    /// Notifiers that cannot deliver until a setting is corrected.
    pub broken_notifiers: Vec<String>,
}

/// Everything that metric values are computed from.
#[derive(Debug, Clone, Copy)]
pub struct MetricInputs<'a> {
    /// Current counters, and those of all hours that the rules need.
    pub counters: &'a Counters,
    /// See [`PipelineStatus`].
    pub pipeline: &'a PipelineStatus,
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
    pub money: Vec<Money>,
}

/// The metric value, as of `at_s` (not after now), for each segment that `by` divides the business
/// into; without `by`, under the empty name.
pub fn samples(
    measure: &Measure,
    by: Option<&str>,
    inputs: MetricInputs<'_>,
    at_s: i64,
) -> BTreeMap<String, Sample> {
    let query = MetricQuery {
        counters: inputs.counters,
        by,
        hour: hour_of(at_s),
        now_hour: hour_of(inputs.now_s),
    };
    match measure {
        Measure::Ratio(metric, window) => query.ratio(*metric, *window),
        Measure::Count(metric, window) | Measure::Absence(metric, window) => {
            query.count(*metric, *window)
        }
        Measure::Gauge(metric) if metric.is_pipeline_metric() => {
            pipeline_level(*metric, by, inputs.pipeline)
        }
        // Before the first event was applied, no level is too low.
        Measure::Gauge(_) if !query.has_data() => {
            if by.is_none() {
                single(Sample::default())
            } else {
                BTreeMap::new()
            }
        }
        Measure::Gauge(metric) => query.gauge(*metric),
        Measure::Drop(metric, fall) => query.fall(*metric, *fall),
        Measure::Consecutive(ShareMetric::PastDueShare, _) => single(query.past_due()),
        Measure::Percentile(metric, percent, window) => query.durations(*metric, *percent, *window),
    }
}

/// The sample of a segment without any counter.
pub fn missing(measure: &Measure) -> Sample {
    match measure {
        Measure::Gauge(metric)
            if metric.is_pipeline_metric() && *metric != GaugeMetric::BrokenNotifiers =>
        {
            Sample::default()
        }
        Measure::Count(..) | Measure::Gauge(_) => level(0),
        Measure::Drop(..) => no_drop(),
        Measure::Ratio(..)
        | Measure::Absence(..)
        | Measure::Consecutive(..)
        | Measure::Percentile(..) => Sample::default(),
    }
}

/// Where there was nothing, nothing can drop, however few samples that is.
fn no_drop() -> Sample {
    Sample {
        value: Some(0.0),
        samples: i64::MAX,
        ..Sample::default()
    }
}

/// The end of the newest hour in which Stripe created an applied event, among the hours in
/// `counters`.
pub fn newest_event_s(counters: &Counters) -> Option<i64> {
    let hours = counters
        .iter()
        .filter_map(|(bucket, name, count)| match bucket {
            Bucket::Hour(hour) if name == "events|created" && count > 0 => Some(hour),
            _ => None,
        });
    hours
        .max()
        .map(|hour| (i64::from(hour) + 1).saturating_mul(3600))
}

fn single(sample: Sample) -> BTreeMap<String, Sample> {
    BTreeMap::from([(String::new(), sample)])
}

fn level(value: i64) -> Sample {
    Sample {
        value: Some(number(value)),
        samples: 1,
        ..Sample::default()
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts and amounts stay far below 2^53"
)]
fn number(value: i64) -> f64 {
    value as f64
}

fn pipeline_level(
    metric: GaugeMetric,
    by: Option<&str>,
    pipeline: &PipelineStatus,
) -> BTreeMap<String, Sample> {
    let known = |value: Option<i64>| single(value.map_or_else(Sample::default, level));
    match metric {
        GaugeMetric::QueueDepth => known(pipeline.queue_depth),
        GaugeMetric::DeadLetters => known(pipeline.dead_letters),
        GaugeMetric::Parked => known(pipeline.parked),
        _ if by.is_some() => pipeline
            .broken_notifiers
            .iter()
            .map(|name| (name.clone(), level(1)))
            .collect(),
        _ => single(level(
            i64::try_from(pipeline.broken_notifiers.len()).unwrap_or(i64::MAX),
        )),
    }
}

/// Counters as of the end of one hour.
#[derive(Clone, Copy)]
struct MetricQuery<'a> {
    counters: &'a Counters,
    by: Option<&'a str>,
    hour: u32,
    now_hour: u32,
}

impl<'a> MetricQuery<'a> {
    /// Whether any event was ever applied.
    fn has_data(self) -> bool {
        self.counters
            .under(Bucket::Current, "events")
            .next()
            .is_some()
    }

    fn hours(self, window: Window) -> std::ops::RangeInclusive<u32> {
        let last = self.hour.saturating_sub(window.delay_hours);
        last.saturating_sub(window.hours)..=last
    }

    /// The counters of a family over a window: hour, the rest of the name, and the value.
    fn family(
        self,
        window: Window,
        first: &'a str,
    ) -> impl Iterator<Item = (u32, Vec<&'a str>, i64)> {
        let counters = self.counters;
        self.hours(window).flat_map(move |hour| {
            counters
                .under(Bucket::Hour(hour), first)
                .map(move |(rest, n)| (hour, rest, n))
        })
    }

    /// The segment that a counter belongs to; `segment` is the end of its name.
    fn part(self, hour: u32, segment: &str) -> String {
        const DAYS: [&str; 7] = ["thu", "fri", "sat", "sun", "mon", "tue", "wed"];
        match self.by {
            None => String::new(),
            // 1970-01-01 was a Thursday.
            Some("weekday") => DAYS[(hour / 24 % 7) as usize].to_owned(),
            Some(_) => segment.to_owned(),
        }
    }

    fn ratio(self, metric: RatioMetric, window: Window) -> BTreeMap<String, Sample> {
        let mut ratios = BTreeMap::<String, (Ratio, BTreeMap<String, i64>)>::new();
        let mut add = |part: String, counted: i64, of: i64| {
            let (ratio, _) = ratios.entry(part).or_default();
            ratio.part += counted;
            ratio.whole += of;
        };
        match metric {
            RatioMetric::PayoutFailures | RatioMetric::PaymentFailures => {
                let (family, good) = match metric {
                    RatioMetric::PayoutFailures => ("payouts", "paid"),
                    _ => ("payments", "succeeded"),
                };
                for (hour, rest, n) in self
                    .family(window, family)
                    .filter(|(_, rest, _)| rest.len() == 2)
                {
                    let failed = rest[0] == "failed";
                    if failed || rest[0] == good {
                        add(self.part(hour, rest[1]), if failed { n } else { 0 }, n);
                    }
                }
            }
            RatioMetric::OnboardingAbandonment
            | RatioMetric::OnboardingConversion
            | RatioMetric::StageStarted
            | RatioMetric::StageExternalAccount
            | RatioMetric::StageCharges => {
                let (from, to) = match metric {
                    RatioMetric::StageStarted => ("account_created", "onboarding_started"),
                    RatioMetric::StageExternalAccount => {
                        ("onboarding_started", "external_account_added")
                    }
                    RatioMetric::StageCharges => ("external_account_added", "charges_enabled"),
                    _ => ("account_created", "charges_enabled"),
                };
                let lost = metric == RatioMetric::OnboardingAbandonment;
                for (hour, rest, n) in self
                    .family(window, "cohort")
                    .filter(|(_, rest, _)| rest.len() == 2)
                {
                    let part = self.part(hour, rest[1]);
                    if rest[0] == from {
                        add(part, if lost { n } else { 0 }, n);
                    } else if rest[0] == to {
                        add(part, if lost { -n } else { n }, 0);
                    }
                }
            }
        }
        if metric == RatioMetric::PayoutFailures {
            for (hour, rest, minor) in self
                .family(window, "payouts_minor")
                .filter(|(_, rest, _)| rest.len() == 2)
            {
                if rest[0] == "failed" {
                    let (_, money) = ratios.entry(self.part(hour, rest[1])).or_default();
                    *money.entry(rest[1].to_owned()).or_default() += minor;
                }
            }
        }
        let sample = |(ratio, money): (Ratio, BTreeMap<String, i64>)| Sample {
            value: ratio.value(),
            samples: ratio.whole,
            parts: Some((ratio.part, ratio.whole)),
            money: money
                .into_iter()
                .map(|(currency, minor)| Money::new(minor, &currency))
                .collect(),
        };
        let mut samples: BTreeMap<_, _> = ratios
            .into_iter()
            .map(|(part, ratio)| (part, sample(ratio)))
            .collect();
        if self.by.is_none() && samples.is_empty() {
            samples = single(Sample::default());
        }
        samples
    }

    fn count(self, metric: CountMetric, window: Window) -> BTreeMap<String, Sample> {
        // The family, and the first label to count (empty: all); the segment is the label after it.
        let (family, label) = match metric {
            CountMetric::Events => ("events", "created"),
            CountMetric::AccountsCreated => ("cohort", "account_created"),
            CountMetric::OnboardingsCompleted => ("onboarded", "count"),
            CountMetric::Milestones => ("milestone", ""),
            CountMetric::Deauthorizations => ("deauthorized", ""),
            CountMetric::PayoutsFailed => ("payouts", "failed"),
            CountMetric::PayoutsPaid => ("payouts", "paid"),
            CountMetric::PaymentsFailed => ("payments", "failed"),
            CountMetric::PaymentsSucceeded => ("payments", "succeeded"),
            CountMetric::SubscriptionsLost => ("churn", "lost"),
            CountMetric::ApiErrors => ("events", "api_error"),
        };
        let mut sums = BTreeMap::<String, i64>::new();
        if self.by.is_none() {
            sums.insert(String::new(), 0);
        }
        for (hour, rest, n) in self.family(window, family) {
            let segment = match (label, rest.as_slice()) {
                ("", [segment]) => segment,
                (label, [first]) if *first == label => "",
                (label, [first, segment]) if *first == label => segment,
                _ => continue,
            };
            *sums.entry(self.part(hour, segment)).or_default() += n;
        }
        if metric == CountMetric::Deauthorizations {
            let hours = self
                .hours(window)
                .map(|hour| self.counters.get(Bucket::Hour(hour), &["deauthorized"]));
            *sums.entry(String::new()).or_default() += hours.sum::<i64>();
        }
        // Before the first event was applied, nothing is missing.
        if !self.has_data() {
            return single(Sample::default());
        }
        sums.into_iter()
            .map(|(part, sum)| (part, level(sum)))
            .collect()
    }

    fn gauge(self, metric: GaugeMetric) -> BTreeMap<String, Sample> {
        let family = match metric {
            GaugeMetric::Mrr => "mrr",
            GaugeMetric::MrrPastDue => "mrr_past_due",
            GaugeMetric::Accounts => "accounts",
            GaugeMetric::InvoicesOpen => "invoices_open_minor",
            GaugeMetric::Disputed => "disputed_minor",
            GaugeMetric::PastDueShare => return single(self.past_due()),
            GaugeMetric::AccountsCharging => {
                return single(level(self.standing("accounts_charging")));
            }
            GaugeMetric::AccountsNeedingRefresh => {
                return single(level(self.standing("accounts_stale")));
            }
            GaugeMetric::RetryQueue => {
                let money = self.counters.under(Bucket::Current, "invoices_open_minor");
                let money = money
                    .map(|(rest, minor)| Money::new(minor, rest[0]))
                    .collect();
                return single(Sample {
                    money,
                    ..level(self.standing("invoices_retrying"))
                });
            }
            GaugeMetric::QueueDepth
            | GaugeMetric::DeadLetters
            | GaugeMetric::Parked
            | GaugeMetric::BrokenNotifiers => {
                return BTreeMap::new();
            }
        };
        let mut sums = BTreeMap::<String, i64>::new();
        for (rest, value) in self.counters.under(Bucket::Current, family) {
            *sums.entry(self.part(self.hour, rest[0])).or_default() += value;
        }
        sums.into_iter()
            .map(|(part, sum)| (part, level(sum)))
            .collect()
    }

    fn standing(self, name: &str) -> i64 {
        self.counters.get(Bucket::Current, &[name])
    }

    /// The current level minus the changes since the end of `hour`.
    fn level_at(self, hour: u32, standing: &[&str], change: &[&str]) -> i64 {
        let since = hour.saturating_add(1)..=self.now_hour;
        let since: i64 = since
            .map(|hour| self.counters.get(Bucket::Hour(hour), change))
            .sum();
        self.counters.get(Bucket::Current, standing) - since
    }

    fn fall(self, metric: LevelMetric, fall: Fall) -> BTreeMap<String, Sample> {
        let before_hour = self.hour.saturating_sub(fall.hours);
        let fallen = |standing: &[&str], change: &[&str]| {
            let before = self.level_at(before_hour, standing, change);
            if before <= 0 {
                return no_drop();
            }
            let now = self.level_at(self.hour, standing, change);
            let share = Ratio {
                part: before - now,
                whole: before,
            };
            let value = if fall.absolute {
                Some(number(before - now))
            } else {
                share.value()
            };
            Sample {
                value,
                samples: before,
                parts: Some((now, before)),
                money: Vec::new(),
            }
        };
        match metric {
            LevelMetric::AccountsCharging => {
                single(fallen(&["accounts_charging"], &["charging_change"]))
            }
            LevelMetric::ActiveBase => single(fallen(&["base", "all"], &["base", "all"])),
            LevelMetric::Paying => single(fallen(&["base", "paying"], &["base", "paying"])),
            LevelMetric::Mrr => {
                // A currency whose MRR fell to zero exists in the changes only.
                let changed = (before_hour..=self.now_hour)
                    .flat_map(|hour| self.counters.under(Bucket::Hour(hour), "mrr_change"));
                let all = self.counters.under(Bucket::Current, "mrr").chain(changed);
                let currencies: std::collections::BTreeSet<&str> =
                    all.map(|(rest, _)| rest[0]).collect();
                let sample = |currency: &str| {
                    let fallen = fallen(&["mrr", currency], &["mrr_change", currency]);
                    let lost = fallen.parts.map_or(0, |(now, before)| before - now);
                    Sample {
                        money: vec![Money::new(lost, currency)],
                        ..fallen
                    }
                };
                currencies
                    .into_iter()
                    .map(|currency| (currency.to_owned(), sample(currency)))
                    .collect()
            }
        }
    }

    fn past_due(self) -> Sample {
        let part = self.level_at(self.hour, &["base", "past_due"], &["base", "past_due"]);
        let ratio = Ratio {
            part,
            whole: self.level_at(self.hour, &["base", "all"], &["base", "all"]),
        };
        let money = self.counters.under(Bucket::Current, "mrr_past_due");
        Sample {
            value: ratio.value(),
            samples: ratio.whole,
            parts: Some((ratio.part, ratio.whole)),
            money: money
                .map(|(rest, minor)| Money::new(minor, rest[0]))
                .collect(),
        }
    }

    fn durations(
        self,
        metric: DurationMetric,
        percent: Option<i64>,
        window: Window,
    ) -> BTreeMap<String, Sample> {
        // Families of buckets and of sums, and the label that both begin with.
        let (histogram, sums, label) = match metric {
            DurationMetric::Processing => ("events", "", "processing"),
            DurationMetric::Onboarding => ("onboarded_bucket", "onboarded", ""),
            DurationMetric::StageStarted => ("stage_bucket", "stage", "onboarding_started"),
            DurationMetric::StageExternalAccount => {
                ("stage_bucket", "stage", "external_account_added")
            }
            DurationMetric::StageCharges => ("stage_bucket", "stage", "charges_enabled"),
        };
        let mut d = Durations::default();
        let has_label = |rest: &[&'a str]| match rest {
            [last] if label.is_empty() => Some(*last),
            [first, last] if *first == label => Some(*last),
            _ => None,
        };
        for (_, rest, n) in self.family(window, histogram) {
            if let Some(bucket) = has_label(&rest).and_then(|bucket| bucket.parse::<u32>().ok()) {
                *d.buckets.entry(bucket).or_default() += n;
            }
        }
        for (_, rest, n) in self.family(window, sums).filter(|_| !sums.is_empty()) {
            match has_label(&rest) {
                Some("count") => d.count += n,
                Some("seconds") => d.seconds += n,
                _ => {}
            }
        }
        let counts: Vec<(u32, i64)> = d.buckets.into_iter().collect();
        let samples = if percent.is_some() {
            counts.iter().map(|(_, n)| n).sum()
        } else {
            d.count
        };
        let value = match percent {
            Some(percent) if metric == DurationMetric::Processing => {
                rank(&counts, percent).map(|bound_ms| f64::from(bound_ms) / 1000.0)
            }
            Some(percent) => percentile(&counts, percent).map(number),
            None => (d.count > 0).then(|| number(d.seconds) / number(d.count)),
        };
        single(Sample {
            value,
            samples,
            ..Sample::default()
        })
    }
}

#[derive(Default)]
struct Durations {
    buckets: BTreeMap<u32, i64>,
    count: i64,
    seconds: i64,
}
