//! When something counts: now, in an hour or in a minute of history; and which of these buckets add up to a window.
//!
//! Hours are kept for a year. Windows that shall begin and end with the minute read minutes at their ends and hours
//! between, so a few counters are kept by the minute too, for two days.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

/// The number of days whose hourly counters are kept, including today: a year and a month, for
/// comparisons. Stores delete older hours eventually.
pub const HOURS_KEPT_DAYS: u32 = 400;

/// Windows that began at most so many hours ago begin and end with minutes.
pub const MINUTES_READ_HOURS: u32 = 48;

/// The number of hours whose minutes are kept: one more than is read, because clocks differ and reading takes time.
/// Stores delete older minutes eventually, and are given none that are older.
pub const MINUTES_KEPT_HOURS: u32 = MINUTES_READ_HOURS + 1;

/// The counters that are kept by the minute too, each with all below it: what rules count in windows as short as an
/// hour. Each costs one more counter per event, so the list is short.
const BY_MINUTE: [&str; 12] = [
    "account_creation_failures",
    "account_creations",
    "account_link_failures",
    "cohort|account_created",
    "deauthorized",
    "mrr_change",
    "mrr_extra_change",
    "mrr_unbounded_change",
    "payments",
    "payouts|failed",
    "payouts|paid",
    "payouts_minor|failed",
];

/// When a number counts: while the entity has its current state, or in one hour or minute of history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Bucket {
    /// The current state.
    Current,
    /// Events of this hour (hours since 1970-01-01 UTC).
    Hour(u32),
    /// Events of this minute (minutes since 1970-01-01 UTC). They count in their hour, too.
    Minute(u32),
}

/// The buckets of history to read. The current counters are always read with them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buckets {
    /// Hours since 1970-01-01 UTC.
    pub hours: RangeInclusive<u32>,
    /// The hours of which the minutes are read, too.
    pub minutes_of: BTreeSet<u32>,
}

/// Whether a counter is kept by the minute, too: `name` is its name without its class, or begins it.
pub fn has_minutes(name: &str) -> bool {
    BY_MINUTE.iter().any(|begin| {
        let rest = name.strip_prefix(begin);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('|'))
    })
}

/// The minutes of a window from `from_s` until `until_s`, both included. Counters called `name` that are not kept by
/// the minute, or not for so long, can only be read by the hour: then the window begins and ends with full hours.
pub fn window_minutes(name: &str, from_s: i64, until_s: i64, now_s: i64) -> RangeInclusive<u32> {
    let (from, until) = (minute_of(from_s), minute_of(until_s));
    let oldest = minute_of(now_s).saturating_sub(MINUTES_READ_HOURS * 60);
    match has_minutes(name) && from >= oldest {
        true => from..=until,
        false => first_minute(hour_of_minute(from))..=last_minute(hour_of_minute(until)),
    }
}

/// The buckets that add up to these minutes: hours, and minutes where an hour is only partly among them.
pub fn covering(minutes: RangeInclusive<u32>) -> impl Iterator<Item = Bucket> {
    let (first, last) = minutes.into_inner();
    let mut next = Some(first);
    std::iter::from_fn(move || {
        let minute = next.filter(|minute| *minute <= last)?;
        let hour = hour_of_minute(minute);
        let is_full = minute == first_minute(hour) && last_minute(hour) <= last;
        let (bucket, length) = match is_full {
            true => (Bucket::Hour(hour), 60),
            false => (Bucket::Minute(minute), 1),
        };
        next = minute.checked_add(length);
        Some(bucket)
    })
}

/// Hours since 1970-01-01 UTC.
pub fn hour_of(unix_s: i64) -> u32 {
    u32::try_from(unix_s.div_euclid(3600)).unwrap_or(0)
}

/// Minutes since 1970-01-01 UTC.
pub fn minute_of(unix_s: i64) -> u32 {
    u32::try_from(unix_s.div_euclid(60)).unwrap_or(0)
}

/// The hour of a minute.
pub fn hour_of_minute(minute: u32) -> u32 {
    minute / 60
}

/// The last minute of an hour.
pub fn last_minute(hour: u32) -> u32 {
    first_minute(hour).saturating_add(59)
}

