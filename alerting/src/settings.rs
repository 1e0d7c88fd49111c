//! The settings of alerting, and how new settings replace them.

use std::sync::Arc;

use revwatch_runtime::config::{AlertingConfig, Config, ConfigError, both};
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
