//! The parts common to every process of revwatch, whichever roles it runs: configuration, metrics,
//! an admin listener, reload on SIGHUP, and graceful shutdown on SIGINT or SIGTERM. Queue and store
//! are opened by the roles that need them.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::admin::{Admin, Check, Readiness};
use crate::arguments::RoleArguments;
#[cfg(feature = "store")]
use crate::backend::Backend;
use crate::backend::{BackendError, Uses, open_rabbitmq};
use crate::config::{Config, ConfigError, Effective, unknown_in_environment};
use crate::listen::ListenError;
use crate::open_files;
use crate::panics::count_panics;
use crate::probe::Probe;
use crate::reload::{ActiveConfig, Apply, Prepare, Reload};
use crate::supervise::Supervisor;
use crate::telemetry::{Metrics, SetupError, Tracer, count_dropped_lines, init_logs};
use revwatch_core::clock::{Clock, Ids};
use revwatch_storage::ports::EventQueue;
use revwatch_storage::system::{SystemClock, SystemIds};

/// The inputs of a starting process.
pub struct Start {
    /// Settings.
    pub config: Config,
    /// Cancelled when the process must stop.
    pub shutdown: CancellationToken,
    reload: Option<(Reload, Arc<Effective>)>,
}

impl Start {
    /// With settings that are never reloaded.
    pub fn fixed(config: Config, shutdown: CancellationToken) -> Self {
        Self {
            config,
            shutdown,
            reload: None,
        }
    }
}

/// A process that has started and runs no role yet.
pub struct Process {
    /// Settings.
    pub config: Config,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Where fresh ids come from.
    pub ids: Arc<dyn Ids>,
    /// All metrics.
    pub metrics: Metrics,
    /// Where spans are sent.
    pub tracer: Tracer,
    /// The state that `/readyz` reports.
    pub readiness: Readiness,
    /// Restarts tasks that panic.
    pub tasks: Supervisor,
    /// Cancelled when the process must stop.
    pub shutdown: CancellationToken,
    /// The address of `/metrics`.
    pub admin_addr: SocketAddr,
    starting: Check,
    reload: Mutex<Option<(Reload, Arc<Effective>)>>,
    parts: Mutex<Vec<Prepare>>,
    admin_shutdown: CancellationToken,
    admin: JoinHandle<()>,
}

/// The process cannot start; the message names the setting and the fix.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A fault in the settings.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The queue or the store.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The admin listener.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The trace exporter.
    #[error(transparent)]
    Traces(#[from] SetupError),
}

/// A role ended although no stop was requested.
#[derive(Debug, thiserror::Error)]
#[error("a role ended unexpectedly: the log says why")]
pub struct RoleEndedError;

impl Process {
    /// Starts a program that runs one role: reads its command line and its settings, installs the
    /// logger and the signal handlers, and opens the admin listener. `accept` checks the settings for
    /// the role, before anything is opened.
    pub async fn of_program(
        name: &str,
        about: &str,
        accept: impl FnOnce(&Config) -> Result<(), ConfigError>,
    ) -> Result<Self, StartError> {
        let arguments = RoleArguments::of_process(name, about);
        Self::start(prepare(arguments.config.as_deref(), accept)?, name).await
    }

    /// Opens the admin listener. `service` is the process's name in traces, unless the settings
    /// name it.
    pub async fn start(start: Start, service: &str) -> Result<Self, StartError> {
        let Start {
            config,
            shutdown,
            reload,
        } = start;
        let (metrics, readiness) = (Metrics::new(), Readiness::default());
        count_panics(metrics.panics.clone());
        count_dropped_lines(&metrics.log_lines_dropped);
        open_files::raise();
        let tracer = Tracer::new(&config.traces, service, metrics.spans_dropped.clone())?;
        // Registered before the listener opens: a process is not ready until its roles have
        // registered their checks.
        let starting = readiness.check("process");
        let admin = Admin::bind(config.admin_listen, metrics.clone(), readiness.clone()).await?;
        let admin_addr = admin.local_addr();
        let admin_shutdown = CancellationToken::new();
        let tasks = Supervisor::new(&readiness);
        let admin = tokio::spawn(tasks.clone().keep(
            "admin listener".into(),
            admin_shutdown.clone(),
            {
                let admin = Arc::new(admin);
                move |stop| {
                    let admin = admin.clone();
                    async move { admin.serve(stop).await }
                }
            },
        ));
        let (reload, parts) = (Mutex::new(reload), Mutex::default());
        Ok(Self {
            config,
            clock: Arc::new(SystemClock),
            ids: Arc::new(SystemIds),
            metrics,
            tracer,
            readiness,
            tasks,
            shutdown,
            admin_addr,
            starting,
            reload,
            parts,
            admin_shutdown,
            admin,
        })
    }

    /// Opens queue and store, for every role but `ingest`.
    #[cfg(feature = "store")]
    pub async fn open(&self) -> Result<Backend, StartError> {
        let backend = Backend::open(&self.config).await?;
        self.opened(Uses::QueueAndStore, backend.queue.as_ref());
        Ok(backend)
    }

    /// Opens only the queue, for a process whose one role is `ingest`: it neither needs nor
    /// contacts Redis.
    #[cfg(feature = "store")]
    pub async fn open_intake(&self) -> Result<Arc<dyn EventQueue>, StartError> {
        let queue = Backend::intake(&self.config).await?;
        self.opened(Uses::Queue, queue.as_ref());
        Ok(queue)
    }

