//! A new installation on an old account: what is wrong already is one digest, what is new is an alert.

use serde_json::{Value, json};

use super::Deployment;
use crate::support::providers::{Settings, alerts, post_all};
use crate::support::revwatch::{Revwatch, Variables, print};
use crate::support::slack::{Posted, Slack};
use crate::support::wait::until;

const DAY_S: i64 = 86_400;

fn now_s() -> i64 {
    jiff::Timestamp::now().as_second()
}

fn failed_payout(n: i64, created_s: i64) -> String {
    json!({
        "id": format!("evt_po_{n}"), "object": "event", "type": "payout.failed", "created": created_s,
        "livemode": true, "account": format!("acct_{n}"), "data": {"object": {"id": format!("po_{n}"),
            "object": "payout", "amount": 1000, "currency": "usd", "status": "failed",
            "failure_code": "account_closed"}},
    })
    .to_string()
}

/// Something else about it changes now: the event says that it was past due before.
fn past_due(n: i64) -> String {
    json!({
        "id": format!("evt_sub_{n}"), "object": "event", "type": "customer.subscription.updated",
        "created": now_s() - 60, "livemode": true, "data": {
            "object": {"id": format!("sub_{n}"), "object": "subscription", "status": "past_due",
                "customer": format!("cus_{n}"), "currency": "usd", "metadata": {"seat": "b"}, "items": {"data": [
                    {"id": "si_1", "quantity": 1, "price": {"id": "price_1", "unit_amount": 500,
                        "recurring": {"interval": "month", "interval_count": 1}}}]}},
            "previous_attributes": {"metadata": {"seat": "a"}}},
    })
    .to_string()
}

const RULES: &str = r#"
[[rule]]
name = "payout_failed"
kind = "condition"
condition = "payout_failed"
severity = "critical"
route = "alerts-critical"
title = "A payout failed"
actions = ["Inform the provider."]

[[rule]]
name = "past_due"
kind = "condition"
condition = "past_due"
severity = "high"
route = "alerts-churn"
title = "A customer is past due"
actions = ["Call the customer."]
"#;

async fn message(slack: &Slack, words: &str) -> Posted {
    until(&format!("a message says {words:?}"), || async {
        let mut messages = slack.messages().into_iter();
        messages.find(|message| message.text.contains(words))
    })
    .await
}

fn listed(variables: &Variables, args: &[&str]) -> Vec<Value> {
    let args = [&["alerts", "list", "--json"], args].concat();
    serde_json::from_str(&print(variables, &args)).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_installation_sends_one_digest_embedded() {
    a_new_installation_sends_one_digest(&Deployment::embedded()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_installation_sends_one_digest_on_servers() {
    a_new_installation_sends_one_digest(&Deployment::servers().await).await;
}

async fn a_new_installation_sends_one_digest(deployment: &Deployment) {
    let (slack, settings) = (Slack::start(&[]).await, Settings::new("", RULES));
    let variables = settings.variables(deployment.variables(&[
        ("SLACK_BOT_TOKEN", "xoxb-of-the-test"),
        ("SLACK_API_BASE", &slack.url()),
    ]));
    let process = Revwatch::serve(&variables, "ingest,worker,alerting");
    let url = process.url("/webhooks/stripe");
    let mut old: Vec<_> = (0..30)
        .map(|n| failed_payout(n, now_s() - 7 * DAY_S + n))
        .collect();
    old.extend((0..5).map(past_due));
    post_all(&url, &old).await;
    let digest = message(&slack, "35 things were wrong already").await;
    for words in [
        "30 × A payout failed (critical); 5 × A customer is past due (high)",
        "Money: USD 325.00",
        "revwatch alerts list --group",
    ] {
        assert!(digest.text.contains(words), "{words}: {}", digest.text);
    }

    post_all(&url, &[failed_payout(100, now_s())]).await;
    message(&slack, "po_100").await;
    assert_eq!(slack.messages().len(), 2, "{:#?}", slack.messages());
    let stored = alerts(&variables);
    let old = stored.iter().filter(|alert| alert["pre_existing"] == true);
    assert_eq!(old.count(), 36, "with the digest");
    assert_eq!(
        listed(&variables, &[]).len(),
        37,
        "the digest, each of its alerts, and what is new"
    );
    assert_eq!(listed(&variables, &["--rule", "payout_failed"]).len(), 31);

    // It remembers when it began.
    process.stop();
    let process = Revwatch::serve(&variables, "ingest,worker,alerting");
    let url = process.url("/webhooks/stripe");
    post_all(
        &url,
        &[
            failed_payout(101, now_s()),
            failed_payout(31, now_s() - DAY_S),
        ],
    )
    .await;
    message(&slack, "po_101").await;
    message(&slack, "36 things were wrong already").await;
    assert_eq!(slack.messages().len(), 3, "{:#?}", slack.messages());
    process.stop();
}
