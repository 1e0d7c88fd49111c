//! The figures that rules can look at, by name, and how each is made of counters. Pure.

use std::collections::BTreeMap;

use revwatch_shared::counters::{Bucket, Counters, hour_of};
use revwatch_shared::histogram::{percentile, rank};
use revwatch_shared::kpi::Ratio;
use revwatch_shared::money::Money;

use crate::alert::Unit;
use crate::reading::POINTS;
use crate::rule::{Fall, Measure, Window};

/// A metric with a name in rule files.
pub trait Named: Copy + 'static {
    /// All of them.
    const ALL: &'static [Self];
    /// In rule files.
    fn name(self) -> &'static str;
    /// What it can be divided by.
    fn segments(self) -> &'static [&'static str];
}

/// What the pipeline says of itself beside the counters; `None` where nobody could be asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pipeline {
    /// Deliveries that wait.
    pub queue_depth: Option<i64>,
    /// Deliveries that cannot be applied.
    pub dead_letters: Option<i64>,
    /// Notifiers that cannot tell anybody until something is mended.
    pub broken_notifiers: Vec<String>,
}

/// Everything that figures are made of.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Standing ones, and those of all hours that the rules need.
    pub counters: &'a Counters,
    /// See [`Pipeline`].
    pub pipeline: &'a Pipeline,
    /// Unix seconds.
    pub now_s: i64,
}

/// A figure of one part of the business.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sample {
    /// `None`: there is nothing to make it of.
    pub value: Option<f64>,
    /// From how many it was made.
    pub samples: i64,
    /// A share's parts.
    pub parts: Option<(i64, i64)>,
    /// The money concerned.
    pub money: Vec<Money>,
}

