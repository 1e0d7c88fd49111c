//! The settings of the webhook, checked.

use revwatch_core::standard_webhooks::{self, StandardKey};
use revwatch_runtime::config::{ConfigError, Fault, Faults, WebhookConfig};
use secrecy::{ExposeSecret, SecretString};

use super::super::{EgressClient, complete};

/// Valid settings.
pub struct Settings {
    pub url: SecretString,
    /// At least one.
    pub keys: Vec<StandardKey>,
}

pub const URL: &str = "webhook.url (REVWATCH_WEBHOOK_URL)";
pub const SECRET: &str = "webhook.secret (REVWATCH_WEBHOOK_SECRET)";

impl Settings {
    /// `None` if neither URL nor secret is set. Errors name every fault.
    pub fn new(config: &WebhookConfig, egress: &EgressClient) -> Result<Option<Self>, ConfigError> {
        let parts = [
            (URL, config.url.is_some()),
            (SECRET, config.secret.is_some()),
        ];
        let mut faults = Faults::default();
        faults.of(complete("the webhook", &parts));
        let url = config.url.as_ref();
        let url = url.and_then(|url| faults.of(egress.url(URL, url.expose_secret())));
        let keys = config.secret.as_ref().and_then(keys);
        if config.secret.is_some() && keys.is_none() {
            let what = format!("must be {}", standard_webhooks::SECRET);
            faults.add(Fault::of(SECRET, what));
        }
        faults.none()?;
        Ok(url.zip(keys).map(|(url, keys)| Self {
            url: SecretString::from(String::from(url)),
            keys,
        }))
    }
}

/// `None` if there is none, or if one of them is no secret.
fn keys(secrets: &SecretString) -> Option<Vec<StandardKey>> {
    let secrets = secrets
        .expose_secret()
        .split([',', ' ', '\t', '\r', '\n'])
        .filter(|secret| !secret.is_empty());
    let keys = secrets.map(StandardKey::new).collect::<Option<Vec<_>>>();
    keys.filter(|keys| !keys.is_empty())
}
