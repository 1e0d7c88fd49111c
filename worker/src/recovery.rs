//! Replays the archive: to recover partitions whose store lost data, to rebuild them, or on an
//! operator's request.
//!
//! Merging is idempotent and dedupe keys identify processed deliveries. A replay may therefore
//! start too early, be interrupted, run twice at the same time, and run next to workers that apply
//! new deliveries.

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use revwatch_core::clock::{Clock, Ids};
use revwatch_core::pauses::{PauseHistory, Pauses, Scope};
use revwatch_core::redact;
use revwatch_runtime::panics::catch;
use revwatch_storage::journal::{self, DISMISSED, PAUSES_KEY, REQUEUED, pauses_in_store};
use revwatch_storage::ports::{
    Coordination, Delivery, Documents, EventQueue, Fence, Health, HeldDelivery, HoldingQueue,
    Journal, JournalEntry, PAUSES, StateStore,
};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::Worker;
use crate::applied::Applied;
use crate::archive_gaps::say_missing;
use crate::batch::{Outcome, label};
use crate::partition::{PartitionError, Source, apply};
use crate::relays::{Pending, give_back};

/// In a replay, a pause takes effect this long after it was ordered: until every worker knew of the
/// pause, some may have applied deliveries that it covers, and clocks differ. A delivery applied
/// too early is recognised by its dedupe key when the pause ends; one left out wrongly would be
/// lost.
const PAUSE_TAKES_EFFECT_MS: i64 = 600_000;

/// Counts of deliveries in a replay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReplaySummary {
    /// All deliveries read.
    pub read: u64,
    /// Deliveries applied by this replay.
    pub applied: u64,
    /// Repeats of an event, types that Stripe does not document, and deliveries that can never be
    /// applied.
    pub other: u64,
    /// Events of the other mode.
    pub other_mode: u64,
    /// Deliveries left out because of a pause.
    pub held_back: u64,
}

/// A partition that may lack data.
#[derive(Debug, Clone)]
pub struct IncompletePartition {
    /// Its number.
    pub partition: u32,
    /// Its health when it was checked.
    pub health: Health,
}

impl IncompletePartition {
    fn reason(&self) -> &'static str {
        match &self.health {
            Health {
                recovery: Some(_), ..
            } => "resumed",
            Health {
                complete_in: Some(_),
                ..
            } => "restarted",
            Health { .. } => "empty",
        }
    }
}

/// How far before its high watermark a partition is replayed. One that is in the future by more than the margin, which
/// covers clocks that differ, is of deliveries that were received while the clock was ahead. Those that came after them
/// have earlier times, and may all be lost: all is replayed.
fn reach_ms(high_watermark_ms: Option<i64>, margin_ms: i64, now_ms: i64) -> i64 {
    match high_watermark_ms {
        Some(high_ms) if high_ms > now_ms.saturating_add(margin_ms) => high_ms.max(margin_ms),
        _ => margin_ms,
    }
}

/// Recovers partitions by replaying the deliveries that they may have lost. Deliveries are committed roughly in
/// the order of receipt: the margin covers those that were not, and the journal names those
/// committed much later. Calls `on_progress` with the number of deliveries read so far.
pub async fn recover(
    worker: &Worker,
    partitions: &[IncompletePartition],
    pauses: &PauseHistory,
    on_progress: &mut (dyn FnMut(u64) + Send),
) -> Result<ReplaySummary, PartitionError> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the setting is checked: at most a year"
    )]
    let margin_ms = (worker.config.recovery_margin_seconds * 1000.0) as i64;
    let own_id = worker.ids.fresh().simple().to_string();
    let (mut from, mut names) = (BTreeMap::new(), BTreeMap::new());
    for incomplete in partitions {
        let partition = incomplete.partition;
        let high_watermark_ms = incomplete.health.high_watermark_ms;
        let margin_ms = reach_ms(high_watermark_ms, margin_ms, worker.clock.now_ms());
        worker
            .metrics
            .recoveries
            .with_label_values(&[incomplete.reason()])
            .inc();
        let started = worker
            .store
            .begin_recovery(partition, &own_id, margin_ms)
            .await?;
        tracing::info!(
            partition,
            reason = incomplete.reason(),
            from_ms = started.1,
            "replaying the archive"
        );
        names.insert(partition, started.0);
        from.insert(partition, started.1);
    }
    include_requeued(worker.queue.as_ref(), &mut from).await?;
    // Another attempt at a recovery has said it.
    if names.values().any(|name| *name == own_id)
        && let Some(earliest_ms) = from.values().min()
    {
        say_missing(worker, *earliest_ms).await?;
    }
    let recovered = from.keys().copied().collect();
    let replayed = replay(worker, from, pauses, on_progress).await?;
    give_back(worker, &recovered).await?;
    for IncompletePartition { partition, health } in partitions {
        let name = names.get(partition).map_or("", String::as_str);
        if !worker
            .store
            .end_recovery(*partition, name, &health.server_run_id)
            .await?
        {
            tracing::warn!(
                partition,
                "the store lost data again during the replay; retrying"
            );
        }
    }
    let ReplaySummary {
        read,
        applied,
        other,
        other_mode,
        held_back,
    } = replayed;
    tracing::info!(
        partitions = partitions.len(),
        read,
        applied,
        other,
        other_mode,
        held_back,
        "the archive is replayed"
    );
    Ok(replayed)
}

