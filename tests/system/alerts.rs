//! Commands of the CLI reach the evaluator, and the CLI shows the current state.

use serde_json::{Value, json};

use super::{Deployment, shipped_rules};
use crate::support::revwatch::{Revwatch, Variables, cli, metrics, post, print};
use crate::support::slack::Slack;
use crate::support::wait::until;

/// Stripe events for any number of accounts; each is newer than the one before.
struct Stripe {
    client: reqwest::Client,
    url: String,
    first_s: i64,
    sent: i64,
}

impl Stripe {
    fn to(process: &Revwatch) -> Self {
        let first_s = jiff::Timestamp::now().as_second() - 600;
        Self {
            client: reqwest::Client::new(),
            url: process.url("/webhooks/stripe"),
            first_s,
            sent: 0,
        }
    }

    async fn update(&mut self, account: &str, charges: bool) {
        self.sent += 1;
        let event = json!({
            "id": format!("evt_{}", self.sent), "object": "event", "api_version": "2025-03-31.basil",
            "type": "account.updated", "created": self.first_s + self.sent, "account": account, "livemode": true,
            "pending_webhooks": 1, "request": null,
            "data": {"object": {"id": account, "object": "account", "country": "PT", "charges_enabled": charges,
                "payouts_enabled": true, "details_submitted": true, "requirements": {"currently_due": [], "past_due": []}},
                "previous_attributes": {"charges_enabled": !charges}},
        });
        assert_eq!(
            post(&self.client, &self.url, &event.to_string())
                .await
                .expect("posted"),
            200
        );
    }

    async fn lose(&mut self, account: &str) {
        self.update(account, true).await;
        self.update(account, false).await;
    }
}

fn read(variables: &Variables, args: &[&str]) -> Value {
    let args: Vec<_> = [&["alerts"], args, &["--json"]].concat();
    serde_json::from_str(&print(variables, &args)).expect("JSON")
}

fn refused(variables: &Variables, args: &[&str], code: i32, why: &str) {
    let output = cli(variables, &[&["alerts"], args].concat());
    let printed = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {printed}");
    assert!(printed.contains(why), "{args:?}: {printed}");
}

/// The open alert about an account.
async fn open_alert(variables: &Variables, account: &str) -> Value {
    until(&format!("{account} has an alert"), || async {
        let listed = read(variables, &["list", "--members", "--account", account]);
        listed.as_array().expect("a list").first().cloned()
    })
    .await
}

/// The text of the latest message about an account, as soon as it contains `says`.
async fn notified(slack: &Slack, account: &str, words: &str) -> String {
    until(&format!("Slack has {words:?} about {account}"), || async {
        let mut texts = slack
            .accepted()
            .into_iter()
            .filter_map(|call| Some(call.body["text"].as_str()?.to_owned()));
        texts
            .rfind(|text| text.contains(account))
            .filter(|text| text.contains(words))
    })
    .await
}

