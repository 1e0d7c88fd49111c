//! Compares the archive with what was processed, and applies what the queue lost.
//!
//! RabbitMQ can lose deliveries that it has confirmed, without an error: an operator's policy lets messages expire or
//! bounds their number, a queue is purged, or deleted with messages in it. The archive still has them.
//!
//! Of all workers one compares: the one that reads the partition [`COMPARING_PARTITION`]. It looks at partitions in
//! which nothing waits, from where the last comparison ended. What an earlier commit, a pause or a holding queue
//! explains is not lost. Applying a delivery too early is harmless: dedupe keys identify it.
//!
//! Cost: a comparison reads what was archived since the last one and two dedupe keys for each delivery of it, and all of
//! them together take at most a fiftieth of the time.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use revwatch_core::bucket::Bucket;
use revwatch_core::counters::Counters;
use revwatch_core::event::day_of;
use revwatch_core::pauses::{PauseHistory, Pauses};
use revwatch_storage::failure_log::FailureLog;
use revwatch_storage::ports::{
    Commit, DedupeKey, Delivery, DocumentWrite, Fence, Health, HeldDelivery, HoldingQueue, ReadSet,
};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::Worker;
use crate::batch::{Batch, Outcome, Place};
use crate::membership::Share;
use crate::partition::{PartitionError, Source, apply};
use crate::recovery::{known_dead, partition_of};
use crate::relays::Pending;

/// See the module.
pub(crate) struct Comparison {
    worker: Worker,
    share: watch::Receiver<Share>,
    pauses: watch::Receiver<Option<Arc<Pauses>>>,
    /// The name under which it holds the lease.
    holder: String,
}

/// Deliveries by partition.
type ByPartition = BTreeMap<u32, Vec<Delivery>>;

/// What one comparison found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Compared {
    /// Deliveries read from the archive.
    pub(crate) read: u64,
    /// Deliveries that the queue had lost, and that are applied now.
    pub(crate) restored: u64,
    /// There were too many for one comparison: the next one follows at once.
    is_partial: bool,
}

/// The worker that reads this partition compares all of them.
const COMPARING_PARTITION: u32 = 0;
/// The first comparison: what waited when the worker started is applied by then.
const FIRST_AFTER: Duration = Duration::from_secs(2);
/// The pause between two comparisons, and the share of the time that all of them together may take.
const INTERVAL: Duration = Duration::from_mins(1);
const PAUSE_FOR_EACH_SECOND: u32 = 50;
/// While nothing waits in its partition, a delivery is applied long before it is this old.
const SETTLE_MS: i64 = 5_000;
/// Deliveries are archived roughly in the order of receipt: those received so long before the last comparison are
/// looked at again.
const OVERLAP_MS: i64 = 120_000;
/// How far the first comparison of a deployment goes back.
const LOOK_BACK_MS: i64 = 3_600_000;
/// No comparison goes back further: dedupe keys are kept for longer.
const LONGEST_LOOK_BACK_MS: i64 = 30 * 86_400_000;
/// A worker that has a delivery in hand applies it in this time.
const IN_HAND: Duration = Duration::from_secs(2);
/// The most deliveries that one comparison keeps in memory.
const MAX_MISSING: usize = 1_000;

const SPACE: &str = "archive";
const KEY: &str = "compared_until_ms";
const LEASE: &str = "archive comparison";
const LEASE_MS: u64 = 30_000;

impl Comparison {
    pub(crate) fn new(
        worker: Worker,
        share: watch::Receiver<Share>,
        pauses: watch::Receiver<Option<Arc<Pauses>>>,
    ) -> Self {
        let holder = worker.ids.fresh().to_string();
        Self {
            worker,
            share,
            pauses,
            holder,
        }
    }

    /// Compares until `stop`, unless queue and archive are one.
    pub(crate) async fn run(self, stop: CancellationToken) {
        if !self.worker.queue.is_apart() {
            return;
        }
        let (mut wait, failures) = (FIRST_AFTER, FailureLog::default());
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
            let began = Instant::now();
            let result = tokio::select! {
                biased;
                // Every step may be interrupted.
                () = stop.cancelled() => return,
                result = self.compare_if_it_may() => result,
            };
            let failed = matches!(&result, Err(error) if error.is_of_queue());
            self.worker
                .metrics
                .archive_failing
                .with_label_values(&["read"])
                .set(i64::from(failed));
            wait = match result {
                Ok(Some(compared)) if compared.is_partial => FIRST_AFTER,
                Ok(Some(_)) => INTERVAL.max(began.elapsed() * PAUSE_FOR_EACH_SECOND),
                Ok(None) => FIRST_AFTER,
                Err(error) => {
                    if let Some(earlier) = failures.admit(&error) {
                        tracing::warn!(%error, earlier, "cannot compare the archive with what was applied");
                    }
                    INTERVAL
                }
            };
        }
    }

    /// `None`: another worker compares, or the state is not complete.
    async fn compare_if_it_may(&self) -> Result<Option<Compared>, PartitionError> {
        let mine = {
            let share = self.share.borrow();
            share.partitions.contains(&COMPARING_PARTITION) && share.of_other_format.is_empty()
        };
        let pauses = self.pauses.borrow().clone();
        let Some(pauses) = pauses.filter(|_| mine) else {
            return Ok(None);
        };
        if !self
            .worker
            .store
            .health()
            .await?
            .iter()
            .all(Health::is_complete)
        {
            return Ok(None);
        }
        let lease = self.worker.store.lease(LEASE, &self.holder, LEASE_MS);
        let Some(fence) = lease.await? else {
            return Ok(None);
        };
        let compared = compare(&self.worker, &pauses, fence).await;
        // Otherwise a worker that starts when this one has stopped would wait for its end.
        self.worker.store.release(LEASE, &self.holder).await?;
        compared.map(Some)
    }
}

