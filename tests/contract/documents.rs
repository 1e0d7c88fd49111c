//! Documents: fenced writes, pages, compare-and-set.

use revwatch_storage::ports::{
    COMMANDS, DocumentUpdate, DocumentUpdated, DocumentWrite, Fence, KeyRange, StateStore,
    StoreError,
};
use uuid::Uuid;

use crate::contract::StorePlace;
use crate::contract::fixtures::{LONG_MS, SHORT_MS, take_lease};
use crate::support::wait::until;

contract!(store: [
    documents_are_sorted_replaced_and_deleted,
    an_outdated_fence_writes_nothing,
    a_fence_without_a_lease_writes_nothing,
    any_process_submits_and_the_lease_holder_deletes,
    the_fence_of_any_lease_guards_a_write,
    a_key_range_is_read_page_by_page,
    an_unchanged_document_is_on_a_page_while_others_change,
    an_update_needs_the_expected_version,
    one_of_concurrent_updates_wins_each_version,
]);

async fn documents_are_sorted_replaced_and_deleted(place: &dyn StorePlace) {
    let store = place.store().await;
    let fence = take_lease(&*store, "one", LONG_MS).await.expect("free");
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
        .expect("a repeat");
    store.write_documents(fence, &[]).await.expect("no writes");
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
            .store()
            .await
            .documents("alert")
            .await
            .expect("documents"),
        pairs(&[("b", "2"), ("c", "3")])
    );
}

async fn an_outdated_fence_writes_nothing(place: &dyn StorePlace) {
    let store = place.store().await;
    let old = take_lease(&*store, "one", SHORT_MS).await.expect("free");
    store
        .write_documents(old, &[put("alert", "a", "1")])
        .await
        .expect("write");
    let new = until("the lease expires", || take_lease(&*store, "two", LONG_MS)).await;
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

async fn a_fence_without_a_lease_writes_nothing(place: &dyn StorePlace) {
    let store = place.store().await;
    for fence in [Fence(0), Fence(1)] {
        let refused = store
            .write_documents(fence, &[put("alert", "a", "1")])
            .await;
        assert!(matches!(refused, Err(StoreError::Fenced)), "{refused:?}");
    }
}

async fn any_process_submits_and_the_lease_holder_deletes(place: &dyn StorePlace) {
    let (submitter, alerting) = (place.store().await, place.store().await);
    submitter
        .submit(COMMANDS, "b", "1")
        .await
        .expect("no lease is held");
    let old = take_lease(&*alerting, "one", SHORT_MS).await.expect("free");
    let new = until("the lease expires", || {
        take_lease(&*alerting, "two", LONG_MS)
    })
    .await;
    submitter
        .submit(COMMANDS, "a", "{\"n\":1}")
        .await
        .expect("another process holds the lease");
    for _ in 0..2 {
        submitter
            .submit(COMMANDS, "b", "2")
            .await
            .expect("replaced, then repeated");
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
        submitter.documents(COMMANDS).await.expect("documents"),
        pairs(&[("a", "{\"n\":1}")])
    );
    submitter
        .submit(COMMANDS, "b", "4")
        .await
        .expect("the same key again");
    assert_eq!(
        submitter.documents(COMMANDS).await.expect("documents"),
        pairs(&[("a", "{\"n\":1}"), ("b", "4")])
    );
}

async fn the_fence_of_any_lease_guards_a_write(place: &dyn StorePlace) {
    let store = place.store().await;
    let alerting = take_lease(&*store, "one", LONG_MS).await.expect("free");
    // Taken twice, so that its fence differs from the other lease's on every adapter.
    store.lease("jobs", "zero", LONG_MS).await.expect("lease");
    store.release("jobs", "zero").await.expect("release");
    let jobs = store
        .lease("jobs", "one", LONG_MS)
        .await
        .expect("lease")
        .expect("free");
    assert_ne!(alerting, jobs);
    let write = [put("job", "a", "1")];
    let under = async |lease: &str, fence| store.write_documents_under(lease, fence, &write).await;
    for (lease, fence) in [("jobs", alerting), ("alerting", jobs), ("absent", jobs)] {
        let refused = under(lease, fence).await;
        assert!(matches!(refused, Err(StoreError::Fenced)), "{refused:?}");
    }
    assert_eq!(store.documents("job").await.expect("documents"), []);
    under("jobs", jobs).await.expect("the newest fence");
    under("jobs", jobs).await.expect("a repeat");
    assert_eq!(
        store.documents("job").await.expect("documents"),
        pairs(&[("a", "1")])
    );
}

async fn a_key_range_is_read_page_by_page(place: &dyn StorePlace) {
    let store = place.store().await;
    let fence = take_lease(&*store, "one", LONG_MS).await.expect("free");
    let mut keys: Vec<String> = (0..25).map(|n| format!("k{n:02}")).collect();
    keys.extend(["".into(), "-2".into(), "K".into(), "z".into(), "ü".into()]);
    let writes: Vec<_> = keys.iter().map(|key| put("job", key, key)).collect();
    store.write_documents(fence, &writes).await.expect("write");
    store
        .write_documents(fence, &[put("other", "k00", "x")])
        .await
        .expect("another space");
    keys.sort_unstable();
    let read = async |range: &KeyRange, limit| {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = store.document_page("job", range, after.as_deref(), limit);
            let page = page.await.expect("a page");
            assert!(page.documents.len() <= limit.max(1), "{page:?}");
            assert!(
                page.documents
                    .iter()
                    .all(|d| d.version > 0 && d.body == d.key)
            );
            found.extend(page.documents.into_iter().map(|d| d.key));
            match page.next {
                Some(next) => after = Some(next),
                None => return found,
            }
        }
    };
    let range = |from: &str, before: Option<&str>| KeyRange {
        from: from.into(),
        before: before.map(str::to_owned),
    };
    for limit in [0, 1, 4, 5, 30, 31, usize::MAX] {
        assert_eq!(
            read(&range("", None), limit).await,
            keys,
            "pages of {limit}"
        );
        assert_eq!(
            read(&range("k03", Some("k07")), limit).await,
            ["k03", "k04", "k05", "k06"]
        );
        assert_eq!(read(&range("k24a", Some("zz")), limit).await, ["z"]);
        assert_eq!(read(&range("k07", Some("k03")), limit).await, [""; 0]);
    }
    let all = KeyRange::default();
    let nothing = store.document_page("absent", &all, None, 10).await;
    assert_eq!(nothing.expect("a page"), Default::default());

    let wanted = ["z".into(), "none".into(), "".into()];
    let by_key = store.documents_by_key("job", &wanted).await;
    let by_key = by_key.expect("documents");
    let keys: Vec<_> = by_key
        .iter()
        .map(|found| found.as_ref().map(|d| d.key.as_str()))
        .collect();
    assert_eq!(keys, [Some("z"), None, Some("")]);
    assert_eq!(store.documents_by_key("job", &[]).await.expect("none"), []);
}

