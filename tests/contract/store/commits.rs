//! Batches: whole or not at all, and safe to repeat.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use revwatch_storage::ports::{EntityCursor, EntityFilter, MAX_ENTITIES_EXAMINED};

use super::*;

pub(super) async fn what_was_committed_is_read(place: &dyn Place) {
    let store = place.open().await;
    let every_byte: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
    let deliveries = [Uuid::now_v7(), Uuid::from_bytes([0; 16])];
    let account = EntityKey::new(EntityKind::Account, "acct_1");
    let commit = Commit {
        partition: 2,
        dedupe_keys: vec![
            mark("evt_1", deliveries[0]),
            DedupeKey {
                day: DAY + 1,
                ..mark("evt_2", deliveries[1])
            },
        ],
        entities: vec![
            write("po_1", 0, &every_byte),
            write("po_empty", 0, b""),
            EntityWrite {
                key: account.clone(),
                expected: 0,
                body: b"account".to_vec(),
            },
        ],
        ..Commit::default()
    };
    applied(&*store, &commit).await;

    let want = ReadSet {
        dedupe_keys: vec![
            (DAY + 1, "evt_2".into()),
            (DAY, "evt_2".into()),
            (DAY, "evt_1".into()),
            (7, "evt_1".into()),
        ],
        entities: vec![
            account,
            payout("po_none"),
            payout("po_empty"),
            payout("po_1"),
        ],
    };
    let found = store.read(2, &want).await.expect("read");
    assert_eq!(
        found.dedupe_keys,
        [Some(deliveries[1]), None, Some(deliveries[0]), None]
    );
    let bodies: Vec<_> = found
        .entities
        .into_iter()
        .map(|e| e.map(|e| (e.version, e.body)))
        .collect();
    assert_eq!(
        bodies,
        [
            Some((1, b"account".to_vec())),
            None,
            Some((1, vec![])),
            Some((1, every_byte))
        ]
    );

    let elsewhere = store.read(1, &want).await.expect("read");
    assert_eq!(elsewhere.dedupe_keys, [None; 4]);
    assert_eq!(elsewhere.entities, [const { None }; 4]);

    applied(
        &*store,
        &Commit {
            entities: vec![write("po_1", 1, b"new")],
            partition: 2,
            ..Commit::default()
        },
    )
    .await;
    let again = store
        .read(
            2,
            &ReadSet {
                entities: vec![payout("po_1")],
                ..ReadSet::default()
            },
        )
        .await
        .expect("read");
    assert_eq!(
        again.entities[0]
            .as_ref()
            .map(|e| (e.version, e.body.as_slice())),
        Some((2, b"new".as_slice()))
    );

    let nothing = store.read(2, &ReadSet::default()).await.expect("read");
    assert_eq!(nothing, Default::default());
}

pub(super) async fn a_commit_sent_again_is_already_applied(place: &dyn Place) {
    let store = place.open().await;
    let commit = full(1, "po_1", Uuid::now_v7());
    applied(&*store, &commit).await;
    let before = everything(&*store, 1, &["po_1"]).await;
    assert_eq!(
        (before.changes, before.audit.len(), before.conditions.len()),
        (1, 1, 1)
    );
    assert_eq!(before.counters.len(), 2);
    assert_eq!(
        store.commit(&commit).await.expect("commit"),
        Committed::AlreadyApplied
    );
    assert_eq!(everything(&*store, 1, &["po_1"]).await, before);
}

pub(super) async fn a_stale_version_conflicts_and_leaves_nothing(place: &dyn Place) {
    let store = place.open().await;
    applied(&*store, &full(1, "po_1", Uuid::now_v7())).await;
    for expected in [0, 2] {
        let mut commit = full(1, "po_2", Uuid::now_v7());
        commit.entities.push(write("po_1", expected, b"never"));
        conflicts_and_leaves_nothing(&*store, &commit).await;
    }
    let mut commit = full(1, "po_2", Uuid::now_v7());
    commit.entities.push(write("po_3", 1, b"never was"));
    conflicts_and_leaves_nothing(&*store, &commit).await;
}

