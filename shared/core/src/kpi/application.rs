//! What the user's own application says: tickets, failures, providers, booking fees.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde::Serialize;

use super::Ratio;
use super::sums::{by_first, over};
use crate::bucket::{covering, window_minutes};
use crate::counters::{Bucket, Counters, Figures, add, hour_of, is_beyond, sum};
use crate::histogram::percentile;

/// Events of the application that were ever applied: a current counter.
pub const APP_APPLIED: [&str; 2] = ["events", "app_applied"];

/// Those of an hour, by the time that the application gives them.
pub const APP_CREATED: &str = "events|app_created";

/// The same, by the time at which they were received.
pub const APP_RECEIVED: &str = "events|app_received";

/// An application of which nothing was received for longer than this is silent: what only it says is unknown.
pub const SILENT_AFTER_HOURS: u32 = 24;

/// What the application says. What happened in a window is `null` while it is silent.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Application {
    /// Whether nothing was received of it for more than 24 hours.
    pub silent: bool,
    /// The hour in which the newest of its events was received, in Unix seconds; `null`: more than 60 days ago.
    pub newest_received_hour_s: Option<i64>,
    /// Support tickets by status: `unanswered`, `responded`, `closed`.
    pub tickets: BTreeMap<String, i64>,
    /// Opened in the last 24 hours.
    pub tickets_opened_24h: Option<i64>,
    /// From the opening to the first response: the mean over the first responses of the last 7 days (R7).
    pub first_response_mean_seconds_7d: Option<i64>,
    /// The same by percentile (`p50`, `p90`), at most an eighth too large.
    pub first_response_seconds_7d: Option<BTreeMap<String, i64>>,
    /// Users who registered as providers in the last 7 days.
    pub providers_registered_7d: Option<i64>,
    /// Accounts that could not be created in the last hour (C10).
    pub account_creation_failures_1h: Option<i64>,
    /// Account links that failed in the last hour (C10).
    pub account_link_failures_1h: Option<i64>,
    /// Created ÷ (created + not created) accounts of the last hour (C11); `null`: there was none.
    pub account_creation_success_1h: Option<f64>,
    /// The same of the last 24 hours.
    pub account_creation_success_24h: Option<f64>,
    /// Booking fees that were charged in the last 24 hours.
    pub booking_fees_24h: Option<i64>,
    /// Their amounts by currency, in its smallest unit.
    pub booking_fees_minor_24h: Option<BTreeMap<String, i64>>,
    /// Members of organisations: `member` and `left`.
    pub members: BTreeMap<String, i64>,
}

impl Application {
    /// `None`: it never sent an event.
    pub(super) fn compute(counters: &Counters, figures: &Figures<'_>, now_s: i64) -> Option<Self> {
        if counters.get(Bucket::Current, &APP_APPLIED) <= 0 {
            return None;
        }
        let newest_hour = newest_received_hour(counters);
        let silent = is_silent(newest_hour, now_s);
        let mut application = Self {
            silent,
            newest_received_hour_s: newest_hour.map(|hour| i64::from(hour).saturating_mul(3600)),
            tickets: by_first(figures, "tickets"),
            members: by_first(figures, "members"),
            ..Self::default()
        };
        if !silent {
            application.add_windows(figures, now_s);
        }
        Some(application)
    }

    fn add_windows(&mut self, figures: &Figures<'_>, now_s: i64) {
        let now_hour = hour_of(now_s);
        let last = |days: u32| now_hour.saturating_sub(days.saturating_mul(24))..=now_hour;
        let (day, week) = (last(1), last(7));
        let of = |name: &str, hours: u32| of_last(figures, name, hours, now_s);
        let success = |hours: u32| {
            let [part, failed] =
                ["account_creations", "account_creation_failures"].map(|it| of(it, hours));
            let ratio = Ratio {
                part,
                total: add(part, failed),
            };
            ratio.value()
        };
        let responses = over(figures, &week, &["first_response", "count"]);
        self.tickets_opened_24h = Some(over(figures, &day, &["tickets_opened"]));
        self.first_response_mean_seconds_7d = over(figures, &week, &["first_response", "seconds"])
            .checked_div(responses)
            .filter(|_| responses > 0);
        self.first_response_seconds_7d = Some(percentiles(figures, week.clone()));
        self.providers_registered_7d = Some(sum_of(figures, week, "providers_registered"));
        self.account_creation_failures_1h = Some(of("account_creation_failures", 1));
        self.account_link_failures_1h = Some(of("account_link_failures", 1));
        self.account_creation_success_1h = success(1);
        self.account_creation_success_24h = success(24);
        self.booking_fees_24h = Some(sum_of(figures, day.clone(), "booking_fees"));
        self.booking_fees_minor_24h = Some(by_segment(figures, day, "booking_fees_minor"));
    }
}

/// Whether an application of which the newest event was received in this hour is silent.
pub fn is_silent(newest_hour: Option<u32>, now_s: i64) -> bool {
    let silent_before = hour_of(now_s).saturating_sub(SILENT_AFTER_HOURS);
    newest_hour.is_none_or(|hour| hour < silent_before)
}

