//! `kill -9` under load loses nothing that was answered 2xx, and nothing is counted twice.

use std::collections::HashSet;
use std::sync::Mutex;

use futures_util::StreamExt as _;

use super::Deployment;
use crate::support::history::History;
use crate::support::revwatch::{Revwatch, Variables, metrics, post, print};
use crate::support::wait::until;

#[tokio::test(flavor = "multi_thread")]
async fn a_repeatedly_killed_embedded_process_loses_nothing() {
    let deployment = Deployment::embedded();
    let variables = deployment.variables(&[]);
    let history = History::new(7, 60, jiff::Timestamp::now().as_second());
    let mut rest = history.events.clone();
    let mut kills = 0;
    while !rest.is_empty() {
        let process = Revwatch::serve(&variables, "ingest,worker,alerting");
        // A few more each time; the kill comes while requests are in flight.
        let accepted = load(&process, &rest, 40 + 30 * kills).await;
        process.kill9();
        kills += 1;
        rest.retain(|event| !accepted.contains(event));
        assert!(kills < 50, "each round accepts something");
    }
    assert!(kills >= 3, "{kills} kills");
    all_applied(&variables, &history).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_killed_under_load_loses_nothing_on_rabbitmq_and_redis() {
    let deployment = Deployment::servers().await;
    let variables = deployment.variables(&[]);
    let history = History::new(8, 80, jiff::Timestamp::now().as_second());
    let alerting = Revwatch::serve(&variables, "alerting");
    let mut rest = history.events.clone();
    let mut kills = 0;
    while !rest.is_empty() {
        let ingest = Revwatch::serve(&variables, "ingest");
        let worker = Revwatch::serve(&variables, "worker");
        let accepted = load(&ingest, &rest, 60 + 40 * kills).await;
        // The worker is in the middle of the accepted deliveries.
        worker.kill9();
        ingest.kill9();
        kills += 1;
        rest.retain(|event| !accepted.contains(event));
        assert!(kills < 50, "each round accepts something");
    }
    alerting.kill9();
    assert!(kills >= 3, "{kills} kills");
    all_applied(&variables, &history).await;
}

/// Posts until `wanted` deliveries were answered 200, then returns while others are in flight.
pub(super) async fn load(process: &Revwatch, events: &[String], wanted: usize) -> HashSet<String> {
    let (client, url) = (reqwest::Client::new(), process.url("/webhooks/stripe"));
    let accepted = Mutex::new(HashSet::new());
    let posts = futures_util::stream::iter(events).map(|body| {
        let (client, url) = (&client, &url);
        async move { (body, post(client, url, body).await) }
    });
    let mut answers = std::pin::pin!(posts.buffer_unordered(16));
    while let Some((body, answer)) = answers.next().await {
        if answer.is_ok_and(|status| status == 200) {
            let mut accepted = accepted.lock().expect("no panic while locked");
            accepted.insert(body.clone());
            if accepted.len() >= wanted {
                break;
            }
        }
    }
    accepted.into_inner().expect("no panic while locked")
}

/// Accepted events are applied, each counted one time; the exports equal those of a run without a
/// crash.
async fn all_applied(variables: &Variables, history: &History) {
    let process = Revwatch::serve(variables, "worker");
    until("every event is applied", || async {
        let applied = &metrics(variables)["events_applied"];
        (applied.as_u64() >= Some(history.events.len() as u64)).then_some(())
    })
    .await;
    // Customers get what their subscriptions say after the commit that counts the events.
    process.stop();
    let shown = metrics(variables);
    assert_eq!(shown["events_applied"], history.events.len());
    assert_eq!(
        (&shown["events_dead"], &shown["events_ignored"]),
        (&0.into(), &0.into())
    );
    history.expected.assert_shown(&shown);
    same_exports(variables, &history.events).await;
}

/// The exports equal those of a run without the faults of this one.
pub(super) async fn same_exports(variables: &Variables, events: &[String]) {
    same_exports_but(variables, events, &[]).await;
}

/// The same without these columns.
pub(super) async fn same_exports_but(variables: &Variables, events: &[String], columns: &[&str]) {
    let reference = Deployment::embedded();
    let reference = reference.variables(&[]);
    let process = Revwatch::serve(&reference, "ingest,worker");
    load(&process, events, events.len()).await;
    until("the reference run has applied all events", || async {
        (metrics(&reference)["events_applied"] == events.len()).then_some(())
    })
    .await;
    process.stop();
    for kind in ["subscriptions", "invoices", "payouts", "accounts"] {
        let exported = |of| without(&print(of, &["export", kind]), columns);
        assert_eq!(exported(variables), exported(&reference), "{kind}");
    }
}

/// CSV without these columns. No value of these tests has a comma.
fn without(csv: &str, columns: &[&str]) -> Vec<Vec<String>> {
    let mut lines = csv.lines().map(|line| line.split(','));
    let header: Vec<&str> = lines.next().expect("a header").collect();
    let is_kept = |at: usize| !columns.contains(&header[at]);
    let kept = lines.map(|line| line.enumerate().filter(|(at, _)| is_kept(*at)));
    kept.map(|line| line.map(|(_, value)| value.to_owned()).collect())
        .collect()
}
