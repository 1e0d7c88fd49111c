//! Compares the archive with what was processed, and puts what the queue lost back into it.
//!
//! RabbitMQ can lose deliveries that it has confirmed, without an error: an operator's policy lets messages expire or
//! bounds their number, a queue is purged, or deleted with messages in it. The archive still has them.
//!
//! Of all workers one compares: the one that reads the partition [`COMPARING_PARTITION`]. It looks at partitions in
//! which nothing waits, from where the last comparison ended. A delivery of which the store knows nothing, and which no
//! pause holds back, may still be in a worker's hand; it is lost if the next comparison misses it, too, unless the
//! partition's workers are still on their way to it. Putting a delivery back that was not lost is harmless: dedupe keys
//! identify it.
//!
//! Cost: a comparison reads what was archived since the last one and in the minutes before it ([`OVERLAP_MS`]), with two
//! dedupe keys for each delivery. All of them together take at most a fiftieth of the time: under load they are rarer
//! than the setting says.

mod suspects;

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
    Commit, Delivery, DocumentWrite, Fence, Health, HeldDelivery, HoldingQueue, ReadSet, StoreError,
};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::suspects::{Suspects, Verdict};
use crate::Worker;
use crate::batch::{Batch, Place, Trace};
use crate::membership::Share;
use crate::partition::PartitionError;
use crate::recovery::partition_of;

/// See the module.
pub(crate) struct Comparison {
    worker: Worker,
    share: watch::Receiver<Share>,
    pauses: watch::Receiver<Option<Arc<Pauses>>>,
    /// The name under which it holds the lease.
    holder: String,
    suspects: Suspects,
}

/// What one comparison found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Compared {
    /// Deliveries read from the archive.
    pub(crate) read: u64,
    /// Deliveries that the queue had lost and has again.
    pub(crate) put_back: u64,
    partitions: BTreeSet<u32>,
    /// When the first and the last of them were received.
    received_ms: Option<(i64, i64)>,
}

/// How far a partition was compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    /// All that was received earlier was processed, or is held back.
    until_ms: i64,
    /// The first delivery that a pause held back: it is looked at again when the pause has ended.
    held_back_ms: Option<i64>,
}

/// The worker that reads this partition compares all of them.
const COMPARING_PARTITION: u32 = 0;
/// The first comparison: what waited when the worker started is processed by then.
const FIRST_AFTER: Duration = Duration::from_secs(2);
/// All comparisons together take at most this share of the time.
const PAUSE_FOR_EACH_SECOND: u32 = 50;
/// While nothing waits in its partition, a delivery is usually processed long before it is this old.
const SETTLE_MS: i64 = 5_000;
/// Deliveries are archived roughly in the order of receipt, and the clocks of several receivers differ: those received
/// so long before the last comparison are looked at again.
const OVERLAP_MS: i64 = 660_000;
/// How far the first comparison of a deployment goes back.
const LOOK_BACK_MS: i64 = 3_600_000;
/// No comparison goes back further.
const LONGEST_LOOK_BACK_MS: i64 = 30 * 86_400_000;
/// Dedupe keys of events that were created earlier may have ended: every store keeps them for 40 days.
const REMEMBERED_DAYS: u32 = 39;
/// Deliveries read at once: with the largest bodies they take 128 MiB.
const PAGE: usize = 256;

const SPACE: &str = "archive";
const KEY: &str = "compared";
const LEASE: &str = "archive comparison";
const LEASE_TTL_MS: u64 = 30_000;
const LEASE_TTL: Duration = Duration::from_millis(LEASE_TTL_MS);

impl Comparison {
    pub(crate) fn new(
        worker: Worker,
        share: watch::Receiver<Share>,
        pauses: watch::Receiver<Option<Arc<Pauses>>>,
    ) -> Self {
        let holder = worker.ids.fresh().to_string();
        let interval = Duration::from_secs_f64(worker.config.comparison_seconds);
        Self {
            worker,
            share,
            pauses,
            holder,
            suspects: Suspects::new(interval),
        }
    }

