use bytes::Bytes;
use jiff::Timestamp;
use revwatch_core::bucket::Buckets;
use revwatch_core::pauses::Scope;
use revwatch_core::realm::Realms;
use revwatch_storage::memory::{Memory, VirtualClock};
use revwatch_storage::ports::{
    Aggregates as _, Coordination as _, Disposition, Holding as _, Publish as _,
};

use super::*;
use crate::test_worker::worker;

const NOW_S: i64 = 1_700_000_000;

struct World {
    memory: Memory,
    worker: Worker,
    clock: Arc<VirtualClock>,
}

impl World {
    fn new() -> Self {
        let start = Timestamp::from_second(NOW_S).expect("a time");
        let clock = Arc::new(VirtualClock::starting_at(start));
        let memory = Memory::new(2, clock.clone());
        let worker = worker(&memory, &clock, Realms::default());
        Self {
            memory,
            worker,
            clock,
        }
    }

    /// A failed payout that was received `age_ms` ago.
    async fn receive(&self, n: u128, age_ms: i64) -> Delivery {
        let body = format!(
            r#"{{"id":"evt_{n}","object":"event","type":"payout.failed","created":{NOW_S},"livemode":true,"data":{{"object":
            {{"id":"po_{n}","object":"payout","status":"failed","amount":500,"currency":"usd","created":{NOW_S}}}}}}}"#
        );
        let mut delivery = Delivery {
            id: Uuid::from_u128(n),
            event_id: format!("evt_{n}"),
            event_type: "payout.failed".into(),
            partition: 0,
            endpoint: "stripe".into(),
            received_ms: self.worker.clock.now_ms() - age_ms,
            traceparent: None,
            body: Bytes::from(body),
        };
        delivery.partition = partition_of(&delivery, 2);
        self.memory
            .publish(delivery.clone())
            .await
            .expect("published");
        delivery
    }

    async fn compare(&self, pauses: &Pauses) -> Compared {
        let lease = self.memory.lease(LEASE, "me", LEASE_MS).await;
        let fence = lease.expect("an answer").expect("the lease");
        compare(&self.worker, pauses, fence)
            .await
            .expect("compared")
    }

    async fn counted(&self) -> i64 {
        let buckets = Buckets::of_hours(0, u32::MAX);
        let counters = self.memory.counters(&buckets).await.expect("read");
        counters.get(Bucket::hour_of(NOW_S), &["events", "restored"])
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_queue_lost_is_applied_and_counted_once() {
    let (world, nothing) = (World::new(), Pauses::default());
    for n in 1..=5 {
        world.receive(n, 60_000).await;
    }
    // Just received: a worker may have it in hand.
    world.receive(6, 1_000).await;
    assert_eq!(world.compare(&nothing).await.read, 0, "everything waits");
    world.memory.faults().lose_waiting();
    let found = world.compare(&nothing).await;
    assert_eq!((found.read, found.restored), (5, 5));
    assert_eq!(world.counted().await, 5);
    assert_eq!(world.worker.metrics.deliveries_restored.get(), 5);

    // The last one is old enough now, and the others are not lost any more.
    world.clock.jump(Duration::from_secs(10));
    let found = world.compare(&nothing).await;
    assert_eq!((found.read, found.restored), (6, 1));
    world.clock.jump(Duration::from_mins(5));
    world.compare(&nothing).await;
    let found = world.compare(&nothing).await;
    assert_eq!(found.read, 0, "it goes on where the last comparison ended");
}

#[tokio::test(start_paused = true)]
async fn what_a_pause_explains_is_not_lost_and_a_purged_pause_is() {
    let (world, nothing) = (World::new(), Pauses::default());
    let mut pauses = Pauses::default();
    pauses.set(&Scope::All, true);
    let delivery = world.receive(1, 60_000).await;
    let parked = HeldDelivery {
        delivery,
        reason: "paused".into(),
        at_ms: 0,
    };
    let place = HoldingQueue::Parked;
    world.memory.hold(place, parked).await.expect("held");
    world.memory.faults().lose_waiting();
    assert_eq!(world.compare(&pauses).await.restored, 0);
    // The pause has ended, and nothing was requeued yet, for however long.
    world.clock.jump(Duration::from_hours(1));
    assert_eq!(world.compare(&nothing).await.restored, 0);
    let mut discard = |_: &HeldDelivery| Disposition::Discard;
    let purged = world.memory.triage(place, &mut discard);
    assert_eq!(purged.await.expect("purged").discarded, 1);
    assert_eq!(world.compare(&nothing).await.restored, 1);
}

#[test]
fn a_mark_of_a_clock_that_was_ahead_is_none() {
    let now_ms = NOW_S * 1000;
    assert_eq!(begin_ms(Some(now_ms + 1), now_ms), now_ms - LOOK_BACK_MS);
    assert_eq!(begin_ms(None, now_ms), now_ms - LOOK_BACK_MS);
    assert_eq!(begin_ms(Some(now_ms), now_ms), now_ms - OVERLAP_MS);
    assert_eq!(begin_ms(Some(0), now_ms), now_ms - LONGEST_LOOK_BACK_MS);
}
