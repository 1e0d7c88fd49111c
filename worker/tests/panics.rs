//! A worker task that panics is restarted: every partition is still read, and `/readyz` reports the
//! failure for a while.

mod support;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use revwatch_runtime::admin::Readiness;
use revwatch_runtime::telemetry::Metrics;
use revwatch_storage::ports::{
    Archive, Consume, Consumer, Delivery, Disposition, EventQueue, HeldDelivery, Holding,
    HoldingQueue, Journal, JournalEntry, Probed, Publish, QueueError, Replay, TriageSummary,
};
use revwatch_storage::sqlite::{Open, Sqlite};
use revwatch_worker::run;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// A queue that panics on the first call of `consume` and on the first count of parked deliveries.
struct PanickingQueue {
    queue: Sqlite,
    consumed: AtomicBool,
    counted: AtomicBool,
}

fn panic_on_first_call(called: &AtomicBool) {
    assert!(called.swap(true, Ordering::SeqCst), "the intended panic");
}

#[async_trait]
impl Publish for PanickingQueue {
    fn partitions(&self) -> u32 {
        self.queue.partitions()
    }

    async fn publish(&self, delivery: Delivery) -> Result<(), QueueError> {
        self.queue.publish(delivery).await
    }

    async fn probe(&self) -> Result<Probed, QueueError> {
        self.queue.probe().await
    }
}

#[async_trait]
impl Consume for PanickingQueue {
    async fn consume(&self, partition: u32) -> Result<Box<dyn Consumer>, QueueError> {
        panic_on_first_call(&self.consumed);
        self.queue.consume(partition).await
    }

    async fn depth(&self) -> Result<Vec<u64>, QueueError> {
        self.queue.depth().await
    }
}

#[async_trait]
impl Holding for PanickingQueue {
    async fn hold(&self, queue: HoldingQueue, held: HeldDelivery) -> Result<(), QueueError> {
        self.queue.hold(queue, held).await
    }

    async fn visit_held(
        &self,
        queue: HoldingQueue,
        each: &mut (dyn FnMut(HeldDelivery) -> ControlFlow<()> + Send),
    ) -> Result<(), QueueError> {
        self.queue.visit_held(queue, each).await
    }

    async fn triage(
        &self,
        queue: HoldingQueue,
        decide: &mut (dyn for<'a> FnMut(&'a HeldDelivery) -> Disposition + Send),
    ) -> Result<TriageSummary, QueueError> {
        self.queue.triage(queue, decide).await
    }

    async fn held_count(&self, queue: HoldingQueue) -> Result<u64, QueueError> {
        if queue == HoldingQueue::Parked {
            // Maintenance calls this.
            panic_on_first_call(&self.counted);
        }
        self.queue.held_count(queue).await
    }
}

#[async_trait]
impl Replay for PanickingQueue {
    async fn archive(&self, from_ms: i64) -> Result<Box<dyn Archive>, QueueError> {
        self.queue.archive(from_ms).await
    }

    fn is_apart(&self) -> bool {
        self.queue.is_apart()
    }

    async fn oldest_ms(&self) -> Result<Option<i64>, QueueError> {
        self.queue.oldest_ms().await
    }
}

#[async_trait]
impl Journal for PanickingQueue {
    async fn append_journal(&self, entries: Vec<JournalEntry>) -> Result<(), QueueError> {
        self.queue.append_journal(entries).await
    }

    async fn probe_journal(&self) -> Result<(), QueueError> {
        self.queue.probe_journal().await
    }

    async fn read_journal(
        &self,
        each: &mut (dyn FnMut(JournalEntry) + Send),
    ) -> Result<(), QueueError> {
        self.queue.read_journal(each).await
    }
}

#[async_trait]
impl EventQueue for PanickingQueue {
    async fn close(&self) {
        self.queue.close().await;
    }
}

#[tokio::test]
async fn maintenance_and_a_partition_restart_after_a_panic() {
    const LONG_TIMEOUT: Duration = Duration::from_secs(30);
    let folder = tempfile::tempdir().expect("a folder");
    let sqlite = Sqlite::open(folder.path(), Open::Create { partitions: 1 }).expect("a store");
    let queue = Arc::new(PanickingQueue {
        queue: sqlite.clone(),
        consumed: AtomicBool::new(false),
        counted: AtomicBool::new(false),
    });
    let (metrics, readiness, shutdown) = (
        Metrics::new(),
        Readiness::default(),
        CancellationToken::new(),
    );
    let body = r#"{"id":"evt_1","object":"event","type":"payout.paid","created":1800000000,"data":{"object":{
        "id":"po_1","object":"payout","status":"paid","amount":100,"currency":"eur"}}}"#;
    let delivery = Delivery {
        id: Uuid::now_v7(),
        event_id: "evt_1".into(),
        event_type: "payout.paid".into(),
        partition: 0,
        endpoint: "stripe".into(),
        received_ms: 1_800_000_000_000,
        traceparent: None,
        body: Bytes::from_static(body.as_bytes()),
    };
    queue.publish(delivery).await.expect("published");
    let worker = support::worker(queue.clone(), Arc::new(sqlite), &metrics, &readiness);
    let running = tokio::spawn(run(worker, shutdown.clone()));
    let both_restarted = async {
        let applied = metrics
            .worker_events
            .with_label_values(&["payout.paid", "applied"]);
        while applied.get() == 0 || !queue.counted.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(LONG_TIMEOUT, both_restarted)
        .await
        .expect("the partition is read");
    assert!(
        !readiness.is_ready(),
        "not ready for some seconds after a panic"
    );
    let ready_again = async {
        while !readiness.is_ready() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LONG_TIMEOUT, ready_again)
        .await
        .expect("it is ready again");
    shutdown.cancel();
    tokio::time::timeout(LONG_TIMEOUT, running)
        .await
        .expect("it ends")
        .expect("no panic");
}
