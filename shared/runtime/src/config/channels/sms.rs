//! Text messages.

use std::collections::BTreeMap;

use secrecy::SecretString;
use serde::Deserialize;

use super::channel::{Channel, check_credential};
use crate::config::definition::Kind;
use crate::config::egress::EgressConfig;
use crate::config::error::{ConfigError, Faults};
use crate::config::non_empty::non_empty_secret;

pub(in crate::config) const CHANNEL: Channel = Channel {
    name: "sms",
    variables: &[
        ("TWILIO_ACCOUNT_SID", &["sms", "account_sid"], Kind::Text),
        ("TWILIO_AUTH_TOKEN", &["sms", "auth_token"], Kind::Secret),
    ],
    server_urls: &[],
    startup_only: &[],
};

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

impl SmsConfig {
    /// The faults in the values.
    pub(in crate::config) fn check(&self, egress: &EgressConfig) -> Result<(), ConfigError> {
        let mut faults = Faults::default();
        faults.of(check_credential(
            "sms.auth_token (TWILIO_AUTH_TOKEN)",
            self.auth_token.as_ref(),
            |token| !token.starts_with("AC") && !token.starts_with("SK"),
            "is not an auth token, but the SID of an account or a key: give the Auth Token that Twilio's console shows \
             next to the Account SID",
        ));
        faults.of(egress.base("sms.api_base", &self.api_base));
        faults.none()
    }
}
