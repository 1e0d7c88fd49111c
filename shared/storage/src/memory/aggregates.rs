//! Counters.

use async_trait::async_trait;
use revwatch_core::bucket::{Bucket, Buckets, first_minute_kept};
use revwatch_core::counters::{Counters, sum};
use revwatch_core::recount::first_hour;

use super::handle::Memory;
use crate::lock::lock;
use crate::ports::{Aggregates, StoreError};

/// Hours are kept for a day longer than they are compared, as the other adapters do.
const DAY_S: i64 = 86_400;

#[async_trait]
impl Aggregates for Memory {
    async fn counters(&self, buckets: &Buckets) -> Result<Counters, StoreError> {
        self.shared.pass(&self.gate).await;
        let now_s = self.shared.clock.now_ms() / 1000;
        let (hour, minute) = (first_hour(now_s - DAY_S), first_minute_kept(now_s));
        let is_kept = |bucket| match bucket {
            Bucket::Current => true,
            Bucket::Hour(it) => it >= hour,
            Bucket::Minute(it) => it >= minute,
        };
        let state = lock(&self.shared.store);
        Ok(state.derived.counters(buckets, is_kept))
    }

    async fn current_counters(&self, names: &[&str]) -> Result<i64, StoreError> {
        self.shared.pass(&self.gate).await;
        let state = lock(&self.shared.store);
        let value = |name: &&str| {
            state
                .derived
                .counters
                .get(&(Bucket::Current, (*name).to_owned()))
        };
        Ok(sum(names.iter().filter_map(value).copied()))
    }
}
