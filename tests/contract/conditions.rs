//! Open conditions, when they fall due, and how alerting reads their changes.

use revwatch_core::condition::Condition;
use revwatch_storage::ports::{ChangeCursor, Commit, ConditionChange, StateStore};

use crate::contract::StorePlace;
use crate::contract::fixtures::{PARTITIONS, applied, condition, open, window};

contract!(store: [
    a_condition_opens_changes_and_closes,
    a_condition_falls_due_in_one_window,
    changes_are_read_once_and_in_order,
    a_limited_reader_reads_every_change,
    a_busy_partition_is_read_in_full_pages,
    a_busy_partition_does_not_starve_the_others,
    a_cursor_survives_reopening,
]);

async fn a_condition_opens_changes_and_closes(place: &dyn StorePlace) {
    let store = place.store().await;
    let (first, second) = (condition("po_1", 100), condition("po_2", 200));
    open(&*store, 0, &first).await;
    open(&*store, 1, &second).await;
    assert_eq!(
        sorted(store.conditions().await.expect("conditions")),
        [first.clone(), second.clone()]
    );

    let later = Condition {
        due_s: 300,
        detail: Some("no_account".into()),
        ..first.clone()
    };
    open(&*store, 0, &later).await;
    assert_eq!(
        sorted(store.conditions().await.expect("conditions")),
        [later.clone(), second.clone()]
    );
    assert_eq!(
        store.conditions_due(&[window(0, 150)]).await.expect("due"),
        []
    );
    assert_eq!(
        store
            .conditions_due(&[window(250, 300)])
            .await
            .expect("due"),
        std::slice::from_ref(&later),
        "it is due at its new time"
    );

    close(&*store, 0, &first).await;
    close(&*store, 0, &first).await;
    let left = std::slice::from_ref(&second);
    assert_eq!(store.conditions().await.expect("conditions"), left);
    assert_eq!(
        store
            .conditions_due(&[window(0, 1_000)])
            .await
            .expect("due"),
        left
    );

    // Within one commit the last change counts.
    let conditions = vec![
        ConditionChange::Close(second.key.clone()),
        ConditionChange::Open(first.clone()),
        ConditionChange::Close(first.key.clone()),
        ConditionChange::Open(second.clone()),
    ];
    applied(
        &*store,
        &Commit {
            partition: 1,
            conditions,
            ..Commit::default()
        },
    )
    .await;
    assert_eq!(store.conditions().await.expect("conditions"), [second]);
}

async fn a_condition_falls_due_in_one_window(place: &dyn StorePlace) {
    let store = place.store().await;
    for (partition, due_s) in [(0, 100), (1, 101), (2, 102), (0, 103)] {
        open(
            &*store,
            partition,
            &condition(&format!("po_{due_s}"), due_s),
        )
        .await;
    }
    let due = async |after, until| {
        let found = store
            .conditions_due(&[window(after, until)])
            .await
            .expect("due");
        sorted(found)
            .into_iter()
            .map(|condition| condition.due_s)
            .collect::<Vec<_>>()
    };
    assert_eq!(due(99, 101).await, [100, 101]);
    assert_eq!(due(101, 102).await, [102]);
    assert_eq!(due(102, 1_000).await, [103]);
    assert_eq!(due(103, 1_000).await, [0; 0]);
    assert_eq!(due(-1, 99).await, [0; 0]);
    assert_eq!(due(i64::MIN, i64::MAX).await, [100, 101, 102, 103]);
    let several = store
        .conditions_due(&[window(102, 103), window(0, 1), window(99, 100)])
        .await
        .expect("due");
    assert_eq!(
        sorted(several)
            .into_iter()
            .map(|condition| condition.due_s)
            .collect::<Vec<_>>(),
        [100, 103]
    );
    assert_eq!(store.conditions_due(&[]).await.expect("due"), []);
}

async fn changes_are_read_once_and_in_order(place: &dyn StorePlace) {
    let store = place.store().await;
    let nothing = store
        .condition_changes(&ChangeCursor::new(), 100)
        .await
        .expect("changes");
    assert!(nothing.changes.is_empty() && !nothing.gap);

    let (first, second) = (condition("po_1", 100), condition("po_2", 200));
    open(&*store, 0, &first).await;
    close(&*store, 0, &first).await;
    open(&*store, 2, &second).await;
    let read = store
        .condition_changes(&nothing.cursor, 100)
        .await
        .expect("changes");
    assert!(!read.gap);
    let expected = [
        ConditionChange::Open(first.clone()),
        ConditionChange::Close(first.key.clone()),
        ConditionChange::Open(second.clone()),
    ];
    assert_eq!(read.changes, expected);
    let again = store
        .condition_changes(&nothing.cursor, 100)
        .await
        .expect("changes");
    assert_eq!((again.changes, &again.cursor), (read.changes, &read.cursor));

    let found = store
        .condition_changes(&read.cursor, 100)
        .await
        .expect("changes");
    assert!(found.changes.is_empty() && !found.gap);
    assert_eq!(found.cursor, read.cursor);

    open(&*store, 0, &first).await;
    open(&*store, 3, &condition("po_3", 300)).await;
    let found = store
        .condition_changes(&found.cursor, 100)
        .await
        .expect("changes");
    assert!(!found.gap);
    assert_eq!(
        found.changes,
        [
            ConditionChange::Open(first),
            ConditionChange::Open(condition("po_3", 300))
        ]
    );
}

