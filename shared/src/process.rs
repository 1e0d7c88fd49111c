//! What every process of revwatch has, whichever roles it plays: configuration, backend, metrics, an
//! admin listener, and an orderly end on SIGINT or SIGTERM.

use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::admin::{Admin, Check, Readiness};
use crate::backend::{Backend, BackendError};
use crate::config::{Config, ConfigError};
use crate::listen::ListenError;
use crate::telemetry::{Metrics, init_logs};

/// The options of a binary that plays one role.
#[derive(Debug, clap::Parser)]
#[command(version, about, long_about = None)]
pub struct RoleArgs {
    /// TOML file with settings; the environment wins over it. Try `revwatch config print` for all keys.
    #[arg(long, env = "REVWATCH_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// A process that has started and plays no role yet.
pub struct Process {
    /// Settings.
    pub config: Config,
    /// Queue and store.
    pub backend: Backend,
    /// All metrics.
    pub metrics: Metrics,
    /// What `/readyz` reports.
    pub readiness: Readiness,
    /// Cancelled when the process is asked to end.
    pub shutdown: CancellationToken,
    /// Where `/metrics` is.
    pub admin_addr: SocketAddr,
    starting: Check,
    admin_shutdown: CancellationToken,
    admin: JoinHandle<()>,
}

/// The process cannot start; the text names the setting and the fix.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Settings.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Queue or store.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The admin port.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

impl Process {
    /// Opens the backend and the admin listener.
    pub async fn start(config: Config, shutdown: CancellationToken) -> Result<Self, StartError> {
        let (metrics, readiness) = (Metrics::new(), Readiness::default());
        // Before anything can ask: a process is not ready until its roles have said what to check.
        let starting = readiness.check("process");
        let admin = Admin::bind(config.admin_listen, metrics.clone(), readiness.clone()).await?;
        let admin_addr = admin.local_addr();
        let backend = Backend::open(&config).await?;
        tracing::info!(backend = backend.name, admin = %admin_addr, partitions = backend.queue.partitions(), "started");
        let admin_shutdown = CancellationToken::new();
        let admin = tokio::spawn(admin.serve(admin_shutdown.clone()));
        Ok(Self { config, backend, metrics, readiness, shutdown, admin_addr, starting, admin_shutdown, admin })
    }

    /// Every role has registered its checks.
    pub fn started(&self) {
        self.starting.pass();
    }

    /// Ends what [`Process::start`] began, once the roles have ended.
    pub async fn finish(self) {
        self.backend.queue.close().await;
        self.admin_shutdown.cancel();
        let _ = self.admin.await;
        tracing::info!("stopped");
    }
}

/// Reads settings, starts logging, and returns a token that SIGINT and SIGTERM cancel.
pub fn prepare(args: &RoleArgs) -> Result<(Config, CancellationToken), StartError> {
    init_logs(None);
    let config = Config::from_environment(args.config.as_deref())?;
    Ok((config, shutdown_on_signals()))
}

/// A token that SIGINT and SIGTERM cancel. Must be called within a tokio runtime; from then on neither
/// signal ends the process by itself.
pub fn shutdown_on_signals() -> CancellationToken {
    use tokio::signal::unix::{Signal, SignalKind, signal};
    async fn heard(signal: std::io::Result<Signal>) {
        match signal {
            Ok(mut signal) => drop(signal.recv().await),
            // Without a handler the system's own answer to the signal stands: the process ends.
            Err(_) => std::future::pending().await,
        }
    }
    let (interrupt, terminate) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    let token = CancellationToken::new();
    let cancelled = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = heard(interrupt) => {}
            () = heard(terminate) => {}
        }
        tracing::info!("asked to stop; finishing what is under way");
        cancelled.cancel();
    });
    token
}
