//! Settings of the ways to reach people.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use secrecy::SecretString;
use serde::Deserialize;

use super::non_empty_secret;

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
    /// Signing secrets of the Slack app, comma-separated: with one, `interactivity_listen` is opened.
    #[serde(default, deserialize_with = "non_empty_secret")]
    pub signing_secret: Option<SecretString>,
    /// Where Slack posts what people press.
    pub interactivity_listen: SocketAddr,
    /// App-level token (`xapp-…`): with it, what people press comes over Socket Mode.
    #[serde(default, deserialize_with = "non_empty_secret")]
    pub app_token: Option<SecretString>,
}
