//! Ten thousand payouts fail together: readers get few messages with the right sums. (That the rate
//! limit of a destination is kept is tested with a simulated clock, in `alerting/src/dispatch.rs`.)

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use revwatch_core::money::Money;
use serde_json::{Value, json};

use super::Deployment;
use crate::support::providers::{Settings, alerts, is_notified, post_all};
use crate::support::revwatch::{Revwatch, metrics};
use crate::support::slack::{Posted, Slack};
use crate::support::wait::{until, until_within};

const PAYOUTS: i64 = 10_000;
const ACCOUNTS: i64 = 40;
const LONG_TIMEOUT: Duration = Duration::from_secs(120);

/// The built-in rule, without the others.
fn rule() -> String {
    let shipped = include_str!("../../deploy/rules/default.toml");
    let rule = shipped
        .split("[[rule]]")
        .find(|rule| rule.contains("name = \"payout_failed\""))
        .expect("it is shipped");
    // The inhibiting rule is not loaded.
    let lines = rule
        .lines()
        .filter(|line| !line.starts_with("inhibited_by") && !line.starts_with('#'));
    format!("[[rule]]{}", lines.collect::<Vec<_>>().join("\n"))
}

fn amount(n: i64) -> i64 {
    1000 + n
}

fn payout(n: i64, status: &str, created_s: i64) -> String {
    payout_of(n % ACCOUNTS, n, status, created_s)
}

