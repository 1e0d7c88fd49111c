//! Slack.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use url::Url;

use super::channel::{Channel, check_credential, check_secret_url};
use crate::config::definition::Kind;
use crate::config::egress::EgressConfig;
use crate::config::error::{ConfigError, Fault, Faults};
use crate::config::non_empty::{non_empty_secret, non_empty_secrets};

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
    #[serde(default, deserialize_with = "non_empty_secrets")]
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
    pub(in crate::config) fn check(&self, egress: &EgressConfig) -> Result<(), ConfigError> {
        let mut faults = Faults::default();
        faults.of(egress.base("slack.api_base (SLACK_API_BASE)", &self.api_base));
        let webhook = "slack.webhook_url (SLACK_WEBHOOK_URL)";
        faults.of(check_secret_url(egress, webhook, self.webhook_url.as_ref()));
        if let Some(url) = &self.webhook_url
            && is_page_of_slack(url.expose_secret())
        {
            let what = "is a link to a page of Slack: give the https://hooks.slack.com/services/… that the app's settings \
                        (Incoming Webhooks) show";
            faults.add(Fault::of(webhook, what));
        }
        for (route, channel) in &self.channels {
            let what = match channel.trim() {
                "" => "is empty",
                url if url.contains("://") => "is a link",
                _ => continue,
            };
            let what = format!(
                "[slack.channels] {route} {what}: give the channel's name, like \"#payments\", or its id, like \
                 \"C0123456789\""
            );
            let key = format!("slack.channels.{route}");
            faults.add(Fault::from(what).about([key.as_str()]));
        }
        faults.of(check_credential(
            "slack.bot_token (SLACK_BOT_TOKEN)",
            self.bot_token.as_ref(),
            // Behind `xoxe.` if the app rotates its tokens.
            |token| token.starts_with("xoxb-") || token.starts_with("xoxe.xoxb-"),
            "is not a bot token: give the `xoxb-…` that the app's settings (OAuth & Permissions → Bot User OAuth \
             Token) show",
        ));
        faults.of(self.check_signing_secrets());
        faults.of(check_credential(
            "slack.app_token (SLACK_APP_TOKEN)",
            self.app_token.as_ref(),
            |token| token.starts_with("xapp-"),
            "is not an app-level token: give the `xapp-…` with the scope connections:write that the app's settings \
             (Basic Information → App-Level Tokens) show",
        ));
        faults.none()
    }

    fn check_signing_secrets(&self) -> Result<(), ConfigError> {
        let invalid = |what| {
            let setting = "slack.signing_secret (SLACK_SIGNING_SECRET)";
            Err(ConfigError::of(Fault::of(setting, what)))
        };
        let secrets = self.signing_secret.as_ref();
        let Some(secrets) = secrets.map(|secrets| secrets.expose_secret().split(',')) else {
            return Ok(());
        };
        if secrets.clone().any(|secret| secret.trim().is_empty()) {
            return invalid(
                "holds an empty secret: separate several by single commas or line ends",
            );
        }
        let is_token = |text: &str| text.starts_with("xox") || text.starts_with("xapp-");
        if secrets.map(str::trim).any(is_token) {
            return invalid(
                "is not a signing secret, but a token: give the one that the app's settings (Basic Information → App \
                 Credentials → Signing Secret) show",
            );
        }
        Ok(())
    }
}

/// Whether it is on Slack's domain, but not where messages are received.
fn is_page_of_slack(url: &str) -> bool {
    let host = Url::parse(url.trim()).ok();
    let host = host.as_ref().and_then(Url::host_str).unwrap_or_default();
    let is_slack = |domain: &str| {
        host.strip_suffix(domain)
            .is_some_and(|rest| rest.is_empty() || (rest.ends_with('.') && rest != "hooks."))
    };
    is_slack("slack.com") || is_slack("slack-gov.com")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_pages_of_slack_receive_no_messages() {
        for (url, expected) in [
            ("https://hooks.slack.com/services/T0/B0/x", false),
            ("https://hooks.slack-gov.com/services/T0/B0/x", false),
            ("https://chat.example.com/hooks/x", false),
            ("https://notslack.com/x", false),
            ("https://acme.slack.com/archives/C0123456789", true),
            ("https://app.slack.com/client/T0/C0", true),
            ("https://slack.com/x", true),
        ] {
            assert_eq!(is_page_of_slack(url), expected, "{url}");
        }
    }
}
