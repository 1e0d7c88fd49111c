//! The settings of the webhook, checked.

use revwatch_runtime::config::WebhookConfig;
use secrecy::{ExposeSecret, SecretString};

use super::super::{EgressClient, SetupError, complete};
use super::signature::Key;

/// Valid settings.
pub struct Settings {
    pub url: SecretString,
    /// At least one.
    pub keys: Vec<Key>,
}

pub const URL: &str = "webhook.url (REVWATCH_WEBHOOK_URL)";
pub const SECRET: &str = "webhook.secret (REVWATCH_WEBHOOK_SECRET)";

impl Settings {
    /// `None` if neither URL nor secret is set.
    pub fn new(config: &WebhookConfig, egress: &EgressClient) -> Result<Option<Self>, SetupError> {
        complete(
            "the webhook",
            &[
                (URL, config.url.is_some()),
                (SECRET, config.secret.is_some()),
            ],
        )?;
        let (Some(url), Some(secrets)) = (&config.url, &config.secret) else {
            return Ok(None);
        };
        let url = SecretString::from(String::from(egress.url(URL, url.expose_secret())?));
        let secrets = secrets
            .expose_secret()
            .split([',', ' ', '\t', '\r', '\n'])
            .filter(|secret| !secret.is_empty());
        let keys = secrets
            .map(Key::new)
            .collect::<Option<Vec<_>>>()
            .filter(|keys| !keys.is_empty());
        let keys = keys.ok_or_else(|| {
            SetupError::Invalid(format!(
                "{SECRET} must be whsec_ and 24 to 64 random bytes in base64: create it with `openssl rand -base64 32`"
            ))
        })?;
        Ok(Some(Self { url, keys }))
    }
}