macro_rules! metrics {
    ($(#[$doc:meta])* $type:ident { $($(#[$of:meta])* $variant:ident = $name:literal by [$($by:literal),*],)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $type {
            $($(#[$of])* $variant,)+
        }

        impl Named for $type {
            const ALL: &'static [Self] = &[$(Self::$variant),+];

            fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            fn segments(self) -> &'static [&'static str] {
                match self { $(Self::$variant => &[$($by),*]),+ }
            }
        }
    };
}

metrics! {
    /// Shares over a window.
    RatioMetric {
        /// Failed ÷ (paid + failed) payouts.
        PayoutFailures = "payout_failures" by ["currency"],
        /// Failed ÷ all payment attempts.
        PaymentFailures = "payment_failures" by ["currency"],
        /// Of the accounts whose onboarding began in the window, those that cannot take charges.
        OnboardingAbandonment = "onboarding_abandonment" by ["country", "weekday"],
        /// Of the accounts whose onboarding began in the window, those that can take charges.
        OnboardingConversion = "onboarding_conversion" by ["country", "weekday"],
        /// Of the accounts that began in the window, those whose holder submitted the form.
        StageStarted = "onboarding_started_share" by ["country", "weekday"],
        /// Of those, the ones with an account to be paid out to.
        StageExternalAccount = "external_account_share" by ["country", "weekday"],
        /// Of those, the ones that may take charges.
        StageCharges = "charges_enabled_share" by ["country", "weekday"],
    }
}

metrics! {
    /// Things that happen.
    CountMetric {
        /// Events of any documented type, by the time at which Stripe created them.
        Events = "events" by [],
        /// Connected accounts seen for the first time.
        AccountsCreated = "accounts_created" by ["country"],
        /// Accounts that may take charges for the first time.
        OnboardingsCompleted = "onboardings_completed" by [],
        /// Steps of onboarding reached.
        Milestones = "milestones" by ["milestone"],
        /// Accounts that removed the platform.
        Deauthorizations = "deauthorizations" by [],
        /// Payouts that failed.
        PayoutsFailed = "payouts_failed" by ["currency"],
        /// Payouts that were paid.
        PayoutsPaid = "payouts_paid" by ["currency"],
        /// Payment attempts that failed.
        PaymentsFailed = "payments_failed" by ["currency"],
        /// Payments that succeeded.
        PaymentsSucceeded = "payments_succeeded" by ["currency"],
        /// Subscriptions whose MRR fell to zero.
        SubscriptionsLost = "subscriptions_lost" by [],
        /// Requests of revwatch to Stripe's API that failed or were refused.
        ApiErrors = "api_errors" by [],
    }
}

metrics! {
    /// Levels as they are now.
    GaugeMetric {
        /// Monthly recurring revenue.
        Mrr = "mrr" by ["currency"],
        /// That of past-due subscriptions.
        MrrPastDue = "mrr_past_due" by ["currency"],
        /// Past due ÷ (active + past due) subscriptions.
        PastDueShare = "past_due_share" by [],
        /// Connected accounts by risk.
        Accounts = "accounts" by ["risk"],
        /// Connected accounts that may take charges.
        AccountsCharging = "accounts_charging" by [],
        /// Connected accounts whose last change only Stripe's API can show.
        AccountsNeedingRefresh = "accounts_needing_refresh" by [],
        /// Invoices open after a failed attempt to collect them.
        RetryQueue = "retry_queue" by [],
        /// To be paid on open invoices.
        InvoicesOpen = "invoices_open" by ["currency"],
        /// Disputed.
        Disputed = "disputed" by ["currency"],
        /// Deliveries that wait to be applied.
        QueueDepth = "queue_depth" by [],
        /// Deliveries that cannot be applied.
        DeadLetters = "dead_letters" by [],
        /// Notifiers that cannot tell anybody until something is mended.
        BrokenNotifiers = "broken_notifiers" by ["notifier"],
    }
}

metrics! {
    /// Levels that are known for earlier hours too.
    LevelMetric {
        /// Monthly recurring revenue.
        Mrr = "mrr" by ["currency"],
        /// Connected accounts that may take charges.
        AccountsCharging = "accounts_charging" by [],
        /// Active and past-due subscriptions.
        ActiveBase = "active_base" by [],
        /// Subscriptions with MRR.
        Paying = "paying" by [],
    }
}

metrics! {
    /// Shares that are known for earlier hours too.
    ShareMetric {
        /// Past due ÷ (active + past due) subscriptions.
        PastDueShare = "past_due_share" by [],
    }
}

metrics! {
    /// Durations.
    DurationMetric {
        /// From received to applied.
        Processing = "processing_seconds" by [],
        /// From an account's creation to charges.
        Onboarding = "onboarding_seconds" by [],
        /// From the step before to each step of onboarding.
        Stage = "stage_seconds" by ["stage"],
    }
}

impl DurationMetric {
    /// Whether sums are kept, not only buckets.
    pub fn has_mean(self) -> bool {
        self != Self::Processing
    }
}

impl GaugeMetric {
    /// Whether it is of the pipeline, not of the business.
    fn is_of_pipeline(self) -> bool {
        matches!(self, Self::QueueDepth | Self::DeadLetters | Self::BrokenNotifiers)
    }
}

impl Measure {
    /// What the metric can be divided by.
    pub fn segments(&self) -> &'static [&'static str] {
        match self {
            Self::Ratio(metric, _) => metric.segments(),
            Self::Count(metric, _) | Self::Absence(metric, _) => metric.segments(),
            Self::Gauge(metric) => metric.segments(),
            Self::Drop(metric, _) => metric.segments(),
            Self::Consecutive(metric, _) => metric.segments(),
            Self::Percentile(metric, ..) => metric.segments(),
        }
    }

    /// Whether it is an amount of money, which exists by currency only.
    pub fn is_money(&self) -> bool {
        matches!(
            self,
            Self::Gauge(GaugeMetric::Mrr | GaugeMetric::MrrPastDue | GaugeMetric::InvoicesOpen | GaugeMetric::Disputed)
                | Self::Drop(LevelMetric::Mrr, _)
        )
    }

    /// How its figure is written.
    pub fn unit(&self) -> Unit {
        match self {
            Self::Ratio(..) | Self::Consecutive(..) | Self::Gauge(GaugeMetric::PastDueShare) => Unit::Share,
            Self::Drop(_, Fall { absolute: false, .. }) => Unit::Share,
            Self::Percentile(..) => Unit::Seconds,
            measure if measure.is_money() => Unit::Minor,
            _ => Unit::Count,
        }
    }

    /// How many hours before the current one it needs, its trend included.
    pub fn hours_needed(&self) -> u32 {
        let looks_back = match self {
            Self::Ratio(_, w) | Self::Count(_, w) | Self::Absence(_, w) | Self::Percentile(_, _, w) => {
                w.hours + w.delay_hours
            }
            Self::Gauge(GaugeMetric::PastDueShare) => 0,
            Self::Gauge(_) => return 0,
            Self::Drop(_, fall) => fall.hours,
            // A local day can begin up to 26 hours away from the UTC day and last 25.
            Self::Consecutive(_, days) => (days.days + 2) * 25,
        };
        looks_back + self.trend_step_hours() * u32::try_from(POINTS).unwrap_or(0)
    }

    /// The time between two points of its trend.
    pub fn trend_step_hours(&self) -> u32 {
        match self {
            Self::Ratio(_, w) | Self::Count(_, w) | Self::Absence(_, w) | Self::Percentile(_, _, w) => {
                (w.hours / 6).clamp(1, 24)
            }
            Self::Drop(_, fall) => (fall.hours / 6).clamp(1, 24),
            Self::Gauge(_) | Self::Consecutive(..) => 24,
        }
    }

    /// Whether it can be shown for earlier times.
    pub fn has_past(&self) -> bool {
        !matches!(self, Self::Gauge(metric) if *metric != GaugeMetric::PastDueShare)
    }
}

