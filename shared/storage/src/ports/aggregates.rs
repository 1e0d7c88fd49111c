//! Counters that the worker keeps up to date with each commit.

use async_trait::async_trait;
use revwatch_core::counters::Counters;

use super::error::StoreError;

/// Reads the aggregates.
#[async_trait]
pub trait Aggregates: Send + Sync {
    /// The current counters and those of the hours `from_hour..=to_hour` (hours since 1970), summed over
    /// partitions. The cost depends on the hours requested, not on those stored.
    async fn counters(&self, from_hour: u32, to_hour: u32) -> Result<Counters, StoreError>;

    /// The sum of some current counters, given by their joined names. The cost depends on the names
    /// requested, not on those stored.
    async fn current_counters(&self, names: &[&str]) -> Result<i64, StoreError>;
}
