//! The evaluator: leads while it holds the lease, ticks, and dispatches messages in between.
//!
//! `alerting/src/evaluator/lease.rs` takes and keeps the lease, `alerting/src/evaluator/completeness.rs` refuses to work
//! on a part of the data, `alerting/src/evaluator/tick.rs` reads what a tick
//! requires and writes what the engine decides, `alerting/src/evaluator/rivalry.rs` notices an evaluator of another store.
//!
//! Invariant: decisions are written before messages are sent; a process that has lost the lease stops.

mod completeness;
pub(crate) mod error;
pub(crate) mod lease;
mod rivalry;
#[cfg(test)]
mod tests;
mod tick;

use std::time::Duration;

use revwatch_storage::failure_log::FailureLog;
use revwatch_storage::ports::{Fence, WORKERS};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use self::error::EvaluatorError;
use self::lease::{LEASE, LeaseGuard};
use self::tick::WRITE_BATCH;
use crate::Alerting;
use crate::dispatch::InFlight;
use crate::engine::{self, Documents, Engine};
use crate::journal_sync::{self, JournalWriter};
use crate::notify::ATTEMPT_TIMEOUT;
use crate::rivals::Rivals;
use crate::settings::PendingSettings;

/// What this process remembers whether it holds the lease or not.
struct ProcessState {
    /// When a standby last showed the KPIs: Prometheus scrapes it too.
    kpis_shown: Option<Instant>,
    attempts: InFlight,
    journal: JournalWriter,
    rivals: Rivals,
    /// New settings that wait to be applied.
    new_settings: PendingSettings,
    /// New settings were applied, and no notifier was tried with them yet.
    retry_broken: bool,
}

/// A standby shows the KPIs only this often, because they read 60 days of counters.
const KPI_INTERVAL: Duration = Duration::from_secs(10);
/// How long an evaluator that stops waits for the attempts under way. The next evaluator need not search for their
/// messages.
const LAST_ATTEMPTS_WITHIN: Duration = Duration::from_secs(5);

/// Leads whenever the lease is free, until `shutdown`.
pub(crate) async fn evaluate(alerting: &mut Alerting, shutdown: &CancellationToken) {
    let holder = format!("alerting-{}", alerting.ids.fresh().simple());
    tracing::info!(holder, rules = alerting.rules.len(), "alerting started");
    let mut state = ProcessState {
        kpis_shown: None,
        attempts: InFlight::new(),
        journal: JournalWriter::default(),
        rivals: Rivals::new(&holder, alerting.store_name()),
        new_settings: std::mem::take(&mut alerting.new_settings),
        retry_broken: false,
    };
    let (mut waits, failures) = (false, FailureLog::default());
    let mut incomplete = Incomplete::default();
    while !shutdown.is_cancelled() {
        alerting
            .turns
            .note(Instant::now(), alerting.between_ticks());
        if let Some(settings) = state.new_settings.take() {
            alerting.take_over(settings);
            state.retry_broken = true;
        }
        let ended = alerting.lead(&holder, &mut state, shutdown).await;
        let is_incomplete = matches!(ended, Err(EvaluatorError::Incomplete));
        alerting.report(ended, &mut waits, &failures);
        alerting.miss_workers(is_incomplete, &mut incomplete).await;
        alerting.metrics.alerting_waits_for_deliveries.set(0);
        alerting.metrics.alerting_other_stores.set(0);
        // The next start searches destinations for messages whose attempts had no result: they must have arrived by then,
        // or never will.
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            () = state.attempts.end() => {}
        }
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            () = state.new_settings.changed() => {}
            () = tokio::time::sleep(alerting.between_ticks()) => {}
        }
    }
    // The same is true of another process: the lease outlives the attempts under way.
    if !state.attempts.is_any_pending() {
        let release = alerting.store.release(LEASE, &holder);
        let _ = tokio::time::timeout(Duration::from_secs(2), release).await;
    }
    tracing::info!(holder, "alerting stopped");
}

/// How long no part of the state could be trusted.
#[derive(Default)]
struct Incomplete {
    since: Option<Instant>,
    has_said: bool,
}

