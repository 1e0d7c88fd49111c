//! One message per alert, updated when it resolves; none lost while Slack fails.

use serde_json::json;

use super::Deployment;
use crate::support::revwatch::{Revwatch, post};
use crate::support::slack::{ScriptedFault, Slack};
use crate::support::wait::until;

fn account(event: &str, created_s: i64, charges: bool) -> String {
    let previous = json!({"charges_enabled": !charges});
    json!({
        "id": event, "object": "event", "api_version": "2025-03-31.basil", "type": "account.updated", "created": created_s,
        "account": "acct_1", "livemode": true, "pending_webhooks": 1, "request": null,
        "data": {"object": {"id": "acct_1", "object": "account", "country": "PT", "charges_enabled": charges,
            "payouts_enabled": true, "details_submitted": true, "requirements": {"currently_due": [], "past_due": []}},
            "previous_attributes": previous},
    })
    .to_string()
}

/// Fires and resolves `provider_lost_charges`, waiting for Slack in between.
async fn fire_and_resolve(process: &Revwatch, slack: &Slack) {
    let client = reqwest::Client::new();
    let url = process.url("/webhooks/stripe");
    let now_s = jiff::Timestamp::now().as_second();
    for (n, charges) in [(0, true), (1, false)] {
        assert_eq!(
            post(
                &client,
                &url,
                &account(&format!("evt_{n}"), now_s - 60 + n, charges)
            )
            .await
            .expect("posted"),
            200
        );
    }
    until("Slack has the alert", || async {
        (!slack.accepted().is_empty()).then_some(())
    })
    .await;
    assert_eq!(
        post(&client, &url, &account("evt_2", now_s, true))
            .await
            .expect("posted"),
        200
    );
    until("Slack has the resolution", || async {
        (slack.accepted().len() >= 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_bot_posts_once_and_updates_the_same_message() {
    posts_once_and_updates(&Deployment::embedded()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bot_posts_once_on_rabbitmq_and_redis() {
    posts_once_and_updates(&Deployment::servers().await).await;
}

async fn posts_once_and_updates(deployment: &Deployment) {
    let slack = Slack::start(&[]).await;
    let variables = deployment.variables(&[
        ("SLACK_BOT_TOKEN", "xoxb-of-the-test"),
        ("SLACK_API_BASE", &slack.url()),
    ]);
    let process = Revwatch::serve(&variables, "ingest,worker,alerting");
    fire_and_resolve(&process, &slack).await;
    process.stop();
    let calls = slack.calls();
    let methods: Vec<_> = calls.iter().map(|c| c.method.as_str()).collect();
    assert_eq!(methods, ["chat.postMessage", "chat.update"]);
    assert!(
        calls
            .iter()
            .all(|c| c.authorization == "Bearer xoxb-of-the-test")
    );
    assert_eq!(calls[0].body["channel"], "#alerts-critical");
    let messages = slack.messages();
    assert_eq!(messages.len(), 1);
    let (channel, ts) = messages[0].place();
    assert_eq!(
        (&calls[1].body["channel"], &calls[1].body["ts"]),
        (&json!(channel), &json!(ts))
    );
    let text = |n: usize| calls[n].body["text"].as_str().expect("text").to_owned();
    assert!(
        text(0).contains("CRITICAL") && text(0).contains("acct_1") && text(0).contains("1. "),
        "{}",
        text(0)
    );
    assert!(text(1).contains("RESOLVED"), "{}", text(1));
}

#[tokio::test]
async fn a_webhook_gets_one_message_on_firing_and_one_on_resolution() {
    let slack = Slack::start(&[]).await;
    let deployment = Deployment::embedded();
    let variables =
        deployment.variables(&[("SLACK_WEBHOOK_URL", &format!("{}/hook", slack.url()))]);
    let process = Revwatch::serve(&variables, "ingest,worker,alerting");
    fire_and_resolve(&process, &slack).await;
    process.stop();
    assert_eq!(slack.calls().len(), 2);
}

#[tokio::test]
async fn nothing_is_lost_when_slack_answers_429_or_500_first_or_the_process_is_killed() {
    let faults = [
        ScriptedFault::TooMany,
        ScriptedFault::ServerError,
        ScriptedFault::Error("internal_error"),
        ScriptedFault::TooMany,
    ];
    let slack = Slack::start(&faults).await;
    let deployment = Deployment::embedded();
    let variables = deployment.variables(&[
        ("SLACK_BOT_TOKEN", "xoxb-of-the-test"),
        ("SLACK_API_BASE", &slack.url()),
    ]);
    let process = Revwatch::serve(&variables, "ingest,worker,alerting");
    let client = reqwest::Client::new();
    let now_s = jiff::Timestamp::now().as_second();
    for (n, charges) in [(0, true), (1, false)] {
        let body = account(&format!("evt_{n}"), now_s - 60 + n, charges);
        assert_eq!(
            post(&client, &process.url("/webhooks/stripe"), &body)
                .await
                .expect("posted"),
            200
        );
    }
    until("Slack has refused twice", || async {
        (slack.calls().len() >= 2).then_some(())
    })
    .await;
    process.kill9();
    let process = Revwatch::serve(&variables, "ingest,worker,alerting");
    until("Slack has the alert", || async {
        (!slack.accepted().is_empty()).then_some(())
    })
    .await;
    assert_eq!(
        post(
            &client,
            &process.url("/webhooks/stripe"),
            &account("evt_2", now_s, true)
        )
        .await
        .expect("posted"),
        200
    );
    until("Slack has the resolution", || async {
        (slack.accepted().len() >= 2).then_some(())
    })
    .await;
    process.stop();
    let methods: Vec<_> = slack.accepted().into_iter().map(|c| c.method).collect();
    assert_eq!(methods, ["chat.postMessage", "chat.update"]);
}
