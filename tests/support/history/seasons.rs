//! Ten weeks of subscriptions in steps of complete days, for rates over past periods.
//!
//! Everything happens ten hours before the end of a day, counted backwards from the end: nothing is
//! near the edge of a window.

use std::collections::BTreeMap;

use fastrand::Rng;
use serde_json::json;

use super::expected::{Share, add};
use super::{Expected, History, HistoryBuilder};

const DAY_S: i64 = 86_400;

/// The status of a subscription from some day on.
#[derive(Clone, Copy, PartialEq)]
struct Period {
    /// Days before the end.
    day: i64,
    status: &'static str,
    unit: i64,
}

impl Period {
    fn in_base(self) -> bool {
        matches!(self.status, "active" | "past_due")
    }
}

impl History {
    /// `size` subscriptions, each of which begins on one of the last seventy days. Each customer has two of them.
    pub(crate) fn of_ten_weeks(seed: u64, size: usize, end_s: i64) -> Self {
        let mut builder = HistoryBuilder {
            rng: Rng::with_seed(seed),
            now_s: 0,
            events: Vec::new(),
        };
        let mut expected = Expected::default();
        let mut rates: BTreeMap<&'static str, Share> = [
            "churn_rate_30d",
            "recovery_rate_7d",
            "trial_conversion",
            "downgrade_retention_30d",
        ]
        .map(|name| (name, Share::default()))
        .into();
        let mut of_customers = BTreeMap::<usize, Vec<Vec<Period>>>::new();
        for n in 0..size {
            let periods = periods(&mut builder.rng);
            builder.add_subscription(n, &periods, end_s);
            let last = periods.last().expect("it began");
            add(&mut expected.subscriptions, last.status, 1);
            if last.in_base() {
                add(&mut expected.mrr_minor, "usd", last.unit);
            }
            if last.status == "past_due" {
                add(&mut expected.mrr_past_due_minor, "usd", last.unit);
            }
            count_rates(&periods, &mut rates);
            of_customers.entry(n / 2).or_default().push(periods);
        }
        let churn = rates.entry("churn_rate_30d").or_default();
        for subscriptions in of_customers.values() {
            count_churn(subscriptions, churn);
        }
        expected.rates = rates;
        Self {
            events: builder.events,
            expected,
        }
    }
}

fn periods(rng: &mut Rng) -> Vec<Period> {
    let mut now = Period {
        day: rng.i64(0..70),
        status: ["trialing", "active"][rng.usize(..2)],
        unit: 1000,
    };
    let mut periods = vec![now];
    loop {
        now.day -= rng.i64(1..15);
        if now.day < 0 || periods.len() > 20 {
            return periods;
        }
        match (now.status, rng.u8(..6)) {
            ("trialing", 0) | ("active", 0) | ("past_due", 0 | 1) => now.status = "canceled",
            ("trialing", _) | ("past_due", _) => now.status = "active",
            ("active", 1 | 2) => now.status = "past_due",
            ("active", 3) => now.unit += 500,
            ("active", _) if now.unit > 500 => now.unit -= 500,
            ("active", _) => continue,
            _ => return periods,
        }
        periods.push(now);
    }
}

fn count_rates(periods: &[Period], rates: &mut BTreeMap<&'static str, Share>) {
    let mut count = |name, is_part| rates.entry(name).or_default().count(is_part);
    for (i, now) in periods.iter().enumerate() {
        let before = i.checked_sub(1).map(|i| periods[i]);
        let after = &periods[i + 1..];
        let entered = |status| now.status == status && before.is_none_or(|b| b.status != status);
        if entered("past_due") && (7..37).contains(&now.day) {
            let left = after.iter().find(|s| s.status != "past_due");
            count(
                "recovery_rate_7d",
                left.is_some_and(|s| s.status == "active" && now.day - s.day <= 7),
            );
        }
        if entered("trialing") && (30..60).contains(&now.day) {
            count(
                "trial_conversion",
                after.iter().any(|s| s.status == "active"),
            );
        }
        let downgraded = before.is_some_and(|b| b.in_base() && now.in_base() && now.unit < b.unit);
        if downgraded && (30..60).contains(&now.day) {
            let lost = after.iter().any(|s| now.day - s.day <= 30 && !s.in_base());
            count("downgrade_retention_30d", !lost);
        }
    }
}

/// The denominator: subscribers thirty days ago, and those who became one since for the first time. The numerator:
/// those who ceased to be one since.
fn count_churn(subscriptions: &[Vec<Period>], churn: &mut Share) {
    let is_subscriber = |day| {
        let pays = |periods: &Vec<Period>| {
            let now = periods.iter().rev().find(|period| period.day >= day);
            now.is_some_and(|period| period.in_base())
        };
        subscriptions.iter().any(pays)
    };
    churn.total += u32::from(is_subscriber(30));
    let mut ever = (30..=70).any(is_subscriber);
    for day in (0..30).rev() {
        let (before, now) = (is_subscriber(day + 1), is_subscriber(day));
        churn.part += u32::from(before && !now);
        churn.total += u32::from(!ever && now);
        ever |= now;
    }
}

impl HistoryBuilder {
    fn add_subscription(&mut self, n: usize, periods: &[Period], end_s: i64) {
        let items = |unit: i64| {
            json!({"object": "list", "data": [{"id": format!("si_{n}"), "quantity": 1, "price": {"id": format!("price_{unit}"),
                "unit_amount": unit, "recurring": {"interval": "month", "interval_count": 1, "usage_type": "licensed"}}}]})
        };
        let mut before: Option<Period> = None;
        for now in periods {
            self.now_s = end_s - now.day * DAY_S - 10 * 3600;
            let object = json!({"id": format!("sub_{n}"), "object": "subscription", "customer": format!("cus_{}", n / 2), "currency": "usd",
                "status": now.status, "cancel_at_period_end": false, "items": items(now.unit)});
            let (kind, previous) = match before {
                None => ("created", None),
                Some(_) if now.status == "canceled" => ("deleted", None),
                Some(b) if b.unit != now.unit => ("updated", Some(json!({"items": items(b.unit)}))),
                Some(b) => ("updated", Some(json!({"status": b.status}))),
            };
            self.emit(
                &format!("customer.subscription.{kind}"),
                None,
                &object,
                previous,
            );
            before = Some(*now);
        }
    }
}
