//! PagerDuty's Events API v2: an alert is one incident, identified by its dedup_key. Sending the
//! same event twice changes nothing.
//!
//! Source: <https://developer.pagerduty.com/docs/events-api-v2-overview>.

mod event;
#[cfg(test)]
mod tests;

use async_trait::async_trait;
use reqwest::StatusCode;
use revwatch_runtime::config::{Config, PagerDutyConfig};
use revwatch_runtime::egress::HttpClient;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use self::event::event;
use super::http_outcome::{self, NoProof};
use super::{Capabilities, Configured, EgressClient, Lookup, Notifier, Outcome, SetupError, boxed};
use crate::message::Message;

/// Triggers, acknowledges and resolves incidents.
pub struct PagerDuty {
    client: HttpClient,
    routing_key: SecretString,
    url: String,
    per_second: f64,
}

const PROVIDER: &str = "PagerDuty";
const SETTINGS: &str = "pagerduty.routing_key (PAGERDUTY_ROUTING_KEY) and pagerduty.api_base";
/// PagerDuty's answers are a few lines.
const MAX_RESPONSE_BYTES: usize = 64 * 1024;

/// What it says of an event that it has accepted, with status 202. Source:
/// <https://developer.pagerduty.com/docs/send-alert-event#response>.
#[derive(Deserialize)]
struct Answer {
    status: String,
}

/// See [`PagerDuty::configured`].
pub(super) fn configured(config: &Config, egress: &EgressClient, per_second: f64) -> Configured {
    boxed(PagerDuty::configured(
        &config.pagerduty,
        egress,
        per_second,
    )?)
}

impl PagerDuty {
    /// `None` without a routing key. `per_second` are events.
    pub fn configured(
        config: &PagerDutyConfig,
        egress: &EgressClient,
        per_second: f64,
    ) -> Result<Option<Self>, SetupError> {
        let Some(routing_key) = config.routing_key.clone() else {
            return Ok(None);
        };
        let url = format!(
            "{}/v2/enqueue",
            egress.base("pagerduty.api_base", &config.api_base)?
        );
        Ok(Some(Self {
            client: egress.client()?,
            routing_key,
            url,
            per_second,
        }))
    }
}

#[async_trait]
impl Notifier for PagerDuty {
    fn name(&self) -> &'static str {
        "pagerduty"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            edits: true,
            resolves: true,
        }
    }

    fn destination(&self, _route: &str) -> String {
        "pagerduty".to_owned()
    }

    fn per_second(&self) -> f64 {
        self.per_second
    }

    async fn deliver(&self, message: &Message) -> Outcome {
        let event = event(message, self.routing_key.expose_secret().trim());
        let response = match self.client.post(&self.url).json(&event).send().await {
            Ok(response) => response,
            Err(error) => return http_outcome::no_answer(PROVIDER, &error, SETTINGS),
        };
        let status = response.status();
        let refused = http_outcome::refused(
            PROVIDER,
            status,
            response.headers(),
            SETTINGS,
            self.client.now(),
        );
        if let Some(outcome) = refused {
            return outcome;
        }
        let answer = http_outcome::json::<Answer>(response, MAX_RESPONSE_BYTES).await;
        let proof = answer.and_then(|answer| match answer.status.as_str() {
            "success" if status == StatusCode::ACCEPTED => Ok(()),
            _ => Err(NoProof::Unclear),
        });
        match proof {
            Ok(()) => Outcome::Delivered {
                receipt: Some(message.alert_id.clone()),
            },
            Err(why) => http_outcome::unproved(PROVIDER, &why, SETTINGS),
        }
    }

    /// Events cannot be queried with a routing key, and need not be: sending the same event again
    /// changes nothing.
    async fn find(&self, _message: &Message) -> Lookup {
        Lookup::Repeatable
    }
}
