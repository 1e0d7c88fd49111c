//! Whether a partition still has all that was committed to it.

use revwatch_storage::ports::{DocumentWrite, PAUSES};

use super::*;

pub(super) async fn a_partition_is_whole_once_it_was_made_so(place: &dyn Place) {
    let store = place.open().await;
    let lives = make_whole(&*store, "first").await;
    let health = store.health().await.expect("health");
    assert_eq!(health.len(), PARTITIONS as usize);
    assert!(
        health
            .iter()
            .all(|h| h.is_complete() && h.recovery_id.as_deref() == Some("first")),
        "{health:?}"
    );
    assert!(lives.iter().all(|life| !life.is_empty()));
    drop(store);
    let again = place.open().await.health().await.expect("health");
    assert_eq!(again, health, "it is another process, not another life");
}

pub(super) async fn reach_is_the_newest_that_was_committed_while_whole(place: &dyn Place) {
    let store = place.open().await;
    make_whole(&*store, "first").await;
    for reach_ms in [2_000_000_000_123, 2_000_000_000_005] {
        applied(
            &*store,
            &Commit {
                high_watermark_ms: reach_ms,
                ..full(1, &format!("po_{reach_ms}"), Uuid::now_v7())
            },
        )
        .await;
    }
    let reached: Vec<_> = store
        .health()
        .await
        .expect("health")
        .into_iter()
        .map(|h| h.high_watermark_ms)
        .collect();
    assert_eq!(reached, [None, Some(2_000_000_000_123), None, None]);
}

pub(super) async fn a_healing_is_shared_and_ends_under_its_own_name_and_life(place: &dyn Place) {
    let store = place.open().await;
    let life = make_whole(&*store, "first").await.remove(2);
    applied(
        &*store,
        &Commit {
            high_watermark_ms: 2_000_000_000_100,
            ..full(2, "po_1", Uuid::now_v7())
        },
    )
    .await;
    let begin = async |name, margin_ms| {
        store
            .begin_recovery(2, name, margin_ms)
            .await
            .expect("begun")
    };
    assert_eq!(begin("a", 30).await, ("a".to_owned(), 2_000_000_000_070));
    assert_eq!(
        begin("b", 10).await,
        ("a".to_owned(), 2_000_000_000_070),
        "who comes later joins"
    );
    assert_eq!(
        begin("b", 90).await,
        ("a".to_owned(), 2_000_000_000_010),
        "and may reach further back"
    );
    assert_eq!(
        begin("b", i64::MAX).await,
        ("a".to_owned(), 0),
        "to the beginning"
    );
    assert_eq!(begin("a", 30).await, ("a".to_owned(), 0));
    let whole = async || -> Vec<bool> {
        store
            .health()
            .await
            .expect("health")
            .iter()
            .map(Health::is_complete)
            .collect()
    };
    assert_eq!(whole().await, [true, true, false, true]);
    for (name, in_life) in [("b", life.as_str()), ("a", "another life")] {
        assert!(
            !store
                .end_recovery(2, name, in_life)
                .await
                .expect("answered"),
            "{name} {in_life}"
        );
        assert_eq!(whole().await, [true, true, false, true]);
    }
    assert!(store.end_recovery(2, "a", &life).await.expect("answered"));
    assert_eq!(whole().await, [true; 4]);
    assert!(
        !store.end_recovery(2, "a", &life).await.expect("answered"),
        "there is none any more"
    );
    assert_eq!(
        store.health().await.expect("health")[2]
            .recovery_id
            .as_deref(),
        Some("a")
    );
}

pub(super) async fn what_is_forgotten_leaves_documents_and_no_partition_whole(place: &dyn Place) {
    let store = place.open().await;
    let life = make_whole(&*store, "first").await.remove(1);
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
        .expect("answered")
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
    store.submit(PAUSES, "pauses", "{}").await.expect("put");
    store
        .begin_recovery(3, "under way", 5)
        .await
        .expect("begun");

    store.drop_state().await.expect("forgotten");
    store.drop_state().await.expect("repeated");
    let left = everything(&*store, 1, &["po_1"]).await;
    let nothing = Everything {
        marks: vec![None],
        versions: vec![None],
        counters: Counters::default(),
        conditions: Vec::new(),
        changes: 0,
        audit: Vec::new(),
    };
    assert_eq!(left, nothing);
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
            .end_recovery(3, "under way", &life)
            .await
            .expect("answered"),
        "what it had done is gone"
    );

    // Everything can be committed again; it does not hide that something is missing, and alerting sees a gap.
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

/// What a worker does that has nothing to replay. The present life of each partition.
pub(super) async fn make_whole(store: &dyn StateStore, name: &str) -> Vec<String> {
    let mut lives = Vec::new();
    for (partition, health) in (0..).zip(store.health().await.expect("health")) {
        store
            .begin_recovery(partition, name, 0)
            .await
            .expect("begun");
        assert!(
            store
                .end_recovery(partition, name, &health.server_run_id)
                .await
                .expect("answered")
        );
        lives.push(health.server_run_id);
    }
    lives
}
