//! The third port: telling people.

mod console;
mod slack;

use std::sync::Arc;

use async_trait::async_trait;
use revwatch_shared::config::Config;

pub use self::console::Console;
pub use self::slack::{SlackBot, SlackWebhook};
use crate::message::Message;
pub use crate::outcome::{Lookup, Outcome};
pub use crate::policy::Habits;

/// One way to reach people.
#[async_trait]
pub trait Notifier: Send + Sync {
    /// Its name in settings, metrics and stored alerts: `slack`, `email`, `sms`, `pagerduty`, `webhook`, `log`.
    fn name(&self) -> &'static str;

    /// What it tells.
    fn habits(&self) -> Habits;

    /// Where messages for `route` go. Messages to one destination are told one after the other and share
    /// its rate. It is logged: no secrets and no personal data.
    fn destination(&self, route: &str) -> String;

    /// Messages per second that one destination may be sent, sustained.
    fn per_second(&self) -> f64;

    /// Tells `message`: changes the one at `message.receipt`, if there is one, else sends a new one. Must
    /// answer within [`ANSWER_WITHIN`].
    async fn deliver(&self, message: &Message) -> Outcome;

    /// Looks whether `message` arrived, after an attempt that ended without an answer. Never sends.
    async fn find(&self, _message: &Message) -> Lookup {
        Lookup::CannotTell
    }
}

/// The longest that a request to a destination may take.
pub const ANSWER_WITHIN: std::time::Duration = std::time::Duration::from_secs(10);

/// The notifiers that the configuration names; the log, if it names none.
pub fn configured(config: &Config) -> Result<Vec<Arc<dyn Notifier>>, reqwest::Error> {
    let (slack, rate) = (&config.slack, config.alerting.messages_per_second);
    Ok(match (&slack.bot_token, &slack.webhook_url) {
        (Some(token), _) => {
            vec![Arc::new(SlackBot::new(token.clone(), &slack.api_base, slack.channels.clone(), rate)?)]
        }
        (None, Some(url)) => vec![Arc::new(SlackWebhook::new(url.clone(), rate)?)],
        (None, None) => vec![Arc::new(Console)],
    })
}
