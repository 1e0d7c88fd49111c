//! Messages on Slack's WebSocket. Pure.
//!
//! Source: <https://docs.slack.dev/apis/events-api/using-socket-mode>.

use std::fmt;

use revwatch_core::redact;
use serde::Deserialize;
use serde_json::value::RawValue;

/// One message from Slack.
#[derive(Debug)]
pub(super) enum Envelope<'a> {
    /// The connection is ready.
    Hello {
        /// The number of connections that the app has.
        connections: u32,
    },
    /// The connection is about to end.
    Disconnect(Disconnect),
    /// An interaction, such as a pressed button.
    Interactive { id: &'a str, payload: &'a str },
    /// Another envelope that must be confirmed.
    Other { id: &'a str },
    /// Not the documented form.
    Unreadable,
}

/// Slack's reason for ending a connection.
#[derive(Debug)]
pub(super) struct Disconnect(String);

#[derive(Deserialize)]
struct Read<'a> {
    r#type: &'a str,
    envelope_id: Option<&'a str>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    reason: Option<String>,
    num_connections: Option<u32>,
}

impl<'a> Envelope<'a> {
    pub(super) fn read(text: &'a str) -> Self {
        let Ok(read) = serde_json::from_str::<Read<'_>>(text) else {
            return Self::Unreadable;
        };
        match (read.r#type, read.envelope_id, read.payload) {
            ("hello", ..) => Self::Hello {
                connections: read.num_connections.unwrap_or_default(),
            },
            ("disconnect", ..) => Self::Disconnect(Disconnect(
                read.reason.as_deref().map_or("", redact::word).to_owned(),
            )),
            ("interactive", Some(id), Some(payload)) => Self::Interactive {
                id,
                payload: payload.get(),
            },
            (_, Some(id), _) => Self::Other { id },
            _ => Self::Unreadable,
        }
    }
}

impl Disconnect {
    /// Happens every few hours; a new connection can be opened.
    pub(super) fn is_routine(&self) -> bool {
        ["warning", "refresh_requested"].contains(&self.0.as_str())
    }

    /// The fix to suggest.
    pub(super) fn fix(&self) -> &'static str {
        match self.0.as_str() {
            "link_disabled" => {
                ": turn on Socket Mode in the app's settings, or unset SLACK_APP_TOKEN"
            }
            "too_many_websockets" => {
                ": other processes use this app token; Slack allows ten connections"
            }
            _ => "",
        }
    }
}

impl fmt::Display for Disconnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The confirmation of an envelope.
pub(super) fn confirmation(id: &str) -> String {
    serde_json::json!({ "envelope_id": id }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_distinguished() {
        for (text, expected) in [
            (
                r#"{"type":"hello","num_connections":3,"connection_info":{"app_id":"A1"},"debug_info":{"host":"h"}}"#,
                "Hello { connections: 3 }",
            ),
            (
                r#"{"type":"disconnect","reason":"warning","debug_info":{"host":"h"}}"#,
                r#"Disconnect(Disconnect("warning"))"#,
            ),
            (r#"{"type":"disconnect"}"#, r#"Disconnect(Disconnect(""))"#),
            (
                r#"{"type":"interactive","envelope_id":"e1","accepts_response_payload":true,"payload":{"a": 1}}"#,
                r#"Interactive { id: "e1", payload: "{\"a\": 1}" }"#,
            ),
            (
                r#"{"type":"events_api","envelope_id":"e1","payload":{},"retry_attempt":1}"#,
                r#"Other { id: "e1" }"#,
            ),
            (
                r#"{"type":"interactive","envelope_id":"e1"}"#,
                r#"Other { id: "e1" }"#,
            ),
            (r#"{"type":"interactive","payload":{}}"#, "Unreadable"),
            (r#"{"type":7}"#, "Unreadable"),
            ("nonsense", "Unreadable"),
            ("", "Unreadable"),
        ] {
            assert_eq!(format!("{:?}", Envelope::read(text)), expected, "{text}");
        }
        assert_eq!(confirmation("a\"b"), r#"{"envelope_id":"a\"b"}"#);
    }
}
