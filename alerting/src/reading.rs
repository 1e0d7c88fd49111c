//! What a rule sees when it looks at the counters. Pure: counters and `now` in, a reading out.

use jiff::{Timestamp, ToSpan as _};
use revwatch_shared::counters::{Bucket, Counters, hour_of};
use revwatch_shared::kpi::{Ratio, past_due_at, payout_failures};
use revwatch_shared::money::Money;

use crate::alert::{Evidence, Share};
use crate::rule::{LevelMetric, RatioMetric, RuleKind, Threshold};

/// What a rule sees.
#[derive(Debug, Clone, PartialEq)]
pub enum Reading {
    /// Too much, since this Unix second.
    Breached {
        /// Unix seconds.
        since_s: i64,
        /// What to show.
        evidence: Evidence,
    },
    /// Neither too much nor yet well again (hysteresis): what fires goes on firing.
    Between,
    /// Well.
    Clear {
        /// What to show when that ends an alert; `None`: what was shown before.
        evidence: Option<Evidence>,
    },
    /// Too little is known to say.
    Unknown,
}

/// How many hours before the current one `kind` needs.
pub fn hours_needed(kind: &RuleKind) -> u32 {
    match kind {
        RuleKind::Condition { .. } => 0,
        RuleKind::Ratio { window_hours, .. } => *window_hours,
        // A local day can begin up to 26 hours away from the UTC day and last 25.
        RuleKind::Consecutive { days, .. } => (days + 2) * 25,
    }
}

