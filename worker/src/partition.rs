//! The loop of one partition: read a batch, decide, commit, acknowledge.
//!
//! Invariant: what is held back, like what is dead, is durable where it stands aside before it is acknowledged.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use jiff::Timestamp;
use revwatch_core::pauses::{PauseHistory, Pauses};
use revwatch_storage::ports::{
    Committed, Delivery, HeldDelivery, HoldingQueue, QueueError, StoreError,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::Worker;
use crate::batch_telemetry::report;
use crate::plan::{Batch, Decision, Outcome};

/// One partition, read by this worker.
pub struct Partition {
    worker: Worker,
    number: u32,
    pauses: watch::Receiver<Option<Arc<Pauses>>>,
    stuck: FailingPartitions,
}

/// Partitions that cannot be worked on until somebody changes something, and why; for `/readyz`. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct FailingPartitions(Arc<Mutex<BTreeMap<u32, &'static str>>>);

/// Why work on a partition cannot go on for now.
#[derive(Debug, thiserror::Error)]
pub enum PartitionError {
    /// The queue.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something another version wrote.
    #[error("the store holds what this version cannot read: {0}")]
    Unreadable(String),
    /// Others do the same work.
    #[error("another worker kept changing the same entities")]
    Contended,
}

/// Where deliveries come from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source<'a> {
    /// For the first time, as far as anybody knows.
    Queue,
    /// Again: how long they took is not known, and those held back are kept elsewhere already.
    Archive {
        /// Deliveries that are, or were, among the dead letters.
        known_dead: &'a HashSet<Uuid>,
    },
}

impl PartitionError {
    /// Why trying again alone does not help; `None` where it may.
    pub(crate) fn persistent_reason(&self) -> Option<&'static str> {
        match self {
            Self::Queue(QueueError::Misconfigured(_)) => Some("the queue cannot be used"),
            Self::Store(StoreError::Misconfigured(_)) => Some("the store cannot be used"),
            Self::Store(StoreError::Corrupt(_)) | Self::Unreadable(_) => {
                Some("the store holds something unreadable")
            }
            Self::Queue(QueueError::Unavailable(_))
            | Self::Store(StoreError::Unavailable(_) | StoreError::Fenced)
            | Self::Contended => None,
        }
    }
}

impl FailingPartitions {
    /// The first of them.
    pub(crate) fn first(&self) -> Option<(u32, &'static str)> {
        self.with(|stuck| stuck.first_key_value().map(|(number, why)| (*number, *why)))
    }

    fn set(&self, number: u32, why: Option<&'static str>) {
        self.with(|stuck| match why {
            Some(why) => stuck.insert(number, why),
            None => stuck.remove(&number),
        });
    }

    fn with<T>(&self, f: impl FnOnce(&mut BTreeMap<u32, &'static str>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Partition {
    /// `number` counts from 0. Nothing is read before `pauses` are known.
    pub fn new(worker: Worker, number: u32, pauses: watch::Receiver<Option<Arc<Pauses>>>) -> Self {
        Self {
            worker,
            number,
            pauses,
            stuck: FailingPartitions::default(),
        }
    }

    /// The same, which says in `stuck` when it cannot go on by itself.
    pub(crate) fn reporting_to(self, stuck: FailingPartitions) -> Self {
        Self { stuck, ..self }
    }

    /// Works until `stop`. A failing queue or store is nobody's fault but theirs: wait, and begin anew
    /// with what was not acknowledged. After a panic it `has_failed`, until a batch is through.
    pub async fn run(mut self, has_failed: bool, stop: CancellationToken) {
        let mut pauses = backoff();
        self.fails(None);
        self.worker.metrics.partition_fails(self.number, has_failed);
        while !stop.is_cancelled() {
            let mut processed = false;
            let Err(error) = self.consume(&stop, &mut processed).await else {
                break;
            };
            if processed {
                pauses = backoff();
            }
            self.fails(Some(&error));
            let pause = pauses.next().unwrap_or(MAX_BACKOFF);
            match error.persistent_reason() {
                None => tracing::warn!(partition = self.number, %error, ?pause, "partition pauses"),
                Some(_) => {
                    tracing::error!(partition = self.number, %error, ?pause, "partition pauses");
                }
            }
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
            }
        }
        // Another worker has it now, or nobody.
        self.fails(None);
    }

    fn fails(&self, why: Option<&PartitionError>) {
        self.worker
            .metrics
            .partition_fails(self.number, why.is_some());
        self.stuck
            .set(self.number, why.and_then(PartitionError::persistent_reason));
    }

    async fn consume(
        &mut self,
        stop: &CancellationToken,
        processed: &mut bool,
    ) -> Result<(), PartitionError> {
        while let Some(pauses) = self.may_run(stop).await {
            // While everything is paused there is no consumer, and deliveries wait where they are.
            let pauses = PauseHistory::from(pauses.as_ref().clone());
            let mut consumer = self.worker.queue.consume(self.number).await?;
            while !self.pauses.has_changed().unwrap_or(false) {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return Ok(()),
                    Ok(()) = self.pauses.changed() => break,
                    ready = consumer.ready() => ready?,
                }
                let turn = self.worker.turns.begin().await;
                let deliveries = consumer.next(self.worker.config.batch).await?;
                let applied = turn
                    .last(apply(
                        &self.worker,
                        self.number,
                        &deliveries,
                        &pauses,
                        Source::Queue,
                    ))
                    .await?;
                consumer.ack().await?;
                report(&self.worker, &deliveries, &applied);
                if !std::mem::replace(processed, true) {
                    self.fails(None);
                }
            }
        }
        Ok(())
    }

