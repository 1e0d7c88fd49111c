//! The storage per active subscription and per connected account, by purpose of the bytes.
//!
//! A generated history is written to a separate Redis and to a SQLite in a temporary folder.

use std::collections::BTreeMap;
use std::path::Path;

use revwatch_storage::redis::RedisStore;
use revwatch_storage::sqlite::{FILE_NAME, Open, Sqlite};
use rusqlite::Connection;

use super::business::Histories;
use super::report::Values;
use super::stored_history::{PARTITIONS, store_history};
use super::support::redis::RedisServer;

/// Parts of the stores: the value, Redis's keys, SQLite's tables and indexes. The first two exist
/// for each entity; the others grow with events, or not at all.
const PARTS: [(&str, &[&str], &[&str]); 5] = [
    ("entity_bytes", &["entity:{kind}"], &["entities"]),
    (
        "conditions_bytes",
        &["conditions", "due"],
        &["conditions", "conditions_due"],
    ),
    ("marks_bytes", &["marks:*"], &["marks"]),
    ("audit_bytes", &["audit", "changes"], &["audit", "changes"]),
    (
        "counters_bytes",
        &["counters", "hours:*", "days"],
        &["counters"],
    ),
];

/// Bytes per entity of each kind, in both stores.
pub(crate) async fn bytes_per_entity(count: usize) -> Vec<(String, Values)> {
    let mut found = Vec::new();
    for histories in [
        Histories::subscriptions(count),
        Histories::subscriptions_of_a_year(count / 4),
        Histories::accounts(count),
    ] {
        for (name, bytes) in [
            ("Redis", redis_bytes(&histories).await),
            ("SQLite", sqlite_bytes(&histories).await),
        ] {
            let mut values: Values = PARTS
                .iter()
                .map(|(column, ..)| *column)
                .zip(bytes)
                .collect();
            values.push((
                "events_each",
                histories.events as f64 / histories.count as f64,
            ));
            found.push((format!("bytes: {}, {name}", histories.about), values));
        }
    }
    found
}

async fn redis_bytes(histories: &Histories) -> [f64; 5] {
    // The interval of writes to the file does not affect memory.
    let server = RedisServer::start_with(&[
        "--appendfsync",
        "everysec",
        "--auto-aof-rewrite-percentage",
        "0",
    ]);
    let store = RedisStore::connect(&server.url(), PARTITIONS)
        .await
        .expect("a Redis");
    store_history(&store, histories).await;
    drop(store);
    PARTS.map(|(_, keys, _)| {
        let before = used_memory(&server);
        for key in keys {
            let pattern = format!("revwatch:{{p*}}:{}", key.replace("{kind}", histories.kind));
            for found in server.run::<Vec<String>>(&format!("KEYS {pattern}")) {
                server.run::<i64>(&format!("DEL {found}"));
            }
        }
        (before - used_memory(&server)) / histories.count as f64
    })
}

fn used_memory(server: &RedisServer) -> f64 {
    let info: String = server.run("INFO memory");
    let bytes = info
        .lines()
        .find_map(|line| line.strip_prefix("used_memory:")?.trim().parse().ok());
    bytes.expect("Redis reports its memory")
}

async fn sqlite_bytes(histories: &Histories) -> [f64; 5] {
    let folder = tempfile::tempdir().expect("a folder");
    let open = || {
        Sqlite::open(
            folder.path(),
            Open::Create {
                partitions: PARTITIONS,
            },
        )
        .expect("a store")
    };
    let store = open();
    let empty = file_bytes(folder.path());
    store_history(&store, histories).await;
    let file = file_bytes(folder.path());
    PARTS.map(|(_, _, tables)| {
        let grown = tables.iter().map(|table| file[*table] - empty[*table]);
        grown.sum::<f64>() / histories.count as f64
    })
}

/// The pages of each table and index, after the WAL is checkpointed.
fn file_bytes(folder: &Path) -> BTreeMap<String, f64> {
    let file = Connection::open(folder.join(FILE_NAME)).expect("the store");
    file.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .expect("no other writer");
    let mut pages = file
        .prepare("SELECT name, sum(pgsize) FROM dbstat GROUP BY name")
        .expect("dbstat");
    let pages = pages
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .expect("pages");
    pages.collect::<Result<_, _>>().expect("numbers")
}
