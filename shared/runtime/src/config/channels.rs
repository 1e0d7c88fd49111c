//! Settings of the notifiers. A notifier is enabled by its secret; an incomplete configuration is
//! refused at startup.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::{Config, non_empty_secret};

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

/// Email over SMTP.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmailConfig {
    /// `smtps://user:password@host:465` for TLS, `smtp://user:password@host:587` for STARTTLS,
    /// which is then required. Without TLS only to this machine: `smtp://localhost:25`.
    #[serde(default, deserialize_with = "non_empty_secret")]
    pub smtp_url: Option<SecretString>,
    /// Sender, for example `revwatch <alerts@example.com>`. Message ids use its domain.
    pub from: String,
    /// Addresses by a rule's `route`; `default` serves the rest.
    pub to: BTreeMap<String, Vec<String>>,
}

/// Text messages through Twilio.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SmsConfig {
    /// `AC…`
    pub account_sid: String,
    /// The account's secret.
    #[serde(default, deserialize_with = "non_empty_secret")]
    pub auth_token: Option<SecretString>,
    /// Sender: a number like `+15550100`, a short code or name, or a messaging service, `MG…`.
    pub from: String,
    /// Twilio's API.
    pub api_base: String,
    /// Numbers like `+15550101` by a rule's `route`; `default` serves the rest.
    pub to: BTreeMap<String, Vec<String>>,
}

/// PagerDuty.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PagerDutyConfig {
    /// Integration key of a service's Events API v2 integration.
    #[serde(default, deserialize_with = "non_empty_secret")]
    pub routing_key: Option<SecretString>,
    /// PagerDuty's Events API.
    pub api_base: String,
}

/// Signed webhooks to a program of yours.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// The target URL; secret, because people put tokens into such URLs.
    #[serde(default, deserialize_with = "non_empty_secret")]
    pub url: Option<SecretString>,
    /// `whsec_…`, several separated by spaces or commas while one is being rotated out.
    #[serde(default, deserialize_with = "non_empty_secret")]
    pub secret: Option<SecretString>,
}

impl Config {
    /// The faults in the URLs of notifiers.
    pub(super) fn check_channels(&self) -> Vec<String> {
        let exposed =
            |secret: &Option<SecretString>| secret.as_ref().map(|s| s.expose_secret().to_owned());
        let urls = [
            (
                "slack.api_base (SLACK_API_BASE)",
                Some(self.slack.api_base.clone()),
            ),
            (
                "slack.webhook_url (SLACK_WEBHOOK_URL)",
                exposed(&self.slack.webhook_url),
            ),
            ("sms.api_base", Some(self.sms.api_base.clone())),
            ("pagerduty.api_base", Some(self.pagerduty.api_base.clone())),
            (
                "webhook.url (REVWATCH_WEBHOOK_URL)",
                exposed(&self.webhook.url),
            ),
        ];
        let checked = urls
            .into_iter()
            .filter_map(|(setting, url)| self.egress.url(setting, &url?).err());
        checked.flat_map(|error| error.faults).collect()
    }
}