    /// Opens RabbitMQ, for the binary whose one role is `ingest`.
    pub async fn open_rabbitmq(&self) -> Result<Arc<dyn EventQueue>, StartError> {
        let queue = open_rabbitmq(&self.config).await?;
        self.opened(Uses::Queue, queue.as_ref());
        Ok(queue)
    }

    fn opened(&self, uses: Uses, queue: &dyn EventQueue) {
        // A reload also refuses settings with which this process could not start again.
        self.on_reload(move |config| {
            uses.check(config)?;
            Ok(Box::new(|| {}))
        });
        let (backend, partitions) = (uses.name(&self.config), queue.partitions());
        tracing::info!(backend, admin = %self.admin_addr, partitions, "started");
    }

    /// Tries out the readiness of a role from now on; the first result is there when it returns.
    pub async fn watch(&self, what: &str, probe: Probe) {
        probe.attempt().await;
        let begin = move |stop| probe.clone().run(stop);
        let name = format!("readiness of {what}");
        tokio::spawn(self.tasks.clone().keep(name, self.shutdown.clone(), begin));
    }

    /// Registers how a role applies reloaded settings.
    pub fn on_reload(
        &self,
        prepare: impl Fn(&Config) -> Result<Apply, ConfigError> + Send + Sync + 'static,
    ) {
        self.parts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Box::new(prepare));
    }

    /// All roles have registered their checks and reload handlers: from now on SIGHUP is handled.
    pub fn started(&self) {
        let parts = std::mem::take(&mut *self.parts.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some((reload, started)) = self
            .reload
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            let active = Arc::new(ActiveConfig {
                started,
                parts: Arc::new(parts),
                metrics: self.metrics.clone(),
            });
            let reload = Arc::new(tokio::sync::Mutex::new(reload));
            tokio::spawn(self.tasks.clone().keep(
                "reload".into(),
                self.shutdown.clone(),
                move |stop| {
                    let (reload, active) = (reload.clone(), active.clone());
                    async move { reload.lock().await.run(&active, stop).await }
                },
            ));
        }
        self.starting.pass();
    }

    /// Waits until the roles have ended, then closes the queue and ends what [`Process::start`]
    /// began. If a role ends unexpectedly, the others are shut down in order.
    pub async fn join(
        self,
        mut roles: JoinSet<()>,
        queue: Arc<dyn EventQueue>,
    ) -> Result<(), RoleEndedError> {
        let mut result = Ok(());
        while let Some(ended) = roles.join_next().await {
            if ended.is_err() || !self.shutdown.is_cancelled() {
                self.shutdown.cancel();
                result = Err(RoleEndedError);
            }
        }
        self.finish(queue.as_ref()).await;
        result
    }

    async fn finish(self, queue: &dyn EventQueue) {
        queue.close().await;
        self.tracer.finish().await;
        self.admin_shutdown.cancel();
        let _ = self.admin.await;
        tracing::info!("stopped");
    }
}

/// Initializes logging, installs signal handlers (SIGINT and SIGTERM stop the process, SIGHUP
/// reloads the settings), and reads the settings, which `accept` checks for the roles. Must be called
/// within a tokio runtime.
pub fn prepare(
    file: Option<&Path>,
    accept: impl FnOnce(&Config) -> Result<(), ConfigError>,
) -> Result<Start, StartError> {
    // Some systems hand out pages of 2 MB without a request; the allocator does not request them. Not
    // every kernel supports the option.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    init_logs(None);
    // Before anything slow: until then SIGHUP ends the process.
    let reload = Reload::listen(file.map(Path::to_path_buf));
    let shutdown = shutdown_on_signals();
    survive_size_limit();
    for warning in unknown_in_environment() {
        tracing::warn!("{warning}");
    }
    let (effective, ()) = Effective::accepted_from_environment(file, accept)?;
    let effective = Arc::new(effective);
    let config = effective.config.clone();
    let reload = match reload {
        Ok(reload) => Some((reload, effective)),
        Err(error) => {
            tracing::warn!(%error, "cannot handle SIGHUP: changed settings need a restart");
            None
        }
    };
    Ok(Start {
        config,
        shutdown,
        reload,
    })
}

/// A file that may not grow (`ulimit -f`, `LimitFSIZE=`) is an error of its write, like a full disk: by default the signal
/// ends the process without a word.
fn survive_size_limit() {
    use tokio::signal::unix::{SignalKind, signal};
    const SIGXFSZ: i32 = 25;
    let _ = signal(SignalKind::from_raw(SIGXFSZ));
}

/// A token that SIGINT and SIGTERM cancel. Must be called within a tokio runtime; from then on
/// neither signal ends the process by itself.
pub fn shutdown_on_signals() -> CancellationToken {
    use tokio::signal::unix::{Signal, SignalKind, signal};
    async fn received(signal: std::io::Result<Signal>) {
        match signal {
            Ok(mut signal) => drop(signal.recv().await),
            // Without a handler the system's default applies: the signal ends the process.
            Err(_) => std::future::pending().await,
        }
    }
    let (interrupt, terminate) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    );
    let token = CancellationToken::new();
    let cancelled = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = received(interrupt) => {}
            () = received(terminate) => {}
        }
        tracing::info!("stopping; finishing work in progress");
        cancelled.cancel();
    });
    token
}
