//! The evaluator: holds the lease, reads the store, calls the engine, and writes what it decides.
//!
//! Invariant: decisions are written before messages are sent; a process that has lost the lease stops.

use std::borrow::Cow;
use std::time::Duration;

use revwatch_core::ports::Clock;
use revwatch_core::redact;
use revwatch_runtime::telemetry::Correlation;
use revwatch_storage::journal;
use revwatch_storage::ports::{
    COMMANDS, DocumentWrite, Fence, HoldingQueue, QueueError, StoreError,
};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::Alerting;
use crate::alert::Alert;
use crate::dispatch::InFlight;
use crate::engine::{
    self, ChangeRead, CounterRead, DELIVERIES, Decisions, Documents, Engine, HoursRead,
    PipelineRead, ReadResult, ReadSet, TickTime, TransitionEvent, UnreadableCommand,
};
use crate::journal_sync::{self, JournalWriter};
use crate::metric_value::PipelineStatus;
use crate::notify::ATTEMPT_TIMEOUT;
use crate::policy::PolicyError;
use crate::setup::PendingConfig;

/// A standby shows the key figures this often: they need 60 days of hours.
const KPI_INTERVAL: Duration = Duration::from_secs(10);

/// The lease that makes one process of several the evaluator.
const LEASE: &str = "alerting";

pub(crate) async fn evaluate(alerting: &mut Alerting, shutdown: &CancellationToken) {
    let holder = format!("alerting-{}", alerting.ids.fresh().simple());
    tracing::info!(holder, rules = alerting.rules.len(), "alerting started");
    let mut lasting = ProcessState {
        shown: None,
        attempts: InFlight::new(),
        keeping: JournalWriter::default(),
        arriving: std::mem::take(&mut alerting.arriving),
        took_over: false,
    };
    let mut waits = false;
    while !shutdown.is_cancelled() {
        if let Some(setup) = lasting.arriving.take() {
            alerting.take_over(setup);
            lasting.took_over = true;
        }
        let held = alerting.lead(&holder, &mut lasting, shutdown).await;
        match held {
            // A restart of this process would not help; and one log line is enough.
            Err(error @ EvaluatorError::Incomplete) => {
                alerting.ready.pass();
                if !std::mem::replace(&mut waits, true) {
                    tracing::warn!(%error, "alerting waits");
                }
            }
            Err(error) => {
                alerting.ready.fail("the store does not answer");
                tracing::warn!(%error, "alerting restarts");
            }
            Ok(()) => waits = false,
        }
        // The next start asks destinations for messages whose attempts had no result: they must have arrived by then,
        // or never will.
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            () = lasting.attempts.end() => {}
        }
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            () = lasting.arriving.changed() => {}
            () = tokio::time::sleep(Duration::from_secs_f64(alerting.config.tick_seconds)) => {}
        }
    }
    // The same is true of another process: the lease outlives the attempts under way.
    if !lasting.attempts.is_any_pending() {
        let _ = tokio::time::timeout(
            Duration::from_secs(2),
            alerting.store.release(LEASE, &holder),
        )
        .await;
    }
    tracing::info!(holder, "alerting stopped");
}

/// What this process remembers whether it holds the lease or not.
struct ProcessState {
    /// When a standby last showed the key figures: it can be scraped, too.
    shown: Option<Instant>,
    attempts: InFlight,
    keeping: JournalWriter,
    /// New settings that wait to be taken over.
    arriving: PendingConfig,
    /// New settings were taken over and no notifier was tried with them.
    took_over: bool,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum EvaluatorError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error("the store has lost data, or is being made whole: nothing is decided until it is")]
    Incomplete,
    #[error("a stored alert cannot be read at {}", redact::place(.0))]
    Unreadable(#[from] serde_json::Error),
    #[error(transparent)]
    Policy(#[from] PolicyError),
}

/// The lease, as this process has it.
pub(crate) struct LeaseGuard<'a> {
    holder: &'a str,
    fence: Fence,
    renewed: Instant,
    /// The store's last recovery when the engine was opened.
    recovery_id: String,
    /// Since when this process has held the lease.
    since: Instant,
    keeping: &'a mut JournalWriter,
}