async fn an_unchanged_document_is_on_a_page_while_others_change(place: &dyn StorePlace) {
    let store = place.store().await;
    let fence = take_lease(&*store, "one", LONG_MS).await.expect("free");
    let writes: Vec<_> = (0..40)
        .map(|n| put("job", &format!("{n:02}"), "x"))
        .collect();
    store.write_documents(fence, &writes).await.expect("write");
    let all = KeyRange::default();
    let (mut found, mut after) = (Vec::new(), None);
    for round in 0.. {
        let page = store.document_page("job", &all, after.as_deref(), 3).await;
        let page = page.expect("a page");
        found.extend(page.documents.into_iter().map(|d| d.key));
        let Some(next) = page.next else { break };
        // The document at the cursor is deleted, and one before it appears.
        let writes = [delete("job", &next), put("job", &format!("!{round}"), "x")];
        store.write_documents(fence, &writes).await.expect("write");
        after = Some(next);
    }
    let expected: Vec<_> = (0..40).map(|n| format!("{n:02}")).collect();
    assert_eq!(found, expected);
}

async fn an_update_needs_the_expected_version(place: &dyn StorePlace) {
    let store = place.store().await;
    let apply =
        async |update: &DocumentUpdate| store.update_document(update).await.expect("update");
    let create = update("a", 0, Some("1"));
    let DocumentUpdated::Applied(first) = apply(&create).await else {
        panic!("not applied");
    };
    assert_eq!(apply(&create).await, DocumentUpdated::AlreadyApplied(first));
    // The same text with another write id is another write.
    let other = update("a", 0, Some("1"));
    assert_eq!(apply(&other).await, DocumentUpdated::Conflict(first));

    let change = update("a", first, Some("2"));
    let DocumentUpdated::Applied(second) = apply(&change).await else {
        panic!("not applied");
    };
    assert!(second > first);
    assert_eq!(
        apply(&change).await,
        DocumentUpdated::AlreadyApplied(second)
    );
    assert_eq!(apply(&create).await, DocumentUpdated::Conflict(second));
    let found = store.documents_by_key("job", &["a".into()]).await;
    let found = found.expect("documents").remove(0).expect("a document");
    assert_eq!((found.version, found.body.as_str()), (second, "2"));

    // Every other kind of write also makes a new version.
    store.submit("job", "a", "3").await.expect("submitted");
    assert!(matches!(apply(&change).await, DocumentUpdated::Conflict(third) if third > second));

    let versions = store.documents_by_key("job", &["a".into()]).await;
    let third = versions.expect("documents")[0]
        .as_ref()
        .expect("a document")
        .version;
    assert_eq!(
        apply(&update("a", second, None)).await,
        DocumentUpdated::Conflict(third)
    );
    let remove = update("a", third, None);
    assert_eq!(apply(&remove).await, DocumentUpdated::Applied(0));
    assert_eq!(apply(&remove).await, DocumentUpdated::Conflict(0));
    assert_eq!(store.documents("job").await.expect("documents"), []);
    // A version is never reused: an update that read the old document cannot change the new one.
    let again = apply(&update("a", 0, Some("4"))).await;
    assert!(
        matches!(again, DocumentUpdated::Applied(fourth) if fourth > third),
        "{again:?}"
    );
}

async fn one_of_concurrent_updates_wins_each_version(place: &dyn StorePlace) {
    let store: std::sync::Arc<dyn StateStore> = place.store().await.into();
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut expected = 0;
                loop {
                    let update = update("a", expected, Some("x"));
                    match store.update_document(&update).await.expect("update") {
                        DocumentUpdated::Applied(version) => return (expected, version),
                        DocumentUpdated::Conflict(version) => expected = version,
                        DocumentUpdated::AlreadyApplied(_) => panic!("each write has its own id"),
                    }
                }
            })
        })
        .collect();
    let mut steps = Vec::new();
    for task in tasks {
        steps.push(task.await.expect("a task"));
    }
    steps.sort_unstable();
    // Each winner replaced the version of the winner before it.
    assert_eq!(steps[0].0, 0);
    for pair in steps.windows(2) {
        assert_eq!(pair[0].1, pair[1].0, "{steps:?}");
    }
}

fn update(key: &str, expected: u64, body: Option<&str>) -> DocumentUpdate {
    DocumentUpdate {
        space: "job",
        key: key.into(),
        expected,
        body: body.map(str::to_owned),
        write_id: Uuid::now_v7(),
    }
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
