//! Conversion of a state of an older format.

use std::collections::BTreeSet;

use revwatch_core::bucket::{Bucket, Buckets};
use revwatch_core::counters::Counters;
use revwatch_core::entity::EntityKind;
use revwatch_storage::ports::{Commit, Committed, Health, ShardEntity, StateStore, StoreError};
use uuid::Uuid;

use crate::contract::StorePlace;
use crate::contract::fixtures::{
    DAY, PARTITIONS, applied, everything, full, make_complete, payout, write,
};

contract!(store: [
    a_partition_of_an_older_format_is_not_complete_and_takes_no_commit,
    a_conversion_keeps_what_is_known_of_completeness,
    the_last_conversion_that_began_wins,
    a_commit_deletes_entities,
    a_shard_has_its_partitions_entities_and_aggregates,
    readers_of_changes_get_a_gap,
    dropped_state_needs_no_conversion,
]);

fn hours_from(hour: u32) -> Buckets {
    Buckets::of_hours(hour, u32::MAX)
}

async fn all_health(store: &dyn StateStore) -> Vec<Health> {
    store.health().await.expect("health")
}

/// Begins a conversion of every partition, and returns the run ids.
async fn begin(store: &dyn StateStore, id: &str) -> Vec<String> {
    let mut run_ids = Vec::new();
    for partition in 0..PARTITIONS {
        let begun = store.begin_conversion(partition, id).await;
        run_ids.push(begun.expect("begun"));
    }
    run_ids
}

async fn end(store: &dyn StateStore, id: &str, run_ids: &[String]) -> Vec<bool> {
    let mut ended = Vec::new();
    for (partition, run_id) in (0..).zip(run_ids) {
        let end = store.end_conversion(partition, id, run_id).await;
        ended.push(end.expect("an answer"));
    }
    ended
}

async fn a_partition_of_an_older_format_is_not_complete_and_takes_no_commit(
    place: &dyn StorePlace,
) {
    let store = place.store().await;
    make_complete(&*store, "first").await;
    let kept = full(1, "po_1", Uuid::now_v7());
    applied(&*store, &kept).await;
    let before = everything(&*store, 1, &["po_1", "po_2"]).await;
    place.make_older().await;
    let health = all_health(&*store).await;
    let is_older = |it: &Health| it.state_format == 1 && !it.is_converted() && !it.is_complete();
    assert!(health.iter().all(is_older), "{health:?}");
    let commit = full(1, "po_2", Uuid::now_v7());
    for commit in [&commit, &kept] {
        let refused = store.commit(commit).await;
        assert!(
            matches!(refused, Err(StoreError::Unconverted)),
            "{refused:?}"
        );
    }
    let run_ids = begin(&*store, "a").await;
    let refused = store.commit(&commit).await;
    assert!(
        matches!(refused, Err(StoreError::Unconverted)),
        "{refused:?}"
    );
    assert_eq!(everything(&*store, 1, &["po_1", "po_2"]).await, before);
    let part = Commit {
        conversion: Some("a".into()),
        ..commit.clone()
    };
    applied(&*store, &part).await;
    assert_eq!(
        end(&*store, "a", &run_ids).await,
        [true; PARTITIONS as usize]
    );
    let refused = store.commit(&part).await;
    assert!(matches!(refused, Err(StoreError::Fenced)), "{refused:?}");
    applied(&*store, &full(1, "po_3", Uuid::now_v7())).await;
}

async fn a_conversion_keeps_what_is_known_of_completeness(place: &dyn StorePlace) {
    let store = place.store().await;
    make_complete(&*store, "first").await;
    let commit = Commit {
        high_watermark_ms: 2_000_000_000_000,
        ..full(1, "po_1", Uuid::now_v7())
    };
    applied(&*store, &commit).await;
    let recovery = store.begin_recovery(2, "second", 5).await.expect("begin");
    let before = all_health(&*store).await;
    place.make_older().await;
    for id in ["a", "b"] {
        let run_ids = begin(&*store, id).await;
        let health = all_health(&*store).await;
        let is_begun = |it: &Health| !it.is_complete() && it.conversion.as_deref() == Some(id);
        assert!(health.iter().all(is_begun), "{health:?}");
        assert_eq!(
            end(&*store, id, &run_ids).await,
            [true; PARTITIONS as usize]
        );
        let expected: Vec<Health> = before
            .iter()
            .cloned()
            .map(|it| Health {
                recovery_id: Some(id.to_owned()),
                ..it
            })
            .collect();
        assert_eq!(all_health(&*store).await, expected);
        let complete: Vec<bool> = expected.iter().map(Health::is_complete).collect();
        assert_eq!(complete, [true, true, false, true]);
        assert_eq!(expected[2].recovery, Some(recovery.clone()));
    }
}

