//! Stalls or kills a simulated process.

use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use crate::lock::lock;

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
pub struct Gate(Arc<(Mutex<GateState>, Notify)>);

impl Default for Gate {
    fn default() -> Self {
        Self(Arc::new((Mutex::new(GateState::Open), Notify::new())))
    }
}

impl Gate {
    /// From now on. A killed process stays killed.
    pub fn set(&self, state: GateState) {
        let (now, changed) = &*self.0;
        let mut now = lock(now);
        if *now != GateState::Killed {
            *now = state;
            changed.notify_waiters();
        }
    }

    /// Waits while the process is stalled; never returns once it is killed. Waiters continue in the
    /// order in which they came.
    pub async fn pass(&self) {
        let (_, changed) = &*self.0;
        loop {
            // Created before the check, so that a change in between wakes this waiter.
            let changed = changed.notified();
            if self.is_open() {
                return;
            }
            changed.await;
        }
    }

    pub(super) fn is_open(&self) -> bool {
        *lock(&self.0.0) == GateState::Open
    }
}
