//! Asks Stripe's API how accounts stand of which a thin event told only that they changed.
//!
//! [`agenda`] decides purely whom to ask about and when; [`api`] asks; [`snapshot`] makes an event of the
//! answer, which goes the way of all events from the queue on. Of all workers one does this: the holder of
//! a lease.
//!
//! Invariant: nothing is remembered here that must not be lost. What needs doing are the open conditions of
//! kind `account_stale`, and they close only when an account's state is applied; so a holder may die at any
//! time, and the next one asks again.

pub mod agenda;
pub mod api;
pub mod snapshot;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;
use revwatch_core::counters::{Bucket, Counters};
use revwatch_core::event::{Event, day_of, partition_of};
use revwatch_core::redact;
use revwatch_runtime::backend::Backend;
use revwatch_runtime::config::ConfigError;
use revwatch_runtime::process::Process;
use revwatch_runtime::telemetry::{Correlation, Metrics};
use revwatch_storage::ports::{
    ChangeCursor, Commit, DedupeKey, Delivery, EventQueue, StateStore, StoreError,
};
use revwatch_stripe::StripeApi;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use self::agenda::{Agenda, Next, Outcome, ThinMention};
use self::api::RefreshError;
use self::snapshot::Snapshot;

/// What refreshing needs.
pub struct Refresher {
    /// `None` without a key.
    api: watch::Receiver<Option<Arc<StripeApi>>>,
    queue: Arc<dyn EventQueue>,
    store: Arc<dyn StateStore>,
    metrics: Metrics,
    /// Between the beginnings of two requests.
    pace: Duration,
    /// A holder that has not renewed its lease for this long is replaced.
    lease: Duration,
}

/// The name of the lease.
const LEASE: &str = "refresh";

/// The endpoint that deliveries of fetched accounts bear.
const ENDPOINT: &str = "refresh";

/// How often to look for what changed.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Requests under way at once; Stripe limits these too, and less than this is never a problem.
/// Source: <https://docs.stripe.com/rate-limits>.
const MAX_CONCURRENT: usize = 8;

/// A queue that does not confirm by then is not well.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(10);

impl Refresher {
    /// As `process` is configured, on `backend`. Without a key it waits for one.
    pub fn of(process: &Process, backend: &Backend) -> Result<Self, reqwest::Error> {
        let first = StripeApi::of(&process.config)?.map(Arc::new);
        let (keep, api) = watch::channel(first);
        process.on_reload(move |config| {
            let keep = keep.clone();
            // Requests go on with the key that is still the same.
            let same = match &*keep.borrow() {
                None => config.stripe_secret_key.is_none(),
                Some(api) => api.is_of(config),
            };
            if same {
                return Ok(Box::new(|| {}));
            }
            let api = StripeApi::of(config)
                .map_err(|error| ConfigError::of(crate::StartError::Tls(error).to_string()))?;
            Ok(Box::new(move || drop(keep.send_replace(api.map(Arc::new)))))
        });
        let config = &process.config.worker;
        Ok(Self {
            api,
            queue: backend.queue.clone(),
            store: backend.store.clone(),
            metrics: process.metrics.clone(),
            pace: Duration::from_secs_f64(1.0 / config.refreshes_per_second),
            lease: Duration::from_secs_f64(config.member_seconds),
        })
    }
}

