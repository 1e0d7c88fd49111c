//! The consuming side of the queue: deliveries that wait for a worker, partition by partition.

use async_trait::async_trait;

use super::error::QueueError;
use super::publish::Delivery;

/// Hands out deliveries.
#[async_trait]
pub trait Consume: Send + Sync {
    /// Starts to consume one partition. The queue redelivers what was not acknowledged when the consumer
    /// is dropped.
    async fn consume(&self, partition: u32) -> Result<Box<dyn Consumer>, QueueError>;

    /// The queue depth of each partition, in deliveries, or in messages where a message holds several.
    /// Whether unacknowledged deliveries count depends on the adapter: RabbitMQ does not report them.
    async fn depth(&self) -> Result<Vec<u64>, QueueError>;
}

/// Reads one partition.
#[async_trait]
pub trait Consumer: Send {
    /// Waits until [`Consumer::next`] would return at once. Cancel-safe.
    async fn ready(&mut self) -> Result<(), QueueError>;

    /// Waits for deliveries and returns those available, at most `max`, oldest first. Never empty.
    /// Cancel-safe.
    async fn next(&mut self, max: usize) -> Result<Vec<Delivery>, QueueError>;

    /// Acknowledges everything that [`Consumer::next`] has returned so far.
    async fn ack(&mut self) -> Result<(), QueueError>;
}
