//! Conversion of the state; see [`Conversion`]. All partitions have their aggregates in common.

use async_trait::async_trait;
use revwatch_core::bucket::Buckets;
use revwatch_core::condition::Condition;
use revwatch_core::entity::{EntityKey, EntityKind, STATE_FORMAT};
use revwatch_core::recount::StoredAggregates;
use rusqlite::{OptionalExtension as _, params};

use super::handle::{Sqlite, store_error};
use super::json::{from_json, texts};
use super::recovery::RUN_ID;
use crate::ports::{
    Aggregates as _, Conversion, EntityCursor, ShardEntity, ShardPage, StoreError, StoredEntity,
};

#[async_trait]
impl Conversion for Sqlite {
    fn shards(&self) -> u32 {
        1
    }

    async fn begin_conversion(
        &self,
        partition: u32,
        conversion_id: &str,
    ) -> Result<String, StoreError> {
        let conversion_id = conversion_id.to_owned();
        self.write(move |c| {
            c.execute(
                "UPDATE health SET conversion = ?2 WHERE partition = ?1",
                params![partition, conversion_id],
            )
        })
        .await
        .map_err(store_error)?;
        Ok(RUN_ID.to_owned())
    }

    async fn shard_page(
        &self,
        _: u32,
        kind: EntityKind,
        after: Option<&EntityCursor>,
    ) -> Result<ShardPage, StoreError> {
        const PAGE: usize = 1_000;
        let (partition, id) = after.map_or(Ok((0, String::new())), EntityCursor::parts)?;
        let entities: Vec<ShardEntity> = Sqlite::read(self, move |c| {
            c.prepare_cached(
                "SELECT id, partition, version, body FROM entities WHERE kind = ?1 AND (id, partition) > (?2, ?3)
                 ORDER BY id, partition LIMIT ?4",
            )?
            .query_map(params![kind.as_str(), id, partition, PAGE], |row| {
                let stored = StoredEntity { version: row.get(2)?, body: row.get(3)? };
                let key = EntityKey::new(kind, &row.get::<_, String>(0)?);
                Ok(ShardEntity { partition: row.get(1)?, key, stored })
            })?
            .collect()
        })
        .await
        .map_err(store_error)?;
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
        let bodies = Sqlite::read(self, |c| texts(c, "SELECT body FROM conditions", [])).await;
        let conditions: Vec<Condition> =
            from_json(&bodies.map_err(store_error)?, "an open condition")?;
        Ok(StoredAggregates {
            counters: self.counters(buckets).await?,
            conditions,
        })
    }

    async fn end_conversion(
        &self,
        partition: u32,
        conversion_id: &str,
        server_run_id: &str,
    ) -> Result<bool, StoreError> {
        let (conversion_id, server_run_id) = (conversion_id.to_owned(), server_run_id.to_owned());
        self.write(move |c| {
            let ended = c
                .query_row(
                    "UPDATE health SET state_format = ?3, recovery_id = conversion, conversion = NULL
                     WHERE partition = ?1 AND conversion = ?2 AND ?4 = ?5 RETURNING 1",
                    params![partition, conversion_id, STATE_FORMAT, server_run_id, RUN_ID],
                    |_| Ok(()),
                )
                .optional()?;
            if ended.is_some() {
                // The number that is left out is a gap for every reader.
                c.execute("DELETE FROM changes", [])?;
                c.execute("UPDATE sqlite_sequence SET seq = seq + 1 WHERE name = 'changes'", [])?;
            }
            Ok(ended.is_some())
        })
        .await
        .map_err(store_error)
    }
}