/// So long a worker may take to start, and to make itself known.
const WORKERS_MISSED_AFTER: Duration = Duration::from_mins(1);

impl Alerting {
    /// A store that no worker fills stays incomplete for ever, and nothing is ever sent: it is probably another one than
    /// that of the workers.
    async fn miss_workers(&self, is_incomplete: bool, incomplete: &mut Incomplete) {
        if !is_incomplete {
            *incomplete = Incomplete::default();
            return;
        }
        let now = Instant::now();
        let since = *incomplete.since.get_or_insert(now);
        let workers = self.store.members(WORKERS).await;
        let has_none = workers.is_ok_and(|workers| workers.is_empty());
        if now.duration_since(since) < WORKERS_MISSED_AFTER || !has_none {
            return;
        }
        self.ready
            .fail("no worker uses this store, so nothing is evaluated: see the log");
        if !std::mem::replace(&mut incomplete.has_said, true) {
            tracing::error!(
                "no worker uses this store, so its state stays incomplete and no rule is evaluated: start a worker, or give \
                 all processes the same REVWATCH_REDIS_URL, with the same database"
            );
        }
    }

    /// Why this process does not lead any more; `waits`: whether that was logged before.
    fn report(&self, ended: Result<(), EvaluatorError>, waits: &mut bool, failures: &FailureLog) {
        let Err(error) = ended else {
            *waits = false;
            return;
        };
        match error.unready() {
            Some(reason) => self.ready.fail(reason),
            None => self.ready.pass(),
        }
        if !matches!(error, EvaluatorError::Incomplete) {
            if let Some(earlier) = failures.admit(&error) {
                tracing::warn!(%error, earlier, "alerting restarts");
            }
        } else if !std::mem::replace(waits, true) {
            // One log line is enough.
            tracing::warn!(%error, "alerting waits");
        }
    }

    /// Takes the lease and works until it is lost, something fails, new settings arrive, or `shutdown`.
    async fn lead(
        &self,
        holder: &str,
        state: &mut ProcessState,
        shutdown: &CancellationToken,
    ) -> Result<(), EvaluatorError> {
        let ProcessState {
            kpis_shown,
            attempts,
            journal,
            rivals,
            new_settings,
            retry_broken,
        } = state;
        if kpis_shown.is_none_or(|at| at.elapsed() > KPI_INTERVAL) {
            self.recovery_id().await?;
            self.show_kpis().await?;
            *kpis_shown = Some(Instant::now());
        }
        let taken = self.take_lease(holder).await?;
        self.ready.pass();
        let Some((fence, renewed)) = taken else {
            return Ok(());
        };
        let recovery_id = self.recovery_id().await?;
        let mut engine = self.open_engine(fence, &recovery_id, journal).await?;
        journal
            .catch_up(self.store.as_ref(), self.clock.now_ms())
            .await?;
        if std::mem::take(retry_broken) {
            engine.retry_broken_now();
        }
        tracing::info!(holder, fence = fence.0, "this process evaluates");
        let mut held = LeaseGuard::new(holder, fence, renewed, recovery_id, journal);
        let work = self.work(&mut engine, attempts, &mut held, new_settings, shutdown);
        let stopped = tokio::select! {
            biased;
            stopped = work => stopped?,
            never = self.watch_rivals(rivals) => match never {},
        };
        if stopped == Stop::Shutdown {
            self.finish(&mut engine, attempts, &mut held).await?;
        }
        Ok(())
    }

