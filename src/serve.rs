//! `revwatch serve`: runs the selected roles in one process.

use std::net::SocketAddr;

use revwatch_alerting::{Alerting, AlertingSettings};
use revwatch_ingest::Ingest;
use revwatch_runtime::backend::Uses;
use revwatch_runtime::config::{Config, ConfigError, Endpoint, Faults};
use revwatch_runtime::process::{Process, Start};
use revwatch_worker::Worker;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// One role of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    /// Receives webhooks.
    Ingest,
    /// Applies events.
    Worker,
    /// Evaluates rules and sends notifications.
    Alerting,
}

impl Role {
    /// The roles that `revwatch` runs by default.
    pub const ALL: [Self; 3] = [Self::Ingest, Self::Worker, Self::Alerting];

    /// Their names on the command line.
    pub const ALL_NAMES: &str = "ingest,worker,alerting";

    /// The services that a process with these `roles` uses.
    pub fn uses(roles: &[Self]) -> Uses {
        if roles.iter().all(|role| *role == Self::Ingest) {
            Uses::Queue
        } else {
            Uses::QueueAndStore
        }
    }
}

/// What roles make of their settings.
#[derive(Default)]
pub struct RoleSettings {
    /// Of ingest.
    pub endpoints: Option<Vec<Endpoint>>,
    /// Of alerting.
    pub alerting: Option<AlertingSettings>,
}

/// What `roles` make of these settings. Opens nothing, and names every fault.
pub fn check(config: &Config, roles: &[Role]) -> Result<RoleSettings, ConfigError> {
    let (mut settings, mut faults) = (RoleSettings::default(), Faults::default());
    faults.of(Role::uses(roles).check(config));
    let has = |role| roles.contains(&role);
    faults.of(config.check_listeners(has(Role::Ingest), has(Role::Alerting)));
    for role in roles {
        match role {
            Role::Ingest => settings.endpoints = faults.of(config.webhook_endpoints()),
            Role::Worker => {}
            Role::Alerting => settings.alerting = faults.of(AlertingSettings::of(config)),
        }
    }
    faults.none().map(|()| settings)
}

/// The addresses of a started process.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// The webhook listener; `None` without the ingest role.
    pub webhooks: Option<SocketAddr>,
    /// The listener for metrics and health.
    pub admin: SocketAddr,
}

/// Runs `roles` until a stop is requested. `adjust` may change the inputs of alerting; `started` receives
/// the addresses.
pub async fn serve(
    start: Start,
    roles: &[Role],
    adjust: impl FnOnce(&mut Alerting),
    started: oneshot::Sender<Addresses>,
) -> anyhow::Result<()> {
    let service = match roles {
        [Role::Ingest] => "revwatch-ingest",
        [Role::Worker] => "revwatch-worker",
        [Role::Alerting] => "revwatch-alerting",
        _ => "revwatch",
    };
    let process = Process::start(start, service).await?;
    let mut tasks = JoinSet::new();
    let mut webhooks = None;
    let queue = match Role::uses(roles) {
        Uses::Queue => process.open_intake().await?,
        Uses::QueueAndStore => {
            let backend = process.open().await?;
            if roles.contains(&Role::Alerting) {
                let mut alerting = Alerting::of(&process, &backend).await?;
                adjust(&mut alerting);
                tasks.spawn(revwatch_alerting::run(alerting, process.shutdown.clone()));
            }
            if roles.contains(&Role::Worker) {
                tasks.spawn(revwatch_worker::run(
                    Worker::of(&process, &backend)?,
                    process.shutdown.clone(),
                ));
            }
            backend.queue
        }
    };
    if roles.contains(&Role::Ingest) {
        let ingest = Ingest::of(&process, queue.clone()).await?;
        webhooks = Some(ingest.local_addr());
        tasks.spawn(ingest.serve(process.shutdown.clone()));
    }
    process.started();
    let _ = started.send(Addresses {
        webhooks,
        admin: process.admin_addr,
    });
    Ok(process.join(tasks, queue).await?)
}
