//! Open conditions, and the outbox through which alerting learns of their changes.

use std::collections::BTreeMap;

use async_trait::async_trait;
use revwatch_core::condition::{Condition, ConditionKey};
use serde::{Deserialize, Serialize};

use super::error::StoreError;

/// A condition that opened, changed or closed.
#[expect(
    clippy::large_enum_variant,
    reason = "most changes open a condition: a box would cost each of them an allocation"
)]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConditionChange {
    /// The condition holds, with these particulars; they replace earlier ones.
    Open(Condition),
    /// The condition no longer holds.
    Close(ConditionKey),
}

/// How far alerting has read the condition changes: the sequence number of the last change read, by
/// partition. Opaque to all but the store.
pub type ChangeCursor = BTreeMap<u32, u64>;

/// The answer of [`ConditionFeed::condition_changes`].
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// In the order of their commits, partition by partition.
    pub changes: Vec<ConditionChange>,
    /// Where the next read continues.
    pub cursor: ChangeCursor,
    /// Changes after the given cursor were dropped: read all open conditions instead.
    pub gap: bool,
    /// There are more changes after [`Changes::cursor`]. The number of changes returned does not say so.
    pub more: bool,
}

/// A period in which conditions fall due, in Unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DueWindow {
    /// Exclusive.
    pub after_s: i64,
    /// Inclusive.
    pub until_s: i64,
}

impl ConditionChange {
    /// The condition that changed.
    pub fn key(&self) -> &ConditionKey {
        match self {
            Self::Open(condition) => &condition.key,
            Self::Close(key) => key,
        }
    }
}

/// Reads conditions and their changes.
#[async_trait]
pub trait ConditionFeed: Send + Sync {
    /// Every open condition.
    async fn conditions(&self) -> Result<Vec<Condition>, StoreError>;

    /// Open conditions that fall due in one of the windows, in one round trip. A condition that is in several
    /// windows may be returned several times.
    async fn conditions_due(&self, windows: &[DueWindow]) -> Result<Vec<Condition>, StoreError>;

    /// Changes of conditions committed since `cursor`: at most `limit`, or one of each partition if that is
    /// more. An empty cursor starts at the oldest change kept.
    async fn condition_changes(
        &self,
        cursor: &ChangeCursor,
        limit: usize,
    ) -> Result<Changes, StoreError>;
}