/// One comparison.
pub(crate) async fn compare(
    worker: &Worker,
    pauses: &Pauses,
    fence: Fence,
) -> Result<Compared, PartitionError> {
    let is_any_paused = pauses.is_any_paused();
    let pauses = PauseHistory::from(pauses.clone());
    let now_ms = worker.clock.now_ms();
    let until_ms = now_ms - SETTLE_MS;
    let mut marks = marks(worker).await?;
    let mut from = BTreeMap::new();
    for partition in idle_partitions(worker).await? {
        from.insert(partition, begin_ms(marks.get(&partition).copied(), now_ms));
    }
    let Some(earliest_ms) = from.values().min().copied() else {
        return Ok(Compared::default());
    };
    let mut archive = worker.queue.archive(earliest_ms).await?;
    let partitions = worker.queue.partitions();
    let (mut compared, mut missing) = (Compared::default(), ByPartition::new());
    while !compared.is_partial {
        let page = archive.next(worker.config.batch * 4).await?;
        if page.is_empty() {
            break;
        }
        let mut read = ByPartition::new();
        for delivery in page {
            let partition = partition_of(&delivery, partitions);
            let is_wanted = |from_ms: &i64| (*from_ms..until_ms).contains(&delivery.received_ms);
            if from.get(&partition).is_some_and(is_wanted) {
                compared.read += 1;
                read.entry(partition).or_default().push(delivery);
            }
        }
        for (partition, deliveries) in unprocessed(worker, read, &pauses).await? {
            missing.entry(partition).or_default().extend(deliveries);
        }
        compared.is_partial = missing.values().map(Vec::len).sum::<usize>() >= MAX_MISSING;
    }
    // What is parked is compared when the pause has ended.
    let mut is_settled =
        !is_any_paused && worker.queue.held_count(HoldingQueue::Parked).await? == 0;
    if !missing.is_empty() {
        let idle = after_a_moment(worker).await?;
        // What waits in a queue after all is compared when it does not any more.
        is_settled &= missing.keys().all(|partition| idle.contains(partition));
        missing.retain(|partition, _| idle.contains(partition));
        let lost = lost(worker, missing, &pauses).await?;
        compared.restored = restore(worker, lost, &pauses).await?;
    }
    compared.is_partial &= compared.restored > 0;
    if !compared.is_partial {
        let reached = |(partition, from_ms)| match is_settled {
            true => (partition, until_ms),
            false => (partition, from_ms + OVERLAP_MS),
        };
        marks.extend(from.into_iter().map(reached));
        let body = serde_json::to_string(&marks);
        let body = body.map_err(|error| PartitionError::Unreadable(error.to_string()))?;
        let write = DocumentWrite {
            space: SPACE,
            key: KEY.to_owned(),
            body: Some(body),
        };
        let store = &worker.store;
        store.write_documents_under(LEASE, fence, &[write]).await?;
    }
    Ok(compared)
}

/// Until when each partition was compared.
async fn marks(worker: &Worker) -> Result<BTreeMap<u32, i64>, PartitionError> {
    let found = worker
        .store
        .documents_by_key(SPACE, &[KEY.to_owned()])
        .await?;
    // One that cannot be read is as good as none.
    let marks = found.first().and_then(|document| {
        let document = document.as_ref()?;
        serde_json::from_str(&document.body).ok()
    });
    Ok(marks.unwrap_or_default())
}

/// From where a partition is compared. A mark in the future was set by a clock that was ahead.
fn begin_ms(mark_ms: Option<i64>, now_ms: i64) -> i64 {
    match mark_ms.filter(|mark_ms| *mark_ms <= now_ms) {
        Some(mark_ms) => (mark_ms - OVERLAP_MS).max(now_ms - LONGEST_LOOK_BACK_MS),
        None => now_ms - LOOK_BACK_MS,
    }
}

/// The partitions in which nothing waits.
async fn idle_partitions(worker: &Worker) -> Result<BTreeSet<u32>, PartitionError> {
    let depth = worker.queue.depth().await?;
    let idle = (0..).zip(depth).filter(|(_, waiting)| *waiting == 0);
    Ok(idle.map(|(partition, _)| partition).collect())
}

