//! With a failing Slack, every alert is sent in the end, and every duplicate is marked as a
//! possible duplicate.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::time::Duration;

use super::Deployment;
use crate::support::is_long;
use crate::support::providers::{Settings, alerts, is_notified, post_all, updated};
use crate::support::revwatch::Revwatch;
use crate::support::slack::{Posted, Slack};
use crate::support::wait::until_within;

const ALERTS: usize = 60;
const SETTINGS: &str = "[alerting]\ntick_seconds = 0.05\nlease_seconds = 1.5\nmessages_per_second = 200.0\n\
                        group_above = 100000\n";
/// Each failed attempt doubles the wait.
const LONG_TIMEOUT: Duration = Duration::from_secs(120);
/// The seed of the faults.
const SEED: u64 = 20_261_118;

#[tokio::test(flavor = "multi_thread")]
async fn with_history_there_is_one_message_for_each_alert() {
    for seed in seeds() {
        for (alert, copies) in day(seed, true).await {
            assert_eq!(copies.len(), 1, "{alert} has one message: {copies:#?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_history_scope_possible_duplicates_are_marked() {
    for seed in seeds() {
        for (alert, copies) in day(seed, false).await {
            for copy in &copies[1..] {
                assert!(
                    copy.text.contains("Possible duplicate"),
                    "{alert}: {copies:#?}"
                );
            }
        }
    }
}

/// One simulated day, or ten in a long run.
fn seeds() -> Range<u64> {
    SEED..SEED + if is_long() { 10 } else { 1 }
}

/// 60 accounts lose charges, for one reason and then another, and regain them, while most possible
/// faults occur. Returns the messages of the channel in the end, by alert and oldest first; each
/// alert has one that says RESOLVED.
async fn day(seed: u64, may_read_history: bool) -> BTreeMap<String, Vec<Posted>> {
    eprintln!("seed {seed}");
    let slack = Slack::start(&[]).await;
    if !may_read_history {
        slack.forbid_reading();
    }
    slack.misbehave(seed, 40);
    let (deployment, settings) = (Deployment::embedded(), Settings::of_providers(SETTINGS));
    let of_deployment = deployment.variables(&[
        ("SLACK_BOT_TOKEN", "xoxb-of-the-test"),
        ("SLACK_API_BASE", &slack.url()),
    ]);
    let variables = settings.variables(of_deployment);
    let process = Revwatch::serve(&variables, "ingest,worker,alerting");
    let url = process.url("/webhooks/stripe");
    let begin_s = jiff::Timestamp::now().as_second() - 100;
    for (n, (charges, reason)) in [
        (true, ""),
        (false, "requirements.past_due"),
        (false, "under_review"),
        (true, ""),
    ]
    .into_iter()
    .enumerate()
    {
        let created_s = begin_s + 10 * i64::try_from(n).expect("few");
        let event = |a| {
            updated(
                &format!("evt_{n}_{a}"),
                &format!("acct_{a}"),
                created_s,
                charges,
                reason,
            )
        };
        post_all(&url, &(0..ALERTS).map(event).collect::<Vec<_>>()).await;
        if n == 0 {
            continue;
        }
        // The next change comes when at least half of the notifications are delivered and the
        // others are in flight.
        until_within(LONG_TIMEOUT, "half are notified", || async {
            let is_delivered = |m: &Posted| {
                if charges {
                    m.text.contains("RESOLVED")
                } else {
                    m.text.contains(reason)
                }
            };
            let notified: HashSet<_> = slack
                .messages()
                .iter()
                .filter(|m| is_delivered(m))
                .map(|m| m.alert_id().to_owned())
                .collect();
            (notified.len() * 2 >= ALERTS).then_some(())
        })
        .await;
    }
    slack.behave();
    until_within(LONG_TIMEOUT, "all are notified", || async {
        let alerts = alerts(&variables);
        (alerts.len() == ALERTS && alerts.iter().all(|alert| is_notified(alert, "resolved")))
            .then_some(())
    })
    .await;
    let (faults, deleted) = (slack.faults(), slack.deleted());
    let kinds: HashSet<_> = faults.iter().collect();
    eprintln!(
        "{} faults of {} kinds, {} messages deleted",
        faults.len(),
        kinds.len(),
        deleted.len()
    );
    assert!(
        faults.len() >= 30 && kinds.len() >= 7 && !deleted.is_empty(),
        "too few or too uniform faults: {faults:?}"
    );
    process.stop();
    let mut messages = BTreeMap::<String, Vec<Posted>>::new();
    for message in slack.messages() {
        messages
            .entry(message.alert_id().to_owned())
            .or_default()
            .push(message);
    }
    for alert in alerts(&variables) {
        let id = alert["id"].as_str().expect("an id");
        let copies = messages.get(id).map_or(&[][..], Vec::as_slice);
        // A message deleted after the final update stays deleted, as intended by the person who
        // deleted it.
        let is_resolution = |m: &Posted| m.alert_id() == id && m.text.contains("RESOLVED");
        assert!(
            copies.iter().chain(&deleted).any(is_resolution),
            "{id} has no resolution: {copies:#?}"
        );
    }
    messages
}
