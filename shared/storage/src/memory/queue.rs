//! The queue: one log for each partition, which is also the archive.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;

use super::gate::Gate;
use super::handle::{Memory, Shared, take_one};
use super::queue_state::Partition;
use crate::lock::lock;
use crate::ports::{
    Archive, Consume, Consumer, Delivery, Disposition, EventQueue, HeldDelivery, Holding,
    HoldingQueue, Journal, JournalEntry, Probed, Publish, QueueError, Replay, TriageSummary,
};

impl Memory {
    async fn enter(&self, partition: u32) -> Result<(), QueueError> {
        self.shared.pass_to(&self.gate, partition).await;
        if partition >= self.shared.partitions {
            return Err(QueueError::Misconfigured(format!(
                "there is no partition {partition}"
            )));
        }
        if self.closed.load(Ordering::Acquire) {
            return Err(QueueError::Unavailable("the queue was closed".into()));
        }
        Ok(())
    }

    fn all_held(&self, place: HoldingQueue) -> Vec<HeldDelivery> {
        let state = lock(&self.shared.queue);
        let of_place = state.held.iter().filter(|(found, _)| *found == place);
        of_place.map(|(_, held)| held.clone()).collect()
    }
}

#[async_trait]
impl Publish for Memory {
    fn partitions(&self) -> u32 {
        self.shared.partitions
    }

    async fn publish(&self, delivery: Delivery) -> Result<(), QueueError> {
        self.enter(delivery.partition).await?;
        let (fails, stored) = {
            let mut plan = lock(&self.shared.plan);
            (
                take_one(&mut plan.publishes_to_fail),
                plan.store_failed_publishes,
            )
        };
        if !fails || stored {
            lock(&self.shared.queue).push(delivery);
            self.shared.published.notify_waiters();
        }
        if fails {
            return Err(QueueError::Unavailable("the publish timed out".into()));
        }
        Ok(())
    }

    async fn probe(&self) -> Result<Probed, QueueError> {
        self.enter(0).await.map(|()| Probed::default())
    }
}

#[async_trait]
impl Consume for Memory {
    async fn consume(&self, partition: u32) -> Result<Box<dyn Consumer>, QueueError> {
        self.enter(partition).await?;
        if take_one(&mut lock(&self.shared.plan).consumes_to_fail) {
            return Err(QueueError::Unavailable("the connection failed".into()));
        }
        let state = lock(&self.shared.queue);
        Ok(Box::new(MemoryConsumer {
            shared: self.shared.clone(),
            closed: self.closed.clone(),
            gate: self.gate.clone(),
            partition,
            at: state.partitions[partition as usize].acknowledged,
            epoch: state.epoch,
        }))
    }

    async fn depth(&self) -> Result<Vec<u64>, QueueError> {
        self.shared.pass(&self.gate).await;
        let state = lock(&self.shared.queue);
        let depth = |partition: &Partition| (partition.log.len() - partition.acknowledged) as u64;
        Ok(state.partitions.iter().map(depth).collect())
    }
}

#[async_trait]
impl Holding for Memory {
    async fn hold(&self, place: HoldingQueue, held: HeldDelivery) -> Result<(), QueueError> {
        self.shared.pass(&self.gate).await;
        let mut state = lock(&self.shared.queue);
        let same = |(found, other): &(HoldingQueue, HeldDelivery)| {
            *found == place && other.delivery.id == held.delivery.id
        };
        if !state.held.iter().any(same) {
            state.held.push((place, held));
        }
        Ok(())
    }

    async fn visit_held(
        &self,
        place: HoldingQueue,
        visit: &mut (dyn FnMut(HeldDelivery) -> ControlFlow<()> + Send),
    ) -> Result<(), QueueError> {
        self.shared.pass(&self.gate).await;
        let _ = self.all_held(place).into_iter().try_for_each(visit);
        Ok(())
    }

    async fn triage(
        &self,
        place: HoldingQueue,
        decide: &mut (dyn for<'a> FnMut(&'a HeldDelivery) -> Disposition + Send),
    ) -> Result<TriageSummary, QueueError> {
        self.shared.pass(&self.gate).await;
        let is_interrupted = take_one(&mut lock(&self.shared.plan).triages_to_interrupt);
        let mut summary = TriageSummary::default();
        for held in self.all_held(place) {
            if is_interrupted && summary != TriageSummary::default() {
                return Err(QueueError::Unavailable("the triage timed out".into()));
            }
            let requeued = match decide(&held).checked(self.shared.partitions) {
                Disposition::Keep => {
                    summary.kept += 1;
                    continue;
                }
                Disposition::Requeue(delivery) => Some(*delivery),
                Disposition::Discard => None,
            };
            let mut state = lock(&self.shared.queue);
            let before = state.held.len();
            let is_this = |(found, other): &(HoldingQueue, HeldDelivery)| {
                *found == place && other.delivery.id == held.delivery.id
            };
            state.held.retain(|other| !is_this(other));
            match requeued {
                // A concurrent triage decided on it.
                _ if state.held.len() == before => {}
                Some(delivery) => {
                    state.push(delivery);
                    summary.requeued += 1;
                }
                None => summary.discarded += 1,
            }
        }
        self.shared.published.notify_waiters();
        Ok(summary)
    }

    async fn held_count(&self, place: HoldingQueue) -> Result<u64, QueueError> {
        self.shared.pass(&self.gate).await;
        Ok(self.all_held(place).len() as u64)
    }
}

