//! `ratio`: a share over a sliding window. Pure.

use std::collections::{BTreeMap, BTreeSet};

use revwatch_core::amounts::Amounts;
use revwatch_core::kpi::Ratio as Share;
use revwatch_core::money::Money;
use serde_json::Value;

use super::condition_or_metric::{MetricRule, RuleKind};
use super::fields::Fields;
use super::kind_description::Kind;
use super::measure::{Measure, MeasureNames};
use super::metric::{Named, metrics};
use super::window::{History, Window};
use crate::alert::Unit;
use crate::metric_value::{MetricQuery, Sample, Samples};

/// See [`Ratio`].
pub const KIND: Kind = Kind {
    name: "ratio",
    fields: &[
        "metric",
        "by",
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
    evaluates: RatioMetric::names,
    sample: "metric = \"payout_failures\"\nwindow = \"24h\"\nabove = 0.05",
    read,
};

metrics! {
    /// Shares over a window.
    RatioMetric {
        /// Failed ÷ (paid + failed) payouts.
        PayoutFailures = "payout_failures" of Payouts by ["currency"],
        /// Failed ÷ all payment attempts.
        PaymentFailures = "payment_failures" of Billing by ["currency"],
        /// Of the accounts whose onboarding began in the window, those that cannot accept charges.
        OnboardingAbandonment = "onboarding_abandonment" of Accounts by ["country", "source", "weekday"],
        /// Of the accounts whose onboarding began in the window, those that can accept charges.
        OnboardingConversion = "onboarding_conversion" of Accounts by ["country", "source", "weekday"],
        /// Of the accounts that began in the window, those whose holder submitted the form.
        StageStarted = "onboarding_started_share" of Accounts by ["country", "weekday"],
        /// Of those, the ones with an external account for payouts.
        StageExternalAccount = "external_account_share" of Accounts by ["country", "weekday"],
        /// Of those, the ones that may accept charges.
        StageCharges = "charges_enabled_share" of Accounts by ["country", "weekday"],
        /// Of the accounts whose charges were enabled in the window, those that took a payment of their own.
        FirstPayment = "first_payment_share" of Accounts by ["country", "weekday"],
        /// Created ÷ (created + not created) accounts, as the application says it.
        AccountCreation = "account_creation_success" of Application by [],
        /// Of the providers who registered in the window, those with a connected account.
        AccountCreated = "account_created_share" of Application by ["country", "source", "weekday"],
    }
}

/// A share over a sliding window.
#[derive(Debug)]
pub struct Ratio {
    metric: RatioMetric,
    window: Window,
}

/// The accounts that reached each step, by step and country, at the time at which onboarding began.
const STEPS: &str = "cohort";

/// The same by step and source, of the accounts whose source the application says.
const STEPS_BY_SOURCE: &str = "cohort_source";

/// The counters of a share: those of `part` belong to it, those of `rest` do not.
enum Counted {
    /// Two outcomes of the same thing: one counter each.
    Counters {
        part: &'static str,
        rest: &'static str,
    },
    /// Two outcomes of the same thing: their counters, with segments below them.
    Outcomes {
        part: &'static str,
        rest: &'static str,
    },
    /// Accounts that reached a step, of those that reached an earlier one.
    Steps {
        family: &'static str,
        from: &'static str,
        to: &'static str,
        /// Whether the part are those that did not reach it.
        is_lost: bool,
    },
}

fn read(fields: &mut Fields<'_>) -> Option<RuleKind> {
    let (metric, window) = (fields.metric(), Window::read(fields));
    MetricRule::read(fields, metric.map(|metric| Ratio { metric, window }))
}

impl Measure for Ratio {
    fn names(&self) -> MeasureNames {
        MeasureNames::of(KIND.name, self.metric)
    }

    fn unit(&self) -> Unit {
        Unit::Share
    }

    fn history(&self) -> History {
        let name = match self.metric.counted() {
            Counted::Counters { part, .. } | Counted::Outcomes { part, .. } => part,
            Counted::Steps { family, .. } => family,
        };
        self.window.history(name)
    }

    fn samples(&self, query: MetricQuery<'_>) -> Samples {
        let ratios = self.ratios(query);
        let mut money = self.money(query);
        let segments: BTreeSet<String> = ratios.keys().chain(money.keys()).cloned().collect();
        let sample = |segment: String| {
            let ratio = ratios.get(&segment).copied().unwrap_or_default();
            let money = money.remove(&segment).unwrap_or_default();
            let money = money
                .into_iter()
                .map(|(currency, minor)| Money::new(minor, &currency));
            let money = Amounts {
                money: money.collect(),
                ..Amounts::default()
            };
            let sample = Sample::share(ratio, money);
            (segment, sample)
        };
        let samples: Samples = segments.into_iter().map(sample).collect();
        if query.by.is_none() && samples.is_empty() {
            return Sample::default().alone();
        }
        samples
    }

    fn fields(&self) -> Vec<(&'static str, Value)> {
        self.window.fields()
    }

    fn describe(&self) -> String {
        format!("{} in {}", self.metric(), self.window)
    }
}

impl Ratio {
    fn ratios(&self, query: MetricQuery<'_>) -> BTreeMap<String, Share> {
        let mut ratios = BTreeMap::<String, Share>::new();
        let mut add = |segment: String, part: i64, total: i64| {
            let ratio = ratios.entry(segment).or_default();
            ratio.part = ratio.part.saturating_add(part);
            ratio.total = ratio.total.saturating_add(total);
        };
        match self.metric.counted() {
            Counted::Counters { part, rest } => {
                let [part, rest] = [part, rest].map(|name| query.sum(self.window, name));
                add(String::new(), part, part.saturating_add(rest));
            }
            Counted::Outcomes { part, rest } => {
                for (segment, n) in query.by_segment(self.window, part) {
                    add(segment, n, n);
                }
                for (segment, n) in query.by_segment(self.window, rest) {
                    add(segment, 0, n);
                }
            }
            Counted::Steps {
                family,
                from,
                to,
                is_lost,
            } => {
                let is_by_source = query.by == Some("source");
                let family = match is_by_source && family == STEPS {
                    true => STEPS_BY_SOURCE,
                    false => family,
                };
                for (bucket, name, n) in query.family(self.window, family) {
                    let (step, segment) = match name.as_slice() {
                        [step, _, source] if is_by_source => (step, source),
                        [step, country, _] | [step, country] => (step, country),
                        _ => continue,
                    };
                    let segment = query.segment(bucket, segment);
                    if *step == from {
                        add(segment, if is_lost { n } else { 0 }, n);
                    } else if *step == to {
                        add(segment, if is_lost { n.saturating_neg() } else { n }, 0);
                    }
                }
            }
        }
        // Where no account takes payments of its own, the platform takes them.
        if self.metric == RatioMetric::FirstPayment && ratios.values().all(|r| r.part == 0) {
            ratios.clear();
        }
        ratios
    }

    /// The amounts concerned, by segment and currency.
    fn money(&self, query: MetricQuery<'_>) -> BTreeMap<String, BTreeMap<String, i64>> {
        let mut amounts = BTreeMap::<String, BTreeMap<String, i64>>::new();
        if self.metric == RatioMetric::PayoutFailures {
            for (bucket, name, minor) in query.family(self.window, "payouts_minor|failed") {
                let currency = name[0];
                let segment = amounts.entry(query.segment(bucket, currency)).or_default();
                let sum = segment.entry(currency.to_owned()).or_default();
                *sum = sum.saturating_add(minor);
            }
        }
        amounts
    }
}

impl RatioMetric {
    fn counted(self) -> Counted {
        let steps = |from, to, is_lost| Counted::Steps {
            family: STEPS,
            from,
            to,
            is_lost,
        };
        match self {
            Self::PayoutFailures => Counted::Outcomes {
                part: "payouts|failed",
                rest: "payouts|paid",
            },
            Self::PaymentFailures => Counted::Outcomes {
                part: "payments|failed",
                rest: "payments|succeeded",
            },
            Self::OnboardingAbandonment => steps("account_created", "charges_enabled", true),
            Self::OnboardingConversion => steps("account_created", "charges_enabled", false),
            Self::StageStarted => steps("account_created", "onboarding_started", false),
            Self::StageExternalAccount => {
                steps("onboarding_started", "external_account_added", false)
            }
            Self::StageCharges => steps("external_account_added", "charges_enabled", false),
            Self::AccountCreation => Counted::Counters {
                part: "account_creations",
                rest: "account_creation_failures",
            },
            Self::AccountCreated => Counted::Steps {
                family: "signups",
                from: "provider_registered",
                to: "account_created",
                is_lost: false,
            },
            Self::FirstPayment => Counted::Steps {
                family: "first_payment",
                from: "enabled",
                to: "paid",
                is_lost: false,
            },
        }
    }
}
