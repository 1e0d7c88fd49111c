//! Writes relays, and finds those that a recovery needs.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::try_join_all;
use revwatch_core::entity::Entity;
use revwatch_core::relay::Relay;
use revwatch_storage::ports::{Committed, ReadResult, ReadSet, StoreError};

use crate::Worker;
use crate::batch::{Foreign, RelayBatch, Relays};
use crate::guarded::on_entity;
use crate::partition::{MAX_CONFLICTS, PartitionError};

/// Relays of several batches, which are not acknowledged yet: together they take fewer commits.
#[derive(Default)]
pub(crate) struct Pending {
    relays: Relays,
    batches: usize,
}

/// So many relays are written together.
const RELAYS: usize = 500;

/// So many batches wait for their relays.
const BATCHES: usize = 16;

/// Entities of one commit.
const ENTITIES_PER_COMMIT: usize = 200;

impl Pending {
    /// Adds the relays of a batch.
    pub(crate) fn add(&mut self, relays: Relays) {
        self.relays.append(relays);
        if !self.is_empty() {
            self.batches += 1;
        }
    }

    /// Whether there is nothing to write.
    pub(crate) fn is_empty(&self) -> bool {
        self.relays.is_empty()
    }

    /// Whether there is enough to write.
    pub(crate) fn is_full(&self) -> bool {
        let is_full = self.relays.len() >= RELAYS || self.batches >= BATCHES;
        is_full && !self.is_empty()
    }

    /// Writes all. After an error nothing is left: the deliveries come again.
    pub(crate) async fn write(&mut self, worker: &Worker) -> Result<(), PartitionError> {
        write(worker, std::mem::take(self).relays).await
    }

    /// Writes all if there is enough.
    pub(crate) async fn write_if_full(&mut self, worker: &Worker) -> Result<(), PartitionError> {
        match self.is_full() {
            true => self.write(worker).await,
            false => Ok(()),
        }
    }
}

/// Writes relays into what they are about.
async fn write(worker: &Worker, relays: Relays) -> Result<(), PartitionError> {
    let mut batches = relays.batches(worker.queue.partitions(), ENTITIES_PER_COMMIT);
    for _ in 0..MAX_CONFLICTS {
        if batches.is_empty() {
            return Ok(());
        }
        batches = write_once(worker, batches).await?;
    }
    Err(PartitionError::Contended)
}

/// Returns the batches that conflicted.
async fn write_once(
    worker: &Worker,
    batches: Vec<RelayBatch>,
) -> Result<Vec<RelayBatch>, PartitionError> {
    let store = &worker.store;
    let wanted = batches.iter().map(|batch| (batch.partition, &batch.to));
    let to = store.read_all(&wanted.collect::<Vec<_>>()).await?;
    // After all of those.
    let partitions = worker.queue.partitions();
    let from = read_foreign(worker, from_of(&batches, partitions)).await?;
    let mut commits = Vec::with_capacity(batches.len());
    for (batch, to) in batches.iter().zip(&to) {
        let decided = batch.decide(to, &from);
        let (commit, faults) = decided.map_err(PartitionError::Unreadable)?;
        for reason in faults {
            tracing::error!(reason, "an entity lacks what another says about it");
        }
        commits.push(commit);
    }
    let committing = commits.iter().map(async |commit| {
        if commit.entities.is_empty() {
            return Ok(Committed::Applied);
        }
        store.commit(commit).await
    });
    let committed = try_join_all(committing).await?;
    let conflicts = batches.into_iter().zip(committed);
    let conflicts = conflicts.filter(|(_, committed)| *committed == Committed::Conflict);
    Ok(conflicts.map(|(batch, _)| batch).collect())
}

fn from_of(batches: &[RelayBatch], partitions: u32) -> BTreeMap<u32, ReadSet> {
    let mut all = BTreeMap::<u32, ReadSet>::new();
    for (partition, read_set) in batches.iter().flat_map(|it| it.from(partitions)) {
        let entities = &mut all.entry(partition).or_default().entities;
        entities.extend(read_set.entities);
    }
    all
}

