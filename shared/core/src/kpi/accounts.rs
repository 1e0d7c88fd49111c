//! Connected accounts and their onboarding.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde::Serialize;

use super::Ratio;
use super::sums::{by_first, of_last, over};
use crate::counters::{Bucket, Figures, add, hour_of};
use crate::histogram::percentile;

/// Connected accounts.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Accounts {
    /// By risk.
    pub accounts: BTreeMap<String, i64>,
    /// By their row of the risk table (C9, C12): `restricted`, `disabled`, and so on.
    pub accounts_by_standing: BTreeMap<String, i64>,
    /// Those that may take charges.
    pub accounts_charging: i64,
    /// Those whose last change is visible only through the API.
    pub accounts_needing_refresh: i64,
    /// Those that reached each onboarding stage.
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
}

impl Accounts {
    pub(super) fn compute(figures: &Figures<'_>, now_s: i64) -> Self {
        let now_hour = hour_of(now_s);
        let last = |days: u32| now_hour.saturating_sub(days.saturating_mul(24))..=now_hour;
        let (day, week) = (last(1), last(7));
        let current = |name: &str| figures.get(Bucket::Current, &[name]);
        let onboarded = over(figures, &week, &["onboarded", "count"]);
        Self {
            accounts: by_first(figures, "accounts"),
            accounts_by_standing: by_first(figures, "standing"),
            accounts_charging: current("accounts_charging"),
            accounts_needing_refresh: current("accounts_stale"),
            funnel: by_first(figures, "funnel"),
            onboarding_started_24h: of_last(figures, "cohort|account_created", 24, now_s),
            onboarding_completed_24h: over(figures, &day, &["onboarded", "count"]),
            onboarding_conversion_7d: onboarding_conversion(figures, week.clone()),
            onboarding_seconds: onboarding_percentiles(figures),
            onboarding_mean_seconds_7d: over(figures, &week, &["onboarded", "seconds"])
                .checked_div(onboarded)
                .filter(|_| onboarded > 0),
        }
    }
}

fn onboarding_percentiles(figures: &Figures<'_>) -> BTreeMap<String, i64> {
    let mut onboarding: Vec<(u32, i64)> = figures
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
fn cohorts<'a>(
    figures: &'a Figures<'a>,
    hours: RangeInclusive<u32>,
) -> impl Iterator<Item = (&'a str, &'a str, i64)> {
    hours.flat_map(|hour| {
        let cohorts = figures
            .under(Bucket::Hour(hour), "cohort")
            .filter(|(rest, _)| rest.len() == 2);
        cohorts.map(|(rest, count)| (rest[0], rest[1], count))
    })
}

/// By country, and of `all`.
fn onboarding_conversion(
    figures: &Figures<'_>,
    hours: RangeInclusive<u32>,
) -> BTreeMap<String, f64> {
    let mut ratios = BTreeMap::<String, Ratio>::new();
    for (stage, country, count) in cohorts(figures, hours) {
        for name in [country, "all"] {
            let ratio = ratios.entry(name.to_owned()).or_default();
            match stage {
                "account_created" => ratio.total = add(ratio.total, count),
                "charges_enabled" => ratio.part = add(ratio.part, count),
                _ => {}
            }
        }
    }
    ratios
        .into_iter()
        .filter_map(|(country, ratio)| Some((country, ratio.value()?)))
        .collect()
}
