//! Entities and commits: a commit applies completely or not at all, and is safe to repeat.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use revwatch_core::bucket::{Bucket, Buckets};
use revwatch_core::counters::Counters;
use revwatch_core::entity::{EntityKey, EntityKind};
use revwatch_storage::ports::{
    Commit, Committed, ConditionChange, DedupeKey, EntityCursor, EntityFilter, EntityWrite,
    MAX_ENTITIES_EXAMINED, ReadSet, StateStore, StoreError,
};
use uuid::Uuid;

use crate::contract::StorePlace;
use crate::contract::fixtures::{
    DAY, PARTITIONS, applied, audit, condition, dedupe_key, everything, full, payout, window, write,
};

contract!(store: [
    a_commit_is_read_back,
    several_partitions_are_read_as_each_alone,
    a_repeated_commit_is_already_applied,
    a_stale_version_conflicts_and_changes_nothing,
    a_dedupe_key_of_another_delivery_conflicts_and_changes_nothing,
    a_partly_applied_batch_conflicts_and_changes_nothing,
    one_of_two_concurrent_commits_wins,
    a_large_commit_is_applied,
    a_commit_survives_reopening,
    an_entity_is_found_in_any_partition,
    every_entity_of_every_partition_is_listed,
    entities_are_read_page_by_page_while_others_change,
    a_filtered_page_examines_a_bounded_number_of_entities,
]);

