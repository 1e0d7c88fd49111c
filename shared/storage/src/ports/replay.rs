//! The archive of every accepted delivery, from which lost state is rebuilt.

use async_trait::async_trait;

use super::error::QueueError;
use super::publish::Delivery;

/// At the beginning of an archive so many deliveries are compared to find the oldest: ingest archives those that
/// arrive at the same time in any order.
pub(crate) const FIRST_DELIVERIES: u16 = 100;

/// Reads the archive.
#[async_trait]
pub trait Replay: Send + Sync {
    /// Every archived delivery received at or after `from_ms`, in the order of acceptance within each partition,
    /// up to the end of the archive at the time of the call. Later deliveries may be included.
    async fn archive(&self, from_ms: i64) -> Result<Box<dyn Archive>, QueueError>;

    /// Whether the archive is apart from the queue: it still has what the queue lost, as when messages expire or a queue
    /// is purged.
    fn is_apart(&self) -> bool;

    /// When the oldest delivery of all partitions was received, in Unix milliseconds; `None`: the archive is empty.
    /// Costs little, however long the archive is: only the first deliveries are read.
    async fn oldest_ms(&self) -> Result<Option<i64>, QueueError>;
}

/// A reader of the archive.
#[async_trait]
pub trait Archive: Send {
    /// The next deliveries, at most `max`; empty at the end.
    async fn next(&mut self, max: usize) -> Result<Vec<Delivery>, QueueError>;
}
