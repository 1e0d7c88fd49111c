//! What the notifiers' settings share.

use secrecy::{ExposeSecret as _, SecretString};

use crate::config::definition::Definition;
use crate::config::egress::EgressConfig;

/// The settings of a notifier, apart from their types.
pub(in crate::config) struct Channel {
    /// Its name in `notify`, and its table.
    pub name: &'static str,
    /// Its environment variables.
    pub variables: &'static [Definition],
    /// Secrets that are URLs of servers: only their passwords are masked.
    pub server_urls: &'static [&'static [&'static str]],
    /// The settings that a reload does not change.
    pub startup_only: &'static [&'static [&'static str]],
}

pub(super) fn url_faults(egress: &EgressConfig, setting: &str, url: &str) -> Vec<String> {
    egress
        .url(setting, url)
        .err()
        .map_or_else(Vec::new, |error| error.faults)
}

pub(super) fn secret_url_faults(
    egress: &EgressConfig,
    setting: &str,
    url: Option<&SecretString>,
) -> Vec<String> {
    url.map_or_else(Vec::new, |url| {
        url_faults(egress, setting, url.expose_secret())
    })
}
