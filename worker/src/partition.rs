//! The loop of one partition: read a batch, decide, commit, acknowledge.
//!
//! Invariant: dead and paused deliveries are durable in their holding queue, and those of another partition
//! in that one, before they are acknowledged.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use revwatch_core::backoff::Backoff;
use revwatch_core::entity::{Entity, STATE_FORMAT};
use revwatch_core::pauses::{PauseHistory, Pauses};
use revwatch_runtime::retries::Retries;
use revwatch_storage::ports::{
    Committed, Delivery, HeldDelivery, HoldingQueue, QueueError, ReadResult, StoreError,
};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::Worker;
use crate::applied::Applied;
use crate::batch::{Batch, Decision, Outcome, Place};
use crate::batch_telemetry::report;
use crate::relays::Pending;
use crate::standing::{Standing, Subject};

/// A partition that this worker reads.
pub struct Partition {
    worker: Worker,
    number: u32,
    pauses: watch::Receiver<Option<Arc<Pauses>>>,
    standing: Standing,
    failed: FailedCall,
}

/// The call that failed last, unless the partition has worked since. It decides when an idle
/// partition, which may have no batch for a long time, works again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FailedCall {
    /// [`Consume::consume`](revwatch_storage::ports::Consume::consume): as soon as it succeeds.
    Consume,
    /// Another one of the queue: when the consumer has stood for longer than a pause after a failure.
    Queue,
    /// None, or one of the store: after a batch, because a delivery waits.
    Other,
}

/// Why a partition cannot continue for now.
#[derive(Debug, thiserror::Error)]
pub enum PartitionError {
    /// The queue failed.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store holds data that this version cannot decode; another version may have written it.
    #[error("the store holds data that this version cannot read: {0}")]
    Unreadable(String),
    /// Other workers kept committing to the same entities.
    #[error("another worker kept changing the same entities")]
    Contended,
    /// An earlier version wrote an entity of a partition that is converted: it has to be converted again.
    #[error(
        "a worker of an earlier version wrote to the converted state, which is converted again. Stop the workers of the \
         other version"
    )]
    OlderEncoding,
    /// A later version wrote the state.
    #[error(
        "the state in the store has format {0}, this version's is {STATE_FORMAT}: use the version that wrote it, or \
         `revwatch rebuild` to read the archive again"
    )]
    NewerFormat(u32),
    /// The store may have lost data during a conversion, or something else wrote to it.
    #[error("the store changed during the conversion, which begins again")]
    ConversionInterrupted,
    /// A recovery failed.
    #[error("the replay of the archive failed: {0}")]
    Replay(Box<Self>),
}

/// The source of a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source<'a> {
    /// The queue: deliveries arrive for the first time, as far as known.
    Queue,
    /// The archive: processing times are unknown, and paused deliveries are parked already.
    Archive {
        /// Ids of deliveries that are or were in the dead-letter queue.
        known_dead: &'a HashSet<Uuid>,
    },
}

impl PartitionError {
    /// Why a retry alone cannot help; `None` if it may.
    pub(crate) fn persistent_reason(&self) -> Option<&'static str> {
        match self {
            Self::Queue(QueueError::Misconfigured(_)) => Some("the queue cannot be used"),
            Self::Store(StoreError::Misconfigured(_)) => Some("the store cannot be used"),
            Self::Store(StoreError::Corrupt(_)) | Self::Unreadable(_) => {
                Some("the store holds unreadable data")
            }
            Self::NewerFormat(_) => Some("the state is of a later version"),
            Self::Replay(error) => error.persistent_reason(),
            Self::Queue(QueueError::Unavailable(_))
            | Self::Store(
                StoreError::Unavailable(_) | StoreError::Fenced | StoreError::Unconverted,
            )
            | Self::Contended
            | Self::OlderEncoding
            | Self::ConversionInterrupted => None,
        }
    }

    /// Whether the queue failed, or the archive, which is a part of it.
    pub(crate) fn is_of_queue(&self) -> bool {
        matches!(self, Self::Queue(_))
    }

    /// The reason in a few words, for `/readyz`.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Queue(_) => self
                .persistent_reason()
                .unwrap_or("the queue is unavailable"),
            Self::Store(StoreError::Unavailable(_)) => "the store is unavailable",
            Self::Contended => "another worker keeps changing the same entities",
            Self::Replay(error) => error.reason(),
            _ => self
                .persistent_reason()
                .unwrap_or("the state is being converted"),
        }
    }
}

impl Partition {
    /// `number` counts from 0. Nothing is read until `pauses` are known.
    pub fn new(worker: Worker, number: u32, pauses: watch::Receiver<Option<Arc<Pauses>>>) -> Self {
        Self {
            worker,
            number,
            pauses,
            standing: Standing::default(),
            failed: FailedCall::Other,
        }
    }