/// Moves the start back to include deliveries that were received earlier but requeued after it.
async fn include_requeued(
    journal: &dyn Journal,
    from: &mut BTreeMap<u32, i64>,
) -> Result<(), PartitionError> {
    if from.values().all(|from_ms| *from_ms <= 0) {
        return Ok(());
    }
    let mut requeued: Vec<(i64, i64)> = Vec::new();
    let mut each = |entry: JournalEntry| {
        if entry.space == REQUEUED
            && let Some(received_ms) = entry.body.and_then(|body| body.parse().ok())
        {
            requeued.push((entry.at_ms, received_ms));
        }
    };
    journal.read_journal(&mut each).await?;
    for from_ms in from.values_mut() {
        let sent_since = requeued
            .iter()
            .filter(|(at_ms, _)| at_ms >= from_ms)
            .map(|(_, received_ms)| *received_ms);
        *from_ms = sent_since.min().unwrap_or(*from_ms).min(*from_ms);
    }
    Ok(())
}

/// Applies archived deliveries again: for each partition in `from`, those received at or after the
/// given time (Unix milliseconds).
pub async fn replay(
    worker: &Worker,
    from: BTreeMap<u32, i64>,
    pauses: &PauseHistory,
    on_progress: &mut (dyn FnMut(u64) + Send),
) -> Result<ReplaySummary, PartitionError> {
    /// Batches read ahead for each partition.
    const READ_AHEAD: usize = 2;
    let Some(earliest_ms) = from.values().min().copied() else {
        return Ok(ReplaySummary::default());
    };
    let known_dead = Arc::new(known_dead(worker.queue.as_ref()).await?);
    let mut archive = worker.queue.archive(earliest_ms).await?;
    let mut appliers = JoinSet::new();
    let mut lanes: BTreeMap<u32, Lane> = BTreeMap::new();
    for (partition, from_ms) in from {
        let (send, receive) = mpsc::channel(READ_AHEAD);
        appliers.spawn(apply_all(
            worker.clone(),
            partition,
            receive,
            pauses.clone(),
            known_dead.clone(),
        ));
        lanes.insert(
            partition,
            Lane {
                from_ms,
                send,
                waiting: Vec::new(),
            },
        );
    }
    let mut total = ReplaySummary::default();
    let (batch, partitions) = (worker.config.batch, worker.queue.partitions());
    'reading: loop {
        let page = archive.next(batch * 4).await?;
        if page.is_empty() {
            break;
        }
        for delivery in page {
            let Some(lane) = lanes.get_mut(&partition_of(&delivery, partitions)) else {
                continue;
            };
            if delivery.received_ms < lane.from_ms {
                continue;
            }
            total.read += 1;
            lane.waiting.push(delivery);
            if lane.waiting.len() == batch
                && lane
                    .send
                    .send(std::mem::take(&mut lane.waiting))
                    .await
                    .is_err()
            {
                // Its applier has stopped; the error is returned below.
                break 'reading;
            }
        }
        on_progress(total.read);
    }
    for Lane { send, waiting, .. } in lanes.into_values() {
        if !waiting.is_empty() {
            let _ = send.send(waiting).await;
        }
    }
    while let Some(done) = appliers.join_next().await {
        // A panic is passed on, so that the supervisor of this task reports it. Nothing cancels an applier.
        let part = done.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
        total.applied += part.applied;
        total.other += part.other;
        total.other_mode += part.other_mode;
        total.held_back += part.held_back;
    }
    Ok(total)
}

