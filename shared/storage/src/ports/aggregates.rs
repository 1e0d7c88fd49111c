//! Counters that the worker keeps up to date with each commit.

use async_trait::async_trait;
use revwatch_core::bucket::Buckets;
use revwatch_core::counters::Counters;

use super::error::StoreError;

/// Reads the aggregates.
#[async_trait]
pub trait Aggregates: Send + Sync {
    /// The current counters and those of `buckets`, summed over partitions. The cost depends on the buckets
    /// requested, not on those stored.
    async fn counters(&self, buckets: &Buckets) -> Result<Counters, StoreError>;

    /// The sum of some current counters, given by their joined names. The cost depends on the names
    /// requested, not on those stored.
    async fn current_counters(&self, names: &[&str]) -> Result<i64, StoreError>;
}
