//! Signed webhooks.

use secrecy::SecretString;
use serde::Deserialize;

use super::super::non_empty_secret;
use super::super::variables::Kind;
use super::{Channel, secret_url_faults};

pub(in crate::config) const CHANNEL: Channel = Channel {
    name: "webhook",
    variables: &[
        ("REVWATCH_WEBHOOK_URL", &["webhook", "url"], Kind::Secret),
        (
            "REVWATCH_WEBHOOK_SECRET",
            &["webhook", "secret"],
            Kind::Secret,
        ),
    ],
    server_urls: &[],
    startup_only: &[],
    check: |config| {
        let setting = "webhook.url (REVWATCH_WEBHOOK_URL)";
        secret_url_faults(&config.egress, setting, config.webhook.url.as_ref())
    },
};

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
