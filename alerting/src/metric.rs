//! The metrics that rules can use, by name. [`crate::metric_value`] computes their values. Pure.

use crate::alert::Unit;
use crate::evaluation::POINTS;
use crate::rule::{Fall, Measure};

/// A metric with a name in rule files.
pub trait Named: Copy + 'static {
    /// All of them.
    const ALL: &'static [Self];
    /// The name in rule files.
    fn name(self) -> &'static str;
    /// The dimensions that it can be divided by.
    fn segments(self) -> &'static [&'static str];
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
        /// Of the accounts whose onboarding began in the window, those that cannot accept charges.
        OnboardingAbandonment = "onboarding_abandonment" by ["country", "weekday"],
        /// Of the accounts whose onboarding began in the window, those that can accept charges.
        OnboardingConversion = "onboarding_conversion" by ["country", "weekday"],
        /// Of the accounts that began in the window, those whose holder submitted the form.
        StageStarted = "onboarding_started_share" by ["country", "weekday"],
        /// Of those, the ones with an external account for payouts.
        StageExternalAccount = "external_account_share" by ["country", "weekday"],
        /// Of those, the ones that may accept charges.
        StageCharges = "charges_enabled_share" by ["country", "weekday"],
    }
}

metrics! {
    /// Occurrences.
    CountMetric {
        /// Events of any documented type, by the time at which Stripe created them.
        Events = "events" by [],
        /// Connected accounts seen for the first time.
        AccountsCreated = "accounts_created" by ["country"],
        /// Accounts that may accept charges for the first time.
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
    /// Current levels.
    GaugeMetric {
        /// Monthly recurring revenue.
        Mrr = "mrr" by ["currency"],
        /// That of past-due subscriptions.
        MrrPastDue = "mrr_past_due" by ["currency"],
        /// Past due ÷ (active + past due) subscriptions.
        PastDueShare = "past_due_share" by [],
        /// Connected accounts by risk.
        Accounts = "accounts" by ["risk"],
        /// Connected accounts that may accept charges.
        AccountsCharging = "accounts_charging" by [],
        /// Connected accounts whose latest change is only available from Stripe's API.
        AccountsNeedingRefresh = "accounts_needing_refresh" by [],
        /// Invoices open after a failed attempt to collect them.
        RetryQueue = "retry_queue" by [],
        /// Amount remaining on open invoices.
        InvoicesOpen = "invoices_open" by ["currency"],
        /// Amount in dispute.
        Disputed = "disputed" by ["currency"],
        /// Deliveries waiting to be applied.
        QueueDepth = "queue_depth" by [],
        /// Deliveries that cannot be applied.
        DeadLetters = "dead_letters" by [],
        /// Deliveries that an operator has parked.
        Parked = "parked" by [],
        /// Notifiers that cannot deliver until a setting is corrected.
        BrokenNotifiers = "broken_notifiers" by ["notifier"],
    }
}

metrics! {
    /// Levels that are also known for earlier hours.
    LevelMetric {
        /// Monthly recurring revenue.
        Mrr = "mrr" by ["currency"],
        /// Connected accounts that may accept charges.
        AccountsCharging = "accounts_charging" by [],
        /// Active and past-due subscriptions.
        ActiveBase = "active_base" by [],
        /// Subscriptions with MRR.
        Paying = "paying" by [],
    }
}

metrics! {
    /// Shares that are also known for earlier hours.
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
        /// From an account's creation to enabled charges.
        Onboarding = "onboarding_seconds" by [],
        /// From an account's creation to the submitted form.
        StageStarted = "onboarding_started_seconds" by [],
        /// From there to an external account for payouts.
        StageExternalAccount = "external_account_seconds" by [],
        /// From there to enabled charges.
        StageCharges = "charges_enabled_seconds" by [],
    }
}

impl DurationMetric {
    /// Whether sums are kept, not only buckets.
    pub fn has_mean(self) -> bool {
        self != Self::Processing
    }
}

impl GaugeMetric {
    /// Whether it describes the pipeline, not the business.
    pub fn is_pipeline_metric(self) -> bool {
        matches!(
            self,
            Self::QueueDepth | Self::DeadLetters | Self::Parked | Self::BrokenNotifiers
        )
    }
}

impl Measure {
    /// The dimensions that the metric can be divided by.
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

    /// Whether it is an amount of money, which exists per currency only.
    pub fn is_money(&self) -> bool {
        matches!(
            self,
            Self::Gauge(
                GaugeMetric::Mrr
                    | GaugeMetric::MrrPastDue
                    | GaugeMetric::InvoicesOpen
                    | GaugeMetric::Disputed
            ) | Self::Drop(LevelMetric::Mrr, _)
        )
    }

    /// The unit of its values.
    pub fn unit(&self) -> Unit {
        match self {
            Self::Ratio(..) | Self::Consecutive(..) | Self::Gauge(GaugeMetric::PastDueShare) => {
                Unit::Share
            }
            Self::Drop(
                _,
                Fall {
                    absolute: false, ..
                },
            ) => Unit::Share,
            Self::Percentile(..) => Unit::Seconds,
            measure if measure.is_money() => Unit::Minor,
            _ => Unit::Count,
        }
    }

    /// Number of hours before the current one that it needs, including its trend.
    pub fn hours_needed(&self) -> u32 {
        let hours_back = match self {
            Self::Ratio(_, w)
            | Self::Count(_, w)
            | Self::Absence(_, w)
            | Self::Percentile(_, _, w) => w.hours + w.delay_hours,
            Self::Gauge(GaugeMetric::PastDueShare) => 0,
            Self::Gauge(_) => return 0,
            Self::Drop(_, fall) => fall.hours,
            // A local day can begin up to 26 hours away from the UTC day and last 25.
            Self::Consecutive(_, days) => (days.days + 2) * 25,
        };
        hours_back + self.trend_step_hours() * u32::try_from(POINTS).unwrap_or(0)
    }

    /// The time between two points of its trend.
    pub fn trend_step_hours(&self) -> u32 {
        match self {
            Self::Ratio(_, w)
            | Self::Count(_, w)
            | Self::Absence(_, w)
            | Self::Percentile(_, _, w) => (w.hours / 6).clamp(1, 24),
            Self::Drop(_, fall) => (fall.hours / 6).clamp(1, 24),
            Self::Gauge(_) | Self::Consecutive(..) => 24,
        }
    }

    /// Whether it can be shown for earlier times.
    pub fn has_past(&self) -> bool {
        !matches!(self, Self::Gauge(metric) if *metric != GaugeMetric::PastDueShare)
    }
}
