//! Replaying the archive: to make partitions whole whose store lost data, to rebuild them, or because somebody
//! asks for it.
//!
//! Merging is idempotent and marks tell what was dealt with, so a replay may reach back too far, be cut short,
//! run twice at once, and run beside the workers that apply what comes in.

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use revwatch_core::pauses::{PauseHistory, Pauses, Scope};
use revwatch_storage::journal::{self, DISMISSED, PAUSES_KEY, REQUEUED, pauses_in_store};
use revwatch_storage::ports::{
    Delivery, EventQueue, Fence, Health, HeldDelivery, HoldingQueue, JournalEntry, PAUSES,
    StateStore,
};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::Worker;
use crate::partition::{Applied, PartitionError, Source, apply};
use crate::plan::{Outcome, label};

/// A pause counts as begun this long after it was ordered, when what was lost during it is replayed: until every
/// worker knew of it some may have applied what it is about, and clocks differ. What is applied too early then is
/// known, by its mark, when it goes on; what is left out wrongly would be lost.
const PAUSE_TAKES_EFFECT_MS: i64 = 600_000;

/// What a replay came across, in deliveries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReplaySummary {
    /// All that were read.
    pub read: u64,
    /// Those that were not known: applied now.
    pub applied: u64,
    /// Repeats of an event, types Stripe does not document, and those that can never be applied.
    pub other: u64,
    /// Those held back by a pause: left out.
    pub held_back: u64,
}

/// A partition that may lack something.
#[derive(Debug, Clone)]
pub struct IncompletePartition {
    /// Which.
    pub partition: u32,
    /// As it was found.
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

/// Makes partitions whole by replaying what they may have lost: deliveries are committed about in the order in which
/// they were received, a margin is for those that were not, and the journal tells of those that came much later.
/// `seen` is told how many deliveries were read so far.
pub async fn recover(
    worker: &Worker,
    patients: &[IncompletePartition],
    pauses: &PauseHistory,
    seen: &mut (dyn FnMut(u64) + Send),
) -> Result<ReplaySummary, PartitionError> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the setting is checked: at most a year"
    )]
    let margin_ms = (worker.config.recovery_margin_seconds * 1000.0) as i64;
    let own_name = Uuid::now_v7().simple().to_string();
    let (mut from, mut names) = (BTreeMap::new(), BTreeMap::new());
    for patient in patients {
        let partition = patient.partition;
        worker
            .metrics
            .heals
            .with_label_values(&[patient.reason()])
            .inc();
        let begun = worker
            .store
            .begin_recovery(partition, &own_name, margin_ms)
            .await?;
        tracing::info!(
            partition,
            reason = patient.reason(),
            from_ms = begun.1,
            "replaying the archive"
        );
        names.insert(partition, begun.0);
        from.insert(partition, begun.1);
    }
    reach_for_late_ones(worker.queue.as_ref(), &mut from).await?;
    let replayed = replay(worker, from, pauses, seen).await?;
    for IncompletePartition { partition, health } in patients {
        let name = names.get(partition).map_or("", String::as_str);
        if !worker
            .store
            .end_recovery(*partition, name, &health.server_run_id)
            .await?
        {
            tracing::warn!(
                partition,
                "the store lost data again while the archive was replayed; beginning anew"
            );
        }
    }
    let ReplaySummary {
        read,
        applied,
        other,
        held_back,
    } = replayed;
    tracing::info!(
        partitions = patients.len(),
        read,
        applied,
        other,
        held_back,
        "the archive is replayed"
    );
    Ok(replayed)
}

