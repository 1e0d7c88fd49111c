//! The third port: telling people.

mod console;
mod slack;

use std::sync::Arc;

use async_trait::async_trait;
use revwatch_shared::config::Config;

pub use self::console::Console;
pub use self::slack::{SlackBot, SlackWebhook};
use crate::message::Message;

/// How an attempt to tell ended: what to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is told.
    Delivered {
        /// Where the message is, if it can be changed there.
        receipt: Option<String>,
    },
    /// Too fast; again after this time.
    RetryAfter {
        /// Milliseconds.
        wait_ms: i64,
    },
    /// It is not told. Again later; `permanent` when only a change of settings will help.
    Failed {
        /// For the log; without secrets.
        reason: String,
        /// Whether trying again as things are is without hope.
        permanent: bool,
    },
    /// There was no answer: it may or may not be told.
    Unknown {
        /// For the log; without secrets.
        reason: String,
    },
    /// The message to be changed is no longer there.
    Gone,
}

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

impl Outcome {
    /// The word in metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Delivered { .. } => "delivered",
            Self::RetryAfter { .. } => "retry_after",
            Self::Failed { permanent: true, .. } => "permanent",
            Self::Failed { .. } => "failed",
            Self::Unknown { .. } => "unknown",
            Self::Gone => "gone",
        }
    }
}
