//! Why an evaluator stops for now.

use revwatch_runtime::config::ConfigError;
use revwatch_storage::ports::{QueueError, StoreError};

use crate::engine::UnreadableDocumentError;

#[derive(Debug, thiserror::Error)]
pub(crate) enum EvaluatorError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error(
        "the store is new, or has lost data, and the archive is read into it: nothing is decided until it is complete"
    )]
    Incomplete,
    #[error(transparent)]
    Unreadable(#[from] UnreadableDocumentError),
    #[error(transparent)]
    Policy(#[from] ConfigError),
}

impl EvaluatorError {
    /// The reason why this process is not ready; without secrets and personal data. `None`: a restart would not help,
    /// and another process may work.
    pub(crate) fn unready(&self) -> Option<&'static str> {
        match self {
            Self::Store(StoreError::Fenced | StoreError::Unconverted) | Self::Incomplete => None,
            Self::Store(StoreError::Unavailable(_)) => Some("the store is unavailable"),
            Self::Store(StoreError::Misconfigured(_)) => Some("the store cannot be used"),
            Self::Store(StoreError::Corrupt(_)) => Some("the store contains unreadable data"),
            Self::Queue(_) => Some("the journal cannot be read"),
            Self::Unreadable(_) => Some("a stored document of alerting cannot be read"),
            Self::Policy(_) => Some("the settings of alerting are invalid"),
        }
    }
}
