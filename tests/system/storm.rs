//! Ten thousand payouts fail at once: readers get few messages, one a second at most, and the right sums.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use revwatch_shared::money::Money;
use serde_json::{Value, json};

use super::Home;
use crate::support::providers::{Settings, alerts, is_told, post_all};
use crate::support::revwatch::Revwatch;
use crate::support::slack::{Posted, Slack};
use crate::support::wait::until_within;

const PAYOUTS: i64 = 10_000;
const ACCOUNTS: i64 = 40;
const LONG: Duration = Duration::from_secs(120);
/// What a loaded machine may add or take between sending and receiving.
const TOLERANCE: Duration = Duration::from_millis(250);

/// The shipped rule, without the others.
fn rule() -> String {
    let shipped = include_str!("../../deploy/rules/default.toml");
    let rule = shipped.split("[[rule]]").find(|rule| rule.contains("name = \"payout_failed\"")).expect("it is shipped");
    // What would explain it is another rule.
    let lines = rule.lines().filter(|line| !line.starts_with("inhibited_by") && !line.starts_with('#'));
    format!("[[rule]]{}", lines.collect::<Vec<_>>().join("\n"))
}

fn amount(n: i64) -> i64 {
    1000 + n
}

fn payout(n: i64, status: &str, created_s: i64) -> String {
    let failure = (status == "failed").then_some("account_closed");
    json!({
        "id": format!("evt_{status}_{n}"), "object": "event", "type": format!("payout.{status}"), "created": created_s,
        "account": format!("acct_{}", n % ACCOUNTS), "data": {"object": {"id": format!("po_{n}"), "object": "payout",
            "amount": amount(n), "currency": "usd", "status": status, "failure_code": failure}},
    })
    .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_gives_few_messages_and_one_a_second_at_most() {
    let (home, slack, settings) = (Home::embedded(), Slack::start(&[]).await, Settings::new("", &rule()));
    let of_home = home.variables(&[("SLACK_BOT_TOKEN", "xoxb-secret"), ("SLACK_API_BASE", &slack.url())]);
    let variables = settings.variables(of_home);
    let process = Revwatch::serve(&variables, "ingest,worker,alerting");
    let (url, now_s) = (process.url("/webhooks/stripe"), jiff::Timestamp::now().as_second());
    let began = Instant::now();
    let failed: Vec<_> = (0..PAYOUTS).map(|n| payout(n, "failed", now_s - 60)).collect();
    post_all(&url, &failed).await;
    let posted = began.elapsed();
    // Groups say how many; others are alone.
    let shown = until_within(LONG, "the messages speak of all", || async {
        let messages = slack.messages();
        (messages.iter().map(of_how_many).sum::<i64>() == PAYOUTS).then_some(messages)
    })
    .await;
    let (told, calls) = (began.elapsed(), slack.calls().len());
    assert!(shown.len() <= 7, "few messages: {shown:#?}");
    let stored = alerts(&variables);
    let (groups, members): (Vec<_>, Vec<_>) = stored.iter().partition(|alert| !alert["group"].is_null());
    assert_eq!(members.len(), usize::try_from(PAYOUTS).expect("few"));
    let mut sums = BTreeMap::<&str, (i64, i64)>::new();
    for member in &members {
        let of = member["part_of"].as_str().or(member["id"].as_str()).expect("an id");
        let sum = sums.entry(of).or_default();
        *sum = (sum.0 + 1, sum.1 + member["evidence"]["money"][0]["minor"].as_i64().expect("an amount"));
    }
    assert_eq!(sums.values().map(|sum| sum.1).sum::<i64>(), (0..PAYOUTS).map(amount).sum::<i64>());
    for message in &shown {
        let (count, minor) = sums[message.alert_id()];
        let money = format!("Money: {}", Money::new(minor, "usd"));
        assert!(count == of_how_many(message) && message.text.contains(&money), "{count}, {money}: {}", message.text);
    }
    let group = shown.iter().find(|m| of_how_many(m) > 1).expect("a group");
    assert!(group.text.contains(" more: ") && groups.len() == 1, "{}", group.text);

    let paid: Vec<_> = (0..PAYOUTS).map(|n| payout(n, "paid", now_s)).collect();
    post_all(&url, &paid).await;
    until_within(LONG, "the channel says that all is over", || async {
        slack.messages().iter().all(|m| m.text.contains("RESOLVED")).then_some(())
    })
    .await;
    let over = began.elapsed();
    let stored = until_within(LONG, "all is stored as over", || async {
        let stored = alerts(&variables);
        stored.iter().all(|alert| alert["state"] == "resolved").then_some(stored)
    })
    .await;
    let alone_or_group = |alert: &&Value| alert["part_of"].is_null();
    assert!(stored.iter().filter(alone_or_group).all(|alert| is_told(alert, "resolved")));
    assert_eq!(slack.messages().len(), shown.len(), "what is over is said in place");
    process.stop();
    let all = slack.calls();
    eprintln!(
        "posted in {posted:.1?}, all told after {told:.1?} with {} messages in {calls} calls, over after {over:.1?} with {} calls",
        shown.len(),
        all.len()
    );
    for pair in all.windows(2) {
        let pause = pair[1].at - pair[0].at;
        assert!(pause + TOLERANCE >= Duration::from_secs(1), "{pause:?} between two calls");
    }
    let (first, last) = (all[0].at, all[all.len() - 1].at);
    assert!((last - first + TOLERANCE).as_secs_f64() >= (all.len() - 1) as f64, "one a second");
}

/// How many alerts a message speaks for: `🔴 CRITICAL: 9,995 × A payout failed` does for as many.
fn of_how_many(message: &Posted) -> i64 {
    let headline = message.text.lines().next().unwrap_or_default();
    let number = headline.split_once(" × ").and_then(|(before, _)| before.rsplit(' ').next());
    number.map_or(1, |number| number.parse().expect("a number"))
}