async fn a_commit_is_read_back(place: &dyn StorePlace) {
    let store = place.store().await;
    let every_byte: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
    let deliveries = [Uuid::now_v7(), Uuid::from_bytes([0; 16])];
    let account = EntityKey::new(EntityKind::Account, "acct_1");
    let commit = Commit {
        partition: 2,
        dedupe_keys: vec![
            dedupe_key("evt_1", deliveries[0]),
            DedupeKey {
                day: DAY + 1,
                ..dedupe_key("evt_2", deliveries[1])
            },
        ],
        entities: vec![
            write("po_1", 0, &every_byte),
            write("po_empty", 0, b""),
            EntityWrite {
                key: account.clone(),
                expected: 0,
                body: Some(b"account".to_vec()),
            },
        ],
        ..Commit::default()
    };
    applied(&*store, &commit).await;

    let read_set = ReadSet {
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
    let found = store.read(2, &read_set).await.expect("read");
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

    let other_partition = store.read(1, &read_set).await.expect("read");
    assert_eq!(other_partition.dedupe_keys, [None; 4]);
    assert_eq!(other_partition.entities, [const { None }; 4]);

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

async fn several_partitions_are_read_as_each_alone(place: &dyn StorePlace) {
    let store = place.store().await;
    for (partition, body) in [(0, b"zero".as_slice()), (1, b"one"), (2, b"two")] {
        let commit = Commit {
            partition,
            dedupe_keys: vec![dedupe_key(&format!("evt_{partition}"), Uuid::now_v7())],
            entities: vec![
                write("po_1", 0, body),
                write(&format!("po_of_{partition}"), 0, body),
            ],
            ..Commit::default()
        };
        applied(&*store, &commit).await;
    }
    let of_all = ReadSet {
        dedupe_keys: (0..3).map(|n| (DAY, format!("evt_{n}"))).collect(),
        entities: ["po_of_2", "po_1", "po_of_0"].map(payout).to_vec(),
    };
    let (of_none, of_one) = (
        ReadSet::default(),
        ReadSet {
            entities: vec![payout("po_1")],
            ..ReadSet::default()
        },
    );
    let wanted = [
        (2, &of_all),
        (0, &of_one),
        (1, &of_none),
        (0, &of_all),
        (2, &of_one),
    ];
    let mut alone = Vec::new();
    for (partition, want) in wanted {
        alone.push(store.read(partition, want).await.expect("read"));
    }
    let bodies = alone
        .iter()
        .map(|found| found.entities.iter().flatten().count());
    assert_eq!(bodies.collect::<Vec<_>>(), [2, 1, 0, 2, 1]);
    assert_eq!(store.read_all(&wanted).await.expect("read"), alone);
    assert_eq!(store.read_all(&[]).await.expect("read"), []);
}

async fn a_repeated_commit_is_already_applied(place: &dyn StorePlace) {
    let store = place.store().await;
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

async fn a_stale_version_conflicts_and_changes_nothing(place: &dyn StorePlace) {
    let store = place.store().await;
    applied(&*store, &full(1, "po_1", Uuid::now_v7())).await;
    for expected in [0, 2] {
        let mut commit = full(1, "po_2", Uuid::now_v7());
        commit.entities.push(write("po_1", expected, b"never"));
        conflicts_and_changes_nothing(&*store, &commit).await;
    }
    let mut commit = full(1, "po_2", Uuid::now_v7());
    commit.entities.push(write("po_3", 1, b"never existed"));
    conflicts_and_changes_nothing(&*store, &commit).await;
}

async fn a_dedupe_key_of_another_delivery_conflicts_and_changes_nothing(place: &dyn StorePlace) {
    let store = place.store().await;
    applied(&*store, &full(1, "po_1", Uuid::now_v7())).await;
    let mut commit = full(1, "po_2", Uuid::now_v7());
    commit
        .dedupe_keys
        .push(dedupe_key("evt_po_1", Uuid::now_v7()));
    conflicts_and_changes_nothing(&*store, &commit).await;
}

/// "Already applied" would lose the deliveries that were not applied.
async fn a_partly_applied_batch_conflicts_and_changes_nothing(place: &dyn StorePlace) {
    let store = place.store().await;
    let (first, second) = (Uuid::now_v7(), Uuid::now_v7());
    applied(&*store, &full(1, "po_1", first)).await;
    let mut commit = full(1, "po_2", second);
    commit.dedupe_keys.push(dedupe_key("evt_po_1", first));
    conflicts_and_changes_nothing(&*store, &commit).await;
}

async fn one_of_two_concurrent_commits_wins(place: &dyn StorePlace) {
    let (one, two) = (place.store().await, place.store().await);
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

async fn a_large_commit_is_applied(place: &dyn StorePlace) {
    let store = place.store().await;
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
            .map(|i| dedupe_key(&format!("evt_{i}"), delivery))
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
        conversion: None,
    };
    applied(&*store, &commit).await;
    assert_eq!(
        store.commit(&commit).await.expect("commit"),
        Committed::AlreadyApplied
    );

    let read_set = ReadSet {
        dedupe_keys: commit
            .dedupe_keys
            .iter()
            .map(|key| (key.day, key.key.clone()))
            .collect(),
        entities: commit
            .entities
            .iter()
            .map(|write| write.key.clone())
            .collect(),
    };
    let found = store.read(0, &read_set).await.expect("read");
    assert!(
        found
            .dedupe_keys
            .iter()
            .all(|found| *found == Some(delivery))
    );
    assert!(found.entities.iter().all(|e| {
        e.as_ref()
            .is_some_and(|e| e.version == 1 && e.body == [7; 300])
    }));
    assert_eq!(
        store
            .counters(&Buckets::of_hours(0, u32::MAX))
            .await
            .expect("counters"),
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

async fn a_commit_survives_reopening(place: &dyn StorePlace) {
    let store = place.store().await;
    let commit = full(1, "po_1", Uuid::now_v7());
    applied(&*store, &commit).await;
    let before = everything(&*store, 1, &["po_1"]).await;
    drop(store);
    let store = place.store().await;
    assert_eq!(everything(&*store, 1, &["po_1"]).await, before);
    assert_eq!(
        store.commit(&commit).await.expect("commit"),
        Committed::AlreadyApplied
    );
}

async fn an_entity_is_found_in_any_partition(place: &dyn StorePlace) {
    let store = place.store().await;
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
            .expect("an entity");
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

async fn every_entity_of_every_partition_is_listed(place: &dyn StorePlace) {
    let store = place.store().await;
    let mut expected = BTreeMap::new();
    for partition in 0..PARTITIONS {
        let entities: Vec<_> = (0..700)
            .map(|i| write(&format!("po_{partition}_{i}"), 0, format!("{i}").as_bytes()))
            .collect();
        expected.extend(entities.iter().map(|write| {
            (
                write.key.id.clone(),
                (partition, write.body.clone().expect("a body")),
            )
        }));
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
    let mut each = |partition: u32, id: &str, body: &[u8]| {
        listed.push((id.to_owned(), (partition, body.to_vec())));
    };
    store
        .entities(EntityKind::Payout, &mut each)
        .await
        .expect("entities");
    assert_eq!(listed.len(), expected.len());
    assert_eq!(listed.into_iter().collect::<BTreeMap<_, _>>(), expected);
    store
        .entities(EntityKind::Invoice, &mut |_, id, _| {
            panic!("{id} is not an invoice")
        })
        .await
        .expect("entities");
}

async fn entities_are_read_page_by_page_while_others_change(place: &dyn StorePlace) {
    let store = place.store().await;
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
            body: Some(Vec::new()),
        }],
        ..Commit::default()
    };
    applied(&*store, &commit).await;
    // Enough that each partition holds more than Redis returns in one scan step.
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

async fn a_filtered_page_examines_a_bounded_number_of_entities(place: &dyn StorePlace) {
    let store = place.store().await;
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

async fn conflicts_and_changes_nothing(store: &dyn StateStore, commit: &Commit) {
    let ids = ["po_1", "po_2", "po_3"];
    let before = everything(store, 1, &ids).await;
    assert_eq!(
        store.commit(commit).await.expect("commit"),
        Committed::Conflict
    );
    assert_eq!(everything(store, 1, &ids).await, before);
}
