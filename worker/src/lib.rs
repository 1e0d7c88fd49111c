//! revwatch's worker: reads deliveries batch by batch, merges them into entities, commits, and only
//! then acknowledges.
//!
//! [`batch`] decides purely what a batch changes; [`partition`] is the loop around it;
//! [`membership`] assigns partitions to the live workers; [`recovery`] replays the archive after
//! the store lost data, [`conversion`] makes the state of an older version this version's, and
//! `maintenance` starts both and applies pauses; `lost` compares the archive with what was applied; [`resolver`] fetches
//! objects from Stripe's API that events only named; [`backfill`] lists past events there and
//! publishes them to the queue.
//!
//! Invariant: a delivery is acknowledged only after its commit is durable, or after it is durable
//! in the dead-letter queue and counted there.

mod applied;
mod archive_gaps;
pub mod backfill;
pub mod batch;
mod batch_telemetry;
mod concurrency;
pub mod conversion;
mod guarded;
mod lost;
mod maintenance;
pub mod membership;
mod other_mode;
pub mod partition;
pub mod recovery;
mod relays;
pub mod resolver;
mod standing;
#[cfg(test)]
mod test_worker;

use std::sync::Arc;
use std::time::Duration;

use revwatch_core::clock::{Clock, Ids};
use revwatch_core::event_settings::EventSettings;
use revwatch_core::mode::Mode;
use revwatch_runtime::admin::Check;
use revwatch_runtime::backend::Backend;
use revwatch_runtime::config::WorkerConfig;
use revwatch_runtime::process::Process;
use revwatch_runtime::reload::Reloadable;
use revwatch_runtime::supervise::Supervisor;
use revwatch_runtime::telemetry::{Metrics, Tracer};
use revwatch_storage::failure_log::FailureLog;
use revwatch_storage::ports::{Coordination, EventQueue, HoldingQueue, StateStore, StoreError};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::archive_gaps::GapWatch;
pub use self::concurrency::BatchPermits;
use self::lost::Comparison;
use self::maintenance::Maintenance;
use self::membership::Share;
pub use self::other_mode::OtherModeCounts;
use self::partition::Partition;
use self::resolver::Resolver;
use self::standing::{Movement, Seen, Standing};

/// What a worker needs.
#[derive(Clone)]
pub struct Worker {
    /// The source of deliveries.
    pub queue: Arc<dyn EventQueue>,
    /// The store of all state.
    pub store: Arc<dyn StateStore>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Names of this worker and its recoveries.
    pub ids: Arc<dyn Ids>,
    /// Batch size and membership.
    pub config: WorkerConfig,
    /// Which events are applied, of which realm they are, and how they are read.
    pub events: Reloadable<EventSettings>,
    /// Deliveries of the other mode, for the log.
    pub other_mode: OtherModeCounts,
    /// The process's metrics.
    pub metrics: Metrics,
    /// Exports spans.
    pub tracer: Tracer,
    /// Passes while the store confirms that this worker is alive, and no partition stands still.
    pub ready: Check,
    /// Restarts tasks that panic.
    pub tasks: Supervisor,
    /// Limits the batches processed at the same time.
    pub batch_permits: BatchPermits,
    /// Fetches objects from Stripe's API. `None` disables it.
    pub resolver: Option<Arc<Resolver>>,
}

/// Why the worker cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The HTTPS client for Stripe's API.
    #[error(
        "cannot set up HTTPS for Stripe's API: {0}. Are CA certificates installed (Debian: ca-certificates)?"
    )]
    Tls(#[from] reqwest::Error),
}

impl Worker {
    /// Creates a worker from the configuration of `process`, on `backend`.
    pub fn of(process: &Process, backend: &Backend) -> Result<Self, StartError> {
        Ok(Self {
            queue: backend.queue.clone(),
            store: backend.store.clone(),
            clock: process.clock.clone(),
            ids: process.ids.clone(),
            config: process.config.worker.clone(),
            events: events(process),
            other_mode: OtherModeCounts::default(),
            metrics: process.metrics.clone(),
            tracer: process.tracer.clone(),
            ready: process.readiness.check("worker"),
            tasks: process.tasks.clone(),
            batch_permits: BatchPermits::default(),
            resolver: Some(Arc::new(Resolver::of(process, backend)?)),
        })
    }
}