/// The figure, as of `at_s` (not after now), by the parts of what `by` divides the business into; without it
/// under the empty name.
pub fn samples(measure: &Measure, by: Option<&str>, facts: Facts<'_>, at_s: i64) -> BTreeMap<String, Sample> {
    let look = Look { counters: facts.counters, by, hour: hour_of(at_s), now_hour: hour_of(facts.now_s) };
    match measure {
        Measure::Ratio(metric, window) => look.ratio(*metric, *window),
        Measure::Count(metric, window) | Measure::Absence(metric, window) => look.count(*metric, *window),
        Measure::Gauge(metric) if metric.is_of_pipeline() => pipeline_level(*metric, by, facts.pipeline),
        Measure::Gauge(metric) => look.gauge(*metric),
        Measure::Drop(metric, fall) => look.fall(*metric, *fall),
        Measure::Consecutive(ShareMetric::PastDueShare, _) => whole(look.past_due()),
        Measure::Percentile(metric, percent, window) => look.durations(*metric, *percent, *window),
    }
}

/// What is seen of a part of the business of which no counter speaks.
pub fn missing(measure: &Measure) -> Sample {
    match measure {
        Measure::Gauge(metric) if metric.is_of_pipeline() && *metric != GaugeMetric::BrokenNotifiers => {
            Sample::default()
        }
        Measure::Count(..) | Measure::Gauge(_) => level(0),
        Measure::Drop(..) => no_fall(),
        Measure::Ratio(..) | Measure::Absence(..) | Measure::Consecutive(..) | Measure::Percentile(..) => {
            Sample::default()
        }
    }
}

/// Where there was nothing, nothing can fall, however few samples that is.
fn no_fall() -> Sample {
    Sample { value: Some(0.0), samples: i64::MAX, ..Sample::default() }
}

/// The end of the newest hour in which Stripe created an event that was applied, of those that `counters`
/// has; not after `now_s`.
pub fn newest_event_s(counters: &Counters, now_s: i64) -> Option<i64> {
    let hours = counters.iter().filter_map(|(bucket, name, count)| match bucket {
        Bucket::Hour(hour) if name == "events|created" && count > 0 => Some(hour),
        _ => None,
    });
    hours.max().map(|hour| (i64::from(hour) + 1).saturating_mul(3600).min(now_s))
}

fn whole(sample: Sample) -> BTreeMap<String, Sample> {
    BTreeMap::from([(String::new(), sample)])
}

fn level(value: i64) -> Sample {
    Sample { value: Some(number(value)), samples: 1, ..Sample::default() }
}

#[expect(clippy::cast_precision_loss, reason = "counts and amounts stay far below 2^53")]
fn number(value: i64) -> f64 {
    value as f64
}

fn pipeline_level(metric: GaugeMetric, by: Option<&str>, pipeline: &Pipeline) -> BTreeMap<String, Sample> {
    let known = |value: Option<i64>| whole(value.map_or_else(Sample::default, level));
    match metric {
        GaugeMetric::QueueDepth => known(pipeline.queue_depth),
        GaugeMetric::DeadLetters => known(pipeline.dead_letters),
        _ if by.is_some() => pipeline.broken_notifiers.iter().map(|name| (name.clone(), level(1))).collect(),
        _ => whole(level(i64::try_from(pipeline.broken_notifiers.len()).unwrap_or(i64::MAX))),
    }
}

/// Counters as of the end of one hour.
#[derive(Clone, Copy)]
struct Look<'a> {
    counters: &'a Counters,
    by: Option<&'a str>,
    hour: u32,
    now_hour: u32,
}

impl<'a> Look<'a> {
    fn hours(self, window: Window) -> std::ops::RangeInclusive<u32> {
        let last = self.hour.saturating_sub(window.delay_hours);
        last.saturating_sub(window.hours)..=last
    }

