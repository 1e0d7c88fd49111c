//! Connections to the servers: replaced when they fail, with explicit timeouts.
//!
//! A single server and Sentinel use one multiplexed connection that is opened when needed and discarded
//! when it fails, times out, or leads to a demoted primary. Each new one is checked like the first,
//! because it may lead to another server. The connection to a Cluster is replaced node by node inside
//! its client: its nodes are checked when the process starts, and those that join later are not.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClient, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, FromRedisValue, Pipeline, RedisResult, ServerErrorKind,
};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::error::{OpenError, connect_error, ends_connection, store_error};
use super::requirements::{self, Partitions};
use super::script::Call;
use super::target::Target;
use crate::ports::StoreError;
use crate::reconnecting::Reconnecting;

/// The response timeout. The client's default of half a second is too short for a slow disk under
/// `appendfsync always`.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);

/// The timeout for setting up one connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The timeout of a Cluster request with all redirections and resends.
const CLUSTER_RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

/// The timeout for finding the primary, connecting to it and checking it.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection to the store.
pub(super) enum Link {
    /// One server at a time.
    Single(Box<Single>),
    /// All primaries of a Cluster.
    Cluster(ClusterConnection),
}

impl Link {
    /// Connects and checks the servers.
    pub(super) async fn open(target: Target, partitions: Partitions) -> Result<Self, StoreError> {
        let source = match target {
            Target::Cluster(nodes) => {
                return Ok(Self::Cluster(open_cluster(nodes, partitions).await?));
            }
            Target::Single(info) => {
                Source::Address(redis::Client::open(info).map_err(store_error)?)
            }
            Target::Sentinel {
                sentinels,
                master,
                node,
            } => Source::Sentinel(Mutex::new(
                SentinelClient::build(sentinels, master, Some(node), SentinelServerType::Master)
                    .map_err(store_error)?,
            )),
        };
        let single = Single {
            partitions,
            source: Arc::new(source),
            slot: Reconnecting::new(
                "the connection to Redis".to_owned(),
                |_| true,
                Duration::ZERO,
            ),
        };
        single.connection().await?;
        Ok(Self::Single(Box::new(single)))
    }

    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Single(_) => "single",
            Self::Cluster(_) => "cluster",
        }
    }

    /// Sends one command.
    pub(super) async fn run<T: FromRedisValue>(&self, cmd: &Cmd) -> Result<T, StoreError> {
        self.try_run(cmd).await?.map_err(store_error)
    }

    /// Sends several commands in one round trip. In a Cluster their keys must share a hash tag.
    pub(super) async fn pipeline<T: FromRedisValue>(
        &self,
        pipeline: &Pipeline,
    ) -> Result<T, StoreError> {
        match self {
            Self::Cluster(connection) => pipeline
                .query_async(&mut connection.clone())
                .await
                .map_err(store_error),
            Self::Single(single) => {
                let connection = single.connection().await?;
                let answer = pipeline.query_async(&mut one_of(&connection)).await;
                single
                    .discard_if_ended(&connection, answer)
                    .map_err(store_error)
            }
        }
    }

    /// Calls a script, and loads it if the server does not have it: a new primary, or one that was
    /// restarted.
    pub(super) async fn call<T: FromRedisValue>(&self, call: &Call) -> Result<T, StoreError> {
        match self.try_run(&call.by_digest()).await? {
            Err(err) if err.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.run(&call.by_source()).await
            }
            answer => answer.map_err(store_error),
        }
    }

    async fn try_run<T: FromRedisValue>(&self, cmd: &Cmd) -> Result<RedisResult<T>, StoreError> {
        match self {
            Self::Cluster(connection) => Ok(cmd.query_async(&mut connection.clone()).await),
            Self::Single(single) => {
                let connection = single.connection().await?;
                let answer = cmd.query_async(&mut one_of(&connection)).await;
                Ok(single.discard_if_ended(&connection, answer))
            }
        }
    }
}

async fn open_cluster(
    nodes: Vec<redis::ConnectionInfo>,
    partitions: Partitions,
) -> Result<ClusterConnection, StoreError> {
    let client = ClusterClientBuilder::new(nodes)
        .connection_timeout(CONNECT_TIMEOUT)
        .response_timeout(RESPONSE_TIMEOUT)
        .overall_response_timeout(Some(CLUSTER_RESPONSE_TIMEOUT))
        .max_retry_wait(1_000)
        .build()
        .map_err(store_error)?;
    let open = async {
        let mut connection = client.get_async_connection().await.map_err(store_error)?;
        requirements::examine_cluster(&mut connection, partitions).await?;
        Ok(connection)
    };
    timeout(OPEN_TIMEOUT, open)
        .await
        .unwrap_or_else(|_| Err(too_slow()))
}

/// One multiplexed connection, and the source of the next.
pub(super) struct Single {
    partitions: Partitions,
    source: Arc<Source>,
    slot: Reconnecting<MultiplexedConnection, OpenError>,
}

enum Source {
    Address(redis::Client),
    /// Queried for the primary before each connection.
    Sentinel(Mutex<SentinelClient>),
}

impl Single {
    /// The connection, opened if there is none.
    async fn connection(&self) -> Result<Arc<MultiplexedConnection>, StoreError> {
        let open = || {
            let (source, partitions) = (self.source.clone(), self.partitions);
            async move {
                let opened = timeout(OPEN_TIMEOUT, source.open(partitions)).await;
                opened
                    .unwrap_or_else(|_| Err(too_slow()))
                    .map_err(OpenError::new)
            }
            .boxed()
        };
        Ok(self.slot.get(OPEN_TIMEOUT, open).await?)
    }

    /// Discards the connection if the answer says that it is not usable any more.
    fn discard_if_ended<T>(
        &self,
        used: &Arc<MultiplexedConnection>,
        answer: RedisResult<T>,
    ) -> RedisResult<T> {
        if let Err(error) = &answer
            && ends_connection(error)
            && self.slot.discard(used)
        {
            tracing::warn!(%error, "the connection to Redis is discarded; the next request opens a new one");
        }
        answer
    }
}

/// A handle of a connection that all requests share.
fn one_of(connection: &Arc<MultiplexedConnection>) -> MultiplexedConnection {
    MultiplexedConnection::clone(connection)
}

impl Source {
    async fn open(&self, partitions: Partitions) -> Result<MultiplexedConnection, StoreError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT));
        let opened = match self {
            Self::Address(client) => {
                client
                    .get_multiplexed_async_connection_with_config(&config)
                    .await
            }
            Self::Sentinel(client) => {
                let mut client = client.lock().await;
                client.get_async_connection_with_config(&config).await
            }
        };
        let mut connection = opened.map_err(connect_error)?;
        requirements::examine_single(&mut connection, partitions).await?;
        Ok(connection)
    }
}

fn too_slow() -> StoreError {
    StoreError::Unavailable(
        format!(
            "no usable connection to Redis within {} s",
            OPEN_TIMEOUT.as_secs()
        )
        .into(),
    )
}
