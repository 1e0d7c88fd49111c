//! Meets needs: fetches objects of which an event says only that they changed.
//!
//! [`agenda`] decides purely which object to fetch and when. The store is asked first, as [`stored`] decides,
//! then Stripe's API: [`api`] sends the requests. [`snapshot`] turns the response into an event, which
//! is published to the queue like any other. One process does this at a time: the holder of a lease.
//!
//! Invariant: this module keeps no state that must survive. The work to do is the open conditions
//! that are a [`Need`]; they close only when the object's state is applied. A holder may
//! therefore die at any time, and the next one fetches again.

pub mod agenda;
pub mod api;
mod items;
pub mod snapshot;
pub mod stored;
pub mod task;

use std::sync::Arc;
use std::time::Duration;

use revwatch_core::clock::{Clock, Ids};
use revwatch_core::condition::{ConditionKey, ConditionKind};
use revwatch_core::counters::{Bucket, Counters};
use revwatch_core::entity::Entity;
use revwatch_core::event::partition_of;
use revwatch_core::event_settings::refresh_endpoint;
use revwatch_core::mode::Mode;
use revwatch_core::need::Need;
use revwatch_core::realm::Realm;
use revwatch_core::redact;
use revwatch_runtime::backend::Backend;
use revwatch_runtime::config::{Config, ConfigError};
use revwatch_runtime::panics::catch;
use revwatch_runtime::process::Process;
use revwatch_runtime::telemetry::{Correlation, Metrics};
use revwatch_storage::failure_log::FailureLog;
use revwatch_storage::ports::{
    ChangeCursor, Commit, ConditionFeed, Coordination, Entities, Publish, ReadSet, StoreError,
};
use revwatch_stripe::StripeApi;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use self::agenda::{Agenda, Next, Outcome};
use self::api::FetchError;
use self::snapshot::{Snapshot, SnapshotError};
use self::stored::{Found, FromStore, Step};
use self::task::Task;
use crate::guarded::on_entity;

/// Fetches objects and publishes their state.
pub struct Resolver {
    /// The client of Stripe's API; `None` while no key is configured.
    pub api: watch::Receiver<Option<Arc<StripeApi>>>,
    /// Where answers are published.
    pub queue: Arc<dyn Publish>,
    /// One process holds the lease.
    pub leases: Arc<dyn Coordination>,
    /// Those that are open are the work to do.
    pub conditions: Arc<dyn ConditionFeed>,
    /// What is known of objects. It also counts failed requests.
    pub entities: Arc<dyn Entities>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Names of deliveries and of holders of the lease.
    pub ids: Arc<dyn Ids>,
    /// The process's metrics.
    pub metrics: Metrics,
    /// That of the key which the process was started with.
    pub realm: Realm,
    /// The deployment's mode.
    pub mode: Mode,
    /// The minimum time between the starts of two requests.
    pub pace: Duration,
    /// The lease's lifetime: a holder that does not renew it for this long is replaced.
    pub lease: Duration,
}

/// The name of the lease. Earlier versions, which fetch accounts only, take it too.
const LEASE: &str = "refresh";

/// How often to poll for changed conditions.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Requests in progress at the same time. Stripe limits these too; this many is far below its
/// limit. Source: <https://docs.stripe.com/rate-limits>.
const MAX_CONCURRENT: usize = 8;

/// How long the queue may take to confirm a publish.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(10);

impl Resolver {
    /// Creates a resolver from the configuration of `process`, on `backend`. Without a key of the
    /// deployment's mode it waits until a reload brings one.
    pub fn of(process: &Process, backend: &Backend) -> Result<Self, reqwest::Error> {
        let (clock, mode) = (process.clock.clone(), process.config.mode);
        let (first, warning) = usable_api(&process.config, mode, &clock)?;
        warn(warning.as_deref());
        let (keep, api) = watch::channel(first);
        process.on_reload(move |config| {
            let keep = keep.clone();
            // A reload with the same key does not interrupt running requests.
            let same = match &*keep.borrow() {
                None => config.stripe_secret_key.is_none(),
                Some(api) => api.matches(config),
            };
            if same {
                return Ok(Box::new(|| {}));
            }
            let (api, warning) = usable_api(config, mode, &clock)
                .map_err(|error| ConfigError::of(crate::StartError::Tls(error).to_string()))?;
            Ok(Box::new(move || {
                warn(warning.as_deref());
                drop(keep.send_replace(api));
            }))
        });
        let config = &process.config.worker;
        Ok(Self {
            api,
            queue: backend.queue.clone(),
            leases: backend.store.clone(),
            conditions: backend.store.clone(),
            entities: backend.store.clone(),
            clock: process.clock.clone(),
            ids: process.ids.clone(),
            metrics: process.metrics.clone(),
            realm: process.config.stripe_secret_key_realm.clone(),
            mode,
            pace: Duration::from_secs_f64(1.0 / config.refreshes_per_second),
            lease: Duration::from_secs_f64(config.member_seconds),
        })
    }
}

