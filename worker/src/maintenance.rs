//! Maintains what all partitions of a worker depend on: the store is converted and complete, the pauses are
//! known, and parked deliveries are requeued when their pause ends.

use std::sync::Arc;
use std::time::Duration;

use revwatch_core::entity::STATE_FORMAT;
use revwatch_core::pauses::{PauseHistory, Pauses};
use revwatch_runtime::panics::catch;
use revwatch_runtime::retries::Retries;
use revwatch_storage::failure_log::FailureLog;
use revwatch_storage::journal::pauses_in_store;
use revwatch_storage::ports::{Disposition, Health, HeldDelivery, HoldingQueue, TriageSummary};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::Worker;
use crate::conversion;
use crate::membership::Share;
use crate::other_mode::OtherModeLog;
use crate::partition::{BACKOFF, PartitionError};
use crate::recovery::{self, IncompletePartition};
use crate::standing::{Standing, Subject};

/// How often it checks the store.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Workers see a change of pauses within a few checks. For this long after a change, some may still
/// park deliveries that need not be parked.
const PAUSE_SETTLE: Duration = Duration::from_secs(30);

/// A worker that cannot read the pauses may park deliveries for longer. So parked deliveries are triaged
/// this often if their number has changed. Each triage reads all of them: while it requeues none, the interval doubles,
/// up to [`MAX_TRIAGE_INTERVAL`], until pauses change.
const TRIAGE_INTERVAL: Duration = Duration::from_mins(5);

/// The longest interval between triages in a long pause.
const MAX_TRIAGE_INTERVAL: Duration = Duration::from_hours(1);

/// How often a long replay logs its progress.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(30);

/// The worker that owns this partition requeues parked deliveries.
const REQUEUE_PARTITION: u32 = 0;

/// The worker that owns this partition converts the state of all partitions. It reads them all before it
/// adds up any: an entity that is in several partitions counts in one.
const CONVERTING_PARTITION: u32 = 0;

/// How often it is said that workers of another version run.
const OTHER_FORMAT_INTERVAL: Duration = Duration::from_secs(30);

pub(crate) struct Maintenance {
    worker: Worker,
    share: watch::Receiver<Share>,
    pauses: watch::Sender<Option<Arc<Pauses>>>,
    /// Whether pauses were restored from the journal since the store was last found incomplete.
    restored: bool,
    /// The running recovery. Aborted when this task ends; the partition's next owner continues it.
    running_recovery: Option<AbortOnDropHandle<Result<(), PartitionError>>>,
    triages: TriageSchedule,
    other_mode: OtherModeLog,
    /// When it was said that workers of another version run.
    other_format_logged: Option<Instant>,
    /// Of a conversion that has not succeeded yet.
    archived: Option<conversion::Archived>,
    standing: Standing,
}

/// When parked deliveries are triaged.
struct TriageSchedule {
    /// When pauses last changed.
    changed: Instant,
    /// When parked deliveries were last triaged.
    triaged: Instant,
    /// How long after that they are triaged again.
    interval: Duration,
    /// How many deliveries the last triage kept parked. While neither their number nor the pauses
    /// change, another triage would do nothing.
    kept: Option<u64>,
}

impl TriageSchedule {
    /// Pauses have just changed.
    fn new(now: Instant) -> Self {
        Self {
            changed: now,
            triaged: now,
            interval: TRIAGE_INTERVAL,
            kept: None,
        }
    }

    /// Whether the deliveries are triaged now, `parked` in number.
    fn is_due(&self, parked: u64, now: Instant) -> bool {
        let may_be = self.is_settling(now) || now - self.triaged >= self.interval;
        may_be && parked > 0 && self.kept != Some(parked)
    }

    /// A triage has ended.
    fn note(&mut self, summary: &TriageSummary, now: Instant) {
        self.interval = if self.is_settling(now) || summary.requeued > 0 {
            TRIAGE_INTERVAL
        } else {
            (self.interval * 2).min(MAX_TRIAGE_INTERVAL)
        };
        (self.triaged, self.kept) = (now, Some(summary.kept));
    }

    fn is_settling(&self, now: Instant) -> bool {
        now - self.changed <= PAUSE_SETTLE
    }
}

impl Maintenance {
    /// Publishes the pauses in force to `pauses` as soon as they are known. `pauses` outlives this
    /// task.
    pub(crate) fn new(
        worker: Worker,
        share: watch::Receiver<Share>,
        pauses: watch::Sender<Option<Arc<Pauses>>>,
    ) -> Self {
        Self {
            worker,
            share,
            pauses,
            restored: false,
            running_recovery: None,
            triages: TriageSchedule::new(Instant::now()),
            other_mode: OtherModeLog::default(),
            other_format_logged: None,
            archived: None,
            standing: Standing::default(),
        }
    }

