//! Monthly recurring revenue that is known only to be between two bounds. Pure.

use revwatch_core::counters::{MRR, UNKNOWN};

use crate::metric_value::{MetricQuery, number};

/// MRR of one currency at one time, in minor units.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct MrrBounds {
    low: f64,
    /// Infinite if there is no bound.
    high: f64,
}

impl MrrBounds {
    /// Before a minute.
    pub(super) fn before(query: MetricQuery<'_>, minute: u32, currency: &str) -> Self {
        let level = |family: &str, change: &str| {
            query.level_before(minute, &[family, currency], &[change, currency])
        };
        let [low, extra, unbounded] = MRR;
        let low = level(low, "mrr_change");
        let extra = level(extra, "mrr_extra_change");
        // What is of an unknown currency may be of this one.
        let is_bounded = level(unbounded, "mrr_unbounded_change") == 0
            && query.current(&[unbounded, UNKNOWN]) == 0;
        let high = if is_bounded {
            number(low.saturating_add(extra))
        } else {
            f64::INFINITY
        };
        Self {
            low: number(low),
            high,
        }
    }

    /// At least this.
    pub(super) fn low_minor(self) -> i64 {
        minor(self.low).unwrap_or(0)
    }

    /// At most this; `None`: there is no bound.
    pub(super) fn high_minor(self) -> Option<i64> {
        minor(self.high)
    }

    /// The bounds, if they are not the same.
    pub(super) fn range(self) -> Option<(f64, f64)> {
        (self.high > self.low).then_some((self.low, self.high))
    }

    /// The least and the most that it fell until `now`, as a share or in minor units; `None` if that is exactly
    /// known. If as much is unknown as before, it is taken to be of the same subscriptions, and not to have fallen.
    pub(super) fn fallen_to(self, now: Self, absolute: bool) -> Option<(f64, f64)> {
        if self.range().is_none() && now.range().is_none() {
            return None;
        }
        let fallen = |before: f64, now: f64| match before {
            _ if absolute => before - now,
            before if before <= 0.0 => 0.0,
            // Of what is without bounds, a part is nothing.
            f64::INFINITY if now.is_infinite() => 0.0,
            f64::INFINITY => 1.0,
            before => (before - now) / before,
        };
        let known = self.low - now.low;
        let ends = if !self.is_as_unknown_as(now) {
            [fallen(self.low, now.high), fallen(self.high, now.low)]
        } else if absolute {
            [known, known]
        } else {
            [
                fallen(self.low, now.low),
                fallen(self.high, self.high - known),
            ]
        };
        Some((ends[0].min(ends[1]), ends[0].max(ends[1])))
    }

    fn is_as_unknown_as(self, other: Self) -> bool {
        let [one, other] = [self, other].map(|bounds| bounds.high - bounds.low);
        one.is_infinite() && other.is_infinite() || (one - other).abs() < 0.5
    }
}

/// A finite amount.
#[expect(
    clippy::cast_possible_truncation,
    reason = "amounts stay far below 2^53"
)]
pub(super) fn minor(value: f64) -> Option<i64> {
    value.is_finite().then(|| value.round() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn exactly(minor: f64) -> MrrBounds {
        between(minor, minor)
    }

    const fn between(low: f64, high: f64) -> MrrBounds {
        MrrBounds { low, high }
    }

    #[test]
    fn what_fell_is_between_bounds_if_mrr_is() {
        let infinity = f64::INFINITY;
        let table = [
            (exactly(100.0), exactly(50.0), None),
            // The same 100 are unknown: at most a half of the rest fell.
            (
                between(100.0, 200.0),
                between(50.0, 150.0),
                Some((0.25, 0.5)),
            ),
            (
                between(100.0, infinity),
                between(50.0, infinity),
                Some((0.0, 0.5)),
            ),
            (exactly(100.0), between(50.0, 90.0), Some((0.1, 0.5))),
            (
                exactly(100.0),
                between(50.0, infinity),
                Some((-infinity, 0.5)),
            ),
            (between(100.0, 200.0), exactly(50.0), Some((0.5, 0.75))),
            (between(100.0, infinity), exactly(50.0), Some((0.5, 1.0))),
            (between(0.0, 100.0), between(0.0, 100.0), Some((0.0, 0.0))),
        ];
        for (before, now, expected) in table {
            assert_eq!(before.fallen_to(now, false), expected, "{before:?} {now:?}");
        }
        let same = between(100.0, 200.0).fallen_to(between(50.0, 150.0), true);
        assert_eq!(same, Some((50.0, 50.0)));
    }
}