/// The client, unless the key is of the other mode: what it reads would be ignored. Then, what to say
/// about that.
fn usable_api(
    config: &Config,
    mode: Mode,
    clock: &Arc<dyn Clock>,
) -> Result<(Option<Arc<StripeApi>>, Option<String>), reqwest::Error> {
    Ok(match config.key_of_other_mode(mode) {
        Some(warning) => (None, Some(warning)),
        None => (StripeApi::of(config, clock.clone())?.map(Arc::new), None),
    })
}

fn warn(warning: Option<&str>) {
    if let Some(warning) = warning {
        tracing::warn!("{warning}");
    }
}

/// Resolves until `shutdown`. One process holds the lease; the others are standbys.
pub async fn run(resolver: Arc<Resolver>, shutdown: CancellationToken) {
    let holder = format!("resolver-{}", resolver.ids.fresh().simple());
    let (mut keys, failures) = (resolver.api.clone(), FailureLog::default());
    while !shutdown.is_cancelled() {
        let api = keys.borrow_and_update().clone();
        if let Err(error) = hold(&resolver, api.as_ref(), &mut keys, &holder, &shutdown).await
            && let Some(earlier) = failures.admit(&error)
        {
            tracing::warn!(%error, earlier, "the resolver restarts after an error");
        }
        let pause = resolver.lease / 3;
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = changed(&mut keys) => keys.mark_changed(),
            () = tokio::time::sleep(pause) => {}
        }
    }
    resolver.release(&holder).await;
}

/// Waits for a change of the key. Pends forever if the sender is gone: the process does not reload.
async fn changed(keys: &mut watch::Receiver<Option<Arc<StripeApi>>>) {
    if keys.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Takes the lease and works until it is lost, something fails, the key changes, or `shutdown`.
/// Requests in progress are then dropped: the next holder fetches again.
async fn hold(
    resolver: &Arc<Resolver>,
    api: Option<&Arc<StripeApi>>,
    keys: &mut watch::Receiver<Option<Arc<StripeApi>>>,
    holder: &str,
    shutdown: &CancellationToken,
) -> Result<(), StoreError> {
    if !resolver.renew(holder).await? {
        return Ok(());
    }
    tracing::info!(holder, "this process now fetches what events only name");
    let started = tokio::time::Instant::now();
    let (mut agenda, mut cursor, mut scan) = (
        Agenda::beginning_at(resolver.clock.now_s()),
        ChangeCursor::default(),
        true,
    );
    let mut fetches: JoinSet<(Task, Outcome)> = JoinSet::new();
    let mut poll = interval(POLL_INTERVAL);
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut renewed, mut next_request_at) = (Instant::now(), Duration::ZERO);
    loop {
        let now = started.elapsed();
        let next = if fetches.len() >= MAX_CONCURRENT {
            Next::Idle
        } else {
            agenda.next(now, next_request_at)
        };
        let wait = match next {
            Next::Look(task) => {
                let (resolver, api) = (resolver.clone(), api.cloned());
                fetches.spawn(async move {
                    let outcome = resolver.look(api.as_deref(), &task).await;
                    (task, outcome)
                });
                continue;
            }
            Next::Fetch(task) => {
                next_request_at = now + resolver.pace;
                let (resolver, api) = (resolver.clone(), api.cloned());
                fetches.spawn(async move {
                    let outcome = resolver.fetch(api.as_deref(), &task).await;
                    (task, outcome)
                });
                continue;
            }
            Next::Wait(at) => Some(started + at),
            Next::Idle => None,
        };
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(()),
            () = changed(keys) => {
                keys.mark_changed();
                tracing::info!("the key for Stripe's API changed: restarting with the new key");
                return Ok(());
            }
            Some(ended) = fetches.join_next() => match ended {
                Ok((task, outcome)) => agenda.ended(&task, outcome, started.elapsed()),
                // The object would stay in progress forever, so restart as after a panic of this
                // task.
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(error) => return Err(StoreError::Unavailable(error.into())),
                },
            },
            _ = poll.tick() => {
                if renewed.elapsed() > resolver.lease / 3 {
                    if !resolver.renew(holder).await? {
                        return Err(StoreError::Fenced);
                    }
                    renewed = Instant::now();
                }
                scan |= agenda.needs_scan(started.elapsed());
                scan |= resolver.follow(&mut agenda, &mut cursor, started, scan).await?;
                if scan {
                    let open = resolver.conditions.conditions().await?;
                    agenda.on_scan(&open, started.elapsed());
                    scan = false;
                }
            }
            () = sleep_until(wait.unwrap_or(started)), if wait.is_some() => {}
        }
    }
}

