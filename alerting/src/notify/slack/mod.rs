//! Slack, in its two forms.
//!
//! With a bot token an alert is one message, posted with `chat.postMessage` and changed in place with
//! `chat.update`; what is said about it goes into its thread. With an incoming webhook these are messages of
//! their own: messages sent that way cannot be changed.

mod bot;
mod channels;
mod search;
mod webhook;

pub use self::bot::SlackBot;
pub use self::webhook::SlackWebhook;
use super::outgoing;
use crate::message::{Message, RESOLVED};

/// Longer texts are cut by Slack; we cut them ourselves, and mark it. In characters. Source:
/// <https://docs.slack.dev/reference/methods/chat.postMessage#truncating>.
const LONGEST_TEXT: usize = 40_000;

/// The type of our messages' metadata.
const EVENT_TYPE: &str = "revwatch_alert";

/// Who answers, in reasons.
const WHOSE: &str = "Slack";

/// The name of a message that is changed in place: an alert and its end are one, also when somebody deleted it
/// and it is posted anew.
fn id(message: &Message) -> &str {
    message.delivery_id.strip_suffix(RESOLVED).unwrap_or(&message.delivery_id)
}

fn text(text: &str) -> String {
    outgoing::clamp(text, LONGEST_TEXT)
}