/// Those of the deliveries of which the store knows nothing, and which no pause holds back.
async fn unprocessed(
    worker: &Worker,
    deliveries: ByPartition,
    pauses: &PauseHistory,
) -> Result<ByPartition, PartitionError> {
    let (settings, partitions) = (worker.events.get(), worker.queue.partitions());
    let mut unprocessed = ByPartition::new();
    for (partition, deliveries) in deliveries {
        let place = Place {
            partition,
            partitions,
        };
        for some in deliveries.chunks(worker.config.batch.max(1)) {
            let batch = Batch::read_under(pauses, place, some, &settings);
            let read_set = ReadSet {
                dedupe_keys: batch.read_set.dedupe_keys.clone(),
                ..ReadSet::default()
            };
            let found = worker.store.read(partition, &read_set).await?;
            let some = some.iter().zip(batch.are_unprocessed(&found));
            let some = some.filter_map(|(delivery, is)| is.then(|| delivery.clone()));
            unprocessed.entry(partition).or_default().extend(some);
        }
    }
    unprocessed.retain(|_, deliveries| !deliveries.is_empty());
    Ok(unprocessed)
}

/// The partitions in which nothing waits when workers have applied what they had in hand.
async fn after_a_moment(worker: &Worker) -> Result<BTreeSet<u32>, PartitionError> {
    tokio::time::sleep(IN_HAND).await;
    idle_partitions(worker).await
}

/// Those of the deliveries that are neither processed now nor parked.
async fn lost(
    worker: &Worker,
    missing: ByPartition,
    pauses: &PauseHistory,
) -> Result<ByPartition, PartitionError> {
    let mut missing = unprocessed(worker, missing, pauses).await?;
    // A pause that ended may have left some.
    if worker.queue.held_count(HoldingQueue::Parked).await? > 0 {
        let mut parked = HashSet::<Uuid>::new();
        let mut visit = |held: HeldDelivery| {
            parked.insert(held.delivery.id);
            ControlFlow::Continue(())
        };
        let visiting = worker.queue.visit_held(HoldingQueue::Parked, &mut visit);
        visiting.await?;
        for deliveries in missing.values_mut() {
            deliveries.retain(|delivery| !parked.contains(&delivery.id));
        }
    }
    missing.retain(|_, deliveries| !deliveries.is_empty());
    Ok(missing)
}

/// Applies what was lost, and says so. Returns how many deliveries that were.
async fn restore(
    worker: &Worker,
    lost: ByPartition,
    pauses: &PauseHistory,
) -> Result<u64, PartitionError> {
    if lost.is_empty() {
        return Ok(0);
    }
    let known_dead = known_dead(worker.queue.as_ref()).await?;
    let source = Source::Archive {
        known_dead: &known_dead,
    };
    let (mut restored, mut relays) = (0, Pending::default());
    for (partition, deliveries) in &lost {
        for some in deliveries.chunks(worker.config.batch.max(1)) {
            let applied = apply(worker, *partition, some, pauses, source).await?;
            let outcomes = applied.decision.outcomes.iter();
            restored += outcomes.filter(|outcome| is_restored(outcome)).count() as u64;
            relays.add(applied.decision.relays);
            relays.write_if_full(worker).await?;
        }
    }
    relays.write(worker).await?;
    if restored > 0 {
        let times = lost.values().flatten().map(|delivery| delivery.received_ms);
        let between = (times.clone().min(), times.max());
        tracing::error!(
            deliveries = restored,
            partitions = ?lost.keys().collect::<Vec<_>>(),
            received_from_ms = between.0,
            received_until_ms = between.1,
            "the queue lost deliveries that it had confirmed; they are applied from the archive. Look in RabbitMQ for a \
             policy with message-ttl, expires or max-length on revwatch's queues, and for a queue that was purged or deleted"
        );
        worker.metrics.deliveries_restored.inc_by(restored);
        count(worker, restored).await;
    }
    Ok(restored)
}

/// Whether the delivery was lost: nothing had processed it meanwhile.
fn is_restored(outcome: &Outcome) -> bool {
    outcome.counter().is_some() && *outcome != Outcome::Duplicate
}

/// Counts them for rules. The dedupe key is unique to this commit: if it is sent again, it counts nothing more.
async fn count(worker: &Worker, restored: u64) {
    let (now_s, id) = (worker.clock.now_s(), worker.ids.fresh());
    let mut counters = Counters::default();
    let restored = i64::try_from(restored).unwrap_or(i64::MAX);
    counters.add(Bucket::hour_of(now_s), &["events", "restored"], restored);
    let commit = Commit {
        dedupe_keys: vec![DedupeKey {
            day: day_of(now_s),
            key: id.simple().to_string(),
            delivery: id,
        }],
        counters,
        ..Commit::default()
    };
    if let Err(error) = worker.store.commit(&commit).await {
        tracing::warn!(%error, "cannot count the deliveries that the queue lost");
    }
}

#[cfg(test)]
mod tests;
