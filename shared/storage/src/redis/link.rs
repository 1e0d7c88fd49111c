//! The way to the server: connections that are replaced when they go bad, explicit timeouts.
//!
//! A single server and Sentinel are served by one multiplexed connection that is opened when needed
//! and thrown away when it fails, times out, or turns out to lead to a demoted primary; each new one is
//! examined like the first, for it may lead to another server. A Cluster connection does the like by
//! itself.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClient, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, RedisResult,
    ServerErrorKind,
};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::checks;
use super::error::{spoils_connection, store_error};
use super::script::Call;
use super::target::Target;
use crate::ports::StoreError;

/// How long a server may take to answer. The client's default of half a second is less than what a
/// slow disk under `appendfsync always` needs at times.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long one connection may take to be set up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a request to a Cluster may take with all redirections and resends.
const CLUSTER_RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long finding the primary, connecting to it and examining it may take together.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection to the store.
pub(super) enum Link {
    /// One server at a time.
    Single(Box<Single>),
    /// All primaries of a Cluster.
    Cluster(ClusterConnection),
}

impl Link {
    /// Connects and examines what is there.
    pub(super) async fn open(target: Target, partitions: u32) -> Result<Self, StoreError> {
        let source = match target {
            Target::Cluster(nodes) => {
                return Ok(Self::Cluster(open_cluster(nodes, partitions).await?));
            }
            Target::Single(info) => {
                Source::Address(Box::new(redis::Client::open(info).map_err(store_error)?))
            }
            Target::Sentinel {
                sentinels,
                master,
                node,
            } => Source::Sentinel(Box::new(
                SentinelClient::build(sentinels, master, Some(node), SentinelServerType::Master)
                    .map_err(store_error)?,
            )),
        };
        let single = Single {
            partitions,
            state: Mutex::new(State {
                source,
                live: None,
                opened: 0,
                failed: None,
            }),
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
                let mut live = single.connection().await?;
                let answer = pipeline.query_async(&mut live.connection).await;
                single.heed(&live, answer).await.map_err(store_error)
            }
        }
    }

    /// Calls a script, teaching it to the server if it does not know it: a new primary, or one that
    /// was restarted.
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
                let mut live = single.connection().await?;
                let answer = cmd.query_async(&mut live.connection).await;
                Ok(single.heed(&live, answer).await)
            }
        }
    }
}

async fn open_cluster(
    nodes: Vec<redis::ConnectionInfo>,
    partitions: u32,
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
        checks::examine_cluster(&mut connection, partitions).await?;
        Ok(connection)
    };
    timeout(OPEN_TIMEOUT, open)
        .await
        .unwrap_or_else(|_| Err(too_slow()))
}

/// One multiplexed connection, and how to get the next.
pub(super) struct Single {
    partitions: u32,
    state: Mutex<State>,
}

struct State {
    source: Source,
    live: Option<Live>,
    /// How many connections there have been: tells a new one from the one that failed.
    opened: u64,
    /// The last attempt that failed, for those who waited for it.
    failed: Option<(Instant, String)>,
}

enum Source {
    Address(Box<redis::Client>),
    /// Asked anew for each connection.
    Sentinel(Box<SentinelClient>),
}

#[derive(Clone)]
struct Live {
    number: u64,
    connection: MultiplexedConnection,
}

impl Single {
    /// The connection, opened if there is none. Whoever waits while an attempt fails fails with it, so
    /// that a hundred callers of a dead server do not make a hundred attempts one after the other.
    async fn connection(&self) -> Result<Live, StoreError> {
        let asked = Instant::now();
        let mut state = self.state.lock().await;
        if let Some(live) = &state.live {
            return Ok(live.clone());
        }
        if let Some((_, why)) = state.failed.as_ref().filter(|(at, _)| *at >= asked) {
            return Err(StoreError::Unavailable(why.clone().into()));
        }
        let opened = timeout(OPEN_TIMEOUT, state.source.open(self.partitions))
            .await
            .unwrap_or_else(|_| Err(too_slow()));
        match opened {
            Ok(connection) => {
                state.opened += 1;
                let live = Live {
                    number: state.opened,
                    connection,
                };
                state.live = Some(live.clone());
                Ok(live)
            }
            Err(err) => {
                state.failed = Some((Instant::now(), err.to_string()));
                Err(err)
            }
        }
    }

    /// Discards the connection if the answer says that it is no good any more.
    async fn heed<T>(&self, used: &Live, answer: RedisResult<T>) -> RedisResult<T> {
        if let Err(err) = &answer
            && spoils_connection(err)
        {
            self.discard(used, err).await;
        }
        answer
    }

    async fn discard(&self, used: &Live, why: &RedisError) {
        let mut state = self.state.lock().await;
        if state
            .live
            .as_ref()
            .is_some_and(|live| live.number == used.number)
        {
            tracing::warn!(error = %why, "the connection to Redis is given up; the next request opens a new one");
            state.live = None;
        }
    }
}

impl Source {
    async fn open(&mut self, partitions: u32) -> Result<MultiplexedConnection, StoreError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT));
        let opened = match self {
            Self::Address(client) => {
                client
                    .get_multiplexed_async_connection_with_config(&config)
                    .await
            }
            Self::Sentinel(client) => client.get_async_connection_with_config(&config).await,
        };
        let mut connection = opened.map_err(store_error)?;
        checks::examine_single(&mut connection, partitions).await?;
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