impl LeaseGuard<'_> {
    /// The time, as the engine needs it.
    fn time(&self, clock: &dyn Clock) -> TickTime {
        TickTime {
            now_s: clock.now_s(),
            elapsed: self.since.elapsed(),
        }
    }
}

impl Alerting {
    /// Takes the lease and works until it is lost, something fails, new settings arrive, or `shutdown`.
    async fn lead(
        &self,
        holder: &str,
        lasting: &mut ProcessState,
        shutdown: &CancellationToken,
    ) -> Result<(), EvaluatorError> {
        let ProcessState {
            shown,
            attempts,
            keeping,
            arriving,
            took_over,
        } = lasting;
        if shown.is_none_or(|at| at.elapsed() > KPI_INTERVAL) {
            self.recovery_id().await?;
            self.show_kpis().await?;
            *shown = Some(Instant::now());
        }
        let renewed = Instant::now();
        let Some(fence) = self.renew(holder).await? else {
            self.ready.pass();
            return Ok(());
        };
        self.ready.pass();
        let recovery_id = self.recovery_id().await?;
        let mut engine = self.open_engine(fence, &recovery_id, keeping).await?;
        keeping
            .catch_up(self.store.as_ref(), self.clock.now_ms())
            .await?;
        if std::mem::take(took_over) {
            engine.retry_broken_now();
        }
        tracing::info!(holder, fence = fence.0, "this process evaluates");
        let mut ticks = interval(Duration::from_secs_f64(self.config.tick_seconds));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut held = LeaseGuard {
            holder,
            fence,
            renewed,
            recovery_id,
            since: renewed,
            keeping,
        };
        // New settings have arrived: they are taken over once no attempt is under way, or at this time.
        let mut yields_by: Option<Instant> = None;
        loop {
            if yields_by.is_some_and(|by| !attempts.is_any_pending() || by <= Instant::now()) {
                return Ok(());
            }
            let next_turn = self
                .next_dispatch(&engine, &attempts.slots)
                .filter(|_| yields_by.is_none());
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some((destination, told)) = attempts.results.recv() => {
                    self.on_attempt_result(&mut engine, attempts, &destination, &told);
                    self.write(engine.take_writes(self.clock.now_s()), &mut held).await?;
                }
                _ = ticks.tick() => {
                    self.keep_lease(&mut held).await?;
                    let started = Instant::now();
                    self.evaluate(&mut engine, &mut held).await?;
                    self.metrics.rule_evaluation_seconds.observe(started.elapsed().as_secs_f64());
                    self.show_alerts(&engine);
                }
                () = held.keeping.answered(), if held.keeping.is_under_way() => self.flush(&mut held),
                () = arriving.changed(), if yields_by.is_none() => yields_by = Some(Instant::now() + ATTEMPT_TIMEOUT),
                () = tokio::time::sleep_until(next_turn.unwrap_or_else(Instant::now)), if next_turn.is_some() => {}
            }
            if yields_by.is_none() {
                self.dispatch_due(&mut engine, attempts, &mut held).await?;
            }
        }
        // Attempts under way may still be confirmed, so that the next evaluator does not repeat them.
        let deadline = Instant::now() + Duration::from_secs(5);
        while attempts.is_any_pending() {
            let next = tokio::time::timeout_at(deadline, attempts.results.recv()).await;
            let Ok(Some((destination, told))) = next else {
                break;
            };
            self.on_attempt_result(&mut engine, attempts, &destination, &told);
            self.write(engine.take_writes(self.clock.now_s()), &mut held)
                .await?;
        }
        self.keep_lease(&mut held).await?;
        held.keeping.end(&self.queue, self.journal_within()).await;
        Ok(())
    }

    pub(crate) fn lease(&self) -> Duration {
        Duration::from_secs_f64(self.config.lease_seconds)
    }

    async fn renew(&self, holder: &str) -> Result<Option<Fence>, StoreError> {
        self.store
            .lease(
                LEASE,
                holder,
                u64::try_from(self.lease().as_millis()).unwrap_or(u64::MAX),
            )
            .await
    }

    /// Renews the lease in good time: two thirds of it, at least, are left afterwards.
    async fn keep_lease(&self, held: &mut LeaseGuard<'_>) -> Result<(), StoreError> {
        if held.renewed.elapsed() > self.lease() / 3 {
            // It counts from when it was asked for, not from the answer.
            held.renewed = Instant::now();
            if self.renew(held.holder).await? != Some(held.fence) {
                return Err(StoreError::Fenced);
            }
        }
        Ok(())
    }

    /// The store's last recovery. While data is missing nothing is decided: alerts would resolve and fire again.
    async fn recovery_id(&self) -> Result<String, EvaluatorError> {
        let health = self.store.health().await?;
        let unwell = health.iter().filter(|health| !health.is_complete()).count();
        self.metrics
            .partitions_recovering
            .set(i64::try_from(unwell).unwrap_or(i64::MAX));
        if unwell > 0 {
            return Err(EvaluatorError::Incomplete);
        }
        let names: Vec<&str> = health
            .iter()
            .filter_map(|health| health.recovery_id.as_deref())
            .collect();
        Ok(names.join(" "))
    }

    /// The engine as it was left; after a loss of data, as the journal has it.
    async fn open_engine(
        &self,
        fence: Fence,
        recovery_id: &str,
        keeping: &JournalWriter,
    ) -> Result<Engine, EvaluatorError> {
        let mut engine = self.stored_engine().await?;
        if engine.recovery_id() != recovery_id {
            let writes =
                journal_sync::differences(self.queue.as_ref(), self.store.as_ref(), keeping)
                    .await?;
            tracing::info!(
                documents = writes.len(),
                "the store has recovered: documents that only the journal has are restored"
            );
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
            progress: self.store.documents(engine::POSITION).await?,
        };
        Ok(Engine::open(self.rules.clone(), self.policy()?, &stored)?)
    }

    /// One tick. Costs what changed since the last one, plus the rules.
    async fn evaluate(
        &self,
        engine: &mut Engine,
        held: &mut LeaseGuard<'_>,
    ) -> Result<(), EvaluatorError> {
        loop {
            let reads = engine.required_reads(held.time(self.clock.as_ref()));
            let read = self.read(engine, reads, held).await?;
            let output = engine.tick(read, held.time(self.clock.as_ref()));
            for (key, command) in &output.commands {
                held.keeping.note_action(key, command);
            }
            for UnreadableCommand { key, place } in &output.unreadable {
                let key = redact::id(key);
                tracing::error!(%key, at = place, "a command cannot be read; it is discarded");
            }
            self.write(output.decisions, held).await?;
            if output.cut_history {
                self.cut_history(held, self.clock.now_s()).await?;
            }
            if output.unfinished.is_none() {
                return Ok(());
            }
            self.keep_lease(held).await?;
        }
    }

    /// Reads what a round of a tick requires.
    async fn read(
        &self,
        engine: &Engine,
        reads: ReadSet,
        held: &LeaseGuard<'_>,
    ) -> Result<ReadResult<'static>, EvaluatorError> {
        let mut read = ReadResult::default();
        if reads.pipeline {
            if self.recovery_id().await? != held.recovery_id {
                return Err(EvaluatorError::Incomplete);
            }
            self.show_kpis().await?;
            self.show_overdue(engine);
            read.pipeline = Some(self.pipeline().await);
        }
        if reads.deliveries {
            read.deliveries = Some(self.store.current_counters(&DELIVERIES).await?);
        }
        if let Some(HoursRead { hours, .. }) = reads.counters {
            let began = Instant::now();
            let counters = self.store.counters(*hours.start(), *hours.end()).await?;
            read.counters = Some(CounterRead {
                counters: Cow::Owned(counters),
                took: began.elapsed(),
            });
        }
        if let Some(ChangeRead { cursor, limit }) = reads.changes {
            read.changes = Some(self.store.condition_changes(&cursor, limit).await?);
        }
        if let Some(reason) = reads.conditions {
            let open = self.store.conditions().await?;
            tracing::info!(
                conditions = open.len(),
                ?reason,
                "evaluating all open conditions"
            );
            read.conditions = Some(open);
        }
        if !reads.due.is_empty() {
            read.due = self.store.conditions_due(&reads.due).await?;
        }
        if reads.commands {
            read.commands = self.store.documents(COMMANDS).await?;
        }
        Ok(read)
    }

    /// What does not answer in time is unknown.
    async fn pipeline(&self) -> PipelineRead {
        let asked = async {
            let depth = self
                .queue
                .depth()
                .await
                .ok()
                .map(|depth| depth.iter().sum::<u64>());
            let count = async |place| self.queue.held_count(place).await.ok();
            // While everything is paused, parked deliveries wait in their queues.
            let pauses = journal::pauses_in_store(self.store.as_ref())
                .await
                .ok()
                .flatten();
            let waiting = if pauses.is_some_and(|pauses| pauses.is_everything_paused()) {
                depth
            } else {
                Some(0)
            };
            let parked = count(HoldingQueue::Parked)
                .await
                .zip(waiting)
                .map(|(parked, waiting)| parked + waiting);
            (depth, count(HoldingQueue::DeadLetters).await, parked)
        };
        let (depth, dead, parked) = tokio::time::timeout(self.lease() / 4, asked)
            .await
            .unwrap_or_default();
        let count = |n: Option<u64>| n.map(|n| i64::try_from(n).unwrap_or(i64::MAX));
        PipelineRead {
            status: PipelineStatus {
                queue_depth: count(depth),
                dead_letters: count(dead),
                parked: count(parked),
                ..PipelineStatus::default()
            },
            stalled_s: None,
        }
    }

    /// Writes what was decided, unless the store has recovered since.
    pub(crate) async fn write(
        &self,
        decisions: Decisions,
        held: &mut LeaseGuard<'_>,
    ) -> Result<(), EvaluatorError> {
        let Decisions {
            writes,
            transitions,
        } = decisions;
        if !writes.is_empty() && self.recovery_id().await? != held.recovery_id {
            return Err(EvaluatorError::Incomplete);
        }
        for transition in &transitions {
            log_transition(transition);
            self.clock(transition);
        }
        for part in writes.chunks(WRITE_BATCH) {
            self.store.write_documents(held.fence, part).await?;
            held.keeping.note(part, self.clock.now_ms());
            self.keep_lease(held).await?;
            self.flush(held);
        }
        self.flush(held);
        Ok(())
    }

    fn flush(&self, held: &mut LeaseGuard<'_>) {
        held.keeping.flush(&self.queue, self.journal_within());
    }

    /// A line is written, or is not, before another evaluator could have the lease and write newer ones.
    fn journal_within(&self) -> Duration {
        self.lease() / 3
    }

    /// Alerts that were resolved for longer than the settings say are deleted. Open documents are written to the
    /// journal again: its own lines may be so old that it drops them.
    async fn cut_history(
        &self,
        held: &mut LeaseGuard<'_>,
        now_s: i64,
    ) -> Result<(), EvaluatorError> {
        let keep_s = self.config.history.0;
        let mut old = Vec::new();
        for (key, body) in self.store.documents(engine::HISTORY).await? {
            let alert: Alert = serde_json::from_str(&body)?;
            if alert.resolved_s.is_some_and(|at_s| at_s + keep_s < now_s) {
                old.push(DocumentWrite {
                    space: engine::HISTORY,
                    key,
                    body: None,
                });
            }
        }
        for part in old.chunks(2000) {
            self.store.write_documents(held.fence, part).await?;
            held.keeping.note(part, self.clock.now_ms());
        }
        for space in [engine::ALERTS, engine::SILENCES, engine::PENDING] {
            let open = self.store.documents(space).await?.into_iter();
            let open: Vec<_> = open
                .map(|(key, body)| DocumentWrite {
                    space,
                    key,
                    body: Some(body),
                })
                .collect();
            held.keeping.note(&open, self.clock.now_ms());
        }
        Ok(())
    }
}

