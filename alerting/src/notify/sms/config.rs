//! The settings of text messages, checked.

use revwatch_runtime::config::SmsConfig;
use secrecy::SecretString;

use super::super::recipients::Recipients;
use super::super::{EgressClient, SetupError, complete};

/// Valid settings.
pub struct Settings {
    pub account_sid: String,
    pub auth_token: SecretString,
    pub from: String,
    /// Without a trailing slash.
    pub api_base: String,
    pub to: Recipients<String>,
}

pub const ACCOUNT_SID: &str = "sms.account_sid (TWILIO_ACCOUNT_SID)";
pub const AUTH_TOKEN: &str = "sms.auth_token (TWILIO_AUTH_TOKEN)";

impl Settings {
    /// `None` if nothing is configured.
    pub fn new(config: &SmsConfig, egress: &EgressClient) -> Result<Option<Self>, SetupError> {
        let is_set = |text: &str| !text.trim().is_empty();
        let parts = [
            (ACCOUNT_SID, is_set(&config.account_sid)),
            (AUTH_TOKEN, config.auth_token.is_some()),
            ("sms.from", is_set(&config.from)),
            (
                "a list of numbers in [sms.to]",
                config.to.values().any(|list| !list.is_empty()),
            ),
        ];
        complete("sms", &parts)?;
        let Some(auth_token) = config.auth_token.clone() else {
            return Ok(None);
        };
        // It becomes a part of URLs.
        let account_sid = config.account_sid.trim().to_owned();
        if !account_sid.starts_with("AC") || !account_sid.bytes().all(|b| b.is_ascii_alphanumeric())
        {
            return Err(SetupError::Invalid(format!(
                "{ACCOUNT_SID} must be the AC… shown in Twilio's console"
            )));
        }
        let number = |text: &str, place: &str| {
            let number = is_number(text).then(|| text.to_owned());
            number.ok_or_else(|| format!("{place} must be a number like +15550101"))
        };
        Ok(Some(Self {
            account_sid,
            auth_token,
            from: config.from.trim().to_owned(),
            api_base: egress.base("sms.api_base", &config.api_base)?,
            to: Recipients::new("sms.to", "a number", &config.to, number)?,
        }))
    }
}

/// E.164: a plus and up to 15 digits. Source: <https://www.twilio.com/docs/glossary/what-e164>.
fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('+').unwrap_or_default();
    (7..=15).contains(&digits.len())
        && digits.bytes().all(|b| b.is_ascii_digit())
        && !digits.starts_with('0')
}
