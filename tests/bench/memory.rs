//! How much a store needs per active subscription and per connected account.
//!
//! `cargo bench --bench memory` tells a made-up history of 20,000 of each to a Redis of its own and to a SQLite
//! in a temporary folder, through the same pure plan as the worker, and prints bytes by what they are for.
//! `cargo bench --bench memory -- 2000` does it with fewer.

#[path = "business.rs"]
#[expect(dead_code, reason = "the other benchmark needs more of it")]
mod business;
#[path = "../support"]
#[expect(dead_code, reason = "tests need more of it")]
mod support {
    pub(crate) mod redis;
    pub(crate) mod wait;
}

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use revwatch_shared::observe::Plans;
use revwatch_shared::ports::{Committed, Delivery, StateStore};
use revwatch_shared::redis::RedisStore;
use revwatch_shared::sqlite::{FILE_NAME, Open, Sqlite};
use revwatch_worker::plan::Batch;
use rusqlite::Connection;

use self::business::Story;
use self::support::redis::RedisServer;

const PARTITIONS: u32 = 8;

/// Deliveries in one commit.
const BATCH: usize = 250;

/// Parts of the stores: what people call it, Redis's keys, SQLite's tables and indexes. The first two are what
/// is there for each entity; the others grow with events, or not at all.
const PARTS: [(&str, &[&str], &[&str]); 5] = [
    ("the entity", &["entity:{kind}"], &["entities"]),
    ("its index entries: open conditions", &["conditions", "due"], &["conditions", "conditions_due"]),
    ("marks of its events, for 40 days", &["marks:*"], &["marks"]),
    ("audit trail and changes, bounded", &["audit", "changes"], &["audit", "changes"]),
    ("counters, which grow with hours", &["counters", "hours:*", "days"], &["counters"]),
];

fn main() {
    let count = std::env::args().find_map(|arg| arg.parse().ok()).unwrap_or(20_000);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    for story in [Story::subscriptions(count), Story::subscriptions_of_a_year(count / 4), Story::accounts(count)] {
        let redis = runtime.block_on(redis_bytes(&story));
        let sqlite = runtime.block_on(sqlite_bytes(&story));
        report(&story, redis, sqlite).expect("standard output");
    }
}

fn report(story: &Story, redis: [f64; 5], sqlite: [f64; 5]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let (count, per) = (story.count, story.events as f64 / story.count as f64);
    writeln!(out, "\n{count} {}, {per:.1} events each; bytes per {}:", story.about, story.kind)?;
    writeln!(out, "{:40} {:>8} {:>8}", "", "Redis", "SQLite")?;
    let mut line = |what: &str, redis: f64, sqlite: f64| writeln!(out, "{what:40} {redis:8.0} {sqlite:8.0}");
    for (i, (what, ..)) in PARTS.iter().enumerate() {
        line(what, redis[i], sqlite[i])?;
        if i == 1 {
            line("= both", redis[0] + redis[1], sqlite[0] + sqlite[1])?;
        }
    }
    line("= all", redis.iter().sum(), sqlite.iter().sum())
}

async fn redis_bytes(story: &Story) -> [f64; 5] {
    // How often the file is written does not change what memory holds.
    let server = RedisServer::start_with(&["--appendfsync", "everysec", "--auto-aof-rewrite-percentage", "0"]);
    let store = RedisStore::connect(&server.url(), PARTITIONS).await.expect("a Redis");
    tell(&store, story).await;
    drop(store);
    PARTS.map(|(_, keys, _)| {
        let before = used_memory(&server);
        for key in keys {
            let pattern = format!("revwatch:{{p*}}:{}", key.replace("{kind}", story.kind));
            for found in server.run::<Vec<String>>(&format!("KEYS {pattern}")) {
                server.run::<i64>(&format!("DEL {found}"));
            }
        }
        (before - used_memory(&server)) / story.count as f64
    })
}

fn used_memory(server: &RedisServer) -> f64 {
    let info: String = server.run("INFO memory");
    let bytes = info.lines().find_map(|line| line.strip_prefix("used_memory:")?.trim().parse().ok());
    bytes.expect("Redis tells how much it uses")
}

async fn sqlite_bytes(story: &Story) -> [f64; 5] {
    let folder = tempfile::tempdir().expect("a folder");
    let open = || Sqlite::open(folder.path(), Open::Create { partitions: PARTITIONS }).expect("a store");
    let store = open();
    let empty = file_bytes(folder.path());
    tell(&store, story).await;
    let file = file_bytes(folder.path());
    PARTS.map(|(_, _, tables)| {
        let grown = tables.iter().map(|table| file[*table] - empty[*table]);
        grown.sum::<f64>() / story.count as f64
    })
}

/// The pages of each table and index, once the log is in the file.
fn file_bytes(folder: &Path) -> BTreeMap<String, f64> {
    let file = Connection::open(folder.join(FILE_NAME)).expect("the store");
    file.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("nobody else writes");
    let mut pages = file.prepare("SELECT name, sum(pgsize) FROM dbstat GROUP BY name").expect("dbstat");
    let pages = pages.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("pages");
    pages.collect::<Result<_, _>>().expect("numbers")
}

/// What a worker does, one batch after another.
async fn tell(store: &dyn StateStore, story: &Story) {
    let plans = business::plans();
    let mut waiting: Vec<Vec<Delivery>> = vec![Vec::new(); PARTITIONS as usize];
    for delivery in story.deliveries(PARTITIONS) {
        let queue = &mut waiting[delivery.partition as usize];
        queue.push(delivery);
        if queue.len() == BATCH {
            commit(store, &std::mem::take(queue), &plans).await;
        }
    }
    for rest in waiting.iter().filter(|rest| !rest.is_empty()) {
        commit(store, rest, &plans).await;
    }
}

async fn commit(store: &dyn StateStore, deliveries: &[Delivery], plans: &Plans) {
    let partition = deliveries[0].partition;
    let batch = Batch::read(partition, deliveries, plans);
    let found = store.read(partition, &batch.want).await.expect("a read");
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let decision = batch.decide(&found, now_ms).expect("readable");
    let dead = decision.outcomes.iter().find(|o| o.counter() != Some("applied"));
    assert!(dead.is_none(), "{dead:?}");
    assert_eq!(store.commit(&decision.commit).await.expect("a commit"), Committed::Applied);
}
