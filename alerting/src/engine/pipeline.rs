//! What is known of the pipeline: its status as it was last read, and for how long it has been stalled.

use std::time::Duration;

use crate::metric_value::PipelineStatus;

/// What was read of the pipeline.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PipelineRead {
    /// The status. Notifiers that cannot deliver are added by the engine.
    pub status: PipelineStatus,
    /// For how many seconds deliveries have waited while none was processed; `None`: the engine measures it.
    pub stalled_s: Option<i64>,
}

/// The pipeline's status as it was last read, and for how long it has been stalled. Nothing is known before the first
/// read.
#[derive(Default)]
pub(super) struct Pipeline {
    last: PipelineRead,
    /// When it was read: [`super::TickTime::elapsed`].
    read_at: Option<Duration>,
    waiting: Option<Waiting>,
}

/// Deliveries wait, and none was processed since.
struct Waiting {
    since: Duration,
    deliveries: i64,
}

impl Pipeline {
    /// Whether the status must be read: it never was, or that is more than `interval` ago.
    pub fn is_read_due(&self, interval: Duration, elapsed: Duration) -> bool {
        self.read_at
            .is_none_or(|at| elapsed.saturating_sub(at) > interval)
    }

    /// The status was read.
    pub fn update(&mut self, read: PipelineRead, elapsed: Duration) {
        (self.last, self.read_at) = (read, Some(elapsed));
    }

    /// The status for rules, when `deliveries` were processed.
    pub fn status<'a>(
        &mut self,
        deliveries: i64,
        broken_notifiers: impl Iterator<Item = (&'a String, &'a String)>,
        elapsed: Duration,
    ) -> PipelineStatus {
        let measured_s = self.stalled_s(deliveries, elapsed);
        let mut status = self.last.status.clone();
        status.stalled_s = self.last.stalled_s.unwrap_or(measured_s);
        let broken_notifiers = broken_notifiers.map(|(name, why)| (name.clone(), why.clone()));
        status.broken_notifiers.extend(broken_notifiers);
        status
    }

    fn stalled_s(&mut self, deliveries: i64, elapsed: Duration) -> i64 {
        let earlier = self.waiting.take();
        let earlier = earlier.filter(|waiting| waiting.deliveries == deliveries);
        let begin = Waiting {
            since: elapsed,
            deliveries,
        };
        self.waiting = match self.last.status.queue_depth {
            Some(0) => None,
            Some(_) => Some(earlier.unwrap_or(begin)),
            // What waited waits still: nothing was processed since.
            None => earlier,
        };
        self.waiting.as_ref().map_or(0, |waiting| {
            let stalled = elapsed.saturating_sub(waiting.since);
            i64::try_from(stalled.as_secs()).unwrap_or(i64::MAX)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::iter;

    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn depth(depth: i64) -> PipelineRead {
        PipelineRead {
            status: PipelineStatus {
                queue_depth: Some(depth),
                ..PipelineStatus::default()
            },
            stalled_s: None,
        }
    }

    #[test]
    fn the_status_is_read_once_per_interval() {
        let mut pipeline = Pipeline::default();
        assert!(pipeline.is_read_due(at(10), at(3)));
        pipeline.update(depth(0), at(3));
        assert!(!pipeline.is_read_due(at(10), at(13)));
        assert!(pipeline.is_read_due(at(10), at(13) + Duration::from_millis(1)));
    }

    #[test]
    fn the_pipeline_is_stalled_while_deliveries_wait_and_none_is_processed() {
        let mut pipeline = Pipeline::default();
        let stalled_s = |pipeline: &mut Pipeline, deliveries, seconds| {
            let status = pipeline.status(deliveries, iter::empty(), at(seconds));
            status.stalled_s
        };
        assert_eq!(stalled_s(&mut pipeline, 7, 0), 0, "nothing is known");
        pipeline.update(depth(3), at(10));
        assert_eq!(stalled_s(&mut pipeline, 7, 10), 0);
        assert_eq!(stalled_s(&mut pipeline, 7, 310), 300);
        assert_eq!(stalled_s(&mut pipeline, 8, 320), 0, "one was processed");
        assert_eq!(stalled_s(&mut pipeline, 8, 350), 30);
        pipeline.update(depth(0), at(360));
        assert_eq!(stalled_s(&mut pipeline, 8, 370), 0, "none waits");
        pipeline.update(depth(1), at(380));
        assert_eq!(stalled_s(&mut pipeline, 8, 390), 0, "it waits from now on");
    }

    #[test]
    fn a_stall_goes_on_while_the_queue_does_not_answer() {
        let mut pipeline = Pipeline::default();
        let stalled_s = |pipeline: &mut Pipeline, deliveries, seconds| {
            let status = pipeline.status(deliveries, iter::empty(), at(seconds));
            status.stalled_s
        };
        pipeline.update(depth(3), at(0));
        assert_eq!(stalled_s(&mut pipeline, 7, 0), 0);
        pipeline.update(PipelineRead::default(), at(10));
        assert_eq!(stalled_s(&mut pipeline, 7, 310), 310);
        assert_eq!(stalled_s(&mut pipeline, 8, 320), 0, "one was processed");
        assert_eq!(stalled_s(&mut pipeline, 8, 700), 0, "none is known to wait");
    }

    #[test]
    fn a_stall_that_is_given_is_not_measured() {
        let mut pipeline = Pipeline::default();
        let given = PipelineRead {
            stalled_s: Some(5),
            ..depth(3)
        };
        pipeline.update(given, at(0));
        let broken = BTreeMap::from([("slack".to_owned(), "no token".to_owned())]);
        pipeline.status(7, iter::empty(), at(0));
        let status = pipeline.status(7, broken.iter(), at(900));
        assert_eq!((status.stalled_s, status.broken_notifiers), (5, broken));
    }
}
