//! Deliveries, commits and waits that the cases share.

use std::time::Duration;

use bytes::Bytes;
use revwatch_core::bucket::{Bucket, Buckets};
use revwatch_core::condition::{Condition, ConditionKey, ConditionKind};
use revwatch_core::counters::Counters;
use revwatch_core::entity::{EntityKey, EntityKind};
use revwatch_core::realm::Realm;
use revwatch_storage::ports::{
    AuditEntry, Commit, Committed, ConditionChange, Consumer, DedupeKey, Delivery, DueWindow,
    EntityWrite, EventQueue, Fence, ReadSet, StateStore,
};
use uuid::Uuid;

use crate::support::wait::until_within;

/// The number of partitions of every queue and store under test.
pub(crate) const PARTITIONS: u32 = 4;

/// The day of dedupe keys, in days since 1970.
pub(crate) const DAY: u32 = 20_000;

/// The lifetime of a lease that does not expire during a test.
pub(crate) const LONG_MS: u64 = 600_000;

/// The lifetime of a lease whose expiry a test awaits.
pub(crate) const SHORT_MS: u64 = 50;

/// A typical delivery; `n` makes it unique.
pub(crate) fn delivery(partition: u32, n: u32) -> Delivery {
    Delivery {
        id: Uuid::now_v7(),
        event_id: format!("evt_{n}"),
        event_type: "payout.failed".to_owned(),
        partition,
        endpoint: "stripe".to_owned(),
        received_ms: 1_700_000_000_000 + i64::from(n),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        body: Bytes::from(format!(r#"{{"id":"evt_{n}"}}"#)),
    }
}

/// Publishes one after the other.
pub(crate) async fn publish_all(queue: &dyn EventQueue, deliveries: &[Delivery]) {
    for delivery in deliveries {
        within(queue.publish(delivery.clone()))
            .await
            .expect("published");
    }
}

/// Receives the next `count` deliveries, and acknowledges them if `ack`.
pub(crate) async fn receive(consumer: &mut dyn Consumer, count: usize, ack: bool) -> Vec<Delivery> {
    let mut received = Vec::new();
    while received.len() < count {
        let batch = within(consumer.next(count - received.len()))
            .await
            .expect("deliveries");
        assert!(!batch.is_empty(), "a batch is never empty");
        received.extend(batch);
    }
    assert_eq!(received.len(), count, "no more than requested");
    if ack {
        consumer.ack().await.expect("acknowledged");
    }
    received
}

/// Fails the test if the future takes too long.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future)
        .await
        .expect("a result within 30 s")
}

/// Waits until it is true, for what a server does asynchronously.
pub(crate) async fn eventually(what: &str, is_true: impl AsyncFn() -> bool) {
    until_within(Duration::from_secs(60), what, || async {
        is_true().await.then_some(())
    })
    .await;
}

pub(crate) fn dedupe_key(key: &str, delivery: Uuid) -> DedupeKey {
    DedupeKey {
        day: DAY,
        key: key.into(),
        delivery,
    }
}

pub(crate) fn payout(id: &str) -> EntityKey {
    EntityKey::new(EntityKind::Payout, id)
}

pub(crate) fn write(id: &str, expected: u64, body: &[u8]) -> EntityWrite {
    EntityWrite {
        key: payout(id),
        expected,
        body: Some(body.to_vec()),
    }
}

pub(crate) fn window(after_s: i64, until_s: i64) -> DueWindow {
    DueWindow { after_s, until_s }
}

pub(crate) fn condition(id: &str, due_s: i64) -> Condition {
    Condition {
        key: ConditionKey {
            kind: ConditionKind::PayoutFailed,
            subject: payout(id),
        },
        since_s: due_s,
        began_before: None,
        due_s,
        account: Some("acct_1".into()),
        realm: Realm::MAIN,
        customer: None,
        money: None,
        detail: Some("account_closed".into()),
        event_id: "evt_1".into(),
        times: None,
        answer_by_s: None,
        trial_end_s: None,
        further_money: Vec::new(),
        uncertain: None,
    }
}

pub(crate) fn audit(at_s: i64, what: &str) -> AuditEntry {
    AuditEntry {
        at_s,
        subject: payout("po_1"),
        event_id: format!("evt_{at_s}"),
        what: what.into(),
    }
}

/// A commit that changes everything a commit can change.
pub(crate) fn full(partition: u32, id: &str, delivery: Uuid) -> Commit {
    let mut counters = Counters::default();
    counters.add(Bucket::Current, &["payouts", "failed"], 1);
    counters.add(Bucket::Hour(DAY * 24 + 5), &["payouts", "failed"], 1);
    Commit {
        partition,
        dedupe_keys: vec![dedupe_key(&format!("evt_{id}"), delivery)],
        entities: vec![write(id, 0, b"first")],
        counters,
        conditions: vec![ConditionChange::Open(condition(id, 1_000))],
        audit: vec![audit(1_000, id)],
        high_watermark_ms: 0,
        conversion: None,
    }
}

/// The state that commits of some entities may have changed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Everything {
    pub(crate) dedupe_keys: Vec<Option<Uuid>>,
    pub(crate) versions: Vec<Option<u64>>,
    pub(crate) counters: Counters,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) changes: usize,
    pub(crate) audit: Vec<AuditEntry>,
}