/// A reload takes over the endpoints' modes, and new endpoints. The rest needs a restart: the state of
/// before would not fit.
fn events(process: &Process) -> Reloadable<EventSettings> {
    let events = Reloadable::new(process.config.event_settings());
    let reloaded = events.clone();
    process.on_reload(move |config| {
        let events = reloaded.clone();
        let mut new = EventSettings::clone(&events.get());
        let deployment = new.modes.deployment;
        new.modes = config.modes();
        new.modes.deployment = deployment;
        let changed = new.realms.add(config.realms());
        if !changed.is_empty() {
            tracing::warn!(
                "the realm of endpoint {} has changed, which a reload does not take over: restart the workers, then run \
                 `revwatch rebuild --yes`",
                changed.join(", ")
            );
        }
        Ok(Box::new(move || events.set(new)))
    });
    events
}

/// How many workers of this mode are alive.
pub async fn live_workers(store: &dyn Coordination, mode: Mode) -> Result<usize, StoreError> {
    let alive = store.members(&membership::group_of(mode)).await?;
    Ok(alive.len())
}

/// The mode of the workers that are alive, if there are any; `setting` is the one to ask for first.
pub async fn mode_of_workers(
    store: &dyn Coordination,
    setting: Mode,
) -> Result<Option<Mode>, StoreError> {
    for mode in [setting, setting.other()] {
        if live_workers(store, mode).await? > 0 {
            return Ok(Some(mode));
        }
    }
    Ok(None)
}

/// Works until `shutdown`, then finishes the batches in progress.
///
/// Partitions follow the membership: when it changes, this worker stops reading the partitions that
/// move to other workers and starts reading those that it gains. While the workers' views differ,
/// two may read one partition; entity versions in the commit make that safe.
pub async fn run(worker: Worker, shutdown: CancellationToken) {
    let name = membership::name_of(worker.ids.fresh(), worker.queue.place());
    let tasks = TaskTracker::new();
    let period = Duration::from_secs_f64((worker.config.member_seconds / 3.0).max(0.1));
    let ttl_ms = u64::try_from((period * 3).as_millis()).unwrap_or(u64::MAX);
    let group = membership::group_of(worker.events.get().modes.deployment);
    let mut owned: Vec<Option<CancellationToken>> = vec![None; worker.queue.partitions() as usize];
    let own = watch::Sender::new(Share::default());
    let known = watch::Sender::new(None);
    let pauses = known.subscribe();
    let (standing, failures) = (Standing::default(), FailureLog::default());
    let mut movement = Movement::default();
    let mut has_said_shared = false;
    let (maintained, owned_partitions) = (worker.clone(), own.subscribe());
    let of_maintenance = standing.clone();
    tasks.spawn(
        worker
            .tasks
            .clone()
            .keep("maintenance".into(), shutdown.clone(), move |stop| {
                Maintenance::new(maintained.clone(), owned_partitions.clone(), known.clone())
                    .reporting_to(of_maintenance.clone())
                    .run(stop)
            }),
    );
    let (comparing, share, pauses_known) = (worker.clone(), own.subscribe(), pauses.clone());
    let begin = move |stop| {
        Comparison::new(comparing.clone(), share.clone(), pauses_known.clone()).run(stop)
    };
    tasks.spawn(
        worker
            .tasks
            .clone()
            .keep("comparison".into(), shutdown.clone(), begin),
    );
    let (watching, share) = (worker.clone(), own.subscribe());
    let begin = move |stop| GapWatch::new(watching.clone(), share.clone()).run(stop);
    tasks.spawn(
        worker
            .tasks
            .clone()
            .keep("gaps of the archive".into(), shutdown.clone(), begin),
    );
    tracing::info!(worker = name, partitions = owned.len(), "worker started");
    if let Some(resolver) = worker.resolver.clone() {
        let begin = move |stop| resolver::run(resolver.clone(), stop);
        tasks.spawn(
            worker
                .tasks
                .clone()
                .keep("resolver".into(), shutdown.clone(), begin),
        );
    }
    while !shutdown.is_cancelled() {
        match worker
            .store
            .heartbeat(membership::GROUP, &name, ttl_ms)
            .await
        {
            Ok(alive) => {
                let now = Instant::now();
                let unready = shared_store(&alive, &name, &mut has_said_shared)
                    .or_else(|| standing.unready(now))
                    .or_else(|| movement.first(now));
                match unready {
                    None => worker.ready.pass(),
                    Some(reason) => worker.ready.fail(reason),
                }
                for (number, slot) in (0..).zip(owned.iter_mut()) {
                    match (
                        membership::owner(&alive, number) == Some(name.as_str()),
                        slot.take(),
                    ) {
                        (true, None) => {
                            tracing::info!(worker = name, partition = number, "partition started");
                            let stop = shutdown.child_token();
                            let (of_partition, pauses, mut panicked) =
                                (worker.clone(), pauses.clone(), false);
                            let standing = standing.clone();
                            let begin = move |stop| {
                                let partition =
                                    Partition::new(of_partition.clone(), number, pauses.clone());
                                partition
                                    .reporting_to(standing.clone())
                                    .run(std::mem::replace(&mut panicked, true), stop)
                            };
                            let name = format!("partition {number}");
                            tasks.spawn(worker.tasks.clone().keep(name, stop.clone(), begin));
                            *slot = Some(stop);
                        }
                        (true, running) => *slot = running,
                        (false, Some(stop)) => {
                            tracing::info!(
                                worker = name,
                                partition = number,
                                "partition moves to another worker"
                            );
                            stop.cancel();
                        }
                        (false, None) => {}
                    }
                }
                own.send_if_modified(|own| {
                    let now = Share {
                        partitions: (0..)
                            .zip(&owned)
                            .filter(|(_, slot)| slot.is_some())
                            .map(|(n, _)| n)
                            .collect(),
                        of_other_format: membership::of_other_format(&alive),
                    };
                    let changed = *own != now;
                    *own = now;
                    changed
                });
            }
            Err(error) => {
                worker.ready.fail("the store is unavailable");
                if let Some(earlier) = failures.admit(&error) {
                    tracing::warn!(%error, earlier, "cannot renew this worker's membership; keeping its partitions");
                }
            }
        }
        // A worker that is missing there for a moment is only missed by a command's check.
        let _ = worker.store.heartbeat(&group, &name, ttl_ms).await;
        let rests = pauses
            .borrow()
            .as_ref()
            .is_some_and(|pauses| pauses.is_everything_paused());
        worker.watch_queue(&mut movement, rests, period).await;
        worker.show_standing(&standing, &movement);
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(period) => {}
        }
    }
    tasks.close();
    tasks.wait().await;
    // The others take over immediately instead of waiting for the membership to expire.
    let leaving = async {
        let _ = worker.store.leave(membership::GROUP, &name).await;
        let _ = worker.store.leave(&group, &name).await;
    };
    let _ = tokio::time::timeout(Duration::from_secs(2), leaving).await;
    tracing::info!(worker = name, "worker stopped");
}

