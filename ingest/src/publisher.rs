//! Handing deliveries to the queue, each in a task of its own.
//!
//! Invariant: a publish, once begun, does not depend on the sender staying connected: who hangs up
//! must not take an event along that the queue may already have.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use revwatch_shared::ports::{Delivery, EventQueue, QueueError};
use revwatch_shared::telemetry::{Metrics, Tracer, shown};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use crate::accept::Envelope;
use crate::answer::Answer;
use crate::tally::Tally;
use crate::visit::Visit;

/// The way to the queue: how many at once, and for how long.
pub(crate) struct Publisher {
    queue: Arc<dyn EventQueue>,
    metrics: Arc<Metrics>,
    tracer: Tracer,
    in_flight: Arc<Semaphore>,
    deadline: Duration,
    tasks: TaskTracker,
}

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
        Arc::new(Self { queue, metrics, tracer, in_flight, deadline, tasks: TaskTracker::new() })
    }

    pub(crate) fn partitions(&self) -> u32 {
        self.queue.partitions()
    }

    /// How many publishes are under way.
    pub(crate) fn under_way(&self) -> usize {
        self.tasks.len()
    }

    /// Waits for publishes under way, as long as one may take.
    pub(crate) async fn finish(&self) {
        self.tasks.close();
        if timeout(self.deadline, self.tasks.wait()).await.is_err() {
            warn!(publishes = self.tasks.len(), "stopping with publishes unconfirmed; Stripe sends those again");
        }
    }

    /// Publishes, counts and logs. Cancelling it only stops the waiting.
    pub(crate) async fn publish(
        self: &Arc<Self>,
        mut tally: Tally,
        delivery: Delivery,
        event: Envelope,
        visit: Visit,
    ) -> Answer {
        let Ok(permit) = self.in_flight.clone().try_acquire_owned() else {
            let (endpoint, event_id, trace_id) = (&delivery.endpoint, shown::id(&event.event_id), visit.of);
            warn!(
                endpoint, outcome = "overloaded", %event_id, %trace_id,
                "webhook not stored: limits.in_flight are being stored"
            );
            tally.outcome = Answer::Overloaded.outcome();
            visit.end(&self.tracer, &delivery.endpoint, &event, delivery.body.len(), &Answer::Overloaded);
            return Answer::Overloaded;
        };
        let (tell, told) = oneshot::channel();
        self.tasks.spawn(self.clone().store(tally, permit, delivery, event, visit, tell));
        // The task ends without a word only if the queue's adapter panicked.
        told.await.unwrap_or(Answer::Unavailable)
    }

    async fn store(
        self: Arc<Self>,
        mut tally: Tally,
        permit: OwnedSemaphorePermit,
        delivery: Delivery,
        event: Envelope,
        visit: Visit,
        tell: oneshot::Sender<Answer>,
    ) {
        let (delivery_id, bytes) = (delivery.id, delivery.body.len());
        let (endpoint, event_id, trace_id) = (delivery.endpoint.clone(), shown::id(&event.event_id), visit.of);
        let (began, started) = (SystemTime::now(), Instant::now());
        let observe = || self.metrics.ingest_publish_seconds.observe(started.elapsed().as_secs_f64());
        tally.outcome = Answer::Unavailable.outcome();
        let mut publishing = self.queue.publish(delivery);
        let result = timeout(self.deadline, &mut publishing).await;
        match &result {
            Ok(Ok(())) => {
                observe();
                tally.outcome = Answer::Stored.outcome();
                let (event_type, known_type) = (shown::kind(&event.event_type), event.known_type);
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
        let answer = if matches!(result, Ok(Ok(()))) { Answer::Stored } else { Answer::Unavailable };
        visit.published(&self.tracer, began, &answer);
        visit.end(&self.tracer, &endpoint, &event, bytes, &answer);
        // Counted, and its permit given back, before the sender can send the next one. The sender may
        // be gone; the event is dealt with all the same.
        drop(tally);
        match result {
            Ok(_) => {
                drop(permit);
                let _ = tell.send(answer);
            }
            Err(_) => {
                let _ = tell.send(answer);
                if let Ok(Ok(())) = timeout(self.deadline * ABANDON_AFTER_DEADLINES, publishing).await {
                    observe();
                    info!(
                        endpoint, %event_id, %trace_id, %delivery_id,
                        "stored after the answer; Stripe's repeat will be a duplicate"
                    );
                }
            }
        }
    }
}
