//! Key figures, computed from counters: what `revwatch metrics` prints, the metrics page exposes and
//! rules compare.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::counters::{Bucket, Counters, hour_of};

/// The hours that [`Kpis::compute`] needs, for a `now` in Unix seconds.
pub fn hours_needed(now_s: i64) -> (u32, u32) {
    (hour_of(now_s).saturating_sub(24), hour_of(now_s))
}

/// How the business stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Kpis {
    /// Events applied, each counted once.
    pub events_applied: i64,
    /// Deliveries of events that had been applied before.
    pub events_duplicate: i64,
    /// Deliveries that cannot be applied.
    pub events_dead: i64,
    /// Events of types that Stripe does not document.
    pub events_ignored: i64,
    /// Subscriptions by status.
    pub subscriptions: BTreeMap<String, i64>,
    /// Subscriptions by status and plan.
    #[serde(skip)]
    pub subscriptions_by_plan: Vec<(String, String, i64)>,
    /// Past-due share of active and past-due subscriptions; `null` when there are none.
    pub past_due_ratio: Option<f64>,
    /// Monthly recurring revenue by currency, in its smallest unit.
    pub mrr_minor: BTreeMap<String, i64>,
    /// Invoices by status.
    pub invoices: BTreeMap<String, i64>,
    /// Payouts by outcome.
    pub payouts: BTreeMap<String, i64>,
    /// Payouts by outcome and currency.
    #[serde(skip)]
    pub payouts_by_currency: Vec<(String, String, i64)>,
    /// Failed share of the payouts that were paid or failed in the last 24 hours; `null` when there
    /// were none.
    pub payout_failure_ratio_24h: Option<f64>,
    /// Connected accounts by risk.
    pub accounts: BTreeMap<String, i64>,
    /// Connected accounts that reached each onboarding stage.
    pub funnel: BTreeMap<String, i64>,
}

/// A share with both its parts, so that a rule can ask for a minimum of samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ratio {
    /// What is counted.
    pub part: i64,
    /// Of how many.
    pub whole: i64,
}

impl Ratio {
    /// `None` when there is nothing to take a share of.
    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
    pub fn value(self) -> Option<f64> {
        (self.whole > 0).then(|| self.part as f64 / self.whole as f64)
    }
}

/// Failed ÷ (paid + failed) over the payouts whose present outcome was reached in the last
/// `window_hours` full hours or the hour under way: nothing within the window is left out.
pub fn payout_failures(counters: &Counters, now_s: i64, window_hours: u32) -> Ratio {
    let last = hour_of(now_s);
    let mut ratio = Ratio::default();
    for hour in last.saturating_sub(window_hours)..=last {
        for (rest, count) in counters.under(Bucket::Hour(hour), "payouts") {
            match rest.first() {
                Some(&"failed") => {
                    ratio.part += count;
                    ratio.whole += count;
                }
                Some(&"paid") => ratio.whole += count,
                _ => {}
            }
        }
    }
    ratio
}

/// The past-due share of the active base as it was at the end of hour `hour` (inclusive): today's level
/// less what changed since. `counters` must hold the standing ones and all hours after `hour`.
pub fn past_due_at(counters: &Counters, hour: u32, now_hour: u32) -> Ratio {
    let level = |which: &str| {
        let since = (hour.saturating_add(1)..=now_hour).map(|h| counters.get(Bucket::Hour(h), &["base", which]));
        counters.get(Bucket::Standing, &["base", which]) - since.sum::<i64>()
    };
    Ratio { part: level("past_due"), whole: level("all") }
}

impl Kpis {
    /// From the standing counters and those of [`hours_needed`].
    pub fn compute(counters: &Counters, now_s: i64) -> Self {
        let event = |outcome| counters.get(Bucket::Standing, &["events", outcome]);
        let by_first = |family: &'static str| {
            let mut sums = BTreeMap::new();
            for (rest, count) in counters.under(Bucket::Standing, family) {
                *sums.entry(rest[0].to_owned()).or_default() += count;
            }
            sums
        };
        let by_two = |family: &'static str| {
            let pairs = counters.under(Bucket::Standing, family).filter(|(rest, _)| rest.len() == 2);
            pairs.map(|(rest, count)| (rest[0].to_owned(), rest[1].to_owned(), count)).collect()
        };
        let now_hour = hour_of(now_s);
        Self {
            events_applied: event("applied"),
            events_duplicate: event("duplicate"),
            events_dead: event("dead"),
            events_ignored: event("ignored"),
            subscriptions: by_first("subscriptions"),
            subscriptions_by_plan: by_two("subscriptions"),
            past_due_ratio: past_due_at(counters, now_hour, now_hour).value(),
            mrr_minor: by_first("mrr"),
            invoices: by_first("invoices"),
            payouts: by_first("payouts"),
            payouts_by_currency: by_two("payouts"),
            payout_failure_ratio_24h: payout_failures(counters, now_s, 24).value(),
            accounts: by_first("accounts"),
            funnel: by_first("funnel"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_past_due_share_of_a_closed_day_is_todays_less_what_changed_since() {
        let mut c = Counters::default();
        // Ten active since hour 1; three past due at hour 30, one of them recovered at hour 60.
        c.add(Bucket::Standing, &["base", "all"], 10);
        c.add(Bucket::Standing, &["base", "past_due"], 2);
        c.add(Bucket::Hour(1), &["base", "all"], 10);
        c.add(Bucket::Hour(30), &["base", "past_due"], 3);
        c.add(Bucket::Hour(60), &["base", "past_due"], -1);
        let at = |hour| past_due_at(&c, hour, 70);
        assert_eq!(at(70), Ratio { part: 2, whole: 10 });
        assert_eq!(at(59), Ratio { part: 3, whole: 10 });
        assert_eq!(at(30), Ratio { part: 3, whole: 10 });
        assert_eq!(at(29), Ratio { part: 0, whole: 10 });
        assert_eq!(at(0).value(), None);
    }

    #[test]
    fn the_payout_failure_share_looks_at_the_window_only() {
        let mut c = Counters::default();
        c.add(Bucket::Hour(100), &["payouts", "failed", "usd"], 1);
        c.add(Bucket::Hour(110), &["payouts", "paid", "eur"], 18);
        c.add(Bucket::Hour(124), &["payouts", "failed", "usd"], 1);
        c.add(Bucket::Hour(124), &["payouts", "in_transit", "usd"], 50);
        assert_eq!(payout_failures(&c, 124 * 3600 + 5, 24), Ratio { part: 2, whole: 20 });
        assert_eq!(payout_failures(&c, 125 * 3600, 24), Ratio { part: 1, whole: 19 });
        assert_eq!(Kpis::compute(&c, 500 * 3600).payout_failure_ratio_24h, None);
    }
}