async fn a_limited_reader_reads_every_change(place: &dyn StorePlace) {
    let store = place.store().await;
    for i in 0..40 {
        open(
            &*store,
            i % PARTITIONS,
            &condition(&format!("po_{i}"), i64::from(i)),
        )
        .await;
    }
    let (mut cursor, mut read, mut rounds) = (ChangeCursor::new(), Vec::new(), 0);
    loop {
        let found = store.condition_changes(&cursor, 8).await.expect("changes");
        assert!(!found.gap && found.changes.len() <= 8);
        read.extend(found.changes);
        (cursor, rounds) = (found.cursor, rounds + 1);
        if !found.more {
            break;
        }
    }
    assert!(rounds > 2, "{rounds}");
    let mut due: Vec<i64> = read
        .into_iter()
        .map(|change| match change {
            ConditionChange::Open(condition) => condition.due_s,
            ConditionChange::Close(key) => panic!("{key:?} was closed"),
        })
        .collect();
    due.sort_unstable();
    assert_eq!(due, (0..40).collect::<Vec<_>>());
}

/// A burst of one account is in one partition. `more` states whether there are more changes, not their number.
async fn a_busy_partition_is_read_in_full_pages(place: &dyn StorePlace) {
    const LIMIT: usize = 8;
    let store = place.store().await;
    let mut expected = Vec::new();
    for i in 0..6 * LIMIT as i64 {
        let condition = condition(&format!("po_{i}"), i);
        open(&*store, 2, &condition).await;
        close(&*store, 2, &condition).await;
        expected.extend([
            ConditionChange::Open(condition.clone()),
            ConditionChange::Close(condition.key),
        ]);
    }
    let (mut cursor, mut read, mut rounds) = (ChangeCursor::new(), Vec::new(), 0);
    loop {
        let found = store
            .condition_changes(&cursor, LIMIT)
            .await
            .expect("changes");
        assert!(!found.gap);
        read.extend(found.changes);
        (cursor, rounds) = (found.cursor, rounds + 1);
        if !found.more {
            break;
        }
    }
    assert_eq!(read, expected);
    assert_eq!(
        rounds,
        expected.len() / LIMIT,
        "as many as without other partitions"
    );
    let found = store
        .condition_changes(&cursor, LIMIT)
        .await
        .expect("changes");
    assert!(found.changes.is_empty() && !found.more && found.cursor == cursor);
}

async fn a_busy_partition_does_not_starve_the_others(place: &dyn StorePlace) {
    let store = place.store().await;
    open(&*store, 0, &condition("po_early", 0)).await;
    for i in 1..40 {
        open(&*store, 2, &condition(&format!("po_{i}"), i)).await;
    }
    open(&*store, 3, &condition("po_late", 40)).await;
    let (mut cursor, mut read) = (ChangeCursor::new(), Vec::new());
    loop {
        let found = store.condition_changes(&cursor, 8).await.expect("changes");
        assert!(
            !found.gap && found.changes.len() <= 8 && !(found.more && found.changes.is_empty())
        );
        read.extend(found.changes);
        cursor = found.cursor;
        if !found.more {
            break;
        }
    }
    let expected: Vec<_> = (1..40)
        .map(|i| ConditionChange::Open(condition(&format!("po_{i}"), i)))
        .collect();
    let (of_others, hot): (Vec<_>, Vec<_>) = read
        .into_iter()
        .partition(|change| !expected.contains(change));
    assert_eq!((hot, of_others.len()), (expected, 2));
}

async fn a_cursor_survives_reopening(place: &dyn StorePlace) {
    let store = place.store().await;
    open(&*store, 0, &condition("po_1", 100)).await;
    open(&*store, 1, &condition("po_2", 200)).await;
    let read = store
        .condition_changes(&ChangeCursor::new(), 100)
        .await
        .expect("changes");
    drop(store);
    let store = place.store().await;
    open(&*store, 1, &condition("po_3", 300)).await;
    let found = store
        .condition_changes(&read.cursor, 100)
        .await
        .expect("changes");
    assert!(!found.gap);
    assert_eq!(
        found.changes,
        [ConditionChange::Open(condition("po_3", 300))]
    );
}

async fn close(store: &dyn StateStore, partition: u32, condition: &Condition) {
    let conditions = vec![ConditionChange::Close(condition.key.clone())];
    applied(
        store,
        &Commit {
            partition,
            conditions,
            ..Commit::default()
        },
    )
    .await;
}

fn sorted(mut conditions: Vec<Condition>) -> Vec<Condition> {
    conditions.sort_by(|a, b| a.key.cmp(&b.key));
    conditions
}
