//! Writes alerts to the log if nothing else is configured.

use async_trait::async_trait;
use revwatch_runtime::config::Config;

use super::{Capabilities, Configured, EgressClient, Notifier, Outcome, boxed};
use crate::message::Message;

/// Writes each message as one log line.
#[derive(Debug, Clone, Copy, Default)]
pub struct Console;

/// Always configured.
pub(super) fn configured(_: &Config, _: &EgressClient, _: f64) -> Configured {
    boxed(Some(Console))
}

#[async_trait]
impl Notifier for Console {
    fn name(&self) -> &'static str {
        "log"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            edits: false,
            resolves: true,
        }
    }

    fn destination(&self, _route: &str) -> String {
        "log".to_owned()
    }

    fn per_second(&self) -> f64 {
        1000.0
    }

    async fn deliver(&self, message: &Message) -> Outcome {
        tracing::warn!(
            alert_id = message.alert_id,
            route = message.route,
            text = message.text,
            "alert"
        );
        Outcome::Delivered { receipt: None }
    }
}
