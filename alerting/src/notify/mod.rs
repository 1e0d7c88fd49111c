//! The third port: notifications.

mod console;
mod email;
pub(crate) mod http_outcome;
mod pagerduty;
mod partial_deliveries;
mod recipients;
mod slack;
mod sms;
#[cfg(test)]
mod stub;
mod webhook;

use std::sync::Arc;

use async_trait::async_trait;
use revwatch_runtime::config::{Config, ConfigError, NOTIFIERS};
use revwatch_runtime::egress;
pub use revwatch_runtime::egress::EgressClient;

pub use self::console::Console;
pub use self::email::Email;
pub use self::pagerduty::PagerDuty;
pub use self::slack::{SlackBot, SlackWebhook};
pub use self::sms::Sms;
pub use self::webhook::Webhook;
use crate::message::Message;
pub use crate::outcome::{Lookup, Outcome};
pub use crate::policy::Capabilities;

/// A channel for notifications.
#[async_trait]
pub trait Notifier: Send + Sync {
    /// Its name in settings, metrics and stored alerts: `slack`, `email`, `sms`, `pagerduty`,
    /// `webhook`, `log`.
    fn name(&self) -> &'static str;

    /// The notifications it can send.
    fn capabilities(&self) -> Capabilities;

    /// Destination of messages for `route`. Messages to one destination are sent one after the
    /// other and share its rate limit. It is logged, so it holds no secrets and no personal data.
    fn destination(&self, route: &str) -> String;

    /// Messages per second that one destination accepts, sustained.
    fn per_second(&self) -> f64;

    /// Delivers `message`: updates the one at `message.receipt` if there is one, otherwise sends a
    /// new one. Must return within [`ATTEMPT_TIMEOUT`].
    async fn deliver(&self, message: &Message) -> Outcome;

    /// Checks whether `message` arrived, after an attempt that ended without an answer. Never
    /// sends.
    async fn find(&self, _message: &Message) -> Lookup {
        Lookup::Inconclusive
    }
}

/// Maximum duration of one request to a destination.
pub const ATTEMPT_TIMEOUT: std::time::Duration = egress::REQUEST_TIMEOUT;

/// A notifier, or `None` if nothing of it is configured.
type Configured = Result<Option<Arc<dyn Notifier>>, SetupError>;

/// Creates a notifier from the settings. The last argument is the rate limit in messages per second.
type Constructor = fn(&Config, &EgressClient, f64) -> Configured;

/// Every notifier: its name ([`NOTIFIERS`]) and its constructor, in order of preference.
const REGISTRY: [(&str, Constructor); NOTIFIERS.len()] = [
    ("slack", slack::configured),
    ("email", email::configured),
    ("sms", sms::configured),
    ("pagerduty", pagerduty::configured),
    ("webhook", webhook::configured),
    ("log", console::configured),
];

/// Why a notifier cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A setting is missing or invalid; the message names it and the fix.
    #[error("{0}")]
    Invalid(String),
    /// No HTTP client can be created, for instance because no TLS roots are found.
    #[error("cannot create an HTTP client: {0}")]
    Client(#[from] reqwest::Error),
}

impl From<ConfigError> for SetupError {
    fn from(error: ConfigError) -> Self {
        Self::Invalid(error.to_string())
    }
}

/// The configured notifiers, in order of preference. The last is the log: it is used if there is no
/// other, or if no other works. A partly configured notifier is an error.
pub fn configured(config: &Config) -> Result<Vec<Arc<dyn Notifier>>, SetupError> {
    let (notifiers, errors) = all_configured(config);
    errors.into_iter().next().map_or(Ok(notifiers), Err)
}

/// The same, with all errors.
pub(crate) fn all_configured(config: &Config) -> (Vec<Arc<dyn Notifier>>, Vec<SetupError>) {
    let egress = EgressClient::new(config.egress);
    let (mut notifiers, mut errors) = (Vec::new(), Vec::new());
    for (_, new) in REGISTRY {
        match new(config, &egress, config.alerting.messages_per_second) {
            Ok(notifier) => notifiers.extend(notifier),
            Err(error) => errors.push(error),
        }
    }
    (notifiers, errors)
}

