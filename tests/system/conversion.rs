//! A store that an earlier version wrote is converted by itself.
//!
//! `tests/fixtures/state` has stores as earlier versions left them after `events.jsonl` was posted:
//! `redis.jsonl` (commands, each character one byte) and `sqlite_2.sql` by a version of state format 1,
//! which took a `context` for a connected account, and `sqlite_3.sql` by a later one. The numbers are
//! those of SQLite's schema. `formats.rs` has the stores of later formats.

use serde_json::json;

use super::Deployment;
use super::crash::{load, same_exports_but};
use crate::support::history::History;
use crate::support::providers::post_all;
use crate::support::revwatch::{Revwatch, SECRET, Variables, cli, metrics, print};
use crate::support::wait::until;

/// What no version before stored.
const NOT_KNOWN_BEFORE: [&str; 1] = ["realm"];

const SQLITE_2: &str = include_str!("../fixtures/state/sqlite_2.sql");
const SQLITE_3: &str = include_str!("../fixtures/state/sqlite_3.sql");
const REDIS: &str = include_str!("../fixtures/state/redis.jsonl");
const EVENTS: &str = include_str!("../fixtures/state/events.jsonl");

const CONVERTING: &str = "converting the state";
const CONVERTED: &str = "the state is converted";

/// What the platform's own subscriptions that are active or past due add up to.
const MRR_MINOR: u64 = 20_000;

