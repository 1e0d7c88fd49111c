//! An alert reaches people although its notifier cannot be reached, or something else answers in its place.

use revwatch_test_servers::{Reply, Stub, listen};
use serde_json::Value;

use super::{Deployment, shipped_rules};
use crate::support::providers::{Settings, alerts, is_notified, post_all, updated};
use crate::support::revwatch::{Revwatch, print};
use crate::support::slack::Slack;
use crate::support::wait::until;

/// A rule that only mails (its severity says so), and the shipped one about notifiers.
fn rules() -> String {
    let shipped = std::fs::read_to_string(shipped_rules(&["notifier_broken"])).expect("readable");
    let rule = "[[rule]]\nname = \"charges_lost\"\nkind = \"condition\"\ncondition = \"charges_lost\"\n\
        severity = \"medium\"\nroute = \"default\"\ntitle = \"No charges\"\nactions = [\"Call.\"]\n";
    format!("{rule}\n{shipped}")
}

const SETTINGS: &str = "[alerting]\ntick_seconds = 0.05\nmessages_per_second = 100.0\n\
    [email]\nfrom = \"revwatch <alerts@example.com>\"\n[email.to]\ndefault = [\"on-call@example.org\"]\n";

fn of_rule<'a>(alerts: &'a [Value], rule: &str) -> Option<&'a Value> {
    alerts.iter().find(|alert| alert["rule"] == rule)
}

async fn lose_charges(process: &Revwatch) {
    let at_s = jiff::Timestamp::now().as_second() - 100;
    let url = process.url("/webhooks/stripe");
    for (n, charges) in [(0, true), (1, false)] {
        let event = updated(&format!("evt_{n}"), "acct_1", at_s + n, charges, "listed");
        post_all(&url, &[event]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_server_that_is_not_there_is_replaced_and_named() {
    let (closed, addr) = listen().await;
    drop(closed);
    let (deployment, slack) = (Deployment::embedded(), Slack::start(&[]).await);
    let settings = Settings::new(SETTINGS, &rules());
    let variables = settings.variables(deployment.variables(&[
        ("SMTP_URL", &format!("smtp://localhost:{}", addr.port())),
        ("SLACK_API_BASE", &slack.url()),
        ("SLACK_BOT_TOKEN", "xoxb-of-the-test"),
    ]));
    let process = Revwatch::serve(&variables, "ingest,worker,alerting");
    lose_charges(&process).await;
    let id = until("Slack has the alert", || async {
        let alerts = alerts(&variables);
        let alert = of_rule(&alerts, "charges_lost").filter(|alert| is_notified(alert, "firing"));
        alert.map(|alert| alert["id"].as_str().expect("an id").to_owned())
    })
    .await;
    let shown = print(&variables, &["alerts", "show", &id]);
    assert!(shown.contains("Failed attempts"), "{shown}");
    let reason = until("the alert about the notifier", || async {
        let alerts = alerts(&variables);
        let broken = of_rule(&alerts, "notifier_broken");
        broken.map(|alert| (alert["subject"].clone(), alert["reason"].clone()))
    })
    .await;
    assert_eq!(reason.0, "notifier email");
    let reason = reason.1.as_str().expect("a reason");
    for part in ["connection refused", "SMTP_URL", "route default"] {
        assert!(reason.contains(part), "{reason}");
    }
    process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_in_place_of_the_provider_is_no_delivery() {
    let page = "<!doctype html><html><title>Please log in</title></html>";
    let stub = Stub::answering(move |_| Reply::ok(page).header("content-type", "text/html")).await;
    let base = stub.url();
    for (notifier, name, value) in [
        (
            "slack",
            "SLACK_WEBHOOK_URL",
            format!("{base}/services/T/B/x"),
        ),
        ("webhook", "REVWATCH_WEBHOOK_URL", format!("{base}/x")),
        ("pagerduty", "PAGERDUTY_ROUTING_KEY", "R1".to_owned()),
    ] {
        let text = format!("[alerting]\ntick_seconds = 0.05\n[pagerduty]\napi_base = \"{base}\"\n");
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let mut more = vec![(name, value.as_str())];
        more.extend((notifier == "webhook").then_some(("REVWATCH_WEBHOOK_SECRET", secret)));
        let deployment = Deployment::embedded();
        let settings = Settings::of_providers(&text);
        let variables = settings.variables(deployment.variables(&more));
        let process = Revwatch::serve(&variables, "ingest,worker,alerting");
        lose_charges(&process).await;
        let alert = until("the log has it", || async {
            let alerts = alerts(&variables);
            let of_log = |alert: &&Value| {
                alert["notifications"]["log"]["delivered_revision"].as_i64() > Some(0)
            };
            alerts.iter().find(of_log).cloned()
        })
        .await;
        let state = &alert["notifications"][notifier];
        assert_eq!(state["delivered_revision"], 0, "{alert}");
        let reason = state["broken"].as_str().expect("a reason");
        assert!(reason.contains("not its own"), "{reason}");
        process.stop();
    }
}