/// The archive has deliveries in the partitions that the version which received them computed. An event that cannot be
/// read is a dead letter of that one.
pub(crate) fn partition_of(delivery: &Delivery, partitions: u32) -> u32 {
    let partition = || {
        delivery
            .event_head()
            .map(|event| event.partition(partitions))
    };
    match catch(partition) {
        Ok(Ok(partition)) => partition,
        _ => delivery.partition,
    }
}

/// The channel from the reader of the archive to the task that applies one partition's deliveries.
struct Lane {
    from_ms: i64,
    send: mpsc::Sender<Vec<Delivery>>,
    waiting: Vec<Delivery>,
}

async fn apply_all(
    worker: Worker,
    partition: u32,
    mut batches: mpsc::Receiver<Vec<Delivery>>,
    pauses: PauseHistory,
    known_dead: Arc<HashSet<Uuid>>,
) -> Result<ReplaySummary, PartitionError> {
    let source = Source::Archive {
        known_dead: &known_dead,
    };
    let (mut total, mut relays) = (ReplaySummary::default(), Pending::default());
    while let Some(deliveries) = batches.recv().await {
        let Applied { decision, .. } =
            apply(&worker, partition, &deliveries, &pauses, source).await?;
        relays.add(decision.relays);
        relays.write_if_full(&worker).await?;
        for (delivery, outcome) in deliveries.iter().zip(&decision.outcomes) {
            match outcome {
                Outcome::Applied => total.applied += 1,
                Outcome::Paused(_) => total.held_back += 1,
                Outcome::OtherMode(reason) => {
                    worker.other_mode.note(*reason);
                    total.other_mode += 1;
                }
                Outcome::Redelivered | Outcome::Moved(_) => {}
                Outcome::Duplicate | Outcome::Ignored | Outcome::Dead(_) => total.other += 1,
            }
            if let Some(counter) = outcome.counter() {
                worker
                    .metrics
                    .worker_events
                    .with_label_values(&[label(delivery), counter])
                    .inc();
            }
        }
    }
    relays.write(&worker).await?;
    Ok(total)
}

/// Ids of all deliveries that are in the dead-letter queue or were dismissed from it. The replay
/// need not store them there again.
pub(crate) async fn known_dead(queue: &dyn EventQueue) -> Result<HashSet<Uuid>, PartitionError> {
    let mut known = HashSet::new();
    let mut add = |letter: HeldDelivery| {
        known.insert(letter.delivery.id);
        ControlFlow::Continue(())
    };
    queue
        .visit_held(HoldingQueue::DeadLetters, &mut add)
        .await?;
    let dismissed = journal::newest_documents(queue, &[DISMISSED]).await?;
    known.extend(
        dismissed
            .into_keys()
            .filter_map(|(_, id)| id.parse::<Uuid>().ok()),
    );
    Ok(known)
}

/// The pauses in force.
pub async fn pauses(
    journal: &dyn Journal,
    store: &dyn StateStore,
) -> Result<Pauses, PartitionError> {
    // In this order: a loss before the pauses were read shows in the health.
    let stored = pauses_in_store(store).await?;
    let is_complete = store.health().await?.iter().all(Health::is_complete);
    Ok(if is_complete {
        stored.unwrap_or_default()
    } else {
        pause_history(journal, store).await?.now()
    })
}

/// Reads the history of pauses from the journal and writes the latest pauses back into the store,
/// which may have lost them.
pub async fn restore_pauses(
    journal: &dyn Journal,
    store: &dyn StateStore,
    ids: &dyn Ids,
) -> Result<PauseHistory, PartitionError> {
    loop {
        let lease = PausesLease::begin(store, ids).await?;
        let pause_history = pause_history(journal, store).await?;
        if lease.renew().await? {
            store
                .submit(PAUSES, PAUSES_KEY, &write(&pause_history.now())?)
                .await?;
            lease.end().await?;
            return Ok(pause_history);
        }
    }
}

