//! Subscriptions, invoices and payments of one owner.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use serde::Serialize;

use super::Ratio;
use super::sums::{beyond, by_first, by_two, of_last, over, volume};
use crate::counters::{Bucket, Figures, MRR, MRR_INCOMPLETE, MRR_PAST_DUE, UNKNOWN, hour_of, sum};

/// Subscriptions, invoices and payments.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Billing {
    /// Subscriptions by status.
    pub subscriptions: BTreeMap<String, i64>,
    /// Subscriptions by status and plan.
    #[serde(skip)]
    pub subscriptions_by_plan: Vec<(String, String, i64)>,
    /// Past-due share of active and past-due subscriptions; `null` when there are none.
    pub past_due_ratio: Option<f64>,
    /// Monthly recurring revenue by currency, in its smallest unit: at least this.
    pub mrr_minor: BTreeMap<String, i64>,
    /// The most that it may be; `null` if there is no bound. The same as `mrr_minor` if all is known.
    pub mrr_high_minor: BTreeMap<String, Option<i64>>,
    /// Subscriptions whose part of MRR is not exactly known, by what is not: `items` (events have only the first
    /// page), `price`, `amount`, `quantity`, `tiers`, `currency`, `discount` (named only by its id), `coupon`
    /// (one that cannot be priced), `tax`, and `cancellation` (whether they count).
    pub mrr_incomplete: BTreeMap<String, i64>,
    /// Whether a subscription of unknown currency may have MRR, and a past-due one: that of no currency has a bound.
    #[serde(skip)]
    pub has_mrr_of_any_currency: [bool; 2],
    /// MRR of past-due subscriptions by currency: at least this.
    pub mrr_past_due_minor: BTreeMap<String, i64>,
    /// The most that it may be; `null` if there is no bound.
    pub mrr_past_due_high_minor: BTreeMap<String, Option<i64>>,
    /// Past-due share of MRR, by currency.
    pub past_due_mrr_ratio: BTreeMap<String, f64>,
    /// Customers: `active` and `deleted`. Only those of which an event has come.
    pub customers: BTreeMap<String, i64>,
    /// Invoices by status.
    pub invoices: BTreeMap<String, i64>,
    /// Amount remaining on open invoices, by currency.
    pub invoices_open_minor: BTreeMap<String, i64>,
    /// Open invoices that wait for a retry: every attempt has failed, and Stripe has scheduled the next.
    pub retry_queue: i64,
    /// Amount remaining on them, by currency.
    pub retry_queue_minor: BTreeMap<String, i64>,
    /// Open invoices whose retries are exhausted: every attempt has failed, no other is scheduled, and something
    /// is owed.
    pub invoices_uncollected: i64,
    /// Amount remaining on them, by currency.
    pub invoices_uncollected_minor: BTreeMap<String, i64>,
    /// Payments that ever succeeded, and attempts that failed: these never decrease.
    #[serde(skip)]
    pub payments_reached: BTreeMap<String, i64>,
    /// Checkouts that were ever completed: this never decreases.
    #[serde(skip)]
    pub checkouts_reached: i64,
    /// Payment intents by status.
    pub payment_intents: BTreeMap<String, i64>,
    /// All payment attempts, `failed` and `succeeded`.
    pub payment_attempts: BTreeMap<String, i64>,
    /// Failed share of the payment attempts of the last 24 hours.
    pub payment_failure_ratio_24h: Option<f64>,
    /// Volume of payments that succeeded in the last 30 days, by currency (C12).
    pub payment_volume_minor_30d: BTreeMap<String, i64>,
    /// The same of the 30 days before.
    pub payment_volume_minor_previous_30d: BTreeMap<String, i64>,
    /// Checkout sessions by status.
    pub checkout_sessions: BTreeMap<String, i64>,
    /// Disputes by status.
    pub disputes: BTreeMap<String, i64>,
    /// Refunds by status.
    pub refunds: BTreeMap<String, i64>,
    /// Customers with a subscription that pays.
    pub subscribers: i64,
    /// Subscribers who ceased to be one in the last 30 days ÷ (subscribers 30 days ago + new ones since
    /// then). Source: <https://support.stripe.com/questions/calculating-subscriber-churn-rate-in-billing>.
    pub churn_rate_30d: Option<f64>,
    /// Of the subscriptions that became past due 7 to 37 days ago, the share that was active again within
    /// 7 days (R7).
    pub recovery_rate_7d: Option<f64>,
    /// Of the subscriptions downgraded 30 to 60 days ago, the share that stayed active or past due for
    /// 30 days (R7).
    pub downgrade_retention_30d: Option<f64>,
    /// Of the trials begun 30 to 60 days ago, the share that became active (R10).
    pub trial_conversion: Option<f64>,
}

/// The counter of what payments brought.
const PAID: [&str; 2] = ["payments_minor", "succeeded"];

/// Failed ÷ all payment attempts of the last `hours`.
pub fn payment_failures(figures: &Figures<'_>, now_s: i64, hours: u32) -> Ratio {
    let failed = of_last(figures, "payments|failed", hours, now_s);
    let succeeded = of_last(figures, "payments|succeeded", hours, now_s);
    Ratio {
        part: failed,
        total: failed.saturating_add(succeeded),
    }
}

/// The past-due share of the active base at the end of hour `hour` (inclusive): the current level
/// minus the changes since. `figures` must contain the current counters and all hours after
/// `hour`.
pub fn past_due_at(figures: &Figures<'_>, hour: u32, now_hour: u32) -> Ratio {
    let level = |which: &str| {
        let since = (hour.saturating_add(1)..=now_hour)
            .map(|h| figures.get(Bucket::Hour(h), &["base", which]));
        let now = figures.get(Bucket::Current, &["base", which]);
        now.saturating_sub(sum(since))
    };
    Ratio {
        part: level("past_due"),
        total: level("all"),
    }
}