pub(super) async fn a_foreign_mark_conflicts_and_leaves_nothing(place: &dyn Place) {
    let store = place.open().await;
    applied(&*store, &full(1, "po_1", Uuid::now_v7())).await;
    let mut commit = full(1, "po_2", Uuid::now_v7());
    commit.dedupe_keys.push(mark("evt_po_1", Uuid::now_v7()));
    conflicts_and_leaves_nothing(&*store, &commit).await;
}

/// To answer "already applied" would lose the deliveries that were not.
pub(super) async fn a_batch_applied_in_part_conflicts_and_leaves_nothing(place: &dyn Place) {
    let store = place.open().await;
    let (first, second) = (Uuid::now_v7(), Uuid::now_v7());
    applied(&*store, &full(1, "po_1", first)).await;
    let mut commit = full(1, "po_2", second);
    commit.dedupe_keys.push(mark("evt_po_1", first));
    conflicts_and_leaves_nothing(&*store, &commit).await;
}

async fn conflicts_and_leaves_nothing(store: &dyn StateStore, commit: &Commit) {
    let ids = ["po_1", "po_2", "po_3"];
    let before = everything(store, 1, &ids).await;
    assert_eq!(
        store.commit(commit).await.expect("commit"),
        Committed::Conflict
    );
    assert_eq!(everything(store, 1, &ids).await, before);
}

pub(super) async fn one_of_two_concurrent_commits_wins(place: &dyn Place) {
    let (one, two) = (place.open().await, place.open().await);
    for round in 0..20 {
        let id = format!("po_{round}");
        let (a, b) = (Uuid::now_v7(), Uuid::now_v7());
        let mut commits = [full(3, &id, a), full(3, &id, b)];
        commits[1].dedupe_keys[0].key.push_str("_other_event");
        let (first, second) = tokio::join!(one.commit(&commits[0]), two.commit(&commits[1]));
        let mut outcomes = [first.expect("commit"), second.expect("commit")];
        outcomes.sort_by_key(|outcome| *outcome == Committed::Conflict);
        assert_eq!(
            outcomes,
            [Committed::Applied, Committed::Conflict],
            "round {round}"
        );
        assert_eq!(
            one.entity(&payout(&id))
                .await
                .expect("entity")
                .map(|e| e.version),
            Some(1)
        );
    }
}

pub(super) async fn a_large_commit_goes_through(place: &dyn Place) {
    let store = place.open().await;
    let delivery = Uuid::now_v7();
    let mut counters = Counters::default();
    for i in 0..2_000_u32 {
        counters.add(
            Bucket::Hour(DAY * 24 + i % 48),
            &["many", &i.to_string()],
            1,
        );
    }
    let commit = Commit {
        partition: 0,
        dedupe_keys: (0..10_000)
            .map(|i| mark(&format!("evt_{i}"), delivery))
            .collect(),
        entities: (0..2_000)
            .map(|i| write(&format!("po_{i}"), 0, &[7; 300]))
            .collect(),
        counters: counters.clone(),
        conditions: (0..2_000)
            .map(|i| ConditionChange::Open(condition(&format!("po_{i}"), i)))
            .collect(),
        audit: (0..2_000).map(|i| audit(i, "large")).collect(),
        high_watermark_ms: 0,
    };
    applied(&*store, &commit).await;
    assert_eq!(
        store.commit(&commit).await.expect("commit"),
        Committed::AlreadyApplied
    );

    let want = ReadSet {
        dedupe_keys: commit
            .dedupe_keys
            .iter()
            .map(|mark| (mark.day, mark.key.clone()))
            .collect(),
        entities: commit
            .entities
            .iter()
            .map(|write| write.key.clone())
            .collect(),
    };
    let found = store.read(0, &want).await.expect("read");
    assert!(found.dedupe_keys.iter().all(|mark| *mark == Some(delivery)));
    assert!(found.entities.iter().all(|e| {
        e.as_ref()
            .is_some_and(|e| e.version == 1 && e.body == [7; 300])
    }));
    assert_eq!(
        store.counters(0, u32::MAX).await.expect("counters"),
        counters
    );
    assert_eq!(store.conditions().await.expect("conditions").len(), 2_000);
    assert_eq!(
        store
            .conditions_due(&[window(0, 1_999)])
            .await
            .expect("due")
            .len(),
        1_999
    );
}

