//! Whether a partition still has everything that was committed to it.

use revwatch_core::counters::Counters;
use revwatch_storage::ports::{Commit, DocumentWrite, Health, PAUSES};
use uuid::Uuid;

use crate::contract::StorePlace;
use crate::contract::fixtures::{
    Everything, PARTITIONS, applied, everything, full, make_complete, window,
};

contract!(store: [
    a_recovered_partition_is_complete,
    the_high_watermark_is_the_newest_commit_while_complete,
    a_recovery_is_shared_and_ends_only_under_its_id_and_run_id,
    dropped_state_keeps_documents_and_leaves_partitions_incomplete,
]);

async fn a_recovered_partition_is_complete(place: &dyn StorePlace) {
    let store = place.store().await;
    let run_ids = make_complete(&*store, "first").await;
    let health = store.health().await.expect("health");
    assert_eq!(health.len(), PARTITIONS as usize);
    assert!(
        health
            .iter()
            .all(|h| h.is_complete() && h.recovery_id.as_deref() == Some("first")),
        "{health:?}"
    );
    assert!(run_ids.iter().all(|run_id| !run_id.is_empty()));
    drop(store);
    let again = place.store().await.health().await.expect("health");
    assert_eq!(again, health, "another process, but the same server run");
}

async fn the_high_watermark_is_the_newest_commit_while_complete(place: &dyn StorePlace) {
    let store = place.store().await;
    make_complete(&*store, "first").await;
    for received_ms in [2_000_000_000_123, 2_000_000_000_005] {
        applied(
            &*store,
            &Commit {
                high_watermark_ms: received_ms,
                ..full(1, &format!("po_{received_ms}"), Uuid::now_v7())
            },
        )
        .await;
    }
    let high_watermarks: Vec<_> = store
        .health()
        .await
        .expect("health")
        .into_iter()
        .map(|h| h.high_watermark_ms)
        .collect();
    assert_eq!(high_watermarks, [None, Some(2_000_000_000_123), None, None]);
}

async fn a_recovery_is_shared_and_ends_only_under_its_id_and_run_id(place: &dyn StorePlace) {
    let store = place.store().await;
    let run_id = make_complete(&*store, "first").await.remove(2);
    applied(
        &*store,
        &Commit {
            high_watermark_ms: 2_000_000_000_100,
            ..full(2, "po_1", Uuid::now_v7())
        },
    )
    .await;
    let begin = async |recovery_id, margin_ms| {
        store
            .begin_recovery(2, recovery_id, margin_ms)
            .await
            .expect("begin")
    };
    assert_eq!(begin("a", 30).await, ("a".to_owned(), 2_000_000_000_070));
    assert_eq!(
        begin("b", 10).await,
        ("a".to_owned(), 2_000_000_000_070),
        "a later caller joins"
    );
    assert_eq!(
        begin("b", 90).await,
        ("a".to_owned(), 2_000_000_000_010),
        "and may move the start back"
    );
    assert_eq!(
        begin("b", i64::MAX).await,
        ("a".to_owned(), 0),
        "as far as the beginning"
    );
    assert_eq!(begin("a", 30).await, ("a".to_owned(), 0));
    let complete = async || -> Vec<bool> {
        store
            .health()
            .await
            .expect("health")
            .iter()
            .map(Health::is_complete)
            .collect()
    };
    assert_eq!(complete().await, [true, true, false, true]);
    for (recovery_id, in_run) in [("b", run_id.as_str()), ("a", "another run id")] {
        assert!(
            !store
                .end_recovery(2, recovery_id, in_run)
                .await
                .expect("end"),
            "{recovery_id} {in_run}"
        );
        assert_eq!(complete().await, [true, true, false, true]);
    }
    assert!(store.end_recovery(2, "a", &run_id).await.expect("end"));
    assert_eq!(complete().await, [true; 4]);
    assert!(
        !store.end_recovery(2, "a", &run_id).await.expect("end"),
        "it has ended already"
    );
    assert_eq!(
        store.health().await.expect("health")[2]
            .recovery_id
            .as_deref(),
        Some("a")
    );
}

async fn dropped_state_keeps_documents_and_leaves_partitions_incomplete(place: &dyn StorePlace) {
    let store = place.store().await;
    let run_id = make_complete(&*store, "first").await.remove(1);
    let commit = full(1, "po_1", Uuid::now_v7());
    applied(&*store, &commit).await;
    let cursor = store
        .condition_changes(&Default::default(), 10)
        .await
        .expect("changes")
        .cursor;
    let fence = store
        .lease("alerting", "me", 60_000)
        .await
        .expect("end")
        .expect("free");
    let alert = DocumentWrite {
        space: "alert",
        key: "a".into(),
        body: Some("1".into()),
    };
    store
        .write_documents(fence, std::slice::from_ref(&alert))
        .await
        .expect("written");
    store.submit(PAUSES, "pauses", "{}").await.expect("submit");
    store
        .begin_recovery(3, "in progress", 5)
        .await
        .expect("begin");

    store.drop_state().await.expect("drop");
    store.drop_state().await.expect("drop again");
    let found = everything(&*store, 1, &["po_1"]).await;
    let nothing = Everything {
        dedupe_keys: vec![None],
        versions: vec![None],
        counters: Counters::default(),
        conditions: Vec::new(),
        changes: 0,
        audit: Vec::new(),
    };
    assert_eq!(found, nothing);
    assert!(
        store
            .conditions_due(&[window(0, i64::MAX - 1)])
            .await
            .expect("due")
            .is_empty()
    );
    assert_eq!(store.documents("alert").await.expect("alerts").len(), 1);
    assert_eq!(store.documents(PAUSES).await.expect("pauses").len(), 1);
    store
        .write_documents(fence, &[alert])
        .await
        .expect("the lease is still held");
    let health = store.health().await.expect("health");
    assert!(
        health
            .iter()
            .all(|h| !h.is_complete() && h.complete_in.is_none() && h.high_watermark_ms.is_none()),
        "{health:?}"
    );
    assert!(
        !store
            .end_recovery(3, "in progress", &run_id)
            .await
            .expect("end"),
        "the recovery was dropped, too"
    );

    // Everything can be committed again. The partition stays incomplete, and alerting sees a gap.
    applied(
        &*store,
        &Commit {
            high_watermark_ms: 9,
            ..commit
        },
    )
    .await;
    assert_eq!(
        store.health().await.expect("health")[1].high_watermark_ms,
        None
    );
    let changes = store.condition_changes(&cursor, 10).await.expect("changes");
    assert!(changes.gap || !changes.changes.is_empty(), "{changes:?}");
}
