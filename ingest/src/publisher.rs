//! Handing deliveries to the queue.
//!
//! Invariant: a publish, once begun, does not depend on the sender staying connected: who hangs up
//! must not take an event along that the queue may already have. It is part of its request for as long as that waits for
//! it, so that a usual webhook needs no task of its own; a task takes over what is left when the request ends first
//! ([`Publishing`]), or when the queue
//! takes longer than an answer may.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant, SystemTime};

use revwatch_core::redact;
use revwatch_runtime::telemetry::{Metrics, Tracer};
use revwatch_storage::ports::{Delivery, EventQueue, QueueError};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::{error, info, warn};

use crate::accept::Envelope;
use crate::answer::Answer;
use crate::request_metrics::RequestCounter;
use crate::request_span::RequestSpan;

/// The way to the queue: how many at once, and for how long.
pub(crate) struct Publisher {
    queue: Arc<dyn EventQueue>,
    metrics: Arc<Metrics>,
    tracer: Tracer,
    in_flight: Arc<Semaphore>,
    deadline: Duration,
    under_way: TaskTracker,
}

/// What a publish holds until it is dealt with, wherever it runs.
struct Slot {
    _permit: OwnedSemaphorePermit,
    _under_way: TaskTrackerToken,
}

/// A publish, run by whoever awaits it. Dropped before its end, it goes on in a task of its own.
struct Publishing(Option<Pin<Box<dyn Future<Output = Answer> + Send>>>);

/// A publish nobody waits for any longer goes on for this many further deadlines, since giving up a
/// confirm tells nothing about the event; after that it is dropped, so that a queue that never answers
/// cannot hold on to memory.
const ABANDON_AFTER_DEADLINES: u32 = 3;

impl Publisher {
    pub(crate) fn new(
        queue: Arc<dyn EventQueue>,
        metrics: Arc<Metrics>,
        tracer: Tracer,
        in_flight: usize,
        deadline: Duration,
    ) -> Arc<Self> {
        let in_flight = Arc::new(Semaphore::new(in_flight.min(Semaphore::MAX_PERMITS)));
        Arc::new(Self {
            queue,
            metrics,
            tracer,
            in_flight,
            deadline,
            under_way: TaskTracker::new(),
        })
    }

    pub(crate) fn partitions(&self) -> u32 {
        self.queue.partitions()
    }

    /// How many publishes are under way.
    pub(crate) fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// Waits for publishes under way, as long as one may take.
    pub(crate) async fn finish(&self) {
        self.under_way.close();
        if timeout(self.deadline, self.under_way.wait()).await.is_err() {
            warn!(
                publishes = self.under_way(),
                "stopping with publishes unconfirmed; Stripe sends those again"
            );
        }
    }

    /// Publishes, counts and logs. Cancelling it only stops the waiting.
    pub(crate) async fn publish(
        self: &Arc<Self>,
        mut tally: RequestCounter,
        delivery: Delivery,
        event: Envelope,
        visit: RequestSpan,
    ) -> Answer {
        let Ok(permit) = self.in_flight.clone().try_acquire_owned() else {
            let (endpoint, event_id, trace_id) =
                (&delivery.endpoint, redact::id(&event.event_id), visit.of);
            warn!(
                endpoint, outcome = "overloaded", %event_id, %trace_id,
                "webhook not stored: limits.in_flight are being stored"
            );
            tally.outcome = Answer::Overloaded.outcome();
            visit.end(
                &self.tracer,
                &delivery.endpoint,
                &event,
                delivery.body.len(),
                &Answer::Overloaded,
            );
            return Answer::Overloaded;
        };
        let slot = Slot {
            _permit: permit,
            _under_way: self.under_way.token(),
        };
        Publishing(Some(Box::pin(
            self.clone().store(tally, slot, delivery, event, visit),
        )))
        .await
    }