pub(super) async fn an_entity_is_found_in_any_partition(place: &dyn Place) {
    let store = place.open().await;
    for partition in 0..PARTITIONS {
        applied(
            &*store,
            &full(partition, &format!("po_{partition}"), Uuid::now_v7()),
        )
        .await;
    }
    for partition in 0..PARTITIONS {
        let found = store
            .entity(&payout(&format!("po_{partition}")))
            .await
            .expect("entity")
            .expect("is there");
        assert_eq!(
            (found.version, found.body.as_slice()),
            (1, b"first".as_slice())
        );
    }
    assert_eq!(
        store.entity(&payout("po_none")).await.expect("entity"),
        None
    );
    assert_eq!(
        store
            .entity(&EntityKey::new(EntityKind::Invoice, "po_1"))
            .await
            .expect("entity"),
        None
    );
}

pub(super) async fn every_entity_of_every_partition_is_listed(place: &dyn Place) {
    let store = place.open().await;
    let mut expected = BTreeMap::new();
    for partition in 0..PARTITIONS {
        let entities: Vec<_> = (0..700)
            .map(|i| write(&format!("po_{partition}_{i}"), 0, format!("{i}").as_bytes()))
            .collect();
        expected.extend(
            entities
                .iter()
                .map(|write| (write.key.id.clone(), write.body.clone())),
        );
        applied(
            &*store,
            &Commit {
                partition,
                entities,
                ..Commit::default()
            },
        )
        .await;
    }
    let mut listed = Vec::new();
    let mut each = |id: &str, body: &[u8]| listed.push((id.to_owned(), body.to_vec()));
    store
        .entities(EntityKind::Payout, &mut each)
        .await
        .expect("entities");
    assert_eq!(listed.len(), expected.len());
    assert_eq!(listed.into_iter().collect::<BTreeMap<_, _>>(), expected);
    store
        .entities(EntityKind::Invoice, &mut |id, _| {
            panic!("{id} is no invoice")
        })
        .await
        .expect("entities");
}

pub(super) async fn the_newest_audit_comes_first(place: &dyn Place) {
    let store = place.open().await;
    for at_s in 0..12 {
        let audit = vec![
            audit(2 * at_s, "first"),
            audit(2 * at_s + 1, "second → last"),
        ];
        let partition = u32::try_from(at_s).expect("small") % PARTITIONS;
        applied(
            &*store,
            &Commit {
                partition,
                audit,
                ..Commit::default()
            },
        )
        .await;
    }
    let seconds = |entries: Vec<AuditEntry>| {
        entries
            .into_iter()
            .map(|entry| entry.at_s)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        seconds(store.audit(5).await.expect("audit")),
        [23, 22, 21, 20, 19]
    );
    assert_eq!(
        seconds(store.audit(100).await.expect("audit")),
        (0..24).rev().collect::<Vec<_>>()
    );
    assert_eq!(
        store.audit(1).await.expect("audit"),
        [audit(23, "second → last")]
    );
    assert_eq!(store.audit(0).await.expect("audit"), []);
}

