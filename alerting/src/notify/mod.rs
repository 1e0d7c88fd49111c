//! The third port: telling people.

mod console;
mod slack;

use std::sync::Arc;

use async_trait::async_trait;
use revwatch_shared::config::Config;

pub use self::console::Console;
pub use self::slack::{SlackBot, SlackWebhook};
use crate::message::Message;
pub use crate::outcome::Outcome;

/// One way to reach people.
#[async_trait]
pub trait Notifier: Send + Sync {
    /// Its name in metrics and in stored alerts.
    fn name(&self) -> &str;

    /// Messages per second it may send, sustained.
    fn per_second(&self) -> f64;

    /// Tells `message`. `receipt` is that of the alert's earlier message, to be changed in place.
    async fn deliver(&self, message: &Message, receipt: Option<&str>) -> Outcome;
}

/// The notifier that the configuration names: Slack by bot token, else by incoming webhook, else the log.
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
