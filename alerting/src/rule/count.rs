//! `count`: a number of occurrences in a sliding window. Pure.

use std::collections::BTreeMap;

use revwatch_core::kpi::application::APP_CREATED;
use serde_json::Value;

use super::condition_or_metric::{MetricRule, RuleKind};
use super::fields::Fields;
use super::kind_description::Kind;
use super::measure::{Measure, MeasureNames};
use super::metric::{Named, metrics};
use super::scope::About;
use super::window::{History, Window};
use crate::alert::Unit;
use crate::metric_value::{MetricQuery, Sample, Samples};

/// See [`Count`].
pub const KIND: Kind = Kind {
    name: "count",
    fields: &[
        "metric",
        "by",
        "window",
        "delay",
        "above",
        "clear_below",
        "below",
        "clear_above",
        "no_data",
        "for",
        "owner",
        "realm",
    ],
    evaluates: CountMetric::names,
    sample: "metric = \"deauthorizations\"\nwindow = \"24h\"\nabove = 3",
    read,
};

metrics! {
    /// Occurrences.
    CountMetric {
        /// Events of any documented type, by the time at which Stripe created them.
        Events = "events" of Pipeline by [],
        /// Connected accounts seen for the first time.
        AccountsCreated = "accounts_created" of Accounts by ["country"],
        /// Accounts that may accept charges for the first time.
        OnboardingsCompleted = "onboardings_completed" of Accounts by [],
        /// Steps of onboarding reached.
        Milestones = "milestones" of Accounts by ["milestone"],
        /// Accounts that removed the platform.
        Deauthorizations = "deauthorizations" of Accounts by [],
        /// Payouts that failed.
        PayoutsFailed = "payouts_failed" of Payouts by ["currency"],
        /// Payouts that were paid.
        PayoutsPaid = "payouts_paid" of Payouts by ["currency"],
        /// Payment attempts that failed.
        PaymentsFailed = "payments_failed" of Billing by ["currency"],
        /// Payments that succeeded.
        PaymentsSucceeded = "payments_succeeded" of Billing by ["currency"],
        /// Customers of whom no subscription pays any more.
        SubscribersLost = "subscribers_lost" of Billing by [],
        /// Subscriptions whose MRR fell to zero.
        SubscriptionsLost = "subscriptions_lost" of Billing by [],
        /// Requests of revwatch to Stripe's API that failed or were refused.
        ApiErrors = "api_errors" of Pipeline by [],
        /// Deliveries that the queue lost, and that were applied from the archive.
        DeliveriesRestored = "deliveries_restored" of Pipeline by [],
        /// Events of the user's application, by the time that it gives them.
        AppEvents = "app_events" of Pipeline by [],
        /// Accounts that the application could not create.
        AccountCreationFailures = "account_creation_failures" of Application by [],
        /// Account links that could not be made, or did not open.
        AccountLinkFailures = "account_link_failures" of Application by [],
        /// Users who registered as providers.
        ProvidersRegistered = "providers_registered" of Application by ["country"],
        /// Support tickets that were opened.
        TicketsOpened = "tickets_opened" of Application by [],
        /// Booking fees that were charged.
        BookingFees = "booking_fees" of Application by ["currency"],
    }
}

/// A number of occurrences in a sliding window.
#[derive(Debug)]
pub struct Count {
    metric: CountMetric,
    window: Window,
}

fn read(fields: &mut Fields<'_>) -> Option<RuleKind> {
    let (metric, window) = (fields.metric(), Window::read(fields));
    MetricRule::read(fields, metric.map(|metric| Count { metric, window }))
}

impl Measure for Count {
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
        self.metric.occurrences(query, self.window)
    }

    fn missing(&self) -> Sample {
        Sample::count(0)
    }

    fn fields(&self) -> Vec<(&'static str, Value)> {
        self.window.fields()
    }

    fn describe(&self) -> String {
        format!("{} in {}", self.metric(), self.window)
    }
}

impl CountMetric {
    /// The number of occurrences in the window, for each segment.
    pub fn occurrences(self, query: MetricQuery<'_>, window: Window) -> Samples {
        // Before the first event was applied, nothing is missing: the first of the application, where it counts those.
        let is_of_app = self == Self::AppEvents || self.about() == About::Application;
        if !query.has_data() || is_of_app && !query.has_application() {
            return Sample::default().alone();
        }
        let counter = self.counter();
        let mut sums = BTreeMap::<String, i64>::new();
        if self.segments().is_empty() {
            sums.insert(String::new(), query.sum(window, counter));
        } else {
            for (segment, n) in query.by_segment(window, counter) {
                let sum: &mut i64 = sums.entry(segment).or_default();
                *sum = sum.saturating_add(n);
            }
        }
        if query.by.is_none() {
            sums.entry(String::new()).or_default();
        }
        sums.into_iter()
            .map(|(segment, sum)| (segment, Sample::count(sum)))
            .collect()
    }

    /// The counter; if the metric has segments, they are below it.
    pub fn counter(self) -> &'static str {
        match self {
            Self::Events => "events|created",
            Self::AccountsCreated => "cohort|account_created",
            Self::OnboardingsCompleted => "onboarded|count",
            Self::Milestones => "milestone",
            Self::Deauthorizations => "deauthorized",
            Self::PayoutsFailed => "payouts|failed",
            Self::PayoutsPaid => "payouts|paid",
            Self::PaymentsFailed => "payments|failed",
            Self::PaymentsSucceeded => "payments|succeeded",
            Self::SubscribersLost => "churn|lost",
            Self::SubscriptionsLost => "subscriptions_lost",
            Self::ApiErrors => "events|api_error",
            Self::DeliveriesRestored => "events|restored",
            Self::AppEvents => APP_CREATED,
            Self::AccountCreationFailures => "account_creation_failures",
            Self::AccountLinkFailures => "account_link_failures",
            Self::ProvidersRegistered => "providers_registered",
            Self::TicketsOpened => "tickets_opened",
            Self::BookingFees => "booking_fees",
        }
    }
}