/// After these partitions were recovered: gives their customers and providers what the entities in others say. The
/// archive does not have it, because those are not replayed.
pub(crate) async fn give_back(
    worker: &Worker,
    recovered: &BTreeSet<u32>,
) -> Result<(), PartitionError> {
    let partitions = worker.queue.partitions();
    if (0..partitions).all(|partition| recovered.contains(&partition)) {
        return Ok(());
    }
    let mut pending = Pending::default();
    let shards = 0..worker.store.shards();
    for (shard, kind) in shards.flat_map(|shard| Relay::FROM.map(|kind| (shard, kind))) {
        let mut after = None;
        loop {
            let page = worker.store.shard_page(shard, kind, after.as_ref()).await?;
            let mut relays = Relays::default();
            for found in page.entities {
                if recovered.contains(&found.partition) {
                    continue;
                }
                let decoded = on_entity(&found.key, || {
                    let entity = Entity::decode(&found.key, &found.stored.body)?;
                    Ok(Relay::all_of(&entity))
                });
                let of_entity = decoded.and_then(|decoded| decoded);
                for relay in of_entity.map_err(PartitionError::Unreadable)? {
                    if recovered.contains(&relay.to_partition(partitions)) {
                        relays.add_unsure(relay);
                    }
                }
            }
            pending.add(relays);
            pending.write_if_full(worker).await?;
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    }
    pending.write(worker).await
}

async fn read_foreign(
    worker: &Worker,
    read_sets: BTreeMap<u32, ReadSet>,
) -> Result<Foreign, StoreError> {
    let wanted = read_sets.iter().map(|(partition, want)| (*partition, want));
    let read = worker.store.read_all(&wanted.collect::<Vec<_>>()).await?;
    let of_partition =
        |(want, found): (ReadSet, ReadResult)| want.entities.into_iter().zip(found.entities);
    let all = read_sets.into_values().zip(read);
    Ok(all.flat_map(of_partition).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use jiff::Timestamp;
    use revwatch_core::entity::{EntityKey, EntityKind};
    use revwatch_core::event::partition_of;
    use revwatch_core::pauses::{PauseHistory, Pauses};
    use revwatch_core::realm::Realms;
    use revwatch_storage::memory::{Memory, VirtualClock};
    use revwatch_storage::ports::{Commit, Delivery, EntityWrite};
    use serde_json::json;

    use super::*;
    use crate::partition::{Source, apply};
    use crate::recovery::{IncompletePartition, recover};
    use crate::test_worker::worker;

    const PARTITIONS: u32 = 4;
    const NOW_S: i64 = 1_795_900_000;
    const CUSTOMER: &str = "cus_1";

    fn started() -> (Memory, Arc<VirtualClock>, Worker) {
        let start = Timestamp::from_second(NOW_S).expect("a time");
        let clock = Arc::new(VirtualClock::starting_at(start));
        let memory = Memory::new(PARTITIONS, clock.clone());
        let worker = worker(&memory, &clock, Realms::default());
        (memory, clock, worker)
    }

    /// A subscription whose customer is in another partition.
    fn subscription_id() -> String {
        let ids = (0..).map(|n| format!("sub_{n}"));
        let customer = partition_of(CUSTOMER, PARTITIONS);
        let mut others = ids.filter(|id| partition_of(id, PARTITIONS) != customer);
        others.next().expect("one")
    }

    /// Publishes an event about it, as ingest does.
    async fn published(worker: &Worker, n: u8) -> Delivery {
        let id = subscription_id();
        let object = json!({"id": id, "object": "subscription", "status": "active", "customer": CUSTOMER,
            "currency": "usd", "items": {"data": [{"quantity": 1, "price": {"unit_amount": 1000,
            "recurring": {"interval": "month", "interval_count": 1}}}]}});
        let event = json!({"id": format!("evt_{n}"), "object": "event", "created": NOW_S + i64::from(n),
            "type": "customer.subscription.created", "data": {"object": object}});
        let delivery = Delivery {
            id: worker.ids.fresh(),
            event_id: format!("evt_{n}"),
            event_type: "customer.subscription.created".to_owned(),
            partition: partition_of(&id, PARTITIONS),
            endpoint: "stripe".to_owned(),
            received_ms: worker.clock.now_ms(),
            traceparent: None,
            body: Bytes::from(event.to_string()),
        };
        let publishing = worker.queue.publish(delivery.clone());
        publishing.await.expect("published");
        delivery
    }

    async fn committed(worker: &Worker, delivery: &Delivery) -> Relays {
        let no_pauses = PauseHistory::from(Pauses::default());
        let batch = std::slice::from_ref(delivery);
        let applying = apply(worker, delivery.partition, batch, &no_pauses, Source::Queue);
        applying.await.expect("applied").decision.relays
    }

    async fn applied(worker: &Worker, delivery: &Delivery) -> Result<(), PartitionError> {
        write(worker, committed(worker, delivery).await).await
    }

    async fn paying(worker: &Worker) -> usize {
        let key = EntityKey::new(EntityKind::Customer, CUSTOMER);
        let read_set = ReadSet {
            entities: vec![key.clone()],
            ..ReadSet::default()
        };
        let partition = partition_of(CUSTOMER, PARTITIONS);
        let found = worker.store.read(partition, &read_set).await.expect("read");
        let Some(stored) = &found.entities[0] else {
            return 0;
        };
        match Entity::decode(&key, &stored.body).expect("readable") {
            Entity::Customer(customer) => customer.subscriptions.paying(),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn what_a_customer_could_not_get_comes_with_the_redelivery() {
        let (memory, _, worker) = started();
        let delivery = published(&worker, 1).await;
        let relays = committed(&worker, &delivery).await;
        memory.faults().refuse_commits(1);
        write(&worker, relays).await.expect_err("no commit");
        assert_eq!(paying(&worker).await, 0);
        for _ in 0..2 {
            applied(&worker, &delivery).await.expect("applied");
            assert_eq!(paying(&worker).await, 1);
        }
    }

    #[tokio::test]
    async fn a_recovered_customer_has_what_subscriptions_of_complete_partitions_say() {
        let (_, _, worker) = started();
        let delivery = published(&worker, 1).await;
        applied(&worker, &delivery).await.expect("applied");
        let lost = partition_of(CUSTOMER, PARTITIONS);
        lose(&worker, lost).await;
        assert_eq!(paying(&worker).await, 0);
        give_back(&worker, &BTreeSet::from([lost + 1]))
            .await
            .expect("written");
        assert_eq!(paying(&worker).await, 0, "it is of another partition");
        give_back(&worker, &BTreeSet::from([lost]))
            .await
            .expect("written");
        assert_eq!(paying(&worker).await, 1);
    }

    #[tokio::test]
    async fn a_recovery_of_one_partition_gives_its_customers_back() {
        let (_, _, worker) = started();
        let delivery = published(&worker, 1).await;
        applied(&worker, &delivery).await.expect("applied");
        let partition = partition_of(CUSTOMER, PARTITIONS);
        lose(&worker, partition).await;
        let mut health = worker.store.health().await.expect("health");
        let health = health.swap_remove(usize::try_from(partition).expect("small"));
        let incomplete = [IncompletePartition { partition, health }];
        let no_pauses = PauseHistory::from(Pauses::default());
        let mut progress = |_| ();
        let recovering = recover(&worker, &incomplete, &no_pauses, &mut progress);
        recovering.await.expect("recovered");
        assert_eq!(paying(&worker).await, 1);
    }

    /// The partition forgets the customer.
    async fn lose(worker: &Worker, partition: u32) {
        let key = EntityKey::new(EntityKind::Customer, CUSTOMER);
        let commit = Commit {
            partition,
            entities: vec![EntityWrite {
                key,
                expected: 1,
                body: None,
            }],
            ..Commit::default()
        };
        let committed = worker.store.commit(&commit).await.expect("committed");
        assert_eq!(committed, Committed::Applied);
    }
}
