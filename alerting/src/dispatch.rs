//! When messages are sent: one at a time to each destination, not faster than its rate limit.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::attempt::attempt;
use crate::engine::{Attempt, AttemptResult, Engine};
use crate::evaluator::error::EvaluatorError;
use crate::evaluator::lease::LeaseGuard;
use crate::notify::{ATTEMPT_TIMEOUT, Notifier, Outcome};
use crate::{Alerting, notification_telemetry};

/// One destination: one message at a time, not faster than its rate.
#[derive(Clone, Copy)]
pub(crate) struct DestinationSlot {
    busy: bool,
    next: Instant,
}

impl DestinationSlot {
    fn is_free(&self, now: Instant) -> bool {
        !self.busy && self.next <= now
    }

    /// An attempt begins.
    fn begin(&mut self, per_second: f64, now: Instant) {
        self.busy = true;
        self.next = now + Duration::from_secs_f64(1.0 / per_second.max(0.001));
    }

    /// It has ended.
    fn end(&mut self, outcome: &Outcome, now: Instant) {
        self.busy = false;
        if let Outcome::RetryAfter { wait_ms } = outcome {
            // The limit is the destination's, not the message's.
            self.next = now + Duration::from_millis(u64::try_from(*wait_ms).unwrap_or(0));
        }
    }
}

/// Attempts under way, by destination. They continue when the evaluator restarts.
pub(crate) struct InFlight {
    pub(crate) slots: HashMap<String, DestinationSlot>,
    sender: mpsc::Sender<(String, AttemptResult)>,
    pub(crate) results: mpsc::Receiver<(String, AttemptResult)>,
}

impl InFlight {
    pub(crate) fn new() -> Self {
        let (sender, results) = mpsc::channel(64);
        Self {
            slots: HashMap::new(),
            sender,
            results,
        }
    }

    pub(crate) fn is_any_pending(&self) -> bool {
        self.slots.values().any(|slot| slot.busy)
    }

    fn begin(&mut self, destination: &str, per_second: f64, now: Instant) {
        let slot = self.slots.entry(destination.to_owned());
        slot.or_insert(DestinationSlot {
            busy: false,
            next: now,
        })
        .begin(per_second, now);
    }

    pub(crate) fn note(&mut self, destination: &str, outcome: &Outcome) {
        if let Some(slot) = self.slots.get_mut(destination) {
            slot.end(outcome, Instant::now());
        }
    }

    /// Waits until no attempt is under way. Their results are not stored: the destinations are searched later.
    pub(crate) async fn end(&mut self) {
        let deadline = Instant::now() + ATTEMPT_TIMEOUT;
        while self.is_any_pending() {
            match tokio::time::timeout_at(deadline, self.results.recv()).await {
                Ok(Some((destination, result))) => self.note(&destination, &result.outcome),
                // Attempts end by then, unless the machine is too slow; their messages are searched for like the
                // others. Waits that destinations requested remain.
                _ => self.slots.values_mut().for_each(|slot| slot.busy = false),
            }
        }
    }
}

impl Alerting {
    pub(crate) fn notifier(&self, name: &str) -> Option<&Arc<dyn Notifier>> {
        self.notifiers
            .iter()
            .find(|notifier| notifier.name() == name)
    }

    /// When the next message may be sent, if that is not now.
    pub(crate) fn next_dispatch(
        &self,
        engine: &Engine,
        slots: &HashMap<String, DestinationSlot>,
    ) -> Option<Instant> {
        let now = Instant::now();
        let moments = engine.lanes().filter_map(|((name, route), not_before_ms)| {
            let slot = slots.get(&self.notifier(name)?.destination(route));
            if slot.is_some_and(|slot| slot.busy) {
                return None;
            }
            let wait = Duration::from_millis(
                u64::try_from(not_before_ms - self.clock.now_ms()).unwrap_or(0),
            );
            Some((now + wait).max(slot.map_or(now, |slot| slot.next)))
        });
        // Never at once: messages that could be sent now were sent.
        moments
            .min()
            .map(|at| at.max(now + Duration::from_millis(1)))
    }

