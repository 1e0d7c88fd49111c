use bytes::Bytes;
use jiff::Timestamp;
use revwatch_core::bucket::Buckets;
use revwatch_core::pauses::Scope;
use revwatch_core::realm::Realms;
use revwatch_storage::memory::{Memory, VirtualClock};
use revwatch_storage::ports::{
    Aggregates as _, Consume as _, Coordination as _, Disposition, Holding as _, Publish as _,
};

use super::*;
use crate::partition::{Source, apply};
use crate::test_worker::worker;

const NOW_S: i64 = 1_700_000_000;
const INTERVAL: Duration = Duration::from_mins(1);

struct World {
    memory: Memory,
    worker: Worker,
    clock: Arc<VirtualClock>,
    suspects: Suspects,
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
            suspects: Suspects::new(INTERVAL),
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

    async fn compare(&mut self, pauses: &Pauses) -> Compared {
        let lease = self.memory.lease(LEASE, "me", LEASE_TTL_MS).await;
        let lease = Lease {
            holder: "me",
            fence: lease.expect("an answer").expect("the lease"),
            renewed: Instant::now(),
        };
        let stop = CancellationToken::new();
        compare(&self.worker, pauses, lease, &mut self.suspects, &stop)
            .await
            .expect("compared")
    }

    /// The comparison an interval later.
    async fn compare_again(&mut self, pauses: &Pauses) -> Compared {
        tokio::time::advance(INTERVAL).await;
        self.clock.jump(INTERVAL);
        self.compare(pauses).await
    }

    /// A worker processes what waits in a partition.
    async fn work(&self, partition: u32) -> usize {
        let mut consumer = self.memory.consume(partition).await.expect("a consumer");
        let depth = self.memory.depth().await.expect("the depth");
        if depth[partition as usize] == 0 {
            return 0;
        }
        let waiting = consumer.next(1_000).await.expect("deliveries");
        self.process(&waiting).await;
        consumer.ack().await.expect("acknowledged");
        waiting.len()
    }

    async fn process(&self, deliveries: &[Delivery]) {
        let pauses = PauseHistory::from(Pauses::default());
        for delivery in deliveries {
            let some = std::slice::from_ref(delivery);
            let applied = apply(
                &self.worker,
                delivery.partition,
                some,
                &pauses,
                Source::Queue,
            );
            applied.await.expect("applied");
        }
    }

    async fn counted(&self) -> i64 {
        let buckets = Buckets::of_hours(0, u32::MAX);
        let counters = self.memory.counters(&buckets).await.expect("read");
        counters.get(Bucket::hour_of(NOW_S), &["events", "restored"])
    }
}

#[tokio::test(start_paused = true)]
async fn what_two_comparisons_miss_goes_back_into_its_queue_and_counts_once() {
    let (mut world, nothing) = (World::new(), Pauses::default());
    for n in 1..=5 {
        world.receive(n, 60_000).await;
    }
    assert_eq!(world.compare(&nothing).await.read, 0, "everything waits");
    world.memory.faults().lose_waiting();
    let found = world.compare(&nothing).await;
    assert_eq!((found.read, found.put_back), (5, 0), "it may be in hand");
    let found = world.compare(&nothing).await;
    assert_eq!(found.put_back, 0, "no interval has passed");
    assert_eq!(world.compare_again(&nothing).await.put_back, 5);
    assert_eq!(world.counted().await, 5);
    assert_eq!(world.worker.metrics.deliveries_restored.get(), 5);
    assert_eq!(world.work(0).await + world.work(1).await, 5);
    for _ in 0..3 {
        assert_eq!(world.compare_again(&nothing).await.put_back, 0);
    }
    world
        .clock
        .jump(Duration::from_millis(OVERLAP_MS.unsigned_abs()));
    world.compare(&nothing).await;
    let found = world.compare_again(&nothing).await;
    assert_eq!(found.read, 0, "it goes on where the last comparison ended");
}