fn payout_of(account: i64, n: i64, status: &str, created_s: i64) -> String {
    let failure = (status == "failed").then_some("account_closed");
    json!({
        "id": format!("evt_{status}_{n}"), "object": "event", "type": format!("payout.{status}"), "created": created_s,
        "account": format!("acct_{account}"), "data": {"object": {"id": format!("po_{n}"), "object": "payout",
            "amount": amount(n), "currency": "usd", "status": status, "failure_code": failure}},
    })
    .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_causes_few_messages_with_the_right_sums() {
    let (deployment, slack, settings) = (
        Deployment::embedded(),
        Slack::start(&[]).await,
        Settings::new("", &rule()),
    );
    let of_deployment = deployment.variables(&[
        ("SLACK_BOT_TOKEN", "xoxb-of-the-test"),
        ("SLACK_API_BASE", &slack.url()),
    ]);
    let variables = settings.variables(of_deployment);
    let process = Revwatch::serve(&variables, "ingest,worker,alerting");
    let (url, now_s) = (
        process.url("/webhooks/stripe"),
        jiff::Timestamp::now().as_second(),
    );
    let began = Instant::now();
    let failed: Vec<_> = (0..PAYOUTS)
        .map(|n| payout(n, "failed", now_s - 60))
        .collect();
    post_all(&url, &failed).await;
    let posted = began.elapsed();
    // Groups state their number of alerts; others stand for one.
    let shown = until_within(LONG_TIMEOUT, "the messages cover all alerts", || async {
        let messages = slack.messages();
        (messages.iter().map(alert_count).sum::<i64>() == PAYOUTS).then_some(messages)
    })
    .await;
    let (notified_after, calls) = (began.elapsed(), slack.calls().len());
    assert!(shown.len() <= 7, "few messages: {shown:#?}");
    let stored = alerts(&variables);
    let (groups, members): (Vec<_>, Vec<_>) =
        stored.iter().partition(|alert| !alert["group"].is_null());
    assert_eq!(members.len(), usize::try_from(PAYOUTS).expect("few"));
    let mut sums = BTreeMap::<&str, (i64, i64)>::new();
    for member in &members {
        let of = member["part_of"]
            .as_str()
            .or(member["id"].as_str())
            .expect("an id");
        let sum = sums.entry(of).or_default();
        *sum = (
            sum.0 + 1,
            sum.1 + member["money"][0]["minor"].as_i64().expect("an amount"),
        );
    }
    assert_eq!(
        sums.values().map(|sum| sum.1).sum::<i64>(),
        (0..PAYOUTS).map(amount).sum::<i64>()
    );
    for message in &shown {
        let (count, minor) = sums[message.alert_id()];
        let money = format!("Money: {}", Money::new(minor, "usd"));
        assert!(
            count == alert_count(message) && message.text.contains(&money),
            "{count}, {money}: {}",
            message.text
        );
    }
    let group = shown.iter().find(|m| alert_count(m) > 1).expect("a group");
    assert!(
        group.text.contains(" more: ") && groups.len() == 1,
        "{}",
        group.text
    );

    let paid: Vec<_> = (0..PAYOUTS).map(|n| payout(n, "paid", now_s)).collect();
    post_all(&url, &paid).await;
    until_within(
        LONG_TIMEOUT,
        "the channel shows that all alerts are resolved",
        || async {
            slack
                .messages()
                .iter()
                .all(|m| m.text.contains("RESOLVED"))
                .then_some(())
        },
    )
    .await;
    let resolved_after = began.elapsed();
    let stored = until_within(
        LONG_TIMEOUT,
        "all alerts are stored as resolved",
        || async {
            let stored = alerts(&variables);
            stored
                .iter()
                .all(|alert| alert["state"] == "resolved")
                .then_some(stored)
        },
    )
    .await;
    let alone_or_group = |alert: &&Value| alert["part_of"].is_null();
    assert!(
        stored
            .iter()
            .filter(alone_or_group)
            .all(|alert| is_notified(alert, "resolved"))
    );
    assert_eq!(
        slack.messages().len(),
        shown.len(),
        "resolutions are updates in place"
    );
    process.stop();
    let all = slack.calls();
    eprintln!(
        "posted in {posted:.1?}, all notified after {notified_after:.1?} with {} messages in {calls} calls, resolved after {resolved_after:.1?} with {} calls in {:.1?}",
        shown.len(),
        all.len(),
        all[all.len() - 1].at - all[0].at
    );
}

/// Four hundred payouts of one account, and so of one partition of many, failed and were paid
/// before alerting started.
#[tokio::test(flavor = "multi_thread")]
async fn a_storm_that_ended_before_alerting_started_is_not_notified() {
    const RECOVERED: i64 = 400;
    let (deployment, slack) = (Deployment::servers().await, Slack::start(&[]).await);
    let settings = Settings::new("[alerting]\ntick_seconds = 0.05\n", &rule());
    let of_deployment = deployment.variables(&[
        ("SLACK_BOT_TOKEN", "xoxb-of-the-test"),
        ("SLACK_API_BASE", &slack.url()),
    ]);
    let variables = settings.variables(of_deployment);
    let front = Revwatch::serve(&variables, "ingest,worker");
    let (url, now_s) = (
        front.url("/webhooks/stripe"),
        jiff::Timestamp::now().as_second(),
    );
    let applied = |count: i64| {
        let variables = &variables;
        until("posted events are applied", move || async move {
            (metrics(variables)["events_applied"] == count).then_some(())
        })
    };
    // Two changes of one payout in one batch would cancel out.
    let failed: Vec<_> = (0..RECOVERED)
        .map(|n| payout_of(1, n, "failed", now_s - 60))
        .collect();
    post_all(&url, &failed).await;
    applied(RECOVERED).await;
    let paid: Vec<_> = (0..RECOVERED)
        .map(|n| payout_of(1, n, "paid", now_s))
        .collect();
    post_all(&url, &paid).await;
    post_all(&url, &[payout_of(2, RECOVERED, "failed", now_s)]).await;
    applied(2 * RECOVERED + 1).await;

    let process = Revwatch::serve(&variables, "alerting");
    until_within(
        LONG_TIMEOUT,
        "the open alert is notified, and all other events have been read",
        || async {
            let ticks = process
                .metric("revwatch_rule_evaluation_seconds_count")
                .await?;
            (ticks > 40.0 && !slack.messages().is_empty()).then_some(())
        },
    )
    .await;
    let (messages, stored) = (slack.messages(), alerts(&variables));
    assert!(
        messages.len() == 1 && messages[0].text.contains(&format!("po_{RECOVERED}")),
        "{messages:#?}"
    );
    assert_eq!(stored.len(), 1, "{stored:#?}");
    process.stop();
    front.stop();
}

/// The number of alerts that a message stands for, for example 9,995 in `🔴 CRITICAL: 9,995 × A
/// payout failed`.
fn alert_count(message: &Posted) -> i64 {
    let headline = message.text.lines().next().unwrap_or_default();
    let number = headline
        .split_once(" × ")
        .and_then(|(before, _)| before.rsplit(' ').next());
    number.map_or(1, |number| number.parse().expect("a number"))
}