    /// Compares until `stop`, unless queue and archive are one.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        if !self.worker.queue.is_apart() {
            return;
        }
        let interval = Duration::from_secs_f64(self.worker.config.comparison_seconds);
        let (mut wait, failures) = (FIRST_AFTER.min(interval), FailureLog::default());
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
            let began = Instant::now();
            let result = self.compare_if_it_may(&stop).await;
            let failed = matches!(&result, Err(error) if error.is_of_queue());
            self.worker
                .metrics
                .archive_failing
                .with_label_values(&["read"])
                .set(i64::from(failed));
            wait = interval.max(began.elapsed() * PAUSE_FOR_EACH_SECOND);
            match result {
                Ok(Some(_)) => {}
                Ok(None) => wait = FIRST_AFTER.min(interval),
                Err(error) => {
                    // What was in hand when queue or store failed is in hand for longer.
                    self.suspects.clear();
                    if let Some(earlier) = failures.admit(&error) {
                        tracing::warn!(%error, earlier, "cannot compare the archive with what was processed");
                    }
                }
            }
        }
    }

    /// `None`: another worker compares, or the state is not complete.
    async fn compare_if_it_may(
        &mut self,
        stop: &CancellationToken,
    ) -> Result<Option<Compared>, PartitionError> {
        let mine = {
            let share = self.share.borrow();
            share.partitions.contains(&COMPARING_PARTITION) && share.of_other_format.is_empty()
        };
        let pauses = self.pauses.borrow().clone();
        let store = &self.worker.store;
        let mut fence = None;
        if mine && pauses.is_some() && store.health().await?.iter().all(Health::is_complete) {
            fence = store.lease(LEASE, &self.holder, LEASE_TTL_MS).await?;
        }
        let (Some(pauses), Some(fence)) = (pauses, fence) else {
            self.suspects.clear();
            return Ok(None);
        };
        let lease = Lease {
            holder: &self.holder,
            fence,
            renewed: Instant::now(),
        };
        let compared = compare(&self.worker, &pauses, lease, &mut self.suspects, stop).await;
        // Otherwise a worker that starts when this one has stopped would wait for its end.
        self.worker.store.release(LEASE, &self.holder).await?;
        compared.map(Some)
    }
}

/// One comparison. If it is stopped, the next one begins where it did.
async fn compare(
    worker: &Worker,
    pauses: &Pauses,
    lease: Lease<'_>,
    suspects: &mut Suspects,
    stop: &CancellationToken,
) -> Result<Compared, PartitionError> {
    let mut pass = Pass {
        worker,
        lease,
        suspects,
        parked: None,
        compared: Compared::default(),
    };
    let result = pass.run(pauses, stop).await;
    let compared = pass.compared;
    if let Some((from_ms, until_ms)) = compared.received_ms {
        tracing::error!(
            deliveries = compared.put_back,
            partitions = ?compared.partitions,
            received_from_ms = from_ms,
            received_until_ms = until_ms,
            "the queue lost deliveries; they are back in it, from the archive. Look in RabbitMQ for a policy with \
             message-ttl, expires or max-length on revwatch's queues, and for a queue that was purged or deleted"
        );
    }
    result.map(|()| compared)
}

/// The lease of the worker that compares.
#[derive(Clone, Copy)]
struct Lease<'a> {
    holder: &'a str,
    fence: Fence,
    renewed: Instant,
}

/// A comparison that is under way.
struct Pass<'a> {
    worker: &'a Worker,
    lease: Lease<'a>,
    suspects: &'a mut Suspects,
    /// Ids of all parked deliveries, once they are needed.
    parked: Option<HashSet<Uuid>>,
    compared: Compared,
}

/// How far a comparison comes.
struct Reach {
    /// Deliveries received later are left to the next one.
    until_ms: i64,
    /// Whether all suspects are noted.
    has_room: bool,
    /// When the first of each partition was received that a pause holds back.
    held_back_ms: BTreeMap<u32, i64>,
}

