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

use secrecy::{ExposeSecret, SecretString};

#[doc(hidden)]
pub use self::commit::packed;
use self::link::Link;
use self::target::Target;
use crate::ports::StoreError;

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
