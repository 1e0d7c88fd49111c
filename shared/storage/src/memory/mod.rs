//! Queue and store in memory, for tests and simulations: the same contract as the other adapters, and
//! failures on request.
//!
//! It is deterministic: time comes from a [`Clock`], server run ids are numbered, and nothing is random.
//! What it holds lives as long as its handles; [`Memory::reopen`] stands for a restarted process.

mod fakes;
mod queue;
mod store;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use revwatch_core::ports::Clock;
use tokio::sync::{Notify, watch};

pub use self::fakes::{NumberedIds, VirtualClock};
use self::queue::QueueState;
use self::store::StoreState;

/// A handle on queue and store.
pub struct Memory {
    shared: Arc<Shared>,
    closed: Arc<AtomicBool>,
    gate: Gate,
}

/// What the operations of one handle do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateState {
    /// They run.
    Open,
    /// They wait: the process has no CPU, or no network.
    Stalled,
    /// They never return and have no effect any more: the process was killed.
    Killed,
}

/// Stalls or kills the process that uses a handle.
#[derive(Clone)]
pub struct Gate(Arc<watch::Sender<GateState>>);

/// Makes the adapter fail. Every handle of one [`Memory`] is affected.
#[derive(Clone)]
pub struct Faults(Arc<Shared>);

struct Shared {
    partitions: u32,
    clock: Arc<dyn Clock>,
    store: Mutex<StoreState>,
    queue: Mutex<QueueState>,
    /// Wakes consumers.
    published: Notify,
    /// Every operation waits while this is true.
    blocked: watch::Sender<bool>,
    plan: Mutex<Plan>,
}

/// The failures that are due.
#[derive(Default)]
struct Plan {
    commits_to_time_out: u32,
    publishes_to_fail: u32,
    /// Whether the publishes that fail are stored.
    store_failed_publishes: bool,
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
            blocked: watch::channel(false).0,
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

    /// The next `count` publishes fail; with `stored` the deliveries are stored nevertheless.
    pub fn fail_publishes(&self, count: u32, stored: bool) {
        let mut plan = lock(&self.0.plan);
        (plan.publishes_to_fail, plan.store_failed_publishes) = (count, stored);
    }

    /// The store loses its last `count` commits, as when a lagging replica is promoted: the server run id
    /// changes, so no partition is complete until it is recovered. Documents, leases and membership stay.
    pub fn roll_back_commits(&self, count: usize) {
        lock(&self.0.store).roll_back(count);
    }

    /// Every consumer receives what is not acknowledged again.
    pub fn redeliver(&self) {
        lock(&self.0.queue).epoch += 1;
        self.0.published.notify_waiters();
    }

    /// Lets every operation wait, until it is called with `false`.
    pub fn block(&self, blocked: bool) {
        self.0.blocked.send_replace(blocked);
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self(Arc::new(watch::channel(GateState::Open).0))
    }
}

impl Gate {
    /// From now on. A killed process stays killed.
    pub fn set(&self, state: GateState) {
        self.0.send_if_modified(|now| {
            *now != GateState::Killed && std::mem::replace(now, state) != state
        });
    }

    /// Waits while the process is stalled; never returns once it is killed.
    pub async fn pass(&self) {
        // The sender lives as long as `self`.
        let _ = self
            .0
            .subscribe()
            .wait_for(|state| *state == GateState::Open)
            .await;
    }
}

impl Shared {
    /// Waits while operations, or those of this handle, have to wait.
    async fn pass(&self, gate: &Gate) {
        loop {
            // The sender lives as long as `self`.
            let _ = self.blocked.subscribe().wait_for(|blocked| !blocked).await;
            gate.pass().await;
            if !*self.blocked.borrow() {
                return;
            }
        }
    }
}

/// A panic of another thread leaves the data as it was between two changes.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes one from a counter, if there is one.
fn take_one(count: &mut u32) -> bool {
    let due = *count > 0;
    *count -= u32::from(due);
    due
}
