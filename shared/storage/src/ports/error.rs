//! Why an operation of a port failed.

/// The cause of an error, kept for the log.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a queue operation failed, by what the caller can do next.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// Try again later; whether the last request took effect is unknown.
    #[error("the queue is unavailable: {0}")]
    Unavailable(#[source] BoxError),
    /// A retry fails until an operator changes something.
    #[error("the queue cannot be used: {0}")]
    Misconfigured(String),
}

/// Why a store operation failed, by what the caller can do next.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Try again later. A write may or may not have taken effect, and is safe to repeat.
    #[error("the store is unavailable: {0}")]
    Unavailable(#[source] BoxError),
    /// Another process holds the lease now: stop acting as its holder.
    #[error("another process holds the lease now")]
    Fenced,
    /// A retry fails until an operator changes something.
    #[error("the store cannot be used: {0}")]
    Misconfigured(String),
    /// The state is not converted to this version's format yet: try again later.
    #[error("the state in the store is not converted to this version's format yet")]
    Unconverted,
    /// The stored data cannot be decoded.
    #[error("the store contains unreadable data: {0}")]
    Corrupt(String),
}