impl Billing {
    pub(super) fn compute(figures: &Figures<'_>, now_s: i64) -> Self {
        let now_hour = hour_of(now_s);
        let days_ago = |days: u32| now_hour.saturating_sub(days.saturating_mul(24));
        let current = |parts: &[&str]| figures.get(Bucket::Current, parts);
        let by_first = |family| by_first(figures, family);
        let sum = |hours: &RangeInclusive<u32>, parts: &[&str]| over(figures, hours, parts);
        let share = |part: i64, total: i64| Ratio { part, total }.value();
        let last_month = days_ago(30)..=now_hour;
        let before_last_month = days_ago(60)..=days_ago(30).saturating_sub(1);
        let lost = sum(&last_month, &["churn", "lost"]);
        let gained = sum(&last_month, &["churn", "gained"]);
        let subscribers = current(&["base", "subscribers"]);
        let subscribers_30d_ago =
            subscribers.saturating_sub(sum(&last_month, &["base", "subscribers"]));
        let (past_due, month_before) = (days_ago(37)..=days_ago(7), days_ago(60)..=days_ago(30));
        let low = |families| {
            let bounds = mrr_bounds(figures, families);
            bounds.map(|(currency, low, _)| (currency, low)).collect()
        };
        let high = |families| {
            let bounds = mrr_bounds(figures, families);
            bounds.map(|(currency, _, high)| (currency, high)).collect()
        };
        let downgraded = sum(&month_before, &["plan", "downgraded"]);
        Self {
            subscriptions: by_first("subscriptions"),
            subscriptions_by_plan: by_two(figures, "subscriptions"),
            past_due_ratio: past_due_at(figures, now_hour, now_hour).value(),
            mrr_minor: low(MRR),
            mrr_high_minor: high(MRR),
            mrr_incomplete: by_first(MRR_INCOMPLETE),
            has_mrr_of_any_currency: [MRR, MRR_PAST_DUE]
                .map(|[_, _, unbounded]| current(&[unbounded, UNKNOWN]) > 0),
            mrr_past_due_minor: low(MRR_PAST_DUE),
            mrr_past_due_high_minor: high(MRR_PAST_DUE),
            past_due_mrr_ratio: past_due_mrr(figures),
            customers: by_first("customers"),
            invoices: by_first("invoices"),
            invoices_open_minor: by_first("invoices_open_minor"),
            retry_queue: current(&["invoices_retrying"]),
            retry_queue_minor: by_first("invoices_retrying_minor"),
            invoices_uncollected: current(&["invoices_uncollected"]),
            invoices_uncollected_minor: by_first("invoices_uncollected_minor"),
            payments_reached: by_first("payments_reached"),
            checkouts_reached: current(&["checkouts_reached", "complete"]),
            payment_intents: by_first("payment_intents"),
            payment_attempts: by_first("payment_attempts"),
            payment_failure_ratio_24h: payment_failures(figures, now_s, 24).value(),
            payment_volume_minor_30d: volume(figures, last_month, PAID),
            payment_volume_minor_previous_30d: volume(figures, before_last_month, PAID),
            checkout_sessions: by_first("checkout_sessions"),
            disputes: by_first("disputes"),
            refunds: by_first("refunds"),
            subscribers,
            churn_rate_30d: share(lost, subscribers_30d_ago.saturating_add(gained)),
            recovery_rate_7d: share(
                sum(&past_due, &["dunning", "recovered_7d"]),
                sum(&past_due, &["dunning", "entered"]),
            ),
            downgrade_retention_30d: share(
                downgraded.saturating_sub(sum(&month_before, &["plan", "downgraded_lost_30d"])),
                downgraded,
            ),
            trial_conversion: share(
                sum(&month_before, &["trial", "converted"]),
                sum(&month_before, &["trial", "started"]),
            ),
        }
    }
}

/// The currencies of MRR, or of a part of it, with the lower and the upper bound (minor units; `None`: there is no
/// bound). A subscription of unknown currency may be of any.
pub fn mrr_bounds(
    figures: &Figures<'_>,
    families: [&str; 3],
) -> impl Iterator<Item = (String, i64, Option<i64>)> + use<> {
    let [low, extra, unbounded] = families.map(|family| by_first(figures, family));
    let is_unbounded = unbounded.contains_key(UNKNOWN);
    let too_large: BTreeSet<String> = families
        .into_iter()
        .flat_map(|family| beyond(figures, family))
        .collect();
    let known = [&low, &extra, &unbounded].into_iter();
    let known = known.flat_map(BTreeMap::keys).chain(&too_large);
    let mut currencies: BTreeSet<String> = known.cloned().collect();
    currencies.remove(UNKNOWN);
    currencies.into_iter().map(move |currency| {
        let of = |counts: &BTreeMap<String, i64>| counts.get(&currency).copied().unwrap_or(0);
        let (low, high) = (of(&low), of(&low).saturating_add(of(&extra)));
        let is_bounded = !is_unbounded && of(&unbounded) == 0 && !too_large.contains(&currency);
        (currency, low, is_bounded.then_some(high))
    })
}

/// By currency; without those of which MRR is not exactly known, of which past-due MRR is a part.
fn past_due_mrr(figures: &Figures<'_>) -> BTreeMap<String, f64> {
    let past_due = by_first(figures, MRR_PAST_DUE[0]);
    mrr_bounds(figures, MRR)
        .filter(|(_, low, high)| *high == Some(*low))
        .filter_map(|(currency, total, _)| {
            let part = *past_due.get(&currency)?;
            Some((currency, Ratio { part, total }.value()?))
        })
        .collect()
}
