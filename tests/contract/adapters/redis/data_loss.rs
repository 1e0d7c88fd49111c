//! A server that lost data.

use revwatch_storage::ports::{
    ChangeCursor, Commit, ConditionChange, ConditionFeed, Coordination, Documents, Health,
    Recovery, StoreError,
};
use uuid::Uuid;

use super::{SharedCluster, connected};
use crate::contract::StorePlace;
use crate::contract::fixtures::{PARTITIONS, applied, condition, full, make_complete, open};
use crate::support::wait::until;

#[tokio::test]
async fn lost_data_is_a_gap() {
    let (server, store) = connected().await;
    for i in 0..5 {
        open(&store, 0, &condition(&format!("po_{i}"), i)).await;
    }
    let read = store
        .condition_changes(&ChangeCursor::new(), 100)
        .await
        .expect("changes");

    server.run::<()>("FLUSHALL");
    let lost = store
        .condition_changes(&read.cursor, 100)
        .await
        .expect("changes");
    assert!(lost.gap && lost.changes.is_empty());
    let after = store
        .condition_changes(&lost.cursor, 100)
        .await
        .expect("changes");
    assert!(!after.gap);

    // Even if there are more changes now than before.
    for i in 0..20 {
        open(&store, 0, &condition(&format!("po_{i}"), i)).await;
    }
    let late = store
        .condition_changes(&read.cursor, 100)
        .await
        .expect("changes");
    assert!(late.gap && late.changes.is_empty());
    let after = store
        .condition_changes(&late.cursor, 100)
        .await
        .expect("changes");
    assert!(!after.gap && after.changes.is_empty());
    let from_the_start = store
        .condition_changes(&lost.cursor, 100)
        .await
        .expect("changes");
    assert_eq!(from_the_start.changes.len(), 20);
}

#[tokio::test]
async fn trimmed_changes_are_a_gap() {
    let (server, store) = connected().await;
    open(&store, 0, &condition("po_0", 0)).await;
    open(&store, 1, &condition("po_1", 1)).await;
    let read = store
        .condition_changes(&ChangeCursor::new(), 100)
        .await
        .expect("changes");
    for i in 2..5 {
        open(&store, 0, &condition(&format!("po_{i}"), i)).await;
    }
    server.run::<()>("XTRIM revwatch:{p0}:changes MAXLEN 2");
    let found = store
        .condition_changes(&read.cursor, 100)
        .await
        .expect("changes");
    assert!(found.gap && found.changes.is_empty());
    open(&store, 0, &condition("po_9", 9)).await;
    let found = store
        .condition_changes(&found.cursor, 100)
        .await
        .expect("changes");
    assert!(!found.gap);
    assert_eq!(found.changes, [ConditionChange::Open(condition("po_9", 9))]);
}

#[tokio::test]
async fn a_fence_from_before_a_data_loss_is_refused() {
    let (server, store) = connected().await;
    let old = store
        .lease("alerting", "one", 60_000)
        .await
        .expect("lease")
        .expect("free");
    server.run::<()>("FLUSHALL");
    let new = store
        .lease("alerting", "two", 60_000)
        .await
        .expect("lease")
        .expect("free");
    assert!(new > old);
    assert!(matches!(
        store.write_documents(old, &[]).await,
        Err(StoreError::Fenced)
    ));
}

/// Otherwise a commit before the loss is noticed would hide it: the archive would be replayed only from that
/// commit on.
#[tokio::test]
async fn the_high_watermark_stays_from_a_restart_until_the_partition_is_complete() {
    let (mut server, store) = connected().await;
    let run_id = make_complete(&store, "first").await.remove(1);
    let commit = |received_ms: i64| Commit {
        high_watermark_ms: received_ms,
        ..full(1, &format!("po_{received_ms}"), Uuid::now_v7())
    };
    let high_watermark_ms = async || {
        store
            .health()
            .await
            .expect("health")
            .swap_remove(1)
            .high_watermark_ms
    };
    applied(&store, &commit(1_000)).await;
    server.restart();
    let again = until("the server responds again", || async {
        store.health().await.ok()
    })
    .await;
    assert_ne!(again[1].server_run_id, run_id);
    applied(&store, &commit(9_000_000)).await;
    assert_eq!(high_watermark_ms().await, Some(1_000));
    make_complete(&store, "second").await;
    applied(&store, &commit(9_000_001)).await;
    assert_eq!(high_watermark_ms().await, Some(9_000_001));
}

/// It may lag by less than a second, which makes a recovery start earlier. It is never ahead.
#[tokio::test]
async fn the_high_watermark_is_recorded_once_per_second() {
    let (_server, store) = connected().await;
    make_complete(&store, "first").await;
    for (received_ms, recorded_ms) in [
        (5, 5),
        (1_004, 5),
        (1_005, 1_005),
        (900, 1_005),
        (60_000, 60_000),
    ] {
        applied(
            &store,
            &Commit {
                high_watermark_ms: received_ms,
                ..full(1, &format!("po_{received_ms}"), Uuid::now_v7())
            },
        )
        .await;
        assert_eq!(
            store
                .health()
                .await
                .expect("health")
                .swap_remove(1)
                .high_watermark_ms,
            Some(recorded_ms),
            "after {received_ms}"
        );
    }
}

/// A recovery starts from the present data, not from an earlier health report.
#[tokio::test]
async fn a_recovery_of_an_emptied_partition_starts_at_the_beginning() {
    let (mut server, store) = connected().await;
    make_complete(&store, "first").await;
    applied(
        &store,
        &Commit {
            high_watermark_ms: 7_200_000,
            ..full(1, "po_1", Uuid::now_v7())
        },
    )
    .await;
    server.restart();
    let health = until("the server responds again", || async {
        store.health().await.ok()
    })
    .await;
    assert_eq!(
        (health[1].high_watermark_ms, health[1].is_complete()),
        (Some(7_200_000), false)
    );
    server.run::<()>("FLUSHALL");
    let begun = store
        .begin_recovery(1, "a", 3_600_000)
        .await
        .expect("begin");
    assert_eq!(begun, ("a".to_owned(), 0));
}

#[tokio::test]
async fn only_partitions_on_the_cluster_node_that_lost_data_are_incomplete() {
    let place = SharedCluster::empty().await;
    let store = place.store().await;
    make_complete(&*store, "first").await;
    for partition in 0..PARTITIONS {
        applied(
            &*store,
            &Commit {
                high_watermark_ms: 1_000,
                ..full(partition, &format!("po_{partition}"), Uuid::now_v7())
            },
        )
        .await;
    }
    let complete = async || -> Vec<bool> {
        store
            .health()
            .await
            .expect("health")
            .iter()
            .map(Health::is_complete)
            .collect()
    };
    let mut lost = 0;
    for node in &place.cluster.nodes {
        node.run::<()>("FLUSHALL");
        let now = complete().await;
        lost += now.iter().filter(|complete| !**complete).count();
        for (partition, _) in (0..).zip(&now).filter(|(_, complete)| !**complete) {
            let health = store
                .health()
                .await
                .expect("health")
                .swap_remove(partition as usize);
            assert_eq!((health.high_watermark_ms, health.recovery), (None, None));
            assert_eq!(
                store
                    .begin_recovery(partition, "again", 10)
                    .await
                    .expect("begin"),
                ("again".to_owned(), 0)
            );
            assert!(
                store
                    .end_recovery(partition, "again", &health.server_run_id)
                    .await
                    .expect("end")
            );
        }
        assert_eq!(complete().await, [true; PARTITIONS as usize]);
    }
    assert_eq!(lost, PARTITIONS as usize, "each partition is on one node");
}
