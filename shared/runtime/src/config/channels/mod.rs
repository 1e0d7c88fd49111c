//! Settings of the notifiers, one file each. A notifier is enabled by its secret; an incomplete
//! configuration is refused at startup, by the notifier itself.

mod email;
mod pagerduty;
mod slack;
mod sms;
mod webhook;

use secrecy::{ExposeSecret as _, SecretString};

pub use self::email::EmailConfig;
pub use self::pagerduty::PagerDutyConfig;
pub use self::slack::SlackConfig;
pub use self::sms::SmsConfig;
pub use self::webhook::WebhookConfig;
use super::variables::Definition;
use super::{Config, EgressConfig};

/// The settings of a notifier, apart from their types.
pub(super) struct Channel {
    /// Its name in `notify`, and its table.
    pub name: &'static str,
    /// Its environment variables.
    pub variables: &'static [Definition],
    /// Secrets that are URLs of servers: only their passwords are masked.
    pub server_urls: &'static [&'static [&'static str]],
    /// The settings that a reload does not change.
    pub startup_only: &'static [&'static [&'static str]],
    /// The faults in their values.
    pub check: fn(&Config) -> Vec<String>,
}

/// Every notifier that has settings, in order of preference.
pub(super) const CHANNELS: [&Channel; 5] = [
    &slack::CHANNEL,
    &email::CHANNEL,
    &sms::CHANNEL,
    &pagerduty::CHANNEL,
    &webhook::CHANNEL,
];

/// The names that `notify` may use, in order of preference. The log needs no settings.
pub const NOTIFIERS: [&str; CHANNELS.len() + 1] = {
    let mut names = ["log"; CHANNELS.len() + 1];
    let mut index = 0;
    while index < CHANNELS.len() {
        names[index] = CHANNELS[index].name;
        index += 1;
    }
    names
};

fn url_faults(egress: &EgressConfig, setting: &str, url: &str) -> Vec<String> {
    egress
        .url(setting, url)
        .err()
        .map_or_else(Vec::new, |error| error.faults)
}

fn secret_url_faults(
    egress: &EgressConfig,
    setting: &str,
    url: Option<&SecretString>,
) -> Vec<String> {
    url.map_or_else(Vec::new, |url| {
        url_faults(egress, setting, url.expose_secret())
    })
}
