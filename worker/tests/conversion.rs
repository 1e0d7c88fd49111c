//! A worker on a store whose state has another format.

mod support;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use revwatch_core::bucket::{Bucket, Buckets};
use revwatch_core::entity::{Entity, EntityKey, EntityKind, STATE_FORMAT};
use revwatch_core::event::Event;
use revwatch_core::observe::{ObserveSettings, observe};
use revwatch_runtime::admin::Readiness;
use revwatch_runtime::telemetry::Metrics;
use revwatch_storage::memory::{Memory, VirtualClock};
use revwatch_storage::ports::{
    Aggregates as _, Commit, Consume as _, Coordination as _, Delivery, Entities as _, EntityWrite,
    Health, Publish as _, Recovery as _,
};
use revwatch_worker::membership::GROUP;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const PARTITIONS: u32 = 2;

const FAILED: &str = r#"{"id":"evt_1","type":"payout.failed","created":1795900000,"account":"acct_1","data":{"object":
    {"id":"po_1","object":"payout","status":"failed","amount":500,"currency":"usd","failure_code":"account_closed"}}}"#;

const PAID: &str = r#"{"id":"evt_2","type":"payout.paid","created":1795900001,"account":"acct_1","data":{"object":
    {"id":"po_1","object":"payout","status":"paid","amount":500,"currency":"usd"}}}"#;

struct Running {
    memory: Memory,
    stop: CancellationToken,
    worker: tokio::task::JoinHandle<()>,
}

impl Running {
    fn new(memory: Memory) -> Self {
        let (store, readiness) = (Arc::new(memory.reopen()), Readiness::default());
        let worker = support::worker(store.clone(), store, &Metrics::new(), &readiness);
        let stop = CancellationToken::new();
        let worker = tokio::spawn(revwatch_worker::run(worker, stop.clone()));
        Self {
            memory,
            stop,
            worker,
        }
    }

    async fn publish(&self, body: &'static str) {
        let event = Event::parse(body.as_bytes()).expect("an event");
        let delivery = Delivery {
            id: Uuid::now_v7(),
            event_id: event.id.to_string(),
            event_type: event.kind.to_string(),
            partition: event.partition(PARTITIONS),
            endpoint: "stripe".into(),
            received_ms: 1_795_900_001_000,
            traceparent: None,
            body: body.into(),
        };
        self.memory.publish(delivery).await.expect("published");
    }

    /// The time is virtual: it passes while everything waits.
    async fn eventually(&self, what: &str, is_true: impl AsyncFn(&Memory) -> bool) {
        for _ in 0..600 {
            if is_true(&self.memory).await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("not within a minute: {what}");
    }

    async fn end(self) {
        self.stop.cancel();
        self.worker.await.expect("no panic");
    }
}

fn memory() -> Memory {
    let start = Timestamp::from_second(1_795_900_000).expect("a time");
    Memory::new(PARTITIONS, Arc::new(VirtualClock::starting_at(start)))
}

async fn is_complete(memory: &Memory) -> bool {
    let health = memory.health().await.expect("health");
    health.iter().all(Health::is_complete)
}

async fn applied(memory: &Memory) -> i64 {
    let count = memory.current_counters(&["events|applied"]).await;
    count.expect("read")
}

async fn waiting(memory: &Memory) -> u64 {
    memory.depth().await.expect("depth").iter().sum()
}

#[tokio::test(start_paused = true)]
async fn nothing_is_converted_or_applied_while_a_worker_of_another_version_lives() {
    let memory = memory();
    memory.faults().set_state_format(1);
    let lives = async |memory: &Memory| {
        let joined = memory.heartbeat(GROUP, "worker-old", 5000).await;
        joined.expect("joined");
    };
    lives(&memory).await;
    let running = Running::new(memory);
    running.publish(FAILED).await;
    for _ in 0..120 {
        lives(&running.memory).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let health = running.memory.health().await.expect("health");
    assert!(health.iter().all(|it| it.state_format == 1), "{health:?}");
    assert_eq!(waiting(&running.memory).await, 1);

    let left = running.memory.leave(GROUP, "worker-old").await;
    left.expect("left");
    running
        .eventually("it is applied", async |memory| applied(memory).await == 1)
        .await;
    assert!(is_complete(&running.memory).await);
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_state_of_a_later_version_is_left_alone() {
    let memory = memory();
    memory.faults().set_state_format(STATE_FORMAT + 1);
    let running = Running::new(memory);
    running.publish(FAILED).await;
    tokio::time::sleep(Duration::from_mins(2)).await;
    let health = running.memory.health().await.expect("health");
    assert!(
        health
            .iter()
            .all(|it| it.state_format == STATE_FORMAT + 1 && it.conversion.is_none())
    );
    assert_eq!(waiting(&running.memory).await, 1);
    running.end().await;
}

/// Also a worker that has run for some time stops applying: an older copy of the store may have been put back.
#[tokio::test(start_paused = true)]
async fn a_running_worker_converts_a_state_that_becomes_an_older_one() {
    let running = Running::new(memory());
    running.publish(FAILED).await;
    running
        .eventually("it is applied", async |memory| applied(memory).await == 1)
        .await;
    running.memory.faults().set_state_format(1);
    running.publish(PAID).await;
    running
        .eventually("it is applied", async |memory| applied(memory).await == 2)
        .await;
    assert!(is_complete(&running.memory).await);
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_version_writes_to_a_converted_state_has_it_converted_again() {
    let memory = memory();
    let key = EntityKey::new(EntityKind::Payout, "po_1");
    let event = Event::parse(FAILED.as_bytes()).expect("an event");
    let mut entity = Entity::new(&key);
    for observation in observe(&event, &ObserveSettings::default()).expect("readable") {
        if observation.key == key {
            entity.merge(&observation);
        }
    }
    let mut body = entity.encode();
    body[0] = 1;
    let mut written = Commit {
        partition: event.partition(PARTITIONS),
        entities: vec![EntityWrite {
            key: key.clone(),
            expected: 0,
            body: Some(body),
        }],
        ..Commit::default()
    };
    written
        .counters
        .add(Bucket::Current, &["counted", "otherwise"], 5);
    memory.commit(&written).await.expect("committed");

    let running = Running::new(memory);
    running.publish(PAID).await;
    running
        .eventually("it is applied", async |memory| applied(memory).await == 1)
        .await;
    assert!(is_complete(&running.memory).await);
    let stored = running.memory.entity(&key).await.expect("read");
    let stored = stored.expect("it exists").body;
    assert!(!Entity::has_older_encoding(&stored));
    let buckets = Buckets::of_hours(0, u32::MAX);
    let counters = running.memory.counters(&buckets).await.expect("read");
    assert_eq!(counters.get(Bucket::Current, &["counted", "otherwise"]), 0);
    let entity = Entity::decode(&key, &stored).expect("readable");
    let contributions = entity.contributions();
    let read = contributions
        .iter()
        .filter(|(bucket, ..)| buckets.contains(*bucket));
    for (bucket, name, value) in read {
        let found = counters.iter().find(|it| (it.0, it.1) == (bucket, name));
        assert_eq!(found.map(|it| it.2), Some(value), "{name}");
    }
    running.end().await;
}
