//! Sums over the counters of a family.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use crate::bucket::{covering, window_minutes};
use crate::counters::{Bucket, Figures, add, is_beyond, sum};

/// The sum of a counter over hours.
pub(super) fn over(figures: &Figures<'_>, hours: &RangeInclusive<u32>, parts: &[&str]) -> i64 {
    let hours = hours.clone();
    sum(hours.map(|hour| figures.get(Bucket::Hour(hour), parts)))
}

/// The sum of all counters below `name` in a window of so many hours that ends now. Nothing within the window is left
/// out.
pub(super) fn of_last(figures: &Figures<'_>, name: &str, hours: u32, now_s: i64) -> i64 {
    let from_s = now_s.saturating_sub(i64::from(hours).saturating_mul(3600));
    let buckets = covering(window_minutes(name, from_s, now_s, now_s));
    let counts = buckets.flat_map(|bucket| figures.under(bucket, name));
    sum(counts.map(|(_, count)| count))
}

/// The current counters of a family, by the first part of their names. Without those of [`beyond`].
pub fn by_first(figures: &Figures<'_>, family: &str) -> BTreeMap<String, i64> {
    let mut sums = all_by_first(figures, family);
    sums.retain(|_, sum| !is_beyond(*sum));
    sums
}

/// Those of which the sum is not known, because it is too large.
pub fn beyond(figures: &Figures<'_>, family: &str) -> Vec<String> {
    let mut sums = all_by_first(figures, family);
    sums.retain(|_, sum| is_beyond(*sum));
    sums.into_keys().collect()
}

fn all_by_first(figures: &Figures<'_>, family: &str) -> BTreeMap<String, i64> {
    let mut sums = BTreeMap::new();
    for (rest, count) in figures.under(Bucket::Current, family) {
        let total: &mut i64 = sums.entry(rest[0].to_owned()).or_default();
        *total = add(*total, count);
    }
    sums
}

/// The current counters of a family whose names have two parts.
pub(super) fn by_two(figures: &Figures<'_>, family: &'static str) -> Vec<(String, String, i64)> {
    let pairs = figures
        .under(Bucket::Current, family)
        .filter(|(rest, _)| rest.len() == 2);
    pairs
        .map(|(rest, count)| (rest[0].to_owned(), rest[1].to_owned(), count))
        .collect()
}

/// The amounts with this outcome in some hours, by currency.
pub(super) fn volume(
    figures: &Figures<'_>,
    hours: RangeInclusive<u32>,
    [family, outcome]: [&str; 2],
) -> BTreeMap<String, i64> {
    let mut volume_minor = BTreeMap::new();
    for hour in hours {
        for (rest, minor) in figures.under(Bucket::Hour(hour), family) {
            if let [of, currency] = rest.as_slice()
                && *of == outcome
            {
                let total: &mut i64 = volume_minor.entry((*currency).to_owned()).or_default();
                *total = add(*total, minor);
            }
        }
    }
    volume_minor.retain(|_, sum| !is_beyond(*sum));
    volume_minor
}
