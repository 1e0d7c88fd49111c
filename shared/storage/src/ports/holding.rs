//! Holding queues: dead letters and parked deliveries, until an operator or the end of a pause decides
//! on them.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;

use async_trait::async_trait;

use super::error::QueueError;
use super::publish::Delivery;

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

impl Disposition {
    /// A delivery for a partition that does not exist stays held: requeued it would be lost.
    pub(crate) fn checked(self, partitions: u32) -> Self {
        match self {
            Self::Requeue(delivery) if delivery.partition >= partitions => Self::Keep,
            disposition => disposition,
        }
    }
}

/// What [`Holding::triage`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TriageSummary {
    /// Deliveries that went to their partitions.
    pub requeued: u64,
    /// Deliveries that were deleted.
    pub discarded: u64,
    /// Deliveries that stay held.
    pub kept: u64,
}

/// Holds deliveries, lists them and applies decisions on them.
#[async_trait]
pub trait Holding: Send + Sync {
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

    /// Applies the decision of `decide` to each delivery held at the time of the call. One that was to be requeued
    /// to a partition that does not exist stays held and counts as kept. An interrupted call may have requeued a
    /// delivery without removing it; deduplication by delivery id makes the repeat harmless.
    /// A requeued delivery is in the archive and, where the store can lose data, was noted in the journal
    /// first: see [`crate::journal::REQUEUED`].
    async fn triage(
        &self,
        place: HoldingQueue,
        decide: &mut (dyn for<'a> FnMut(&'a HeldDelivery) -> Disposition + Send),
    ) -> Result<TriageSummary, QueueError>;

    /// The number of held deliveries. One that was held twice may count twice; several that the broker itself
    /// dead-lettered in one message count once.
    async fn held_count(&self, place: HoldingQueue) -> Result<u64, QueueError>;
}
