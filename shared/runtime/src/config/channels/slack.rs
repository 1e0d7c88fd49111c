//! Slack.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use super::channel::{Channel, secret_url_faults, url_faults};
use crate::config::definition::Kind;
use crate::config::egress::EgressConfig;
use crate::config::endpoint::keys;
use crate::config::non_empty::non_empty_secret;

pub(in crate::config) const CHANNEL: Channel = Channel {
    name: "slack",
    variables: &[
        ("SLACK_WEBHOOK_URL", &["slack", "webhook_url"], Kind::Secret),
        ("SLACK_BOT_TOKEN", &["slack", "bot_token"], Kind::Secret),
        ("SLACK_API_BASE", &["slack", "api_base"], Kind::Text),
        (
            "SLACK_SIGNING_SECRET",
            &["slack", "signing_secret"],
            Kind::Secret,
        ),
        (
            "SLACK_INTERACTIVITY_LISTEN",
            &["slack", "interactivity_listen"],
            Kind::Text,
        ),
        ("SLACK_APP_TOKEN", &["slack", "app_token"], Kind::Secret),
    ],
    server_urls: &[],
    startup_only: &[&["slack", "interactivity_listen"]],
};

/// Slack.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlackConfig {
    /// Incoming webhook: one message when an alert fires and one when it resolves.
    #[serde(default, deserialize_with = "non_empty_secret")]
    pub webhook_url: Option<SecretString>,
    /// Bot token (`xoxb-…`): one message per alert, updated in place. Wins over `webhook_url`.
    #[serde(default, deserialize_with = "non_empty_secret")]
    pub bot_token: Option<SecretString>,
    /// Slack's Web API.
    pub api_base: String,
    /// Channel (name or id) by a rule's `route`; `default` serves the rest.
    pub channels: BTreeMap<String, String>,
    /// Signing secrets of the Slack app, comma-separated: with one, `interactivity_listen` is
    /// opened.
    #[serde(default, deserialize_with = "non_empty_secret")]
    pub signing_secret: Option<SecretString>,
    /// Where Slack posts interactions (pressed buttons).
    pub interactivity_listen: SocketAddr,
    /// App-level token (`xapp-…`): with it, interactions arrive over Socket Mode.
    #[serde(default, deserialize_with = "non_empty_secret")]
    pub app_token: Option<SecretString>,
}

impl SlackConfig {
    /// Whether `interactivity_listen` is opened.
    pub(in crate::config) fn opens_listener(&self) -> bool {
        self.signing_secret.is_some()
    }

    /// The faults in the values.
    pub(in crate::config) fn check(&self, egress: &EgressConfig) -> Vec<String> {
        let mut faults = url_faults(egress, "slack.api_base (SLACK_API_BASE)", &self.api_base);
        faults.extend(secret_url_faults(
            egress,
            "slack.webhook_url (SLACK_WEBHOOK_URL)",
            self.webhook_url.as_ref(),
        ));
        faults.extend(self.interaction_faults());
        faults
    }

    /// Interactions in Slack arrive with a signing secret, an app-level token, both or neither.
    fn interaction_faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self
            .signing_secret
            .as_ref()
            .is_some_and(|secrets| keys(secrets.expose_secret().split(',')).is_none())
        {
            faults.push(
                "slack.signing_secret (SLACK_SIGNING_SECRET) holds an empty secret: separate several by single commas"
                    .into(),
            );
        }
        let token = self.app_token.as_ref().map(|token| token.expose_secret());
        if token.is_some_and(|token| {
            !token.starts_with("xapp-") || !token.bytes().all(|b| b.is_ascii_graphic())
        }) {
            faults.push(
                "slack.app_token (SLACK_APP_TOKEN) is not an app-level token: give the `xapp-…` with the scope \
                 connections:write that the app's settings (Basic Information → App-Level Tokens) show, without spaces"
                    .into(),
            );
        }
        faults
    }
}
