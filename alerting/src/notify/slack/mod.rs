//! Slack, in its two forms.
//!
//! With a bot token an alert is one message, posted with `chat.postMessage` and changed in place with
//! `chat.update`; what is said about it goes into its thread. With an incoming webhook these are messages of
//! their own: messages sent that way cannot be changed.

mod bot;
mod channels;
mod search;
mod webhook;

use revwatch_runtime::config::SlackConfig;
use serde_json::Value;

pub use self::bot::SlackBot;
pub use self::webhook::SlackWebhook;
use super::http_outcome;
use crate::message::{Message, RESOLVED};

/// Longer texts are cut by Slack; we cut them ourselves, and mark it. In characters. Source:
/// <https://docs.slack.dev/reference/methods/chat.postMessage#truncating>.
const MAX_TEXT_CHARS: usize = 40_000;

/// The type of our messages' metadata.
const EVENT_TYPE: &str = "revwatch_alert";

/// Who answers, in reasons.
const WHOSE: &str = "Slack";

/// The name of a message that is changed in place: an alert and its end are one, also when somebody deleted it
/// and it is posted anew.
fn id(message: &Message) -> &str {
    message
        .delivery_id
        .strip_suffix(RESOLVED)
        .unwrap_or(&message.delivery_id)
}

/// What comes from outside cannot mention anybody. Source:
/// <https://docs.slack.dev/messaging/formatting-message-text#escaping>.
fn text(text: &str) -> String {
    http_outcome::clamp(
        &text
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;"),
        MAX_TEXT_CHARS,
    )
}

/// Whether what is pressed under a message comes back to us.
fn hears(config: &SlackConfig) -> bool {
    config.signing_secret.is_some() || config.app_token.is_some()
}

/// Without what nobody would hear if it were pressed.
fn blocks(message: &Message, hears: bool) -> Value {
    let Some(blocks) = message.blocks.as_array().filter(|_| !hears) else {
        return message.blocks.clone();
    };
    let without = |block: &Value| {
        let mut block = block.clone();
        if block["type"] == "actions"
            && let Some(elements) = block["elements"].as_array_mut()
        {
            elements.retain(|element| element["url"].is_string());
        }
        block
    };
    let is_empty = |block: &Value| block["elements"].as_array().is_some_and(Vec::is_empty);
    Value::Array(
        blocks
            .iter()
            .map(without)
            .filter(|block| !is_empty(block))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::stub::message;
    use super::*;

    #[test]
    fn buttons_that_nobody_hears_are_left_out() {
        let button = |id: &str| json!({"type": "button", "action_id": id});
        let link =
            json!({"type": "button", "action_id": "open", "url": "https://dashboard.stripe.com"});
        let of = |elements: Value| Message {
            blocks: json!([{"type": "header"}, {"type": "actions", "elements": elements}]),
            ..message()
        };
        let both = of(json!([button("acknowledge"), link]));
        assert_eq!(blocks(&both, true), both.blocks);
        assert_eq!(blocks(&both, false), of(json!([link])).blocks);
        assert_eq!(
            blocks(&of(json!([button("acknowledge")])), false),
            json!([{"type": "header"}])
        );
        assert_eq!(text("a <!channel> & b"), "a &lt;!channel&gt; &amp; b");
    }
}
