//! The queue: where accepted deliveries wait, where they are archived, and where held ones stay.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::BoxError;

/// One accepted webhook: the raw body, byte for byte, and what ingest knows about it.
///
/// Stripe may deliver one event several times. Each time is a delivery with its own id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Assigned by ingest (UUID v7). A redelivery keeps it.
    pub id: Uuid,
    /// `evt_…`
    pub event_id: String,
    /// For example `payout.failed`.
    pub event_type: String,
    /// The queue partition the delivery belongs to.
    pub partition: u32,
    /// Name of the endpoint that accepted it.
    pub endpoint: String,
    /// Unix milliseconds at which ingest had read it.
    pub received_ms: i64,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// What Stripe sent.
    pub body: Bytes,
}

/// A queue for deliveries that are not applied now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HoldingQueue {
    /// Deliveries that cannot be applied as they are.
    DeadLetters,
    /// Deliveries that an operator holds back.
    Parked,
}

/// A delivery in a holding queue, and the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldDelivery {
    /// What was received.
    pub delivery: Delivery,
    /// For operators.
    pub reason: String,
    /// Unix milliseconds at which it was held.
    pub at_ms: i64,
}

/// What happens to a held delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disposition {
    /// It stays held.
    Keep,
    /// This delivery goes to its partition and replaces the held one.
    Requeue(Box<Delivery>),
    /// It is deleted.
    Discard,
}

/// What [`EventQueue::triage`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TriageSummary {
    /// Deliveries that went to their partitions.
    pub requeued: u64,
    /// Deliveries that were deleted.
    pub discarded: u64,
    /// Deliveries that stay held.
    pub kept: u64,
}

/// One line of the journal: state that must survive the loss of the store and cannot be rebuilt from
/// deliveries. The newest line of a space and key counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalEntry {
    /// Unix milliseconds.
    pub at_ms: i64,
    /// For example `alert`.
    pub space: String,
    /// Unique in its space.
    pub key: String,
    /// The text (JSON); `None` deletes it.
    pub body: Option<String>,
}

/// Why a queue operation failed, by what the caller can do next.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// Try again later; whether the last request took effect is unknown.
    #[error("the queue is unavailable: {0}")]
    Unavailable(#[source] BoxError),
    /// A retry fails until an operator changes something.
    #[error("the queue cannot be used: {0}")]
    Misconfigured(String),
}

/// Where accepted deliveries wait, partition by partition, and where they are archived.
#[async_trait]
pub trait EventQueue: Send + Sync {
    /// The number of partitions the deployment was created with.
    fn partitions(&self) -> u32;

    /// Returns `Ok` only when the delivery is durable. After an error the delivery may or may not be stored.
    async fn publish(&self, delivery: Delivery) -> Result<(), QueueError>;

    /// Starts to consume one partition. The queue redelivers what was not acknowledged when the consumer
    /// is dropped.
    async fn consume(&self, partition: u32) -> Result<Box<dyn Consumer>, QueueError>;

    /// Puts a delivery into a holding queue; returns when it is durable there. The caller then acknowledges it.
    async fn hold(&self, place: HoldingQueue, held: HeldDelivery) -> Result<(), QueueError>;

    /// Passes each delivery held at the time of the call to `visit`, in no particular order, until `visit`
    /// breaks. Removes none and keeps a bounded number in memory. A delivery that was held twice may be
    /// passed twice; one that another process visits or triages at the same time may be left out.
    async fn visit_held(
        &self,
        place: HoldingQueue,
        visit: &mut (dyn FnMut(HeldDelivery) -> ControlFlow<()> + Send),
    ) -> Result<(), QueueError>;

    /// The oldest `limit` held deliveries, oldest first, one per delivery id. Visits all of them.
    async fn oldest_held(
        &self,
        place: HoldingQueue,
        limit: usize,
    ) -> Result<Vec<HeldDelivery>, QueueError> {
        let (mut oldest, mut kept) = (BTreeMap::new(), HashMap::new());
        let mut visit = |held: HeldDelivery| {
            let (id, at_ms) = (held.delivery.id, held.at_ms);
            match kept.get(&id) {
                Some(earlier) if *earlier <= at_ms => return ControlFlow::Continue(()),
                Some(later) => drop(oldest.remove(&(*later, id))),
                None => {}
            }
            kept.insert(id, at_ms);
            oldest.insert((at_ms, id), held);
            if oldest.len() > limit
                && let Some(((_, youngest), _)) = oldest.pop_last()
            {
                kept.remove(&youngest);
            }
            ControlFlow::Continue(())
        };
        self.visit_held(place, &mut visit).await?;
        Ok(oldest.into_values().collect())
    }

    /// Applies the decision of `decide` to each delivery held at the time of the call. An interrupted call may
    /// have requeued a delivery without removing it; deduplication by delivery id makes the repeat harmless.
    /// A requeued delivery is in the archive and, where the store can lose data, was noted in the journal
    /// first: see [`crate::journal::REQUEUED`].
    async fn triage(
        &self,
        place: HoldingQueue,
        decide: &mut (dyn for<'a> FnMut(&'a HeldDelivery) -> Disposition + Send),
    ) -> Result<TriageSummary, QueueError>;

    /// The queue depth of each partition, in deliveries, or in messages where a message holds several.
    /// Whether unacknowledged deliveries count depends on the adapter: RabbitMQ does not report them.
    async fn depth(&self) -> Result<Vec<u64>, QueueError>;

    /// The number of held deliveries. One that was held twice may count twice; several that the broker itself
    /// dead-lettered in one message count once.
    async fn held_count(&self, place: HoldingQueue) -> Result<u64, QueueError>;

    /// Every archived delivery received at or after `from_ms`, in the order of acceptance within each partition,
    /// up to the end of the archive at the time of the call. Later deliveries may be included.
    async fn archive(&self, from_ms: i64) -> Result<Box<dyn Archive>, QueueError>;

    /// Appends lines to the journal; returns when they are durable. Safe to repeat.
    async fn append_journal(&self, entries: Vec<JournalEntry>) -> Result<(), QueueError>;

    /// Reads the journal, oldest line first. An adapter may leave out lines that newer ones replace.
    async fn read_journal(
        &self,
        each: &mut (dyn FnMut(JournalEntry) + Send),
    ) -> Result<(), QueueError>;

    /// Closes connections cleanly, within a bounded time.
    async fn close(&self);
}

/// The deliveries of one partition.
#[async_trait]
pub trait Consumer: Send {
    /// Waits until [`Consumer::next`] would return at once. Cancel-safe.
    async fn ready(&mut self) -> Result<(), QueueError>;

    /// Waits for deliveries and returns those available, at most `max`, oldest first. Never empty.
    /// Cancel-safe.
    async fn next(&mut self, max: usize) -> Result<Vec<Delivery>, QueueError>;

    /// Acknowledges everything that [`Consumer::next`] has returned so far.
    async fn ack(&mut self) -> Result<(), QueueError>;
}

/// A reader of the archive.
#[async_trait]
pub trait Archive: Send {
    /// The next deliveries, at most `max`; empty at the end.
    async fn next(&mut self, max: usize) -> Result<Vec<Delivery>, QueueError>;
}
