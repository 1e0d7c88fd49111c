//! Memory: the failures that it makes on request.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use futures_util::FutureExt;
use jiff::{SignedDuration, Timestamp};
use revwatch_core::clock::Clock;
use revwatch_storage::memory;
use revwatch_storage::ports::{
    Commit, Committed, ConditionFeed, Consume, Entities, EventQueue, Publish, Recovery, StateStore,
};

use crate::contract::fixtures::{PARTITIONS, delivery, full, payout, receive};
use crate::contract::{QueuePlace, StorePlace};

/// Its clock starts at the hours that the cases count, and days pass on request.
pub(crate) struct Memory {
    adapter: memory::Memory,
    clock: Arc<ShiftedClock>,
}

impl Memory {
    pub(crate) async fn empty() -> Self {
        Self::new()
    }

    fn new() -> Self {
        let clock = Arc::new(ShiftedClock::default());
        Self {
            adapter: memory::Memory::new(PARTITIONS, clock.clone()),
            clock,
        }
    }
}

struct ShiftedClock(AtomicI64);

impl Default for ShiftedClock {
    fn default() -> Self {
        // 2024-10-04, the first of the hours that the cases count.
        let start_ms = 480_000 * 3_600_000;
        Self(AtomicI64::new(start_ms - Timestamp::now().as_millisecond()))
    }
}

impl Clock for ShiftedClock {
    fn now(&self) -> Timestamp {
        Timestamp::now() + SignedDuration::from_millis(self.0.load(Ordering::Relaxed))
    }
}

#[async_trait]
impl QueuePlace for Memory {
    async fn queue(&self) -> Box<dyn EventQueue> {
        Box::new(self.adapter.reopen())
    }
}

#[async_trait]
impl StorePlace for Memory {
    async fn store(&self) -> Box<dyn StateStore> {
        Box::new(self.adapter.reopen())
    }

    async fn let_days_pass(&self, days: Range<u32>) {
        let shift_ms = i64::from(days.end) * 86_400_000;
        self.clock.0.store(shift_ms, Ordering::Relaxed);
    }

    async fn make_older(&self) {
        self.adapter.faults().set_state_format(1);
    }
}

#[tokio::test]
async fn a_commit_that_times_out_is_applied_and_a_refused_one_is_not() {
    let memory = Memory::new().adapter;
    let commit = full(1, "po_1", uuid::Uuid::now_v7());
    memory.faults().refuse_commits(1);
    assert!(memory.commit(&commit).await.is_err());
    assert_eq!(memory.entity(&payout("po_1")).await.expect("read"), None);
    memory.faults().time_out_commits(1);
    assert!(memory.commit(&commit).await.is_err());
    let again = memory.commit(&commit).await.expect("commit");
    assert_eq!(again, Committed::AlreadyApplied);
}

#[tokio::test]
async fn rolled_back_commits_leave_every_partition_incomplete_and_a_gap_for_readers() {
    let memory = Memory::new().adapter;
    let commit = |id: &str, high_watermark_ms| Commit {
        high_watermark_ms,
        ..full(1, id, uuid::Uuid::now_v7())
    };
    let kept = commit("po_1", 10);
    memory.commit(&kept).await.expect("applied");
    let early = memory.condition_changes(&Default::default(), 10).await;
    let early = early.expect("changes").cursor;
    let lost = commit("po_2", 20);
    memory.commit(&lost).await.expect("applied");
    let late = memory.condition_changes(&early, 10).await;
    let late = late.expect("changes").cursor;

    memory.faults().roll_back_commits(1);
    assert!(
        memory
            .entity(&payout("po_1"))
            .await
            .expect("read")
            .is_some()
    );
    assert_eq!(memory.entity(&payout("po_2")).await.expect("read"), None);
    let health = memory.health().await.expect("health");
    assert!(health.iter().all(|partition| !partition.is_complete()));
    assert_eq!(health[1].high_watermark_ms, Some(10));

    let seen = memory.condition_changes(&late, 10).await.expect("changes");
    assert!(seen.gap);
    let seen = memory.condition_changes(&seen.cursor, 10).await;
    assert!(!seen.expect("changes").gap, "a gap is reported once");

    // The lost commit applies again, and only the reader that saw it has a gap.
    let again = memory.commit(&lost).await.expect("commit");
    assert_eq!(again, Committed::Applied);
    let seen = memory.condition_changes(&late, 10).await;
    assert!(seen.expect("changes").gap);
    let seen = memory.condition_changes(&early, 10).await.expect("changes");
    assert_eq!((seen.gap, seen.changes), (false, lost.conditions));

    let (id, from_ms) = memory.begin_recovery(1, "r", 3).await.expect("begin");
    assert_eq!((id.as_str(), from_ms), ("r", 7));
    let run = &health[1].server_run_id;
    assert!(memory.end_recovery(1, "r", run).await.expect("end"));
    assert!(memory.health().await.expect("health")[1].is_complete());
}

#[tokio::test]
async fn a_failed_publish_is_stored_or_not_as_requested() {
    let memory = Memory::new().adapter;
    for (stored, depth) in [(false, 0), (true, 1)] {
        memory.faults().fail_publishes(1, stored);
        assert!(memory.publish(delivery(0, 1)).await.is_err());
        assert_eq!(memory.depth().await.expect("depth")[0], depth);
    }
    memory.publish(delivery(0, 2)).await.expect("published");
    assert_eq!(memory.depth().await.expect("depth")[0], 2);
}

#[tokio::test]
async fn a_redelivery_returns_unacknowledged_deliveries_again() {
    let memory = Memory::new().adapter;
    let sent = [delivery(0, 1), delivery(0, 2)];
    for delivery in &sent {
        memory.publish(delivery.clone()).await.expect("published");
    }
    let mut consumer = memory.consume(0).await.expect("a consumer");
    receive(&mut *consumer, 1, true).await;
    assert_eq!(receive(&mut *consumer, 1, false).await, sent[1..]);
    memory.faults().redeliver();
    consumer
        .ack()
        .await
        .expect("an acknowledgement without effect");
    assert_eq!(receive(&mut *consumer, 1, true).await, sent[1..]);
    assert_eq!(memory.depth().await.expect("depth")[0], 0);
}

#[tokio::test]
async fn blocked_operations_wait_until_they_are_unblocked() {
    let memory = Memory::new().adapter;
    memory.faults().block(true);
    let mut health = memory.health();
    assert!((&mut health).now_or_never().is_none());
    assert!(memory.publish(delivery(0, 1)).now_or_never().is_none());
    memory.faults().block(false);
    health.await.expect("health");
    assert_eq!(memory.depth().await.expect("depth")[0], 0);
}
