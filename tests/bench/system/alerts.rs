//! The time from a webhook to the message in Slack, while other webhooks arrive at a fixed rate.

use std::collections::HashMap;
use std::fs;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use revwatch_core::signature::SigningKey;
use serde_json::json;

use super::events::SECRET;
use super::load::Plan;
use super::pipeline::Pipeline;
use super::process::{Loaded, Variables};
use super::report::Values;
use super::support::slack::Slack;

/// The built-in rules, and one for an event that the mix lacks. It has its own channel; that and
/// its rate limit separate the measurement from Slack's limit of about one message per second and
/// channel.
const RULE: &str = r##"
[[rule]]
name = "dispute"
kind = "condition"
condition = "dispute_open"
severity = "critical"
route = "probe"
title = "A charge is disputed"
actions = ["Answer the dispute."]
"##;
const SETTINGS: &str = r##"
[alerting]
messages_per_second = 50.0
group_above = 1000
[slack.channels]
default = "#alerts"
probe = "#probe"
"##;

/// The time between two disputes.
const EVERY: Duration = Duration::from_millis(210);

/// Latency in milliseconds at `plan`'s rate, from sending a webhook to Slack's receipt of the
/// message about it.
pub(crate) async fn webhook_to_slack(kind: Pipeline, variables: &Variables, plan: Plan) -> Values {
    let folder = tempfile::tempdir().expect("a folder");
    let slack = Slack::start(&[]).await;
    let (rules, settings) = (
        folder.path().join("rules.toml"),
        folder.path().join("revwatch.toml"),
    );
    fs::write(
        &rules,
        [include_str!("../../../deploy/rules/default.toml"), RULE].concat(),
    )
    .expect("a file");
    fs::write(&settings, SETTINGS).expect("a file");
    let mut variables = variables.clone();
    variables.extend([
        ("REVWATCH_RULES", rules.display().to_string()),
        ("REVWATCH_CONFIG", settings.display().to_string()),
        ("SLACK_BOT_TOKEN", "xoxb-of-the-benchmark".to_owned()),
        ("SLACK_API_BASE", slack.url()),
    ]);
    let (_processes, started) = kind.start(&variables);
    let (seed, seconds) = (plan.seed, plan.seconds);
    let client = reqwest::Client::new();
    // Alerting is busy until it has evaluated the existing state.
    wait_for_messages(
        &slack,
        &mut HashMap::from([dispute(&client, &started.webhooks, format!("dp_{seed}_first")).await]),
    )
    .await;
    let loaded = Loaded::new(&Plan {
        address: started.webhooks.clone(),
        ..plan
    });
    let sending = tokio::task::spawn_blocking(|| loaded.send());
    let (began, mut sent) = (Instant::now(), HashMap::new());
    while began.elapsed().as_secs_f64() < seconds {
        sent.extend([dispute(
            &client,
            &started.webhooks,
            format!("dp_{seed}_{}", sent.len()),
        )
        .await]);
        tokio::time::sleep(EVERY).await;
    }
    let background = sending.await.expect("no panic");
    let mut micros = Histogram::<u64>::new_with_bounds(1, 600_000_000, 3).expect("bounds");
    for latency in wait_for_messages(&slack, &mut sent).await {
        micros.saturating_record(
            u64::try_from(latency.as_micros())
                .unwrap_or(u64::MAX)
                .max(1),
        );
    }
    #[expect(clippy::cast_precision_loss, reason = "microseconds of minutes")]
    let ms = |value: u64| value as f64 / 1000.0;
    vec![
        ("per_s", background.stored as f64 / background.seconds),
        ("p50_ms", ms(micros.value_at_quantile(0.5))),
        ("p99_ms", ms(micros.value_at_quantile(0.99))),
        ("max_ms", ms(micros.max())),
    ]
}

/// Waits until Slack has a message about each; returns the latencies.
async fn wait_for_messages(slack: &Slack, sent: &mut HashMap<String, Instant>) -> Vec<Duration> {
    let (deadline, mut latencies) = (Instant::now() + Duration::from_secs(60), Vec::new());
    while !sent.is_empty() {
        assert!(
            Instant::now() < deadline,
            "{} of the messages are missing",
            sent.len()
        );
        for call in slack
            .calls()
            .into_iter()
            .filter(|call| call.method == "chat.postMessage")
        {
            let body = call.body.to_string();
            let mut words = body.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            if let Some((_, at)) = words.find_map(|word| sent.remove_entry(word)) {
                latencies.push(call.at - at);
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    latencies
}

/// Opens a dispute; returns the start time.
async fn dispute(client: &reqwest::Client, address: &str, dispute: String) -> (String, Instant) {
    let began = Instant::now();
    post(client, address, &dispute).await;
    (dispute, began)
}

async fn post(client: &reqwest::Client, address: &str, dispute: &str) {
    let now_s = jiff::Timestamp::now().as_second();
    let body = json!({
        "id": format!("evt_{dispute}"), "object": "event", "api_version": "2025-09-30.clover", "created": now_s,
        "type": "charge.dispute.created", "livemode": true, "pending_webhooks": 1, "request": null,
        "data": {"object": {"id": dispute, "object": "dispute", "amount": 4200, "currency": "eur", "charge": "ch_1",
            "status": "needs_response", "reason": "fraudulent", "created": now_s}},
    });
    let body = body.to_string();
    let header = SigningKey::new(SECRET)
        .expect("a secret")
        .header(now_s, body.as_bytes());
    let request = client
        .post(format!("http://{address}/webhooks/stripe"))
        .header("stripe-signature", header);
    let answer = request
        .header("content-type", "application/json")
        .body(body)
        .send()
        .await
        .expect("sent");
    assert_eq!(answer.status(), 200);
}
