//! Generated histories, written to a store through the worker's own plan, without a queue.

use revwatch_core::event_settings::EventSettings;
use revwatch_storage::ports::{Committed, Delivery, StateStore};
use revwatch_worker::batch::{Batch, Place};

use super::business::{self, Histories};

pub(crate) const PARTITIONS: u32 = 8;

/// The approximate number of deliveries in a commit of each partition.
const BATCH: usize = 250;

/// The work of a worker: one batch after another, of all partitions concurrently.
pub(crate) async fn store_history(store: &dyn StateStore, histories: &Histories) {
    let settings = business::settings();
    let mut deliveries = histories.deliveries(PARTITIONS).peekable();
    while deliveries.peek().is_some() {
        let mut batches: Vec<Vec<Delivery>> = vec![Vec::new(); PARTITIONS as usize];
        for delivery in deliveries.by_ref().take(BATCH * PARTITIONS as usize) {
            batches[delivery.partition as usize].push(delivery);
        }
        let batches = batches.iter().filter(|batch| !batch.is_empty());
        futures_util::future::join_all(batches.map(|batch| commit(store, batch, &settings))).await;
    }
}

async fn commit(store: &dyn StateStore, deliveries: &[Delivery], settings: &EventSettings) {
    let partition = deliveries[0].partition;
    let place = Place {
        partition,
        partitions: PARTITIONS,
    };
    let batch = Batch::read(place, deliveries, settings);
    let found = store
        .read(partition, &batch.read_set)
        .await
        .expect("a read");
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let decision = batch.decide(&found, now_ms).expect("readable");
    let dead = decision
        .outcomes
        .iter()
        .find(|o| o.counter() != Some("applied"));
    assert!(dead.is_none(), "{dead:?}");
    assert_eq!(
        store.commit(&decision.commit).await.expect("a commit"),
        Committed::Applied
    );
}
