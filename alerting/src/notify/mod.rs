//! The port of notifications.

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
use revwatch_runtime::config::{Config, ConfigError, Fault, Faults, NOTIFIERS};
use revwatch_runtime::egress;
pub use revwatch_runtime::egress::EgressClient;

pub use self::console::Console;
pub use self::email::Email;
pub use self::pagerduty::PagerDuty;
pub use self::partial_deliveries::PartialDeliveries;
pub(crate) use self::slack::API_BASE as SLACK_API_BASE;
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
    /// other and share its rate limit. It is only compared, and holds no secrets and no personal data.
    fn destination(&self, route: &str) -> String;

    /// Messages per second that one destination accepts, sustained.
    fn per_second(&self) -> f64;

    /// Delivers `message`: updates the one at `message.receipt` if there is one, otherwise sends a
    /// new one. Must return within [`ATTEMPT_TIMEOUT`].
    async fn deliver(&self, message: &Message) -> Outcome;

    /// Whether the provider would take messages with these settings, or why not. Sends none, and takes no longer than
    /// [`ATTEMPT_TIMEOUT`]. `None`: the provider cannot be asked without a message.
    async fn probe(&self) -> Option<Result<(), String>> {
        None
    }

    /// What it remembers about messages that only some recipients have. `None`: each message is delivered as one.
    fn partial_deliveries(&self) -> Option<&PartialDeliveries> {
        None
    }

    /// Whether some recipients of `message` have it and others do not.
    fn is_partly_delivered(&self, _message: &Message) -> bool {
        false
    }

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
    /// Settings are missing or invalid; the message names them and the fix.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No HTTP client can be created, for instance because no TLS roots are found.
    #[error("cannot create an HTTP client: {0}")]
    Client(#[from] reqwest::Error),
}

impl From<SetupError> for ConfigError {
    fn from(error: SetupError) -> Self {
        match error {
            SetupError::Config(error) => error,
            error @ SetupError::Client(_) => Self::of(error.to_string()),
        }
    }
}

/// The configured notifiers, in order of preference. The last is the log: it is used if there is no
/// other, or if no other works. A partly configured notifier is an error. All faults are named.
pub fn configured(config: &Config) -> Result<Vec<Arc<dyn Notifier>>, ConfigError> {
    let egress = EgressClient::new(config.egress);
    let (mut notifiers, mut faults) = (Vec::new(), Faults::default());
    for (_, new) in REGISTRY {
        let notifier = new(config, &egress, config.alerting.messages_per_second);
        notifiers.extend(faults.of(notifier.map_err(ConfigError::from)).flatten());
    }
    faults.none().map(|()| notifiers)
}

/// After a reload, `new` notifiers continue with what `old` ones remember about recipients: otherwise those who have a
/// message would get it again.
pub(crate) fn keep_partial_deliveries(old: &[Arc<dyn Notifier>], new: &[Arc<dyn Notifier>]) {
    for notifier in new {
        let before = old.iter().find(|before| before.name() == notifier.name());
        let before = before.and_then(|before| before.partial_deliveries());
        if let (Some(before), Some(memory)) = (before, notifier.partial_deliveries()) {
            memory.take_over(before);
        }
    }
}

fn boxed<N: Notifier + 'static>(notifier: Option<N>) -> Configured {
    Ok(notifier.map(|notifier| Arc::new(notifier) as Arc<dyn Notifier>))
}

/// Whether a notifier is configured: all of its `settings` are set, or none (`false`). An error names the missing
/// ones.
fn complete(notifier: &str, settings: &[(&str, bool)]) -> Result<bool, ConfigError> {
    let names = |of: bool| -> Vec<&str> {
        let those = settings.iter().filter(|(_, is_set)| *is_set == of);
        those.map(|(name, _)| *name).collect()
    };
    let (set, missing) = (names(true), names(false));
    if set.is_empty() || missing.is_empty() {
        return Ok(missing.is_empty());
    }
    let (all, none) = match settings.len() {
        2 => ("both".to_owned(), "neither"),
        number => (format!("all {number}"), "none"),
    };
    let what = format!(
        "{notifier} is only partly configured: {}, but {}; set {all}, or {none}",
        listed(&set, "set"),
        listed(&missing, "missing")
    );
    Err(ConfigError::of(
        Fault::from(what).about(set.into_iter().chain(missing)),
    ))
}

/// For example `a, b and c are missing`.
fn listed(names: &[&str], state: &str) -> String {
    match names {
        [first @ .., last] if !first.is_empty() => {
            format!("{} and {last} are {state}", first.join(", "))
        }
        names => format!("{} is {state}", names.concat()),
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
            ("PAGERDUTY_ROUTING_KEY", "R02DKPQX7"),
            ("TWILIO_ACCOUNT_SID", "AC1"),
            ("TWILIO_AUTH_TOKEN", "9f2c41d0"),
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
                "email.smtp_url (SMTP_URL) is set, but email.from and email.to (a list of addresses) are missing; set all 3, or none",
            ),
            (
                "[sms]\nfrom = \"+15550100\"",
                &[("TWILIO_ACCOUNT_SID", "AC1")],
                "sms.account_sid (TWILIO_ACCOUNT_SID) and sms.from are set, but sms.auth_token (TWILIO_AUTH_TOKEN) and sms.to (a list of numbers) are missing; set all 4, or none",
            ),
            ("[email]\nfrom = \"a@example.com\"", &[], "SMTP_URL"),
            (
                "",
                &[("REVWATCH_WEBHOOK_URL", "https://hooks.example")],
                "webhook.url (REVWATCH_WEBHOOK_URL) is set, but webhook.secret (REVWATCH_WEBHOOK_SECRET) is missing; set both, or neither",
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