pub(super) async fn what_was_committed_outlives_the_store(place: &dyn Place) {
    let store = place.open().await;
    let commit = full(1, "po_1", Uuid::now_v7());
    applied(&*store, &commit).await;
    let before = everything(&*store, 1, &["po_1"]).await;
    drop(store);
    let store = place.open().await;
    assert_eq!(everything(&*store, 1, &["po_1"]).await, before);
    assert_eq!(
        store.commit(&commit).await.expect("commit"),
        Committed::AlreadyApplied
    );
}

pub(super) async fn entities_are_read_page_by_page_while_others_change(place: &dyn Place) {
    let store = place.open().await;
    let put = async |range: Range<u32>, round: &str| {
        let ids: Vec<_> = range.map(|n| format!("po_{n:04}{round}")).collect();
        for (partition, ids) in (0..PARTITIONS).cycle().zip(ids.chunks(100)) {
            let commit = Commit {
                partition,
                entities: ids.iter().map(|id| write(id, 0, id.as_bytes())).collect(),
                ..Commit::default()
            };
            applied(&*store, &commit).await;
        }
    };
    let commit = Commit {
        entities: vec![EntityWrite {
            key: EntityKey::new(EntityKind::Account, "acct_1"),
            expected: 0,
            body: Vec::new(),
        }],
        ..Commit::default()
    };
    applied(&*store, &commit).await;
    // Enough that each partition's part is larger than what Redis returns in one step.
    put(0..2_400, "").await;
    let all: EntityFilter = Arc::new(|_, _| true);
    for limit in [0, 7, 1_000] {
        let (mut found, mut after, mut pages) = (BTreeSet::new(), None, 0);
        loop {
            let page = store.entity_page(EntityKind::Payout, all.clone(), after.as_ref(), limit);
            let page = page.await.expect("a page");
            assert!(
                page.entities.len() <= limit.max(1) + 1_100,
                "{} entities on a page of {limit}",
                page.entities.len()
            );
            for (id, entity) in page.entities {
                assert_eq!((entity.version, &*entity.body), (1, id.as_bytes()));
                found.insert(id);
            }
            pages += 1;
            if pages % 10 == 1 {
                put(pages..pages + 5, &format!("_new_{limit}")).await;
            }
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        let missing = (0..2_400).find(|n| !found.contains(&format!("po_{n:04}")));
        assert_eq!(missing, None, "pages of {limit}");
        assert!(found.iter().all(|id| id.starts_with("po_")));
    }
}

pub(super) async fn a_filtered_page_examines_a_bounded_number_of_entities(place: &dyn Place) {
    let store = place.open().await;
    let ids: Vec<_> = (0..MAX_ENTITIES_EXAMINED * 2)
        .map(|n| format!("po_{n:05}"))
        .collect();
    for ids in ids.chunks(2_000) {
        let commit = Commit {
            partition: 3,
            entities: ids.iter().map(|id| write(id, 0, id.as_bytes())).collect(),
            ..Commit::default()
        };
        applied(&*store, &commit).await;
    }
    let examined = Arc::new(AtomicUsize::new(0));
    let counter = examined.clone();
    let last: EntityFilter = Arc::new(move |id, body| {
        counter.fetch_add(1, Ordering::Relaxed);
        id == "po_09999" && body == b"po_09999"
    });
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        examined.store(0, Ordering::Relaxed);
        let page = store.entity_page(EntityKind::Payout, last.clone(), after.as_ref(), 10);
        let page = page.await.expect("a page");
        let examined = examined.load(Ordering::Relaxed);
        assert!(examined <= MAX_ENTITIES_EXAMINED + 1_000, "{examined}");
        found.extend(page.entities.into_iter().map(|(id, _)| id));
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    found.dedup();
    assert_eq!(found, ["po_09999"]);
    let wrong = EntityCursor("x".into());
    let refused = store.entity_page(EntityKind::Payout, last, Some(&wrong), 10);
    assert!(matches!(refused.await, Err(StoreError::Misconfigured(_))));
}
