//! Email.

use std::collections::BTreeMap;

use secrecy::SecretString;
use serde::Deserialize;

use super::channel::Channel;
use crate::config::definition::Kind;
use crate::config::non_empty::non_empty_secret;

pub(in crate::config) const CHANNEL: Channel = Channel {
    name: "email",
    variables: &[("SMTP_URL", &["email", "smtp_url"], Kind::Secret)],
    server_urls: &[&["email", "smtp_url"]],
    startup_only: &[],
};

/// Email over SMTP. The notifier checks the values: only it reads SMTP URLs and addresses.
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
