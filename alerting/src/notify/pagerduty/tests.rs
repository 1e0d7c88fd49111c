//! Incidents against a stub of PagerDuty.

use revwatch_runtime::config::EgressConfig;
use serde_json::json;

use super::super::stub::{Reply, Stub, message};
use super::*;
use crate::alert::{AlertState, NoticeKind};

fn pagerduty(base: &str) -> PagerDuty {
    let config = PagerDutyConfig {
        routing_key: Some("hidden".to_owned().into()),
        api_base: base.to_owned(),
    };
    let egress = EgressClient::new(EgressConfig::default());
    PagerDuty::configured(&config, &egress, 1.0)
        .expect("valid")
        .expect("configured")
}

#[tokio::test]
async fn responses_map_to_outcomes() {
    let table = [
        (
            Reply::ok(r#"{"status":"success"}"#).with_status(202),
            "delivered",
            "",
        ),
        (
            Reply::ok(r#"{"status":"success"}"#),
            "unknown",
            "does not say",
        ),
        (
            Reply::ok(r#"{"status":"throttle"}"#).with_status(202),
            "unknown",
            "does not say",
        ),
        (Reply::status(202), "permanent", "pagerduty.api_base"),
        (
            Reply::ok("<html>Please log in"),
            "permanent",
            "pagerduty.api_base",
        ),
        (Reply::status(429), "retry_after", ""),
        (Reply::status(500), "unknown", "500"),
        (
            Reply::ok(r#"{"errors":["routing_key hidden"]}"#).with_status(400),
            "permanent",
            "PAGERDUTY_ROUTING_KEY",
        ),
        (Reply::status(404), "permanent", "pagerduty.api_base"),
        (Reply::silence(), "unknown", ""),
    ];
    for (reply, expected, part) in table {
        let answer = reply.clone();
        let stub = Stub::answering(move |_| answer.clone()).await;
        let outcome = pagerduty(&stub.url()).deliver(&message()).await;
        let outcome_text = format!("{outcome:?}");
        assert_eq!(outcome.as_str(), expected, "{reply:?}: {outcome_text}");
        assert!(
            outcome_text.contains(part) && !outcome_text.contains("hidden"),
            "{outcome_text}"
        );
    }
    let closed = pagerduty("http://127.0.0.1:1").deliver(&message()).await;
    assert_eq!(closed.as_str(), "failed");
    assert_eq!(
        pagerduty("http://127.0.0.1:1").find(&message()).await,
        Lookup::Repeatable
    );
}

#[tokio::test]
async fn the_incident_follows_the_alert() {
    use AlertState::{Acknowledged, Firing, Resolved};
    let notice = Some(NoticeKind::ResolveSoon);
    let table = [
        (Firing, None, "trigger"),
        (Firing, notice, "trigger"),
        (Acknowledged, None, "acknowledge"),
        (Acknowledged, notice, "trigger"),
        (Resolved, None, "resolve"),
        (Resolved, notice, "resolve"),
    ];
    let accepted = || Reply::ok(r#"{"status":"success"}"#).with_status(202);
    let stub = Stub::answering(move |_| accepted()).await;
    let pagerduty = pagerduty(&stub.url());
    for (state, notice, expected) in table {
        let message = Message {
            state,
            notice,
            headline: "x".repeat(2000),
            ..message()
        };
        let outcome = pagerduty.deliver(&message).await;
        assert_eq!(
            outcome,
            Outcome::Delivered {
                receipt: Some("al_1".into())
            }
        );
        let event = stub.requests().pop().expect("a request").json();
        assert_eq!(
            (&event["event_action"], &event["dedup_key"]),
            (&json!(expected), &json!("al_1"))
        );
        assert_eq!(event["payload"]["severity"], "error");
        assert_eq!(
            event["payload"]["summary"]
                .as_str()
                .map(|s| s.chars().count()),
            Some(1024)
        );
        assert_eq!(
            event["links"][0]["href"],
            "https://runbooks.example/payouts"
        );
        assert_eq!(event["payload"]["custom_details"], message.details);
    }
    assert_eq!(stub.requests()[0].path, "/v2/enqueue");
}