async fn the_last_conversion_that_began_wins(place: &dyn StorePlace) {
    let store = place.store().await;
    make_complete(&*store, "first").await;
    place.make_older().await;
    let run_ids = begin(&*store, "a").await;
    begin(&*store, "b").await;
    let part = |id: &str| Commit {
        entities: vec![write("po_1", 0, b"converted")],
        conversion: Some(id.into()),
        ..Commit::default()
    };
    let refused = store.commit(&part("a")).await;
    assert!(matches!(refused, Err(StoreError::Fenced)), "{refused:?}");
    assert_eq!(end(&*store, "a", &run_ids).await, [false; 4]);
    let found = everything(&*store, 0, &["po_1"]).await;
    assert_eq!(found.versions, [None]);
    applied(&*store, &part("b")).await;
    let other_run = vec!["another run id".to_owned(); 4];
    assert_eq!(end(&*store, "b", &other_run).await, [false; 4]);
    assert!(all_health(&*store).await.iter().all(|it| !it.is_complete()));
    assert_eq!(end(&*store, "b", &run_ids).await, [true; 4]);
    assert_eq!(end(&*store, "b", &run_ids).await, [false; 4]);
    assert!(all_health(&*store).await.iter().all(Health::is_complete));
}

async fn a_commit_deletes_entities(place: &dyn StorePlace) {
    let store = place.store().await;
    for partition in [1, 2] {
        let entities = ["po_1", "po_2"].map(|id| write(id, 0, b"body")).into();
        let commit = Commit {
            partition,
            entities,
            ..Commit::default()
        };
        applied(&*store, &commit).await;
    }
    let delete = |expected| {
        let mut deletion = write("po_1", expected, b"");
        deletion.body = None;
        Commit {
            partition: 1,
            entities: vec![deletion, write("po_2", 1, b"second")],
            ..Commit::default()
        }
    };
    for outdated in [0, 2] {
        let refused = store.commit(&delete(outdated)).await.expect("an answer");
        assert_eq!(refused, Committed::Conflict);
    }
    applied(&*store, &delete(1)).await;
    let versions = async |partition| {
        everything(&*store, partition, &["po_1", "po_2"])
            .await
            .versions
    };
    assert_eq!(versions(1).await, [None, Some(2)]);
    assert_eq!(versions(2).await, [Some(1), Some(1)]);
    let found = store.entity(&payout("po_1")).await.expect("read");
    assert!(found.is_some(), "the one in the other partition");
}

async fn a_shard_has_its_partitions_entities_and_aggregates(place: &dyn StorePlace) {
    let store = place.store().await;
    for partition in 0..PARTITIONS {
        let mut commit = full(partition, &format!("po_{partition}"), Uuid::now_v7());
        let further = (0..3_000).map(|n| write(&format!("po_{partition}_{n}"), 0, b"body"));
        commit.entities.extend(further);
        applied(&*store, &commit).await;
    }
    let (mut seen, mut counters, mut conditions) = (BTreeSet::new(), Counters::default(), 0);
    for shard in 0..store.shards() {
        let mut after = None;
        loop {
            let page = store.shard_page(shard, EntityKind::Payout, after.as_ref());
            let page = page.await.expect("a page");
            for ShardEntity {
                partition,
                key,
                stored,
            } in page.entities
            {
                assert!(store.shards() == 1 || partition == shard);
                assert_eq!(stored.version, 1);
                seen.insert((partition, key.id));
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let found = store.shard_aggregates(shard, &hours_from(DAY * 24)).await;
        let found = found.expect("aggregates");
        counters.merge(found.counters, 1);
        conditions += found.conditions.len();
        let later = store
            .shard_aggregates(shard, &hours_from(DAY * 24 + 6))
            .await;
        let buckets: BTreeSet<Bucket> = later
            .expect("aggregates")
            .counters
            .iter()
            .map(|it| it.0)
            .collect();
        assert_eq!(buckets, [Bucket::Current].into());
    }
    assert_eq!(seen.len(), 4 * 3_001);
    let all = store
        .counters(&Buckets::of_hours(0, u32::MAX))
        .await
        .expect("counters");
    assert_eq!((counters, conditions), (all, 4));
}

async fn readers_of_changes_get_a_gap(place: &dyn StorePlace) {
    let store = place.store().await;
    make_complete(&*store, "first").await;
    applied(&*store, &full(1, "po_1", Uuid::now_v7())).await;
    let cursor = async |from| {
        let changes = store.condition_changes(&from, 10).await.expect("changes");
        (changes.gap, changes.cursor, changes.changes.len())
    };
    let (_, read, count) = cursor(Default::default()).await;
    assert_eq!(count, 1);
    let run_ids = begin(&*store, "a").await;
    end(&*store, "a", &run_ids).await;
    let (gap, read, _) = cursor(read).await;
    assert!(gap);
    assert!(!cursor(read.clone()).await.0, "a gap is reported once");
    applied(&*store, &full(1, "po_2", Uuid::now_v7())).await;
    let (gap, _, count) = cursor(read).await;
    assert_eq!((gap, count), (false, 1));
}

async fn dropped_state_needs_no_conversion(place: &dyn StorePlace) {
    let store = place.store().await;
    make_complete(&*store, "first").await;
    place.make_older().await;
    begin(&*store, "a").await;
    store.drop_state().await.expect("dropped");
    let health = all_health(&*store).await;
    assert!(
        health
            .iter()
            .all(|it| it.is_converted() && !it.is_complete())
    );
    applied(&*store, &full(1, "po_1", Uuid::now_v7())).await;
    make_complete(&*store, "second").await;
    assert!(all_health(&*store).await.iter().all(Health::is_complete));
}