    /// Ticks and dispatches until there is a reason to stop.
    async fn work(
        &self,
        engine: &mut Engine,
        attempts: &mut InFlight,
        held: &mut LeaseGuard<'_>,
        new_settings: &mut PendingSettings,
        shutdown: &CancellationToken,
    ) -> Result<Stop, EvaluatorError> {
        let mut ticks = self.ticks();
        // New settings have arrived: they are applied once no attempt is under way, or at this time.
        let mut yields_by: Option<Instant> = None;
        loop {
            if yields_by.is_some_and(|by| !attempts.is_any_pending() || by <= Instant::now()) {
                return Ok(Stop::NewSettings);
            }
            let next_dispatch = self
                .next_dispatch(engine, &attempts.slots)
                .filter(|_| yields_by.is_none());
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(Stop::Shutdown),
                Some((destination, result)) = attempts.results.recv() => {
                    self.on_attempt_result(engine, attempts, &destination, &result);
                    self.write(engine.take_writes(self.clock.now_s()), held).await?;
                }
                _ = ticks.tick() => {
                    self.keep_lease(held).await?;
                    let started = Instant::now();
                    self.turns.note(started, self.between_ticks());
                    self.tick(engine, held).await?;
                    self.metrics.rule_evaluation_seconds.observe(started.elapsed().as_secs_f64());
                    self.show_alerts(engine);
                }
                () = held.journal.take_result(), if held.journal.is_in_flight() => self.flush(held),
                () = new_settings.changed(), if yields_by.is_none() => {
                    yields_by = Some(Instant::now() + ATTEMPT_TIMEOUT);
                }
                () = sleep_until(next_dispatch), if next_dispatch.is_some() => {}
            }
            if yields_by.is_none() {
                self.dispatch_due(engine, attempts, held).await?;
            }
        }
    }

    fn between_ticks(&self) -> Duration {
        Duration::from_secs_f64(self.config.tick_seconds)
    }

    fn ticks(&self) -> Interval {
        let mut ticks = interval(self.between_ticks());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    }

    /// Stores the results of attempts under way, and writes the last entries of the journal.
    async fn finish(
        &self,
        engine: &mut Engine,
        attempts: &mut InFlight,
        held: &mut LeaseGuard<'_>,
    ) -> Result<(), EvaluatorError> {
        let deadline = Instant::now() + LAST_ATTEMPTS_WITHIN;
        while attempts.is_any_pending() {
            let next = tokio::time::timeout_at(deadline, attempts.results.recv()).await;
            let Ok(Some((destination, result))) = next else {
                break;
            };
            self.on_attempt_result(engine, attempts, &destination, &result);
            self.write(engine.take_writes(self.clock.now_s()), held)
                .await?;
        }
        self.keep_lease(held).await?;
        held.journal.end(&self.journal, self.journal_within()).await;
        Ok(())
    }

    /// The engine as it was stored; after a loss of data, as the journal has it.
    async fn open_engine(
        &self,
        fence: Fence,
        recovery_id: &str,
        journal: &JournalWriter,
    ) -> Result<Engine, EvaluatorError> {
        let mut engine = self.stored_engine().await?;
        if engine.recovery_id() != recovery_id {
            let writes =
                journal_sync::differences(self.journal.as_ref(), self.store.as_ref(), journal)
                    .await?;
            if !writes.is_empty() {
                tracing::info!(
                    documents = writes.len(),
                    "the store has recovered: documents that only the journal has are restored"
                );
            } else if !engine.recovery_id().is_empty() {
                tracing::info!("the store has recovered: it has all documents of the journal");
            }
            for part in writes.chunks(WRITE_BATCH) {
                self.store.write_documents(fence, part).await?;
            }
            engine = self.stored_engine().await?;
            engine.on_recovery(recovery_id);
        }
        Ok(engine)
    }

    async fn stored_engine(&self) -> Result<Engine, EvaluatorError> {
        let stored = Documents {
            alerts: self.store.documents(engine::ALERTS).await?,
            pending: self.store.documents(engine::PENDING).await?,
            silences: self.store.documents(engine::SILENCES).await?,
            began: self.store.documents(engine::BEGAN).await?,
            position: self.store.documents(engine::POSITION).await?,
        };
        let mut policy = self.policy()?;
        if policy.drop_future_beginning(self.clock.now_s()) {
            tracing::warn!(
                "alerting.began (REVWATCH_BEGAN) is in the future and is ignored: set the moment at which revwatch \
                 took over, or remove it"
            );
        }
        Ok(Engine::open(self.rules.clone(), policy, &stored)?)
    }
}

/// Why an evaluator that holds the lease stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    Shutdown,
    NewSettings,
}

async fn sleep_until(at: Option<Instant>) {
    tokio::time::sleep_until(at.unwrap_or_else(Instant::now)).await;
}
