//! Errors of the Redis client, by what the caller does next.

use std::sync::Arc;

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::ports::StoreError;
use crate::reconnecting::SlotError;
use crate::server_url;

/// Why there is no connection. All callers that waited for it receive it.
#[derive(Debug, Clone)]
pub(super) struct OpenError(Arc<StoreError>);

impl OpenError {
    pub(super) fn new(error: StoreError) -> Self {
        Self(Arc::new(error))
    }
}

impl SlotError for OpenError {
    fn unavailable(text: String) -> Self {
        Self::new(StoreError::Unavailable(text.into()))
    }
}

impl From<OpenError> for StoreError {
    fn from(OpenError(error): OpenError) -> Self {
        match &*error {
            Self::Unavailable(cause) => Self::Unavailable(cause.to_string().into()),
            Self::Fenced => Self::Fenced,
            Self::Unconverted => Self::Unconverted,
            Self::Misconfigured(text) => Self::Misconfigured(text.clone()),
            Self::Corrupt(text) => Self::Corrupt(text.clone()),
        }
    }
}

/// In plain words, with the fix where there is one. The client's texts name commands and server answers, never
/// credentials.
pub(super) fn store_error(err: RedisError) -> StoreError {
    if let Some(text) = misconfigured(&err) {
        return StoreError::Misconfigured(text);
    }
    match err.kind() {
        ErrorKind::UnexpectedReturnType | ErrorKind::Parse => StoreError::Corrupt(err.to_string()),
        _ => match err.code() {
            Some("WRONGTYPE" | "CORRUPT") => StoreError::Corrupt(err.to_string()),
            _ => StoreError::Unavailable(match for_now(&err) {
                Some(text) => text.into(),
                None => Box::new(err),
            }),
        },
    }
}

/// What passes, and is asked again.
fn for_now(err: &RedisError) -> Option<&'static str> {
    Some(match err.kind() {
        ErrorKind::ClusterConnectionNotFound => "no node of the Redis Cluster answers",
        ErrorKind::Server(ServerErrorKind::ClusterDown) => {
            "the Redis Cluster is down: a primary is missing, and no replica has taken its place yet"
        }
        ErrorKind::Server(ServerErrorKind::MasterDown) => "Redis has lost its primary",
        ErrorKind::Server(ServerErrorKind::BusyLoading) => "Redis still loads its data from disk",
        ErrorKind::Server(ServerErrorKind::ReadOnly) => {
            "this Redis has become a replica, which takes no writes"
        }
        _ => return None,
    })
}

/// What only a change of a setting, there or here, mends.
fn misconfigured(err: &RedisError) -> Option<String> {
    let said = err.to_string();
    let has = |part: &str| said.contains(part);
    let detail = err.detail().unwrap_or(&said);
    Some(match (err.kind(), err.code()) {
        (_, Some("NOAUTH")) => {
            "Redis wants a password: write it into REVWATCH_REDIS_URL, like redis://:password@host:6379/0".to_owned()
        }
        (ErrorKind::AuthenticationFailed, _) | (_, Some("WRONGPASS")) => format!(
            "Redis refuses the user or password in REVWATCH_REDIS_URL: check both (a Redis without a password wants \
             a URL without one), and {}",
            server_url::ESCAPES
        ),
        (ErrorKind::Server(ServerErrorKind::NoPerm), _) => format!(
            "the Redis user lacks permissions that revwatch needs ({detail}): grant it ~revwatch:* +@all -@dangerous +info +role +config|get"
        ),
        (ErrorKind::Server(ServerErrorKind::CrossSlot), _) | (_, Some("MOVED" | "ASK")) => {
            "this Redis is a Cluster: write redis-cluster:// instead of redis:// in REVWATCH_REDIS_URL".to_owned()
        }
        _ if has("cluster support disabled") => {
            "this Redis is no Cluster: write redis:// instead of redis-cluster:// in REVWATCH_REDIS_URL".to_owned()
        }
        _ if has("does not point to a sentinel") => {
            "these servers are no Sentinels: name Sentinels (usually port 26379) in REVWATCH_REDIS_URL, or write \
             redis://host:6379/0 for the server itself"
                .to_owned()
        }
        _ if has("DB index is out of range") || has("refused to switch database") => {
            "Redis does not have the database at the end of REVWATCH_REDIS_URL: write /0, or raise `databases` in \
             redis.conf"
                .to_owned()
        }
        (ErrorKind::InvalidClientConfig | ErrorKind::EmptySentinelList, _) => {
            format!("redis_url (REVWATCH_REDIS_URL) does not work: {detail}")
        }
        _ => return None,
    })
}

/// The same for the first answer on a connection: what is unreadable there is not stored data.
pub(super) fn connect_error(err: RedisError) -> StoreError {
    let is_unreadable = matches!(
        err.kind(),
        ErrorKind::UnexpectedReturnType | ErrorKind::Parse
    );
    match is_unreadable {
        true => StoreError::Unavailable(
            "it does not speak the protocol of Redis: does another service listen there? Redis has port 6379, \
             RabbitMQ 5672"
                .into(),
        ),
        false => store_error(err),
    }
}

/// Whether the connection must not be used again after this error. READONLY means that its server was
/// demoted: the address or Sentinel now leads to another one. After a timeout the peer may be gone.
pub(super) fn ends_connection(err: &RedisError) -> bool {
    err.is_io_error()
        || err.is_unrecoverable_error()
        || err.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_operator_must_mend_is_said_with_the_fix() {
        let error =
            |kind, detail: &str| RedisError::from((kind, "text of the client", detail.to_owned()));
        let config = ErrorKind::InvalidClientConfig;
        let answer = ErrorKind::Server(ServerErrorKind::ResponseError);
        let table = [
            (
                error(ErrorKind::AuthenticationFailed, "x"),
                "wants a URL without one",
            ),
            (
                error(answer, "This instance has cluster support disabled"),
                "write redis:// instead",
            ),
            (
                error(config, "Address does not point to a sentinel node"),
                "name Sentinels",
            ),
            (error(answer, "DB index is out of range"), "write /0"),
            (
                error(
                    ErrorKind::Server(ServerErrorKind::NoPerm),
                    "no permissions to run info",
                ),
                "(no permissions to run info): grant it",
            ),
        ];
        for (error, expected) in table {
            match store_error(error) {
                StoreError::Misconfigured(text) => {
                    assert!(
                        text.contains(expected) && !text.contains("client"),
                        "{text}"
                    );
                }
                other => panic!("{other} should contain {expected}"),
            }
        }
        let other = connect_error(error(ErrorKind::Parse, "Unexpected `77`"));
        let text = other.to_string();
        assert!(
            matches!(other, StoreError::Unavailable(_))
                && text.contains("does another service listen"),
            "{text}"
        );
    }
}
