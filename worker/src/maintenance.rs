//! Looks after what all partitions of a worker need: that the store is whole, that pauses are known, and that
//! what they held back goes on when they end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use revwatch_core::event::Event;
use revwatch_core::pauses::{PauseHistory, Pauses};
use revwatch_storage::journal::pauses_in_store;
use revwatch_storage::ports::{Disposition, HeldDelivery, HoldingQueue};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::Worker;
use crate::partition::{PartitionError, backoff};
use crate::recovery::{self, IncompletePartition};

/// How often it looks.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Workers see a change of pauses within a few looks. Until this long after it, some may still set aside what
/// need not be.
const PAUSE_SETTLE: Duration = Duration::from_secs(30);

/// How often a long replay says how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(30);

/// The worker that has this partition sends on what is no longer held back.
const REQUEUE_PARTITION: u32 = 0;

pub(crate) struct Maintenance {
    worker: Worker,
    owned: watch::Receiver<BTreeSet<u32>>,
    pauses: watch::Sender<Option<Arc<Pauses>>>,
    /// Since the store was last seen not to be whole, it has got its pauses from the journal.
    restored: bool,
    /// Ends with the steward: who has the partition next goes on with it.
    healing: Option<AbortOnDropHandle<()>>,
    /// When pauses last changed, as long as something may be left to send on.
    changed: Option<Instant>,
    /// How many the last sweep left standing aside. As long as they are as many, and pauses are as they were, another
    /// would do nothing.
    kept: Option<u64>,
}

impl Maintenance {
    /// `pauses` will hold those in force, as far as they are known; it outlives the steward.
    pub(crate) fn new(
        worker: Worker,
        owned: watch::Receiver<BTreeSet<u32>>,
        pauses: watch::Sender<Option<Arc<Pauses>>>,
    ) -> Self {
        Self {
            worker,
            owned,
            pauses,
            restored: false,
            healing: None,
            changed: None,
            kept: None,
        }
    }

    /// Looks until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut pauses = backoff();
        while !stop.is_cancelled() {
            let looking = async {
                let pause = match self.check().await {
                    Ok(()) => {
                        pauses = backoff();
                        CHECK_INTERVAL
                    }
                    Err(error) => {
                        let pause = pauses.next().unwrap_or(CHECK_INTERVAL).max(CHECK_INTERVAL);
                        tracing::warn!(%error, ?pause, "cannot look after the store");
                        pause
                    }
                };
                tokio::time::sleep(pause).await;
            };
            // Nothing it does has to be finished.
            tokio::select! {
                () = stop.cancelled() => {}
                () = looking => {}
            }
        }
    }

    async fn check(&mut self) -> Result<(), PartitionError> {
        // Read before the health, which shows what was lost by then.
        let pauses = pauses_in_store(self.worker.store.as_ref()).await?;
        let health = self.worker.store.health().await?;
        let unwell = health.iter().filter(|health| !health.is_complete()).count();
        self.worker
            .metrics
            .partitions_recovering
            .set(i64::try_from(unwell).unwrap_or(i64::MAX));
        if let Some(healed) = self.healing.take_if(|healing| healing.is_finished()) {
            // A panic there is one of this task.
            if let Some(panic) = healed
                .await
                .err()
                .and_then(|error| error.try_into_panic().ok())
            {
                std::panic::resume_unwind(panic);
            }
        }
        if unwell == 0 {
            self.restored = false;
            self.set_pauses(pauses.unwrap_or_default());
            return self.requeue_parked().await;
        }
        let patients: Vec<IncompletePartition> = (0..)
            .zip(health)
            .filter(|(partition, health)| {
                !health.is_complete() && self.owned.borrow().contains(partition)
            })
            .map(|(partition, health)| IncompletePartition { partition, health })
            .collect();
        let begins = self.healing.is_none() && !patients.is_empty();
        match pauses {
            // What operators change while others, or this worker, make partitions whole.
            Some(stored) if self.restored && !begins => self.set_pauses(stored),
            // The store may have lost them, or have older ones.
            _ => {
                let course = recovery::restore_pauses(
                    self.worker.queue.as_ref(),
                    self.worker.store.as_ref(),
                )
                .await?;
                self.set_pauses(course.now());
                self.restored = true;
                if begins {
                    self.healing = Some(AbortOnDropHandle::new(tokio::spawn(recover(
                        self.worker.clone(),
                        patients,
                        course,
                    ))));
                }
            }
        }
        Ok(())
    }

    fn set_pauses(&mut self, pauses: Pauses) {
        self.worker
            .metrics
            .paused
            .set(i64::from(pauses.is_any_paused()));
        let is_new = self.pauses.send_if_modified(|known| {
            let is_new = known.as_deref() != Some(&pauses);
            if is_new {
                *known = Some(Arc::new(pauses));
            }
            is_new
        });
        if is_new {
            (self.changed, self.kept) = (Some(Instant::now()), None);
        }
    }

    /// Hands what stands aside, and is no longer held back, to its partition.
    async fn requeue_parked(&mut self) -> Result<(), PartitionError> {
        let queue = &self.worker.queue;
        let parked = queue.held_count(HoldingQueue::Parked).await?;
        self.worker
            .metrics
            .parked_deliveries
            .set(i64::try_from(parked).unwrap_or(i64::MAX));
        if !self.owned.borrow().contains(&REQUEUE_PARTITION) {
            // Whoever gets the partition begins as if pauses had just changed.
            (self.changed, self.kept) = (Some(Instant::now()), None);
            return Ok(());
        }
        let Some(changed) = self.changed else {
            return Ok(());
        };
        let Some(pauses) = self.pauses.borrow().clone() else {
            return Ok(());
        };
        if parked > 0 && !pauses.is_everything_paused() && self.kept != Some(parked) {
            let mut decide = |aside: &HeldDelivery| match Event::parse(&aside.delivery.body) {
                Ok(event) if pauses.hold(&event).is_some() => Disposition::Keep,
                _ => Disposition::Requeue(Box::new(aside.delivery.clone())),
            };
            let swept = queue.triage(HoldingQueue::Parked, &mut decide).await?;
            self.kept = Some(swept.kept);
            if swept.requeued > 0 {
                tracing::info!(
                    deliveries = swept.requeued,
                    kept = swept.kept,
                    "what was held back goes on"
                );
            }
        }
        if changed.elapsed() > PAUSE_SETTLE {
            self.changed = None;
        }
        Ok(())
    }
}

async fn recover(worker: Worker, patients: Vec<IncompletePartition>, pauses: PauseHistory) {
    let mut said = Instant::now();
    let mut seen = |read| {
        if said.elapsed() > PROGRESS_INTERVAL {
            said = Instant::now();
            tracing::info!(read, "replaying the archive");
        }
    };
    if let Err(error) = recovery::recover(&worker, &patients, &pauses, &mut seen).await {
        tracing::warn!(%error, "the archive was not replayed to its end; beginning anew");
    }
}
