//! Leases, fenced documents, heartbeats.

use revwatch_storage::ports::{COMMANDS, DocumentWrite, Fence};

use super::*;

/// Long enough that it does not run out during a test.
const LONG_MS: u64 = 600_000;

/// Short enough to wait for.
const SHORT_MS: u64 = 50;

pub(super) async fn a_lease_has_one_holder(place: &dyn Place) {
    let (one, two) = (place.open().await, place.open().await);
    let fence = take(&*one, "one", LONG_MS).await.expect("free");
    assert_eq!(take(&*two, "two", LONG_MS).await, None);
    assert_eq!(
        take(&*one, "one", LONG_MS).await,
        Some(fence),
        "a renewal keeps its fence"
    );
    assert_eq!(
        take(&*two, "one", LONG_MS).await,
        Some(fence),
        "the name is the holder, not the connection"
    );
}

pub(super) async fn a_lease_that_runs_out_is_taken_under_a_higher_fence(place: &dyn Place) {
    let store = place.open().await;
    let first = take(&*store, "one", SHORT_MS).await.expect("free");
    let second = until("the lease runs out", || take(&*store, "two", LONG_MS)).await;
    assert!(second > first, "{second:?} {first:?}");
    assert_eq!(take(&*store, "one", LONG_MS).await, None);

    // A renewal lasts as long as it says from now, not from the first time.
    store.release("alerting", "two").await.expect("release");
    let third = take(&*store, "three", LONG_MS).await.expect("free");
    assert_eq!(take(&*store, "three", SHORT_MS).await, Some(third));
    let fourth = until("the lease runs out", || take(&*store, "four", LONG_MS)).await;
    assert!(fourth > third);
}

pub(super) async fn a_lease_given_back_is_free(place: &dyn Place) {
    let store = place.open().await;
    store
        .release("alerting", "one")
        .await
        .expect("release of nothing");
    let first = take(&*store, "one", LONG_MS).await.expect("free");
    store
        .release("alerting", "two")
        .await
        .expect("release of another's");
    assert_eq!(take(&*store, "two", LONG_MS).await, None);
    store.release("alerting", "one").await.expect("release");
    let second = take(&*store, "two", LONG_MS).await.expect("free");
    assert!(second > first);
}

pub(super) async fn leases_do_not_meet(place: &dyn Place) {
    let store = place.open().await;
    let fence = take(&*store, "one", LONG_MS).await.expect("free");
    assert!(
        store
            .lease("other", "two words", LONG_MS)
            .await
            .expect("lease")
            .is_some()
    );
    assert_eq!(
        store.lease("other", "two", LONG_MS).await.expect("lease"),
        None
    );
    store
        .write_documents(fence, &[put("alert", "a", "{}")])
        .await
        .expect("another lease's fence does not matter");
}

pub(super) async fn documents_are_sorted_replaced_and_deleted(place: &dyn Place) {
    let store = place.open().await;
    let fence = take(&*store, "one", LONG_MS).await.expect("free");
    let writes = [
        put("alert", "b", "{\"n\":1}"),
        put("silence", "b", "…"),
        put("alert", "a", ""),
        delete("alert", "x"),
    ];
    store.write_documents(fence, &writes).await.expect("write");
    assert_eq!(
        store.documents("alert").await.expect("documents"),
        pairs(&[("a", ""), ("b", "{\"n\":1}")])
    );
    assert_eq!(
        store.documents("silence").await.expect("documents"),
        pairs(&[("b", "…")])
    );
    assert_eq!(store.documents("none").await.expect("documents"), []);

    let writes = [
        put("alert", "c", "3"),
        delete("alert", "a"),
        put("alert", "b", "2"),
    ];
    store.write_documents(fence, &writes).await.expect("write");
    store
        .write_documents(fence, &writes)
        .await
        .expect("the same again");
    store.write_documents(fence, &[]).await.expect("nothing");
    assert_eq!(
        store.documents("alert").await.expect("documents"),
        pairs(&[("b", "2"), ("c", "3")])
    );

    let many: Vec<_> = (0..3_000)
        .map(|i| put("many", &format!("{i:05}"), "x"))
        .collect();
    store.write_documents(fence, &many).await.expect("write");
    let found = store.documents("many").await.expect("documents");
    assert!(found.len() == 3_000 && found.is_sorted());
    drop(store);
    assert_eq!(
        place
            .open()
            .await
            .documents("alert")
            .await
            .expect("documents"),
        pairs(&[("b", "2"), ("c", "3")])
    );
}

