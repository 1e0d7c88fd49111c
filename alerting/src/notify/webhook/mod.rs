//! Signed webhooks to a program of the user's, as specified by Standard Webhooks. Source:
//! <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>.
//!
//! The `webhook-id` identifies one state of one message. All attempts to deliver a state have the
//! same id, so a receiver that remembers ids processes each state once; the next state has another
//! id.

mod body;
mod config;
#[cfg(test)]
mod tests;

use async_trait::async_trait;
use reqwest::header::CONTENT_TYPE;
use revwatch_core::standard_webhooks::{ID, SIGNATURE, StandardKey, TIMESTAMP};
use revwatch_runtime::config::{Config, WebhookConfig};
use revwatch_runtime::egress::HttpClient;
use secrecy::{ExposeSecret, SecretString};

use self::body::{body, id};
use self::config::{SECRET, Settings, URL};
use super::http_outcome::{self, NoProof};
use super::{Capabilities, Configured, EgressClient, Notifier, Outcome, SetupError, boxed};
use crate::message::Message;

/// Posts signed webhooks.
pub struct Webhook {
    client: HttpClient,
    url: SecretString,
    keys: Vec<StandardKey>,
    per_second: f64,
}

const PROVIDER: &str = "the webhook's receiver";

/// See [`Webhook::configured`].
pub(super) fn configured(config: &Config, egress: &EgressClient, per_second: f64) -> Configured {
    boxed(Webhook::configured(&config.webhook, egress, per_second)?)
}

impl Webhook {
    /// `None` if neither URL nor secret is set. `per_second` are webhooks.
    pub fn configured(
        config: &WebhookConfig,
        egress: &EgressClient,
        per_second: f64,
    ) -> Result<Option<Self>, SetupError> {
        let Some(Settings { url, keys }) = Settings::new(config, egress)? else {
            return Ok(None);
        };
        Ok(Some(Self {
            client: egress.client()?,
            url,
            keys,
            per_second,
        }))
    }

    fn signatures(&self, id: &str, timestamp_s: i64, body: &str) -> String {
        let signatures: Vec<_> = self
            .keys
            .iter()
            .map(|key| key.sign(id, timestamp_s, body.as_bytes()))
            .collect();
        signatures.join(" ")
    }
}

#[async_trait]
impl Notifier for Webhook {
    fn name(&self) -> &'static str {
        "webhook"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            edits: true,
            resolves: true,
        }
    }

    fn destination(&self, _route: &str) -> String {
        "webhook".to_owned()
    }

    fn per_second(&self) -> f64 {
        self.per_second
    }

    async fn deliver(&self, message: &Message) -> Outcome {
        let (id, now) = (id(message), self.client.now());
        let body = body(message, now).to_string();
        let request = self
            .client
            .post(self.url.expose_secret())
            .header(CONTENT_TYPE, "application/json");
        let request = request
            .header(TIMESTAMP, now.as_second())
            .header(SIGNATURE, self.signatures(&id, now.as_second(), &body))
            .header(ID, &id);
        let response = match request.body(body).send().await {
            Ok(response) => response,
            Err(error) => return http_outcome::no_answer(PROVIDER, &error, URL),
        };
        let settings = format!("{URL} and {SECRET}");
        let refused = http_outcome::refused(
            PROVIDER,
            response.status(),
            response.headers(),
            &settings,
            self.client.now(),
        );
        match refused {
            Some(outcome) => outcome,
            // Receivers answer as they like, but not with a page for a browser.
            None if http_outcome::is_page(response).await => {
                http_outcome::unproved(PROVIDER, &NoProof::Foreign, URL)
            }
            None => Outcome::Delivered { receipt: Some(id) },
        }
    }
}