/// Reads it.
pub(crate) async fn everything(store: &dyn StateStore, partition: u32, ids: &[&str]) -> Everything {
    let read_set = ReadSet {
        dedupe_keys: ids.iter().map(|id| (DAY, format!("evt_{id}"))).collect(),
        entities: ids.iter().map(|id| payout(id)).collect(),
    };
    let found = store.read(partition, &read_set).await.expect("read");
    let mut conditions = store.conditions().await.expect("conditions");
    conditions.sort_by(|a, b| a.key.cmp(&b.key));
    Everything {
        dedupe_keys: found.dedupe_keys,
        versions: found
            .entities
            .iter()
            .map(|e| e.as_ref().map(|e| e.version))
            .collect(),
        counters: store
            .counters(&Buckets::of_hours(0, u32::MAX))
            .await
            .expect("counters"),
        conditions,
        changes: store
            .condition_changes(&Default::default(), 1_000)
            .await
            .expect("changes")
            .changes
            .len(),
        audit: store.audit(100).await.expect("audit"),
    }
}

/// Commits and expects that it is applied.
pub(crate) async fn applied(store: &dyn StateStore, commit: &Commit) {
    assert_eq!(
        store.commit(commit).await.expect("commit"),
        Committed::Applied
    );
}

/// Opens a condition.
pub(crate) async fn open(store: &dyn StateStore, partition: u32, condition: &Condition) {
    let conditions = vec![ConditionChange::Open(condition.clone())];
    applied(
        store,
        &Commit {
            partition,
            conditions,
            ..Commit::default()
        },
    )
    .await;
}

/// Takes the lease of the evaluator.
pub(crate) async fn take_lease(store: &dyn StateStore, holder: &str, ttl_ms: u64) -> Option<Fence> {
    store
        .lease("alerting", holder, ttl_ms)
        .await
        .expect("lease")
}

/// Recovers every partition without a replay. Returns the server run id of each.
pub(crate) async fn make_complete(store: &dyn StateStore, recovery_id: &str) -> Vec<String> {
    let mut run_ids = Vec::new();
    for (partition, health) in (0..).zip(store.health().await.expect("health")) {
        store
            .begin_recovery(partition, recovery_id, 0)
            .await
            .expect("begin");
        assert!(
            store
                .end_recovery(partition, recovery_id, &health.server_run_id)
                .await
                .expect("end")
        );
        run_ids.push(health.server_run_id);
    }
    run_ids
}

/// Unix seconds.
pub(crate) fn now_s() -> i64 {
    jiff::Timestamp::now().as_second()
}
