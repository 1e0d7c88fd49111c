//! A tick in the shell: reads what the engine requires and writes what it decides.

use std::borrow::Cow;

use futures_util::future::OptionFuture;
use revwatch_core::redact;
use revwatch_runtime::telemetry::Correlation;
use revwatch_storage::journal;
use revwatch_storage::ports::{
    COMMANDS, Changes, DocumentWrite, Health, HoldingQueue, QueueError, StoreError,
};
use tokio::time::Instant;

use super::error::EvaluatorError;
use super::lease::LeaseGuard;
use crate::Alerting;
use crate::alert::Alert;
use crate::engine::{
    self, BacklogRead, CounterRead, DELIVERIES, Decisions, Engine, HistoryRead, PartitionBacklog,
    PipelineRead, ReadResult, ReadSet, TransitionEvent, UnreadableCommand,
};
use crate::metric_value::PipelineStatus;

/// Documents written together, at most: in a storm of alerts the store must not keep webhooks and workers waiting for
/// thousands of them at once.
pub(super) const WRITE_BATCH: usize = 250;
/// Old alerts that are deleted together, at most.
const DELETE_BATCH: usize = 2000;

impl Alerting {
    /// One tick. Costs what changed since the last one, plus the rules.
    pub(super) async fn tick(
        &self,
        engine: &mut Engine,
        held: &mut LeaseGuard<'_>,
    ) -> Result<(), EvaluatorError> {
        loop {
            let reads = engine.required_reads(held.time(self.clock.as_ref()));
            let read = self.read(engine, reads, held).await?;
            let output = engine.tick(read, held.time(self.clock.as_ref()));
            for UnreadableCommand { key, place } in &output.unreadable {
                let key = redact::id(key);
                tracing::error!(%key, at = place, "a command cannot be read; it is discarded");
            }
            // Before the commands are deleted: if that fails, another evaluator notes the same entry again.
            for (key, command) in &output.commands {
                held.journal.note_action(key, command);
            }
            self.write(output.decisions, held).await?;
            if output.cut_history {
                self.cut_history(held, self.clock.now_s()).await?;
            }
            if output.unfinished.is_none() {
                let waiting = engine.waiting_for(held.time(self.clock.as_ref()));
                self.show_waiting(waiting, held);
                return Ok(());
            }
            self.keep_lease(held).await?;
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
        if !writes.is_empty() {
            self.health_since(&held.recovery_id).await?;
        }
        let mut unlogged = transitions.iter();
        for part in writes.chunks(WRITE_BATCH) {
            self.store.write_documents(held.fence, part).await?;
            held.journal.note(part, self.clock.now_ms());
            // Once a part is stored: another evaluator decides again what is not.
            unlogged.by_ref().for_each(|it| self.log_transition(it));
            self.keep_lease(held).await?;
            self.flush(held);
        }
        unlogged.for_each(|it| self.log_transition(it));
        self.flush(held);
        Ok(())
    }

    fn log_transition(&self, transition: &TransitionEvent) {
        log_transition(transition);
        self.observe_response_time(transition);
    }

    pub(super) fn flush(&self, held: &mut LeaseGuard<'_>) {
        held.journal.flush(&self.journal, self.journal_within());
    }

    /// Reads what a round of a tick requires.
    async fn read(
        &self,
        engine: &Engine,
        reads: ReadSet,
        held: &LeaseGuard<'_>,
    ) -> Result<ReadResult<'static>, EvaluatorError> {
        let mut read = ReadResult::default();
        let mut depth = None;
        if reads.backlog {
            let health = self.health_since(&held.recovery_id).await?;
            depth = self.depth().await;
            read.backlog = Some(backlog(depth.as_deref(), &health));
        }
        if reads.pipeline {
            self.show_kpis().await?;
            self.show_overdue(engine);
            let waiting = depth.map(|depth| depth.iter().sum());
            read.pipeline = Some(self.pipeline(waiting).await);
        }
        if reads.deliveries {
            read.deliveries = Some(self.store.current_counters(&DELIVERIES).await?);
        }
        let counters = reads.counters.map(|it| self.counters(it));
        let changes = reads.changes.as_ref();
        let changes = changes.map(|it| self.store.condition_changes(&it.cursor, it.limit));
        let (counters, changes) =
            tokio::join!(OptionFuture::from(counters), OptionFuture::from(changes));
        read.counters = counters.transpose()?;
        read.changes = changes.transpose()?;
        if let Some(reason) = reads.conditions {
            let open = self.store.conditions().await?;
            let conditions = open.len();
            tracing::info!(conditions, ?reason, "evaluating all open conditions");
            read.conditions = Some(open);
        }
        if !reads.due.is_empty() {
            read.due = self.store.conditions_due(&reads.due).await?;
        }
        if reads.commands {
            read.commands = self.store.documents(COMMANDS).await?;
        }
        if reads.first_delivery && shows_a_delivery(&read) {
            read.first_delivery = Some(self.first_delivery_ms().await?);
        }
        if reads.applied {
            // Last: what was read above is not newer.
            let health = self.health_since(&held.recovery_id).await?;
            read.applied = Some(health.iter().map(|it| it.high_watermark_ms).collect());
        }
        Ok(read)
    }