/// Refreshes until `shutdown`. Of several processes one works, the others stand by.
pub async fn run(refresher: Arc<Refresher>, shutdown: CancellationToken) {
    let holder = format!("refresh-{}", uuid::Uuid::now_v7().simple());
    let mut keys = refresher.api.clone();
    while !shutdown.is_cancelled() {
        let api = keys.borrow_and_update().clone();
        let pause = match api {
            Some(api) => {
                if let Err(error) = hold(&refresher, &api, &mut keys, &holder, &shutdown).await {
                    tracing::warn!(%error, "refreshing accounts begins anew");
                }
                refresher.lease / 3
            }
            None => {
                refresher.release(&holder).await;
                Duration::MAX
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = changed(&mut keys) => keys.mark_changed(),
            () = tokio::time::sleep(pause) => {}
        }
    }
    refresher.release(&holder).await;
}

/// Another key, or none. Nobody else changes it in a process that reads no settings anew.
async fn changed(keys: &mut watch::Receiver<Option<Arc<StripeApi>>>) {
    if keys.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Takes the lease and works until it is lost, something fails, the key changes, or `shutdown`. Requests under
/// way are then given up: whoever comes next asks again.
async fn hold(
    refresher: &Arc<Refresher>,
    api: &Arc<StripeApi>,
    keys: &mut watch::Receiver<Option<Arc<StripeApi>>>,
    holder: &str,
    shutdown: &CancellationToken,
) -> Result<(), StoreError> {
    if !refresher.renew(holder).await? {
        return Ok(());
    }
    tracing::info!(holder, "this process refreshes accounts");
    let began = tokio::time::Instant::now();
    let (mut agenda, mut cursor, mut scan) = (Agenda::default(), ChangeCursor::default(), true);
    let mut fetches: JoinSet<(ThinMention, Outcome)> = JoinSet::new();
    let mut looks = interval(POLL_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut renewed, mut rested) = (Instant::now(), Duration::ZERO);
    loop {
        let now = began.elapsed();
        let next = if fetches.len() >= MAX_CONCURRENT {
            Next::Idle
        } else if now < rested {
            Next::Wait(rested)
        } else {
            agenda.next(now)
        };
        let wait = match next {
            Next::Fetch(told) => {
                rested = now + refresher.pace;
                let (refresher, api) = (refresher.clone(), api.clone());
                fetches.spawn(async move {
                    let outcome = refresher.refresh(&api, &told).await;
                    (told, outcome)
                });
                continue;
            }
            Next::Wait(at) => Some(began + at),
            Next::Idle => None,
        };
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(()),
            () = changed(keys) => {
                keys.mark_changed();
                tracing::info!("another key for Stripe's API: accounts are asked for with it");
                return Ok(());
            }
            Some(ended) = fetches.join_next() => match ended {
                Ok((told, outcome)) => agenda.ended(told, outcome, began.elapsed()),
                // The account would stay under way for good: begin again, as after a panic of this task.
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(error) => return Err(StoreError::Unavailable(error.into())),
                },
            },
            _ = looks.tick() => {
                if renewed.elapsed() > refresher.lease / 3 {
                    if !refresher.renew(holder).await? {
                        return Err(StoreError::Fenced);
                    }
                    renewed = Instant::now();
                }
                scan |= agenda.needs_scan();
                scan |= refresher.follow(&mut agenda, &mut cursor, began, scan).await?;
                if scan {
                    let open = refresher.store.conditions().await?;
                    agenda.on_scan(&open, began.elapsed());
                    scan = false;
                }
            }
            () = sleep_until(wait.unwrap_or(began)), if wait.is_some() => {}
        }
    }
}

impl Refresher {
    async fn release(&self, holder: &str) {
        let _ =
            tokio::time::timeout(Duration::from_secs(2), self.store.release(LEASE, holder)).await;
    }

    async fn renew(&self, holder: &str) -> Result<bool, StoreError> {
        let ttl_ms = u64::try_from(self.lease.as_millis()).unwrap_or(u64::MAX);
        Ok(self.store.lease(LEASE, holder, ttl_ms).await?.is_some())
    }

    /// Reads the changes since `cursor`: costs what changed. Returns whether some are no longer kept. What
    /// comes before a scan is read over, only to know where to go on.
    async fn follow(
        &self,
        agenda: &mut Agenda,
        cursor: &mut ChangeCursor,
        began: tokio::time::Instant,
        scan: bool,
    ) -> Result<bool, StoreError> {
        const PAGE: usize = 1000;
        let mut gap = false;
        loop {
            let found = self.store.condition_changes(cursor, PAGE).await?;
            // An adapter may give less than a page although there is more.
            let caught_up = found.changes.is_empty() && found.cursor == *cursor;
            *cursor = found.cursor;
            gap |= found.gap;
            if !scan && !gap {
                agenda.on_changes(&found.changes, began.elapsed());
            }
            if caught_up {
                return Ok(gap);
            }
        }
    }