/// Looks at the whole business; `None` for rules on single entities.
pub fn read(kind: &RuleKind, counters: &Counters, now_s: i64) -> Option<Reading> {
    Some(match kind {
        RuleKind::Condition { .. } => return None,
        RuleKind::Ratio { metric: RatioMetric::PayoutFailures, window_hours, threshold } => {
            let ratio = payout_failures(counters, now_s, *window_hours);
            let evidence = evidence(ratio, threshold, failed_volume(counters, now_s, *window_hours));
            match judge(ratio, threshold) {
                Verdict::TooMuch => Reading::Breached { since_s: now_s, evidence },
                Verdict::Between => Reading::Between,
                Verdict::Well => Reading::Clear { evidence: Some(evidence) },
                Verdict::Unknown => Reading::Unknown,
            }
        }
        RuleKind::Consecutive { metric: LevelMetric::PastDueShare, days, time_zone, threshold } => {
            let now_hour = hour_of(now_s);
            let current = past_due_at(counters, now_hour, now_hour);
            let evidence = evidence(current, threshold, past_due_volume(counters));
            // What has recovered by now is not worth waking anybody for, and what fires resolves.
            match judge(current, threshold) {
                Verdict::Well => return Some(Reading::Clear { evidence: Some(evidence) }),
                Verdict::Unknown => return Some(Reading::Unknown),
                Verdict::TooMuch | Verdict::Between => {}
            }
            let midnights = midnights(now_s, time_zone, *days)?;
            let (since_s, ends) = midnights.split_last()?;
            // The last hour of each closed day; a day that was too small to judge breaks the row.
            let closings = ends.iter().map(|end_s| past_due_at(counters, hour_of(end_s - 1), now_hour));
            if closings.into_iter().all(|closing| judge(closing, threshold) == Verdict::TooMuch) {
                Reading::Breached { since_s: *since_s, evidence }
            } else {
                Reading::Between
            }
        }
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    TooMuch,
    Between,
    Well,
    Unknown,
}

fn judge(ratio: Ratio, threshold: &Threshold) -> Verdict {
    match ratio.value() {
        None => Verdict::Unknown,
        Some(_) if ratio.whole < threshold.min_denominator => Verdict::Unknown,
        Some(value) if value > threshold.above => Verdict::TooMuch,
        Some(value) if value > threshold.clear_below => Verdict::Between,
        Some(_) => Verdict::Well,
    }
}

fn evidence(ratio: Ratio, threshold: &Threshold, money: Vec<Money>) -> Evidence {
    let share = Share { part: ratio.part, whole: ratio.whole, above: threshold.above };
    Evidence { share: Some(share), money, ..Evidence::default() }
}

fn failed_volume(counters: &Counters, now_s: i64, window_hours: u32) -> Vec<Money> {
    let last = hour_of(now_s);
    let mut sums = std::collections::BTreeMap::<&str, i64>::new();
    for hour in last.saturating_sub(window_hours)..=last {
        for (rest, minor) in counters.under(Bucket::Hour(hour), "payouts_minor") {
            if let ["failed", currency] = rest.as_slice() {
                *sums.entry(currency).or_default() += minor;
            }
        }
    }
    sums.into_iter().map(|(currency, minor)| Money::new(minor, currency)).collect()
}

fn past_due_volume(counters: &Counters) -> Vec<Money> {
    let by_currency = counters.under(Bucket::Standing, "mrr_past_due");
    by_currency.map(|(rest, minor)| Money::new(minor, rest[0])).collect()
}

/// The midnight that began today, and those before it: `days + 1` of them, newest first. `None` only at
/// the end of the calendar. Days are
/// calendar days: 23 or 25 hours long where clocks change.
fn midnights(now_s: i64, zone: &jiff::tz::TimeZone, days: u32) -> Option<Vec<i64>> {
    let today = Timestamp::from_second(now_s).ok()?.to_zoned(zone.clone()).date();
    (0..=days)
        .map(|back| {
            let date = today.checked_sub(i64::from(back).days()).ok()?;
            Some(date.to_zoned(zone.clone()).ok()?.timestamp().as_second())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    const DAY_S: i64 = 86_400;

    fn ratio_kind() -> RuleKind {
        RuleKind::Ratio {
            metric: RatioMetric::PayoutFailures,
            window_hours: 24,
            threshold: Threshold { above: 0.05, clear_below: 0.04, min_denominator: 20 },
        }
    }

    fn word(reading: Option<&Reading>) -> &'static str {
        match reading {
            None => "none",
            Some(Reading::Breached { .. }) => "breached",
            Some(Reading::Between) => "between",
            Some(Reading::Clear { .. }) => "clear",
            Some(Reading::Unknown) => "unknown",
        }
    }

    #[test]
    fn a_ratio_needs_samples_and_is_strictly_above() {
        for (failed, paid, expected) in [
            (0, 0, "unknown"),
            (19, 0, "unknown"),
            (20, 0, "breached"),
            (1, 19, "between"),
            (2, 18, "breached"),
            (5, 95, "between"),
            (51, 949, "breached"),
            (4, 96, "clear"),
            (0, 20, "clear"),
        ] {
            let mut counters = Counters::default();
            counters.add(Bucket::Hour(100), &["payouts", "failed", "usd"], failed);
            counters.add(Bucket::Hour(100), &["payouts", "paid", "usd"], paid);
            counters.add(Bucket::Hour(100), &["payouts_minor", "failed", "usd"], failed * 10);
            let reading = read(&ratio_kind(), &counters, 100 * 3600);
            assert_eq!(word(reading.as_ref()), expected, "{failed} failed, {paid} paid");
        }
    }

    /// 100 subscriptions; `past_due` gives how many were past due from an hour on.
    fn base(past_due: &[(i64, i64)]) -> Counters {
        let mut counters = Counters::default();
        counters.add(Bucket::Standing, &["base", "all"], 100);
        counters.add(Bucket::Hour(0), &["base", "all"], 100);
        let mut level = 0;
        for (at_s, now) in past_due {
            counters.add(Bucket::hour_of(*at_s), &["base", "past_due"], now - level);
            level = *now;
        }
        counters.add(Bucket::Standing, &["base", "past_due"], level);
        counters
    }

    fn days(counters: &Counters, zone: &str, now_s: i64) -> &'static str {
        let kind = RuleKind::Consecutive {
            metric: LevelMetric::PastDueShare,
            days: 2,
            time_zone: TimeZone::get(zone).expect("a zone"),
            threshold: Threshold { above: 0.08, clear_below: 0.08, min_denominator: 10 },
        };
        word(read(&kind, counters, now_s).as_ref())
    }

    #[test]
    fn two_closed_days_in_a_row() {
        let day = |n: i64| 20_000 * DAY_S + n * DAY_S;
        let noon = 12 * 3600;
        let high = base(&[(day(0) + noon, 9)]);
        assert_eq!(days(&high, "UTC", day(1) + noon), "between", "one closed day");
        assert_eq!(days(&high, "UTC", day(2) - 1), "between", "the second is not closed");
        assert_eq!(days(&high, "UTC", day(2)), "breached");
        assert_eq!(days(&base(&[(day(0), 8)]), "UTC", day(3)), "clear", "8 % is not above 8 %");
        let dip = base(&[(day(0), 9), (day(1), 2), (day(2), 9)]);
        assert_eq!(days(&dip, "UTC", day(3)), "between", "the row was broken");
        let recovered = base(&[(day(0), 9), (day(2) + noon, 3)]);
        assert_eq!(days(&recovered, "UTC", day(2) + noon), "clear", "over by now");
        assert_eq!(days(&Counters::default(), "UTC", day(2)), "unknown");
    }

    #[test]
    fn days_are_calendar_days_where_clocks_change() {
        // Lisbon, 2026-10-25: clocks go back, the day has 25 hours and ends at 00:00 UTC on the 26th.
        let at = |text: &str| text.parse::<Timestamp>().expect("a time").as_second();
        let high = base(&[(at("2026-10-24T23:00:00Z"), 9)]);
        assert_eq!(days(&high, "Europe/Lisbon", at("2026-10-26T23:59:59Z")), "between");
        assert_eq!(days(&high, "Europe/Lisbon", at("2026-10-27T00:00:00Z")), "breached");
        let before = base(&[(at("2026-10-24T22:00:00Z"), 9)]);
        assert_eq!(
            days(&before, "Europe/Lisbon", at("2026-10-26T00:00:00Z")),
            "breached",
            "the 24th closed at 23:00 UTC"
        );
    }
}