    async fn counters(
        &self,
        HistoryRead { buckets, .. }: HistoryRead,
    ) -> Result<CounterRead<'static>, StoreError> {
        let began = Instant::now();
        let counters = self.store.counters(&buckets).await?;
        Ok(CounterRead {
            counters: Cow::Owned(counters),
            took: began.elapsed(),
        })
    }

    /// When the oldest delivery in the archive was received, in Unix milliseconds; `None`: the archive has none.
    async fn first_delivery_ms(&self) -> Result<Option<i64>, EvaluatorError> {
        let late = |_| QueueError::Unavailable("the archive is not read in time".into());
        let oldest = tokio::time::timeout(self.lease() / 2, self.archive.oldest_ms()).await;
        Ok(oldest.map_err(late)??)
    }

    /// Shows whether alerting waits for deliveries; see [`Engine::waiting_for`]. It waits for two seconds at every
    /// start, which is logged only if deliveries are queued.
    fn show_waiting(&self, deliveries: Option<u64>, held: &mut LeaseGuard<'_>) {
        let gauge = &self.metrics.alerting_waits_for_deliveries;
        gauge.set(i64::from(deliveries.is_some()));
        match deliveries {
            Some(deliveries @ 1..) if !held.is_wait_logged => {
                held.is_wait_logged = true;
                tracing::info!(
                    deliveries,
                    "alerting waits until the queued deliveries are applied"
                );
            }
            None if std::mem::take(&mut held.is_wait_logged) => {
                tracing::info!("alerting no longer waits for queued deliveries");
            }
            _ => {}
        }
    }

    /// How many deliveries wait in each partition; `None`: the queue sends no response in time.
    async fn depth(&self) -> Option<Vec<u64>> {
        let depth = tokio::time::timeout(self.lease() / 8, self.queue.depth());
        depth.await.ok()?.ok()
    }

    /// The status of the pipeline, in which so many deliveries wait. What is not read in time is unknown.
    async fn pipeline(&self, depth: Option<u64>) -> PipelineRead {
        let within = self.lease() / 8;
        let count = async |queue| {
            let count = tokio::time::timeout(within, self.holding.held_count(queue));
            count.await.ok()?.ok()
        };
        let pauses = async {
            let pauses = journal::pauses_in_store(self.store.as_ref());
            tokio::time::timeout(within, pauses).await.ok()?.ok()
        };
        let (dead, parked, pauses) = tokio::join!(
            count(HoldingQueue::DeadLetters),
            count(HoldingQueue::Parked),
            pauses
        );
        // While everything is paused, parked deliveries wait in their queues.
        let waiting = pauses.and_then(|pauses| match pauses {
            Some(pauses) if pauses.is_everything_paused() => depth,
            _ => Some(0),
        });
        let parked = parked
            .zip(waiting)
            .map(|(parked, waiting)| parked + waiting);
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

    /// Deletes alerts that were resolved for longer than the settings say. Open documents are written to the journal
    /// again: its own lines may be so old that it drops them.
    async fn cut_history(
        &self,
        held: &mut LeaseGuard<'_>,
        now_s: i64,
    ) -> Result<(), EvaluatorError> {
        let keep_s = self.config.history.0;
        let mut old = Vec::new();
        for (key, body) in self.store.documents(engine::HISTORY).await? {
            match serde_json::from_str::<Alert>(&body) {
                Ok(alert) if alert.resolved_s.is_none_or(|at_s| at_s + keep_s >= now_s) => {}
                Ok(_) => old.push(document(engine::HISTORY, key, None)),
                Err(error) => {
                    let (key, at) = (redact::id(&key), redact::place(&error));
                    tracing::error!(%key, at, "an old alert cannot be read; it stays in the history");
                }
            }
        }
        for part in old.chunks(DELETE_BATCH) {
            self.store.write_documents(held.fence, part).await?;
            held.journal.note(part, self.clock.now_ms());
            self.keep_lease(held).await?;
        }
        for space in [
            engine::ALERTS,
            engine::SILENCES,
            engine::PENDING,
            engine::BEGAN,
        ] {
            let open = self.store.documents(space).await?.into_iter();
            let open: Vec<_> = open
                .map(|(key, body)| document(space, key, Some(body)))
                .collect();
            held.journal.note(&open, self.clock.now_ms());
        }
        Ok(())
    }
}

/// Whether what was read comes from a delivery.
fn shows_a_delivery(read: &ReadResult<'_>) -> bool {
    let changed = |changes: &Changes| !changes.changes.is_empty();
    read.deliveries.is_some_and(|deliveries| deliveries > 0)
        || read.changes.as_ref().is_some_and(changed)
        || read
            .conditions
            .as_ref()
            .is_some_and(|open| !open.is_empty())
        || !read.due.is_empty()
}

/// Of every partition: how many deliveries wait, and what is applied.
fn backlog(depth: Option<&[u64]>, health: &[Health]) -> BacklogRead {
    let Some(depth) = depth.filter(|depth| depth.len() == health.len()) else {
        return BacklogRead::Unknown;
    };
    let partitions = depth
        .iter()
        .zip(health)
        .map(|(waiting, health)| PartitionBacklog {
            waiting: *waiting,
            applied_until_ms: health.high_watermark_ms,
        });
    BacklogRead::Partitions(partitions.collect())
}

fn document(space: &'static str, key: String, body: Option<String>) -> DocumentWrite {
    DocumentWrite { space, key, body }
}

fn log_transition(transition: &TransitionEvent) {
    let TransitionEvent {
        alert_id,
        key,
        from,
        to,
        by,
        event_id,
        ..
    } = transition;
    let (rule, subject) = (key.rule.as_str(), key.subject.redacted());
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