    /// Fetches one account and puts it into the queue.
    async fn refresh(&self, api: &StripeApi, told: &ThinMention) -> Outcome {
        let account = told.account.as_str();
        let outcome = match self.fetch(api, told).await {
            Ok(event_id) => {
                let (account, told_by) = (redact::id(account), redact::id(&told.event_id));
                tracing::info!(%account, event_id, trace_id = %Correlation::of(&event_id), %told_by, "account refreshed");
                Outcome::Refreshed
            }
            Err(RefreshError { outcome, reason }) => {
                let (word, account, told_by) = (
                    outcome.as_str(),
                    redact::id(account),
                    redact::id(&told.event_id),
                );
                let trace_id = Correlation::of(&told.event_id);
                tracing::warn!(%account, outcome = word, reason, %told_by, %trace_id, "account not refreshed");
                outcome
            }
        };
        self.metrics
            .refreshes
            .with_label_values(&[outcome.as_str()])
            .inc();
        outcome
    }

    async fn fetch(&self, api: &StripeApi, told: &ThinMention) -> Result<String, RefreshError> {
        let asked = ask(api, told).await;
        if let Err(RefreshError {
            outcome: Outcome::Refused { .. } | Outcome::Failed,
            ..
        }) = &asked
        {
            self.count_error(&told.account).await;
        }
        let made = asked?;
        let partition = Event::parse(made.body.as_bytes())
            .map(|event| event.partition(self.queue.partitions()));
        let delivery = Delivery {
            id: uuid::Uuid::now_v7(),
            event_id: made.event_id.clone(),
            event_type: snapshot::KIND.to_owned(),
            partition: partition.map_err(|error| RefreshError::refused(error.to_string()))?,
            endpoint: ENDPOINT.to_owned(),
            received_ms: Timestamp::now().as_millisecond(),
            traceparent: None,
            body: Bytes::from(made.body),
        };
        match tokio::time::timeout(PUBLISH_TIMEOUT, self.queue.publish(delivery)).await {
            Ok(Ok(())) => Ok(made.event_id),
            Ok(Err(error)) => Err(RefreshError {
                outcome: Outcome::Failed,
                reason: error.to_string(),
            }),
            Err(_) => Err(RefreshError {
                outcome: Outcome::Failed,
                reason: "the queue does not confirm".to_owned(),
            }),
        }
    }

    /// Counts a request that Stripe's API did not serve, so that rules can judge how often that is. The mark
    /// is there for this commit alone: sent again, it counts nothing more. What cannot be counted is not
    /// state, and is left.
    async fn count_error(&self, account: &str) {
        let (now_s, id) = (Timestamp::now().as_second(), uuid::Uuid::now_v7());
        let mut counters = Counters::default();
        counters.add(Bucket::hour_of(now_s), &["events", "api_error"], 1);
        let commit = Commit {
            partition: partition_of(account, self.queue.partitions()),
            dedupe_keys: vec![DedupeKey {
                day: day_of(now_s),
                key: id.simple().to_string(),
                delivery: id,
            }],
            counters,
            ..Commit::default()
        };
        if let Err(error) = self.store.commit(&commit).await {
            tracing::warn!(account = %redact::id(account), %error, "a failed request is not counted");
        }
    }
}

/// Asks Stripe, and makes an event of the answer.
async fn ask(api: &StripeApi, told: &ThinMention) -> Result<Snapshot, RefreshError> {
    let answer = api::account(api, &told.account).await?;
    let seen_at_s = snapshot::seen_at(told.told_s, answer.sent_s, answer.date_s, answer.took);
    snapshot::event(told, seen_at_s, api.livemode, &answer.body)
        .map_err(|error| RefreshError::refused(error.to_string()))
}
