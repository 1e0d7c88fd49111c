//! What a webhook says: its id and its body. Pure.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::alert::AlertState;
use crate::message::Message;

/// The same for all attempts to deliver one state of a message.
///
/// Full stops separate the signed parts, so an id must not contain any.
pub fn id(message: &Message) -> String {
    format!("{}_{}", message.delivery_id, message.revision).replace('.', "-")
}

/// The alert, and what happened to it.
pub fn body(message: &Message, now: Timestamp) -> Value {
    let kind = match (message.notice, message.state) {
        (Some(_), _) => "alert.notice",
        (None, AlertState::Resolved) => "alert.resolved",
        (None, AlertState::Acknowledged) => "alert.acknowledged",
        (None, AlertState::Firing) if message.receipt.is_some() => "alert.changed",
        (None, AlertState::Firing) => "alert.firing",
    };
    // The time of firing is known. The time of the change is not, but the webhook follows within
    // seconds.
    let fired = Timestamp::from_second(message.fired_s)
        .ok()
        .filter(|_| kind == "alert.firing");
    let mut data = match &message.details {
        Value::Object(details) => Value::Object(details.clone()),
        other => json!({"details": other}),
    };
    data["alert_id"] = message.alert_id.as_str().into();
    data["revision"] = message.revision.into();
    data["headline"] = message.headline.as_str().into();
    data["text"] = message.text.as_str().into();
    data["possible_duplicate"] = message.possible_duplicate.into();
    if let Some(notice) = message.notice {
        data["notice"] = json!(notice);
    }
    json!({"type": kind, "timestamp": fired.unwrap_or(now).to_string(), "data": data})
}
