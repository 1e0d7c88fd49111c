//! The journal writer with an embedded queue and with one that fails or never responds.

use revwatch_core::clock::Clock as _;
use revwatch_storage::sqlite::Sqlite;
use revwatch_storage::system::SystemClock;

use super::*;
use crate::alert::{Evidence, MessageKey, Subject};
use crate::test_support::{BrokenJournal, LONG, lease, open_sqlite};

fn opened(folder: &tempfile::TempDir) -> (Arc<Sqlite>, Arc<dyn Journal>) {
    let sqlite = open_sqlite(folder);
    (sqlite.clone(), sqlite)
}

fn silence(key: &str, body: Option<&str>) -> DocumentWrite {
    DocumentWrite {
        space: SILENCES,
        key: key.to_owned(),
        body: body.map(str::to_owned),
    }
}

/// The queue was unavailable when a silence was ended and another set; then the store restarts and loses nothing.
#[tokio::test]
async fn documents_that_the_journal_does_not_have_yet_are_not_undone() {
    let folder = tempfile::tempdir().expect("a folder");
    let (sqlite, queue) = opened(&folder);
    let fence = lease(&sqlite, "me").await;
    let (before, after) = (
        [silence("ended", Some("1")), silence("longer", Some("1"))],
        [
            silence("ended", None),
            silence("longer", Some("2")),
            silence("new", Some("3")),
        ],
    );
    let mut journal = JournalWriter::default();
    sqlite
        .write_documents(fence, &before)
        .await
        .expect("written");
    journal.note(&before, SystemClock.now_ms());
    journal.end(&queue, LONG).await;
    sqlite
        .write_documents(fence, &after)
        .await
        .expect("written");
    journal.note(&after, SystemClock.now_ms());
    assert_eq!(
        differences(&*queue, &*sqlite, &journal)
            .await
            .expect("read"),
        []
    );
    // Nor forgotten, if the store has lost them.
    sqlite
        .write_documents(fence, &before)
        .await
        .expect("written");
    sqlite
        .write_documents(fence, &[silence("new", None)])
        .await
        .expect("written");
    let lost = async |journal: &JournalWriter| {
        let mut lost = differences(&*queue, &*sqlite, journal).await.expect("read");
        lost.sort_by(|a, b| a.key.cmp(&b.key));
        lost
    };
    assert_eq!(lost(&journal).await, after);
    // Also while the entries are in flight.
    let silent: Arc<dyn Journal> = Arc::new(BrokenJournal::default());
    journal.flush(&silent, LONG);
    assert!(journal.is_in_flight());
    assert_eq!(lost(&journal).await, after);
}

/// Otherwise a store that lost everything would begin again, and everything since would be old.
#[tokio::test]
async fn when_revwatch_began_survives_the_store() {
    let folder = tempfile::tempdir().expect("a folder");
    let (sqlite, queue) = opened(&folder);
    let began = DocumentWrite {
        space: BEGAN,
        key: "began".to_owned(),
        body: Some("{\"began_s\":5}".to_owned()),
    };
    let mut journal = JournalWriter::default();
    journal.note(std::slice::from_ref(&began), SystemClock.now_ms());
    journal.end(&queue, LONG).await;
    let lost = differences(&*queue, &*sqlite, &journal)
        .await
        .expect("read");
    assert_eq!(lost, [began]);
}

/// An alerting process died after it had stored an attempt and before the journal had it; then the
/// store restarted, losing nothing.
#[tokio::test]
async fn an_attempt_that_the_journal_does_not_have_yet_is_not_forgotten() {
    let folder = tempfile::tempdir().expect("a folder");
    let (sqlite, queue) = opened(&folder);
    let fence = lease(&sqlite, "me").await;
    let rule = crate::rule_text::built_in().expect("valid").remove(0);
    let mut alert = Alert::fire(&rule, &Subject::Business, 0, 0, Evidence::default());
    let mut write = |attempting_revision, delivered_revision| {
        let state = NotificationState {
            attempting_revision,
            delivered_revision,
            ..NotificationState::default()
        };
        alert.notifications.insert(MessageKey::main("slack"), state);
        DocumentWrite {
            space: ALERTS,
            key: alert.id.clone(),
            body: Some(serde_json::to_string(&alert).expect("plain data")),
        }
    };
    let (fired, attempted, delivered) = (write(None, 0), write(Some(1), 0), write(None, 1));
    // What the store and the journal have, and what the store gets.
    for (stored, journaled, restored) in [
        (&attempted, &fired, None),
        (&delivered, &attempted, None),
        (&fired, &attempted, Some(&attempted)),
        (&attempted, &delivered, Some(&delivered)),
    ] {
        let mut journal = JournalWriter::default();
        let own = std::slice::from_ref(stored);
        sqlite.write_documents(fence, own).await.expect("written");
        journal.note(std::slice::from_ref(journaled), SystemClock.now_ms());
        let writes = differences(&*queue, &*sqlite, &journal).await;
        assert_eq!(writes.expect("read").first(), restored);
    }
}

