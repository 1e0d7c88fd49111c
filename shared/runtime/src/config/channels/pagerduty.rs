//! PagerDuty.

use secrecy::SecretString;
use serde::Deserialize;

use super::channel::{Channel, check_credential};
use crate::config::definition::Kind;
use crate::config::egress::EgressConfig;
use crate::config::error::{ConfigError, Faults};
use crate::config::non_empty::non_empty_secret;

pub(in crate::config) const CHANNEL: Channel = Channel {
    name: "pagerduty",
    variables: &[(
        "PAGERDUTY_ROUTING_KEY",
        &["pagerduty", "routing_key"],
        Kind::Secret,
    )],
    server_urls: &[],
    startup_only: &[],
};

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

impl PagerDutyConfig {
    /// The faults in the values.
    pub(in crate::config) fn check(&self, egress: &EgressConfig) -> Result<(), ConfigError> {
        let mut faults = Faults::default();
        faults.of(check_credential(
            "pagerduty.routing_key (PAGERDUTY_ROUTING_KEY)",
            self.routing_key.as_ref(),
            // API keys and URLs have other characters.
            |key| key.bytes().all(|b| b.is_ascii_alphanumeric()),
            "is not an integration key: give the letters and digits that the service's integration (Services → \
             Integrations → Events API V2) shows, not an API key",
        ));
        faults.of(egress.base("pagerduty.api_base", &self.api_base));
        faults.none()
    }
}