impl Pass<'_> {
    async fn run(
        &mut self,
        pauses: &Pauses,
        stop: &CancellationToken,
    ) -> Result<(), PartitionError> {
        let worker = self.worker;
        let now_ms = worker.clock.now_ms();
        let mut marks = marks(worker).await?;
        let idle = idle_partitions(worker).await?;
        let is_released =
            !pauses.is_any_paused() && worker.queue.held_count(HoldingQueue::Parked).await? == 0;
        let begin = |partition: &u32| begin_ms(marks.get(partition).copied(), is_released, now_ms);
        let from: BTreeMap<u32, i64> = idle.iter().map(|it| (*it, begin(it))).collect();
        self.suspects.forget_processed(worker, &idle).await?;
        let Some(earliest_ms) = from.values().min().copied() else {
            return Ok(());
        };
        let history = PauseHistory::from(pauses.clone());
        let mut reach = Reach {
            until_ms: now_ms - SETTLE_MS,
            has_room: true,
            held_back_ms: BTreeMap::new(),
        };
        let mut archive = worker.queue.archive(earliest_ms).await?;
        while reach.has_room {
            if stop.is_cancelled() {
                return Ok(());
            }
            self.renew_lease().await?;
            let page = archive.next(PAGE).await?;
            if page.is_empty() {
                break;
            }
            for (partition, mut deliveries) in by_partition(page, worker.queue.partitions()) {
                let Some(from_ms) = from.get(&partition) else {
                    continue;
                };
                deliveries.retain(|it| (*from_ms..reach.until_ms).contains(&it.received_ms));
                self.compared.read += deliveries.len() as u64;
                let traces = traces(worker, partition, &deliveries, &history).await?;
                let lost = self.judge(deliveries, traces, &mut reach);
                self.put_back(lost).await?;
            }
        }
        let Reach {
            until_ms,
            has_room,
            held_back_ms,
        } = reach;
        if has_room {
            // A pause holds it back now, or the archive has lost it.
            self.suspects.forget_unseen();
        } else {
            tracing::warn!(
                until_ms,
                "so many deliveries are missing that they are put back in several comparisons"
            );
        }
        for partition in from.into_keys() {
            let before = marks.get(&partition).and_then(|mark| mark.held_back_ms);
            let before = before.filter(|_| !is_released).into_iter();
            let mark = Mark {
                until_ms: until_ms.min(self.suspects.first_ms(partition).unwrap_or(i64::MAX)),
                held_back_ms: before.chain(held_back_ms.get(&partition).copied()).min(),
            };
            marks.insert(partition, mark);
        }
        self.write_marks(&marks).await
    }

    /// Those of one partition's deliveries that are lost.
    fn judge(
        &mut self,
        deliveries: Vec<Delivery>,
        traces: Vec<(Trace, suspects::Keys)>,
        reach: &mut Reach,
    ) -> Vec<Delivery> {
        let mut lost = Vec::new();
        for (delivery, (trace, keys)) in deliveries.into_iter().zip(traces) {
            match trace {
                Trace::Processed => {}
                Trace::HeldBack => {
                    let of_partition = reach.held_back_ms.entry(delivery.partition);
                    let first_ms = of_partition.or_insert(delivery.received_ms);
                    *first_ms = delivery.received_ms.min(*first_ms);
                }
                Trace::Missing => match self.suspects.judge(&delivery, keys) {
                    Verdict::Lost => lost.push(delivery),
                    Verdict::Suspect => {}
                    Verdict::NoRoom => {
                        reach.until_ms = delivery.received_ms.min(reach.until_ms);
                        reach.has_room = false;
                    }
                },
            }
        }
        lost
    }

    async fn renew_lease(&mut self) -> Result<(), PartitionError> {
        let Lease {
            holder,
            fence,
            renewed,
        } = self.lease;
        if renewed.elapsed() < LEASE_TTL / 3 {
            return Ok(());
        }
        let renewed = Instant::now();
        if self.worker.store.lease(LEASE, holder, LEASE_TTL_MS).await? != Some(fence) {
            return Err(StoreError::Fenced.into());
        }
        self.lease.renewed = renewed;
        Ok(())
    }

    /// Puts those of the deliveries back that are not parked and whose partition is still idle, and counts them.
    async fn put_back(&mut self, mut lost: Vec<Delivery>) -> Result<(), PartitionError> {
        if lost.is_empty() {
            return Ok(());
        }
        let (worker, compared) = (self.worker, &mut self.compared);
        let idle = idle_partitions(worker).await?;
        let parked = match &mut self.parked {
            Some(parked) => parked,
            // A pause that ended may have left some.
            none => none.insert(ids_of_parked(worker).await?),
        };
        lost.retain(|it| idle.contains(&it.partition) && !parked.contains(&it.id));
        if lost.is_empty() {
            return Ok(());
        }
        worker.queue.put_back(lost.clone()).await?;
        for delivery in &lost {
            self.suspects.note_put_back(delivery.id);
            compared.partitions.insert(delivery.partition);
            let (first_ms, last_ms) = compared.received_ms.get_or_insert((i64::MAX, i64::MIN));
            *first_ms = delivery.received_ms.min(*first_ms);
            *last_ms = delivery.received_ms.max(*last_ms);
        }
        let count = lost.len() as u64;
        compared.put_back += count;
        worker.metrics.deliveries_restored.inc_by(count);
        count_for_rules(worker, count).await;
        Ok(())
    }

    async fn write_marks(&self, marks: &BTreeMap<u32, Mark>) -> Result<(), PartitionError> {
        let body = serde_json::to_string(marks);
        let body = body.map_err(|error| PartitionError::Unreadable(error.to_string()))?;
        let write = DocumentWrite {
            space: SPACE,
            key: KEY.to_owned(),
            body: Some(body),
        };
        let (store, fence) = (&self.worker.store, self.lease.fence);
        Ok(store.write_documents_under(LEASE, fence, &[write]).await?)
    }
}

