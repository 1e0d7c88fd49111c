//! SQLite: the number of partitions, and files of earlier formats.

use std::ops::Range;

use async_trait::async_trait;
use revwatch_storage::ports::{
    Aggregates, Consume, Documents, Entities, EventQueue, Holding, HoldingQueue, ReadSet, Recovery,
    StateStore,
};
use revwatch_storage::sqlite::{FILE_NAME, Open, Sqlite};
use tempfile::TempDir;

use crate::contract::fixtures::{PARTITIONS, now_s};
use crate::contract::{QueuePlace, StorePlace};

/// A data folder.
pub(crate) struct SqliteFile(TempDir);

impl SqliteFile {
    pub(crate) async fn empty() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn open(&self) -> Box<Sqlite> {
        let create = Open::Create {
            partitions: PARTITIONS,
        };
        Box::new(Sqlite::open(self.0.path(), create).expect("open"))
    }
}

#[async_trait]
impl QueuePlace for SqliteFile {
    async fn queue(&self) -> Box<dyn EventQueue> {
        self.open()
    }
}

#[async_trait]
impl StorePlace for SqliteFile {
    async fn store(&self) -> Box<dyn StateStore> {
        self.open()
    }

    async fn let_days_pass(&self, days: Range<u32>) {
        let store = Sqlite::open(self.0.path(), Open::Existing).expect("open");
        store
            .forget_old(now_s() + i64::from(days.end) * 86_400)
            .await
            .expect("pruned");
    }

    async fn make_older(&self) {
        let file = rusqlite::Connection::open(self.0.path().join(FILE_NAME)).expect("a file");
        file.execute("UPDATE health SET state_format = 1", [])
            .expect("changed");
    }
}

#[test]
fn another_number_of_partitions_is_refused_with_a_correction() {
    let folder = tempfile::tempdir().expect("a folder");
    Sqlite::open(folder.path(), Open::Create { partitions: 4 }).expect("created");
    let error = Sqlite::open(folder.path(), Open::Create { partitions: 8 })
        .err()
        .expect("refused")
        .to_string();
    assert!(error.contains("REVWATCH_PARTITIONS=4"), "{error}");
    let missing = Sqlite::open(&folder.path().join("elsewhere"), Open::Existing)
        .err()
        .expect("refused")
        .to_string();
    assert!(missing.contains("REVWATCH_DATA"), "{missing}");
}

/// The tables of format 1.
const FORMAT_1: &str = include_str!("format_1.sql");

