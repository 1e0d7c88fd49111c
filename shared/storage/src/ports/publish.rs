//! The publishing side of the queue: a delivery, and how it becomes durable.

use async_trait::async_trait;
use bytes::Bytes;
use revwatch_core::event::{EnvelopeError, Event, Head, type_label};
use revwatch_core::source::Source;
use uuid::Uuid;

use super::error::QueueError;

/// One accepted webhook: the raw body, byte for byte, and what ingest knows about it.
///
/// Stripe may deliver one event several times. Each time is a delivery with its own id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Assigned by ingest (UUID v7). A redelivery keeps it.
    pub id: Uuid,
    /// `evt_…`; of an event of the application, see [`AppEvent::key`](revwatch_core::app_event::AppEvent::key).
    pub event_id: String,
    /// For example `payout.failed`.
    pub event_type: String,
    /// The queue partition the delivery belongs to.
    pub partition: u32,
    /// Name of the endpoint that accepted it.
    pub endpoint: String,
    /// Unix milliseconds at which ingest had read it.
    pub received_ms: i64,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// What the sender sent; of a batch, the bytes of this event.
    pub body: Bytes,
}

impl Delivery {
    /// Its event, as its source writes events.
    pub fn event(&self) -> Result<Event<'_>, EnvelopeError> {
        Event::read(Source::of(&self.event_id), &self.body)
    }

    /// [`Delivery::event`] with the head of its object.
    pub fn event_head(&self) -> Result<Event<'_, Head<'_>>, EnvelopeError> {
        Event::read_head(Source::of(&self.event_id), &self.body)
    }

    /// The type if it is documented, else `other`: bounded, for metric labels.
    pub fn type_label(&self) -> &str {
        type_label(Source::of(&self.event_id), &self.event_type)
    }
}

/// What a probe found of a queue that works.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Probed {
    /// Why deliveries are refused at present although the queue takes messages.
    pub refuses: Option<String>,
    /// Since when this process has published deliveries without the archive, because it takes nothing, in Unix
    /// milliseconds.
    pub unarchived_since_ms: Option<i64>,
}

/// Accepts deliveries.
#[async_trait]
pub trait Publish: Send + Sync {
    /// The number of partitions the deployment was created with.
    fn partitions(&self) -> u32;

    /// What tells this deployment's queue from those of others on the same servers: RabbitMQ's virtual host.
    fn place(&self) -> Option<&str> {
        None
    }

    /// Returns `Ok` only when the delivery is durable. After an error the delivery may or may not be stored.
    async fn publish(&self, delivery: Delivery) -> Result<(), QueueError>;

    /// Puts archived deliveries back into the queue, which lost them. Where the archive is apart from the queue, they are
    /// not archived again, and the journal names them first: they are committed long after they were received. After an
    /// error some may be in the queue.
    async fn put_back(&self, deliveries: Vec<Delivery>) -> Result<(), QueueError> {
        for delivery in deliveries {
            self.publish(delivery).await?;
        }
        Ok(())
    }

    /// Whether a delivery that is published now would become durable. It takes the way of a delivery as far as that is
    /// possible without leaving one: something is written where deliveries are, and its confirm awaited.
    async fn probe(&self) -> Result<Probed, QueueError>;
}