    /// Sends every free destination its next message. An attempt is written before it is made: after a crash the
    /// destination is searched for the message before it is sent again.
    pub(crate) async fn dispatch_due(
        &self,
        engine: &mut Engine,
        attempts: &mut InFlight,
        held: &mut LeaseGuard<'_>,
    ) -> Result<(), EvaluatorError> {
        let now = Instant::now();
        let mut jobs: BTreeMap<String, (Arc<dyn Notifier>, Attempt)> = BTreeMap::new();
        for lane in engine.due_lanes(self.clock.now_ms()) {
            let Some(notifier) = self.notifier(&lane.0).cloned() else {
                continue;
            };
            let destination = notifier.destination(&lane.1);
            let slot = attempts.slots.get(&destination);
            if jobs.contains_key(&destination) || slot.is_some_and(|slot| !slot.is_free(now)) {
                continue;
            }
            let Some(job) = engine.begin_attempt(&lane, self.clock.now_ms()) else {
                continue;
            };
            jobs.insert(destination, (notifier, job));
        }
        if jobs.is_empty() {
            return Ok(());
        }
        self.write(engine.take_writes(self.clock.now_s()), held)
            .await?;
        // An attempt ends before another evaluator could take the lease and search for the message.
        let within = ATTEMPT_TIMEOUT.min(self.lease() * 2 / 3);
        for (destination, (notifier, job)) in jobs {
            // Not before the attempt is stored: a slot that is busy waits for a result.
            attempts.begin(&destination, notifier.per_second(), now);
            let (sender, tracer) = (attempts.sender.clone(), self.tracer.clone());
            let began = self.clock.now().into();
            tokio::spawn(async move {
                let origin = job.origin.clone();
                let result = attempt(notifier.as_ref(), job, within).await;
                notification_telemetry::record(&tracer, &origin, &result, began);
                // The evaluator may have lost its lease since; the next one searches for the message.
                let _ = sender.send((destination, result)).await;
            });
        }
        Ok(())
    }

    pub(crate) fn on_attempt_result(
        &self,
        engine: &mut Engine,
        attempts: &mut InFlight,
        destination: &str,
        result: &AttemptResult,
    ) {
        attempts.note(destination, &result.outcome);
        self.metrics
            .notifications
            .with_label_values(&[
                result.message_key.notifier.as_str(),
                result.outcome.as_str(),
            ])
            .inc();
        engine.on_attempt_result(result, self.clock.now_ms());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Advances the clock by 10 ms and dispatches to every free slot; an attempt takes `takes`.
    fn sent_at(per_second: f64, takes: Duration, outcome: &Outcome) -> Vec<u64> {
        let start = Instant::now();
        let mut slot = DestinationSlot {
            busy: false,
            next: start,
        };
        let (mut sent, mut ends) = (Vec::new(), None);
        for ms in (0..3_500).step_by(10) {
            let now = start + Duration::from_millis(ms);
            if ends.is_some_and(|ends| ends <= now) {
                slot.end(outcome, now);
                ends = None;
            }
            if slot.is_free(now) {
                slot.begin(per_second, now);
                sent.push(ms);
                ends = Some(now + takes);
            }
        }
        sent
    }

    #[test]
    fn a_destination_gets_one_message_at_a_time_and_not_faster_than_its_rate() {
        let delivered = Outcome::Delivered { receipt: None };
        let soon = Duration::from_millis(10);
        assert_eq!(sent_at(1.0, soon, &delivered), [0, 1000, 2000, 3000]);
        assert_eq!(sent_at(0.5, soon, &delivered), [0, 2000]);
        // A slow destination does not get the next message before it has answered.
        assert_eq!(
            sent_at(1.0, Duration::from_millis(1500), &delivered),
            [0, 1500, 3000]
        );
        // A pause that a destination requests begins at its answer.
        assert_eq!(
            sent_at(1.0, soon, &Outcome::RetryAfter { wait_ms: 1700 }),
            [0, 1710, 3420]
        );
    }
}
