//! The settings of text messages, checked.

use revwatch_runtime::config::{ConfigError, Fault, Faults, SmsConfig};
use secrecy::SecretString;

use super::super::recipients::Recipients;
use super::super::{EgressClient, complete};

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
    /// `None` if nothing is configured. Errors name every fault.
    pub fn new(config: &SmsConfig, egress: &EgressClient) -> Result<Option<Self>, ConfigError> {
        let (account_sid, from) = (config.account_sid.trim(), config.from.trim());
        let has_recipients = config.to.values().any(|list| !list.is_empty());
        let parts = [
            (ACCOUNT_SID, !account_sid.is_empty()),
            (AUTH_TOKEN, config.auth_token.is_some()),
            ("sms.from", !from.is_empty()),
            ("sms.to (a list of numbers)", has_recipients),
        ];
        let mut faults = Faults::default();
        faults.of(complete("sms", &parts));
        // It becomes a part of URLs.
        let is_sid =
            account_sid.starts_with("AC") && account_sid.bytes().all(|b| b.is_ascii_alphanumeric());
        if !account_sid.is_empty() && !is_sid {
            let what = "must be the AC… shown in Twilio's console";
            faults.add(Fault::of(ACCOUNT_SID, what));
        }
        let number = |text: &str, place: &str| {
            let number = is_number(text).then(|| text.to_owned());
            number.ok_or_else(|| format!("{place} must be a number like +15550101"))
        };
        let to = has_recipients
            .then(|| faults.of(Recipients::new("sms.to", "a number", &config.to, number)));
        let api_base = faults.of(egress.base("sms.api_base", &config.api_base));
        faults.none()?;
        let (Some(auth_token), Some(api_base), Some(to)) =
            (config.auth_token.clone(), api_base, to.flatten())
        else {
            return Ok(None);
        };
        Ok(Some(Self {
            account_sid: account_sid.to_owned(),
            auth_token,
            from: from.to_owned(),
            api_base,
            to,
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