    /// The counters of a family over a window: hour, the rest of the name, and the value.
    fn family(self, window: Window, first: &'a str) -> impl Iterator<Item = (u32, Vec<&'a str>, i64)> {
        let counters = self.counters;
        self.hours(window)
            .flat_map(move |hour| counters.under(Bucket::Hour(hour), first).map(move |(rest, n)| (hour, rest, n)))
    }

    /// The part of the business that a counter belongs to; `segment` is what its name ends in.
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
                for (hour, rest, n) in self.family(window, family).filter(|(_, rest, _)| rest.len() == 2) {
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
                    RatioMetric::StageExternalAccount => ("onboarding_started", "external_account_added"),
                    RatioMetric::StageCharges => ("external_account_added", "charges_enabled"),
                    _ => ("account_created", "charges_enabled"),
                };
                let lost = metric == RatioMetric::OnboardingAbandonment;
                for (hour, rest, n) in self.family(window, "cohort").filter(|(_, rest, _)| rest.len() == 2) {
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
            for (hour, rest, minor) in self.family(window, "payouts_minor").filter(|(_, rest, _)| rest.len() == 2) {
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
            money: money.into_iter().map(|(currency, minor)| Money::new(minor, &currency)).collect(),
        };
        let mut samples: BTreeMap<_, _> = ratios.into_iter().map(|(part, ratio)| (part, sample(ratio))).collect();
        if self.by.is_none() && samples.is_empty() {
            samples = whole(Sample::default());
        }
        samples
    }

    fn count(self, metric: CountMetric, window: Window) -> BTreeMap<String, Sample> {
        // Family, and the first word that counts (empty: all); the segment is the word after it.
        let (family, word) = match metric {
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
            let segment = match (word, rest.as_slice()) {
                ("", [segment]) => segment,
                (word, [first]) if *first == word => "",
                (word, [first, segment]) if *first == word => segment,
                _ => continue,
            };
            *sums.entry(self.part(hour, segment)).or_default() += n;
        }
        if metric == CountMetric::Deauthorizations {
            let hours = self.hours(window).map(|hour| self.counters.get(Bucket::Hour(hour), &["deauthorized"]));
            *sums.entry(String::new()).or_default() += hours.sum::<i64>();
        }
        // Before anything was ever told, nothing is missing.
        if self.counters.under(Bucket::Standing, "events").next().is_none() {
            return whole(Sample::default());
        }
        sums.into_iter().map(|(part, sum)| (part, level(sum))).collect()
    }

    fn gauge(self, metric: GaugeMetric) -> BTreeMap<String, Sample> {
        let family = match metric {
            GaugeMetric::Mrr => "mrr",
            GaugeMetric::MrrPastDue => "mrr_past_due",
            GaugeMetric::Accounts => "accounts",
            GaugeMetric::InvoicesOpen => "invoices_open_minor",
            GaugeMetric::Disputed => "disputed_minor",
            GaugeMetric::PastDueShare => return whole(self.past_due()),
            GaugeMetric::AccountsCharging => return whole(level(self.standing("accounts_charging"))),
            GaugeMetric::AccountsNeedingRefresh => return whole(level(self.standing("accounts_stale"))),
            GaugeMetric::RetryQueue => {
                let money = self.counters.under(Bucket::Standing, "invoices_open_minor");
                let money = money.map(|(rest, minor)| Money::new(minor, rest[0])).collect();
                return whole(Sample { money, ..level(self.standing("invoices_retrying")) });
            }
            GaugeMetric::QueueDepth | GaugeMetric::DeadLetters | GaugeMetric::BrokenNotifiers => {
                return BTreeMap::new();
            }
        };
        let mut sums = BTreeMap::<String, i64>::new();
        for (rest, value) in self.counters.under(Bucket::Standing, family) {
            *sums.entry(self.part(self.hour, rest[0])).or_default() += value;
        }
        sums.into_iter().map(|(part, sum)| (part, level(sum))).collect()
    }

    fn standing(self, name: &str) -> i64 {
        self.counters.get(Bucket::Standing, &[name])
    }

    /// Today's level less what changed since the end of `hour`.
    fn level_at(self, hour: u32, standing: &[&str], change: &[&str]) -> i64 {
        let since = hour.saturating_add(1)..=self.now_hour;
        let since: i64 = since.map(|hour| self.counters.get(Bucket::Hour(hour), change)).sum();
        self.counters.get(Bucket::Standing, standing) - since
    }