impl Resolver {
    async fn release(&self, holder: &str) {
        let _ =
            tokio::time::timeout(Duration::from_secs(2), self.leases.release(LEASE, holder)).await;
    }

    async fn renew(&self, holder: &str) -> Result<bool, StoreError> {
        let ttl_ms = u64::try_from(self.lease.as_millis()).unwrap_or(u64::MAX);
        Ok(self.leases.lease(LEASE, holder, ttl_ms).await?.is_some())
    }

    /// Reads the changes since `cursor`; the cost is proportional to the changes. Returns whether
    /// some are no longer kept. Before a scan, changes are skipped and only the cursor advances.
    async fn follow(
        &self,
        agenda: &mut Agenda,
        cursor: &mut ChangeCursor,
        started: tokio::time::Instant,
        scan: bool,
    ) -> Result<bool, StoreError> {
        const PAGE: usize = 1000;
        let mut gap = false;
        loop {
            let found = self.conditions.condition_changes(cursor, PAGE).await?;
            // An adapter may return less than a page although there is more.
            let caught_up = found.changes.is_empty() && found.cursor == *cursor;
            *cursor = found.cursor;
            gap |= found.gap;
            if !scan && !gap {
                agenda.on_changes(&found.changes, started.elapsed());
            }
            if caught_up {
                return Ok(gap);
            }
        }
    }

    /// Meets a need from the store, and says how that ended.
    async fn look(&self, api: Option<&StripeApi>, task: &Task) -> Outcome {
        match self.ask_store(task).await {
            Ok(FromStore::Met) => self.ended(task, Ok(Outcome::Known), &[]),
            Ok(FromStore::Events(snapshots)) => match self.publish_all(snapshots, task).await {
                Ok(events) => self.ended(task, Ok(Outcome::Found), &events),
                Err(error) => self.ended(task, Err(error), &[]),
            },
            Ok(FromStore::Unknown) if self.of_key(api, task).is_some() => Outcome::NotStored,
            Ok(FromStore::Unknown) => self.ended(task, Err(FetchError::no_key()), &[]),
            Err(error) => self.ended(task, Err(error), &[]),
        }
    }

    /// Meets a need from Stripe's API, and says how that ended.
    async fn fetch(&self, api: Option<&StripeApi>, task: &Task) -> Outcome {
        let found = match self.of_key(api, task) {
            Some(api) => snapshots_of(api, task).await,
            None => Err(FetchError::no_key()),
        };
        let published = match found {
            Ok(snapshots) => self.publish_all(snapshots, task).await,
            Err(error) => {
                if let Outcome::Refused { .. } | Outcome::Failed = error.outcome {
                    self.count_error(&task.need.id).await;
                }
                Err(error)
            }
        };
        match published {
            Ok(events) => self.ended(task, Ok(Outcome::Refreshed), &events),
            Err(error) => self.ended(task, Err(error), &[]),
        }
    }

    /// Logs and counts how it ended, and the events that were published.
    fn ended(&self, task: &Task, ended: Result<Outcome, FetchError>, events: &[String]) -> Outcome {
        let Need {
            kind, id, account, ..
        } = &task.need;
        let Some(cause) = task.newest() else {
            return Outcome::Known;
        };
        let (object, named_by) = (redact::id(id), redact::id(&cause.event_id));
        let account = account.as_deref().map(redact::id).unwrap_or_default();
        let outcome = match ended {
            Ok(outcome) => {
                let message = match outcome {
                    Outcome::Found => "object found in the store",
                    _ => "object fetched",
                };
                for event_id in events {
                    tracing::info!(kind = kind.as_str(), %object, %account, event_id, trace_id = %Correlation::of(event_id), %named_by, "{message}");
                }
                outcome
            }
            Err(FetchError {
                outcome: Outcome::NoKey,
                ..
            }) => Outcome::NoKey,
            Err(FetchError { outcome, reason }) => {
                let trace_id = Correlation::of(&cause.event_id);
                tracing::warn!(kind = kind.as_str(), %object, %account, outcome = outcome.as_str(), reason, %named_by, %trace_id, "object not fetched");
                outcome
            }
        };
        self.metrics
            .refreshes
            .with_label_values(&[outcome.as_str()])
            .inc();
        outcome
    }