/// The first minute of an hour.
pub fn first_minute(hour: u32) -> u32 {
    hour.saturating_mul(60)
}

/// The first minute that is kept at a time.
pub fn first_minute_kept(now_s: i64) -> u32 {
    minute_of(now_s).saturating_sub(MINUTES_KEPT_HOURS * 60)
}

impl Bucket {
    /// The hour of a Unix second: for counters of which no minutes are kept.
    pub fn hour_of(unix_s: i64) -> Self {
        Self::Hour(hour_of(unix_s))
    }

    /// The minute of a Unix second.
    pub fn minute_of(unix_s: i64) -> Self {
        Self::Minute(minute_of(unix_s))
    }

    /// The hour in which it is; `None`: it is no history.
    pub fn hour(self) -> Option<u32> {
        match self {
            Self::Current => None,
            Self::Hour(hour) => Some(hour),
            Self::Minute(minute) => Some(hour_of_minute(minute)),
        }
    }
}

impl Buckets {
    /// Only the current counters.
    pub fn none() -> Self {
        Self::of_hours(1, 0)
    }

    /// The hours from `from` to `to`, without minutes.
    pub fn of_hours(from: u32, to: u32) -> Self {
        Self {
            hours: from..=to,
            minutes_of: BTreeSet::new(),
        }
    }

    /// Whether a counter of this bucket is read.
    pub fn contains(&self, bucket: Bucket) -> bool {
        match bucket {
            Bucket::Current => true,
            Bucket::Hour(hour) => self.hours.contains(&hour),
            Bucket::Minute(minute) => self.minutes_of.contains(&hour_of_minute(minute)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_S: i64 = 3600;
    const NOW_S: i64 = 1000 * HOUR_S + 34 * 60 + 5;

    fn buckets(minutes: RangeInclusive<u32>) -> Vec<Bucket> {
        covering(minutes).collect()
    }

    #[test]
    fn minutes_at_both_ends_and_hours_between_add_up_to_a_window() {
        use Bucket::{Hour, Minute};
        assert_eq!(buckets(120..=179), [Hour(2)]);
        assert_eq!(buckets(119..=180), [Minute(119), Hour(2), Minute(180)]);
        assert_eq!(
            buckets(118..=301),
            [
                Minute(118),
                Minute(119),
                Hour(2),
                Hour(3),
                Hour(4),
                Minute(300),
                Minute(301)
            ]
        );
        assert_eq!(buckets(61..=62), [Minute(61), Minute(62)]);
        assert_eq!(buckets(RangeInclusive::new(62, 61)), []);
        assert_eq!(buckets(u32::MAX..=u32::MAX), [Minute(u32::MAX)]);
    }

    #[test]
    fn a_window_has_minutes_where_they_are_kept() {
        let minutes = |name, hours: i64| window_minutes(name, NOW_S - hours * HOUR_S, NOW_S, NOW_S);
        let now = 1000 * 60 + 34;
        assert_eq!(minutes("payments|failed", 1), now - 60..=now);
        assert_eq!(minutes("payments|failed", 48), now - 48 * 60..=now);
        assert_eq!(minutes("payments|failed", 49), 951 * 60..=1000 * 60 + 59);
        assert_eq!(minutes("churn|lost", 1), 999 * 60..=1000 * 60 + 59);
    }

    #[test]
    fn a_counter_has_minutes_with_all_below_it_and_no_other() {
        for name in [
            "payments",
            "payments|failed",
            "payouts|failed|usd",
            "deauthorized",
        ] {
            assert!(has_minutes(name), "{name}");
        }
        for name in [
            "payouts",
            "payouts|pending|usd",
            "payments_minor|failed",
            "cohort|charges_enabled|BR",
        ] {
            assert!(!has_minutes(name), "{name}");
        }
    }

    #[test]
    fn current_counters_are_always_read() {
        let mut buckets = Buckets::none();
        assert!(buckets.contains(Bucket::Current));
        assert!(!buckets.contains(Bucket::Hour(0)) && !buckets.contains(Bucket::Minute(0)));
        buckets.minutes_of.insert(2);
        let minutes = [119, 120, 179, 180].map(|it| buckets.contains(Bucket::Minute(it)));
        assert_eq!(minutes, [false, true, true, false]);
    }
}
