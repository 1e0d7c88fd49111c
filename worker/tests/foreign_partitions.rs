//! A replay finds the deliveries of a partition wherever the version that archived them put them.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use revwatch_core::entity::{EntityKey, EntityKind};
use revwatch_core::event::Event;
use revwatch_core::pauses::Pauses;
use revwatch_runtime::admin::Readiness;
use revwatch_runtime::telemetry::Metrics;
use revwatch_storage::ports::{Delivery, Entities as _, Publish as _};
use revwatch_storage::sqlite::{Open, Sqlite};
use revwatch_worker::recovery::replay;
use uuid::Uuid;

const PARTITIONS: u32 = 4;

const FAILED: &str = r#"{"id":"evt_1","type":"payout.failed","created":7200,"account":"acct_1","data":{"object":
    {"id":"po_1","object":"payout","status":"failed","amount":500,"currency":"usd","failure_code":"account_closed"}}}"#;

#[tokio::test]
async fn a_replay_of_one_partition_reads_what_was_archived_in_another() {
    let folder = tempfile::tempdir().expect("a folder");
    let sqlite = Sqlite::open(
        folder.path(),
        Open::Create {
            partitions: PARTITIONS,
        },
    )
    .expect("a store");
    let own = Event::parse(FAILED.as_bytes())
        .expect("an event")
        .partition(PARTITIONS);
    let archived_in = (own + 1) % PARTITIONS;
    let delivery = Delivery {
        id: Uuid::from_u128(1),
        event_id: "evt_1".into(),
        event_type: "payout.failed".into(),
        partition: archived_in,
        endpoint: "stripe".into(),
        received_ms: 7_201_000,
        traceparent: None,
        body: Bytes::from_static(FAILED.as_bytes()),
    };
    sqlite.publish(delivery).await.expect("published");
    let (queue, readiness) = (Arc::new(sqlite.clone()), Readiness::default());
    let worker = support::worker(queue.clone(), queue, &Metrics::new(), &readiness);
    for (partition, applied) in [(archived_in, 0), (own, 1)] {
        let from = BTreeMap::from([(partition, 0)]);
        let pauses = Pauses::default().into();
        let summary = replay(&worker, from, &pauses, &mut |_| ())
            .await
            .expect("replayed");
        assert_eq!((summary.read, summary.applied), (applied, applied));
    }
    let payout = EntityKey::new(EntityKind::Payout, "po_1");
    assert!(sqlite.entity(&payout).await.expect("read").is_some());
}