    /// Notes in `standing` why it fails.
    pub(crate) fn reporting_to(self, standing: Standing) -> Self {
        Self { standing, ..self }
    }

    /// Checks until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let (mut retries, failures) = (Retries::new(BACKOFF), FailureLog::default());
        while !stop.is_cancelled() {
            let round = async {
                let pause = match self.check().await {
                    Ok(()) => {
                        retries.reset();
                        self.standing.works(Subject::Maintenance);
                        CHECK_INTERVAL
                    }
                    Err(error) => {
                        let persistent = error.persistent_reason().is_some();
                        let (reason, now) = (error.reason(), Instant::now());
                        self.standing
                            .fails(Subject::Maintenance, reason, persistent, now);
                        let pause = retries.pause().max(CHECK_INTERVAL);
                        match (failures.admit(&error), error.persistent_reason()) {
                            (Some(earlier), None) => {
                                tracing::warn!(%error, ?pause, earlier, "recovery check failed");
                            }
                            (Some(earlier), Some(_)) => {
                                tracing::error!(%error, ?pause, earlier, "recovery check failed");
                            }
                            (None, _) => {}
                        }
                        pause
                    }
                };
                tokio::time::sleep(pause).await;
            };
            // Every step may be interrupted.
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = round => {}
            }
        }
    }

    async fn check(&mut self) -> Result<(), PartitionError> {
        // Read before the health: a loss before this read shows in the health.
        let pauses = pauses_in_store(self.worker.store.as_ref()).await?;
        let health = self.worker.store.health().await?;
        let incomplete = health.iter().filter(|health| !health.is_complete()).count();
        self.worker
            .metrics
            .partitions_recovering
            .set(i64::try_from(incomplete).unwrap_or(i64::MAX));
        self.log_other_format();
        if !health.iter().all(Health::is_converted) {
            return self.convert(&health).await;
        }
        // Another worker may have converted it.
        self.archived = None;
        if let Some(ended) = self
            .running_recovery
            .take_if(|running_recovery| running_recovery.is_finished())
        {
            // Passes a panic of the recovery on, so that the supervisor of this task sees it. An error is one
            // of this check, so that the next replay waits for its turn.
            match ended.await {
                Ok(recovered) => recovered?,
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
        }
        if incomplete == 0 {
            self.restored = false;
            self.set_pauses(pauses.unwrap_or_default());
            let (store, deployment) = (
                &self.worker.store,
                self.worker.events.get().modes.deployment,
            );
            self.other_mode
                .say(&self.worker.other_mode, deployment, store.as_ref())
                .await?;
            return self.requeue_parked().await;
        }
        let partitions: Vec<IncompletePartition> = (0..)
            .zip(health)
            .filter(|(partition, health)| {
                !health.is_complete() && self.share.borrow().partitions.contains(partition)
            })
            .map(|(partition, health)| IncompletePartition { partition, health })
            .collect();
        let starts = self.running_recovery.is_none() && !partitions.is_empty();
        match pauses {
            // Operators may change pauses while this worker or others recover partitions.
            Some(stored) if self.restored && !starts => self.set_pauses(stored),
            // The store may have lost the pauses, or have an older version of them.
            _ => {
                let history = recovery::restore_pauses(
                    self.worker.queue.as_ref(),
                    self.worker.store.as_ref(),
                    self.worker.ids.as_ref(),
                )
                .await?;
                self.set_pauses(history.now());
                self.restored = true;
                if starts {
                    self.running_recovery = Some(AbortOnDropHandle::new(tokio::spawn(recover(
                        self.worker.clone(),
                        partitions,
                        history,
                    ))));
                }
            }
        }
        Ok(())
    }

    /// Nothing is read from the queue until the state is converted.
    async fn convert(&mut self, health: &[Health]) -> Result<(), PartitionError> {
        self.running_recovery = None;
        self.pauses.send_if_modified(|known| known.take().is_some());
        let newest = health.iter().map(|it| it.state_format).max();
        if let Some(newest) = newest.filter(|newest| *newest > STATE_FORMAT) {
            return Err(PartitionError::NewerFormat(newest));
        }
        let Share {
            partitions,
            of_other_format,
        } = self.share.borrow().clone();
        if of_other_format.is_empty() && partitions.contains(&CONVERTING_PARTITION) {
            conversion::convert(&self.worker, health, &mut self.archived).await?;
        }
        Ok(())
    }

    /// Two versions on one store would undo each other's work.
    fn log_other_format(&mut self) {
        let others = self.share.borrow().of_other_format.join(", ");
        let is_due = |at: Instant| at.elapsed() >= OTHER_FORMAT_INTERVAL;
        if !others.is_empty() && self.other_format_logged.is_none_or(is_due) {
            self.other_format_logged = Some(Instant::now());
            tracing::error!(
                workers = others,
                "workers of another version run on this store: stop them (one that was killed counts for {} s). Until then \
                 its state is not converted",
                self.worker.config.member_seconds
            );
        }
    }

    fn set_pauses(&mut self, pauses: Pauses) {
        let (any, all) = (pauses.is_any_paused(), pauses.is_everything_paused());
        let is_new = self.pauses.send_if_modified(|known| {
            let is_new = known.as_deref() != Some(&pauses);
            if is_new {
                *known = Some(Arc::new(pauses));
            }
            is_new
        });
        // After the partitions, so that the gauges are never ahead of them.
        self.worker.metrics.paused.set(i64::from(any));
        self.worker.metrics.everything_paused.set(i64::from(all));
        if is_new {
            self.triages = TriageSchedule::new(Instant::now());
        }
    }

    /// Returns parked deliveries that are no longer paused to their partitions.
    async fn requeue_parked(&mut self) -> Result<(), PartitionError> {
        let queue = &self.worker.queue;
        let parked = queue.held_count(HoldingQueue::Parked).await?;
        self.worker
            .metrics
            .parked_deliveries
            .set(i64::try_from(parked).unwrap_or(i64::MAX));
        if !self.share.borrow().partitions.contains(&REQUEUE_PARTITION) {
            // The partition's next owner starts as if pauses had just changed.
            self.triages = TriageSchedule::new(Instant::now());
            return Ok(());
        }
        let Some(pauses) = self.pauses.borrow().clone() else {
            return Ok(());
        };
        if !pauses.is_everything_paused() && self.triages.is_due(parked, Instant::now()) {
            let mode = self.worker.events.get().modes.deployment;
            let mut decide = |held: &HeldDelivery| match catch(|| {
                let event = held.delivery.event();
                event.is_ok_and(|event| pauses.hold(&event.in_deployment(mode)).is_some())
            }) {
                Ok(true) => Disposition::Keep,
                // Also if it cannot be read: its partition makes a dead letter of it.
                _ => Disposition::Requeue(Box::new(held.delivery.clone())),
            };
            let summary = queue.triage(HoldingQueue::Parked, &mut decide).await?;
            self.triages.note(&summary, Instant::now());
            if summary.requeued > 0 {
                tracing::info!(
                    deliveries = summary.requeued,
                    kept = summary.kept,
                    "requeued parked deliveries"
                );
            }
        }
        Ok(())
    }
}

