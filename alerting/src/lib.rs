//! revwatch's alerting: evaluates rules on the state, decides which alerts fire and resolve, and notifies people.
//!
//! Deciding is pure ([`metric_evaluation`], [`phase`], [`engine`], [`policy`], [`message`]); around it the evaluator
//! holds the lease, reads the store and writes what the engine decides, and notifiers deliver messages.
//!
//! Invariant: an alert is durable before a message about it is sent, and so is the attempt; it is retried until a
//! notifier has confirmed it.

mod attempt;
mod dispatch;
pub mod engine;
mod evaluator;
mod gauges;
mod journal_sync;
pub mod message;
pub mod metric_evaluation;
pub mod metric_value;
mod notification_telemetry;
pub mod notify;
pub mod outcome;
pub mod phase;
pub mod policy;
mod readiness;
mod rivals;
pub mod rule;
pub mod rule_text;
pub mod rules_file;
mod settings;
pub mod slack_actions;
pub mod stage;
#[cfg(test)]
mod test_support;

use std::sync::Arc;

pub use revwatch_core::alert;
use revwatch_core::clock::{Clock, Ids};
use revwatch_runtime::admin::Check;
use revwatch_runtime::backend::Backend;
use revwatch_runtime::config::{AlertingConfig, Config, ConfigError};
use revwatch_runtime::process::Process;
use revwatch_runtime::telemetry::{Metrics, Tracer};
use revwatch_storage::ports::{Consume, Holding, Journal, Replay, StateStore};
use tokio_util::sync::CancellationToken;

use self::notify::{EgressClient, Notifier, keep_partial_deliveries};
use self::policy::Policy;
pub use self::readiness::Turns;
use self::rule::Rule;
pub use self::settings::{AlertingSettings, PendingSettings};
use self::slack_actions::SlackActions;

/// What alerting needs.
pub struct Alerting {
    /// Where state is.
    pub store: Arc<dyn StateStore>,
    /// Deliveries that wait to become state, for rules on the pipeline itself.
    pub queue: Arc<dyn Consume>,
    /// Dead letters and parked deliveries, for the same rules.
    pub holding: Arc<dyn Holding>,
    /// Every delivery so far: when the first came.
    pub archive: Arc<dyn Replay>,
    /// What must survive the store.
    pub journal: Arc<dyn Journal>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// The name of this process as holder of the lease.
    pub ids: Arc<dyn Ids>,
    /// The rules.
    pub rules: Vec<Rule>,
    /// The notifiers, in order of preference; at least one.
    pub notifiers: Vec<Arc<dyn Notifier>>,
    /// Where interactions in Slack arrive.
    pub actions: SlackActions,
    /// Ticks, leases, and what severities mean.
    pub config: AlertingConfig,
    /// Whether the kernel's billing has a realm of its own.
    pub has_kernel: bool,
    /// The process's metrics.
    pub metrics: Metrics,
    /// Where spans go.
    pub tracer: Tracer,
    /// Passes while the store answers.
    pub ready: Check,
    /// Of the evaluator.
    pub turns: Turns,
    /// Where new rules, notifiers and settings arrive.
    pub new_settings: PendingSettings,
}

/// Alerting cannot start; the text names the setting.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The rules, the notifiers, or the routes.
    #[error(transparent)]
    Settings(#[from] ConfigError),
    /// The receiver of Slack's interactions.
    #[error(transparent)]
    Actions(#[from] slack_actions::StartError),
}

impl Alerting {
    /// Whether alerting can run with these settings; files of rules are read. Opens nothing, and names
    /// every fault.
    pub fn check(config: &Config) -> Result<(), ConfigError> {
        AlertingSettings::of(config).map(drop)
    }

    /// As `process` is configured, on `backend`. Settings that make no sense are refused before anything begins.
    pub async fn of(process: &Process, backend: &Backend) -> Result<Self, StartError> {
        let AlertingSettings {
            rules,
            notifiers,
            config,
            has_kernel,
            warnings,
        } = AlertingSettings::of(&process.config)?;
        log(&warnings);
        let egress = EgressClient::new(process.config.egress);
        let store = backend.store.clone();
        let actions = SlackActions::bind(
            &process.config,
            &egress,
            store.clone(),
            process.clock.clone(),
            process.metrics.clone(),
        )
        .await?;
        let (send, new_settings) = PendingSettings::new();
        let switch = actions.switch(store.clone());
        process.on_reload(move |config| {
            let (send, settings) = (send.clone(), AlertingSettings::of(config)?);
            let switch_actions = switch.prepare(config)?;
            Ok(Box::new(move || {
                switch_actions();
                drop(send.send_replace(Some(settings)));
            }))
        });
        let turns = Turns::default();
        readiness::watch(process, backend.queue.clone(), turns.clone()).await;
        Ok(Self {
            store,
            queue: backend.queue.clone(),
            holding: backend.queue.clone(),
            archive: backend.queue.clone(),
            journal: backend.queue.clone(),
            clock: process.clock.clone(),
            ids: process.ids.clone(),
            rules,
            notifiers,
            actions,
            config,
            has_kernel,
            metrics: process.metrics.clone(),
            tracer: process.tracer.clone(),
            ready: process.readiness.check("alerting"),
            turns,
            new_settings,
        })
    }

    fn policy(&self) -> Result<Policy, ConfigError> {
        settings::policy(&self.config, &self.notifiers)
    }

    /// Uses new settings from now on. No attempt may be under way.
    fn take_over(&mut self, new: AlertingSettings) {
        let AlertingSettings {
            rules,
            notifiers,
            config,
            has_kernel,
            warnings,
        } = new;
        log(&warnings);
        tracing::info!(rules = rules.len(), "alerting uses new settings");
        keep_partial_deliveries(&self.notifiers, &notifiers);
        (self.rules, self.notifiers, self.config) = (rules, notifiers, config);
        self.has_kernel = has_kernel;
    }
}

fn log(warnings: &[String]) {
    for warning in warnings {
        tracing::warn!("{warning}");
    }
}

/// Evaluates and notifies until `shutdown`. Of several processes one works, the others stand by. Each of them takes
/// interactions in Slack.
pub async fn run(mut alerting: Alerting, shutdown: CancellationToken) {
    let actions = std::mem::take(&mut alerting.actions);
    tokio::join!(
        actions.run(shutdown.clone()),
        evaluator::evaluate(&mut alerting, &shutdown)
    );
}
