//! Leases and group membership.

use revwatch_storage::ports::{DocumentWrite, Fence};

use super::*;

/// Long enough that it does not expire during a test.
pub(super) const LONG_MS: u64 = 600_000;

/// Short enough to wait for.
pub(super) const SHORT_MS: u64 = 50;

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

pub(super) async fn an_expired_lease_is_taken_under_a_higher_fence(place: &dyn Place) {
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

pub(super) async fn a_released_lease_is_free(place: &dyn Place) {
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

pub(super) async fn leases_are_independent(place: &dyn Place) {
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
    let write = DocumentWrite {
        space: "alert",
        key: "a".into(),
        body: Some("{}".into()),
    };
    store
        .write_documents(fence, &[write])
        .await
        .expect("the fence of another lease does not matter");
}

pub(super) async fn members_are_alive_until_they_leave_or_expire(place: &dyn Place) {
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

pub(super) async fn take(store: &dyn StateStore, holder: &str, ttl_ms: u64) -> Option<Fence> {
    store
        .lease("alerting", holder, ttl_ms)
        .await
        .expect("lease")
}
