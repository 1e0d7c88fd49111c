//! Slack, as an app or as an incoming webhook.
//!
//! With a bot token an alert is one message, posted with `chat.postMessage` and updated in place
//! with `chat.update`; notices go into its thread. With an incoming webhook each of these is a
//! separate message: such messages cannot be updated.

mod bot;
mod channels;
mod config;
mod search;
mod webhook;

use revwatch_runtime::config::Config;
use serde_json::Value;

pub use self::bot::SlackBot;
use self::config::{check_without_notifier, is_interactive};
pub use self::webhook::SlackWebhook;
use super::{Configured, EgressClient, boxed};
use crate::message::{Message, RESOLVED, clamp, escape};

/// Slack truncates longer texts; we truncate them ourselves and mark it. In characters. Source:
/// <https://docs.slack.dev/reference/methods/chat.postMessage#truncating>.
const MAX_TEXT_CHARS: usize = 40_000;

/// The type of our messages' metadata.
const EVENT_TYPE: &str = "revwatch_alert";

/// The setting of the address of Slack's API.
pub(crate) const API_BASE: &str = "slack.api_base (SLACK_API_BASE)";

/// The provider's name in reasons.
const PROVIDER: &str = "Slack";

/// The bot if there is a token, otherwise the incoming webhook.
pub(super) fn configured(config: &Config, egress: &EgressClient, per_second: f64) -> Configured {
    let config = &config.slack;
    if let Some(bot) = SlackBot::configured(config, egress, per_second)? {
        return boxed(Some(bot));
    }
    let webhook = SlackWebhook::configured(config, egress, per_second)?;
    if webhook.is_none() {
        check_without_notifier(config)?;
    }
    boxed(webhook)
}

/// The delivery id of a message that is updated in place: an alert and its resolution are one
/// message, even if it was deleted and is posted again.
fn id(message: &Message) -> &str {
    message
        .delivery_id
        .strip_suffix(RESOLVED)
        .unwrap_or(&message.delivery_id)
}

/// The text of a message, escaped and not longer than Slack takes it.
fn text(text: &str) -> String {
    clamp(&escape(text), MAX_TEXT_CHARS)
}

/// The blocks of a message, without buttons if interactions are not received.
fn blocks(message: &Message, interactive: bool) -> Value {
    let Some(blocks) = message.blocks.as_array().filter(|_| !interactive) else {
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
    fn buttons_are_left_out_if_interactions_are_not_received() {
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
