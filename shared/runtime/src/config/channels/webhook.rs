//! Signed webhooks.

use secrecy::SecretString;
use serde::Deserialize;

use super::channel::{Channel, check_secret_url};
use crate::config::definition::Kind;
use crate::config::egress::EgressConfig;
use crate::config::error::ConfigError;
use crate::config::non_empty::{non_empty_secret, non_empty_secrets};

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
};

/// Signed webhooks to a program of yours.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// The target URL; secret, because people put tokens into such URLs.
    #[serde(default, deserialize_with = "non_empty_secret")]
    pub url: Option<SecretString>,
    /// `whsec_…`, several separated by spaces or commas while one is being rotated out.
    #[serde(default, deserialize_with = "non_empty_secrets")]
    pub secret: Option<SecretString>,
}

impl WebhookConfig {
    /// The faults in the values.
    pub(in crate::config) fn check(&self, egress: &EgressConfig) -> Result<(), ConfigError> {
        check_secret_url(
            egress,
            "webhook.url (REVWATCH_WEBHOOK_URL)",
            self.url.as_ref(),
        )
    }
}
