//! Histograms of durations that can be added: eight buckets per doubling, so a percentile read from
//! them is at most an eighth too large. The sum of two histograms is the histogram of all their
//! durations, in any order.

use crate::counters::{add, sum};

/// The bucket of a duration in seconds.
pub fn bucket(seconds: i64) -> u32 {
    let value = u64::try_from(seconds).unwrap_or(0);
    if value < u64::from(STEPS) {
        return u32::try_from(value).unwrap_or(0);
    }
    // The three bits below the leading one.
    let below = value.ilog2().saturating_sub(3);
    let step = u32::try_from((value >> below) & 7).unwrap_or(0);
    let doubling = below.saturating_add(1);
    doubling.saturating_mul(STEPS).saturating_add(step)
}

/// The largest duration of a bucket, in seconds.
pub fn upper_seconds(bucket: u32) -> i64 {
    if bucket < STEPS {
        return i64::from(bucket);
    }
    let below = (bucket / STEPS).saturating_sub(1).min(59);
    let width = 1_i64 << below;
    let begin = i64::from((bucket % STEPS).saturating_add(STEPS)).saturating_mul(width);
    begin.saturating_add(width.saturating_sub(1))
}

/// The duration that `percent` of all durations do not exceed, from counts by bucket in ascending
/// order. `None` if there are none.
pub fn percentile(counts: &[(u32, i64)], percent: i64) -> Option<i64> {
    rank(counts, percent).map(upper_seconds)
}

/// The bucket, of any kind, that `percent` of all do not exceed, from counts in ascending order.
pub fn rank(counts: &[(u32, i64)], percent: i64) -> Option<u32> {
    let total = sum(counts.iter().map(|(_, count)| *count));
    if total <= 0 {
        return None;
    }
    let rank = total.saturating_mul(percent).saturating_add(99) / 100;
    let mut seen = 0;
    let reached = counts.iter().find(|(_, count)| {
        seen = add(seen, *count);
        seen >= rank
    });
    reached.map(|(bucket, _)| *bucket)
}

/// The buckets of the processing time, from receipt to commit: few, because it is counted for every
/// event. The limit of 5 s (K12) is one of them.
pub const PROCESSING_BOUNDS_MS: [u32; 13] = [
    10, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 600_000, 3_600_000,
];

/// The smallest of [`PROCESSING_BOUNDS_MS`] that a time does not exceed.
pub fn processing_bound_ms(milliseconds: i64) -> u32 {
    PROCESSING_BOUNDS_MS
        .into_iter()
        .find(|bound| milliseconds <= i64::from(*bound))
        .unwrap_or(86_400_000)
}

const STEPS: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_is_in_its_bucket_and_no_bucket_is_wider_than_an_eighth() {
        for seconds in (0..5000).chain([86_399, 86_400, 1 << 40, i64::MAX]) {
            let upper = upper_seconds(bucket(seconds));
            assert!(upper >= seconds, "{seconds} in a bucket up to {upper}");
            assert!(
                upper - seconds <= seconds / 8,
                "{seconds} in a bucket up to {upper}"
            );
            if bucket(seconds) > 0 {
                assert!(upper_seconds(bucket(seconds) - 1) < seconds);
            }
        }
        assert_eq!(bucket(-5), 0);
    }

    #[test]
    fn percentiles_are_upper_bounds_of_buckets() {
        let counts: Vec<_> = [10, 20, 30, 40].map(|s| (bucket(s), 25)).into();
        assert_eq!(
            [50, 75, 90, 99].map(|p| percentile(&counts, p)),
            [Some(21), Some(31), Some(43), Some(43)]
        );
        assert_eq!(percentile(&[], 50), None);
    }
}