/// Changes the pauses. The journal is written first, so that the pauses survive a loss of the
/// store.
pub async fn change_pauses(
    journal: &dyn Journal,
    store: &dyn StateStore,
    scope: &Scope,
    paused: bool,
    (clock, ids): (&dyn Clock, &dyn Ids),
) -> Result<Pauses, PartitionError> {
    loop {
        let lease = PausesLease::begin(store, ids).await?;
        let mut now = pauses(journal, store).await?;
        now.set(scope, paused);
        if lease.renew().await? {
            let (at_ms, body) = (clock.now_ms(), write(&now)?);
            let (space, key) = (PAUSES.to_owned(), PAUSES_KEY.to_owned());
            journal
                .append_journal(vec![JournalEntry {
                    at_ms,
                    space,
                    key,
                    body: Some(body.clone()),
                }])
                .await?;
            store.submit(PAUSES, PAUSES_KEY, &body).await?;
            lease.end().await?;
            return Ok(now);
        }
    }
}

/// The history in the journal, or the store's pauses if the journal has none.
async fn pause_history(
    journal: &dyn Journal,
    store: &dyn Documents,
) -> Result<PauseHistory, PartitionError> {
    let mut entries = Vec::new();
    let mut each = |entry: JournalEntry| {
        if entry.space == PAUSES
            && entry.key == PAUSES_KEY
            && let Some(body) = entry.body
        {
            entries.push((entry.at_ms, body));
        }
    };
    journal.read_journal(&mut each).await?;
    if entries.is_empty() {
        return Ok(pauses_in_store(store).await?.unwrap_or_default().into());
    }
    let started = |(at_ms, body): &(i64, String)| {
        Ok((at_ms.saturating_add(PAUSE_TAKES_EFFECT_MS), read(body)?))
    };
    Ok(PauseHistory::new(
        entries
            .iter()
            .map(started)
            .collect::<Result<_, PartitionError>>()?,
    ))
}

fn read(body: &str) -> Result<Pauses, PartitionError> {
    let unreadable = |error| format!("the pauses, {}", redact::place(&error));
    serde_json::from_str(body).map_err(|error| PartitionError::Unreadable(unreadable(error)))
}

fn write(pauses: &Pauses) -> Result<String, PartitionError> {
    serde_json::to_string(pauses).map_err(|e| PartitionError::Unreadable(e.to_string()))
}

/// The lease for changing pauses: writers read, change and write them, so only one may do so at a
/// time.
struct PausesLease<'a> {
    leases: &'a dyn Coordination,
    holder: String,
    fence: Fence,
}

impl<'a> PausesLease<'a> {
    const LEASE: &'static str = "pauses";
    /// Longer than a change usually takes. A writer that takes longer loses the lease and starts
    /// over.
    const TTL_MS: u64 = 20_000;

    async fn begin(leases: &'a dyn Coordination, ids: &dyn Ids) -> Result<Self, PartitionError> {
        let holder = ids.fresh().to_string();
        loop {
            if let Some(fence) = leases.lease(Self::LEASE, &holder, Self::TTL_MS).await? {
                return Ok(Self {
                    leases,
                    holder,
                    fence,
                });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn renew(&self) -> Result<bool, PartitionError> {
        Ok(self
            .leases
            .lease(Self::LEASE, &self.holder, Self::TTL_MS)
            .await?
            == Some(self.fence))
    }

    async fn end(self) -> Result<(), PartitionError> {
        Ok(self.leases.release(Self::LEASE, &self.holder).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watermark_from_a_clock_that_was_ahead_bounds_no_replay() {
        const NOW_MS: i64 = 1_800_000_000_000;
        const DAY_MS: i64 = 86_400_000;
        for (high_watermark_ms, margin_ms, begin_ms) in [
            (NOW_MS, 1000, NOW_MS - 1000),
            (NOW_MS - DAY_MS, 1000, NOW_MS - DAY_MS - 1000),
            (NOW_MS + 1000, 1000, NOW_MS),
            (NOW_MS + 1001, 1000, 0),
            (NOW_MS + 365 * DAY_MS, 30 * DAY_MS, 0),
        ] {
            let reach_ms = reach_ms(Some(high_watermark_ms), margin_ms, NOW_MS);
            assert_eq!((high_watermark_ms - reach_ms).max(0), begin_ms);
        }
        assert_eq!(reach_ms(None, 1000, NOW_MS), 1000);
    }
}
