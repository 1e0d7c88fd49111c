//! Events of the user's own application (C10, C16, R3, B3): the same queue, the same promises.

use std::collections::{BTreeMap, BTreeSet};

use revwatch_core::standard_webhooks::StandardKey;
use serde_json::{Value, json};

use super::Deployment;
use crate::support::history::History;
use crate::support::revwatch::{Revwatch, Variables, cli, metrics, post, print};
use crate::support::wait::until;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

#[tokio::test(flavor = "multi_thread")]
async fn a_shuffled_and_repeated_history_equals_its_model_embedded() {
    a_history_equals_its_model(&Deployment::embedded()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shuffled_and_repeated_history_equals_its_model_on_servers() {
    a_history_equals_its_model(&Deployment::servers().await).await;
}

/// Mixed with Stripe's events, in an order of its own, some of them twice, half of them in batches.
async fn a_history_equals_its_model(deployment: &Deployment) {
    let seed = fastrand::u64(..100_000);
    let mut rng = fastrand::Rng::with_seed(seed);
    let variables = deployment.variables(&[("REVWATCH_APP_WEBHOOK_SECRET", SECRET)]);
    let seed_text = seed.to_string();
    let printed = cli(
        &variables,
        &[
            "app",
            "simulate",
            "--providers",
            "60",
            "--seed",
            &seed_text,
            "--print",
        ],
    );
    let printed = String::from_utf8(printed.stdout).expect("text");
    let events: Vec<Value> = printed
        .lines()
        .map(|it| serde_json::from_str(it).expect("JSON"))
        .collect();
    let stripes = History::new(seed, 20, jiff::Timestamp::now().as_second());
    let process = Revwatch::serve(&variables, "ingest,worker");
    let mut sent = events.clone();
    sent.extend((0..events.len() / 3).map(|_| events[rng.usize(..events.len())].clone()));
    rng.shuffle(&mut sent);
    let half = sent.split_off(sent.len() / 2);
    let client = reqwest::Client::new();
    for event in &sent {
        let answer = send(&client, &process.url("/webhooks/app"), event).await;
        assert_eq!(answer.0, 200, "seed {seed}: {}", answer.1);
    }
    for event in &stripes.events {
        let url = process.url("/webhooks/stripe");
        assert_eq!(post(&client, &url, event).await.expect("an answer"), 200);
    }
    for batch in half.chunks(100) {
        let (status, answer) =
            send(&client, &process.url("/webhooks/app/batch"), &json!(batch)).await;
        assert_eq!(
            (status, answer["events"].as_array().map(Vec::len)),
            (200, Some(batch.len())),
            "{answer}"
        );
    }
    let all = events.len() + stripes.events.iter().collect::<BTreeSet<_>>().len();
    until("every event is applied", || async {
        (metrics(&variables)["events_applied"].as_u64() >= u64::try_from(all).ok()).then_some(())
    })
    .await;
    let shown = metrics(&variables);
    assert_eq!(
        shown["events_applied"], all,
        "seed {seed}, each once: {shown}"
    );
    assert_eq!(
        (&shown["events_dead"], &shown["events_ignored"]),
        (&json!(0), &json!(0))
    );
    reports_equal_the_model(&variables, &events, seed).await;
    equals_the_model(&variables, &events, &shown, seed);
    print(&variables, &["verify"]);
    let exports = || {
        ["tickets", "providers", "booking-fees", "accounts"]
            .map(|kind| print(&variables, &["export", kind]))
    };
    let before = exports();
    print(&variables, &["rebuild", "--yes"]);
    assert_eq!(
        exports(),
        before,
        "seed {seed}: from the archive it is the same"
    );
    process.stop();
}

/// The funnel, the round of the day and the review of the week (C16, R2, R10), added up in another way. Accounts write how
/// far they are into their providers after they are counted as applied.
async fn reports_equal_the_model(variables: &Variables, events: &[Value], seed: u64) {
    let text = |event: &Value, field: &str| event["data"][field].as_str().map(str::to_owned);
    let of = |kind: &str, field: &str| -> BTreeSet<String> {
        let of_kind = events.iter().filter(|it| it["type"] == kind);
        of_kind.filter_map(|it| text(it, field)).collect()
    };
    let registered = of("provider.registered", "user");
    let user_of: BTreeMap<String, String> = events
        .iter()
        .filter(|it| it["type"] == "account.created_by_user")
        .filter_map(|it| Some((text(it, "account")?, text(it, "user")?)))
        .collect();
    let users = |accounts: &BTreeSet<String>| {
        let users = accounts.iter().filter_map(|account| user_of.get(account));
        users
            .filter(|user| registered.contains(*user))
            .collect::<BTreeSet<_>>()
            .len()
    };
    let created = users(&of("account.created_by_user", "account"));
    let clicked = users(&of("account_link.clicked", "account"));
    assert!(
        registered.len() > created && created > clicked && clicked > 0,
        "seed {seed}"
    );
    let json = |args: &[&str]| -> Value {
        let args = [args, &["--json"]].concat();
        serde_json::from_str(&print(variables, &args)).expect("JSON")
    };
    let expected = json!([registered.len(), created, clicked]);
    let reached = |stages: &Value| {
        let stages = stages.as_array().expect("a list").iter();
        stages
            .take(3)
            .map(|it| it["reached"].clone())
            .collect::<Value>()
    };
    until("the providers know of their accounts", || async {
        (reached(&json(&["funnel"])["stages"]) == expected).then_some(())
    })
    .await;
    let by_source = json(&["funnel", "--by", "source"]);
    let segments = by_source["segments"].as_array().expect("a list").iter();
    let sum = segments
        .filter_map(|it| it["provider_registered"].as_u64())
        .sum::<u64>();
    assert_eq!(u64::try_from(registered.len()), Ok(sum), "seed {seed}");
    // All of it is of the last 24 hours.
    for (since, expected) in [("20h", "complete"), ("7d", "who registered before")] {
        let completeness = &json(&["funnel", "--since", since])["completeness"];
        let completeness = completeness.as_str().expect("text");
        assert!(
            completeness.starts_with(expected),
            "{since}: {completeness}"
        );
    }
    let answered = &of("ticket.responded", "ticket") | &of("ticket.closed", "ticket");
    let unanswered = &of("ticket.opened", "ticket") - &answered;
    let daily = json(&["daily", "--since", "48h"]);
    let waiting = daily["tickets_unanswered"]
        .as_array()
        .expect("a list")
        .iter();
    let waiting: BTreeSet<String> = waiting
        .filter_map(|it| it["ticket"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(waiting, unanswered, "seed {seed}");
    let fees = daily["booking_fees"].as_array().expect("a list").iter();
    let owed: i64 = fees
        .filter_map(|it| it["amount"]["amount_minor"].as_i64())
        .sum();
    let charged = events
        .iter()
        .filter_map(|it| it["data"]["amount_minor"].as_i64());
    let jobs = events.iter().filter(|it| it["type"] == "job.paid");
    let jobs: i64 = jobs
        .filter_map(|it| it["data"]["amount_minor"].as_i64())
        .sum();
    assert_eq!(owed, charged.sum::<i64>() - jobs, "seed {seed}");
    let weekly = json(&["weekly"]);
    assert_eq!(weekly["application"], "sends events");
    assert_eq!(
        weekly["tickets"][0]["unanswered"],
        unanswered.len(),
        "seed {seed}"
    );
    assert_eq!(
        weekly["funnel"][0]["last_7_days"],
        registered.len(),
        "seed {seed}"
    );
    let application = &metrics(variables)["application"];
    assert_eq!(application["silent"], false);
    // Without any there is no such key.
    let shown = application["tickets"]["unanswered"].as_u64().unwrap_or(0);
    assert_eq!(usize::try_from(shown), Ok(unanswered.len()), "seed {seed}");
    for report in ["funnel", "daily", "weekly"] {
        assert!(
            print(variables, &[report]).contains('│'),
            "a table for people"
        );
    }
}

/// What the events say, added up in another way.
fn equals_the_model(variables: &Variables, events: &[Value], shown: &Value, seed: u64) {
    let of = |kind: &str| {
        events
            .iter()
            .filter(move |it| it["type"] == kind)
            .collect::<Vec<_>>()
    };
    let at = |event: &Value| {
        let time: jiff::Timestamp = event["time"]
            .as_str()
            .expect("a time")
            .parse()
            .expect("a time");
        time.as_second()
    };
    let rows = |kind: &str| -> BTreeMap<String, csv::StringRecord> {
        let export = print(variables, &["export", kind]);
        let mut reader = csv::Reader::from_reader(export.as_bytes());
        let rows = reader.records().map(|row| row.expect("a row"));
        rows.map(|row| (row[0].to_owned(), row)).collect()
    };
    let (opened, responded) = (of("ticket.opened"), of("ticket.responded"));
    let tickets = rows("tickets");
    assert_eq!(tickets.len(), opened.len(), "seed {seed}");
    for event in opened {
        let id = event["data"]["ticket"].as_str().expect("an id");
        let response = responded.iter().find(|it| it["data"]["ticket"] == id);
        let closed = of("ticket.closed")
            .iter()
            .any(|it| it["data"]["ticket"] == id);
        let row = &tickets[id];
        assert_eq!(row[1], event["data"]["customer"], "seed {seed}: {id}");
        assert_eq!(
            &row[3],
            match (closed, response) {
                (true, _) => "closed",
                (false, Some(_)) => "responded",
                (false, None) => "unanswered",
            }
        );
        let seconds = response.map(|it| (at(it) - at(event)).to_string());
        assert_eq!(row[7], *seconds.unwrap_or_default(), "seed {seed}: {id}");
    }
    let fees = rows("booking-fees");
    let owed: i64 = of("usage.booking_fee")
        .iter()
        .filter_map(|it| it["data"]["amount_minor"].as_i64())
        .sum();
    assert_eq!(
        fees.values()
            .map(|row| row[3].parse::<i64>().expect("an amount"))
            .sum::<i64>(),
        owed
    );
    assert_eq!(rows("providers").len(), of("provider.registered").len());
    let accounts = |kind: &str| {
        let ids = of(kind)
            .into_iter()
            .map(|it| it["data"]["account"].to_string());
        ids.collect::<BTreeSet<_>>().len()
    };
    assert_eq!(
        shown["funnel"]["provider_registered"],
        of("provider.registered").len(),
        "seed {seed}: {shown}"
    );
    assert_eq!(
        shown["funnel"]["account_link_clicked"],
        accounts("account_link.clicked"),
        "seed {seed}: {shown}"
    );
}

/// Posts one event, or a batch, signed now.
async fn send(client: &reqwest::Client, url: &str, body: &Value) -> (u16, Value) {
    let key = StandardKey::new(SECRET).expect("a secret");
    let (body, now_s) = (body.to_string(), jiff::Timestamp::now().as_second());
    let request = client
        .post(url)
        .header("webhook-id", "msg_1")
        .header("webhook-timestamp", now_s)
        .header(
            "webhook-signature",
            key.sign("msg_1", now_s, body.as_bytes()),
        )
        .header("content-type", "application/json");
    let response = request.body(body).send().await.expect("an answer");
    let status = response.status().as_u16();
    (status, response.json().await.expect("JSON"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_or_unknown_changes_nothing_and_the_commands_say_why() {
    let deployment = Deployment::embedded();
    let variables = deployment.variables(&[("REVWATCH_APP_WEBHOOK_SECRET", SECRET)]);
    let process = Revwatch::serve(&variables, "ingest,worker");
    let event = |id: &str, kind: &str, data: Value| {
        let time = jiff::Timestamp::now().to_string();
        json!({"specversion": "1.0", "id": id, "source": "/app", "type": kind, "time": time, "data": data})
    };
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("events.jsonl");
    let good = event(
        "1",
        "ticket.opened",
        json!({"ticket": "T-1", "customer": "cus_1", "topic": "billing"}),
    );
    let unknown = event("2", "ticket.escalated", json!({"ticket": "T-1"}));
    let bad = event(
        "3",
        "ticket.opened",
        json!({"ticket": "T-2", "customer": "cus_1"}),
    );
    std::fs::write(&file, format!("{good}\n{unknown}\n{bad}\n")).expect("written");
    let path = file.to_str().expect("text");
    let judged = cli(&variables, &["app", "verify", path, "--json"]);
    assert_eq!(judged.status.code(), Some(1));
    let shown: Value = serde_json::from_slice(&judged.stdout).expect("JSON");
    assert_eq!(
        shown["events"][0],
        json!({"type": "ticket.opened", "known": true, "error": null})
    );
    assert_eq!(shown["events"][1]["known"], false);
    assert_eq!(shown["events"][2]["error"]["pointer"], "/data/topic");
    let sent = cli(
        &variables,
        &["app", "send", path, "--url", &process.url("/webhooks/app")],
    );
    let (out, error) = (
        String::from_utf8_lossy(&sent.stdout),
        String::from_utf8_lossy(&sent.stderr),
    );
    assert!(out.contains("2 accepted, 1 refused"), "{out}");
    assert!(error.contains("/data/topic"), "{error}");
    let shown = until("both are counted", || async {
        let shown = metrics(&variables);
        (shown["events_applied"] == 1 && shown["events_ignored"] == 1).then_some(shown)
    })
    .await;
    assert_eq!(shown["events_dead"], 0);
    let ticket: Value =
        serde_json::from_str(&print(&variables, &["state", "ticket", "T-1", "--json"]))
            .expect("JSON");
    assert_eq!(ticket["status"], "unanswered");
    assert_eq!(ticket["history"][0]["change"], "opened");
    process.stop();
}
