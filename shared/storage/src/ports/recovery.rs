//! Whether the store still has everything that was committed, and its recovery from the archive.

use async_trait::async_trait;
use revwatch_core::entity::STATE_FORMAT;

use super::error::StoreError;

/// See [`Health::recovery_id`].
pub const NEVER_RECOVERED: &str = "new";

/// Whether a partition still has everything that was committed to it.
///
/// A store can lose data without an error: it restarts without its file or with an older one, a lagging
/// replica is promoted, an operator empties it. A record of completeness inside the data is lost with the
/// data. So a partition stores the run id of the server on which it was last complete; while the present
/// run id differs, data may be missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The run id of the partition's server. It changes with each restart and failover.
    pub server_run_id: String,
    /// The run id under which the partition was last made complete.
    pub complete_in: Option<String>,
    /// The recovery that made it complete; each recovery has its own id. [`NEVER_RECOVERED`] in a store that
    /// has been complete since it was made.
    pub recovery_id: Option<String>,
    /// The newest `received_ms` committed while the partition was complete. An adapter may record it up to a
    /// second late.
    pub high_watermark_ms: Option<i64>,
    /// The recovery in progress, and the `received_ms` from which it replays the archive.
    pub recovery: Option<(String, i64)>,
    /// See [`STATE_FORMAT`].
    pub state_format: u32,
    /// The conversion in progress.
    pub conversion: Option<String>,
}

impl Default for Health {
    /// Nothing was ever committed, by this version.
    fn default() -> Self {
        Self {
            server_run_id: String::new(),
            complete_in: None,
            recovery_id: None,
            high_watermark_ms: None,
            recovery: None,
            state_format: STATE_FORMAT,
            conversion: None,
        }
    }
}

impl Health {
    /// Whether everything that was committed is present, in this version's format.
    pub fn is_complete(&self) -> bool {
        self.is_converted()
            && self.recovery.is_none()
            && self.complete_in.as_ref() == Some(&self.server_run_id)
    }

    /// Whether the state has this version's format.
    pub fn is_converted(&self) -> bool {
        self.state_format == STATE_FORMAT && self.conversion.is_none()
    }
}

/// Names the last recoveries of all partitions together: another recovery of any of them changes it.
pub fn last_recovery(health: &[Health]) -> String {
    let ids = health
        .iter()
        .filter_map(|health| health.recovery_id.as_deref());
    ids.collect::<Vec<_>>().join(" ")
}

/// Detects lost data and coordinates the replay.
#[async_trait]
pub trait Recovery: Send + Sync {
    /// The health of each partition.
    async fn health(&self) -> Result<Vec<Health>, StoreError>;

    /// Starts or joins the recovery of a partition. Returns its id, shared by all who take part, and the
    /// `received_ms` from which the archive is replayed: `margin_ms` before the present
    /// [`Health::high_watermark_ms`], or the beginning if there is none. Joining can only move it back.
    async fn begin_recovery(
        &self,
        partition: u32,
        recovery_id: &str,
        margin_ms: i64,
    ) -> Result<(String, i64), StoreError>;

    /// Records the end of the replay. `false`: data was lost again since it began, so begin another recovery.
    async fn end_recovery(
        &self,
        partition: u32,
        recovery_id: &str,
        server_run_id: &str,
    ) -> Result<bool, StoreError>;

    /// Drops everything derived from events: dedupe keys, entities, counters, conditions, the audit trail.
    /// Every partition is then incomplete. Documents, leases and membership stay. Safe to repeat.
    async fn drop_state(&self) -> Result<(), StoreError>;
}
