//! Made-up histories, told to a store by the worker's own plan, without a queue.

use revwatch_shared::observe::Plans;
use revwatch_shared::ports::{Committed, Delivery, StateStore};
use revwatch_worker::plan::Batch;

use super::business::{self, Story};

pub(crate) const PARTITIONS: u32 = 8;

/// Deliveries in one commit.
const BATCH: usize = 250;

/// What a worker does, one batch after another.
pub(crate) async fn tell(store: &dyn StateStore, story: &Story) {
    let plans = business::plans();
    let mut waiting: Vec<Vec<Delivery>> = vec![Vec::new(); PARTITIONS as usize];
    for delivery in story.deliveries(PARTITIONS) {
        let queue = &mut waiting[delivery.partition as usize];
        queue.push(delivery);
        if queue.len() == BATCH {
            commit(store, &std::mem::take(queue), &plans).await;
        }
    }
    for rest in waiting.iter().filter(|rest| !rest.is_empty()) {
        commit(store, rest, &plans).await;
    }
}

async fn commit(store: &dyn StateStore, deliveries: &[Delivery], plans: &Plans) {
    let partition = deliveries[0].partition;
    let batch = Batch::read(partition, deliveries, plans);
    let found = store.read(partition, &batch.want).await.expect("a read");
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let decision = batch.decide(&found, now_ms).expect("readable");
    let dead = decision.outcomes.iter().find(|o| o.counter() != Some("applied"));
    assert!(dead.is_none(), "{dead:?}");
    assert_eq!(store.commit(&decision.commit).await.expect("a commit"), Committed::Applied);
}