    /// Publishes what meets a need, and returns the events.
    async fn publish_all(
        &self,
        snapshots: Vec<Snapshot>,
        task: &Task,
    ) -> Result<Vec<String>, FetchError> {
        let mut events = Vec::with_capacity(snapshots.len());
        for snapshot in snapshots {
            events.push(self.publish(snapshot, &task.need.realm).await?);
        }
        Ok(events)
    }

    /// The client, if its key is of the realm of the object: others are not its platform's. A coupon of the past is
    /// not in the object as it is now.
    fn of_key<'a>(&self, api: Option<&'a StripeApi>, task: &Task) -> Option<&'a StripeApi> {
        let is_of_the_past = |key: &ConditionKey| key.kind == ConditionKind::CouponNeeded;
        let is_asked = !task.waiting.keys().all(is_of_the_past);
        api.filter(|_| is_asked && task.need.realm == self.realm)
    }

    /// Reads what [`stored`] asks for, until it has decided.
    async fn ask_store(&self, task: &Task) -> Result<FromStore, FetchError> {
        let livemode = Some(self.mode.livemode());
        let mut found = Found::new();
        loop {
            match checked(|| stored::from_store(task, livemode, &found))? {
                Step::Decided(decided) => return Ok(decided),
                Step::Read(needs) => {
                    for need in needs {
                        let entity = self.read(&need).await?;
                        found.insert(need, entity);
                    }
                }
            }
        }
    }

    /// What the store has of the object.
    async fn read(&self, need: &Need) -> Result<Option<Entity>, FetchError> {
        let key = need.key();
        let partition = partition_of(need.partition_key(), self.queue.partitions());
        let read_set = ReadSet {
            entities: vec![key.clone()],
            ..ReadSet::default()
        };
        let found = self.entities.read(partition, &read_set).await;
        let mut found = found.map_err(|error| FetchError::failed(error.to_string()))?;
        let entity = found.entities.pop().flatten().and_then(|found| {
            // What cannot be decoded is reported where it is merged.
            on_entity(&key, || Entity::decode(&key, &found.body))
                .and_then(|entity| entity)
                .ok()
        });
        Ok(entity)
    }

    /// Publishes an event into its partition.
    async fn publish(&self, snapshot: Snapshot, realm: &Realm) -> Result<String, FetchError> {
        let endpoint = refresh_endpoint(realm, &self.realm);
        let event_id = snapshot.event_id.clone();
        let (id, now_ms) = (self.ids.fresh(), self.clock.now_ms());
        let delivery = snapshot
            .delivery(endpoint, self.queue.partitions(), id, now_ms)
            .map_err(|error| FetchError::refused(error.to_string()))?;
        match tokio::time::timeout(PUBLISH_TIMEOUT, self.queue.publish(delivery)).await {
            Ok(Ok(())) => Ok(event_id),
            Ok(Err(error)) => Err(FetchError::failed(error.to_string())),
            Err(_) => Err(FetchError::failed("the queue did not confirm in time")),
        }
    }

    /// Counts a request that Stripe's API did not serve, so that rules can evaluate the error rate.
    /// If the count cannot be stored, it is dropped: it is not state.
    async fn count_error(&self, object: &str) {
        let (now_s, id) = (self.clock.now_s(), self.ids.fresh());
        let mut counters = Counters::default();
        counters.add(Bucket::hour_of(now_s), &["events", "api_error"], 1);
        let partition = partition_of(object, self.queue.partitions());
        let commit = Commit::of_counters(partition, counters, now_s, id);
        if let Err(error) = self.entities.commit(&commit).await {
            tracing::warn!(object = %redact::id(object), %error, "cannot count a failed request");
        }
    }
}

/// Fetches the object and turns the response into events.
async fn snapshots_of(api: &StripeApi, task: &Task) -> Result<Vec<Snapshot>, FetchError> {
    let Some(cause) = task.newest() else {
        return Ok(Vec::new());
    };
    let response = api::object(api, &task.need).await?;
    let observed_at_s = snapshot::observed_at(
        cause.since_s,
        response.sent_s,
        response.date_s,
        response.took,
    );
    let livemode = api.mode.map(Mode::livemode);
    checked(|| snapshot::events(task, observed_at_s, livemode, &response.body))
}

/// A bug at one object must not stop the others.
fn checked<T>(snapshots: impl FnOnce() -> Result<T, SnapshotError>) -> Result<T, FetchError> {
    catch(snapshots)
        .map_err(|panic| FetchError::refused(panic.to_string()))?
        .map_err(|error| FetchError::refused(error.to_string()))
}