/// Documents written together, at most: in a storm of alerts the store must not keep webhooks and workers waiting for
/// thousands of them at once.
const WRITE_BATCH: usize = 250;

fn log_transition(happened: &TransitionEvent) {
    let TransitionEvent {
        alert_id,
        key,
        from,
        to,
        by,
        event_id,
        ..
    } = happened;
    let (rule, subject) = (key.rule.as_str(), key.subject.for_the_log());
    let by_hand = by.is_some();
    let trace_id = event_id
        .as_ref()
        .or(alert_id.as_ref())
        .map(|id| Correlation::of(id).to_string());
    let event_id = event_id.as_deref().map(redact::id);
    tracing::info!(
        alert_id, rule, %subject, from = from.as_str(), to = to.as_str(), by_hand,
        event_id = event_id.as_deref(), trace_id, "alert"
    );
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, Mutex};

    use async_trait::async_trait;
    use revwatch_core::condition::{Condition, ConditionKey, ConditionKind};
    use revwatch_core::entity::{EntityKey, EntityKind};
    use revwatch_core::ports::Clock as _;
    use revwatch_runtime::admin::Readiness;
    use revwatch_runtime::config::{AlertingConfig, Config};
    use revwatch_runtime::telemetry::Metrics;
    use revwatch_storage::ports::{
        Commit, ConditionChange, Coordination as _, Documents as _, Entities as _, EventQueue,
    };
    use revwatch_storage::sqlite::{FILE_NAME, Open, Sqlite};
    use revwatch_storage::system::{SystemClock, SystemIds};
    use tokio::sync::Notify;
    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::alert::{Evidence, Subject};
    use crate::journal_sync::tests::Broken;
    use crate::message::Message;
    use crate::notify::{Capabilities, Lookup, Notifier, Outcome};
    use crate::rule::Rule;
    use crate::slack_actions::SlackActions;
    use crate::{rules_file, run};

    /// The longest that anything may take before a test fails.
    const LONG: Duration = Duration::from_secs(30);

    /// Takes as long as the test wants.
    #[derive(Default)]
    struct Slow {
        is_telling: AtomicBool,
        begun: Notify,
        go_on: Notify,
        disturbed: Notify,
    }

    #[async_trait]
    impl Notifier for Slow {
        fn name(&self) -> &'static str {
            "slack"
        }

        fn capabilities(&self) -> Capabilities {
            Capabilities {
                edits: true,
                resolves: true,
            }
        }

        fn destination(&self, _route: &str) -> String {
            "slack".to_owned()
        }

        fn per_second(&self) -> f64 {
            1000.0
        }

        async fn deliver(&self, _message: &Message) -> Outcome {
            self.is_telling.store(true, Ordering::SeqCst);
            self.begun.notify_one();
            self.go_on.notified().await;
            self.is_telling.store(false, Ordering::SeqCst);
            Outcome::Delivered { receipt: None }
        }

        async fn find(&self, _message: &Message) -> Lookup {
            if self.is_telling.load(Ordering::SeqCst) {
                self.disturbed.notify_one();
            }
            Lookup::Absent
        }
    }

    /// Takes every message, and keeps its text.
    #[derive(Default)]
    struct Willing {
        texts: Mutex<Vec<String>>,
        told: Notify,
    }

    #[async_trait]
    impl Notifier for Willing {
        fn name(&self) -> &'static str {
            "slack"
        }

        fn capabilities(&self) -> Capabilities {
            Capabilities {
                edits: true,
                resolves: true,
            }
        }

        fn destination(&self, _route: &str) -> String {
            "slack".to_owned()
        }

        fn per_second(&self) -> f64 {
            1000.0
        }

        async fn deliver(&self, message: &Message) -> Outcome {
            self.texts
                .lock()
                .expect("no panic")
                .push(message.text.clone());
            self.told.notify_one();
            Outcome::Delivered {
                receipt: Some("r".to_owned()),
            }
        }

        async fn find(&self, _message: &Message) -> Lookup {
            Lookup::Absent
        }
    }

    fn shipped_rules() -> Vec<Rule> {
        rules_file::load(None).expect("the shipped rules")
    }

    fn alerting(
        store: &Arc<Sqlite>,
        queue: Arc<dyn EventQueue>,
        notifier: Arc<dyn Notifier>,
    ) -> (Alerting, Readiness) {
        let readiness = Readiness::default();
        let alerting = Alerting {
            store: store.clone(),
            queue,
            clock: Arc::new(SystemClock),
            ids: Arc::new(SystemIds),
            rules: shipped_rules(),
            notifiers: vec![notifier],
            actions: SlackActions::default(),
            config: AlertingConfig {
                tick_seconds: 0.02,
                ..Config::load(None, &|_| None).expect("valid").alerting
            },
            metrics: Metrics::new(),
            tracer: Default::default(),
            ready: readiness.check("alerting"),
            arriving: PendingConfig::default(),
        };
        (alerting, readiness)
    }

    /// An alert of an earlier evaluator that is not told.
    async fn leave_alert(sqlite: &Sqlite) {
        let mut alert = Alert::fire(
            &shipped_rules()[0],
            &Subject::Business,
            0,
            SystemClock.now_s(),
            Evidence::default(),
        );
        alert.notifiers.push("slack".to_owned());
        let fence = sqlite
            .lease(LEASE, "before", 60_000)
            .await
            .expect("answered")
            .expect("free");
        let body = serde_json::to_string(&alert).expect("plain data");
        let write = DocumentWrite {
            space: engine::ALERTS,
            key: alert.id,
            body: Some(body),
        };
        sqlite
            .write_documents(fence, &[write])
            .await
            .expect("written");
        sqlite.release(LEASE, "before").await.expect("released");
    }

    fn payout_failed(n: usize) -> Condition {
        let subject = EntityKey::new(EntityKind::Payout, format!("po_{n}"));
        Condition {
            key: ConditionKey {
                kind: ConditionKind::PayoutFailed,
                subject,
            },
            since_s: 100,
            due_s: 100,
            account: Some("acct_1".into()),
            customer: None,
            money: None,
            detail: None,
            event_id: format!("evt_{n}"),
        }
    }

    fn rename(folder: &Path, from: &str, to: &str) {
        let other = rusqlite::Connection::open(folder.join(FILE_NAME)).expect("the file");
        other.busy_timeout(LONG).expect("set");
        other
            .execute_batch(&format!("ALTER TABLE {from} RENAME TO {to}"))
            .expect("renamed");
    }

    #[tokio::test]
    async fn nobody_looks_for_a_message_while_it_is_being_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let sqlite =
            Arc::new(Sqlite::open(folder.path(), Open::Create { partitions: 1 }).expect("a store"));
        leave_alert(&sqlite).await;

        let (slow, shutdown) = (Arc::new(Slow::default()), CancellationToken::new());
        let (alerting, readiness) = alerting(&sqlite, sqlite.clone(), slow.clone());
        let running = tokio::spawn(run(alerting, shutdown.clone()));
        timeout(LONG, slow.begun.notified())
            .await
            .expect("it is told");
        rename(folder.path(), "documents", "elsewhere");
        let fails = async {
            while readiness.is_ready() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LONG, fails).await.expect("the store fails");
        rename(folder.path(), "elsewhere", "documents");
        let disturbed = timeout(Duration::from_millis(500), slow.disturbed.notified()).await;
        assert!(
            disturbed.is_err(),
            "looked for, and perhaps told twice, while it was being told"
        );
        slow.go_on.notify_one();
        timeout(LONG, slow.begun.notified())
            .await
            .expect("it was not found, and is told again");
        slow.go_on.notify_one();
        shutdown.cancel();
        timeout(LONG, running)
            .await
            .expect("it ends")
            .expect("no panic");
    }

    #[tokio::test]
    async fn a_journal_that_never_answers_holds_up_no_alert() {
        let folder = tempfile::tempdir().expect("a folder");
        let sqlite =
            Arc::new(Sqlite::open(folder.path(), Open::Create { partitions: 1 }).expect("a store"));
        leave_alert(&sqlite).await;
        let (silent, willing) = (Arc::new(Broken::default()), Arc::new(Willing::default()));
        let (mut alerting, _readiness) = alerting(&sqlite, silent.clone(), willing.clone());
        // So long that it is not over within the test: whoever waits for the journal waits in vain.
        alerting.config.lease_seconds = 3_000.0;
        let running = tokio::spawn(run(alerting, CancellationToken::new()));
        timeout(LONG, willing.told.notified())
            .await
            .expect("it is told");
        assert!(!silent.is_given_up(), "the alert waited for the journal");
        let asked = async {
            while !silent.is_asked() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LONG, asked).await.expect("the journal is asked");
        running.abort();
    }

    /// More than a page of payouts failed and were paid while nobody evaluated.
    #[tokio::test]
    async fn what_was_over_before_it_was_read_is_told_to_nobody() {
        const PAYOUTS: usize = 1_100;
        let folder = tempfile::tempdir().expect("a folder");
        let sqlite =
            Arc::new(Sqlite::open(folder.path(), Open::Create { partitions: 1 }).expect("a store"));
        let evaluating = |willing: &Arc<Willing>| {
            let (alerting, readiness) = alerting(&sqlite, sqlite.clone(), willing.clone());
            let shutdown = CancellationToken::new();
            (
                tokio::spawn(run(alerting, shutdown.clone())),
                shutdown,
                readiness,
            )
        };
        let willing = Arc::new(Willing::default());
        let (running, shutdown, _readiness) = evaluating(&willing);
        let has_looked = async {
            while sqlite
                .documents(engine::POSITION)
                .await
                .expect("answered")
                .is_empty()
            {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LONG, has_looked)
            .await
            .expect("it has looked at everything once");
        shutdown.cancel();
        timeout(LONG, running)
            .await
            .expect("it ends")
            .expect("no panic");

        let failed = (0..PAYOUTS).map(|n| ConditionChange::Open(payout_failed(n)));
        let paid = (0..PAYOUTS).map(|n| ConditionChange::Close(payout_failed(n).key));
        let fails = [ConditionChange::Open(payout_failed(PAYOUTS))];
        let conditions = failed.chain(paid).chain(fails).collect();
        sqlite
            .commit(&Commit {
                conditions,
                ..Commit::default()
            })
            .await
            .expect("committed");

        let (running, shutdown, _readiness) = evaluating(&willing);
        timeout(LONG, willing.told.notified())
            .await
            .expect("one still fails");
        shutdown.cancel();
        timeout(LONG, running)
            .await
            .expect("it ends")
            .expect("no panic");
        let texts = willing.texts.lock().expect("no panic").clone();
        assert!(
            texts.len() == 1 && texts[0].contains(&format!("po_{PAYOUTS}")),
            "{texts:#?}"
        );
        assert_eq!(
            sqlite
                .documents(engine::ALERTS)
                .await
                .expect("answered")
                .len(),
            1
        );
        assert_eq!(
            sqlite
                .documents(engine::HISTORY)
                .await
                .expect("answered")
                .len(),
            0
        );
    }
}
