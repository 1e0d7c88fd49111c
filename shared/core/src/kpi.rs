//! Key performance indicators, computed from counters: `revwatch metrics` prints them, the metrics
//! page exposes them and rules compare them.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde::Serialize;

use crate::counters::{Bucket, Counters, hour_of, sum};
use crate::histogram::percentile;
use crate::mode::OTHER_MODE;

/// The hours that [`Kpis::compute`] needs at `now_s` (Unix seconds): 60 days, to evaluate the
/// cohorts of the 30 days before the last 30.
pub fn hours_needed(now_s: i64) -> (u32, u32) {
    (hour_of(now_s).saturating_sub(60 * 24), hour_of(now_s))
}

/// The state of the business.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Kpis {
    /// Events applied, each counted once.
    pub events_applied: i64,
    /// Deliveries of events that were applied before.
    pub events_duplicate: i64,
    /// Deliveries that became dead letters. One that is requeued and still cannot be applied counts
    /// again.
    pub events_dead: i64,
    /// Events of types that Stripe does not document.
    pub events_ignored: i64,
    /// Events of the other mode, which change nothing.
    pub events_other_mode: i64,
    /// Subscriptions by status.
    pub subscriptions: BTreeMap<String, i64>,
    /// Subscriptions by status and plan.
    #[serde(skip)]
    pub subscriptions_by_plan: Vec<(String, String, i64)>,
    /// Past-due share of active and past-due subscriptions; `null` when there are none.
    pub past_due_ratio: Option<f64>,
    /// Monthly recurring revenue by currency, in its smallest unit.
    pub mrr_minor: BTreeMap<String, i64>,
    /// Subscriptions that count in MRR, but whose amount is not known and therefore missing in it, by
    /// the part that could not be read (`items`, `price`, `amount`, `quantity`, `coupon`, `currency`),
    /// or `cancellation` if it is not known whether they count.
    pub mrr_incomplete: BTreeMap<String, i64>,
    /// Customers: `active` and `deleted`. Only those of which an event has come.
    pub customers: BTreeMap<String, i64>,
    /// Invoices by status.
    pub invoices: BTreeMap<String, i64>,
    /// Payouts by outcome.
    pub payouts: BTreeMap<String, i64>,
    /// Payouts that ever reached an outcome, by outcome and currency: these never decrease.
    #[serde(skip)]
    pub payouts_reached: Vec<(String, String, i64)>,
    /// Payments that ever succeeded, and attempts that failed: these never decrease.
    #[serde(skip)]
    pub payments_reached: BTreeMap<String, i64>,
    /// Checkouts that were ever completed: this never decreases.
    #[serde(skip)]
    pub checkouts_reached: i64,
    /// Failed share of the payouts that were paid or failed in the last 24 hours; `null` if there
    /// were none.
    pub payout_failure_ratio_24h: Option<f64>,
    /// Connected accounts by risk.
    pub accounts: BTreeMap<String, i64>,
    /// Connected accounts that may take charges.
    pub accounts_charging: i64,
    /// Connected accounts whose last change is visible only through the API.
    pub accounts_needing_refresh: i64,
    /// Connected accounts that reached each onboarding stage.
    pub funnel: BTreeMap<String, i64>,
    /// Accounts whose onboarding began in the last 24 hours (C12).
    pub onboarding_started_24h: i64,
    /// Accounts that reached charges in the last 24 hours (C12).
    pub onboarding_completed_24h: i64,
    /// Of the accounts whose onboarding began in the last 7 days, the share that may take charges, by
    /// country (C11, C12); `all` is all of them.
    pub onboarding_conversion_7d: BTreeMap<String, f64>,
    /// Seconds from creation to charges enabled, by percentile (`p50`, `p75`, `p90`, `p99`), at most an
    /// eighth too large.
    pub onboarding_seconds: BTreeMap<String, i64>,
    /// The mean over the accounts that reached charges in the last 7 days.
    pub onboarding_mean_seconds_7d: Option<i64>,
    /// MRR of past-due subscriptions by currency.
    pub mrr_past_due_minor: BTreeMap<String, i64>,
    /// Past-due share of MRR, by currency.
    pub past_due_mrr_ratio: BTreeMap<String, f64>,
    /// Amount remaining on open invoices, by currency.
    pub invoices_open_minor: BTreeMap<String, i64>,
    /// Payment intents by status.
    pub payment_intents: BTreeMap<String, i64>,
    /// All payment attempts, `failed` and `succeeded`.
    pub payment_attempts: BTreeMap<String, i64>,
    /// Failed share of the payment attempts of the last 24 hours.
    pub payment_failure_ratio_24h: Option<f64>,
    /// Checkout sessions by status.
    pub checkout_sessions: BTreeMap<String, i64>,
    /// Disputes by status.
    pub disputes: BTreeMap<String, i64>,
    /// Refunds by status.
    pub refunds: BTreeMap<String, i64>,
    /// Transfers by status.
    pub transfers: BTreeMap<String, i64>,
    /// Volume of payouts paid in the last 30 days, by currency.
    pub payout_volume_minor_30d: BTreeMap<String, i64>,
    /// Subscriptions whose MRR fell to zero in the last 30 days ÷ (paying 30 days ago + new since
    /// then).
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