#[tokio::test(start_paused = true)]
async fn what_a_worker_still_has_in_hand_is_not_lost() {
    let (mut world, nothing) = (World::new(), Pauses::default());
    let mut in_hand = Vec::new();
    for n in 1..=40 {
        let age_ms = 600_000 - 10_000 * i64::try_from(n).expect("small");
        in_hand.push(world.receive(n, age_ms).await);
    }
    world.memory.faults().lose_waiting();
    in_hand.retain(|delivery| delivery.partition == 0);
    assert!(in_hand.len() > 5, "some are of this partition");
    let others = 40 - in_hand.len() as u64;
    assert_eq!(world.compare(&nothing).await.put_back, 0);
    // Its worker is slow: the first was lost, it comes to one for each interval.
    let lost = in_hand.remove(0);
    for (round, delivery) in in_hand.iter().enumerate() {
        world.process(std::slice::from_ref(delivery)).await;
        let put_back = world.compare_again(&nothing).await.put_back;
        let expected = if round == 0 { others + 1 } else { 0 };
        assert_eq!(put_back, expected, "round {round}");
        world.work(1).await;
        world.work(0).await;
    }
    assert!(!in_hand.contains(&lost));
}

#[tokio::test(start_paused = true)]
async fn what_a_pause_explains_is_not_lost_and_a_purged_pause_is() {
    let (mut world, nothing) = (World::new(), Pauses::default());
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
    for _ in 0..3 {
        assert_eq!(world.compare_again(&pauses).await.put_back, 0);
    }
    for _ in 0..3 {
        let found = world.compare_again(&nothing).await;
        assert_eq!((found.read, found.put_back), (1, 0), "it is parked still");
    }
    world.clock.jump(Duration::from_hours(1));
    let found = world.compare_again(&pauses).await;
    assert_eq!(found.read, 1, "the mark is where it was held back");
    let found = world.compare_again(&pauses).await;
    assert_eq!(found.read, 0, "a long pause is not read again and again");
    // The pause has ended, and nothing was requeued yet, for however long.
    for _ in 0..3 {
        assert_eq!(world.compare_again(&nothing).await.put_back, 0);
    }
    let mut discard = |_: &HeldDelivery| Disposition::Discard;
    let purged = world.memory.triage(place, &mut discard);
    assert_eq!(purged.await.expect("purged").discarded, 1);
    assert_eq!(world.compare_again(&nothing).await.put_back, 0);
    assert_eq!(world.compare_again(&nothing).await.put_back, 1);
}

#[tokio::test(start_paused = true)]
async fn an_event_whose_dedupe_keys_may_have_ended_is_left_alone() {
    let (mut world, nothing) = (World::new(), Pauses::default());
    world.receive(1, 60_000).await;
    world.memory.faults().lose_waiting();
    // The events of this test were created at its beginning.
    world.clock.jump(Duration::from_hours(24 * 40));
    world.receive(2, 60_000).await;
    world.memory.faults().lose_waiting();
    for _ in 0..3 {
        assert_eq!(world.compare_again(&nothing).await.put_back, 0);
    }
}

#[test]
fn a_mark_of_a_clock_that_was_ahead_is_none() {
    let now_ms = NOW_S * 1000;
    let begin = |until_ms, held_back_ms, is_released| {
        let mark = Mark {
            until_ms,
            held_back_ms,
        };
        now_ms - begin_ms(Some(mark), is_released, now_ms)
    };
    assert_eq!(begin(now_ms + 1, None, true), LOOK_BACK_MS);
    assert_eq!(now_ms - begin_ms(None, true, now_ms), LOOK_BACK_MS);
    assert_eq!(begin(now_ms, None, true), OVERLAP_MS);
    assert_eq!(begin(0, None, true), LONGEST_LOOK_BACK_MS);
    let held_ms = now_ms - 86_400_000;
    assert_eq!(begin(now_ms, Some(held_ms), false), OVERLAP_MS);
    assert_eq!(
        begin(now_ms, Some(held_ms), true),
        OVERLAP_MS + 86_400_000,
        "the pause has ended"
    );
}
