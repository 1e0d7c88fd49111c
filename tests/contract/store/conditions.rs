//! Open conditions, when they fall due, and how alerting hears of them.

use revwatch_storage::ports::ChangeCursor;

use super::*;

pub(super) async fn they_open_change_and_close(place: &dyn Place) {
    let store = place.open().await;
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
        [later, second.clone()]
    );
    assert_eq!(
        store.conditions_due(&[window(0, 150)]).await.expect("due"),
        []
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

    // Within one commit the last word counts.
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

pub(super) async fn they_fall_due_in_one_window_only(place: &dyn Place) {
    let store = place.open().await;
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

pub(super) async fn changes_are_told_once_and_in_order(place: &dyn Place) {
    let store = place.open().await;
    let nothing = store
        .condition_changes(&ChangeCursor::new(), 100)
        .await
        .expect("changes");
    assert!(nothing.changes.is_empty() && !nothing.gap);

    let (first, second) = (condition("po_1", 100), condition("po_2", 200));
    open(&*store, 0, &first).await;
    close(&*store, 0, &first).await;
    open(&*store, 2, &second).await;
    let told = store
        .condition_changes(&nothing.cursor, 100)
        .await
        .expect("changes");
    assert!(!told.gap);
    let expected = [
        ConditionChange::Open(first.clone()),
        ConditionChange::Close(first.key.clone()),
        ConditionChange::Open(second.clone()),
    ];
    assert_eq!(told.changes, expected);
    let again = store
        .condition_changes(&nothing.cursor, 100)
        .await
        .expect("changes");
    assert_eq!((again.changes, &again.cursor), (told.changes, &told.cursor));

    let news = store
        .condition_changes(&told.cursor, 100)
        .await
        .expect("changes");
    assert!(news.changes.is_empty() && !news.gap);
    assert_eq!(news.cursor, told.cursor);

    open(&*store, 0, &first).await;
    open(&*store, 3, &condition("po_3", 300)).await;
    let news = store
        .condition_changes(&news.cursor, 100)
        .await
        .expect("changes");
    assert!(!news.gap);
    assert_eq!(
        news.changes,
        [
            ConditionChange::Open(first),
            ConditionChange::Open(condition("po_3", 300))
        ]
    );
}

pub(super) async fn a_limited_reader_gets_everything_in_the_end(place: &dyn Place) {
    let store = place.open().await;
    for i in 0..40 {
        open(
            &*store,
            i % PARTITIONS,
            &condition(&format!("po_{i}"), i64::from(i)),
        )
        .await;
    }
    let (mut cursor, mut told, mut rounds) = (ChangeCursor::new(), Vec::new(), 0);
    loop {
        let news = store.condition_changes(&cursor, 8).await.expect("changes");
        assert!(!news.gap && news.changes.len() <= 8);
        told.extend(news.changes);
        (cursor, rounds) = (news.cursor, rounds + 1);
        if !news.more {
            break;
        }
    }
    assert!(rounds > 2, "{rounds}");
    let mut due: Vec<i64> = told
        .into_iter()
        .map(|change| match change {
            ConditionChange::Open(condition) => condition.due_s,
            ConditionChange::Close(key) => panic!("{key:?} was never closed"),
        })
        .collect();
    due.sort_unstable();
    assert_eq!(due, (0..40).collect::<Vec<_>>());
}

/// A storm of one account is in one partition. What says that there are more is `more`, not how many came.
pub(super) async fn a_hot_partition_is_read_to_its_end_at_full_speed(place: &dyn Place) {
    const LIMIT: usize = 8;
    let store = place.open().await;
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
    let (mut cursor, mut told, mut rounds) = (ChangeCursor::new(), Vec::new(), 0);
    loop {
        let news = store
            .condition_changes(&cursor, LIMIT)
            .await
            .expect("changes");
        assert!(!news.gap);
        told.extend(news.changes);
        (cursor, rounds) = (news.cursor, rounds + 1);
        if !news.more {
            break;
        }
    }
    assert_eq!(told, expected);
    assert_eq!(
        rounds,
        expected.len() / LIMIT,
        "as many as if there were no other partitions"
    );
    let news = store
        .condition_changes(&cursor, LIMIT)
        .await
        .expect("changes");
    assert!(news.changes.is_empty() && !news.more && news.cursor == cursor);
}

pub(super) async fn a_hot_partition_leaves_the_others_their_share(place: &dyn Place) {
    let store = place.open().await;
    open(&*store, 0, &condition("po_early", 0)).await;
    for i in 1..40 {
        open(&*store, 2, &condition(&format!("po_{i}"), i)).await;
    }
    open(&*store, 3, &condition("po_late", 40)).await;
    let (mut cursor, mut told) = (ChangeCursor::new(), Vec::new());
    loop {
        let news = store.condition_changes(&cursor, 8).await.expect("changes");
        assert!(!news.gap && news.changes.len() <= 8 && !(news.more && news.changes.is_empty()));
        told.extend(news.changes);
        cursor = news.cursor;
        if !news.more {
            break;
        }
    }
    let expected: Vec<_> = (1..40)
        .map(|i| ConditionChange::Open(condition(&format!("po_{i}"), i)))
        .collect();
    let (of_others, hot): (Vec<_>, Vec<_>) = told
        .into_iter()
        .partition(|change| !expected.contains(change));
    assert_eq!((hot, of_others.len()), (expected, 2));
}

pub(super) async fn a_cursor_outlives_the_store(place: &dyn Place) {
    let store = place.open().await;
    open(&*store, 0, &condition("po_1", 100)).await;
    open(&*store, 1, &condition("po_2", 200)).await;
    let told = store
        .condition_changes(&ChangeCursor::new(), 100)
        .await
        .expect("changes");
    drop(store);
    let store = place.open().await;
    open(&*store, 1, &condition("po_3", 300)).await;
    let news = store
        .condition_changes(&told.cursor, 100)
        .await
        .expect("changes");
    assert!(!news.gap);
    assert_eq!(
        news.changes,
        [ConditionChange::Open(condition("po_3", 300))]
    );
}

pub(super) async fn open(store: &dyn StateStore, partition: u32, condition: &Condition) {
    let conditions = vec![ConditionChange::Open(condition.clone())];
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
