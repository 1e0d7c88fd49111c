//! Conversion: all partitions have their aggregates in common.

use std::ops::Bound;

use async_trait::async_trait;
use revwatch_core::bucket::Buckets;
use revwatch_core::entity::{EntityKey, EntityKind, STATE_FORMAT};
use revwatch_core::recount::StoredAggregates;

use super::handle::Memory;
use crate::lock::lock;
use crate::ports::{Conversion, EntityCursor, ShardEntity, ShardPage, StoreError};

/// Few, so that tests read several pages.
const PAGE: usize = 20;

#[async_trait]
impl Conversion for Memory {
    fn shards(&self) -> u32 {
        1
    }

    async fn begin_conversion(
        &self,
        partition: u32,
        conversion_id: &str,
    ) -> Result<String, StoreError> {
        self.shared.pass_to(&self.gate, partition).await;
        let mut state = lock(&self.shared.store);
        let health = &mut state.health[partition as usize];
        health.conversion = Some(conversion_id.to_owned());
        Ok(health.server_run_id.clone())
    }

    async fn shard_page(
        &self,
        _: u32,
        kind: EntityKind,
        after: Option<&EntityCursor>,
    ) -> Result<ShardPage, StoreError> {
        self.shared.pass(&self.gate).await;
        let from = match after {
            None => Bound::Included((kind, String::new(), 0)),
            Some(cursor) => {
                let (partition, id) = cursor.parts()?;
                Bound::Excluded((kind, id, partition))
            }
        };
        let state = lock(&self.shared.store);
        let found = state.derived.entities.range((from, Bound::Unbounded));
        let of_kind = found.take_while(|((found, ..), _)| *found == kind);
        let entity = |((_, id, partition), stored): (&(EntityKind, String, u32), &_)| ShardEntity {
            partition: *partition,
            key: EntityKey::new(kind, id),
            stored: Clone::clone(stored),
        };
        let entities: Vec<_> = of_kind.take(PAGE).map(entity).collect();
        let last = entities.last().filter(|_| entities.len() == PAGE);
        Ok(ShardPage {
            next: last.map(|last| EntityCursor::new(last.partition, &last.key.id)),
            entities,
        })
    }

    async fn shard_aggregates(
        &self,
        _: u32,
        buckets: &Buckets,
    ) -> Result<StoredAggregates, StoreError> {
        self.shared.pass(&self.gate).await;
        let state = lock(&self.shared.store);
        Ok(StoredAggregates {
            counters: state.derived.counters(buckets, |_| true),
            conditions: state.derived.conditions.values().cloned().collect(),
        })
    }

    async fn end_conversion(
        &self,
        partition: u32,
        conversion_id: &str,
        server_run_id: &str,
    ) -> Result<bool, StoreError> {
        self.shared.pass_to(&self.gate, partition).await;
        let mut state = lock(&self.shared.store);
        let health = &mut state.health[partition as usize];
        if health.conversion.as_deref() != Some(conversion_id)
            || health.server_run_id != server_run_id
        {
            return Ok(false);
        }
        health.conversion = None;
        health.state_format = STATE_FORMAT;
        health.recovery_id = Some(conversion_id.to_owned());
        state.lose_changes();
        Ok(true)
    }
}
