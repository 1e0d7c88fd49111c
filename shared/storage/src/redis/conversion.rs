//! Conversion of the state; see [`Conversion`]. Each partition has aggregates of its own.

use std::sync::LazyLock;

use async_trait::async_trait;
use revwatch_core::bucket::Buckets;
use revwatch_core::entity::{EntityKey, EntityKind, STATE_FORMAT};
use revwatch_core::recount::StoredAggregates;

use super::entities::stored;
use super::handle::RedisStore;
use super::keys;
use super::scan::SCAN;
use super::script::Script;
use crate::ports::{Conversion, EntityCursor, ShardEntity, ShardPage, StoreError};

static BEGIN: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("lua/begin_conversion.lua")));
static END: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("lua/end_conversion.lua")));

#[async_trait]
impl Conversion for RedisStore {
    fn shards(&self) -> u32 {
        self.partitions
    }

    async fn begin_conversion(
        &self,
        partition: u32,
        conversion_id: &str,
    ) -> Result<String, StoreError> {
        let call = BEGIN.on(vec![keys::health(partition)]).arg(conversion_id);
        self.link.call(&call).await
    }

    async fn shard_page(
        &self,
        shard: u32,
        kind: EntityKind,
        after: Option<&EntityCursor>,
    ) -> Result<ShardPage, StoreError> {
        let (_, cursor) = after.map_or(Ok((shard, 0)), EntityCursor::parts::<u64>)?;
        let mut cmd = redis::cmd("HSCAN");
        cmd.arg(keys::entities(shard, kind)).arg(cursor);
        cmd.arg("COUNT").arg(SCAN);
        let (next, found): (u64, Vec<(String, Vec<u8>)>) = self.link.run(&cmd).await?;
        let entities = found.into_iter().map(|(id, value)| {
            Ok(ShardEntity {
                partition: shard,
                stored: stored(kind, &id, &value)?,
                key: EntityKey::new(kind, &id),
            })
        });
        Ok(ShardPage {
            entities: entities.collect::<Result<_, StoreError>>()?,
            next: (next != 0).then(|| EntityCursor::new(shard, next)),
        })
    }

    async fn shard_aggregates(
        &self,
        shard: u32,
        buckets: &Buckets,
    ) -> Result<StoredAggregates, StoreError> {
        Ok(StoredAggregates {
            counters: self.partition_counters(shard, buckets).await?,
            conditions: self.partition_conditions(shard).await?,
        })
    }

    async fn end_conversion(
        &self,
        partition: u32,
        conversion_id: &str,
        server_run_id: &str,
    ) -> Result<bool, StoreError> {
        let call = END
            .on(vec![keys::health(partition), keys::changes(partition)])
            .arg(conversion_id)
            .arg(server_run_id)
            .arg(STATE_FORMAT.to_string());
        self.link.call(&call).await
    }
}