/// A share as numerator and denominator, so that a rule can require a minimum of samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ratio {
    /// The numerator.
    pub part: i64,
    /// The denominator.
    pub total: i64,
}

impl Ratio {
    /// `None` if the denominator is zero.
    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
    pub fn value(self) -> Option<f64> {
        (self.total > 0).then(|| self.part as f64 / self.total as f64)
    }
}

/// Failed ÷ (paid + failed) over the payouts whose current outcome was reached in the last
/// `window_hours` full hours or the current hour: nothing within the window is left out.
pub fn payout_failures(counters: &Counters, now_s: i64, window_hours: u32) -> Ratio {
    let last = hour_of(now_s);
    let mut ratio = Ratio::default();
    for hour in last.saturating_sub(window_hours)..=last {
        for (rest, count) in counters.under(Bucket::Hour(hour), "payouts") {
            match rest.first() {
                Some(&"failed") => {
                    ratio.part += count;
                    ratio.total += count;
                }
                Some(&"paid") => ratio.total += count,
                _ => {}
            }
        }
    }
    ratio
}

/// Failed ÷ all payment attempts of the window, which is the same as in [`payout_failures`].
pub fn payment_failures(counters: &Counters, now_s: i64, window_hours: u32) -> Ratio {
    let last = hour_of(now_s);
    let sum = |outcome: &str| -> i64 {
        let hours = last.saturating_sub(window_hours)..=last;
        let of_hour = |hour| {
            counters
                .under(Bucket::Hour(hour), "payments")
                .filter(|(rest, _)| rest[0] == outcome)
        };
        hours.flat_map(of_hour).map(|(_, count)| count).sum()
    };
    let (failed, succeeded) = (sum("failed"), sum("succeeded"));
    Ratio {
        part: failed,
        total: failed + succeeded,
    }
}

/// The sum of a counter over hours.
fn over(counters: &Counters, hours: RangeInclusive<u32>, parts: &[&str]) -> i64 {
    sum(hours.map(|hour| counters.get(Bucket::Hour(hour), parts)))
}

/// The past-due share of the active base at the end of hour `hour` (inclusive): the current level
/// minus the changes since. `counters` must contain the current counters and all hours after
/// `hour`.
pub fn past_due_at(counters: &Counters, hour: u32, now_hour: u32) -> Ratio {
    let level = |which: &str| {
        let since = (hour.saturating_add(1)..=now_hour)
            .map(|h| counters.get(Bucket::Hour(h), &["base", which]));
        counters.get(Bucket::Current, &["base", which]) - since.sum::<i64>()
    };
    Ratio {
        part: level("past_due"),
        total: level("all"),
    }
}

