//! When the counters are read: only when they can have changed what rules see, and not all the time.

use std::time::Duration;

use revwatch_core::counters::hour_of;

use super::TickTime;

/// When the counters were last read, and whether they must be read again: only when they can have changed
/// what rules see, and not all the time.
#[derive(Default)]
pub(super) struct CounterReads {
    last: Option<LastCounterRead>,
}

/// How the counters were last read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LastCounterRead {
    /// When that began: [`TickTime::elapsed`].
    pub at: Duration,
    /// How long it took.
    pub took: Duration,
    /// The Unix hour up to which they were read.
    pub hour: u32,
    /// Of all deliveries processed by then: while it stands still, so do the counters.
    pub deliveries: i64,
}

/// Why the counters are read now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CounterReadReason {
    /// They were not read before.
    NeverRead,
    /// Deliveries were processed since.
    NewDeliveries,
    /// An hour has ended: many windows begin and end with hours, the others with minutes.
    NewHour,
    /// Time has moved the windows although no event came.
    IntervalElapsed,
    /// A rule has held for long enough to fire, if it still holds.
    RuleRipe,
}

/// Counters are read during at most one tenth of the time.
const REST: u32 = 10;

impl CounterReads {
    /// Why the counters are read at `time`, when `deliveries` were processed; `None`: they are not. Even when no event
    /// comes they are read after `interval`: time moves the windows of metrics.
    pub fn reason(
        &self,
        deliveries: i64,
        is_ripe: bool,
        interval: Duration,
        time: TickTime,
    ) -> Option<CounterReadReason> {
        let Some(last) = &self.last else {
            return Some(CounterReadReason::NeverRead);
        };
        let elapsed = time.elapsed.saturating_sub(last.at);
        if elapsed <= last.took * REST {
            return None;
        }
        let reasons = [
            (
                last.deliveries != deliveries,
                CounterReadReason::NewDeliveries,
            ),
            (last.hour != hour_of(time.now_s), CounterReadReason::NewHour),
            (elapsed > interval, CounterReadReason::IntervalElapsed),
            (is_ripe, CounterReadReason::RuleRipe),
        ];
        let mut holding = reasons.into_iter().filter(|(holds, _)| *holds);
        holding.next().map(|(_, reason)| reason)
    }

    /// The counters were read.
    pub fn note(&mut self, read: LastCounterRead) {
        self.last = Some(read);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_S: i64 = 500 * 3600 + 60;
    const INTERVAL: Duration = Duration::from_secs(30);

    /// The counters were read for 50 ms in hour 500, when 7 deliveries were processed.
    fn reads() -> CounterReads {
        let mut reads = CounterReads::default();
        reads.note(LastCounterRead {
            at: Duration::from_secs(9),
            took: Duration::from_millis(50),
            hour: 500,
            deliveries: 7,
        });
        reads
    }

    /// The reason so long after [`reads`].
    fn reason(
        after_ms: u64,
        deliveries: i64,
        is_ripe: bool,
        now_s: i64,
    ) -> Option<CounterReadReason> {
        let elapsed = Duration::from_secs(9) + Duration::from_millis(after_ms);
        let time = TickTime { now_s, elapsed };
        reads().reason(deliveries, is_ripe, INTERVAL, time)
    }

    #[test]
    fn counters_are_read_when_they_can_have_changed_what_rules_see() {
        use CounterReadReason::{IntervalElapsed, NeverRead, NewDeliveries, NewHour, RuleRipe};
        let time = TickTime {
            now_s: NOW_S,
            elapsed: Duration::ZERO,
        };
        let first = CounterReads::default().reason(0, false, INTERVAL, time);
        assert_eq!(first, Some(NeverRead));
        assert_eq!(reason(1000, 7, false, NOW_S), None);
        assert_eq!(reason(1000, 8, false, NOW_S), Some(NewDeliveries));
        assert_eq!(reason(1000, 7, false, NOW_S + 3600), Some(NewHour));
        assert_eq!(reason(1000, 7, true, NOW_S), Some(RuleRipe));
        assert_eq!(reason(30_001, 7, false, NOW_S), Some(IntervalElapsed));
        assert_eq!(reason(30_000, 7, false, NOW_S), None);
    }

    #[test]
    fn counters_rest_for_ten_times_as_long_as_reading_them_took() {
        assert_eq!(reason(500, 8, true, NOW_S + 3600), None);
        assert!(reason(501, 8, true, NOW_S + 3600).is_some());
    }
}