/// Why workers of another deployment make this one unready; the log says it once.
fn shared_store(alive: &[String], own: &str, has_said: &mut bool) -> Option<String> {
    let is_shared = membership::has_other_queue(alive, own);
    if is_shared && !*has_said {
        tracing::error!(
            "workers of another virtual host of RabbitMQ use this Redis: their state is mixed with this one's, and the \
             partitions that they have stand still here. Give each deployment a Redis, or a database of it, of its own \
             (REVWATCH_REDIS_URL), then run `revwatch rebuild --yes`"
        );
    }
    *has_said = is_shared;
    is_shared.then(|| "workers of another virtual host use this store, see the log".to_owned())
}

impl Worker {
    /// Updates the gauges of queue depth and dead letters, and notes whether waiting deliveries become fewer.
    async fn watch_queue(&self, movement: &mut Movement, rests: bool, within: Duration) {
        let counts = tokio::time::timeout(within, async {
            (
                self.queue.depth().await,
                self.queue.held_count(HoldingQueue::DeadLetters).await,
                self.store.health().await,
            )
        });
        let Ok((depth, dead, health)) = counts.await else {
            return;
        };
        if let (Ok(depth), Ok(health)) = (&depth, &health) {
            let found = depth.iter().zip(health);
            let found = found.map(|(depth, health)| Seen::new(*depth, health.high_watermark_ms));
            movement.see(found.collect(), rests, Instant::now());
        }
        for (partition, waiting) in depth.into_iter().flatten().enumerate() {
            let gauge = self
                .metrics
                .queue_depth
                .with_label_values(&[&partition.to_string()]);
            gauge.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        }
        if let Ok(dead) = dead {
            self.metrics
                .dead_letters
                .set(i64::try_from(dead).unwrap_or(i64::MAX));
        }
    }

    /// Updates the gauge of partitions that stand still.
    fn show_standing(&self, standing: &Standing, movement: &Movement) {
        let now = Instant::now();
        for (number, stands) in movement.stands(now) {
            let stands = stands.max(standing.of_partition(number, now));
            let gauge = self
                .metrics
                .partition_standing_seconds
                .with_label_values(&[&number.to_string()]);
            gauge.set(i64::try_from(stands.as_secs()).unwrap_or(i64::MAX));
        }
    }
}