impl Kpis {
    /// Computes from the current counters and those of [`hours_needed`].
    pub fn compute(counters: &Counters, now_s: i64) -> Self {
        let now_hour = hour_of(now_s);
        let days_ago = |days: u32| now_hour.saturating_sub(days * 24);
        let last = |days: u32| days_ago(days)..=now_hour;
        let current = |parts: &[&str]| counters.get(Bucket::Current, parts);
        let by_first = |family| by_first(counters, family);
        let sum = |hours: RangeInclusive<u32>, parts: &[&str]| over(counters, hours, parts);
        let share = |part: i64, total: i64| Ratio { part, total }.value();
        let lost = sum(last(30), &["churn", "lost"]);
        let gained = sum(last(30), &["churn", "gained"]);
        let paying_30d_ago = current(&["base", "paying"]) - gained + lost;
        let (past_due, month_before) = (days_ago(37)..=days_ago(7), days_ago(60)..=days_ago(30));
        let downgraded = sum(month_before.clone(), &["plan", "downgraded"]);
        let onboarded = sum(last(7), &["onboarded", "count"]);
        Self {
            accounts_charging: current(&["accounts_charging"]),
            accounts_needing_refresh: current(&["accounts_stale"]),
            onboarding_seconds: onboarding_percentiles(counters),
            onboarding_mean_seconds_7d: (onboarded > 0)
                .then(|| sum(last(7), &["onboarded", "seconds"]) / onboarded),
            onboarding_started_24h: onboardings_started(counters, last(1)),
            onboarding_completed_24h: sum(last(1), &["onboarded", "count"]),
            onboarding_conversion_7d: onboarding_conversion(counters, last(7)),
            mrr_past_due_minor: by_first("mrr_past_due"),
            past_due_mrr_ratio: past_due_mrr(counters),
            invoices_open_minor: by_first("invoices_open_minor"),
            payment_intents: by_first("payment_intents"),
            payment_attempts: by_first("payment_attempts"),
            payment_failure_ratio_24h: payment_failures(counters, now_s, 24).value(),
            checkout_sessions: by_first("checkout_sessions"),
            disputes: by_first("disputes"),
            refunds: by_first("refunds"),
            transfers: by_first("transfers"),
            payout_volume_minor_30d: payout_volume(counters, last(30)),
            churn_rate_30d: share(lost, paying_30d_ago + gained),
            recovery_rate_7d: share(
                sum(past_due.clone(), &["dunning", "recovered_7d"]),
                sum(past_due, &["dunning", "entered"]),
            ),
            downgrade_retention_30d: share(
                downgraded - sum(month_before.clone(), &["plan", "downgraded_lost_30d"]),
                downgraded,
            ),
            trial_conversion: share(
                sum(month_before.clone(), &["trial", "converted"]),
                sum(month_before, &["trial", "started"]),
            ),
            events_applied: current(&["events", "applied"]),
            events_duplicate: current(&["events", "duplicate"]),
            events_dead: current(&["events", "dead"]),
            events_ignored: current(&["events", "ignored"]),
            events_other_mode: current(&["events", OTHER_MODE]),
            subscriptions: by_first("subscriptions"),
            subscriptions_by_plan: by_two(counters, "subscriptions"),
            past_due_ratio: past_due_at(counters, now_hour, now_hour).value(),
            mrr_minor: by_first("mrr"),
            mrr_incomplete: by_first("mrr_incomplete"),
            customers: by_first("customers"),
            invoices: by_first("invoices"),
            payouts: by_first("payouts"),
            payouts_reached: by_two(counters, "payouts_reached"),
            payments_reached: by_first("payments_reached"),
            checkouts_reached: current(&["checkouts_reached", "complete"]),
            payout_failure_ratio_24h: payout_failures(counters, now_s, 24).value(),
            accounts: by_first("accounts"),
            funnel: by_first("funnel"),
        }
    }
}

/// The current counters of a family, by the first part of their names.
fn by_first(counters: &Counters, family: &'static str) -> BTreeMap<String, i64> {
    let mut sums = BTreeMap::new();
    for (rest, count) in counters.under(Bucket::Current, family) {
        let total: &mut i64 = sums.entry(rest[0].to_owned()).or_default();
        *total = total.saturating_add(count);
    }
    sums
}

