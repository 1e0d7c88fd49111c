//! The store on Redis: a single server, behind Sentinel, or a Cluster.
//!
//! All keys of partition N share one hash tag, `{pN}`, so that a batch is one read round trip and one
//! script, in a Cluster, too. What alerting writes is under `{alerting}`. `keys.rs` lists the keys. Each
//! write is one Lua script that checks everything before it changes anything, because an error in a
//! script does not undo its writes. Each write is safe to repeat, because a write that timed out may have
//! been applied and Cluster connections resend.
//!
//! Sequence numbers and fences start at the server's clock instead of 1 and only grow. Those issued after
//! a data loss are higher than all issued before it, so an old cursor or fence is never taken for a new
//! one.

mod checks;
mod commit;
mod conditions;
mod coordination;
mod documents;
mod error;
mod health;
mod keys;
mod link;
mod read;
mod script;
mod target;

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};

#[doc(hidden)]
pub use self::commit::packed;
use self::link::Link;
use self::target::Target;
use crate::ports::{
    Aggregates, AuditEntry, AuditTrail, ChangeCursor, Changes, Commit, Committed, ConditionFeed,
    Coordination, DueWindow, Entities, EntityCursor, EntityFilter, EntityPage, Fence, Health,
    ReadResult, ReadSet, Recovery, StoreError, StoredEntity,
};
use revwatch_core::condition::Condition;
use revwatch_core::counters::Counters;
use revwatch_core::entity::{EntityKey, EntityKind};

/// [`StateStore`](crate::ports::StateStore) on Redis 7.0 or later.
pub struct RedisStore {
    link: Link,
    partitions: u32,
}

impl RedisStore {
    /// Connects, and checks the version, persistence, eviction policy, and that the deployment was created
    /// with this number of partitions. A new deployment is created.
    ///
    /// The address is one of
    /// - `redis://[user:password@]host[:port][/db]`, with TLS `rediss://…`
    /// - `redis-cluster://[user:password@]host:port,host:port,…[?tls=true]`
    /// - `redis-sentinel://[user:password@]host:port,…/master-name[/db][?tls=true&sentinel_password=…]`,
    ///   where hosts are Sentinels, and user and password those of the Redis servers behind them.
    ///
    /// No error shows a password.
    pub async fn connect(url: &SecretString, partitions: u32) -> Result<Self, StoreError> {
        if partitions == 0 {
            return Err(StoreError::Misconfigured(
                "REVWATCH_PARTITIONS must be at least 1".into(),
            ));
        }
        let target = Target::parse(url.expose_secret())?;
        Ok(Self {
            link: Link::open(target, partitions).await?,
            partitions,
        })
    }

    /// Checks the address as [`RedisStore::connect`] does.
    pub fn check_url(url: &SecretString) -> Result<(), StoreError> {
        Target::parse(url.expose_secret()).map(drop)
    }

    /// Runs one future per partition concurrently; on one connection they form a pipeline.
    async fn each_partition<T, F: Future<Output = Result<T, StoreError>>>(
        &self,
        ask: impl Fn(u32) -> F,
    ) -> Result<Vec<T>, StoreError> {
        futures_util::future::try_join_all((0..self.partitions).map(ask)).await
    }
}

/// Names the server kind and the number of partitions, no address.
impl std::fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "RedisStore({}, {} partitions)",
            self.link.kind(),
            self.partitions
        )
    }
}

#[async_trait]
impl Entities for RedisStore {
    async fn read(&self, partition: u32, want: &ReadSet) -> Result<ReadResult, StoreError> {
        self.read_batch(partition, want).await
    }

    async fn commit(&self, commit: &Commit) -> Result<Committed, StoreError> {
        self.commit_batch(commit).await
    }

    async fn entity(&self, key: &EntityKey) -> Result<Option<StoredEntity>, StoreError> {
        self.find_entity(key).await
    }

    async fn entities(
        &self,
        kind: EntityKind,
        each: &mut (dyn for<'a, 'b> FnMut(&'a str, &'b [u8]) + Send),
    ) -> Result<(), StoreError> {
        self.scan_entities(kind, each).await
    }

    async fn entity_page(
        &self,
        kind: EntityKind,
        filter: EntityFilter,
        after: Option<&EntityCursor>,
        limit: usize,
    ) -> Result<EntityPage, StoreError> {
        self.scan_page(kind, &filter, after, limit).await
    }
}

#[async_trait]
impl Aggregates for RedisStore {
    async fn counters(&self, from_hour: u32, to_hour: u32) -> Result<Counters, StoreError> {
        self.sum_counters(from_hour, to_hour).await
    }

    async fn current_counters(&self, names: &[&str]) -> Result<i64, StoreError> {
        self.sum_standing(names).await
    }
}

#[async_trait]
impl ConditionFeed for RedisStore {
    async fn conditions(&self) -> Result<Vec<Condition>, StoreError> {
        self.open_conditions().await
    }

    async fn conditions_due(&self, windows: &[DueWindow]) -> Result<Vec<Condition>, StoreError> {
        self.due_conditions(windows).await
    }

    async fn condition_changes(
        &self,
        cursor: &ChangeCursor,
        limit: usize,
    ) -> Result<Changes, StoreError> {
        self.changes_since(cursor, limit).await
    }
}

#[async_trait]
impl AuditTrail for RedisStore {
    async fn audit(&self, limit: usize) -> Result<Vec<AuditEntry>, StoreError> {
        self.newest_audit(limit).await
    }
}

#[async_trait]
impl Coordination for RedisStore {
    async fn lease(
        &self,
        name: &str,
        holder: &str,
        ttl_ms: u64,
    ) -> Result<Option<Fence>, StoreError> {
        self.take_lease(name, holder, ttl_ms).await
    }

    async fn release(&self, name: &str, holder: &str) -> Result<(), StoreError> {
        self.give_back_lease(name, holder).await
    }

    async fn heartbeat(
        &self,
        group: &str,
        member: &str,
        ttl_ms: u64,
    ) -> Result<Vec<String>, StoreError> {
        self.heartbeat(group, member, ttl_ms).await
    }

    async fn leave(&self, group: &str, member: &str) -> Result<(), StoreError> {
        self.leave_group(group, member).await
    }
}

#[async_trait]
impl Recovery for RedisStore {
    async fn health(&self) -> Result<Vec<Health>, StoreError> {
        self.look_at_health().await
    }

    async fn begin_recovery(
        &self,
        partition: u32,
        healing: &str,
        margin_ms: i64,
    ) -> Result<(String, i64), StoreError> {
        self.note_healing(partition, healing, margin_ms).await
    }

    async fn end_recovery(
        &self,
        partition: u32,
        healing: &str,
        life: &str,
    ) -> Result<bool, StoreError> {
        self.note_healed(partition, healing, life).await
    }

    async fn drop_state(&self) -> Result<(), StoreError> {
        self.forget_events().await
    }
}