    /// The pauses in force, once they leave something to do; `None` when asked to stop.
    async fn may_run(&mut self, stop: &CancellationToken) -> Option<Arc<Pauses>> {
        let some = self.pauses.wait_for(|pauses| {
            pauses
                .as_ref()
                .is_some_and(|pauses| !pauses.is_everything_paused())
        });
        tokio::select! {
            biased;
            () = stop.cancelled() => None,
            known = some => known.ok()?.clone(),
        }
    }
}

/// A batch that the store has.
pub(crate) struct Applied {
    pub(crate) decision: Decision,
    /// The batch was there.
    pub(crate) began: SystemTime,
    /// It was decided, and the store asked.
    pub(crate) commit_began: SystemTime,
    /// The store had it.
    pub(crate) commit_ended: SystemTime,
}

/// Reads, decides and commits one batch; what is dead or held back is set aside before. Finished even when the
/// worker is asked to stop. The caller then acknowledges.
pub(crate) async fn apply(
    worker: &Worker,
    number: u32,
    deliveries: &[Delivery],
    pauses: &PauseHistory,
    source: Source<'_>,
) -> Result<Applied, PartitionError> {
    const MAX_CONFLICTS: usize = 20;
    let began = SystemTime::now();
    let mut batch = Batch::read_under(pauses, number, deliveries, &worker.plans);
    if matches!(source, Source::Archive { .. }) {
        batch = batch.untimed();
    }
    for _ in 0..MAX_CONFLICTS {
        let found = worker.store.read(number, &batch.want).await?;
        let decision = batch
            .decide(&found, Timestamp::now().as_millisecond())
            .map_err(PartitionError::Unreadable)?;
        set_aside(worker, deliveries, &decision, source).await?;
        let commit_began = SystemTime::now();
        let committed = if decision.is_empty() {
            Committed::Applied
        } else {
            worker.store.commit(&decision.commit).await?
        };
        // After a conflict, and after a commit that had happened without our knowing, the marks tell
        // what is left to do.
        if committed == Committed::Applied {
            return Ok(Applied {
                decision,
                began,
                commit_began,
                commit_ended: SystemTime::now(),
            });
        }
    }
    Err(PartitionError::Contended)
}

/// Dead letters are stored before they are counted, and counted before they are acknowledged; what is held
/// back is stored before it is acknowledged.
async fn set_aside(
    worker: &Worker,
    deliveries: &[Delivery],
    decision: &Decision,
    source: Source<'_>,
) -> Result<(), QueueError> {
    let at_ms = Timestamp::now().as_millisecond();
    let storing = deliveries
        .iter()
        .zip(&decision.outcomes)
        .filter_map(|(delivery, outcome)| {
            let (place, reason) = match (outcome, source) {
                (Outcome::Dead(_), Source::Archive { known_dead })
                    if known_dead.contains(&delivery.id) =>
                {
                    return None;
                }
                (Outcome::Dead(reason), _) => (HoldingQueue::DeadLetters, reason),
                (Outcome::Paused(reason), Source::Queue) => (HoldingQueue::Parked, reason),
                _ => return None,
            };
            let aside = HeldDelivery {
                delivery: delivery.clone(),
                reason: reason.clone(),
                at_ms,
            };
            Some(worker.queue.hold(place, aside))
        });
    futures_util::future::try_join_all(storing).await.map(drop)
}

const MAX_BACKOFF: Duration = Duration::from_secs(5);

pub(crate) fn backoff() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(50))
        .with_max_delay(MAX_BACKOFF)
        .with_jitter()
        .without_max_times()
        .build()
}
