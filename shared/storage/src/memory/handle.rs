//! The handle, which the ports are implemented for, and the failures on request.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use revwatch_core::clock::Clock;
use tokio::sync::Notify;

use super::gate::{Gate, GateState};
use super::queue_state::QueueState;
use super::store_state::StoreState;
use crate::lock::lock;

/// A handle on queue and store.
pub struct Memory {
    pub(super) shared: Arc<Shared>,
    pub(super) closed: Arc<AtomicBool>,
    pub(super) gate: Gate,
}

/// Makes the adapter fail. Every handle of one [`Memory`] is affected.
#[derive(Clone)]
pub struct Faults(Arc<Shared>);

/// What all handles share.
pub(super) struct Shared {
    pub(super) partitions: u32,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) store: Mutex<StoreState>,
    pub(super) queue: Mutex<QueueState>,
    /// Wakes consumers.
    pub(super) published: Notify,
    /// Of all handles.
    pub(super) gate: Gate,
    /// How long an operation is on its way.
    pub(super) latency_ms: AtomicU64,
    pub(super) plan: Mutex<Plan>,
}

/// The failures that are due.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) commits_to_time_out: u32,
    pub(super) commits_to_refuse: u32,
    pub(super) publishes_to_fail: u32,
    /// Whether the publishes that fail are stored.
    pub(super) store_failed_publishes: bool,
    pub(super) triages_to_interrupt: u32,
    pub(super) consumes_to_fail: u32,
    pub(super) reads_to_fail: u32,
}

impl Memory {
    /// An empty, complete store and an empty queue.
    pub fn new(partitions: u32, clock: Arc<dyn Clock>) -> Self {
        Self::handle(Arc::new(Shared {
            partitions,
            clock,
            store: Mutex::new(StoreState::new(partitions)),
            queue: Mutex::new(QueueState::new(partitions)),
            published: Notify::new(),
            gate: Gate::default(),
            latency_ms: AtomicU64::new(0),
            plan: Mutex::default(),
        }))
    }

    /// Another handle on the same data. It is open even if this one is closed.
    pub fn reopen(&self) -> Self {
        Self::handle(self.shared.clone())
    }

    /// Stalls or kills the process that uses this handle, and no other.
    pub fn gate(&self) -> Gate {
        self.gate.clone()
    }

    /// Controls the failures.
    pub fn faults(&self) -> Faults {
        Faults(self.shared.clone())
    }

    fn handle(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            closed: Arc::default(),
            gate: Gate::default(),
        }
    }
}

impl Faults {
    /// The next `count` commits take effect, but their callers get an error.
    pub fn time_out_commits(&self, count: u32) {
        lock(&self.0.plan).commits_to_time_out = count;
    }

    /// The next `count` commits fail and have no effect.
    pub fn refuse_commits(&self, count: u32) {
        lock(&self.0.plan).commits_to_refuse = count;
    }

    /// The next `count` publishes fail; with `stored` the deliveries are stored nevertheless.
    pub fn fail_publishes(&self, count: u32, stored: bool) {
        let mut plan = lock(&self.0.plan);
        (plan.publishes_to_fail, plan.store_failed_publishes) = (count, stored);
    }

    /// The next `consumes` consumers cannot be opened; of those that can, the next `reads` fail before they are ready.
    pub fn fail_consumers(&self, consumes: u32, reads: u32) {
        let mut plan = lock(&self.0.plan);
        (plan.consumes_to_fail, plan.reads_to_fail) = (consumes, reads);
    }

    /// The next `count` triages fail when they have carried out their first decision.
    pub fn interrupt_triages(&self, count: u32) {
        lock(&self.0.plan).triages_to_interrupt = count;
    }

    /// The store loses its last `count` commits, as when a lagging replica is promoted: the server run id
    /// changes, so no partition is complete until it is recovered. Documents, leases and membership stay.
    pub fn roll_back_commits(&self, count: usize) {
        lock(&self.0.store).roll_back(count);
    }

    /// Another version wrote the state, in this format.
    pub fn set_state_format(&self, state_format: u32) {
        for health in &mut lock(&self.0.store).health {
            health.state_format = state_format;
        }
    }

    /// The queue loses what waits, and keeps it in the archive.
    pub fn lose_waiting(&self) {
        for partition in &mut lock(&self.0.queue).partitions {
            partition.acknowledged = partition.log.len();
        }
    }

    /// Every consumer receives what is not acknowledged again.
    pub fn redeliver(&self) {
        lock(&self.0.queue).epoch += 1;
        self.0.published.notify_waiters();
    }

    /// From now on every operation takes this long before it has its effect, and one on a partition
    /// takes the partition's number of milliseconds more, so that their order is always the same.
    /// Without it, operations that need not wait complete at once, so nothing happens between two.
    pub fn delay(&self, latency: Duration) {
        let latency_ms = u64::try_from(latency.as_millis()).unwrap_or(u64::MAX);
        self.0.latency_ms.store(latency_ms, Ordering::Relaxed);
    }

    /// Lets every operation wait, until it is called with `false`.
    pub fn block(&self, blocked: bool) {
        self.0.gate.set(if blocked {
            GateState::Stalled
        } else {
            GateState::Open
        });
    }
}

impl Shared {
    /// Waits while all operations, or those of this handle, have to wait.
    pub(super) async fn pass(&self, gate: &Gate) {
        self.pass_to(gate, 0).await;
    }

    /// The same for an operation on a partition.
    pub(super) async fn pass_to(&self, gate: &Gate, partition: u32) {
        let latency_ms = self.latency_ms.load(Ordering::Relaxed);
        if latency_ms > 0 {
            tokio::time::sleep(Duration::from_millis(latency_ms + u64::from(partition))).await;
        }
        while !(self.gate.is_open() && gate.is_open()) {
            self.gate.pass().await;
            gate.pass().await;
        }
    }
}

/// Takes one from a counter, if there is one.
pub(super) fn take_one(count: &mut u32) -> bool {
    let due = *count > 0;
    *count -= u32::from(due);
    due
}