async fn recover(
    worker: Worker,
    partitions: Vec<IncompletePartition>,
    pauses: PauseHistory,
) -> Result<(), PartitionError> {
    let mut logged_at = Instant::now();
    let mut on_progress = |read| {
        if logged_at.elapsed() > PROGRESS_INTERVAL {
            logged_at = Instant::now();
            tracing::info!(read, "replaying the archive");
        }
    };
    let replayed = recovery::recover(&worker, &partitions, &pauses, &mut on_progress).await;
    replayed
        .map(drop)
        .map_err(|error| PartitionError::Replay(Box::new(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_a_long_pause_triages_that_requeue_nothing_become_rarer() {
        let start = Instant::now();
        let mut triages = TriageSchedule::new(start);
        // A delivery is parked each second.
        let triage = |triages: &mut TriageSchedule, from_s: u64, requeued: u64| {
            let due = |s: &u64| triages.is_due(*s, start + Duration::from_secs(*s));
            let at_s = (from_s + 1..).find(due).expect("some time");
            let summary = TriageSummary {
                requeued,
                kept: at_s,
                ..TriageSummary::default()
            };
            triages.note(&summary, start + Duration::from_secs(at_s));
            at_s - from_s
        };
        let mut at_s = 0;
        let mut wait = |triages: &mut TriageSchedule, requeued| {
            let waited_s = triage(triages, at_s, requeued);
            at_s += waited_s;
            waited_s
        };
        // Others may not know the pauses yet.
        for _ in 0..30 {
            assert_eq!(wait(&mut triages, 0), 1);
        }
        let waits = [0; 6].map(|requeued| wait(&mut triages, requeued));
        assert_eq!(waits, [300, 600, 1200, 2400, 3600, 3600]);
        assert_eq!((wait(&mut triages, 1), wait(&mut triages, 0)), (3600, 300));
        triages = TriageSchedule::new(start + Duration::from_secs(at_s));
        assert_eq!(triage(&mut triages, at_s, 0), 1, "pauses have changed");
    }

    #[test]
    fn nothing_is_triaged_while_the_number_of_parked_deliveries_stays() {
        let start = Instant::now();
        let mut triages = TriageSchedule::new(start);
        let summary = TriageSummary {
            kept: 2,
            ..TriageSummary::default()
        };
        assert!(triages.is_due(2, start) && !triages.is_due(0, start));
        triages.note(&summary, start);
        let later = start + MAX_TRIAGE_INTERVAL;
        assert!(!triages.is_due(2, later) && triages.is_due(3, later));
    }
}