fn boxed<N: Notifier + 'static>(notifier: Option<N>) -> Configured {
    Ok(notifier.map(|notifier| Arc::new(notifier) as Arc<dyn Notifier>))
}

/// Whether a notifier is configured: all of its `settings` are set, or none (`false`). An error names the missing
/// ones.
fn complete(notifier: &str, settings: &[(&str, bool)]) -> Result<bool, SetupError> {
    let names = |is_set: bool| -> Vec<&str> {
        settings
            .iter()
            .filter(|(_, set)| *set == is_set)
            .map(|(name, _)| *name)
            .collect()
    };
    match (names(true), names(false)) {
        (_, missing) if missing.is_empty() => Ok(true),
        (set, _) if set.is_empty() => Ok(false),
        (set, missing) => Err(SetupError::Invalid(format!(
            "{notifier} is only partly configured: {} is set, but {} is missing; set both, or neither",
            set.join(" and "),
            missing.join(" and ")
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of the notifiers with these variables and this file, or the error.
    fn names(file: &str, variables: &[(&str, &str)]) -> Result<Vec<&'static str>, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("my.toml");
        std::fs::write(&path, file).expect("written");
        let lookup = |name: &str| {
            variables
                .iter()
                .find(|(n, _)| *n == name)
                .map(|(_, value)| (*value).to_owned())
        };
        let config = Config::load(Some(&path), &lookup).map_err(|e| e.to_string())?;
        let notifiers = configured(&config).map_err(|e| e.to_string())?;
        Ok(notifiers.iter().map(|notifier| notifier.name()).collect())
    }

    #[test]
    fn the_registry_has_every_notifier_by_its_name() {
        assert_eq!(REGISTRY.map(|(name, _)| name), NOTIFIERS);
    }

    #[test]
    fn configured_notifiers_are_in_order_of_preference() {
        let bot = ("SLACK_BOT_TOKEN", "xoxb-1");
        let hook = (
            "SLACK_WEBHOOK_URL",
            "https://hooks.slack.com/services/T0/B0/x",
        );
        assert_eq!(names("", &[]), Ok(vec!["log"]));
        assert_eq!(names("", &[hook]), Ok(vec!["slack", "log"]));
        let file = "[email]\nfrom = \"a@example.com\"\nto = { default = [\"b@example.com\"] }\n\
                    [sms]\nfrom = \"+15550100\"\nto = { default = [\"+15550101\"] }";
        let all = [
            ("REVWATCH_WEBHOOK_URL", "https://hooks.example/revwatch"),
            (
                "REVWATCH_WEBHOOK_SECRET",
                "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            ),
            ("PAGERDUTY_ROUTING_KEY", "key"),
            ("TWILIO_ACCOUNT_SID", "AC1"),
            ("TWILIO_AUTH_TOKEN", "token"),
            ("SMTP_URL", "smtp://localhost"),
            hook,
            bot,
        ];
        assert_eq!(
            names(file, &all),
            Ok(vec!["slack", "email", "sms", "pagerduty", "webhook", "log"])
        );
    }

    #[test]
    fn a_partly_configured_notifier_is_refused_with_the_missing_settings() {
        type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);
        let table: [Case<'_>; 7] = [
            ("", &[("SLACK_SIGNING_SECRET", "s")], "set SLACK_BOT_TOKEN"),
            ("", &[("SLACK_APP_TOKEN", "xapp-1")], "SLACK_APP_TOKEN"),
            (
                "",
                &[("SMTP_URL", "smtp://localhost")],
                "email.from and a list of addresses in [email.to] is missing",
            ),
            ("", &[("TWILIO_ACCOUNT_SID", "AC1")], "TWILIO_AUTH_TOKEN"),
            ("[email]\nfrom = \"a@example.com\"", &[], "SMTP_URL"),
            (
                "",
                &[("REVWATCH_WEBHOOK_URL", "https://hooks.example")],
                "REVWATCH_WEBHOOK_SECRET",
            ),
            (
                "",
                &[("SLACK_WEBHOOK_URL", "http://hooks.example")],
                "SLACK_WEBHOOK_URL",
            ),
        ];
        for (file, variables, expected) in table {
            let error = names(file, variables).expect_err("refused");
            assert!(error.contains(expected), "{error}");
        }
    }
}