    /// Notes in `standing` what it waits for.
    pub(crate) fn reporting_to(self, standing: Standing) -> Self {
        Self { standing, ..self }
    }

    /// Works until `stop`. After an error of the queue or the store it waits, then starts over with
    /// the deliveries that were not acknowledged. `has_failed` is set after a panic, until a batch
    /// is processed.
    pub async fn run(mut self, has_failed: bool, stop: CancellationToken) {
        let mut retries = Retries::new(BACKOFF);
        self.set_error(None);
        self.worker.metrics.partition_fails(self.number, has_failed);
        while !stop.is_cancelled() {
            let mut processed = false;
            let Err(error) = self.consume(&stop, &mut processed).await else {
                break;
            };
            if processed {
                retries.reset();
            }
            self.set_error(Some(&error));
            let pause = retries.pause();
            let line = self.standing.log.admit(&error);
            match (line, error.persistent_reason()) {
                (Some(earlier), None) => {
                    tracing::warn!(partition = self.number, %error, ?pause, earlier, "partition backs off");
                }
                (Some(earlier), Some(_)) => {
                    tracing::error!(partition = self.number, %error, ?pause, earlier, "partition backs off");
                }
                (None, _) => {}
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
            }
        }
        // The partition belongs to another worker now, or to none.
        self.set_error(None);
    }

    fn set_error(&mut self, reason: Option<&PartitionError>) {
        self.failed = match reason {
            Some(PartitionError::Queue(_)) if self.failed != FailedCall::Consume => {
                FailedCall::Queue
            }
            Some(PartitionError::Queue(_)) => FailedCall::Consume,
            _ => FailedCall::Other,
        };
        self.worker
            .metrics
            .partition_fails(self.number, reason.is_some());
        let subject = Subject::Partition(self.number);
        match reason {
            None => self.standing.works(subject),
            Some(error) => self.standing.fails(
                subject,
                error.reason(),
                error.persistent_reason().is_some(),
                Instant::now(),
            ),
        }
    }

    async fn consume(
        &mut self,
        stop: &CancellationToken,
        processed: &mut bool,
    ) -> Result<(), PartitionError> {
        while let Some(pauses) = self.wait_for_work(stop).await {
            // While everything is paused nothing is consumed, and deliveries stay in the queue.
            let pauses = PauseHistory::from(pauses.as_ref().clone());
            let consumer = self.worker.queue.consume(self.number).await;
            if consumer.is_err() {
                self.failed = FailedCall::Consume;
            } else if self.failed == FailedCall::Consume {
                self.set_error(None);
            }
            let mut consumer = consumer?;
            let stands = tokio::time::sleep(BACKOFF.max);
            tokio::pin!(stands);
            let mut pending = Pending::default();
            while !self.pauses.has_changed().unwrap_or(false) {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => break,
                    Ok(()) = self.pauses.changed() => break,
                    ready = consumer.ready() => ready?,
                    () = tokio::time::sleep(LINGER), if !pending.is_empty() => {
                        pending.write(&self.worker).await?;
                        consumer.ack().await?;
                        continue;
                    }
                    () = &mut stands, if self.failed == FailedCall::Queue => {
                        self.set_error(None);
                        continue;
                    }
                }
                let permit = self.worker.batch_permits.acquire().await;
                let deliveries = consumer.next(self.worker.config.batch).await?;
                let subject = Subject::Partition(self.number);
                self.standing.begins(subject, Instant::now());
                let mut applied = permit
                    .run(apply(
                        &self.worker,
                        self.number,
                        &deliveries,
                        &pauses,
                        Source::Queue,
                    ))
                    .await?;
                pending.add(std::mem::take(&mut applied.decision.relays));
                report(&self.worker, &deliveries, &applied);
                pending.write_if_full(&self.worker).await?;
                // It acknowledges all batches since the last time.
                if pending.is_empty() {
                    consumer.ack().await?;
                }
                match std::mem::replace(processed, true) {
                    true => self.standing.works(subject),
                    false => self.set_error(None),
                }
            }
            if !pending.is_empty() {
                pending.write(&self.worker).await?;
                consumer.ack().await?;
            }
            if stop.is_cancelled() {
                break;
            }
        }
        Ok(())
    }

    /// Waits until the pauses are known and leave something to process. `None` when `stop` is
    /// cancelled.
    async fn wait_for_work(&mut self, stop: &CancellationToken) -> Option<Arc<Pauses>> {
        let runnable = self.pauses.wait_for(|pauses| {
            pauses
                .as_ref()
                .is_some_and(|pauses| !pauses.is_everything_paused())
        });
        tokio::select! {
            biased;
            () = stop.cancelled() => None,
            ready = runnable => ready.ok()?.clone(),
        }
    }
}