/// How far each partition was compared.
async fn marks(worker: &Worker) -> Result<BTreeMap<u32, Mark>, PartitionError> {
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
fn begin_ms(mark: Option<Mark>, is_released: bool, now_ms: i64) -> i64 {
    let Some(mark) = mark.filter(|mark| mark.until_ms <= now_ms) else {
        return now_ms - LOOK_BACK_MS;
    };
    let held_back_ms = mark.held_back_ms.filter(|_| is_released);
    let from_ms = held_back_ms.map_or(mark.until_ms, |held_ms| held_ms.min(mark.until_ms));
    from_ms
        .saturating_sub(OVERLAP_MS)
        .max(now_ms - LONGEST_LOOK_BACK_MS)
}

/// The partitions in which nothing waits.
async fn idle_partitions(worker: &Worker) -> Result<BTreeSet<u32>, PartitionError> {
    let depth = worker.queue.depth().await?;
    let idle = (0..).zip(depth).filter(|(_, waiting)| *waiting == 0);
    Ok(idle.map(|(partition, _)| partition).collect())
}

/// The deliveries by the partitions that they have now.
fn by_partition(page: Vec<Delivery>, partitions: u32) -> BTreeMap<u32, Vec<Delivery>> {
    let mut by_partition = BTreeMap::<u32, Vec<Delivery>>::new();
    for delivery in page {
        let partition = partition_of(&delivery, partitions);
        let of_partition = by_partition.entry(partition).or_default();
        of_partition.push(Delivery {
            partition,
            ..delivery
        });
    }
    by_partition
}

/// What became of each delivery, and its dedupe keys.
async fn traces(
    worker: &Worker,
    partition: u32,
    deliveries: &[Delivery],
    pauses: &PauseHistory,
) -> Result<Vec<(Trace, suspects::Keys)>, PartitionError> {
    let place = Place {
        partition,
        partitions: worker.queue.partitions(),
    };
    let batch = Batch::read_under(pauses, place, deliveries, &worker.events.get());
    let dedupe_keys = batch.read_set.dedupe_keys.clone();
    let read_set = ReadSet {
        dedupe_keys,
        ..ReadSet::default()
    };
    let found = worker.store.read(partition, &read_set).await?;
    let first_day = day_of(worker.clock.now_s()).saturating_sub(REMEMBERED_DAYS);
    let keys = read_set.dedupe_keys.chunks(2);
    let keys = keys.map(|keys| [keys[0].clone(), keys[1].clone()]);
    Ok(batch.traces(&found, first_day).zip(keys).collect())
}

async fn ids_of_parked(worker: &Worker) -> Result<HashSet<Uuid>, PartitionError> {
    let mut parked = HashSet::new();
    if worker.queue.held_count(HoldingQueue::Parked).await? > 0 {
        let mut visit = |held: HeldDelivery| {
            parked.insert(held.delivery.id);
            ControlFlow::Continue(())
        };
        let visiting = worker.queue.visit_held(HoldingQueue::Parked, &mut visit);
        visiting.await?;
    }
    Ok(parked)
}

async fn count_for_rules(worker: &Worker, put_back: u64) {
    let (now_s, id) = (worker.clock.now_s(), worker.ids.fresh());
    let mut counters = Counters::default();
    let put_back = i64::try_from(put_back).unwrap_or(i64::MAX);
    counters.add(Bucket::hour_of(now_s), &["events", "restored"], put_back);
    let commit = Commit::of_counters(0, counters, now_s, id);
    if let Err(error) = worker.store.commit(&commit).await {
        tracing::warn!(%error, "cannot count the deliveries that the queue lost");
    }
}

#[cfg(test)]
mod tests;
