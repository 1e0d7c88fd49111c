//! Errors of RabbitMQ, by what the caller does next.

use lapin::ErrorKind;
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};

use crate::ports::QueueError;
use crate::reconnecting::SlotError;

/// A [`QueueError`] that can be cloned for several waiting callers.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum AmqpError {
    #[error(transparent)]
    Unavailable(UnavailableError),
    #[error("{0}")]
    Misconfigured(String),
}

/// A temporary failure. The text never holds a password: it names hosts, queues and RabbitMQ's reply.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{text}")]
pub(super) struct UnavailableError {
    text: String,
    #[source]
    source: Option<lapin::Error>,
}

impl SlotError for AmqpError {
    fn unavailable(text: String) -> Self {
        Self::unavailable(text)
    }
}

impl AmqpError {
    pub(super) fn unavailable(text: String) -> Self {
        Self::Unavailable(UnavailableError { text, source: None })
    }

    /// `doing` completes "while …".
    pub(super) fn while_doing(doing: &str, error: lapin::Error) -> Self {
        match soft_or_hard(&error) {
            Some(AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED)) => {
                Self::Misconfigured(format!("RabbitMQ does not permit {doing}: {error}"))
            }
            Some(AMQPErrorKind::Hard(
                AMQPHardError::NOTALLOWED | AMQPHardError::NOTIMPLEMENTED,
            )) => Self::Misconfigured(format!("RabbitMQ refuses {doing}: {error}")),
            _ => Self::Unavailable(UnavailableError {
                text: format!("{doing}: {error}"),
                source: Some(error),
            }),
        }
    }
}

impl From<AmqpError> for QueueError {
    fn from(failure: AmqpError) -> Self {
        match failure {
            AmqpError::Unavailable(error) => Self::Unavailable(Box::new(error)),
            AmqpError::Misconfigured(text) => Self::Misconfigured(text),
        }
    }
}

/// Whether RabbitMQ reports that something exists with other properties.
pub(super) fn is_precondition_failed(error: &lapin::Error) -> bool {
    matches!(
        soft_or_hard(error),
        Some(AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED))
    )
}

/// The code with which RabbitMQ closed the channel (soft) or the connection (hard).
pub(super) fn soft_or_hard(error: &lapin::Error) -> Option<&AMQPErrorKind> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => Some(error.kind()),
        _ => None,
    }
}