    fn fall(self, metric: LevelMetric, fall: Fall) -> BTreeMap<String, Sample> {
        let before_hour = self.hour.saturating_sub(fall.hours);
        let fallen = |standing: &[&str], change: &[&str]| {
            let before = self.level_at(before_hour, standing, change);
            if before <= 0 {
                return no_fall();
            }
            let now = self.level_at(self.hour, standing, change);
            let share = Ratio { part: before - now, whole: before };
            let value = if fall.absolute { Some(number(before - now)) } else { share.value() };
            Sample { value, samples: before, parts: Some((now, before)), money: Vec::new() }
        };
        match metric {
            LevelMetric::AccountsCharging => whole(fallen(&["accounts_charging"], &["charging_change"])),
            LevelMetric::ActiveBase => whole(fallen(&["base", "all"], &["base", "all"])),
            LevelMetric::Paying => whole(fallen(&["base", "paying"], &["base", "paying"])),
            LevelMetric::Mrr => {
                // A currency whose MRR fell to nothing is in the changes only.
                let changed = (before_hour..=self.now_hour)
                    .flat_map(|hour| self.counters.under(Bucket::Hour(hour), "mrr_change"));
                let all = self.counters.under(Bucket::Standing, "mrr").chain(changed);
                let currencies: std::collections::BTreeSet<&str> = all.map(|(rest, _)| rest[0]).collect();
                let sample = |currency: &str| {
                    let fallen = fallen(&["mrr", currency], &["mrr_change", currency]);
                    let lost = fallen.parts.map_or(0, |(now, before)| before - now);
                    Sample { money: vec![Money::new(lost, currency)], ..fallen }
                };
                currencies.into_iter().map(|currency| (currency.to_owned(), sample(currency))).collect()
            }
        }
    }

    fn past_due(self) -> Sample {
        let part = self.level_at(self.hour, &["base", "past_due"], &["base", "past_due"]);
        let ratio = Ratio { part, whole: self.level_at(self.hour, &["base", "all"], &["base", "all"]) };
        let money = self.counters.under(Bucket::Standing, "mrr_past_due");
        Sample {
            value: ratio.value(),
            samples: ratio.whole,
            parts: Some((ratio.part, ratio.whole)),
            money: money.map(|(rest, minor)| Money::new(minor, rest[0])).collect(),
        }
    }

    fn durations(self, metric: DurationMetric, percent: Option<i64>, window: Window) -> BTreeMap<String, Sample> {
        let mut found = BTreeMap::<String, Durations>::new();
        let (histogram, sums) = match metric {
            DurationMetric::Processing => ("events", ""),
            DurationMetric::Onboarding => ("onboarded_bucket", "onboarded"),
            DurationMetric::Stage => ("stage_bucket", "stage"),
        };
        for (hour, rest, n) in self.family(window, histogram) {
            let (segment, bucket) = match (metric, rest.as_slice()) {
                (DurationMetric::Processing, ["processing", bucket]) | (DurationMetric::Onboarding, [bucket]) => {
                    ("", bucket)
                }
                (DurationMetric::Stage, [stage, bucket]) => (*stage, bucket),
                _ => continue,
            };
            let Ok(bucket) = bucket.parse::<u32>() else { continue };
            *found.entry(self.part(hour, segment)).or_default().buckets.entry(bucket).or_default() += n;
        }
        for (hour, rest, n) in self.family(window, sums).filter(|_| !sums.is_empty()) {
            let (segment, what) = match rest.as_slice() {
                [what] => ("", *what),
                [segment, what] => (*segment, *what),
                _ => continue,
            };
            let durations = found.entry(self.part(hour, segment)).or_default();
            match what {
                "count" => durations.count += n,
                "seconds" => durations.seconds += n,
                _ => {}
            }
        }
        let sample = |d: Durations| {
            let counts: Vec<(u32, i64)> = d.buckets.into_iter().collect();
            let samples = if percent.is_some() { counts.iter().map(|(_, n)| n).sum() } else { d.count };
            let value = match percent {
                Some(percent) if metric == DurationMetric::Processing => {
                    rank(&counts, percent).map(|bound_ms| f64::from(bound_ms) / 1000.0)
                }
                Some(percent) => percentile(&counts, percent).map(number),
                None => (d.count > 0).then(|| number(d.seconds) / number(d.count)),
            };
            Sample { value, samples, ..Sample::default() }
        };
        let mut samples: BTreeMap<_, _> = found.into_iter().map(|(part, d)| (part, sample(d))).collect();
        if self.by.is_none() && samples.is_empty() {
            samples = whole(Sample::default());
        }
        samples
    }
}

#[derive(Default)]
struct Durations {
    buckets: BTreeMap<u32, i64>,
    count: i64,
    seconds: i64,
}
