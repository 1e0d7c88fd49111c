//! An event as PagerDuty's Events API v2 takes it. Pure.
//!
//! Sources: <https://developer.pagerduty.com/docs/send-alert-event>,
//! <https://github.com/PagerDuty/api-schema/blob/main/reference/events-v2/openapiv3.json>.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::alert::AlertState;
use crate::message::{Message, clamp};
use crate::rule::Severity;

/// Maximum number of characters.
const MAX_SUMMARY_CHARS: usize = 1024;

/// The event that makes the incident what `message` says.
pub fn event(message: &Message, routing_key: &str) -> Value {
    // A late notice must not reopen a resolved incident.
    let action = match (message.state, message.notice) {
        (AlertState::Resolved, _) => "resolve",
        (AlertState::Acknowledged, None) => "acknowledge",
        _ => "trigger",
    };
    let severity = match message.severity {
        Severity::Critical => "critical",
        Severity::High => "error",
        Severity::Medium => "warning",
        Severity::Low => "info",
    };
    let runbook = message.details.get("runbook").and_then(Value::as_str);
    let runbook =
        runbook.filter(|link| link.starts_with("https://") || link.starts_with("http://"));
    let links: Vec<_> = runbook
        .map(|href| json!({"href": href, "text": "Runbook"}))
        .into_iter()
        .collect();
    json!({
        "routing_key": routing_key,
        "event_action": action,
        "dedup_key": message.alert_id,
        "client": "revwatch",
        "links": links,
        "payload": {
            "summary": clamp(&message.headline, MAX_SUMMARY_CHARS),
            "source": "revwatch",
            "severity": severity,
            "timestamp": Timestamp::from_second(message.fired_s).ok().map(|at| at.to_string()),
            "class": message.rule,
            "custom_details": message.details,
        },
    })
}