pub(super) async fn a_fence_that_was_outrun_writes_nothing(place: &dyn Place) {
    let store = place.open().await;
    let old = take(&*store, "one", SHORT_MS).await.expect("free");
    store
        .write_documents(old, &[put("alert", "a", "1")])
        .await
        .expect("write");
    let new = until("the lease runs out", || take(&*store, "two", LONG_MS)).await;
    let refused = store
        .write_documents(old, &[put("alert", "a", "2"), put("alert", "b", "2")])
        .await;
    assert!(matches!(refused, Err(StoreError::Fenced)), "{refused:?}");
    assert_eq!(
        store.documents("alert").await.expect("documents"),
        pairs(&[("a", "1")])
    );
    store
        .write_documents(new, &[put("alert", "a", "3")])
        .await
        .expect("write");
    assert_eq!(
        store.documents("alert").await.expect("documents"),
        pairs(&[("a", "3")])
    );
}

pub(super) async fn nobody_writes_without_a_lease(place: &dyn Place) {
    let store = place.open().await;
    for fence in [Fence(0), Fence(1)] {
        let refused = store
            .write_documents(fence, &[put("alert", "a", "1")])
            .await;
        assert!(matches!(refused, Err(StoreError::Fenced)), "{refused:?}");
    }
}

pub(super) async fn anybody_leaves_a_request_and_the_holder_removes_it(place: &dyn Place) {
    let (asking, alerting) = (place.open().await, place.open().await);
    asking
        .submit(COMMANDS, "b", "1")
        .await
        .expect("nobody holds the lease");
    let old = take(&*alerting, "one", SHORT_MS).await.expect("free");
    let new = until("the lease runs out", || take(&*alerting, "two", LONG_MS)).await;
    asking
        .submit(COMMANDS, "a", "{\"n\":1}")
        .await
        .expect("another holds the lease");
    for _ in 0..2 {
        asking
            .submit(COMMANDS, "b", "2")
            .await
            .expect("replaced, and repeated");
    }
    assert_eq!(
        alerting.documents(COMMANDS).await.expect("documents"),
        pairs(&[("a", "{\"n\":1}"), ("b", "2")])
    );
    assert_eq!(alerting.documents("alert").await.expect("documents"), []);

    let refused = alerting
        .write_documents(old, &[delete(COMMANDS, "a")])
        .await;
    assert!(matches!(refused, Err(StoreError::Fenced)), "{refused:?}");
    assert_eq!(
        alerting.documents(COMMANDS).await.expect("documents").len(),
        2
    );
    alerting
        .write_documents(new, &[put("alert", "x", "3"), delete(COMMANDS, "b")])
        .await
        .expect("write");
    assert_eq!(
        asking.documents(COMMANDS).await.expect("documents"),
        pairs(&[("a", "{\"n\":1}")])
    );
    asking
        .submit(COMMANDS, "b", "4")
        .await
        .expect("the same key again");
    assert_eq!(
        asking.documents(COMMANDS).await.expect("documents"),
        pairs(&[("a", "{\"n\":1}"), ("b", "4")])
    );
}

pub(super) async fn members_are_alive_until_they_leave_or_fall_silent(place: &dyn Place) {
    let store = place.open().await;
    let beat = async |member: &str, ttl_ms| {
        store
            .heartbeat("workers", member, ttl_ms)
            .await
            .expect("beat")
    };
    assert_eq!(beat("b", LONG_MS).await, ["b"]);
    assert_eq!(beat("a", LONG_MS).await, ["a", "b"]);
    assert_eq!(
        store.heartbeat("others", "c", LONG_MS).await.expect("beat"),
        ["c"]
    );

    store.leave("workers", "b").await.expect("leave");
    store.leave("workers", "nobody").await.expect("leave");
    assert_eq!(beat("a", LONG_MS).await, ["a"]);

    beat("brief", SHORT_MS).await;
    let alive = until("a silent member is gone", || async {
        let alive = beat("a", LONG_MS).await;
        (!alive.contains(&"brief".to_owned())).then_some(alive)
    });
    assert_eq!(alive.await, ["a"]);

    // A beat counts from now, even if it promises less than the one before.
    beat("leaving", LONG_MS).await;
    beat("leaving", SHORT_MS).await;
    until("a silent member is gone", || async {
        (beat("a", LONG_MS).await == ["a"]).then_some(())
    })
    .await;
}

async fn take(store: &dyn StateStore, holder: &str, ttl_ms: u64) -> Option<Fence> {
    store
        .lease("alerting", holder, ttl_ms)
        .await
        .expect("lease")
}

fn put(space: &'static str, key: &str, body: &str) -> DocumentWrite {
    DocumentWrite {
        space,
        key: key.into(),
        body: Some(body.into()),
    }
}

fn delete(space: &'static str, key: &str) -> DocumentWrite {
    DocumentWrite {
        space,
        key: key.into(),
        body: None,
    }
}

fn pairs(documents: &[(&str, &str)]) -> Vec<(String, String)> {
    documents
        .iter()
        .map(|(key, body)| ((*key).to_owned(), (*body).to_owned()))
        .collect()
}
