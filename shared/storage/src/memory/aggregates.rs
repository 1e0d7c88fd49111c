//! Counters.

use async_trait::async_trait;
use revwatch_core::counters::{Bucket, Counters};
use revwatch_core::recount;

use super::handle::Memory;
use crate::lock::lock;
use crate::ports::{Aggregates, StoreError};

/// Hours are kept for a day longer than they are compared, as the other adapters do.
const DAY_S: i64 = 86_400;

#[async_trait]
impl Aggregates for Memory {
    async fn counters(&self, from_hour: u32, to_hour: u32) -> Result<Counters, StoreError> {
        self.shared.pass(&self.gate).await;
        let first_hour = recount::first_hour(self.shared.clock.now_ms() / 1000 - DAY_S);
        let state = lock(&self.shared.store);
        let mut counters = Counters::default();
        for ((hour, name), value) in &state.derived.counters {
            let bucket = match hour {
                None => Bucket::Current,
                Some(hour) if *hour < first_hour || *hour < from_hour || *hour > to_hour => {
                    continue;
                }
                Some(hour) => Bucket::Hour(*hour),
            };
            counters.add_named(bucket, name.clone(), *value);
        }
        Ok(counters)
    }

    async fn current_counters(&self, names: &[&str]) -> Result<i64, StoreError> {
        self.shared.pass(&self.gate).await;
        let state = lock(&self.shared.store);
        let value = |name: &&str| state.derived.counters.get(&(None, (*name).to_owned()));
        Ok(names.iter().filter_map(value).sum())
    }
}