/// Reaches back to what was received earlier, but sent to the partitions after that time.
async fn reach_for_late_ones(
    queue: &dyn EventQueue,
    from: &mut BTreeMap<u32, i64>,
) -> Result<(), PartitionError> {
    if from.values().all(|from_ms| *from_ms <= 0) {
        return Ok(());
    }
    let mut late: Vec<(i64, i64)> = Vec::new();
    let mut each = |line: JournalEntry| {
        if line.space == REQUEUED
            && let Some(received_ms) = line.body.and_then(|body| body.parse().ok())
        {
            late.push((line.at_ms, received_ms));
        }
    };
    queue.read_journal(&mut each).await?;
    for from_ms in from.values_mut() {
        let sent_since = late
            .iter()
            .filter(|(at_ms, _)| at_ms >= from_ms)
            .map(|(_, received_ms)| *received_ms);
        *from_ms = sent_since.min().unwrap_or(*from_ms).min(*from_ms);
    }
    Ok(())
}

/// Applies again what is in the archive: of each partition named, what was received at or after that time (Unix
/// milliseconds).
pub async fn replay(
    worker: &Worker,
    from: BTreeMap<u32, i64>,
    pauses: &PauseHistory,
    seen: &mut (dyn FnMut(u64) + Send),
) -> Result<ReplaySummary, PartitionError> {
    /// Batches read ahead for each partition.
    const READ_AHEAD: usize = 2;
    let Some(earliest_ms) = from.values().min().copied() else {
        return Ok(ReplaySummary::default());
    };
    let known_dead = Arc::new(known_dead(worker.queue.as_ref()).await?);
    let mut archive = worker.queue.archive(earliest_ms).await?;
    let mut hands = JoinSet::new();
    let mut lanes: BTreeMap<u32, Lane> = BTreeMap::new();
    for (partition, from_ms) in from {
        let (send, receive) = mpsc::channel(READ_AHEAD);
        hands.spawn(apply_all(
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
    let batch = worker.config.batch;
    'reading: loop {
        let page = archive.next(batch * 4).await?;
        if page.is_empty() {
            break;
        }
        for delivery in page {
            let Some(lane) = lanes.get_mut(&delivery.partition) else {
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
                // Its hand has stopped, and says why below.
                break 'reading;
            }
        }
        seen(total.read);
    }
    for Lane { send, waiting, .. } in lanes.into_values() {
        if !waiting.is_empty() {
            let _ = send.send(waiting).await;
        }
    }
    while let Some(done) = hands.join_next().await {
        // A hand only panics where the workers would, too.
        let part = done.map_err(|error| PartitionError::Unreadable(error.to_string()))??;
        total.applied += part.applied;
        total.other += part.other;
        total.held_back += part.held_back;
    }
    Ok(total)
}

/// The way of one partition's deliveries to the task that applies them.
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
    let mut total = ReplaySummary::default();
    while let Some(deliveries) = batches.recv().await {
        let Applied { decision, .. } =
            apply(&worker, partition, &deliveries, &pauses, source).await?;
        for (delivery, outcome) in deliveries.iter().zip(&decision.outcomes) {
            match outcome {
                Outcome::Applied => total.applied += 1,
                Outcome::Paused(_) => total.held_back += 1,
                Outcome::Redelivered => {}
                Outcome::Duplicate | Outcome::Ignored | Outcome::Dead(_) => total.other += 1,
            }
            if let Some(word) = outcome.counter() {
                worker
                    .metrics
                    .worker_events
                    .with_label_values(&[label(delivery), word])
                    .inc();
            }
        }
    }
    Ok(total)
}

/// Deliveries that stand among the dead letters, or stood there until somebody dealt with them: those that the archive
/// has need not be put there again.
async fn known_dead(queue: &dyn EventQueue) -> Result<HashSet<Uuid>, PartitionError> {
    let mut known = HashSet::new();
    let mut look = |letter: HeldDelivery| {
        known.insert(letter.delivery.id);
        ControlFlow::Continue(())
    };
    queue
        .visit_held(HoldingQueue::DeadLetters, &mut look)
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
    queue: &dyn EventQueue,
    store: &dyn StateStore,
) -> Result<Pauses, PartitionError> {
    // In this order: what was lost by the time they were read shows in the health.
    let stored = pauses_in_store(store).await?;
    let is_whole = store.health().await?.iter().all(Health::is_complete);
    Ok(if is_whole {
        stored.unwrap_or_default()
    } else {
        course(queue, store).await?.now()
    })
}

/// All pauses there were, when the store may have lost them: from the journal, and the last back into the store.
pub async fn restore_pauses(
    queue: &dyn EventQueue,
    store: &dyn StateStore,
) -> Result<PauseHistory, PartitionError> {
    loop {
        let turn = Turn::begin(store).await?;
        let course = course(queue, store).await?;
        if turn.lasts().await? {
            store
                .submit(PAUSES, PAUSES_KEY, &write(&course.now())?)
                .await?;
            turn.end().await?;
            return Ok(course);
        }
    }
}

/// Changes the pauses: first in the journal, so that a store that loses its data does not lose them.
pub async fn change_pauses(
    queue: &dyn EventQueue,
    store: &dyn StateStore,
    scope: &Scope,
    paused: bool,
) -> Result<Pauses, PartitionError> {
    loop {
        let turn = Turn::begin(store).await?;
        let mut now = pauses(queue, store).await?;
        now.set(scope, paused);
        if turn.lasts().await? {
            let (at_ms, body) = (Timestamp::now().as_millisecond(), write(&now)?);
            let (space, key) = (PAUSES.to_owned(), PAUSES_KEY.to_owned());
            queue
                .append_journal(vec![JournalEntry {
                    at_ms,
                    space,
                    key,
                    body: Some(body.clone()),
                }])
                .await?;
            store.submit(PAUSES, PAUSES_KEY, &body).await?;
            turn.end().await?;
            return Ok(now);
        }
    }
}

/// As the journal has them, or the store, if the journal has none.
async fn course(
    queue: &dyn EventQueue,
    store: &dyn StateStore,
) -> Result<PauseHistory, PartitionError> {
    let mut lines = Vec::new();
    let mut each = |line: JournalEntry| {
        if line.space == PAUSES
            && line.key == PAUSES_KEY
            && let Some(body) = line.body
        {
            lines.push((line.at_ms, body));
        }
    };
    queue.read_journal(&mut each).await?;
    if lines.is_empty() {
        return Ok(pauses_in_store(store).await?.unwrap_or_default().into());
    }
    let begun = |(at_ms, body): &(i64, String)| {
        Ok((at_ms.saturating_add(PAUSE_TAKES_EFFECT_MS), read(body)?))
    };
    Ok(PauseHistory::new(
        lines
            .iter()
            .map(begun)
            .collect::<Result<_, PartitionError>>()?,
    ))
}

fn read(body: &str) -> Result<Pauses, PartitionError> {
    serde_json::from_str(body).map_err(|e| PartitionError::Unreadable(e.to_string()))
}

fn write(pauses: &Pauses) -> Result<String, PartitionError> {
    serde_json::to_string(pauses).map_err(|e| PartitionError::Unreadable(e.to_string()))
}

/// Whoever writes the pauses read them before: one at a time.
struct Turn<'a> {
    store: &'a dyn StateStore,
    holder: String,
    fence: Fence,
}

impl<'a> Turn<'a> {
    const LEASE: &'static str = "pauses";
    /// Longer than it takes, as a rule; whoever takes longer begins anew.
    const TTL_MS: u64 = 20_000;

    async fn begin(store: &'a dyn StateStore) -> Result<Self, PartitionError> {
        let holder = Uuid::now_v7().to_string();
        loop {
            if let Some(fence) = store.lease(Self::LEASE, &holder, Self::TTL_MS).await? {
                return Ok(Self {
                    store,
                    holder,
                    fence,
                });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn lasts(&self) -> Result<bool, PartitionError> {
        Ok(self
            .store
            .lease(Self::LEASE, &self.holder, Self::TTL_MS)
            .await?
            == Some(self.fence))
    }

    async fn end(self) -> Result<(), PartitionError> {
        Ok(self.store.release(Self::LEASE, &self.holder).await?)
    }
}
