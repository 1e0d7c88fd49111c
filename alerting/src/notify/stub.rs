//! Test support: a server with scripted answers, and a sample message.

pub use revwatch_test_servers::{Reply, Request, Stub};
use serde_json::json;

use crate::alert::AlertState;
use crate::message::Message;
use crate::rule::Severity;

/// The first message of a new alert.
pub fn message() -> Message {
    Message {
        delivery_id: "al_1-0".into(),
        alert_id: "al_1".into(),
        revision: 1,
        rule: "payouts_failed".into(),
        severity: Severity::High,
        state: AlertState::Firing,
        notice: None,
        route: "default".into(),
        fired_s: 1_763_632_800,
        receipt: None,
        thread: None,
        possible_duplicate: false,
        headline: "Payouts fail · Straße".into(),
        text: "Payouts fail.\nLook at them.".into(),
        short: "Payouts fail al_1".into(),
        blocks: json!([{"type": "section"}]),
        details: json!({"id": "al_1", "runbook": "https://runbooks.example/payouts"}),
    }
}
