//! The lease: of several processes one evaluates.

use std::time::Duration;

use revwatch_core::clock::Clock;
use revwatch_storage::ports::{Fence, StoreError};
use tokio::time::Instant;

use crate::Alerting;
use crate::engine::TickTime;
use crate::journal_sync::JournalWriter;

/// The lease that makes one process of several the evaluator.
pub(crate) const LEASE: &str = "alerting";

/// The lease, as this process holds it, and what it may write while it does.
pub(crate) struct LeaseGuard<'a> {
    holder: &'a str,
    pub(super) fence: Fence,
    /// Since when this process has held the lease.
    since: Instant,
    renewed: Instant,
    /// The store's last recovery when the engine was opened.
    pub(super) recovery_id: String,
    pub(super) journal: &'a mut JournalWriter,
    /// The log says that alerting waits for deliveries.
    pub(super) is_wait_logged: bool,
}

impl<'a> LeaseGuard<'a> {
    pub(super) fn new(
        holder: &'a str,
        fence: Fence,
        renewed: Instant,
        recovery_id: String,
        journal: &'a mut JournalWriter,
    ) -> Self {
        Self {
            holder,
            fence,
            since: renewed,
            renewed,
            recovery_id,
            journal,
            is_wait_logged: false,
        }
    }

    /// The time, as the engine needs it.
    pub(super) fn time(&self, clock: &dyn Clock) -> TickTime {
        TickTime {
            now_s: clock.now_s(),
            elapsed: self.since.elapsed(),
        }
    }
}

impl Alerting {
    pub(crate) fn lease(&self) -> Duration {
        Duration::from_secs_f64(self.config.lease_seconds)
    }

    /// An entry of the journal is written, or is not, before another evaluator could have the lease and write newer
    /// ones.
    pub(super) fn journal_within(&self) -> Duration {
        self.lease() / 3
    }

    /// The fence, and when the lease was requested: from then on it counts. `None`: another process holds it.
    pub(super) async fn take_lease(
        &self,
        holder: &str,
    ) -> Result<Option<(Fence, Instant)>, StoreError> {
        let requested = Instant::now();
        let ttl_ms = u64::try_from(self.lease().as_millis()).unwrap_or(u64::MAX);
        let fence = self.store.lease(LEASE, holder, ttl_ms).await?;
        Ok(fence.map(|fence| (fence, requested)))
    }

    /// Renews the lease in good time: two thirds of it, at least, are left afterwards.
    pub(super) async fn keep_lease(&self, held: &mut LeaseGuard<'_>) -> Result<(), StoreError> {
        if held.renewed.elapsed() <= self.lease() / 3 {
            return Ok(());
        }
        match self.take_lease(held.holder).await? {
            Some((fence, requested)) if fence == held.fence => {
                held.renewed = requested;
                Ok(())
            }
            _ => Err(StoreError::Fenced),
        }
    }
}