/// The current counters of a family whose names have two parts.
fn by_two(counters: &Counters, family: &'static str) -> Vec<(String, String, i64)> {
    let pairs = counters
        .under(Bucket::Current, family)
        .filter(|(rest, _)| rest.len() == 2);
    pairs
        .map(|(rest, count)| (rest[0].to_owned(), rest[1].to_owned(), count))
        .collect()
}

fn onboarding_percentiles(counters: &Counters) -> BTreeMap<String, i64> {
    let mut onboarding: Vec<(u32, i64)> = counters
        .under(Bucket::Current, "onboarding")
        .filter_map(|(rest, count)| Some((rest[0].parse().ok()?, count)))
        .collect();
    onboarding.sort_unstable();
    [("p50", 50), ("p75", 75), ("p90", 90), ("p99", 99)]
        .into_iter()
        .filter_map(|(name, percent)| Some((name.to_owned(), percentile(&onboarding, percent)?)))
        .collect()
}

/// The accounts that began to onboard in each hour, by stage and country.
fn cohorts(
    counters: &Counters,
    hours: RangeInclusive<u32>,
) -> impl Iterator<Item = (&str, &str, i64)> {
    hours.flat_map(|hour| {
        let cohorts = counters
            .under(Bucket::Hour(hour), "cohort")
            .filter(|(rest, _)| rest.len() == 2);
        cohorts.map(|(rest, count)| (rest[0], rest[1], count))
    })
}

fn onboardings_started(counters: &Counters, hours: RangeInclusive<u32>) -> i64 {
    let started = cohorts(counters, hours).filter(|(stage, _, _)| *stage == "account_created");
    started.map(|(_, _, count)| count).sum()
}

/// By country, and of `all`.
fn onboarding_conversion(counters: &Counters, hours: RangeInclusive<u32>) -> BTreeMap<String, f64> {
    let mut ratios = BTreeMap::<String, Ratio>::new();
    for (stage, country, count) in cohorts(counters, hours) {
        for name in [country, "all"] {
            let ratio = ratios.entry(name.to_owned()).or_default();
            match stage {
                "account_created" => ratio.total += count,
                "charges_enabled" => ratio.part += count,
                _ => {}
            }
        }
    }
    ratios
        .into_iter()
        .filter_map(|(country, ratio)| Some((country, ratio.value()?)))
        .collect()
}

/// By currency.
fn past_due_mrr(counters: &Counters) -> BTreeMap<String, f64> {
    by_first(counters, "mrr_past_due")
        .into_iter()
        .filter_map(|(currency, part)| {
            let total = counters.get(Bucket::Current, &["mrr", &currency]);
            Some((currency, Ratio { part, total }.value()?))
        })
        .collect()
}

