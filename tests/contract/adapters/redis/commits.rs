//! Commits and documents: scripts, timeouts, memory, expiry.

use revwatch_core::counters::Bucket;
use revwatch_storage::ports::{
    DocumentUpdate, DocumentUpdated, Documents, Entities, KeyRange, StoreError,
};
use uuid::Uuid;

use super::connected;
use crate::contract::fixtures::{applied, everything, full};
use crate::support::wait::until;

#[tokio::test]
async fn flushed_scripts_are_loaded_again() {
    let (server, store) = connected().await;
    for id in ["po_1", "po_2"] {
        applied(&store, &full(0, id, Uuid::now_v7())).await;
        server.run::<()>("SCRIPT FLUSH");
    }
}

/// The client's default timeout is half a second; a busy disk can take longer.
#[tokio::test]
async fn a_slow_response_is_awaited() {
    let (server, store) = connected().await;
    server.run::<()>("CLIENT PAUSE 1500 ALL");
    applied(&store, &full(0, "po_1", Uuid::now_v7())).await;
}

/// A commit that timed out may or may not be applied. Repeated, it is applied once.
#[tokio::test]
async fn a_commit_that_timed_out_is_safe_to_repeat() {
    let (server, store) = connected().await;
    let commit = full(0, "po_1", Uuid::now_v7());
    server.run::<()>("CLIENT PAUSE 6000 ALL");
    let late = store.commit(&commit).await;
    assert!(matches!(late, Err(StoreError::Unavailable(_))), "{late:?}");
    until("the store is available again", async || {
        store.commit(&commit).await.ok()
    })
    .await;
    let now = everything(&store, 0, &["po_1"]).await;
    assert_eq!(
        (now.versions, now.changes, now.audit.len()),
        (vec![Some(1)], 1, 1)
    );
    assert_eq!(now.counters, commit.counters);
}

#[tokio::test]
async fn a_commit_that_cannot_be_applied_completely_changes_nothing() {
    let (server, store) = connected().await;
    let mut commit = full(0, "po_1", Uuid::now_v7());
    commit.counters.add(Bucket::Current, &["huge"], 1);
    for value in ["1.5", "1e400", "nan", "many"] {
        server.run::<()>("FLUSHALL");
        server.run::<()>(&format!("HSET revwatch:{{p0}}:counters huge {value}"));
        let refused = store.commit(&commit).await;
        assert!(
            matches!(refused, Err(StoreError::Corrupt(_))),
            "{value}: {refused:?}"
        );
        assert_eq!(server.run::<i64>("DBSIZE"), 1, "{value}");
    }

    for key in [
        "conditions",
        "due",
        "changes",
        "audit",
        "days",
        "counters",
        "entity:payout",
        "marks:20000",
    ] {
        server.run::<()>("FLUSHALL");
        server.run::<()>(&format!("SET revwatch:{{p0}}:{key} wrong"));
        let refused = store.commit(&full(0, "po_1", Uuid::now_v7())).await;
        assert!(
            matches!(refused, Err(StoreError::Corrupt(_))),
            "{key}: {refused:?}"
        );
        assert_eq!(server.run::<i64>("DBSIZE"), 1, "{key}");
    }
}

#[tokio::test]
async fn a_commit_is_refused_before_it_starts_when_memory_is_short() {
    let (server, store) = connected().await;
    server.run::<()>("CONFIG SET maxmemory 1");
    let commit = full(0, "po_1", Uuid::now_v7());
    let refused = store.commit(&commit).await;
    assert!(
        matches!(refused, Err(StoreError::Unavailable(_))),
        "{refused:?}"
    );
    server.run::<()>("CONFIG SET maxmemory 0");
    applied(&store, &commit).await;
}

#[tokio::test]
async fn only_dedupe_keys_and_hours_expire() {
    let (server, store) = connected().await;
    applied(&store, &full(0, "po_1", Uuid::now_v7())).await;
    let mut expiring: Vec<(String, i64)> = Vec::new();
    for key in server.run::<Vec<String>>("KEYS revwatch:{p0}:*") {
        let seconds = server.run::<i64>(&format!("TTL {key}"));
        if seconds >= 0 {
            expiring.push((key, (seconds + 3_600) / 86_400));
        }
    }
    expiring.sort();
    let expected = [
        ("revwatch:{p0}:hours:20000".to_owned(), 400),
        ("revwatch:{p0}:marks:20000".to_owned(), 40),
    ];
    assert_eq!(expiring, expected);
}

#[tokio::test]
async fn streams_are_bounded() {
    let (server, store) = connected().await;
    let streams = ["changes", "audit"].map(|stream| format!("revwatch:{{p0}}:{stream}"));
    let fill = "for n = 1, 101000 do redis.call('XADD', KEYS[1], n .. '-0', 'j', '{}') end";
    for stream in &streams {
        let words = ["EVAL", fill, "1", stream].map(|word| word.as_bytes().to_vec());
        server.run_bytes(&words);
    }
    applied(&store, &full(0, "po_1", Uuid::now_v7())).await;
    for stream in &streams {
        let length = server.run::<u64>(&format!("XLEN {stream}"));
        assert!((100_000..100_200).contains(&length), "{stream}: {length}");
    }
}

#[tokio::test]
async fn documents_without_a_version_have_version_1_and_are_on_pages() {
    let (server, store) = connected().await;
    for key in ["b", "a", "c"] {
        server.run::<()>(&format!("HSET revwatch:{{alerting}}:doc:alert {key} old"));
    }
    store.submit("alert", "d", "new").await.expect("written");
    let all = KeyRange::default();
    let page = store.document_page("alert", &all, None, 10).await;
    let found: Vec<_> = page
        .expect("a page")
        .documents
        .into_iter()
        .map(|d| (d.key, d.version == 1))
        .collect();
    let expected = [("a", true), ("b", true), ("c", true), ("d", false)];
    assert_eq!(found, expected.map(|(key, old)| (key.to_owned(), old)));
    let update = DocumentUpdate {
        space: "alert",
        key: "a".into(),
        expected: 1,
        body: None,
        write_id: Uuid::now_v7(),
    };
    let updated = store.update_document(&update).await.expect("update");
    assert_eq!(updated, DocumentUpdated::Applied(0));
    let page = store.document_page("alert", &all, None, 10).await;
    assert_eq!(page.expect("a page").documents.len(), 3);
}