/// In the events of one subscription, and its MRR.
const OF_KERNEL: &str = "\"sub_old0\"";
const KERNEL_MRR_MINOR: u64 = 2_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_schema_2_is_converted() {
    an_idle_store_is_converted(embedded(SQLITE_2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_schema_3_is_converted() {
    an_idle_store_is_converted(embedded(SQLITE_3)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_redis_is_converted() {
    an_idle_store_is_converted(servers(REDIS).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversion_killed_under_load_begins_again_embedded() {
    a_conversion_killed_under_load_begins_again(embedded(SQLITE_2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversion_killed_under_load_begins_again_on_servers() {
    a_conversion_killed_under_load_begins_again(servers(REDIS).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_to_another_endpoint_is_of_its_realm_embedded() {
    let deployment = embedded(SQLITE_3);
    if let Deployment::Embedded(folder) = &deployment {
        let path = folder.path().join(revwatch_storage::sqlite::FILE_NAME);
        let file = rusqlite::Connection::open(path).expect("a file");
        let of_kernel = "UPDATE archive SET endpoint = 'kernel' WHERE instr(body, ?1) > 0";
        let changed = file.execute(of_kernel, [OF_KERNEL]).expect("updated");
        assert_eq!(changed, 2);
    }
    what_came_to_another_endpoint_is_of_its_realm(deployment).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_to_another_endpoint_is_of_its_realm_on_servers() {
    what_came_to_another_endpoint_is_of_its_realm(servers(REDIS).await).await;
}

pub(super) fn embedded(tables: &str) -> Deployment {
    let deployment = Deployment::embedded();
    if let Deployment::Embedded(folder) = &deployment {
        let path = folder.path().join(revwatch_storage::sqlite::FILE_NAME);
        let file = rusqlite::Connection::open(path).expect("a file");
        file.execute_batch(tables).expect("the tables");
    }
    deployment
}

pub(super) async fn servers(commands: &str) -> Deployment {
    let mut deployment = Deployment::servers().await;
    for line in commands.lines() {
        let words: Vec<String> = serde_json::from_str(line).expect("a command");
        let bytes = |word: &String| -> Vec<u8> { word.chars().map(|c| c as u8).collect() };
        let words: Vec<_> = words.iter().map(bytes).collect();
        deployment.redis().run_bytes(&words);
    }
    deployment
}

pub(super) fn variables(deployment: &Deployment) -> Variables {
    deployment.variables(&[("REVWATCH_PARTITIONS", "4")])
}

fn fixture_events() -> Vec<String> {
    EVENTS.lines().map(str::to_owned).collect()
}

/// The archive of servers is no part of their fixture: it tells which account is the platform's.
pub(super) fn another_event() -> String {
    let event = json!({"id": "evt_new", "object": "event", "type": "payout.paid", "created": 1_795_910_000,
        "account": null, "context": "acct_PLATFORM", "livemode": true, "data": {"object":
            {"id": "po_new", "object": "payout", "status": "paid", "amount": 700, "currency": "usd"}}});
    event.to_string()
}

async fn an_idle_store_is_converted(deployment: Deployment) {
    let variables = variables(&deployment);
    let mut events = fixture_events();
    events.push(another_event());
    let ingest = Revwatch::serve(&variables, "ingest");
    load(&ingest, &events[events.len() - 1..], 1).await;
    let refused = cli(&variables, &["metrics"]);
    let error = String::from_utf8(refused.stderr).expect("text");
    assert!(
        error.contains("is being converted to this version's format"),
        "{error}"
    );
    ingest.stop();

    let process = Revwatch::serve(&variables, "ingest,worker,alerting");
    until("the state is converted", || async {
        process.logged(CONVERTED).pop()
    })
    .await;
    let shown = until("the event that waited is applied", || async {
        let shown = metrics(&variables);
        (shown["events_applied"] == events.len()).then_some(shown)
    })
    .await;
    assert_eq!(shown["mrr_minor"], json!({ "usd": MRR_MINOR }));
    print(&variables, &["verify"]);
    same_exports_but(&variables, &events, &NOT_KNOWN_BEFORE).await;
    // Once alerting has taken notice of the conversion.
    print(&variables, &["alerts", "list"]);
    process.stop();

    let again = Revwatch::serve(&variables, "ingest,worker");
    print(&variables, &["verify"]);
    assert_eq!(again.logged(CONVERTING).len(), 0, "it is converted once");
    again.stop();
}

/// The archive knows the endpoint of each event, the old state does not.
async fn what_came_to_another_endpoint_is_of_its_realm(deployment: Deployment) {
    let kernel = [
        ("REVWATCH_PARTITIONS", "4"),
        ("STRIPE_KERNEL_WEBHOOK_SECRET", SECRET),
    ];
    let variables = deployment.variables(&kernel);
    let ingest = Revwatch::serve(&variables, "ingest");
    load(&ingest, &[another_event()], 1).await;
    // Applied before. They tell the archive where they came from.
    let mut repeated = fixture_events();
    repeated.retain(|event| event.contains(OF_KERNEL));
    post_all(&ingest.url("/webhooks/kernel/stripe"), &repeated).await;
    ingest.stop();

    let process = Revwatch::serve(&variables, "ingest,worker");
    let before = fixture_events().len() + 1;
    let shown = until("the events that waited are applied", || async {
        let shown = metrics(&variables);
        // The fixture of servers has no dedupe keys: they expire.
        let counts = ["events_applied", "events_duplicate"].map(|name| shown[name].as_u64());
        let processed: u64 = counts.into_iter().flatten().sum();
        (processed == (before + repeated.len()) as u64).then_some(shown)
    })
    .await;
    let of_kernel = &shown["realms"]["kernel"]["mrr_minor"];
    assert_eq!(of_kernel, &json!({ "usd": KERNEL_MRR_MINOR }), "{shown}");
    let of_main = json!({ "usd": MRR_MINOR - KERNEL_MRR_MINOR });
    assert_eq!(shown["mrr_minor"], of_main, "{shown}");
    print(&variables, &["verify"]);
    process.stop();
}

async fn a_conversion_killed_under_load_begins_again(deployment: Deployment) {
    let variables = variables(&deployment);
    let history = History::new(11, 30, jiff::Timestamp::now().as_second());
    let mut events = fixture_events();
    let first = another_event();
    events.push(first.clone());
    events.extend(history.events.iter().cloned());
    let ingest = Revwatch::serve(&variables, "ingest");
    load(&ingest, &[first], 1).await;
    let mut rest = history.events.clone();
    for accepted_in_round in [20, 40] {
        let worker = Revwatch::spawn(&variables, "worker");
        until("a conversion begins", || async {
            worker.logged(CONVERTING).pop()
        })
        .await;
        let accepted = load(&ingest, &rest, accepted_in_round).await;
        rest.retain(|event| !accepted.contains(event));
        assert_eq!(worker.logged(CONVERTED).len(), 0, "it is killed before");
        worker.kill9();
    }
    let worker = Revwatch::spawn(&variables, "worker");
    load(&ingest, &rest, rest.len()).await;
    until("every event is applied", || async {
        let shown = metrics(&variables);
        (shown["events_applied"].as_u64() >= Some(events.len() as u64)).then_some(())
    })
    .await;
    assert_eq!(worker.logged(CONVERTED).len(), 1);
    print(&variables, &["verify"]);
    same_exports_but(&variables, &events, &NOT_KNOWN_BEFORE).await;
    assert_eq!(metrics(&variables)["events_applied"], events.len());
    worker.stop();
    ingest.stop();
}
