//! Hands deliveries to the queue.
//!
//! Invariant: once begun, a publish does not depend on the sender staying connected: a disconnect
//! must not cancel an event that the queue may already have. A publish runs inside its request
//! while the request waits for it, so a typical webhook needs no task of its own. A task takes over
//! if the request ends first ([`Publishing`]), or if the queue takes longer than an answer may.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::future::ready as ready_future;
use futures_util::stream::{self, StreamExt as _};
use revwatch_core::clock::Clock;
use revwatch_core::redact;
use revwatch_runtime::telemetry::{LimitedLog, Metrics, Tracer};
use revwatch_storage::ports::{Delivery, Publish, QueueError};
use tokio::runtime::Handle;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::{error, info, warn};

use crate::answer::Answer;
use crate::request_metrics::{ABORTED, RequestCounter};
use crate::request_span::RequestSpan;
use crate::verify::Envelope;

/// Access to the queue, with limits on concurrency and time.
pub(crate) struct Publisher {
    queue: Arc<dyn Publish>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    tracer: Tracer,
    in_flight: Arc<Semaphore>,
    limit: usize,
    deadline: Duration,
    in_progress: TaskTracker,
    unstored_log: LimitedLog,
    /// Notified of each publish that the queue did not confirm.
    failed: Arc<Notify>,
}

/// An event of a request, and what is published of it.
pub(crate) struct Accepted {
    pub(crate) delivery: Delivery,
    pub(crate) event: Envelope,
    pub(crate) span: RequestSpan,
}

/// What a publish holds until it completes, wherever it runs.
struct Slot {
    _permit: OwnedSemaphorePermit,
    _in_progress: TaskTrackerToken,
}

/// A publish, driven by its awaiter. If dropped before it completes, it continues in a task of its
/// own.
struct Publishing(Option<Pin<Box<dyn Future<Output = Answer> + Send>>>);

/// A publish that no request awaits any longer continues for this many further deadlines, because
/// an abandoned confirm says nothing about the event. After that it is dropped, so that a queue
/// that never answers cannot hold memory.
const ABANDON_AFTER_DEADLINES: u32 = 3;

impl Accepted {
    fn end(self, tracer: &Tracer, answer: &Answer) {
        let Delivery { endpoint, body, .. } = &self.delivery;
        self.span
            .end(tracer, endpoint, &self.event, body.len(), answer);
    }
}

impl Publisher {
    pub(crate) fn new(
        queue: Arc<dyn Publish>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        tracer: Tracer,
        in_flight: usize,
        deadline: Duration,
    ) -> Arc<Self> {
        let limit = in_flight.min(Semaphore::MAX_PERMITS);
        let in_flight = Arc::new(Semaphore::new(limit));
        Arc::new(Self {
            queue,
            clock,
            metrics,
            tracer,
            in_flight,
            limit,
            deadline,
            in_progress: TaskTracker::new(),
            unstored_log: LimitedLog::new(1),
            failed: Arc::default(),
        })
    }

    pub(crate) fn partitions(&self) -> u32 {
        self.queue.partitions()
    }

    /// Notified of each publish that the queue did not confirm.
    pub(crate) fn failed(&self) -> Arc<Notify> {
        self.failed.clone()
    }

    /// Number of publishes in progress.
    pub(crate) fn in_progress(&self) -> usize {
        self.in_progress.len()
    }

    /// Waits for publishes in progress, for at most the time one may take.
    pub(crate) async fn finish(&self) {
        self.in_progress.close();
        if timeout(self.deadline, self.in_progress.wait())
            .await
            .is_err()
        {
            warn!(
                publishes = self.in_progress(),
                "stopping with unconfirmed publishes; their senders will retry those"
            );
        }
    }

    /// Publishes, counts and logs. Cancelling it only stops waiting for the result.
    pub(crate) async fn publish(
        self: &Arc<Self>,
        mut counter: RequestCounter,
        accepted: Accepted,
    ) -> Answer {
        let Some(slot) = self.slot(&accepted) else {
            counter.outcome = Answer::Overloaded.outcome();
            accepted.end(&self.tracer, &Answer::Overloaded);
            return Answer::Overloaded;
        };
        let publisher = self.clone();
        Publishing(Some(Box::pin(async move {
            // All of it: it counts where the publish ends.
            let mut counter = counter;
            counter.outcome = Answer::Unavailable.outcome();
            let answer = publisher.store(slot, accepted).await;
            counter.outcome = answer.outcome();
            answer
        })))
        .await
    }

    /// Publishes several events of one request together, and counts each. [`Answer::Stored`] only if all are durable.
    pub(crate) async fn publish_all(
        self: &Arc<Self>,
        mut counter: RequestCounter,
        accepted: Vec<Accepted>,
    ) -> Answer {
        let counters = accepted.iter().map(|_| counter.another(ABORTED));
        let counters: Vec<_> = counters.collect();
        counter.outcome = RequestCounter::NONE;
        let all = counters.into_iter().zip(accepted);
        stream::iter(all.map(|(counter, accepted)| self.publish(counter, accepted)))
            // A batch that is larger than the limit must not be refused for that.
            .buffer_unordered(self.limit)
            .fold(Answer::Stored, |so_far, answer| {
                ready_future(match answer {
                    Answer::Stored => so_far,
                    unstored => unstored,
                })
            })
            .await
    }

