//! The conversion of the state to this version's format, [`revwatch_core::entity::STATE_FORMAT`].
//!
//! A conversion may end at any point and be begun again from the start. It changes a partition only
//! with commits that name it, and [`Conversion::begin_conversion`] lets the last that began win: what an
//! earlier one, or a worker that applies deliveries, still sends is refused.

use async_trait::async_trait;
use revwatch_core::bucket::Buckets;
use revwatch_core::entity::{EntityKey, EntityKind};
use revwatch_core::recount::StoredAggregates;

use super::entities::{EntityCursor, StoredEntity};
use super::error::StoreError;

/// An entity and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardEntity {
    /// Where it is stored.
    pub partition: u32,
    /// Which entity.
    pub key: EntityKey,
    /// Its version and body.
    pub stored: StoredEntity,
}

/// Some entities of a shard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShardPage {
    /// In no particular order; one may be on several pages.
    pub entities: Vec<ShardEntity>,
    /// Where to continue; `None` at the end. Only this says whether there is more.
    pub next: Option<EntityCursor>,
}

/// Converts the state.
#[async_trait]
pub trait Conversion: Send + Sync {
    /// How many shards there are: sets of partitions that have their aggregates in common. A commit to
    /// partition N changes the aggregates of shard N, or of the only one.
    fn shards(&self) -> u32;

    /// Begins a conversion of a partition, or takes it over. Until it ends the partition is not complete, and
    /// commits that are not part of it are refused. Returns the server's run id.
    async fn begin_conversion(
        &self,
        partition: u32,
        conversion_id: &str,
    ) -> Result<String, StoreError>;

    /// A page of a shard's entities of one kind; `None` starts at the beginning. An entity that exists throughout
    /// is on one of the pages.
    async fn shard_page(
        &self,
        shard: u32,
        kind: EntityKind,
        after: Option<&EntityCursor>,
    ) -> Result<ShardPage, StoreError>;

    /// The aggregates of a shard: current counters, those of `buckets`, and conditions.
    async fn shard_aggregates(
        &self,
        shard: u32,
        buckets: &Buckets,
    ) -> Result<StoredAggregates, StoreError>;

    /// Records the end: the partition has this version's format and, if it was complete before, is complete again, by
    /// a recovery with the conversion's id. Readers of condition changes get a gap. `false`: data may have been lost
    /// since it began, or another conversion began, so begin another one.
    async fn end_conversion(
        &self,
        partition: u32,
        conversion_id: &str,
        server_run_id: &str,
    ) -> Result<bool, StoreError>;
}