#[tokio::test]
async fn a_file_of_format_1_is_converted_with_all_its_data() {
    let folder = tempfile::tempdir().expect("a folder");
    let old = rusqlite::Connection::open(folder.path().join(FILE_NAME)).expect("a file");
    old.execute_batch(FORMAT_1).expect("the tables");
    old.execute_batch(
        "INSERT INTO meta VALUES ('partitions', '2');
         INSERT INTO archive VALUES (1, x'000000000000000000000000000000a1', 'evt_1', 'payout.paid', 'stripe', 5, NULL, x'7b7d');
         INSERT INTO archive VALUES (2, x'000000000000000000000000000000a2', 'evt_2', 'payout.paid', 'stripe', 6, NULL, x'7b7d');
         INSERT INTO cursors VALUES (0, 1);
         INSERT INTO dead (delivery, event_id, event_type, partition, endpoint, received_ms, body, reason, died_ms)
         VALUES (x'000000000000000000000000000000a1', 'evt_1', 'payout.paid', 0, 'stripe', 5, x'7b7d', 'no id', 7);
         INSERT INTO marks VALUES ('evt_0', 20000, 0, x'000000000000000000000000000000a0', 99999);
         INSERT INTO entities VALUES ('payout', 'po_1', 0, 3, x'01');
         INSERT INTO counters VALUES (-1, 'events|applied', 4);
         INSERT INTO documents VALUES ('alert', 'a', '1');
         PRAGMA user_version = 1;",
    )
    .expect("its data");
    drop(old);
    let refused = Sqlite::open(folder.path(), Open::Existing)
        .err()
        .expect("refused")
        .to_string();
    assert!(refused.contains("revwatch serve"), "{refused}");
    for _ in 0..2 {
        let db = Sqlite::open(folder.path(), Open::Create { partitions: 2 }).expect("converted");
        let dead_letters = db
            .oldest_held(HoldingQueue::DeadLetters, 10)
            .await
            .expect("dead letters");
        let found: Vec<_> = dead_letters
            .iter()
            .map(|l| (l.delivery.id.as_u128(), l.reason.as_str(), l.at_ms))
            .collect();
        assert_eq!(found, [(0xa1, "no id", 7)]);
        assert_eq!(
            db.held_count(HoldingQueue::Parked).await.expect("a count"),
            0
        );
        let waiting = db
            .consume(0)
            .await
            .expect("a consumer")
            .next(10)
            .await
            .expect("deliveries");
        assert_eq!(
            waiting
                .iter()
                .map(|delivery| delivery.event_id.as_str())
                .collect::<Vec<_>>(),
            ["evt_2"]
        );
        let read_set = ReadSet {
            dedupe_keys: vec![(20_000, "evt_0".to_owned())],
            entities: Vec::new(),
        };
        assert_eq!(
            db.read(0, &read_set).await.expect("read").dedupe_keys[0].map(|id| id.as_u128()),
            Some(0xa0)
        );
        assert_eq!(
            db.current_counters(&["events|applied"])
                .await
                .expect("read"),
            4
        );
        assert_eq!(db.documents("alert").await.expect("read").len(), 1);
        assert!(
            db.health().await.expect("health").iter().all(|health| {
                health.state_format == 1
                    && health.complete_in.as_ref() == Some(&health.server_run_id)
            }),
            "a worker converts the state, and no partition needs a replay"
        );
    }
    Sqlite::open(folder.path(), Open::Existing).expect("open for commands");
}

#[tokio::test]
async fn a_file_of_format_2_is_converted_and_its_documents_get_version_1() {
    let folder = tempfile::tempdir().expect("a folder");
    Sqlite::open(folder.path(), Open::Create { partitions: 2 }).expect("created");
    let old = rusqlite::Connection::open(folder.path().join(FILE_NAME)).expect("a file");
    old.execute_batch(
        "ALTER TABLE health RENAME COLUMN complete_in TO whole_in;
         ALTER TABLE health RENAME COLUMN recovery_id TO healed_by;
         ALTER TABLE health RENAME COLUMN high_watermark_ms TO reach_ms;
         ALTER TABLE health RENAME COLUMN recovery TO healing;
         ALTER TABLE health DROP COLUMN state_format;
         ALTER TABLE health DROP COLUMN conversion;
         DROP TABLE document_sequence;
         ALTER TABLE documents DROP COLUMN version;
         ALTER TABLE documents DROP COLUMN write_id;
         INSERT INTO documents VALUES ('alert', 'a', '{}');
         PRAGMA user_version = 2;",
    )
    .expect("format 2");
    drop(old);
    let refused = Sqlite::open(folder.path(), Open::Existing).err();
    let refused = refused.expect("refused").to_string();
    assert!(refused.contains("has format 2"), "{refused}");

    let store = Sqlite::open(folder.path(), Open::Create { partitions: 2 }).expect("converted");
    let found = store.documents_by_key("alert", &["a".into()]).await;
    let found = found.expect("documents").remove(0).expect("a document");
    assert_eq!((found.version, found.body.as_str()), (1, "{}"));
    store.submit("alert", "a", "2").await.expect("written");
    let found = store.documents_by_key("alert", &["a".into()]).await;
    assert_eq!(
        found
            .expect("documents")
            .remove(0)
            .expect("a document")
            .version,
        2
    );
}
