//! Publishes relays, or applies those of a replay, and reads the subscriptions that they are about.

use std::collections::BTreeMap;

use futures_util::future::try_join_all;
use revwatch_core::pauses::{PauseHistory, Pauses};
use revwatch_core::relay::Relay;
use revwatch_storage::ports::{Delivery, ReadSet, StoreError};

use crate::Worker;
use crate::batch::{Foreign, Relayed, read_sets};
use crate::partition::{PartitionError, Source, apply};

/// The relays of a replay. They are applied, not published: the archive has them already, and a replay may have no worker
/// beside it.
#[derive(Default)]
pub(crate) struct Pending(BTreeMap<Relay, Relayed>);

/// So many relays are applied together.
const PENDING: usize = 2_000;

/// Publishes what customers have to hear. If this is repeated after a failure, the deliveries are those which the queue
/// has redelivered, and customers may have heard of it.
pub(crate) async fn publish(worker: &Worker, relays: &[Relayed]) -> Result<(), PartitionError> {
    let partitions = worker.queue.partitions();
    let unsure = relays.iter().filter(|it| !it.is_sure);
    let customers = read_sets(unsure.map(|Relayed { relay, .. }| {
        let partition = relay.customer_partition(partitions);
        (partition, relay.customer_key())
    }));
    let customers = read_foreign(worker, customers).await?;
    let mut publishing = Vec::new();
    for relayed in relays {
        let is_known = !relayed.is_sure
            && relayed
                .is_known(&customers)
                .map_err(PartitionError::Unreadable)?;
        if !is_known {
            publishing.push(worker.queue.publish(delivery(worker, relayed)));
        }
    }
    try_join_all(publishing).await?;
    Ok(())
}

impl Pending {
    /// Adds the relays of a batch. Applies all if there are many.
    pub(crate) async fn add(
        &mut self,
        worker: &Worker,
        relays: Vec<Relayed>,
    ) -> Result<(), PartitionError> {
        let relays = relays.into_iter();
        self.0.extend(relays.map(|it| (it.relay.clone(), it)));
        match self.0.len() {
            0..PENDING => Ok(()),
            PENDING.. => self.apply(worker).await,
        }
    }

    /// Applies all.
    pub(crate) async fn apply(&mut self, worker: &Worker) -> Result<(), PartitionError> {
        let mut by_partition = BTreeMap::<u32, Vec<Delivery>>::new();
        for relayed in std::mem::take(&mut self.0).into_values() {
            let delivery = delivery(worker, &relayed);
            let deliveries = by_partition.entry(delivery.partition).or_default();
            deliveries.push(delivery);
        }
        let no_pauses = PauseHistory::from(Pauses::default());
        for (partition, deliveries) in by_partition {
            for batch in deliveries.chunks(worker.config.batch) {
                apply(worker, partition, batch, &no_pauses, Source::Queue).await?;
            }
        }
        Ok(())
    }
}

fn delivery(worker: &Worker, relayed: &Relayed) -> Delivery {
    let (id, now_ms) = (worker.ids.fresh(), worker.clock.now_ms());
    relayed.delivery(id, worker.queue.partitions(), now_ms)
}

/// Entities of other partitions.
pub(crate) async fn read_foreign(
    worker: &Worker,
    read_sets: BTreeMap<u32, ReadSet>,
) -> Result<Foreign, StoreError> {
    let reading = read_sets.iter().map(async |(partition, read_set)| {
        let found = worker.store.read(*partition, read_set).await?;
        Ok::<_, StoreError>(read_set.entities.iter().cloned().zip(found.entities))
    });
    let read = try_join_all(reading).await?;
    Ok(read.into_iter().flatten().collect())
}
