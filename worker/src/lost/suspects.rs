//! Deliveries of the archive that a comparison did not find processed.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use revwatch_storage::ports::{Delivery, ReadSet};
use tokio::time::Instant;
use uuid::Uuid;

use crate::Worker;
use crate::partition::PartitionError;

/// The days and names of a delivery's dedupe keys.
pub(super) type Keys = [(u32, String); 2];

/// See the module. By the ids of the deliveries.
#[derive(Debug)]
pub(super) struct Suspects {
    by_id: HashMap<Uuid, Suspect>,
    /// When the newest of those that were processed since the last comparison was received, by partition: workers have
    /// come so far.
    reached_ms: BTreeMap<u32, i64>,
    /// Between two comparisons.
    interval: Duration,
}

/// What a missing delivery is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It goes back into its queue.
    Lost,
    /// A worker may have it in hand.
    Suspect,
    /// There are too many suspects to note it.
    NoRoom,
}

#[derive(Debug)]
struct Suspect {
    partition: u32,
    received_ms: i64,
    keys: Keys,
    since: Instant,
    /// This comparison has missed it, too.
    is_seen: bool,
}

/// The most suspects: they take some 30 MB.
const MAX_SUSPECTS: usize = 100_000;
/// The most dedupe keys read at once.
const READ_AT_ONCE: usize = 1_000;
/// Deliveries that ingest receives within this time are queued in any order.
const ORDER_MS: i64 = 5_000;

impl Suspects {
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            by_id: HashMap::new(),
            reached_ms: BTreeMap::new(),
            interval,
        }
    }

    /// Forgets those that were processed since the last comparison, and those of partitions that are not idle: they
    /// may wait there again.
    pub(super) async fn forget_processed(
        &mut self,
        worker: &Worker,
        idle: &BTreeSet<u32>,
    ) -> Result<(), PartitionError> {
        self.by_id
            .retain(|_, suspect| idle.contains(&suspect.partition));
        self.reached_ms.clear();
        for suspect in self.by_id.values_mut() {
            suspect.is_seen = false;
        }
        for partition in idle {
            let ids = self.by_id.iter();
            let ids = ids.filter(|(_, suspect)| suspect.partition == *partition);
            let ids: Vec<Uuid> = ids.map(|(id, _)| *id).collect();
            for ids in ids.chunks(READ_AT_ONCE) {
                let keys = ids.iter().filter_map(|id| self.by_id.get(id));
                let read_set = ReadSet {
                    dedupe_keys: keys.flat_map(|suspect| suspect.keys.clone()).collect(),
                    ..ReadSet::default()
                };
                let found = worker.store.read(*partition, &read_set).await?;
                for (id, keys) in ids.iter().zip(found.dedupe_keys.chunks(2)) {
                    if keys.iter().any(Option::is_some)
                        && let Some(suspect) = self.by_id.remove(id)
                    {
                        let reached_ms = self.reached_ms.entry(*partition).or_insert(i64::MIN);
                        *reached_ms = suspect.received_ms.max(*reached_ms);
                    }
                }
            }
        }
        Ok(())
    }

    /// Judges a missing delivery. It is lost if an earlier comparison, at least an interval ago, missed it as well, and
    /// workers that process others of its partition have passed it.
    pub(super) fn judge(&mut self, delivery: &Delivery, keys: Keys) -> Verdict {
        let now = Instant::now();
        let is_full = self.by_id.len() >= MAX_SUSPECTS;
        let suspect = match self.by_id.entry(delivery.id) {
            Entry::Occupied(suspect) => suspect.into_mut(),
            Entry::Vacant(_) if is_full => return Verdict::NoRoom,
            Entry::Vacant(place) => place.insert(Suspect {
                partition: delivery.partition,
                received_ms: delivery.received_ms,
                keys,
                since: now,
                is_seen: true,
            }),
        };
        suspect.is_seen = true;
        let reached_ms = self.reached_ms.get(&suspect.partition);
        let is_passed = reached_ms
            .is_none_or(|reached_ms| suspect.received_ms.saturating_add(ORDER_MS) < *reached_ms);
        match is_passed && now.duration_since(suspect.since) >= self.interval {
            true => Verdict::Lost,
            false => Verdict::Suspect,
        }
    }

    /// It is in its queue again. If that does not help, it is lost once more.
    pub(super) fn note_put_back(&mut self, delivery: Uuid) {
        if let Some(suspect) = self.by_id.get_mut(&delivery) {
            suspect.since = Instant::now();
        }
    }

    /// Forgets those that a complete comparison did not meet in the archive.
    pub(super) fn forget_unseen(&mut self) {
        self.by_id.retain(|_, suspect| suspect.is_seen);
    }

    pub(super) fn clear(&mut self) {
        self.by_id.clear();
    }

    /// When the first suspect of a partition was received.
    pub(super) fn first_ms(&self, partition: u32) -> Option<i64> {
        let of_partition = self.by_id.values();
        let of_partition = of_partition.filter(|suspect| suspect.partition == partition);
        of_partition.map(|suspect| suspect.received_ms).min()
    }
}
