//! The third port: telling people.

mod console;
mod email;
pub(crate) mod http_outcome;
mod pagerduty;
mod partial_deliveries;
mod slack;
mod sms;
#[cfg(test)]
mod stub;
mod webhook;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use revwatch_runtime::config::{Config, ConfigError, SlackConfig};
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

/// One way to reach people.
#[async_trait]
pub trait Notifier: Send + Sync {
    /// Its name in settings, metrics and stored alerts: `slack`, `email`, `sms`, `pagerduty`, `webhook`, `log`.
    fn name(&self) -> &'static str;

    /// What it tells.
    fn capabilities(&self) -> Capabilities;

    /// Where messages for `route` go. Messages to one destination are told one after the other and share
    /// its rate. It is logged: no secrets and no personal data.
    fn destination(&self, route: &str) -> String;

    /// Messages per second that one destination may be sent, sustained.
    fn per_second(&self) -> f64;

    /// Tells `message`: changes the one at `message.receipt`, if there is one, else sends a new one. Must
    /// answer within [`ATTEMPT_TIMEOUT`].
    async fn deliver(&self, message: &Message) -> Outcome;

    /// Looks whether `message` arrived, after an attempt that ended without an answer. Never sends.
    async fn find(&self, _message: &Message) -> Lookup {
        Lookup::CannotTell
    }
}

/// The longest that a request to a destination may take.
pub const ATTEMPT_TIMEOUT: std::time::Duration = egress::REQUEST_TIMEOUT;

/// Why a way to reach people cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A setting is missing or wrong; the text names it and the fix.
    #[error("{0}")]
    Invalid(String),
    /// There is no HTTP client, for instance because no TLS roots are to be found.
    #[error("cannot make an HTTP client: {0}")]
    Client(#[from] reqwest::Error),
}

impl From<ConfigError> for SetupError {
    fn from(error: ConfigError) -> Self {
        Self::Invalid(error.to_string())
    }
}

/// The notifiers that the configuration names, and the log: it is used if there is no other, or if no other can
/// be. What is named by halves is an error.
pub fn configured(config: &Config) -> Result<Vec<Arc<dyn Notifier>>, SetupError> {
    let (notifiers, wrong) = all_configured(config);
    wrong.into_iter().next().map_or(Ok(notifiers), Err)
}

/// The same, with everything that is wrong.
pub(crate) fn all_configured(config: &Config) -> (Vec<Arc<dyn Notifier>>, Vec<SetupError>) {
    let egress = EgressClient::new(config.egress);
    let rate = config.alerting.messages_per_second;
    let slack = SlackBot::configured(&config.slack, &egress, rate).and_then(|bot| match bot {
        Some(bot) => Ok(some(bot)),
        None => Ok(SlackWebhook::configured(&config.slack, &egress, rate)?.and_then(some)),
    });
    let ways: [Result<Option<Arc<dyn Notifier>>, SetupError>; 5] = [
        slack.and_then(|slack| {
            if slack.is_none() {
                nothing_to_press(&config.slack)
            } else {
                Ok(slack)
            }
        }),
        Email::configured(&config.email, rate).map(|way| way.and_then(some)),
        Sms::configured(&config.sms, &egress, rate).map(|way| way.and_then(some)),
        PagerDuty::configured(&config.pagerduty, &egress, rate).map(|way| way.and_then(some)),
        Webhook::configured(&config.webhook, &egress, rate).map(|way| way.and_then(some)),
    ];
    let (mut notifiers, mut wrong) = (Vec::new(), Vec::new());
    for way in ways {
        match way {
            Ok(way) => notifiers.extend(way),
            Err(error) => wrong.push(error),
        }
    }
    notifiers.push(Arc::new(Console) as Arc<dyn Notifier>);
    (notifiers, wrong)
}

fn some<N: Notifier + 'static>(notifier: N) -> Option<Arc<dyn Notifier>> {
    Some(Arc::new(notifier))
}

/// Whoever gives a secret or token for what people press, and nothing to post with, has forgotten half of it.
fn nothing_to_press<N>(slack: &SlackConfig) -> Result<Option<N>, SetupError> {
    let given = match (&slack.signing_secret, &slack.app_token) {
        (Some(_), _) => "slack.signing_secret (SLACK_SIGNING_SECRET)",
        (None, Some(_)) => "slack.app_token (SLACK_APP_TOKEN)",
        (None, None) => return Ok(None),
    };
    Err(SetupError::Invalid(format!(
        "Slack is set up by halves: {given} is there, but nothing to post messages with: set SLACK_BOT_TOKEN (or \
         SLACK_WEBHOOK_URL), or take it away"
    )))
}

/// What is missing of a way that `parts`, by the names of their settings, make up: nothing if all are there,
/// or none (then the way is not set up: `false`).
fn complete(way: &str, parts: &[(&str, bool)]) -> Result<bool, SetupError> {
    let names = |there: bool| -> Vec<&str> {
        parts
            .iter()
            .filter(|(_, is)| *is == there)
            .map(|(n, _)| *n)
            .collect()
    };
    match (names(true), names(false)) {
        (_, missing) if missing.is_empty() => Ok(true),
        (there, _) if there.is_empty() => Ok(false),
        (there, missing) => Err(SetupError::Invalid(format!(
            "{way} is set up by halves: {} is there, but {} is missing; give both, or neither",
            there.join(" and "),
            missing.join(" and ")
        ))),
    }
}

/// What serves `route`, and the name that it is listed under: its own, or `default`.
fn of_route<'a, T>(lists: &'a BTreeMap<String, T>, route: &str) -> Option<(&'a str, &'a T)> {
    let listed = lists
        .get_key_value(route)
        .or_else(|| lists.get_key_value("default"));
    listed.map(|(name, list)| (name.as_str(), list))
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
    fn what_is_set_up_is_there_in_order_of_preference() {
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
        assert!(crate::policy::NOTIFIERS.contains(&"webhook"));
    }

    #[test]
    fn half_a_way_is_refused_with_what_is_missing() {
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
