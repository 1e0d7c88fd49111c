//! Deliveries that were queued before alerting began, or while no worker ran, are applied before anything is decided.

use std::time::Duration;

use serde_json::{Value, json};

use super::Deployment;
use crate::support::providers::{Settings, alerts, post_all};
use crate::support::revwatch::{Revwatch, metrics};
use crate::support::wait::until;

/// More than a worker commits at once.
const PAYOUTS: usize = 1500;
const RULES: &str = r#"
[[rule]]
name = "payout_failed"
kind = "condition"
condition = "payout_failed"
severity = "critical"
route = "alerts-critical"
title = "A payout failed"
actions = ["Call the provider."]

[[rule]]
name = "payout_failures"
kind = "ratio"
metric = "payout_failures"
window = "24h"
above = 0.5
severity = "high"
route = "alerts-high"
title = "Payouts fail"
actions = ["Call the bank."]
"#;

/// A payout of the one account has reached `status`.
fn payout(n: usize, status: &str, created_s: i64) -> String {
    json!({
        "id": format!("evt_{n}_{status}"), "object": "event", "api_version": "2025-03-31.basil",
        "type": format!("payout.{status}"), "created": created_s, "account": "acct_1", "livemode": true,
        "pending_webhooks": 1, "request": null,
        "data": {"object": {"id": format!("po_{n}"), "object": "payout", "amount": 1000, "currency": "usd",
            "status": status, "created": created_s - 60, "arrival_date": created_s, "type": "bank_account",
            "failure_code": (status == "failed").then_some("account_closed")}},
    })
    .to_string()
}

/// Payouts that failed and were paid a minute later, while only ingest ran.
async fn what_has_ended_makes_no_alert(deployment: Deployment) {
    let settings = Settings::new("[alerting]\ntick_seconds = 0.05\n", RULES);
    let variables = settings.variables(deployment.variables(&[]));
    let now_s = jiff::Timestamp::now().as_second();
    let ingest = Revwatch::serve(&variables, "ingest");
    let url = ingest.url("/webhooks/stripe");
    for (status, at_s) in [("failed", now_s - 120), ("paid", now_s - 60)] {
        let bodies: Vec<_> = (0..PAYOUTS).map(|n| payout(n, status, at_s)).collect();
        post_all(&url, &bodies).await;
    }
    ingest.stop();
    let process = Revwatch::serve(&variables, "ingest,worker,alerting");
    until("all queued events are applied", || async {
        (metrics(&variables)["events_applied"] == 2 * PAYOUTS).then_some(())
    })
    .await;
    // Alerting has begun when it fires for what is still wrong.
    let url = process.url("/webhooks/stripe");
    post_all(&url, &[payout(PAYOUTS, "failed", now_s)]).await;
    let found = until("there is an alert", || async {
        let alerts = alerts(&variables);
        (!alerts.is_empty()).then_some(alerts)
    })
    .await;
    let events: Vec<&Value> = found.iter().map(|alert| &alert["events"][0]).collect();
    assert_eq!(events, [&format!("evt_{PAYOUTS}_failed")], "{found:#?}");
    let waiting = process.metric("revwatch_alerting_waits_for_deliveries");
    assert_eq!(waiting.await, Some(0.0));
    process.stop();
}

/// Payouts that failed and were paid while no worker ran; one is still failed.
async fn what_has_ended_during_an_outage_makes_no_alert(deployment: Deployment) {
    let settings = Settings::new("[alerting]\ntick_seconds = 0.05\n", RULES);
    let variables = settings.variables(deployment.variables(&[]));
    let now_s = jiff::Timestamp::now().as_second();
    let front = Revwatch::serve(&variables, "ingest,alerting");
    let worker = Revwatch::serve(&variables, "worker");
    let url = front.url("/webhooks/stripe");
    post_all(&url, &[payout(PAYOUTS + 1, "paid", now_s - 600)]).await;
    until(
        "the first event is applied, and alerting does not wait",
        || async {
            let waits = front.metric("revwatch_alerting_waits_for_deliveries").await;
            (metrics(&variables)["events_applied"] == 1 && waits == Some(0.0)).then_some(())
        },
    )
    .await;
    worker.kill9();
    for (status, count, ago_s) in [("failed", PAYOUTS, 120), ("paid", PAYOUTS - 1, 60)] {
        let event = |n| payout(n, status, now_s - ago_s);
        let bodies: Vec<_> = (0..count).map(event).collect();
        post_all(&url, &bodies).await;
    }
    // Deliveries that waited for less than five seconds are not late.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let worker = Revwatch::serve(&variables, "worker");
    let found = until("there is an alert", || async {
        let alerts = alerts(&variables);
        (!alerts.is_empty()).then_some(alerts)
    })
    .await;
    let still_failed = format!("evt_{}_failed", PAYOUTS - 1);
    let events: Vec<&Value> = found.iter().map(|alert| &alert["events"][0]).collect();
    assert_eq!(events, [&still_failed], "{found:#?}");
    for process in [worker, front] {
        process.stop();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn embedded_alerting_waits_for_workers_that_are_back() {
    what_has_ended_during_an_outage_makes_no_alert(Deployment::embedded()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn alerting_on_servers_waits_for_workers_that_are_back() {
    what_has_ended_during_an_outage_makes_no_alert(Deployment::servers().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn embedded_alerting_decides_once_queued_deliveries_are_applied() {
    what_has_ended_makes_no_alert(Deployment::embedded()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn alerting_on_servers_decides_once_queued_deliveries_are_applied() {
    what_has_ended_makes_no_alert(Deployment::servers().await).await;
}