    async fn store(
        self: Arc<Self>,
        mut tally: RequestCounter,
        slot: Slot,
        delivery: Delivery,
        event: Envelope,
        visit: RequestSpan,
    ) -> Answer {
        let (delivery_id, bytes) = (delivery.id, delivery.body.len());
        let (endpoint, event_id, trace_id) = (
            delivery.endpoint.clone(),
            redact::id(&event.event_id),
            visit.of,
        );
        let (began, started) = (SystemTime::now(), Instant::now());
        tally.outcome = Answer::Unavailable.outcome();
        let queue = self.queue.clone();
        let mut publishing = Box::pin(async move { queue.publish(delivery).await });
        let result = timeout(self.deadline, &mut publishing).await;
        match &result {
            Ok(Ok(())) => {
                self.observe(started);
                tally.outcome = Answer::Stored.outcome();
                let (event_type, known_type) = (redact::kind(&event.event_type), event.known_type);
                info!(
                    endpoint, outcome = "stored", %event_id, %trace_id, %event_type, known_type, %delivery_id, bytes,
                    "webhook"
                );
            }
            Ok(Err(error @ QueueError::Unavailable(_))) => {
                warn!(endpoint, outcome = "unavailable", %event_id, %trace_id, %delivery_id, %error, "webhook not stored");
            }
            Ok(Err(error @ QueueError::Misconfigured(_))) => {
                error!(
                    endpoint, outcome = "unavailable", %event_id, %trace_id, %delivery_id, %error, "webhook not stored"
                );
            }
            Err(_) => {
                let error = "not confirmed within limits.publish_seconds";
                warn!(endpoint, outcome = "unavailable", %event_id, %trace_id, %delivery_id, error, "webhook not stored");
            }
        }
        let answer = if matches!(result, Ok(Ok(()))) {
            Answer::Stored
        } else {
            Answer::Unavailable
        };
        visit.published(&self.tracer, began, &answer);
        visit.end(&self.tracer, &endpoint, &event, bytes, &answer);
        if result.is_err() {
            // The queue may still take it: that is of no use to the sender, but to whoever reads the log.
            let event_id = event_id.into_owned();
            tokio::spawn(async move {
                let _slot = slot;
                if let Ok(Ok(())) =
                    timeout(self.deadline * ABANDON_AFTER_DEADLINES, publishing).await
                {
                    self.observe(started);
                    info!(
                        endpoint, %event_id, %trace_id, %delivery_id,
                        "stored after the answer; Stripe's repeat will be a duplicate"
                    );
                }
            });
        }
        // Here it is counted and, unless the queue still owes a word, its slot given back: before the sender can send
        // the next one.
        answer
    }

    fn observe(&self, started: Instant) {
        self.metrics
            .ingest_publish_seconds
            .observe(started.elapsed().as_secs_f64());
    }
}

impl Future for Publishing {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let Some(publish) = &mut self.0 else {
            return Poll::Ready(Answer::Unavailable);
        };
        // A queue's adapter that panics ends its publish, not the sender's connection.
        let polled = catch_unwind(AssertUnwindSafe(|| publish.as_mut().poll(cx)));
        let answer = ready!(polled.unwrap_or(Poll::Ready(Answer::Unavailable)));
        self.0 = None;
        Poll::Ready(answer)
    }
}

impl Drop for Publishing {
    fn drop(&mut self) {
        // Without a runtime the process has ended.
        if let (Some(rest), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            runtime.spawn(rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    fn publishing(publish: impl Future<Output = Answer> + Send + 'static) -> Publishing {
        Publishing(Some(Box::pin(publish)))
    }

    #[tokio::test]
    async fn one_that_is_dropped_goes_on_from_where_it_was() {
        let (begun, has_begun) = oneshot::channel();
        let (go, wait) = oneshot::channel();
        let (ended, has_ended) = oneshot::channel();
        let mut publishing = publishing(async move {
            begun.send(()).expect("somebody waits");
            wait.await.expect("the word");
            ended.send(()).expect("somebody waits");
            Answer::Stored
        });
        tokio::select! {
            biased;
            _ = &mut publishing => panic!("it has no word yet"),
            begun = has_begun => begun.expect("begun"),
        }
        drop(publishing);
        go.send(()).expect("it goes on");
        has_ended.await.expect("it ends");
    }

    #[tokio::test]
    async fn one_that_ends_or_panics_has_an_answer_and_leaves_nothing() {
        let mut publishing = publishing(async { Answer::Stored });
        assert_eq!((&mut publishing).await, Answer::Stored);
        assert!(publishing.0.is_none());
        publishing =
            self::publishing(async { panic!("a defect in the adapter, made by this test") });
        assert_eq!((&mut publishing).await, Answer::Unavailable);
        assert!(publishing.0.is_none());
    }
}