/// While entries waited here, another evaluator went further, and could write.
#[tokio::test]
async fn writes_of_another_evaluator_are_not_undone() {
    let folder = tempfile::tempdir().expect("a folder");
    let (sqlite, queue) = opened(&folder);
    let fence = lease(&sqlite, "other").await;
    let silence = |body: &str| silence("a", Some(body));
    let (mut own, mut others) = (JournalWriter::default(), JournalWriter::default());
    own.note(&[silence("older")], SystemClock.now_ms());
    own.waiting.values_mut().for_each(|entry| entry.at_ms -= 1);
    sqlite
        .write_documents(fence, &[silence("newer")])
        .await
        .expect("written");
    others.note(&[silence("newer")], SystemClock.now_ms());
    others.end(&queue, LONG).await;
    assert_eq!(
        differences(&*queue, &*sqlite, &own).await.expect("read"),
        []
    );
    own.catch_up(&*sqlite, SystemClock.now_ms())
        .await
        .expect("read");
    own.end(&queue, LONG).await;
    sqlite
        .write_documents(
            fence,
            &[DocumentWrite {
                body: None,
                ..silence("")
            }],
        )
        .await
        .expect("written");
    assert_eq!(
        differences(&*queue, &*sqlite, &own).await.expect("read"),
        [silence("newer")]
    );
}

#[tokio::test]
async fn entries_wait_for_the_result_and_the_newest_of_each_key_is_sent_next() {
    let silent = Arc::new(BrokenJournal::default());
    let queue: Arc<dyn Journal> = silent.clone();
    let mut journal = JournalWriter::default();
    journal.note(
        &[silence("a", Some("1")), silence("b", Some("1"))],
        SystemClock.now_ms(),
    );
    journal.flush(&queue, LONG);
    journal.note(&[silence("a", Some("2"))], SystemClock.now_ms());
    journal.note(&[silence("a", Some("3"))], SystemClock.now_ms());
    // One at a time, so that the older entry does not come last.
    journal.flush(&queue, LONG);
    tokio::task::yield_now().await;
    assert_eq!(silent.requests().len(), 1);
    assert_eq!(journal.waiting.len(), 2);
    journal.on_result(Ok(()));
    let waiting: Vec<_> = journal
        .waiting
        .values()
        .map(|entry| (entry.key.as_str(), entry.body.as_deref()))
        .collect();
    assert_eq!(waiting, [("a", Some("3"))]);
    journal.flush(&queue, LONG);
    journal.on_result(Ok(()));
    assert!(journal.waiting.is_empty() && journal.newest.is_empty());
}

#[tokio::test]
async fn a_failing_journal_is_retried_after_a_backoff_and_once_at_the_end() {
    let failing = Arc::new(BrokenJournal::failing());
    let queue: Arc<dyn Journal> = failing.clone();
    let requests = || failing.requests().len();
    let mut journal = JournalWriter::default();
    journal.note(&[silence("a", Some("1"))], SystemClock.now_ms());
    journal.flush(&queue, LONG);
    journal.take_result().await;
    journal.retry_at = Some(Instant::now() + LONG);
    journal.flush(&queue, LONG);
    assert!(!journal.is_in_flight() && requests() == 1 && journal.waiting.len() == 1);
    journal.end(&queue, LONG).await;
    assert_eq!(
        (requests(), journal.waiting.len(), journal.failures),
        (2, 1, 2)
    );
}

#[tokio::test]
async fn waiting_entries_are_bounded_and_sent_in_batches_in_their_order() {
    let silent = Arc::new(BrokenJournal::default());
    let queue: Arc<dyn Journal> = silent.clone();
    let mut journal = JournalWriter::default();
    let writes: Vec<_> = (0..MAX_WAITING + 5)
        .rev()
        .map(|n| silence(&n.to_string(), None))
        .collect();
    journal.note(&writes, SystemClock.now_ms());
    assert_eq!(
        (journal.waiting.len(), journal.newest.len()),
        (MAX_WAITING, MAX_WAITING)
    );
    assert_eq!(journal.dropped, 5);
    journal.flush(&queue, LONG);
    tokio::task::yield_now().await;
    let requests = silent.requests();
    let first: Vec<_> = requests
        .concat()
        .into_iter()
        .map(|entry| entry.key)
        .collect();
    let expected: Vec<_> = writes
        .into_iter()
        .skip(5)
        .take(WRITE_BATCH)
        .map(|write| write.key)
        .collect();
    assert_eq!(first, expected);
}

/// A crash came between two batches: the alert was added to the history, and its open document not deleted.
#[tokio::test]
async fn a_resolved_alert_does_not_come_back_open() {
    let folder = tempfile::tempdir().expect("a folder");
    let (sqlite, queue) = opened(&folder);
    let write = |space| DocumentWrite {
        space,
        key: "al_1".to_owned(),
        body: Some("{}".to_owned()),
    };
    let mut journal = JournalWriter::default();
    journal.note(&[write(ALERTS), write(HISTORY)], SystemClock.now_ms());
    journal.end(&queue, LONG).await;
    let lost = differences(&*queue, &*sqlite, &JournalWriter::default())
        .await
        .expect("read");
    assert_eq!(lost, [write(HISTORY)]);
}
