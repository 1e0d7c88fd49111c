//! Requirements that a Redis server must meet: version, persistence, eviction, partitions.

use std::collections::HashMap;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo};
use redis::{Cmd, ErrorKind, FromRedisValue, RedisResult, ServerErrorKind, Value};

use super::error::{connect_error, store_error};
use super::keys;
use crate::ports::StoreError;

/// The oldest Redis that refuses to start a script that could not finish, and that supports EXPIRE NX.
const MINIMUM: (u32, u32) = (7, 0);

/// The number of partitions that the deployment must have.
#[derive(Debug, Clone, Copy)]
pub(super) enum Partitions {
    /// The first process to connect sets it for good.
    Claimed(u32),
    /// Nothing is written: a new deployment may get any.
    Compared(u32),
}

/// Examines the server behind a new connection.
pub(super) async fn examine_single(
    connection: &mut MultiplexedConnection,
    partitions: Partitions,
) -> Result<(), StoreError> {
    let info: String = info_cmd()
        .query_async(connection)
        .await
        .map_err(connect_error)?;
    let config: RedisResult<HashMap<String, String>> = config_cmd().query_async(connection).await;
    let facts = Facts {
        info: parse_info(&info),
        config: optional(config)?,
    };
    report(&[verdict(&facts)?]);
    run_script(connection).await?;
    agree_on_partitions(connection, partitions).await
}

/// Examines every primary of a Cluster.
pub(super) async fn examine_cluster(
    connection: &mut ClusterConnection,
    partitions: Partitions,
) -> Result<(), StoreError> {
    let infos: HashMap<String, String> = query_primaries(connection, info_cmd())
        .await
        .map_err(store_error)?;
    let configs = query_primaries(connection, config_cmd()).await;
    let mut configs: HashMap<String, HashMap<String, String>> =
        optional(configs)?.unwrap_or_default();
    let mut found = Vec::with_capacity(infos.len());
    for (node, info) in infos {
        let facts = Facts {
            info: parse_info(&info),
            config: configs.remove(&node),
        };
        found.push(verdict(&facts)?);
    }
    report(&found);
    run_script(connection).await?;
    agree_on_partitions(connection, partitions).await
}

async fn query_primaries<T: FromRedisValue>(
    connection: &mut ClusterConnection,
    cmd: Cmd,
) -> RedisResult<T> {
    // Without a response policy the response is a map by node.
    let everywhere = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
    Ok(redis::from_redis_value(
        connection.route_command(cmd, everywhere).await?,
    )?)
}

/// All default sections: older servers take no list of sections.
fn info_cmd() -> Cmd {
    redis::cmd("INFO")
}

fn config_cmd() -> Cmd {
    let mut cmd = redis::cmd("CONFIG");
    cmd.arg("GET").arg("append*");
    cmd
}

/// Managed servers forbid CONFIG with permissions or by renaming it; only then there is no response.
fn optional<T>(answer: RedisResult<T>) -> Result<Option<T>, StoreError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(err)
            if matches!(
                err.kind(),
                ErrorKind::Server(ServerErrorKind::NoPerm | ServerErrorKind::ResponseError)
            ) =>
        {
            Ok(None)
        }
        Err(err) => Err(store_error(err)),
    }
}

/// What a server reports about itself.
#[derive(Debug, Default)]
struct Facts {
    info: HashMap<String, String>,
    config: Option<HashMap<String, String>>,
}

/// The durability of committed batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Durability {
    /// On disk before the answer.
    Always,
    /// On disk within about a second.
    EverySecond,
    /// On disk when the kernel writes it.
    Kernel,
    /// The server does not report it.
    Unknown,
}

fn parse_info(text: &str) -> HashMap<String, String> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(k, v)| (k.to_owned(), v.trim().to_owned()))
        .collect()
}