    /// `None`: too many deliveries are being stored.
    fn slot(&self, accepted: &Accepted) -> Option<Slot> {
        if let Ok(permit) = self.in_flight.clone().try_acquire_owned() {
            return Some(Slot {
                _permit: permit,
                _in_progress: self.in_progress.token(),
            });
        }
        if let Some(unlogged) = self.unstored_log.one_more(Instant::now()) {
            let Accepted {
                delivery,
                event,
                span,
            } = accepted;
            warn!(
                endpoint = delivery.endpoint, outcome = "overloaded", event_id = %redact::id(&event.event_id),
                trace_id = %span.correlation, unlogged,
                "webhook not stored: limits.in_flight deliveries are being stored"
            );
        }
        None
    }

    async fn store(self: Arc<Self>, slot: Slot, accepted: Accepted) -> Answer {
        let Accepted {
            delivery,
            event,
            span,
        } = accepted;
        let (delivery_id, bytes) = (delivery.id, delivery.body.len());
        let (endpoint, event_id, trace_id) = (
            delivery.endpoint.clone(),
            redact::id(&event.event_id),
            span.correlation,
        );
        let (began, started) = (self.clock.now().into(), Instant::now());
        let queue = self.queue.clone();
        let mut publishing = Box::pin(async move { queue.publish(delivery).await });
        let result = timeout(self.deadline, &mut publishing).await;
        match &result {
            Ok(Ok(())) => {
                self.observe(started);
                let (event_type, known_type) = (redact::kind(&event.event_type), event.known_type);
                info!(
                    endpoint, outcome = "stored", %event_id, %trace_id, %event_type, known_type, %delivery_id, bytes,
                    "webhook"
                );
                if let Some(unlogged) = self.unstored_log.ended(Instant::now()) {
                    warn!(unlogged, "more webhooks were not stored");
                }
            }
            Ok(Err(error)) => match (error, self.unstored_log.one_more(Instant::now())) {
                (_, None) => {}
                (QueueError::Unavailable(_), Some(unlogged)) => warn!(
                    endpoint, outcome = "unavailable", %event_id, %trace_id, %delivery_id, %error, unlogged,
                    "webhook not stored"
                ),
                (QueueError::Misconfigured(_), Some(unlogged)) => error!(
                    endpoint, outcome = "unavailable", %event_id, %trace_id, %delivery_id, %error, unlogged,
                    "webhook not stored"
                ),
            },
            Err(_) => {
                if let Some(unlogged) = self.unstored_log.one_more(Instant::now()) {
                    let error = "not confirmed within limits.publish_seconds";
                    warn!(
                        endpoint, outcome = "unavailable", %event_id, %trace_id, %delivery_id, error, unlogged,
                        "webhook not stored"
                    );
                }
            }
        }
        let answer = if matches!(result, Ok(Ok(()))) {
            Answer::Stored
        } else {
            self.failed.notify_one();
            Answer::Unavailable
        };
        span.published(&self.tracer, began, &answer);
        span.end(&self.tracer, &endpoint, &event, bytes, &answer);
        if result.is_err() {
            // The queue may still confirm it: too late for the sender, but useful in the log.
            let event_id = event_id.into_owned();
            tokio::spawn(async move {
                let _slot = slot;
                if let Ok(Ok(())) =
                    timeout(self.deadline * ABANDON_AFTER_DEADLINES, publishing).await
                {
                    self.observe(started);
                    info!(
                        endpoint, %event_id, %trace_id, %delivery_id,
                        "stored after the answer; the sender's retry will be a duplicate"
                    );
                }
            });
        }
        // Returning counts the request, before the sender can send the next one. It also releases the slot, unless the
        // queue has not confirmed yet: then the task above holds it.
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
        // A panicking queue adapter ends its publish, not the sender's connection.
        let polled = catch_unwind(AssertUnwindSafe(|| publish.as_mut().poll(cx)));
        let answer = ready!(polled.unwrap_or(Poll::Ready(Answer::Unavailable)));
        self.0 = None;
        Poll::Ready(answer)
    }
}

impl Drop for Publishing {
    fn drop(&mut self) {
        // Without a runtime the process has ended.
        if let (Some(publish), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            runtime.spawn(publish);
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
    async fn a_dropped_publish_continues_where_it_was() {
        let (begun, has_begun) = oneshot::channel();
        let (go, wait) = oneshot::channel();
        let (ended, has_ended) = oneshot::channel();
        let mut publishing = publishing(async move {
            begun.send(()).expect("the test waits");
            wait.await.expect("the permission to continue");
            ended.send(()).expect("the test waits");
            Answer::Stored
        });
        tokio::select! {
            biased;
            _ = &mut publishing => panic!("it has no permission yet"),
            begun = has_begun => begun.expect("begun"),
        }
        drop(publishing);
        go.send(()).expect("it continues");
        has_ended.await.expect("it ends");
    }

    #[tokio::test]
    async fn a_publish_that_ends_or_panics_has_an_answer_and_leaves_no_task() {
        let mut publishing = publishing(async { Answer::Stored });
        assert_eq!((&mut publishing).await, Answer::Stored);
        assert!(publishing.0.is_none());
        publishing = self::publishing(async { panic!("a bug in the adapter, made by this test") });
        assert_eq!((&mut publishing).await, Answer::Unavailable);
        assert!(publishing.0.is_none());
    }
}
