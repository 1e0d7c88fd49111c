//! Neither the order nor the number of deliveries matters.

use std::collections::HashSet;

use futures_util::StreamExt as _;
use serde_json::Value;

use super::Deployment;
use crate::support::history::History;
use crate::support::revwatch::{Revwatch, Variables, metrics, post, print};
use crate::support::wait::until;

/// Every kind of export.
const KINDS: [&str; 4] = ["subscriptions", "invoices", "payouts", "accounts"];

#[tokio::test(flavor = "multi_thread")]
async fn order_and_duplicates_do_not_matter_on_the_embedded_store() {
    check(&Deployment::embedded(), &Deployment::embedded()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn order_and_duplicates_do_not_matter_on_rabbitmq_and_redis() {
    check(&Deployment::embedded(), &Deployment::servers().await).await;
}

/// Posts the history to `one` in its true order and to `other` shuffled with duplicates.
async fn check(one: &Deployment, other: &Deployment) {
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let history = History::new(seed, 60, jiff::Timestamp::now().as_second());
    let ids: HashSet<&String> = history.events.iter().collect();
    let (one, other) = (one.variables(&[]), other.variables(&[]));
    let in_order = serve_and_post(&one, &history.events, 1).await;
    let deliveries = history.delivered(seed + 1);
    let shuffled = serve_and_post(&other, &deliveries, 16).await;
    assert_eq!(in_order["events_applied"], ids.len());
    assert_eq!(shuffled["events_applied"], ids.len());
    assert_eq!(shuffled["events_duplicate"], deliveries.len() - ids.len());
    history.expected.assert_shown(&in_order);
    history.expected.assert_shown(&shuffled);
    for kind in KINDS {
        assert_eq!(
            print(&one, &["export", kind]),
            print(&other, &["export", kind]),
            "{kind}, seed {seed}"
        );
    }
    let accounts = print(&one, &["export", "accounts"]);
    let charging = accounts
        .lines()
        .filter(|line| line.split(',').nth(2) == Some("true"))
        .count();
    assert_eq!(
        charging,
        usize::try_from(history.expected.charging_accounts).expect("not negative")
    );
    let comparable = |mut shown: Value| {
        shown["events_duplicate"] = 0.into();
        shown
    };
    assert_eq!(comparable(in_order), comparable(shuffled), "seed {seed}");
}

/// Serves, posts all deliveries, waits until all are processed, stops, and returns the metrics. Customers get what
/// their subscriptions say after the commit that counts the deliveries: at the latest when the worker stops.
async fn serve_and_post(variables: &Variables, deliveries: &[String], concurrency: usize) -> Value {
    let process = Revwatch::serve(variables, "ingest,worker,alerting");
    let (client, url) = (reqwest::Client::new(), process.url("/webhooks/stripe"));
    let answers = futures_util::stream::iter(deliveries)
        .map(|body| post(&client, &url, body))
        .buffer_unordered(concurrency);
    let answers: Vec<_> = answers.collect().await;
    assert!(
        answers
            .iter()
            .all(|a| *a.as_ref().expect("answered") == 200),
        "{answers:?}"
    );
    until("every delivery is processed", || async {
        let shown = metrics(variables);
        let count = |key: &str| shown[key].as_u64().unwrap_or(0);
        assert_eq!((count("events_dead"), count("events_ignored")), (0, 0));
        (count("events_applied") + count("events_duplicate") == deliveries.len() as u64)
            .then_some(())
    })
    .await;
    process.stop();
    metrics(variables)
}
