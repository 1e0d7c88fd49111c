//! `gauge`: the current level. Pure.

use std::collections::BTreeMap;

use revwatch_core::amounts::Amounts;
use revwatch_core::counters::{
    Bucket, MRR, MRR_INCOMPLETE, MRR_PAST_DUE, MRR_PAST_DUE_INCOMPLETE, UNKNOWN,
};
use revwatch_core::entity::NEEDING_FETCH;
use revwatch_core::kpi::{mrr_bounds, not_sent};
use serde_json::Value;

use super::condition_or_metric::{MetricRule, RuleKind};
use super::fields::Fields;
use super::kind_description::Kind;
use super::measure::{Measure, MeasureNames};
use super::metric::{Named, metrics};
use super::threshold::Bounds;
use super::window::{History, Window};
use crate::alert::Unit;
use crate::metric_value::{MetricQuery, PipelineStatus, Sample, Samples, number};

/// See [`Gauge`].
pub const KIND: Kind = Kind {
    name: "gauge",
    fields: &[
        "metric",
        "by",
        "above",
        "clear_below",
        "below",
        "clear_above",
        "no_data",
        "for",
        "owner",
        "realm",
    ],
    evaluates: GaugeMetric::names,
    sample: "metric = \"retry_queue\"\nabove = 100",
    read,
};

metrics! {
    /// Current levels.
    GaugeMetric {
        /// Monthly recurring revenue.
        Mrr = "mrr" of Billing by ["currency"],
        /// Subscriptions whose part of MRR is not exactly known.
        MrrIncomplete = "mrr_incomplete" of Billing by ["reason"],
        /// That of past-due subscriptions.
        MrrPastDue = "mrr_past_due" of Billing by ["currency"],
        /// Past due ÷ (active + past due) subscriptions.
        PastDueShare = "past_due_share" of Billing by [],
        /// Connected accounts by risk.
        Accounts = "accounts" of Accounts by ["risk"],
        /// Connected accounts that may accept charges.
        AccountsCharging = "accounts_charging" of Accounts by [],
        /// Connected accounts whose latest change is only available from Stripe's API.
        AccountsNeedingRefresh = "accounts_needing_refresh" of Accounts by [],
        /// Other objects whose latest change is only available from Stripe's API.
        ObjectsNeedingFetch = "objects_needing_fetch" of Unfetched by ["kind"],
        /// Open invoices of which every attempt failed and the next one is scheduled.
        RetryQueue = "retry_queue" of Billing by [],
        /// Amount remaining on open invoices.
        InvoicesOpen = "invoices_open" of Billing by ["currency"],
        /// Amount remaining on open invoices whose retries are exhausted.
        InvoicesUncollected = "invoices_uncollected" of Billing by ["currency"],
        /// Amount in dispute.
        Disputed = "disputed" of Billing by ["currency"],
        /// Open support tickets without a first response.
        TicketsUnanswered = "tickets_unanswered" of Application by [],
        /// Families of events that never came although the state implies them.
        EventsNotSent = "events_not_sent" of Pipeline by ["types"],
        /// Deliveries waiting to be applied.
        QueueDepth = "queue_depth" of Pipeline by [],
        /// Deliveries that cannot be applied.
        DeadLetters = "dead_letters" of Pipeline by [],
        /// Deliveries that an operator has parked.
        Parked = "parked" of Pipeline by [],
        /// Notifiers that cannot deliver until a setting is corrected.
        BrokenNotifiers = "broken_notifiers" of Pipeline by ["notifier"],
    }
}

/// The current level.
#[derive(Debug)]
pub struct Gauge {
    metric: GaugeMetric,
}