/// Whether the server may hold the state, and how durably.
fn verdict(facts: &Facts) -> Result<Durability, StoreError> {
    let said = |name: &str| facts.info.get(name).map(String::as_str);
    let version = said("redis_version").unwrap_or("unknown");
    let mut numbers = version
        .split('.')
        .map(|part| part.parse::<u32>().unwrap_or(0));
    if (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < MINIMUM {
        return Err(StoreError::Misconfigured(format!(
            "Redis {version} is too old; revwatch needs {}.{} or later",
            MINIMUM.0, MINIMUM.1
        )));
    }
    // Temporary during a failover.
    if said("role") == Some("slave") {
        return Err(StoreError::Unavailable(
            "this Redis is a replica; revwatch needs the primary".into(),
        ));
    }
    if let Some(policy) = said("maxmemory_policy").filter(|policy| *policy != "noeviction") {
        return Err(StoreError::Misconfigured(format!(
            "Redis would drop state when memory runs out: maxmemory-policy is {policy}, it must be noeviction \
             (CONFIG SET maxmemory-policy noeviction, and the same in redis.conf)"
        )));
    }
    let Some(config) = &facts.config else {
        return Ok(Durability::Unknown);
    };
    if let Some(setting) = config.get("appendonly").filter(|setting| *setting != "yes") {
        return Err(StoreError::Misconfigured(format!(
            "Redis would lose state in a restart: appendonly is {setting}, it must be yes \
             (CONFIG SET appendonly yes, and the same in redis.conf)"
        )));
    }
    Ok(match config.get("appendfsync").map(String::as_str) {
        Some("always") => Durability::Always,
        Some("everysec") => Durability::EverySecond,
        Some(_) => Durability::Kernel,
        None => Durability::Unknown,
    })
}

/// Logs once per connection how durable committed batches are: the weakest server decides.
fn report(found: &[Durability]) {
    match found.iter().max() {
        Some(Durability::Always) => {
            tracing::info!(
                "Redis uses appendfsync always: a committed batch survives a crash of its machine"
            );
        }
        Some(Durability::EverySecond) => tracing::info!(
            "Redis uses appendfsync everysec: a crash of its machine may lose up to about a second of committed \
             batches with their dedupe keys; with appendfsync always nothing is lost"
        ),
        Some(Durability::Kernel) => tracing::warn!(
            "Redis uses appendfsync no: a crash of its machine may lose half a minute of committed batches; \
             set appendfsync to always, or at least to everysec"
        ),
        Some(Durability::Unknown) | None => tracing::warn!(
            "Redis does not permit CONFIG GET, so it cannot be checked whether its data survives a restart; \
             it needs append-only persistence or an equivalent"
        ),
    }
}

/// Every commit is a script, and a user may be allowed all commands but those.
async fn run_script<C: ConnectionLike>(connection: &mut C) -> Result<(), StoreError> {
    let mut script = redis::cmd("EVAL");
    script.arg("return 1").arg(1).arg(keys::PARTITIONS);
    script.query_async(connection).await.map_err(store_error)
}

async fn agree_on_partitions<C: ConnectionLike>(
    connection: &mut C,
    partitions: Partitions,
) -> Result<(), StoreError> {
    let (asking, partitions) = match partitions {
        Partitions::Claimed(partitions) => {
            let mut claim = redis::cmd("SET");
            claim
                .arg(keys::PARTITIONS)
                .arg(partitions)
                .arg("NX")
                .arg("GET");
            (claim, partitions)
        }
        Partitions::Compared(partitions) => {
            let mut get = redis::cmd("GET");
            get.arg(keys::PARTITIONS);
            (get, partitions)
        }
    };
    let created: Value = asking.query_async(connection).await.map_err(store_error)?;
    let created: Option<u32> = redis::from_redis_value(created)
        .map_err(|_| StoreError::Corrupt(format!("{} is not a number", keys::PARTITIONS)))?;
    match created {
        Some(created) if created != partitions => Err(StoreError::Misconfigured(format!(
            "the number of partitions is fixed when a deployment is created: this one has {created}, \
             REVWATCH_PARTITIONS is {partitions}; set REVWATCH_PARTITIONS={created}"
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn facts(version: &str, role: &str, policy: &str, config: Option<(&str, &str)>) -> Facts {
        let info = format!(
            "# Server\r\nredis_version:{version}\r\nrole:{role}\r\nmaxmemory_policy:{policy}\r\n"
        );
        let config = config.map(|(only, fsync)| {
            HashMap::from([
                ("appendonly".to_owned(), only.to_owned()),
                ("appendfsync".to_owned(), fsync.to_owned()),
            ])
        });
        Facts {
            info: parse_info(&info),
            config,
        }
    }

    #[rstest]
    #[case(facts("7.0.15", "master", "noeviction", Some(("yes", "always"))), Durability::Always)]
    #[case(facts("8.2.0", "master", "noeviction", Some(("yes", "everysec"))), Durability::EverySecond)]
    #[case(facts("10.0", "master", "noeviction", Some(("yes", "no"))), Durability::Kernel)]
    #[case(facts("7.2.4", "master", "noeviction", None), Durability::Unknown)]
    fn trusted(#[case] facts: Facts, #[case] expected: Durability) {
        assert_eq!(verdict(&facts).expect("refused"), expected);
    }

    #[rstest]
    #[case(facts("6.2.14", "master", "noeviction", None), "needs 7.0")]
    #[case(facts("7.0.15", "slave", "noeviction", None), "replica")]
    #[case(
        facts("7.0.15", "master", "volatile-lru", None),
        "maxmemory-policy is volatile-lru"
    )]
    #[case(facts("7.0.15", "master", "noeviction", Some(("no", "always"))), "appendonly is no")]
    fn refused(#[case] facts: Facts, #[case] why: &str) {
        let text = verdict(&facts).expect_err("trusted").to_string();
        assert!(text.contains(why), "{text}");
    }
}
