//! PagerDuty.

use secrecy::SecretString;
use serde::Deserialize;

use super::super::non_empty_secret;
use super::super::variables::Kind;
use super::{Channel, url_faults};

pub(in crate::config) const CHANNEL: Channel = Channel {
    name: "pagerduty",
    variables: &[(
        "PAGERDUTY_ROUTING_KEY",
        &["pagerduty", "routing_key"],
        Kind::Secret,
    )],
    server_urls: &[],
    startup_only: &[],
    check: |config| {
        url_faults(
            &config.egress,
            "pagerduty.api_base",
            &config.pagerduty.api_base,
        )
    },
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