fn id(alert: &Value) -> &str {
    alert["id"].as_str().expect("an id")
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_are_acknowledged_silenced_and_resolved_from_the_command_line() {
    acknowledged_silenced_and_resolved(&Deployment::embedded()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_are_acknowledged_silenced_and_resolved_on_rabbitmq_and_redis() {
    acknowledged_silenced_and_resolved(&Deployment::servers().await).await;
}

async fn acknowledged_silenced_and_resolved(deployment: &Deployment) {
    let slack = Slack::start(&[]).await;
    let rules = shipped_rules(&["provider_lost_charges"]);
    let variables = deployment.variables(&[
        ("SLACK_BOT_TOKEN", "xoxb-of-the-test"),
        ("SLACK_API_BASE", &slack.url()),
        ("REVWATCH_RULES", &rules.path().display().to_string()),
        ("USER", "ana"),
    ]);
    let process = Revwatch::serve(&variables, "ingest,worker,alerting");
    let mut stripe = Stripe::to(&process);

    stripe.lose("acct_1").await;
    notified(&slack, "acct_1", "CRITICAL").await;
    let first = until("the message is confirmed", || async {
        let shown = read(
            &variables,
            &["show", id(&open_alert(&variables, "acct_1").await)],
        );
        (shown["notifications"]["slack"]["delivered_revision"] == 1).then_some(shown)
    })
    .await;
    assert_eq!(
        (&first["state"], &first["rule"]),
        (&json!("firing"), &json!("provider_lost_charges"))
    );
    assert!(
        first["text"]
            .as_str()
            .expect("text")
            .contains("🔴 CRITICAL"),
        "{first}"
    );
    let listed = print(&variables, &["alerts", "list"]);
    assert!(
        listed.contains(id(&first)) && listed.contains("account acct_1"),
        "{listed}"
    );
    let shown = print(&variables, &["alerts", "show", id(&first)]);
    for words in [
        "Respond by",
        "Upcoming deadlines",
        "escalation 2",
        "revision 1 of 1",
        "C0123456789",
    ] {
        assert!(shown.contains(words), "{words}: {shown}");
    }

    let printed = print(&variables, &["alerts", "ack", id(&first)]);
    assert!(printed.contains("acknowledged by ana at "), "{printed}");
    notified(&slack, "acct_1", "by ana").await;
    assert_eq!(
        slack.accepted().last().expect("a call").method,
        "chat.update"
    );
    let again = read(&variables, &["ack", id(&first), "--by", "ben"]);
    assert_eq!(
        (&again[0]["acknowledged_by"], &again[0]["applied"]),
        (&json!("ana"), &json!(true)),
        "{again}"
    );

    let silence = read(
        &variables,
        &[
            "silence",
            "--account",
            "acct_2",
            "--for",
            "4h",
            "--reason",
            "migration",
            "--wait",
            "30",
        ],
    );
    assert_eq!(silence["applied"], true, "{silence}");
    stripe.lose("acct_2").await;
    let second = open_alert(&variables, "acct_2").await;
    assert_eq!(second["muted"], json!({"silence": silence["id"]}));
    assert!(print(&variables, &["alerts", "list"]).contains("firing, silenced"));
    let shown = print(&variables, &["alerts", "show", id(&second)]);
    assert!(shown.contains("migration (ana)"), "{shown}");
    let silences = read(&variables, &["silences"]);
    assert_eq!(
        (&silences[0]["id"], &silences[0]["mutes"]),
        (&silence["id"], &json!(1)),
        "{silences}"
    );
    // A later alert is sent, so this one would have been sent as well.
    stripe.lose("acct_3").await;
    notified(&slack, "acct_3", "CRITICAL").await;
    assert!(
        !slack
            .calls()
            .iter()
            .any(|call| call.body.to_string().contains("acct_2"))
    );
    print(&variables, &["alerts", "unsilence", id(&silence)]);
    notified(&slack, "acct_2", "CRITICAL").await;
    refused(
        &variables,
        &["unsilence", id(&silence)],
        1,
        "has ended already",
    );
    assert_eq!(read(&variables, &["silences"]), json!([]));
    assert_eq!(
        read(&variables, &["silences", "--all"])[0]["state"],
        "ended"
    );

    let printed = print(&variables, &["alerts", "resolve", id(&first)]);
    assert!(printed.contains("resolved by ana at "), "{printed}");
    notified(&slack, "acct_1", "RESOLVED").await;
    stripe.update("acct_1", false).await;
    stripe.lose("acct_4").await;
    open_alert(&variables, "acct_4").await;
    assert_eq!(
        read(&variables, &["list", "--members", "--account", "acct_1"]),
        json!([]),
        "the rule is still true"
    );
    for (args, why) in [
        (&["ack", id(&first)][..], "resolved already"),
        (&["resolve", id(&first)], "resolved already"),
        (
            &["silence", id(&first), "--for", "1h", "--reason", "r"],
            "resolved already",
        ),
        (&["ack", id(&second), "al_none"], "no alert al_none"),
        (&["show", "al_none"], "no alert al_none"),
        (&["unsilence", "si_none"], "no silence si_none"),
    ] {
        refused(&variables, args, 1, why);
    }
    assert_eq!(
        open_alert(&variables, "acct_2").await["state"],
        "firing",
        "all or nothing"
    );

    let history = read(&variables, &["history", "--since", "1h"]);
    let over = &history[0];
    assert_eq!(
        (history.as_array().map(Vec::len), &over["id"]),
        (Some(1), &first["id"]),
        "{history}"
    );
    assert_eq!(
        (&over["acknowledged_by"], &over["resolved_by"]),
        (&json!("ana"), &json!("ana"))
    );
    assert_eq!(
        (&over["response"], &over["resolution"]),
        (&json!("within"), &json!("within"))
    );
    assert!(print(&variables, &["alerts", "history"]).contains(" by ana"));
    let report = read(&variables, &["report", "--months", "2"]);
    let fired: u64 = report
        .as_array()
        .expect("lines")
        .iter()
        .filter_map(|line| line["alerts"].as_u64())
        .sum();
    assert_eq!(
        (fired, &report[0]["severity"]),
        (4, &json!("critical")),
        "{report}"
    );
    assert!(print(&variables, &["alerts", "report"]).contains("100.0 %"));
    let exported = print(&variables, &["export", "alerts"]);
    let row = exported
        .lines()
        .find(|line| line.starts_with(id(&first)))
        .expect("a row");
    assert_eq!(
        row.split(',').skip(8).take(2).collect::<Vec<_>>(),
        ["ana", "ana"],
        "{exported}"
    );

    // Without an evaluator, a command stays pending.
    process.stop();
    let printed = print(&variables, &["alerts", "ack", id(&second), "--wait", "1"]);
    assert!(
        printed.contains("firing")
            && printed.contains("no alerting process carried it out within 1 s"),
        "{printed}"
    );
    let silence = read(
        &variables,
        &[
            "silence", "--rule", "r", "--for", "1h", "--reason", "r", "--wait", "0",
        ],
    );
    assert_eq!(
        (
            &silence["applied"],
            &read(&variables, &["silences"])[0]["state"]
        ),
        (&json!(false), &json!("pending"))
    );
    let process = Revwatch::serve(&variables, "ingest,worker,alerting");
    until("it is done", || async {
        (open_alert(&variables, "acct_2").await["acknowledged_by"] == "ana").then_some(())
    })
    .await;
    assert_eq!(read(&variables, &["silences"])[0]["state"], "active");
    process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_stands_for_its_members() {
    let slack = Slack::start(&[]).await;
    let deployment = Deployment::embedded();
    let rules = shipped_rules(&["provider_lost_charges"]);
    let variables = deployment.variables(&[
        ("SLACK_BOT_TOKEN", "xoxb-of-the-test"),
        ("SLACK_API_BASE", &slack.url()),
        ("REVWATCH_RULES", &rules.path().display().to_string()),
        ("USER", "ana"),
    ]);
    // All of it happens before the first evaluation, so that all alerts fire in one tick.
    let process = Revwatch::serve(&variables, "ingest,worker");
    let mut stripe = Stripe::to(&process);
    for n in 0..7 {
        stripe.lose(&format!("acct_{n}")).await;
    }
    until("all are applied", || async {
        (metrics(&variables)["events_applied"] == 14).then_some(())
    })
    .await;
    process.stop();
    let process = Revwatch::serve(&variables, "alerting");
    notified(&slack, "acct_0", "7 ×").await;

    let listed = read(&variables, &["list"]);
    assert_eq!(
        (listed.as_array().map(Vec::len), &listed[0]["group"]["open"]),
        (Some(1), &json!(7)),
        "{listed}"
    );
    let group = id(&listed[0]);
    let count = |args: &[&str]| read(&variables, args).as_array().map(Vec::len);
    assert_eq!(count(&["list", "--members"]), Some(8));
    assert_eq!(count(&["list", "--group", group]), Some(7));
    assert_eq!(
        read(&variables, &["list", "--account", "acct_3"])[0]["id"],
        group
    );
    assert_eq!(
        count(&[
            "list",
            "--rule",
            "provider_lost_charges",
            "--severity",
            "critical"
        ]),
        Some(1)
    );
    for nothing in [
        ["--account", "acct_x"],
        ["--severity", "high"],
        ["--rule", "other"],
        ["--state", "resolved"],
    ] {
        assert_eq!(
            count(&[&["list"], &nothing[..]].concat()),
            Some(0),
            "{nothing:?}"
        );
    }
    let member = &read(
        &variables,
        &["list", "--group", group, "--account", "acct_3"],
    )[0];
    let printed = print(&variables, &["alerts", "ack", id(member)]);
    assert!(
        printed.contains(&format!("its group {group} is notified in its place")),
        "{printed}"
    );
    assert!(print(&variables, &["alerts", "list"]).contains("7 alerts"));
    let shown = print(&variables, &["alerts", "show", group]);
    assert!(
        shown.contains("Members") && shown.contains("account acct_6"),
        "{shown}"
    );

    print(&variables, &["alerts", "ack", group]);
    assert_eq!(
        count(&["list", "--members", "--state", "acknowledged"]),
        Some(8)
    );
    print(&variables, &["alerts", "resolve", group]);
    assert_eq!(count(&["list", "--members"]), Some(0));
    notified(&slack, group, "RESOLVED").await;
    let history = read(&variables, &["history"]);
    assert_eq!(
        (history.as_array().map(Vec::len), &history[0]["resolved_by"]),
        (Some(1), &json!("ana")),
        "{history}"
    );
    assert_eq!(count(&["history", "--members"]), Some(8));
    assert_eq!(read(&variables, &["report"])[0]["alerts"], 1);
    process.stop();
}

#[test]
fn a_silence_needs_an_end_a_reason_and_a_matcher() {
    let deployment = Deployment::embedded();
    let variables = deployment.variables(&[("USER", "ana")]);
    for (args, why) in [
        (&["--rule", "r", "--reason", "r"][..], "--for"),
        (&["--rule", "r", "--for", "1h"], "--reason"),
        (&["--rule", "r", "--for", "1h", "--reason", ""], "--reason"),
        (&["--for", "1h", "--reason", "r"], "--rule"),
        (
            &["al_1", "--rule", "r", "--for", "1h", "--reason", "r"],
            "cannot be used with",
        ),
        (
            &[
                "--rule",
                "r",
                "--for",
                "1h",
                "--until",
                "2030-01-01T00:00:00Z",
                "--reason",
                "r",
            ],
            "cannot be used with",
        ),
        (
            &["--rule", "r", "--for", "400d", "--reason", "r"],
            "within a year",
        ),
    ] {
        refused(&variables, &[&["silence"], args].concat(), 2, why);
    }
}
