//! Recorded entities, and the commit that changes them together with everything derived from them.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::try_join_all;
use revwatch_core::counters::Counters;
use revwatch_core::entity::{EntityKey, EntityKind};
use revwatch_core::event::day_of;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::audit::AuditEntry;
use super::conditions::ConditionChange;
use super::error::StoreError;

/// Records that a delivery was processed: this prevents an event from counting twice.
///
/// `key` is the event id for the delivery that was applied or ignored, and the delivery id for
/// duplicates and dead letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DedupeKey {
    /// Days since 1970. Keys are stored in buckets of one day and dropped bucket by bucket. The day depends
    /// only on the event, so that a duplicate finds the key.
    pub day: u32,
    /// Event id or delivery id.
    pub key: String,
    /// The delivery that set it.
    pub delivery: Uuid,
}

/// What a batch needs to read before it can be merged.
#[derive(Debug, Clone, Default)]
pub struct ReadSet {
    /// Dedupe keys by day and key.
    pub dedupe_keys: Vec<(u32, String)>,
    /// Entities by key.
    pub entities: Vec<EntityKey>,
}

/// The answer to [`ReadSet`], in the same order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadResult {
    /// The delivery that set each key.
    pub dedupe_keys: Vec<Option<Uuid>>,
    /// The entities that exist.
    pub entities: Vec<Option<StoredEntity>>,
}

/// An entity as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEntity {
    /// Grows by one with each write; 0 means absent.
    pub version: u64,
    /// See [`revwatch_core::entity::Entity::encode`].
    pub body: Vec<u8>,
}

/// A new version of an entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntityWrite {
    /// Which entity.
    pub key: EntityKey,
    /// The version that was read; 0 if absent. The write stores `expected + 1`.
    pub expected: u64,
    /// See [`revwatch_core::entity::Entity::encode`]; `None` deletes the entity.
    pub body: Option<Vec<u8>>,
}

/// Everything that a batch of one partition changes. It applies completely or not at all.
#[derive(Debug, Clone, Default)]
pub struct Commit {
    /// The partition.
    pub partition: u32,
    /// Deliveries processed.
    pub dedupe_keys: Vec<DedupeKey>,
    /// Entities changed, each at most once.
    pub entities: Vec<EntityWrite>,
    /// Added to the aggregates.
    pub counters: Counters,
    /// Applied to the open conditions and published to alerting: the worker's outbox.
    pub conditions: Vec<ConditionChange>,
    /// Appended to the audit trail.
    pub audit: Vec<AuditEntry>,
    /// The newest `received_ms` of the deliveries. See [`super::Health::high_watermark_ms`].
    pub high_watermark_ms: i64,
    /// The conversion that this is a part of. `None` for all other commits: they are refused while the partition
    /// is not converted to this version's format.
    pub conversion: Option<String>,
}

impl Commit {
    /// Only counts. The dedupe key, `id`, is unique to this commit: if it is sent again, it counts nothing more.
    pub fn of_counters(partition: u32, counters: Counters, now_s: i64, id: Uuid) -> Self {
        Self {
            partition,
            dedupe_keys: vec![DedupeKey {
                day: day_of(now_s),
                key: id.simple().to_string(),
                delivery: id,
            }],
            counters,
            ..Self::default()
        }
    }
}

/// The outcome of a [`Commit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    /// It was applied now.
    Applied,
    /// It had been applied before: the same deliveries set all of its dedupe keys.
    AlreadyApplied,
    /// An entity has another version, another delivery set a dedupe key, or only some of the deliveries were
    /// processed before: read again and decide again.
    Conflict,
}

/// The most entities that one page examines; it may end with few or no entities and a cursor.
pub const MAX_ENTITIES_EXAMINED: usize = 5_000;

/// Whether an entity, given by id and body, belongs on a page. It runs inside the adapter, so it should be quick
/// and must not block.
pub type EntityFilter = Arc<dyn Fn(&str, &[u8]) -> bool + Send + Sync>;

/// Where the next page begins. Opaque to all but the adapter that made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EntityCursor(pub String);

#[cfg(any(feature = "memory", feature = "redis", feature = "sqlite"))]
impl EntityCursor {
    /// A position within a partition.
    pub(crate) fn new(partition: u32, position: impl std::fmt::Display) -> Self {
        Self(format!("{partition} {position}"))
    }

    /// The partition and the position.
    pub(crate) fn parts<T: std::str::FromStr>(&self) -> Result<(u32, T), StoreError> {
        let parts = self.0.split_once(' ');
        parts
            .and_then(|(partition, position)| {
                Some((partition.parse().ok()?, position.parse().ok()?))
            })
            .ok_or_else(|| {
                StoreError::Misconfigured(format!("{:?} is not an entity cursor", self.0))
            })
    }
}

/// Some entities of a kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EntityPage {
    /// Entities that pass the filter, by id.
    pub entities: Vec<(String, StoredEntity)>,
    /// Where to continue; `None` at the end. Only this says whether there is more.
    pub next: Option<EntityCursor>,
}

/// Reads entities and commits batches.
#[async_trait]
pub trait Entities: Send + Sync {
    /// Dedupe keys and entities of one partition, in one round trip.
    async fn read(&self, partition: u32, want: &ReadSet) -> Result<ReadResult, StoreError>;

    /// The same of several partitions.
    async fn read_all(&self, wanted: &[(u32, &ReadSet)]) -> Result<Vec<ReadResult>, StoreError> {
        let reading = wanted
            .iter()
            .map(|(partition, want)| self.read(*partition, want));
        try_join_all(reading).await
    }

    /// Applies a batch atomically. Safe to repeat. [`StoreError::Unconverted`]: the partition has another state
    /// format; [`StoreError::Fenced`]: its conversion is not the present one.
    async fn commit(&self, commit: &Commit) -> Result<Committed, StoreError>;

    /// One entity of any partition.
    async fn entity(&self, key: &EntityKey) -> Result<Option<StoredEntity>, StoreError>;

    /// Passes the partition, id and body of every entity of a kind to `each`, in no particular order. (The lifetimes are
    /// spelled out because `async_trait` would otherwise tie them to the call.)
    async fn entities(
        &self,
        kind: EntityKind,
        each: &mut (dyn for<'a, 'b> FnMut(u32, &'a str, &'b [u8]) + Send),
    ) -> Result<(), StoreError>;

    /// A page of the entities of a kind that pass `filter`; `None` starts at the beginning. It ends once it has
    /// `limit` entities or has examined [`MAX_ENTITIES_EXAMINED`], and keeps nothing else in memory.
    ///
    /// An entity that exists throughout is on one of the pages. SQLite returns entities in the order of their ids, at
    /// most `limit`. Redis returns them partition by partition in no order, may return one twice when a hash is
    /// resized, and completes the scan step in which it reaches `limit`.
    async fn entity_page(
        &self,
        kind: EntityKind,
        filter: EntityFilter,
        after: Option<&EntityCursor>,
        limit: usize,
    ) -> Result<EntityPage, StoreError>;
}