/// The newest hour, of those in `counters`, in which an event of the application was received.
pub fn newest_received_hour(counters: &Counters) -> Option<u32> {
    let hours = counters
        .iter()
        .filter_map(|(bucket, name, count)| match bucket {
            Bucket::Hour(hour) if name == APP_RECEIVED && count > 0 => Some(hour),
            _ => None,
        });
    hours.max()
}

/// A counter in a window of so many hours that ends now.
fn of_last(figures: &Figures<'_>, name: &str, hours: u32, now_s: i64) -> i64 {
    let from_s = now_s.saturating_sub(i64::from(hours).saturating_mul(3600));
    let buckets = covering(window_minutes(name, from_s, now_s, now_s));
    sum(buckets.map(|bucket| figures.get(bucket, &[name])))
}

fn percentiles(figures: &Figures<'_>, hours: RangeInclusive<u32>) -> BTreeMap<String, i64> {
    let buckets = by_segment(figures, hours, "first_response_bucket");
    let of_bucket = |(name, count): (String, i64)| Some((name.parse().ok()?, count));
    let mut buckets: Vec<(u32, i64)> = buckets.into_iter().filter_map(of_bucket).collect();
    buckets.sort_unstable();
    [("p50", 50), ("p90", 90)]
        .into_iter()
        .filter_map(|(name, percent)| Some((name.to_owned(), percentile(&buckets, percent)?)))
        .collect()
}

fn sum_of(figures: &Figures<'_>, hours: RangeInclusive<u32>, family: &str) -> i64 {
    sum(by_segment(figures, hours, family).into_values())
}

/// The sums over hours of the counters directly below `family`, without those that are too large to be known.
fn by_segment(
    figures: &Figures<'_>,
    hours: RangeInclusive<u32>,
    family: &str,
) -> BTreeMap<String, i64> {
    let mut sums = BTreeMap::new();
    for (rest, count) in hours.flat_map(|hour| figures.under(Bucket::Hour(hour), family)) {
        let total: &mut i64 = sums.entry(rest[0].to_owned()).or_default();
        *total = add(*total, count);
    }
    sums.retain(|_, sum| !is_beyond(*sum));
    sums
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::class::Scope;

    const NOW_S: i64 = 1_795_000_000;

    /// What is shown of an application whose newest event was received so many hours ago.
    fn shown(hours_ago: i64) -> Value {
        let mut counters = Counters::default();
        let mut add = |bucket, name: &str, by| {
            counters.add(bucket, &name.split('|').collect::<Vec<_>>(), by);
        };
        add(Bucket::Current, "events|app_applied", 9);
        let received = Bucket::hour_of(NOW_S - hours_ago * 3600);
        add(received, APP_RECEIVED, 1);
        add(Bucket::Current, "tickets|unanswered", 2);
        for (minutes_ago, name, by) in [
            (10, "account_creations", 9),
            (59, "account_creation_failures", 1),
            (61, "account_creation_failures", 10),
            (61, "account_link_failures", 4),
        ] {
            let at_s = NOW_S - minutes_ago * 60;
            add(Bucket::minute_of(at_s), name, by);
            add(Bucket::hour_of(at_s), name, by);
        }
        let hour = Bucket::hour_of(NOW_S);
        for (name, by) in [
            ("booking_fees|usd", 2),
            ("booking_fees_minor|usd", 700),
            ("first_response|count", 2),
            ("first_response|seconds", 300),
            ("first_response_bucket|0", 2),
            ("providers_registered|BR", 3),
            ("tickets_opened", 4),
        ] {
            add(hour, name, by);
        }
        let figures = counters.of(&Scope::PLATFORM);
        json!(Application::compute(&counters, &figures, NOW_S))
    }

    #[test]
    fn what_happened_lately_is_known_of_an_application_that_sends() {
        let shown = shown(SILENT_AFTER_HOURS.into());
        let expected = json!({
            "silent": false, "newest_received_hour_s": (NOW_S / 3600 - 24) * 3600, "tickets": {"unanswered": 2},
            "tickets_opened_24h": 4, "first_response_mean_seconds_7d": 150,
            "first_response_seconds_7d": {"p50": 0, "p90": 0}, "providers_registered_7d": 3,
            "account_creation_failures_1h": 1, "account_link_failures_1h": 0, "account_creation_success_1h": 0.9,
            "account_creation_success_24h": 0.45, "booking_fees_24h": 2, "booking_fees_minor_24h": {"usd": 700},
            "members": {},
        });
        assert_eq!(shown, expected);
    }

    /// Null, not zero.
    #[test]
    fn what_happened_lately_is_unknown_of_a_silent_one() {
        let shown = shown(i64::from(SILENT_AFTER_HOURS) + 1);
        assert_eq!(
            (&shown["silent"], &shown["tickets"]["unanswered"]),
            (&json!(true), &json!(2))
        );
        for (name, value) in shown.as_object().expect("an object") {
            let is_of_window = ["_1h", "_24h", "_7d"].iter().any(|end| name.ends_with(end));
            assert_eq!(value.is_null(), is_of_window, "{name}: {value}");
        }
    }

    #[test]
    fn without_any_event_there_is_no_application() {
        let counters = Counters::default();
        let figures = counters.of(&Scope::PLATFORM);
        assert_eq!(Application::compute(&counters, &figures, NOW_S), None);
    }
}
