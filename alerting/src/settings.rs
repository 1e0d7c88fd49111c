//! The settings of alerting, and how new settings replace them.

use std::collections::BTreeSet;
use std::sync::Arc;

use revwatch_runtime::config::{AlertingConfig, Config, ConfigError, both, closest_match};
use tokio::sync::watch;

use crate::notify::{self, Notifier};
use crate::policy::Policy;
use crate::rule::Rule;
use crate::rules_file;

/// Rules, notifiers and settings.
#[derive(Clone)]
pub struct AlertingSettings {
    /// The rules.
    pub rules: Vec<Rule>,
    /// The notifiers, in order of preference; at least one.
    pub notifiers: Vec<Arc<dyn Notifier>>,
    /// Ticks, leases, and what severities mean.
    pub config: AlertingConfig,
    /// Whether the kernel's billing has a realm of its own.
    pub has_kernel: bool,
    /// What was probably not meant.
    pub warnings: Vec<String>,
}

impl AlertingSettings {
    /// As `config` says; files of rules are read now. Names every fault.
    pub fn of(config: &Config) -> Result<Self, ConfigError> {
        // Its faults do not depend on the notifiers.
        let policy = policy(&config.alerting, &[]);
        let notifiers = notify::configured(config);
        let rules = rules_file::load(config.rules.as_deref());
        let (_, (notifiers, rules)) = both(policy, both(notifiers, rules))?;
        Ok(Self {
            warnings: misspelled_routes(config, &rules),
            rules,
            notifiers,
            config: config.alerting.clone(),
            has_kernel: config.has_kernel(),
        })
    }

    /// Notifiers and deadlines by severity and route.
    pub fn policy(&self) -> Result<Policy, ConfigError> {
        policy(&self.config, &self.notifiers)
    }
}

/// Channels and recipients for a route that no alert has, if another name was probably meant: its alerts go to the
/// default ones.
fn misspelled_routes(config: &Config, rules: &[Rule]) -> Vec<String> {
    let severities = &config.alerting.severity;
    let treatments = [
        &severities.critical,
        &severities.high,
        &severities.medium,
        &severities.low,
    ];
    let escalated = treatments.into_iter().flat_map(|it| &it.escalate);
    let known: BTreeSet<&str> = rules
        .iter()
        .map(|rule| rule.route.as_str())
        .chain(escalated.filter_map(|step| step.route.as_deref()))
        .chain(
            config
                .alerting
                .routes
                .iter()
                .filter_map(|it| it.route.as_deref()),
        )
        .chain(["default"])
        .collect();
    let listed = [
        ("slack.channels", config.slack.channels.keys().collect()),
        ("email.to", config.email.to.keys().collect()),
        ("sms.to", config.sms.to.keys().collect()),
    ];
    let judge = |(table, keys): (&str, BTreeSet<&String>)| {
        let unlisted = || {
            let known = known.iter().copied();
            known.filter(|route| !keys.iter().any(|key| key == route))
        };
        let warn = |key: &&String| {
            let meant = closest_match(key, unlisted()).filter(|_| !known.contains(key.as_str()))?;
            Some(format!(
                "[{table}] {key}: no rule has this route; is {meant} meant?"
            ))
        };
        keys.iter().filter_map(warn).collect::<Vec<_>>()
    };
    listed.into_iter().flat_map(judge).collect()
}

/// See [`AlertingSettings::policy`].
pub(crate) fn policy(
    config: &AlertingConfig,
    notifiers: &[Arc<dyn Notifier>],
) -> Result<Policy, ConfigError> {
    Policy::new(
        config,
        notifiers
            .iter()
            .map(|n| (n.name().to_owned(), n.capabilities()))
            .collect(),
    )
}

/// Where new settings arrive. By default none ever do.
#[derive(Clone, Default)]
pub struct PendingSettings(Option<watch::Receiver<Option<AlertingSettings>>>);

impl PendingSettings {
    /// With the sender of the settings.
    pub fn new() -> (watch::Sender<Option<AlertingSettings>>, Self) {
        let (sender, receiver) = watch::channel(None);
        (sender, Self(Some(receiver)))
    }

    /// Waits until settings arrive that were not taken.
    pub(crate) async fn changed(&mut self) {
        if let Some(receiver) = &mut self.0
            && receiver.changed().await.is_ok()
        {
            // Noticed, not taken.
            receiver.mark_changed();
            return;
        }
        std::future::pending::<()>().await;
    }

    /// The settings that have arrived since this was last called.
    pub(crate) fn take(&mut self) -> Option<AlertingSettings> {
        let receiver = self
            .0
            .as_mut()
            .filter(|receiver| receiver.has_changed().unwrap_or(false))?;
        receiver.borrow_and_update().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule_text::built_in;

    #[test]
    fn a_route_that_is_written_almost_like_that_of_a_rule_is_warned_of() {
        let rules = built_in().expect("valid");
        let mut config = Config::load(None, &|_| None).expect("the defaults");
        assert!(misspelled_routes(&config, &rules).is_empty());
        let route = rules[0].route.as_str();
        let swap = |text: &str| format!("{}{}", &text[..text.len() - 1], "_");
        config.slack.channels = [
            ("default".to_owned(), "#a".to_owned()),
            (swap(route), "#b".to_owned()),
            ("another-team".to_owned(), "#c".to_owned()),
        ]
        .into();
        let expected = format!(
            "[slack.channels] {}: no rule has this route; is {route} meant?",
            swap(route)
        );
        assert_eq!(misspelled_routes(&config, &rules), [expected]);
        // Both are meant.
        config
            .slack
            .channels
            .insert(route.to_owned(), "#d".to_owned());
        assert!(misspelled_routes(&config, &rules).is_empty());
    }
}
