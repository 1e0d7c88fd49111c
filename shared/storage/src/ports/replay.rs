//! The archive of every accepted delivery, from which lost state is rebuilt.

use async_trait::async_trait;

use super::error::QueueError;
use super::publish::Delivery;

/// Reads the archive.
#[async_trait]
pub trait Replay: Send + Sync {
    /// Every archived delivery received at or after `from_ms`, in the order of acceptance within each partition,
    /// up to the end of the archive at the time of the call. Later deliveries may be included.
    async fn archive(&self, from_ms: i64) -> Result<Box<dyn Archive>, QueueError>;
}

/// A reader of the archive.
#[async_trait]
pub trait Archive: Send {
    /// The next deliveries, at most `max`; empty at the end.
    async fn next(&mut self, max: usize) -> Result<Vec<Delivery>, QueueError>;
}
