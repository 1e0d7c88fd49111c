//! Stores of each format since 3 become what this version makes of the same events, except for what they lack.
//!
//! `tests/fixtures/state` has, for each format, what an embedded deployment and a Redis had when `events.jsonl` and
//! `more_events.jsonl` were applied: `sqlite_format_3.sql` by the last version of format 3, and so on. The tests at
//! the end write these files: `REVWATCH_TEST_BINARY=… cargo test -p revwatch --test all -- --ignored formats`. Formats
//! 1 and 2 are in `conversion.rs`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use revwatch_core::entity::STATE_FORMAT;
use revwatch_storage::sqlite::FILE_NAME;
use rusqlite::Connection;
use serde_json::{Value, json};

use super::Deployment;
use super::conversion::{another_event, embedded, servers, variables};
use crate::support::providers::post_all;
use crate::support::redis::RedisServer;
use crate::support::revwatch::{Revwatch, Variables, metrics, print};
use crate::support::wait::until;

const EVENTS: [&str; 2] = [
    include_str!("../fixtures/state/events.jsonl"),
    include_str!("../fixtures/state/more_events.jsonl"),
];

/// What the resolver makes of them: a discount by its id, from its coupon.
const RESOLVED: usize = 1;

/// Each `kind.column` that a store of an older format lacks for these ids. Rows that it lacks have the column `id`.
type Lacks<'a> = &'a [(&'a str, &'a [&'a str])];

/// Format 3 had neither coupons nor pages of items, and of subscriptions only the sum. It read neither payments
/// of invoices nor attempts to come, neither what reversed a payout nor how much of a transfer was reversed, and not
/// until when a dispute must be answered.
const LACKS_3: Lacks<'static> = &[
    ("coupons.id", &["main/platform/HALF"]),
    ("disputes.evidence_due_at", &["du_more1"]),
    ("invoices.amount_paid_minor", &["in_more1"]),
    ("invoices.amount_remaining_minor", &["in_more1"]),
    ("invoices.collection_method", &["in_more1", "in_more2"]),
    ("invoices.next_attempt_at", &["in_more1"]),
    ("payouts.reversed_by", &["po_more1"]),
    ("subscriptions.mrr_complete", &["sub_more1", "sub_more2"]),
    ("subscriptions.mrr_high_minor", &["sub_more1", "sub_more2"]),
    ("subscriptions.mrr_minor", &["sub_more1"]),
    ("subscriptions.mrr_reason", &["sub_more1", "sub_more2"]),
    ("transfers.reversed_minor", &["tr_more1", "tr_old1"]),
];

/// Format 4 did not read until when a dispute must be answered.
const LACKS_4: Lacks<'static> = &[("disputes.evidence_due_at", &["du_more1"])];

const KINDS: [&str; 12] = [
    "subscriptions",
    "invoices",
    "payouts",
    "accounts",
    "payment-intents",
    "checkout-sessions",
    "disputes",
    "refunds",
    "transfers",
    "customers",
    "coupons",
    "missing-events",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_format_3() {
    let tables = include_str!("../fixtures/state/sqlite_format_3.sql");
    is_as_if_written_by_this_version(embedded(tables), 3, LACKS_3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_of_format_3() {
    let commands = include_str!("../fixtures/state/redis_format_3.jsonl");
    is_as_if_written_by_this_version(servers(commands).await, 3, LACKS_3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_format_4() {
    let tables = include_str!("../fixtures/state/sqlite_format_4.sql");
    is_as_if_written_by_this_version(embedded(tables), 4, LACKS_4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_of_format_4() {
    let commands = include_str!("../fixtures/state/redis_format_4.jsonl");
    is_as_if_written_by_this_version(servers(commands).await, 4, LACKS_4).await;
}

async fn is_as_if_written_by_this_version(deployment: Deployment, format: u32, lacks: Lacks<'_>) {
    let of_store = variables(&deployment);
    let process = Revwatch::serve(&of_store, "ingest,worker");
    post_all(&process.url("/webhooks/stripe"), &[another_event()]).await;
    until("the event that waited is applied", || async {
        let payouts = print(&of_store, &["export", "payouts"]);
        payouts.contains("po_new").then_some(())
    })
    .await;
    let converted = process.logged("the state is converted").len();
    assert_eq!(converted, usize::from(format < STATE_FORMAT));
    print(&of_store, &["verify"]);

    let reference = Deployment::embedded();
    let of_reference = variables(&reference);
    let by_this = applied(&of_reference, [another_event()].into()).await;
    let found = differences(&of_store, &of_reference);
    let wanted = lacks.iter().map(|(column, ids)| {
        let ids: Vec<_> = ids.iter().map(|id| (*id).to_owned()).collect();
        ((*column).to_owned(), ids)
    });
    assert_eq!(found, wanted.collect());
    if format > 3 {
        // A family of which no event came within a day of what implies it is unknown. Those of the fixture came long ago.
        let (old, new) = (metrics(&of_store), metrics(&of_reference));
        let not_sent = old["events_not_sent"].as_array().expect("a list");
        assert_eq!(figures(&old, not_sent), figures(&new, not_sent));
    }
    by_this.stop();
    process.stop();
}

/// A deployment that has applied the events of the fixtures, and `more`.
async fn applied(variables: &Variables, more: Vec<String>) -> Revwatch {
    let process = Revwatch::serve(variables, "ingest,worker");
    let events = EVENTS.iter().flat_map(|text| text.lines());
    let events: Vec<_> = events.map(str::to_owned).chain(more).collect();
    post_all(&process.url("/webhooks/stripe"), &events).await;
    until("all events are applied", || async {
        let shown = metrics(variables);
        (shown["events_applied"] == events.len() + RESOLVED).then_some(())
    })
    .await;
    process
}

/// For each column of the exports, the objects for which the first deployment has another value.
fn differences(store: &Variables, reference: &Variables) -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::<String, Vec<String>>::new();
    for kind in KINDS {
        let rows = |of| rows(&print(of, &["export", kind]));
        let (own, theirs) = (rows(store), rows(reference));
        let lacking: Vec<_> = own.keys().filter(|id| !theirs.contains_key(*id)).collect();
        assert!(
            lacking.is_empty(),
            "{kind}: only the old store has {lacking:?}"
        );
        for (id, row) in theirs {
            for (column, value) in row {
                let own_row = own.get(&id);
                let is_same = match own_row {
                    Some(own_row) => own_row.get(&column) == Some(&value),
                    None => column != "id",
                };
                if !is_same {
                    let ids = found.entry(format!("{kind}.{column}")).or_default();
                    ids.push(id.clone());
                }
            }
        }
    }
    found
}

/// By id, the values by column. No value has a comma.
fn rows(csv: &str) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut lines = csv.lines().map(|line| line.split(',').map(str::to_owned));
    let header: Vec<_> = lines.next().expect("a header").collect();
    let row = |line| -> BTreeMap<_, _> { header.iter().cloned().zip(line).collect() };
    let rows = lines.map(|line| row(line.collect::<Vec<_>>()));
    rows.map(|row| (row["id"].clone(), row)).collect()
}

/// The figures that follow from entities, without those of families that were not sent.
fn figures(shown: &Value, not_sent: &[Value]) -> Value {
    let mut shown = shown.clone();
    for family in not_sent {
        for figure in family["figures"].as_array().expect("a list") {
            let figure = figure.as_str().expect("a name");
            // Payouts are always those of connected accounts.
            let is_apart =
                family["owner"] == "connected" && shown["connected"].get(figure).is_some();
            let place = match is_apart {
                true => &mut shown["connected"],
                false => &mut shown,
            };
            place.as_object_mut().expect("an object").remove(figure);
        }
    }
    let fields = shown.as_object_mut().expect("an object");
    fields.retain(|name, _| !name.starts_with("events_") && !name.ends_with("_at"));
    shown
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "writes a fixture"]
async fn write_the_file_of_this_format() {
    let deployment = Deployment::embedded();
    fill(&variables(&deployment)).await;
    let Deployment::Embedded(folder) = &deployment else {
        panic!("an embedded deployment")
    };
    let file = Connection::open(folder.path().join(FILE_NAME)).expect("a file");
    let format: u32 = file
        .query_row("SELECT max(state_format) FROM health", [], |row| row.get(0))
        .expect("a format");
    std::fs::write(
        fixture(&format!("sqlite_format_{format}.sql")),
        tables(&file),
    )
    .expect("written");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "writes a fixture"]
async fn write_the_redis_of_this_format() {
    let mut deployment = Deployment::servers().await;
    fill(&variables(&deployment)).await;
    let redis = deployment.redis();
    let format: String = redis.run("HGET revwatch:{p0}:health state_format");
    std::fs::write(
        fixture(&format!("redis_format_{format}.jsonl")),
        commands(redis),
    )
    .expect("written");
}

fn fixture(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/state");
    folder.join(name)
}

/// Applies the events. Some of them mean nothing to an older version.
async fn fill(variables: &Variables) {
    let process = Revwatch::serve(variables, "ingest,worker");
    let events = EVENTS.iter().flat_map(|text| text.lines());
    let events: Vec<_> = events.map(str::to_owned).collect();
    post_all(&process.url("/webhooks/stripe"), &events).await;
    let mut last = json!(null);
    while last["events_applied"].as_u64() < Some(1) || last != metrics(variables) {
        last = metrics(variables);
        // Longer than the resolver waits.
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    process.stop();
}

/// The tables as SQL.
fn tables(file: &Connection) -> String {
    let strings = |sql: &str| -> Vec<String> {
        let mut statement = file.prepare(sql).expect("SQL");
        let rows = statement.query_map([], |row| row.get(0)).expect("rows");
        rows.collect::<Result<_, _>>().expect("text")
    };
    let created = |what: &str| {
        let lines = strings(&format!(
            "SELECT sql || ';\n' FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' AND {what}"
        ));
        lines.concat()
    };
    let mut text = "BEGIN TRANSACTION;\n".to_owned();
    text += &created("type = 'table' ORDER BY name");
    for table in strings(
        "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name LIKE 'sqlite_%', name",
    ) {
        if table == "sqlite_sequence" {
            // The rows before have filled it.
            text += "DELETE FROM sqlite_sequence;\n";
        }
        let columns = strings(&format!(
            "SELECT 'quote(' || name || ')' FROM pragma_table_info('{table}')"
        ));
        let values = columns.join(" || ',' || ");
        for row in strings(&format!("SELECT {values} FROM {table}")) {
            text += &format!("INSERT INTO {table} VALUES({row});\n");
        }
    }
    text += &created("type <> 'table' ORDER BY name");
    let version = strings("SELECT CAST(user_version AS TEXT) FROM pragma_user_version").concat();
    text + &format!("COMMIT;\nPRAGMA user_version = {version};\n")
}

/// Everything but leases and heartbeats, which expire soon, as commands: each a line, each character one byte.
fn commands(redis: &RedisServer) -> String {
    let mut keys: Vec<String> = redis.run("KEYS *");
    keys.sort();
    let expires_s = |key: &str| redis.run::<i64>(&format!("TTL {key}"));
    keys.retain(|key| !(0..3600).contains(&expires_s(key)));
    let mut text = String::new();
    for key in keys {
        let kind: String = redis.run(&format!("TYPE {key}"));
        let values = |words: &str| -> Vec<Vec<u8>> { redis.run(words) };
        let all: Vec<(&str, Vec<Vec<u8>>)> = match kind.as_str() {
            "string" => vec![("SET", vec![redis.run(&format!("GET {key}"))])],
            "hash" => vec![("HSET", values(&format!("HGETALL {key}")))],
            "set" => vec![("SADD", values(&format!("SMEMBERS {key}")))],
            "zset" => {
                let mut pairs = values(&format!("ZRANGE {key} 0 -1 WITHSCORES"));
                pairs.chunks_exact_mut(2).for_each(|pair| pair.swap(0, 1));
                vec![("ZADD", pairs)]
            }
            "stream" => {
                let entries: Vec<(Vec<u8>, Vec<Vec<u8>>)> = redis.run(&format!("XRANGE {key} - +"));
                let entries = entries.into_iter();
                entries
                    .map(|(id, fields)| ("XADD", [vec![id], fields].concat()))
                    .collect()
            }
            other => panic!("{key} is a {other}"),
        };
        for (command, values) in all {
            let own = [command.as_bytes().to_vec(), key.clone().into_bytes()];
            let words: Vec<String> = own
                .iter()
                .chain(&values)
                .map(|word| word.iter().map(|byte| char::from(*byte)).collect())
                .collect();
            text += &(json!(words).to_string() + "\n");
        }
    }
    text
}
