//! `revwatch verify` agrees while `serve` runs, and reports manipulated data.

use futures_util::StreamExt as _;
use rusqlite::Connection;
use secrecy::ExposeSecret as _;
use serde_json::Value;

use super::Deployment;
use crate::support::history::History;
use crate::support::redis::RedisServer;
use crate::support::revwatch::{Revwatch, Variables, cli, metrics, post, print};
use crate::support::wait::until;

const COUNTER: &str = "subscriptions|active|unmapped";

#[tokio::test(flavor = "multi_thread")]
async fn tampering_with_the_embedded_store_is_found() {
    let deployment = Deployment::embedded();
    let variables = deployment.variables(&[]);
    apply_a_history(&variables).await;
    let Deployment::Embedded(folder) = &deployment else {
        panic!("an embedded deployment")
    };
    let tamper = |sql: &str| {
        let file = Connection::open(folder.path().join("revwatch.sqlite3")).expect("the store");
        assert_eq!(file.execute(sql, []).expect(sql), 1, "{sql}");
    };
    tamper(&format!(
        "UPDATE counters SET value = value + 3 WHERE hour = -1 AND name = '{COUNTER}'"
    ));
    assert_counter_is_named(&variables, 3);
    tamper(&format!(
        "UPDATE counters SET value = value - 3 WHERE hour = -1 AND name = '{COUNTER}'"
    ));
    print(&variables, &["verify"]);
    tamper(
        "DELETE FROM conditions WHERE subject_id = (SELECT min(subject_id) FROM conditions WHERE kind = 'payout_failed')",
    );
    assert_condition_is_missing(&variables);
    tamper(
        "UPDATE entities SET partition = (partition + 1) % 8 WHERE kind = 'payout' AND id = \
         (SELECT min(id) FROM entities WHERE kind = 'payout')",
    );
    assert_misplaced(&variables, "foreign_partition");
    tamper(
        "INSERT INTO entities (partition, kind, id, version, body) SELECT (partition + 1) % 8, kind, id, version, body \
         FROM entities WHERE kind = 'payout' AND id = (SELECT min(id) FROM entities WHERE kind = 'payout')",
    );
    assert_misplaced(&variables, "twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn tampering_with_redis_is_found() {
    let deployment = Deployment::servers().await;
    let variables = deployment.variables(&[]);
    apply_a_history(&variables).await;
    let Deployment::Servers(servers) = &deployment else {
        panic!("a deployment on servers")
    };
    let redis = &servers.1;
    let counters = key_with(redis, "counters", COUNTER);
    redis.run::<i64>(&format!("HINCRBY {counters} {COUNTER} 3"));
    assert_counter_is_named(&variables, 3);
    redis.run::<i64>(&format!("HINCRBY {counters} {COUNTER} -3"));
    print(&variables, &["verify"]);
    let fields = |partition| {
        redis.run::<Vec<String>>(&format!("HKEYS revwatch:{{p{partition}}}:conditions"))
    };
    let (partition, payout) = (0..8)
        .flat_map(|p| fields(p).into_iter().map(move |field| (p, field)))
        .find_map(|(p, field)| Some((p, field.strip_prefix("payout_failed payout ")?.to_owned())))
        .expect("some payout failed");
    // `run` would split the member at its spaces.
    let client = ::redis::Client::open(redis.url().expose_secret()).expect("an address");
    let mut delete = ::redis::cmd("HDEL");
    delete
        .arg(format!("revwatch:{{p{partition}}}:conditions"))
        .arg(format!("payout_failed payout {payout}"));
    assert_eq!(
        delete
            .query::<i64>(&mut client.get_connection().expect("a connection"))
            .expect("HDEL"),
        1
    );
    assert_condition_is_missing(&variables);
}

/// Posts a shuffled history with duplicates, and verifies during and after it.
async fn apply_a_history(variables: &Variables) {
    let process = Revwatch::serve(variables, "ingest,worker,alerting");
    let history = History::new(11, 60, jiff::Timestamp::now().as_second());
    let deliveries = history.delivered(12);
    let (client, url) = (reqwest::Client::new(), process.url("/webhooks/stripe"));
    let posting = async {
        let answers = futures_util::stream::iter(&deliveries).map(|body| post(&client, &url, body));
        answers
            .buffer_unordered(16)
            .all(|answer| async { answer.expect("answered") == 200 })
            .await
    };
    let other = variables.clone();
    let verifying = tokio::task::spawn_blocking(move || {
        for _ in 0..5 {
            print(&other, &["verify"]);
        }
    });
    assert!(posting.await);
    verifying
        .await
        .expect("verify agrees while events are applied");
    until("every delivery is processed", || async {
        let shown = metrics(variables);
        let count = |key: &str| shown[key].as_u64().unwrap_or(0);
        (count("events_applied") + count("events_duplicate") == deliveries.len() as u64)
            .then_some(())
    })
    .await;
    process.stop();
    let text = print(variables, &["verify"]);
    assert!(
        text.starts_with("all ") && text.contains(" counters and ") && text.contains(" agree ("),
        "{text}"
    );
    let shown: Value =
        serde_json::from_str(&print(variables, &["verify", "--json"])).expect("JSON");
    assert_eq!(
        (&shown["agree"], &shown["recounts"], &shown["undisturbed"]),
        (&true.into(), &1.into(), &true.into())
    );
    assert!(
        shown["entities"].as_u64() > Some(100) && shown["conditions"].as_u64() > Some(5),
        "{shown}"
    );
}

fn assert_counter_is_named(variables: &Variables, by: i64) {
    let output = cli(variables, &["verify"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.contains(COUNTER) && text.contains("current"), "{text}");
    let shown: Value =
        serde_json::from_slice(&cli(variables, &["verify", "--json"]).stdout).expect("JSON");
    let found = shown["differences"]["counters"].as_array().expect("a list");
    assert_eq!((found.len(), &found[0]["name"]), (1, &COUNTER.into()));
    assert_eq!(
        found[0]["stored"].as_i64(),
        found[0]["recomputed"].as_i64().map(|value| value + by)
    );
}

fn assert_misplaced(variables: &Variables, what: &str) {
    let output = cli(variables, &["verify", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let shown: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let found = shown["differences"]["entities"].as_array().expect("a list");
    assert!(
        found.iter().any(|found| found["what"] == what),
        "{what}: {found:?}"
    );
    assert_eq!(shown["agree"], false);
}

fn assert_condition_is_missing(variables: &Variables) {
    let output = cli(variables, &["verify", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let shown: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let found = shown["differences"]["conditions"]
        .as_array()
        .expect("a list");
    assert_eq!(
        (found.len(), &found[0]["what"]),
        (1, &"missing".into()),
        "{shown}"
    );
    assert_eq!(found[0]["recomputed"]["kind"], "payout_failed");
    let text = String::from_utf8(cli(variables, &["verify"]).stdout).expect("text");
    assert!(
        text.contains("payout_failed of payout po_") && text.contains("missing"),
        "{text}"
    );
}

/// The hash of that name that has the field, in any partition.
fn key_with(redis: &RedisServer, hash: &str, field: &str) -> String {
    (0..8)
        .map(|partition| format!("revwatch:{{p{partition}}}:{hash}"))
        .find(|key| redis.run::<bool>(&format!("HEXISTS {key} {field}")))
        .unwrap_or_else(|| panic!("no {hash} has {field}"))
}