#[async_trait]
impl Replay for Memory {
    async fn archive(&self, from_ms: i64) -> Result<Box<dyn Archive>, QueueError> {
        self.shared.pass(&self.gate).await;
        let state = lock(&self.shared.queue);
        let all = state.partitions.iter().flat_map(|partition| &partition.log);
        let found: Vec<_> = all
            .filter(|delivery| delivery.received_ms >= from_ms)
            .cloned()
            .collect();
        Ok(Box::new(MemoryArchive(found.into_iter())))
    }

    fn is_apart(&self) -> bool {
        false
    }

    async fn oldest_ms(&self) -> Result<Option<i64>, QueueError> {
        self.shared.pass(&self.gate).await;
        let state = lock(&self.shared.queue);
        let all = state.partitions.iter().flat_map(|partition| &partition.log);
        Ok(all.map(|delivery| delivery.received_ms).min())
    }
}

#[async_trait]
impl Journal for Memory {
    async fn append_journal(&self, entries: Vec<JournalEntry>) -> Result<(), QueueError> {
        self.shared.pass(&self.gate).await;
        let mut state = lock(&self.shared.queue);
        for entry in entries {
            let key = (entry.space.clone(), entry.key.clone());
            let newest = state.journal.get(&key).map(|found| found.at_ms);
            if newest.is_none_or(|newest| newest <= entry.at_ms) {
                state.journal.insert(key, entry);
            }
        }
        Ok(())
    }

    async fn probe_journal(&self) -> Result<(), QueueError> {
        self.shared.pass(&self.gate).await;
        Ok(())
    }

    async fn read_journal(
        &self,
        each: &mut (dyn FnMut(JournalEntry) + Send),
    ) -> Result<(), QueueError> {
        self.shared.pass(&self.gate).await;
        let mut lines: Vec<_> = lock(&self.shared.queue).journal.values().cloned().collect();
        lines.sort_by_key(|line| line.at_ms);
        lines.into_iter().for_each(each);
        Ok(())
    }
}

#[async_trait]
impl EventQueue for Memory {
    async fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }
}

struct MemoryConsumer {
    shared: Arc<Shared>,
    closed: Arc<AtomicBool>,
    gate: Gate,
    partition: u32,
    /// How many deliveries of the log were returned.
    at: usize,
    epoch: u64,
}

impl MemoryConsumer {
    /// At most `max` of what is there; moves on only if `taken`.
    fn available(&mut self, max: usize, taken: bool) -> Vec<Delivery> {
        let state = lock(&self.shared.queue);
        let partition = &state.partitions[self.partition as usize];
        if self.epoch != state.epoch {
            (self.epoch, self.at) = (state.epoch, partition.acknowledged);
        }
        let found: Vec<_> = partition.log[self.at..].iter().take(max).cloned().collect();
        if taken {
            self.at += found.len();
        }
        found
    }

    async fn wait(&mut self, max: usize, taken: bool) -> Result<Vec<Delivery>, QueueError> {
        let shared = self.shared.clone();
        loop {
            shared.pass_to(&self.gate, self.partition).await;
            // Created before the check, so that a publish in between wakes this consumer.
            let published = shared.published.notified();
            if self.closed.load(Ordering::Acquire) {
                return Err(QueueError::Unavailable("the queue was closed".into()));
            }
            let found = self.available(max, taken);
            if !found.is_empty() {
                return Ok(found);
            }
            published.await;
        }
    }
}

#[async_trait]
impl Consumer for MemoryConsumer {
    async fn ready(&mut self) -> Result<(), QueueError> {
        let fails = take_one(&mut lock(&self.shared.plan).reads_to_fail);
        if fails {
            self.shared.pass_to(&self.gate, self.partition).await;
            return Err(QueueError::Unavailable("the connection failed".into()));
        }
        self.wait(1, false).await.map(drop)
    }

    async fn next(&mut self, max: usize) -> Result<Vec<Delivery>, QueueError> {
        self.wait(max.max(1), true).await
    }

    async fn ack(&mut self) -> Result<(), QueueError> {
        self.shared.pass_to(&self.gate, self.partition).await;
        let mut state = lock(&self.shared.queue);
        // What was returned before a redelivery can no longer be acknowledged.
        if self.epoch == state.epoch {
            let partition = &mut state.partitions[self.partition as usize];
            partition.acknowledged = partition.acknowledged.max(self.at);
        }
        Ok(())
    }
}

struct MemoryArchive(std::vec::IntoIter<Delivery>);

#[async_trait]
impl Archive for MemoryArchive {
    async fn next(&mut self, max: usize) -> Result<Vec<Delivery>, QueueError> {
        Ok(self.0.by_ref().take(max).collect())
    }
}
