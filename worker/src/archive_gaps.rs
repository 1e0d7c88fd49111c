//! The gaps of the archive: shows how many wait for a backfill, ends those whose processes are dead, and says which of
//! them a replay meets.

use std::time::Duration;

use revwatch_storage::failure_log::FailureLog;
use revwatch_storage::gaps::Gaps;
use revwatch_storage::journal::{OperatorAction, record_action};
use revwatch_storage::ports::QueueError;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::Worker;
use crate::membership::Share;

/// Watches the gaps of the archive.
pub(crate) struct GapWatch {
    worker: Worker,
    share: watch::Receiver<Share>,
}

/// The worker that owns this partition watches the gaps.
const WATCHING_PARTITION: u32 = 0;

const INTERVAL: Duration = Duration::from_secs(30);
/// How soon a worker notices that it owns the partition.
const OWNED_AFTER: Duration = Duration::from_secs(1);

impl GapWatch {
    pub(crate) fn new(worker: Worker, share: watch::Receiver<Share>) -> Self {
        Self { worker, share }
    }

    /// Watches until `stop`, unless queue and archive are one.
    pub(crate) async fn run(self, stop: CancellationToken) {
        if !self.worker.queue.is_apart() {
            return;
        }
        let (mut gaps, failures) = (Gaps::default(), FailureLog::default());
        loop {
            let round = async {
                if !self.share.borrow().partitions.contains(&WATCHING_PARTITION) {
                    self.worker.metrics.archive_gaps.set(0);
                    return OWNED_AFTER;
                }
                if let Err(error) = self.check(&mut gaps).await
                    && let Some(earlier) = failures.admit(&error)
                {
                    tracing::warn!(%error, earlier, "cannot read the gaps of the archive from the journal");
                }
                INTERVAL
            };
            tokio::select! {
                biased;
                // Every step may be interrupted.
                () = stop.cancelled() => return,
                () = async { tokio::time::sleep(round.await).await } => {}
            }
        }
    }

    async fn check(&self, gaps: &mut Gaps) -> Result<(), QueueError> {
        let (queue, clock) = (&self.worker.queue, &self.worker.clock);
        gaps.update(queue.as_ref(), clock.now_ms()).await?;
        if gaps.is_any_abandoned(clock.now_ms()) {
            // To read from the archive's end, something is written to it: it takes messages.
            queue.archive(clock.now_ms()).await?;
            let ends = gaps.abandoned(clock.now_ms());
            tracing::warn!(
                gaps = ends.len(),
                "a process ended while the archive took nothing; it does again, and that gap has its end"
            );
            queue.append_journal(ends).await?;
            gaps.update(queue.as_ref(), clock.now_ms()).await?;
        }
        let missing = gaps.missing(i64::MIN, clock.now_ms());
        let count = missing.map_or(0, |missing| missing.count);
        let metric = &self.worker.metrics.archive_gaps;
        metric.set(i64::try_from(count).unwrap_or(i64::MAX));
        Ok(())
    }
}

/// Says that a replay from `from_ms` cannot bring back what the archive lacks; the audit has it, too.
pub(crate) async fn say_missing(worker: &Worker, from_ms: i64) -> Result<(), QueueError> {
    let (queue, now_ms) = (&worker.queue, worker.clock.now_ms());
    if !queue.is_apart() {
        return Ok(());
    }
    let gaps = Gaps::read(queue.as_ref(), now_ms).await?;
    let Some(missing) = gaps.missing(from_ms, now_ms) else {
        return Ok(());
    };
    tracing::error!(%missing, "the state is recovered without some deliveries");
    let action = OperatorAction {
        at_ms: now_ms,
        who: "revwatch".to_owned(),
        what: "recovery over a gap".to_owned(),
        detail: missing.to_string(),
    };
    record_action(queue.as_ref(), &action, worker.ids.as_ref()).await
}
