//! Errors of the Redis client, by what the caller does next.

use std::sync::Arc;

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::ports::StoreError;
use crate::reconnecting::SlotError;

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

/// The client's texts name commands and server answers, never
/// credentials.
pub(super) fn store_error(err: RedisError) -> StoreError {
    match err.kind() {
        ErrorKind::AuthenticationFailed => StoreError::Misconfigured(format!(
            "Redis refuses the credentials in REVWATCH_REDIS_URL ({err})"
        )),
        ErrorKind::InvalidClientConfig | ErrorKind::EmptySentinelList => {
            StoreError::Misconfigured(format!("REVWATCH_REDIS_URL does not work: {err}"))
        }
        ErrorKind::Server(ServerErrorKind::NoPerm) => StoreError::Misconfigured(format!(
            "the Redis user lacks permissions that revwatch needs ({err}); grant it ~revwatch:* +@all -@dangerous +info +role +config|get"
        )),
        ErrorKind::Server(ServerErrorKind::CrossSlot) => StoreError::Misconfigured(format!(
            "this Redis is a Cluster ({err}); name it with redis-cluster:// in REVWATCH_REDIS_URL"
        )),
        ErrorKind::UnexpectedReturnType | ErrorKind::Parse => StoreError::Corrupt(err.to_string()),
        _ => match err.code() {
            Some("NOAUTH" | "WRONGPASS") => StoreError::Misconfigured(format!(
                "Redis refuses the credentials in REVWATCH_REDIS_URL ({err})"
            )),
            Some("MOVED" | "ASK") => StoreError::Misconfigured(format!(
                "this Redis is a Cluster ({err}); name it with redis-cluster:// in REVWATCH_REDIS_URL"
            )),
            Some("WRONGTYPE" | "CORRUPT") => StoreError::Corrupt(err.to_string()),
            _ => StoreError::Unavailable(Box::new(err)),
        },
    }
}

/// Whether the connection must not be used again after this error. READONLY means that its server was
/// demoted: the address or Sentinel now leads to another one. After a timeout the peer may be gone.
pub(super) fn ends_connection(err: &RedisError) -> bool {
    err.is_io_error()
        || err.is_unrecoverable_error()
        || err.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
}
