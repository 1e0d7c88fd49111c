//! Why an evaluator stops for now.

use revwatch_core::redact;
use revwatch_runtime::config::ConfigError;
use revwatch_storage::ports::{QueueError, StoreError};

#[derive(Debug, thiserror::Error)]
pub(crate) enum EvaluatorError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error("the store has lost data, or is recovering: nothing is decided until it is complete")]
    Incomplete,
    #[error("a stored alert cannot be read at {}", redact::place(.0))]
    Unreadable(#[from] serde_json::Error),
    #[error(transparent)]
    Policy(#[from] ConfigError),
}
