//! Errors of RabbitMQ, by what the caller does next.

use lapin::ErrorKind;
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};

use crate::connection_failure;
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

/// A temporary failure. The text never holds a password: it names hosts, queues and RabbitMQ's reply. The client's error is
/// no source, because its text is in this one in other words.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub(super) struct UnavailableError(String);

impl SlotError for AmqpError {
    fn unavailable(text: String) -> Self {
        Self::unavailable(text)
    }
}

impl AmqpError {
    pub(super) fn unavailable(text: String) -> Self {
        Self::Unavailable(UnavailableError(text))
    }

    /// `doing` completes "while …".
    pub(super) fn while_doing(doing: &str, error: &lapin::Error) -> Self {
        match soft_or_hard(error) {
            Some(AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED)) => {
                Self::Misconfigured(format!(
                    "RabbitMQ does not permit {doing} ({}): give the user all permissions on its virtual host, `rabbitmqctl \
                 set_permissions -p VIRTUAL_HOST USER '.*' '.*' '.*'`",
                    said(error)
                ))
            }
            Some(AMQPErrorKind::Hard(
                AMQPHardError::NOTALLOWED | AMQPHardError::NOTIMPLEMENTED,
            )) => Self::Misconfigured(format!("RabbitMQ refuses {doing}: {}", said(error))),
            _ => Self::unavailable(format!("{doing}: {}", said(error))),
        }
    }

    /// There is no connection to `server`.
    pub(super) fn unreachable(server: &str, has_tls: bool, error: &lapin::Error) -> Self {
        let why = match error.kind() {
            ErrorKind::IOError(error) if has_tls => connection_failure::plain_over_tls(&**error),
            ErrorKind::IOError(error) => connection_failure::plain(&**error),
            _ => said(error),
        };
        let fix = connection_failure::next_step(&why);
        Self::unavailable(format!("{server} cannot be reached: {why}{fix}"))
    }
}

/// RabbitMQ's reply without its code, or why a connection to it has ended. The client's own texts repeat both.
pub(super) fn said(error: &lapin::Error) -> String {
    match error.kind() {
        ErrorKind::ProtocolError(error) => {
            let message = error.get_message().to_string();
            match message.split_once(" - ") {
                Some((_, reply)) => reply.to_owned(),
                None => message,
            }
        }
        ErrorKind::IOError(error) => connection_failure::plain_in_use(&**error),
        _ => error.to_string(),
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

/// Whether RabbitMQ reports that there is nothing of that name. A queue whose node is down has the same code, and is there.
pub(super) fn is_missing(error: &lapin::Error) -> bool {
    let is_not_found = matches!(
        soft_or_hard(error),
        Some(AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND))
    );
    is_not_found && said(error).starts_with("no ")
}

/// The code with which RabbitMQ closed the channel (soft) or the connection (hard).
pub(super) fn soft_or_hard(error: &lapin::Error) -> Option<&AMQPErrorKind> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => Some(error.kind()),
        _ => None,
    }
}
