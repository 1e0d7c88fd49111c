//! The loop of one partition: read a batch, decide, commit, acknowledge.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use jiff::Timestamp;
use revwatch_shared::event::Event;
use revwatch_shared::ports::{Committed, Consumer, DeadLetter, Delivery, QueueError, StoreError};
use tokio_util::sync::CancellationToken;

use crate::Worker;
use crate::plan::{Batch, Decision, Outcome, label};

/// One partition, read by this worker.
pub struct Partition {
    worker: Worker,
    number: u32,
}

/// Why the loop cannot go on with its consumer.
#[derive(Debug, thiserror::Error)]
enum Stop {
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the store holds what this version cannot read: {0}")]
    Unreadable(String),
    #[error("another worker kept changing the same entities")]
    Contended,
}

impl Partition {
    /// `number` counts from 0.
    pub fn new(worker: Worker, number: u32) -> Self {
        Self { worker, number }
    }

    /// Works until `stop`. A failing queue or store is nobody's fault but theirs: wait, and begin anew
    /// with what was not acknowledged.
    pub async fn run(self, stop: CancellationToken) {
        let mut pauses = backoff();
        while !stop.is_cancelled() {
            let mut processed = false;
            let Err(error) = self.consume(&stop, &mut processed).await else { return };
            if processed {
                pauses = backoff();
            }
            let pause = pauses.next().unwrap_or(LONGEST_PAUSE);
            tracing::warn!(partition = self.number, %error, ?pause, "partition pauses");
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn consume(&self, stop: &CancellationToken, processed: &mut bool) -> Result<(), Stop> {
        let mut consumer = self.worker.queue.consume(self.number).await?;
        loop {
            let deliveries = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                deliveries = consumer.next(self.worker.config.batch) => deliveries?,
            };
            self.process(&deliveries, consumer.as_mut()).await?;
            *processed = true;
        }
    }

    /// A batch under way is finished even when the worker is asked to stop.
    async fn process(&self, deliveries: &[Delivery], consumer: &mut dyn Consumer) -> Result<(), Stop> {
        const TRIES: usize = 20;
        let batch = Batch::read(self.number, deliveries, &self.worker.plans);
        for _ in 0..TRIES {
            let found = self.worker.store.read(self.number, &batch.want).await?;
            let decision = batch.decide(&found, Timestamp::now().as_millisecond()).map_err(Stop::Unreadable)?;
            self.bury(deliveries, &decision).await?;
            let committed = if decision.is_empty() {
                Committed::Applied
            } else {
                self.worker.store.commit(&decision.commit).await?
            };
            // After a conflict, and after a commit that had happened without our knowing, the marks tell
            // what is left to do.
            if committed == Committed::Applied {
                consumer.ack().await?;
                self.report(deliveries, &decision);
                return Ok(());
            }
        }
        Err(Stop::Contended)
    }

    /// Dead letters are stored before they are counted, and counted before they are acknowledged.
    async fn bury(&self, deliveries: &[Delivery], decision: &Decision) -> Result<(), Stop> {
        for (delivery, outcome) in deliveries.iter().zip(&decision.outcomes) {
            if let Outcome::Dead(reason) = outcome {
                let letter = DeadLetter {
                    delivery: delivery.clone(),
                    reason: reason.clone(),
                    died_ms: Timestamp::now().as_millisecond(),
                };
                self.worker.queue.dead_letter(letter).await?;
            }
        }
        Ok(())
    }

    fn report(&self, deliveries: &[Delivery], decision: &Decision) {
        let now_ms = Timestamp::now().as_millisecond();
        let metrics = &self.worker.metrics;
        let mut applied = 0;
        for (delivery, outcome) in deliveries.iter().zip(&decision.outcomes) {
            if let Some(word) = outcome.counter() {
                metrics.worker_events.with_label_values(&[label(delivery), word]).inc();
            }
            match outcome {
                Outcome::Applied => {
                    applied += 1;
                    metrics.processing_seconds.observe(seconds(now_ms - delivery.received_ms));
                    if let Ok(event) = Event::parse(&delivery.body) {
                        metrics.event_age_seconds.observe(seconds(now_ms - event.created_s * 1000));
                    }
                }
                Outcome::Ignored => {
                    tracing::info!(
                        event_id = delivery.event_id,
                        "event type is not one Stripe documents; counted only"
                    );
                }
                Outcome::Dead(reason) => {
                    tracing::error!(event_id = delivery.event_id, delivery_id = %delivery.id, reason, "dead letter");
                }
                Outcome::Duplicate | Outcome::Redelivered => {}
            }
        }
        for (subject, t) in &decision.transitions {
            let (kind, id) = (subject.kind.as_str(), subject.id.as_str());
            if t.expected {
                tracing::info!(kind, id, event_id = t.event_id, change = t.what, "transition");
            } else {
                tracing::warn!(kind, id, event_id = t.event_id, change = t.what, "unexpected transition");
            }
        }
        tracing::info!(
            partition = self.number,
            deliveries = deliveries.len(),
            applied,
            entities = decision.commit.entities.len(),
            "commit"
        );
    }
}

const LONGEST_PAUSE: Duration = Duration::from_secs(5);

fn backoff() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(50))
        .with_max_delay(LONGEST_PAUSE)
        .with_jitter()
        .without_max_times()
        .build()
}

#[expect(clippy::cast_precision_loss, reason = "a metric: milliseconds fit a double's 53 bits for 285,000 years")]
fn seconds(ms: i64) -> f64 {
    ms.max(0) as f64 / 1000.0
}