/// What was paid out, by currency.
fn payout_volume(counters: &Counters, hours: RangeInclusive<u32>) -> BTreeMap<String, i64> {
    let mut volume_minor = BTreeMap::new();
    for hour in hours {
        for (rest, minor) in counters.under(Bucket::Hour(hour), "payouts_minor") {
            if let ["paid", currency] = rest.as_slice() {
                let total: &mut i64 = volume_minor.entry((*currency).to_owned()).or_default();
                *total = total.saturating_add(minor);
            }
        }
    }
    volume_minor
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_past_level_is_the_current_level_minus_the_changes_since() {
        let mut c = Counters::default();
        // Ten active since hour 1; three past due at hour 30; one of them recovered at hour 60.
        c.add(Bucket::Current, &["base", "all"], 10);
        c.add(Bucket::Current, &["base", "past_due"], 2);
        c.add(Bucket::Hour(1), &["base", "all"], 10);
        c.add(Bucket::Hour(30), &["base", "past_due"], 3);
        c.add(Bucket::Hour(60), &["base", "past_due"], -1);
        let at = |hour| past_due_at(&c, hour, 70);
        assert_eq!(at(70), Ratio { part: 2, total: 10 });
        assert_eq!(at(59), Ratio { part: 3, total: 10 });
        assert_eq!(at(30), Ratio { part: 3, total: 10 });
        assert_eq!(at(29), Ratio { part: 0, total: 10 });
        assert_eq!(at(0).value(), None);
    }

    #[test]
    fn amounts_at_their_limit_do_not_wrap() {
        let mut c = Counters::default();
        for part in ["a", "b"] {
            c.add(
                Bucket::Current,
                &["invoices_open_minor", "idr", part],
                i64::MAX,
            );
        }
        for hour in [699, 700] {
            c.add(
                Bucket::Hour(hour),
                &["payouts_minor", "paid", "idr"],
                i64::MAX,
            );
            c.add(Bucket::Hour(hour), &["onboarded", "seconds"], i64::MAX);
            c.add(Bucket::Hour(hour), &["onboarded", "count"], 1);
        }
        let kpis = Kpis::compute(&c, 700 * 3600);
        let idr = BTreeMap::from([("idr".to_owned(), i64::MAX)]);
        assert_eq!(kpis.invoices_open_minor, idr);
        assert_eq!(kpis.payout_volume_minor_30d, idr);
        assert_eq!(kpis.onboarding_mean_seconds_7d, Some(i64::MAX / 2));
    }

    #[test]
    fn churn_and_cohorts_use_their_windows() {
        let mut c = Counters::default();
        let now_s = 100 * 86_400;
        let ago = |days: i64| Bucket::hour_of(now_s - days * 86_400);
        // 8 paying now: 10 a month ago, 3 lost and 1 new since then.
        c.add(Bucket::Current, &["base", "paying"], 8);
        c.add(ago(40), &["churn", "gained"], 10);
        c.add(ago(20), &["churn", "lost"], 3);
        c.add(ago(10), &["churn", "gained"], 1);
        c.add(ago(10), &["dunning", "entered"], 4);
        c.add(ago(10), &["dunning", "recovered_7d"], 3);
        c.add(ago(2), &["dunning", "entered"], 50);
        c.add(ago(45), &["plan", "downgraded"], 5);
        c.add(ago(45), &["plan", "downgraded_lost_30d"], 1);
        c.add(ago(45), &["trial", "started"], 2);
        c.add(ago(45), &["trial", "converted"], 1);
        let kpis = Kpis::compute(&c, now_s);
        assert_eq!(kpis.churn_rate_30d, Some(3.0 / 11.0));
        assert_eq!(kpis.recovery_rate_7d, Some(0.75));
        assert_eq!(kpis.downgrade_retention_30d, Some(0.8));
        assert_eq!(kpis.trial_conversion, Some(0.5));
        c.add(ago(3), &["cohort", "account_created", "BR"], 4);
        c.add(ago(0), &["cohort", "account_created", "PT"], 1);
        c.add(ago(3), &["cohort", "charges_enabled", "BR"], 2);
        let kpis = Kpis::compute(&c, now_s);
        let conversion: Vec<_> = kpis
            .onboarding_conversion_7d
            .iter()
            .map(|(k, v)| (k.as_str(), *v))
            .collect();
        assert_eq!(conversion, [("BR", 0.5), ("PT", 0.0), ("all", 0.4)]);
        assert_eq!(kpis.onboarding_started_24h, 1);
        assert_eq!(Kpis::compute(&Counters::default(), now_s), Kpis::default());
    }

    #[test]
    fn the_payout_failure_share_counts_only_the_window() {
        let mut c = Counters::default();
        c.add(Bucket::Hour(100), &["payouts", "failed", "usd"], 1);
        c.add(Bucket::Hour(110), &["payouts", "paid", "eur"], 18);
        c.add(Bucket::Hour(124), &["payouts", "failed", "usd"], 1);
        c.add(Bucket::Hour(124), &["payouts", "in_transit", "usd"], 50);
        assert_eq!(
            payout_failures(&c, 124 * 3600 + 5, 24),
            Ratio { part: 2, total: 20 }
        );
        assert_eq!(
            payout_failures(&c, 125 * 3600, 24),
            Ratio { part: 1, total: 19 }
        );
        assert_eq!(Kpis::compute(&c, 500 * 3600).payout_failure_ratio_24h, None);
    }
}