/// Where a level is found.
enum Source {
    /// In the pipeline's status; `None`: it could not be queried.
    Pipeline(fn(&PipelineStatus) -> Option<i64>),
    /// In the pipeline's status, one for each notifier.
    BrokenNotifiers,
    /// One for each family of events: see [`not_sent`].
    NotSent,
    /// The sum of a family of current counters.
    Family(&'static str),
    /// Monthly recurring revenue, which may have bounds: its counters, and why.
    Mrr([&'static str; 3], &'static str),
    /// The subscriptions of which it is not exactly known, by reason.
    MrrIncomplete,
    /// One current counter.
    Counter(&'static str),
    /// One current counter of what the application says.
    OfApplication([&'static str; 2]),
    /// One current counter, with the amounts of a family.
    CounterWithMoney(&'static str, &'static str),
    /// See [`MetricQuery::past_due`].
    PastDue,
}

fn read(fields: &mut Fields<'_>) -> Option<RuleKind> {
    let metric = fields.metric();
    MetricRule::read(fields, metric.map(|metric| Gauge { metric }))
}

impl Measure for Gauge {
    fn names(&self) -> MeasureNames {
        MeasureNames::of(KIND.name, self.metric)
    }

    fn unit(&self) -> Unit {
        match self.metric {
            GaugeMetric::PastDueShare => Unit::Share,
            _ if self.segments().contains(&"currency") => Unit::Minor,
            _ => Unit::Count,
        }
    }

    fn bounds(&self) -> Bounds {
        match self.metric {
            GaugeMetric::Mrr | GaugeMetric::MrrPastDue => Bounds::Any,
            GaugeMetric::PastDueShare => Bounds::Share,
            _ => Bounds::NotNegative,
        }
    }

    fn is_about_pipeline(&self) -> bool {
        matches!(
            self.metric.source(),
            Source::Pipeline(_) | Source::BrokenNotifiers
        )
    }

    fn history(&self) -> History {
        if self.metric == GaugeMetric::EventsNotSent {
            return history_of_not_sent();
        }
        History {
            trend_step_hours: (self.metric == GaugeMetric::PastDueShare).then_some(24),
            ..History::default()
        }
    }

    fn samples(&self, query: MetricQuery<'_>) -> Samples {
        match self.metric.source() {
            Source::Pipeline(level) => level(query.inputs.pipeline)
                .map_or_else(Sample::default, Sample::count)
                .alone(),
            Source::BrokenNotifiers => {
                let broken = &query.inputs.pipeline.broken_notifiers;
                let mut samples = ones(query, broken.keys().cloned().collect());
                for (name, sample) in &mut samples {
                    sample.reason = broken.get(name).filter(|it| !it.is_empty()).cloned();
                }
                samples
            }
            // Before the first event was applied, no level is too low.
            _ if !query.has_data() && query.by.is_none() => Sample::default().alone(),
            _ if !query.has_data() => Samples::new(),
            Source::OfApplication(_) if !query.has_application() => Sample::default().alone(),
            Source::OfApplication(name) => Sample::count(query.current(&name)).alone(),
            Source::PastDue => query.past_due().alone(),
            Source::Counter(name) => Sample::count(query.current(&[name])).alone(),
            Source::CounterWithMoney(name, family) => Sample {
                money: query.current_money(family),
                ..Sample::count(query.current(&[name]))
            }
            .alone(),
            Source::Mrr(families, incomplete) => mrr(query, families, incomplete),
            Source::MrrIncomplete => mrr_incomplete(query),
            Source::NotSent => ones(query, names_of_not_sent(query)),
            Source::Family(family) => sums(query, family),
        }
    }

    fn missing(&self) -> Sample {
        match self.metric.source() {
            Source::Pipeline(_) => Sample::default(),
            _ => Sample::count(0),
        }
    }

    fn fields(&self) -> Vec<(&'static str, Value)> {
        Vec::new()
    }

    fn describe(&self) -> String {
        self.metric().to_owned()
    }
}

impl GaugeMetric {
    fn source(self) -> Source {
        match self {
            Self::Mrr => Source::Mrr(MRR, MRR_INCOMPLETE),
            Self::MrrIncomplete => Source::MrrIncomplete,
            Self::MrrPastDue => Source::Mrr(MRR_PAST_DUE, MRR_PAST_DUE_INCOMPLETE),
            Self::PastDueShare => Source::PastDue,
            Self::Accounts => Source::Family("accounts"),
            Self::AccountsCharging => Source::Counter("accounts_charging"),
            Self::AccountsNeedingRefresh => Source::Counter("accounts_stale"),
            Self::ObjectsNeedingFetch => Source::Family(NEEDING_FETCH),
            Self::RetryQueue => {
                Source::CounterWithMoney("invoices_retrying", "invoices_retrying_minor")
            }
            Self::InvoicesOpen => Source::Family("invoices_open_minor"),
            Self::InvoicesUncollected => Source::Family("invoices_uncollected_minor"),
            Self::Disputed => Source::Family("disputed_minor"),
            Self::TicketsUnanswered => Source::OfApplication(["tickets", "unanswered"]),
            Self::EventsNotSent => Source::NotSent,
            Self::QueueDepth => Source::Pipeline(|status| status.queue_depth),
            Self::DeadLetters => Source::Pipeline(|status| status.dead_letters),
            Self::Parked => Source::Pipeline(|status| status.parked),
            Self::BrokenNotifiers => Source::BrokenNotifiers,
        }
    }
}

/// It changes without an event when its waits end: its window begins and ends with them.
fn history_of_not_sent() -> History {
    History {
        hours: not_sent::HOURS_READ,
        window: Some(Window {
            delay_hours: not_sent::WAIT_HOURS + 1,
            hours: not_sent::LONG_WAIT_HOURS - not_sent::WAIT_HOURS - 1,
        }),
        ..History::default()
    }
}

/// Each name is a segment with one.
fn ones(query: MetricQuery<'_>, names: Vec<String>) -> Samples {
    if query.by.is_none() {
        return Sample::count(i64::try_from(names.len()).unwrap_or(i64::MAX)).alone();
    }
    let samples = names.into_iter();
    samples.map(|name| (name, Sample::count(1))).collect()
}

fn names_of_not_sent(query: MetricQuery<'_>) -> Vec<String> {
    let found = not_sent::of_all_realms(query.inputs.counters, query.at_s);
    found.iter().map(ToString::to_string).collect()
}

/// By currency.
fn mrr(query: MetricQuery<'_>, families: [&'static str; 3], incomplete: &'static str) -> Samples {
    let sample = |(currency, low_minor, high_minor): (String, i64, Option<i64>)| {
        let high = high_minor.map_or(f64::INFINITY, number);
        let range = Some((number(low_minor), high)).filter(|(low, high)| low < high);
        // The value is the money, and the reason is shown with it.
        let money = match range {
            Some(_) => of_currency(query.current_mrr(families, incomplete), &currency),
            None => Amounts::default(),
        };
        let sample = Sample {
            range,
            money,
            ..Sample::count(low_minor)
        };
        (currency, sample)
    };
    mrr_bounds(query.figures, families).map(sample).collect()
}

/// The amounts of a currency; what is of an unknown one may be of this one.
fn of_currency(mut amounts: Amounts, currency: &str) -> Amounts {
    amounts.money.retain(|money| money.currency == currency);
    let doubt = &mut amounts.doubt;
    doubt.extra_minor.retain(|name, _| name == currency);
    let unbounded = std::mem::take(&mut doubt.unbounded).into_iter();
    let unbounded = unbounded.filter(|(name, _)| [currency, UNKNOWN].contains(&name.as_str()));
    let unbounded: i64 = unbounded.map(|(_, count)| count).sum();
    if unbounded > 0 {
        doubt.unbounded.insert(currency.to_owned(), unbounded);
    }
    amounts
}

/// By reason, with the bounds of MRR in the currencies in which it is not exactly known.
fn mrr_incomplete(query: MetricQuery<'_>) -> Samples {
    let mut amounts = query.current_mrr(MRR, MRR_INCOMPLETE);
    let doubt = &amounts.doubt;
    let is_exact = |currency: &String| {
        !doubt.extra_minor.contains_key(currency) && !doubt.unbounded.contains_key(currency)
    };
    amounts.money.retain(|money| !is_exact(&money.currency));
    let mut samples = sums(query, MRR_INCOMPLETE);
    for (segment, sample) in &mut samples {
        sample.money = amounts.clone();
        let of_segment = |reason: &String| segment.is_empty() || reason == segment;
        let reasons = &mut sample.money.doubt.reasons;
        reasons.retain(|reason, _| of_segment(reason));
    }
    samples
}

fn sums<'a>(query: MetricQuery<'a>, family: &'a str) -> Samples {
    let mut sums = BTreeMap::<String, i64>::new();
    for (rest, value) in query.figures.under(Bucket::Current, family) {
        let sum = sums
            .entry(query.segment(Bucket::Current, rest[0]))
            .or_default();
        *sum = sum.saturating_add(value);
    }
    sums.into_iter()
        .map(|(segment, sum)| (segment, Sample::count(sum)))
        .collect()
}
