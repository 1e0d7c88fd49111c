//! An event at which revwatch panics is a dead letter: its partition, and a replay of it, continue.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use revwatch_core::entity::{Entity, Update};
use revwatch_core::event::Event;
use revwatch_core::observe::{ObserveSettings, observe};
use revwatch_core::pauses::Pauses;
use revwatch_runtime::admin::Readiness;
use revwatch_runtime::telemetry::Metrics;
use revwatch_storage::memory::{Memory, VirtualClock};
use revwatch_storage::ports::{
    Commit, Consume as _, Delivery, Entities as _, EntityWrite, HeldDelivery, Holding as _,
    HoldingQueue, Publish as _, StateStore,
};
use revwatch_worker::recovery::replay;
use revwatch_worker::{Worker, run};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

fn payout(n: u32) -> String {
    json!({"id": format!("evt_{n}"), "type": "payout.paid", "created": 1_800_000_000, "data": {"object": {
        "id": format!("po_{n}"), "object": "payout", "status": "paid", "amount": 500, "currency": "usd"}}})
    .to_string()
}

fn subscription(n: u32) -> String {
    json!({"id": format!("evt_{n}"), "type": "customer.subscription.updated", "created": 1_800_000_000 + n, "data": {
        "object": {"id": "sub_1", "object": "subscription", "status": "active", "customer": "cus_1", "currency": "usd",
            "items": {"data": [{"id": "si_1", "quantity": 1, "price": {"id": "price_1", "unit_amount": 900,
                "currency": "usd", "recurring": {"interval": "month", "interval_count": 1}}}]}},
        "previous_attributes": {"cancel_at_period_end": true}}})
    .to_string()
}

/// Stores a subscription whose MRR is so low that revwatch panics at the next change of it: see `Level::change_to`.
async fn store_panicking(store: &dyn StateStore) -> EntityWrite {
    let body = subscription(0);
    let event = Event::parse(body.as_bytes()).expect("an event");
    let mut observed = observe(&event, &ObserveSettings::default()).expect("readable");
    let observation = observed
        .iter_mut()
        .find(|it| it.key.id == "sub_1")
        .expect("of the subscription");
    let Update::Subscription(_, state) = &mut observation.update else {
        panic!("{observation:?}");
    };
    Arc::make_mut(&mut state.facts).recurring_minor = Some(i64::MIN);
    let mut entity = Entity::new(&observation.key);
    entity.merge(observation);
    let write = EntityWrite {
        key: observation.key.clone(),
        expected: 0,
        body: Some(entity.encode()),
    };
    let commit = Commit {
        entities: vec![write.clone()],
        ..Commit::default()
    };
    store.commit(&commit).await.expect("committed");
    write
}

fn delivery(n: u32, body: String) -> Delivery {
    Delivery {
        id: Uuid::from_u128(n.into()),
        event_id: format!("evt_{n}"),
        event_type: "payout.paid".into(),
        partition: 0,
        endpoint: "stripe".into(),
        received_ms: 1_800_000_000_000,
        traceparent: None,
        body: body.into(),
    }
}

async fn dead_letters(memory: &Memory) -> Vec<HeldDelivery> {
    let letters = memory.oldest_held(HoldingQueue::DeadLetters, 10).await;
    letters.expect("read")
}

async fn started() -> (Memory, Worker, EntityWrite) {
    let start = Timestamp::from_second(1_800_000_100).expect("a time");
    let clock = Arc::new(VirtualClock::starting_at(start));
    let memory = Memory::new(1, clock);
    let subscription_write = store_panicking(&memory).await;
    for (n, body) in [(1, payout(1)), (2, subscription(2)), (3, payout(3))] {
        let published = memory.publish(delivery(n, body)).await;
        published.expect("published");
    }
    let (queue, readiness) = (Arc::new(memory.reopen()), Readiness::default());
    let worker = support::worker(queue.clone(), queue, &Metrics::new(), &readiness);
    (memory, worker, subscription_write)
}

/// One dead letter with its reason, and the subscription as it was.
async fn is_dead_alone(memory: &Memory, stored: &EntityWrite) {
    let letters = dead_letters(memory).await;
    let [letter] = &letters[..] else {
        panic!("{letters:?}");
    };
    assert_eq!(letter.delivery.event_id, "evt_2");
    let reason = "revwatch failed on this event (panic at ";
    assert!(letter.reason.starts_with(reason), "{}", letter.reason);
    let found = memory.entity(&stored.key).await.expect("read");
    assert_eq!(found.map(|it| it.body), stored.body);
}

#[tokio::test(start_paused = true)]
async fn a_partition_continues_after_an_event_at_which_revwatch_panics() {
    let (memory, worker, stored) = started().await;
    let (metrics, shutdown) = (worker.metrics.clone(), CancellationToken::new());
    let count = |kind: &str, outcome: &str| {
        let labels = [kind, outcome];
        metrics.worker_events.with_label_values(&labels).get()
    };
    let running = tokio::spawn(run(worker, shutdown.clone()));
    let all_done = async {
        while count("payout.paid", "applied") < 2 || count("payout.paid", "dead") < 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all_done)
        .await
        .expect("all are decided");
    assert_eq!(memory.depth().await.expect("read"), [0]);
    is_dead_alone(&memory, &stored).await;
    shutdown.cancel();
    running.await.expect("no panic");
}

#[tokio::test(start_paused = true)]
async fn a_replay_continues_after_an_event_at_which_revwatch_panics() {
    let (memory, worker, stored) = started().await;
    for _ in 0..2 {
        let (from, pauses) = (BTreeMap::from([(0, 0)]), Pauses::default().into());
        let replayed = replay(&worker, from, &pauses, &mut |_| ()).await;
        assert_eq!(replayed.expect("replayed").read, 3);
        is_dead_alone(&memory, &stored).await;
    }
}
