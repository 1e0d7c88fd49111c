//! When the counters are read: only when they can have changed what rules see, and not all the time.

use std::time::Duration;

use revwatch_core::counters::hour_of;

/// How the counters were last read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastCounterRead {
    /// How long ago that began.
    pub elapsed: Duration,
    /// How long it took.
    pub took: Duration,
    /// The Unix hour up to which they were read.
    pub hour: u32,
    /// Of all deliveries dealt with by then: while it stands still, so do the counters.
    pub deliveries: i64,
}

/// Why the counters are read now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CounterReadReason {
    /// They were not read before.
    NeverRead,
    /// Deliveries were dealt with since.
    NewDeliveries,
    /// An hour has ended: windows begin and end with hours.
    NewHour,
    /// Time has moved the windows although no event came.
    IntervalElapsed,
    /// A rule has held for long enough to fire, if it still holds.
    RuleRipe,
}

/// At most one part in so many of the time is spent reading counters.
const REST: u32 = 10;
/// Even when no event comes, time moves the windows of metrics.
const INTERVAL: Duration = Duration::from_secs(30);

/// Why the counters are read at `now_s`, when `deliveries` were dealt with; `None`: they are not.
pub(super) fn reason(
    last: Option<&LastCounterRead>,
    deliveries: i64,
    is_ripe: bool,
    now_s: i64,
) -> Option<CounterReadReason> {
    let Some(last) = last else {
        return Some(CounterReadReason::NeverRead);
    };
    let reasons = [
        (
            last.deliveries != deliveries,
            CounterReadReason::NewDeliveries,
        ),
        (last.hour != hour_of(now_s), CounterReadReason::NewHour),
        (last.elapsed > INTERVAL, CounterReadReason::IntervalElapsed),
        (is_ripe, CounterReadReason::RuleRipe),
    ];
    let is_rested = last.elapsed > last.took * REST;
    let holds = reasons.into_iter().filter(|(holds, _)| *holds && is_rested);
    holds.map(|(_, reason)| reason).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_S: i64 = 500 * 3600 + 60;

    fn last(elapsed_ms: u64) -> LastCounterRead {
        LastCounterRead {
            elapsed: Duration::from_millis(elapsed_ms),
            took: Duration::from_millis(50),
            hour: 500,
            deliveries: 7,
        }
    }

    #[test]
    fn counters_are_read_when_they_can_have_changed_what_rules_see() {
        use CounterReadReason::{IntervalElapsed, NeverRead, NewDeliveries, NewHour, RuleRipe};
        let last = last(1000);
        assert_eq!(reason(None, 0, false, NOW_S), Some(NeverRead));
        assert_eq!(reason(Some(&last), 7, false, NOW_S), None);
        assert_eq!(reason(Some(&last), 8, false, NOW_S), Some(NewDeliveries));
        let next_hour_s = NOW_S + 3600;
        assert_eq!(reason(Some(&last), 7, false, next_hour_s), Some(NewHour));
        assert_eq!(reason(Some(&last), 7, true, NOW_S), Some(RuleRipe));
        let old = super::tests::last(30_001);
        assert_eq!(reason(Some(&old), 7, false, NOW_S), Some(IntervalElapsed));
        let young = super::tests::last(30_000);
        assert_eq!(reason(Some(&young), 7, false, NOW_S), None);
    }

    #[test]
    fn whatever_has_changed_they_are_not_read_all_the_time() {
        assert_eq!(reason(Some(&last(500)), 8, true, NOW_S + 3600), None);
        assert!(reason(Some(&last(501)), 8, true, NOW_S + 3600).is_some());
    }
}
