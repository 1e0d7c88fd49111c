//! Leases and group membership.

use revwatch_storage::ports::DocumentWrite;

use crate::contract::StorePlace;
use crate::contract::fixtures::{LONG_MS, SHORT_MS, take_lease};
use crate::support::wait::until;

contract!(store: [
    a_lease_has_one_holder,
    an_expired_lease_is_taken_under_a_higher_fence,
    a_lease_taken_while_the_clock_was_ahead_has_expired,
    a_clock_that_is_set_back_a_little_takes_no_lease_or_membership,
    a_released_lease_is_free,
    leases_are_independent,
    members_are_alive_until_they_leave_or_expire,
    a_member_that_joined_while_the_clock_was_ahead_has_expired,
]);

/// A deadline that a process wrote while the clock was a year ahead is as far ahead as one of this lifetime.
const YEAR_MS: u64 = 365 * 86_400_000;

async fn a_lease_has_one_holder(place: &dyn StorePlace) {
    let (one, two) = (place.store().await, place.store().await);
    let fence = take_lease(&*one, "one", LONG_MS).await.expect("free");
    assert_eq!(take_lease(&*two, "two", LONG_MS).await, None);
    assert_eq!(
        take_lease(&*one, "one", LONG_MS).await,
        Some(fence),
        "a renewal keeps its fence"
    );
    assert_eq!(
        take_lease(&*two, "one", LONG_MS).await,
        Some(fence),
        "the name identifies the holder, not the connection"
    );
}

async fn an_expired_lease_is_taken_under_a_higher_fence(place: &dyn StorePlace) {
    let store = place.store().await;
    let first = take_lease(&*store, "one", SHORT_MS).await.expect("free");
    let second = until("the lease expires", || take_lease(&*store, "two", LONG_MS)).await;
    assert!(second > first, "{second:?} {first:?}");
    assert_eq!(take_lease(&*store, "one", LONG_MS).await, None);

    // A renewal counts from now, not from the first time.
    store.release("alerting", "two").await.expect("release");
    let third = take_lease(&*store, "three", LONG_MS).await.expect("free");
    assert_eq!(take_lease(&*store, "three", SHORT_MS).await, Some(third));
    let fourth = until("the lease expires", || take_lease(&*store, "four", LONG_MS)).await;
    assert!(fourth > third);
}

async fn a_lease_taken_while_the_clock_was_ahead_has_expired(place: &dyn StorePlace) {
    let store = place.store().await;
    let ahead = take_lease(&*store, "killed", YEAR_MS).await.expect("free");
    let next = take_lease(&*store, "one", LONG_MS).await.expect("expired");
    assert!(next > ahead, "{next:?} {ahead:?}");
    assert_eq!(take_lease(&*store, "two", LONG_MS).await, None);

    // Its holder, if it lives, renews it.
    let ahead = take_lease(&*store, "one", YEAR_MS).await;
    assert_eq!(ahead, Some(next));
    assert_eq!(take_lease(&*store, "one", LONG_MS).await, Some(next));
    assert_eq!(take_lease(&*store, "two", LONG_MS).await, None);
}

async fn a_clock_that_is_set_back_a_little_takes_no_lease_or_membership(place: &dyn StorePlace) {
    const BEFORE_MS: u64 = LONG_MS + LONG_MS / 2;
    let store = place.store().await;
    let fence = take_lease(&*store, "one", BEFORE_MS).await.expect("free");
    assert_eq!(take_lease(&*store, "two", LONG_MS).await, None);
    assert_eq!(take_lease(&*store, "one", LONG_MS).await, Some(fence));
    for (member, ttl_ms) in [("a", BEFORE_MS), ("b", LONG_MS)] {
        let joined = store.heartbeat("workers", member, ttl_ms).await;
        joined.expect("heartbeat");
    }
    assert_eq!(store.members("workers").await.expect("members"), ["a", "b"]);
}

async fn a_released_lease_is_free(place: &dyn StorePlace) {
    let store = place.store().await;
    store
        .release("alerting", "one")
        .await
        .expect("releasing a free lease");
    let first = take_lease(&*store, "one", LONG_MS).await.expect("free");
    store
        .release("alerting", "two")
        .await
        .expect("releasing another holder's lease");
    assert_eq!(take_lease(&*store, "two", LONG_MS).await, None);
    store.release("alerting", "one").await.expect("release");
    let second = take_lease(&*store, "two", LONG_MS).await.expect("free");
    assert!(second > first);
}

async fn leases_are_independent(place: &dyn StorePlace) {
    let store = place.store().await;
    let fence = take_lease(&*store, "one", LONG_MS).await.expect("free");
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
        .expect("the fence of another lease has no effect");
}

async fn members_are_alive_until_they_leave_or_expire(place: &dyn StorePlace) {
    let store = place.store().await;
    let heartbeat = async |member: &str, ttl_ms| {
        store
            .heartbeat("workers", member, ttl_ms)
            .await
            .expect("heartbeat")
    };
    assert_eq!(heartbeat("b", LONG_MS).await, ["b"]);
    assert_eq!(heartbeat("a", LONG_MS).await, ["a", "b"]);
    assert_eq!(store.members("workers").await.expect("members"), ["a", "b"]);
    assert_eq!(store.members("none").await.expect("members"), [""; 0]);
    assert_eq!(
        store
            .heartbeat("others", "c", LONG_MS)
            .await
            .expect("heartbeat"),
        ["c"]
    );

    store.leave("workers", "b").await.expect("leave");
    store.leave("workers", "unknown").await.expect("leave");
    assert_eq!(heartbeat("a", LONG_MS).await, ["a"]);

    heartbeat("brief", SHORT_MS).await;
    let alive = until("a silent member expires", || async {
        let alive = heartbeat("a", LONG_MS).await;
        (!alive.contains(&"brief".to_owned())).then_some(alive)
    });
    assert_eq!(alive.await, ["a"]);

    // A heartbeat counts from now, even if its lifetime is shorter than the previous one.
    heartbeat("leaving", LONG_MS).await;
    heartbeat("leaving", SHORT_MS).await;
    until("a silent member expires", || async {
        (heartbeat("a", LONG_MS).await == ["a"]).then_some(())
    })
    .await;
}

async fn a_member_that_joined_while_the_clock_was_ahead_has_expired(place: &dyn StorePlace) {
    let store = place.store().await;
    let heartbeat = async |group: &str, member: &str, ttl_ms| {
        let alive = store.heartbeat(group, member, ttl_ms).await;
        alive.expect("heartbeat")
    };
    let members = async |group: &str| store.members(group).await.expect("members");
    heartbeat("workers", "killed", YEAR_MS).await;
    heartbeat("others", "askers", YEAR_MS).await;
    assert_eq!(members("workers").await, [""; 0]);
    assert_eq!(heartbeat("workers", "a", LONG_MS).await, ["a"]);
    assert_eq!(members("workers").await, ["a"]);
    let others = heartbeat("others", "b", YEAR_MS).await;
    assert_eq!(
        others,
        ["askers", "b"],
        "other groups have another lifetime"
    );
}
