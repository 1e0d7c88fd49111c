//! The handle on the store, which the ports are implemented for.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

use super::link::Link;
use super::requirements::Partitions;
use super::target::Target;
use crate::connection_failure;
use crate::ports::StoreError;

/// [`StateStore`](crate::ports::StateStore) on Redis 7.0 or later.
pub struct RedisStore {
    pub(super) link: Link,
    pub(super) partitions: u32,
    pub(super) place: String,
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
        let link = Link::open(target.clone(), Partitions::Claimed(partitions)).await;
        Ok(Self {
            link: link.map_err(|error| naming(&target, error))?,
            partitions,
            place: target.place(),
        })
    }

    /// Connects and checks the servers as [`RedisStore::connect`] does, but writes nothing.
    pub async fn probe(url: &SecretString, partitions: u32) -> Result<(), StoreError> {
        let target = Target::parse(url.expose_secret())?;
        let link = Link::open(target.clone(), Partitions::Compared(partitions)).await;
        link.map(drop).map_err(|error| naming(&target, error))
    }

    /// Checks the address as [`RedisStore::connect`] does.
    pub fn check_url(url: &SecretString) -> Result<(), StoreError> {
        Target::parse(url.expose_secret()).map(drop)
    }

    /// Runs one future per partition concurrently; on one connection they form a pipeline.
    pub(super) async fn each_partition<T, F: Future<Output = Result<T, StoreError>>>(
        &self,
        request: impl Fn(u32) -> F,
    ) -> Result<Vec<T>, StoreError> {
        futures_util::future::try_join_all((0..self.partitions).map(request)).await
    }
}

/// The first connection fails where the operator waits for the reason: which servers, and where they
/// are set.
fn naming(target: &Target, error: StoreError) -> StoreError {
    match error {
        StoreError::Unavailable(cause) => {
            let why = match target.has_tls() {
                true => connection_failure::plain_over_tls(&*cause),
                false => connection_failure::plain(&*cause),
            };
            let hint = match target.has_tls() && why.starts_with(connection_failure::NO_ANSWER) {
                true => "; with rediss:// or tls=true it must speak TLS on this port",
                false => connection_failure::next_step(&why),
            };
            let servers = target.servers();
            StoreError::Unavailable(
                format!("cannot connect to {servers} (REVWATCH_REDIS_URL): {why}{hint}").into(),
            )
        }
        error => error,
    }
}

/// Names the server kind and the number of partitions, no address.
impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "RedisStore({}, {} partitions)",
            self.link.kind(),
            self.partitions
        )
    }
}