/// Reads, decides and commits one batch. First stores dead and paused deliveries, and moves those of other partitions.
/// Runs to the end even when the worker stops. The caller writes the relays, and acknowledges afterwards.
pub(crate) async fn apply(
    worker: &Worker,
    number: u32,
    deliveries: &[Delivery],
    pauses: &PauseHistory,
    source: Source<'_>,
) -> Result<Applied, PartitionError> {
    let began = worker.clock.now().into();
    let place = Place {
        partition: number,
        partitions: worker.queue.partitions(),
    };
    let mut batch = Batch::read_under(pauses, place, deliveries, &worker.events.get());
    if matches!(source, Source::Archive { .. }) {
        batch = batch.untimed();
    }
    for _ in 0..MAX_CONFLICTS {
        let found = worker.store.read(number, &batch.read_set).await?;
        let decision = batch
            .decide(&found, worker.clock.now_ms())
            .map_err(PartitionError::Unreadable)?;
        begin_conversion_if_older(worker, number, &found).await?;
        hold_dead_and_paused(worker, deliveries, &decision, source).await?;
        move_to_their_partitions(worker, deliveries, &decision).await?;
        let commit_began = worker.clock.now().into();
        let committed = if decision.is_empty() {
            Committed::Applied
        } else {
            worker.store.commit(&decision.commit).await?
        };
        // After a conflict, or after a commit whose confirmation was lost, the dedupe keys show
        // which deliveries are left.
        if committed == Committed::Applied {
            let commit_ended = worker.clock.now().into();
            return Ok(Applied {
                decision,
                began,
                commit_began,
                commit_ended,
            });
        }
    }
    Err(PartitionError::Contended)
}

/// Fails if an earlier version wrote one of the entities: what they add up to is not what the partition's counters say.
async fn begin_conversion_if_older(
    worker: &Worker,
    number: u32,
    found: &ReadResult,
) -> Result<(), PartitionError> {
    let mut stored = found.entities.iter().flatten();
    if !stored.any(|stored| Entity::has_older_encoding(&stored.body)) {
        return Ok(());
    }
    let health = worker.store.health().await?;
    if health
        .get(number as usize)
        .is_some_and(|it| !it.is_converted())
    {
        return Err(StoreError::Unconverted.into());
    }
    // From now on the partition is not converted, and the worker that converts does it again.
    let id = worker.ids.fresh().simple().to_string();
    worker.store.begin_conversion(number, &id).await?;
    Err(PartitionError::OlderEncoding)
}

/// Dead letters are stored before they are counted, and counted before they are acknowledged.
/// Paused deliveries are stored before they are acknowledged.
async fn hold_dead_and_paused(
    worker: &Worker,
    deliveries: &[Delivery],
    decision: &Decision,
    source: Source<'_>,
) -> Result<(), QueueError> {
    let at_ms = worker.clock.now_ms();
    let storing = deliveries
        .iter()
        .zip(&decision.outcomes)
        .filter_map(|(delivery, outcome)| {
            let (queue, reason) = match (outcome, source) {
                (Outcome::Dead(_), Source::Archive { known_dead })
                    if known_dead.contains(&delivery.id) =>
                {
                    return None;
                }
                (Outcome::Dead(reason), _) => (HoldingQueue::DeadLetters, reason),
                (Outcome::Paused(reason), Source::Queue) => (HoldingQueue::Parked, reason),
                _ => return None,
            };
            let held = HeldDelivery {
                delivery: delivery.clone(),
                reason: reason.clone(),
                at_ms,
            };
            Some(worker.queue.hold(queue, held))
        });
    futures_util::future::try_join_all(storing).await.map(drop)
}

/// Publishes deliveries that are in the wrong partition into their own before they are acknowledged here. If
/// that is repeated, the other partition finds its dedupe key.
async fn move_to_their_partitions(
    worker: &Worker,
    deliveries: &[Delivery],
    decision: &Decision,
) -> Result<(), QueueError> {
    let moving = deliveries.iter().zip(&decision.outcomes);
    let moving = moving.filter_map(|(delivery, outcome)| match outcome {
        Outcome::Moved(partition) => Some(worker.queue.publish(Delivery {
            partition: *partition,
            ..delivery.clone()
        })),
        _ => None,
    });
    futures_util::future::try_join_all(moving).await.map(drop)
}

/// How often a commit is decided again after a conflict.
pub(crate) const MAX_CONFLICTS: usize = 20;

/// How long relays wait for those of the next batch.
const LINGER: Duration = Duration::from_millis(2);

/// After an error of the queue or the store.
pub(crate) const BACKOFF: Backoff = Backoff {
    first: Duration::from_millis(50),
    max: Duration::from_secs(5),
};
