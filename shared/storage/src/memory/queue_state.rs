//! What the queue holds.

use std::collections::BTreeMap;

use crate::ports::{Delivery, HeldDelivery, HoldingQueue, JournalEntry};

/// All that the queue holds.
pub(super) struct QueueState {
    pub(super) partitions: Vec<Partition>,
    pub(super) held: Vec<(HoldingQueue, HeldDelivery)>,
    pub(super) journal: BTreeMap<(String, String), JournalEntry>,
    /// Grows with each redelivery; consumers of an earlier epoch start over.
    pub(super) epoch: u64,
}

#[derive(Clone, Default)]
pub(super) struct Partition {
    pub(super) log: Vec<Delivery>,
    /// How many of them are acknowledged.
    pub(super) acknowledged: usize,
}

impl QueueState {
    pub(super) fn new(partitions: u32) -> Self {
        Self {
            partitions: vec![Partition::default(); partitions as usize],
            held: Vec::new(),
            journal: BTreeMap::new(),
            epoch: 0,
        }
    }

    pub(super) fn push(&mut self, delivery: Delivery) {
        self.partitions[delivery.partition as usize]
            .log
            .push(delivery);
    }
}
