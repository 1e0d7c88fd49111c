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

/// Longer texts are cut by Slack; we cut them ourselves, and mark it. In characters. Source:
/// <https://docs.slack.dev/reference/methods/chat.postMessage#truncating>.
const LONGEST_TEXT: usize = 40_000;

/// The type of our messages' metadata.
const EVENT_TYPE: &str = "revwatch_alert";

/// Who answers, in reasons.
const WHOSE: &str = "Slack";

fn text(text: &str) -> String {
    outgoing::clamp(text, LONGEST_TEXT)
}
