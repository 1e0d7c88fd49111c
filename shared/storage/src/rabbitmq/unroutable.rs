//! Requeues messages that were unroutable.
//!
//! While a partition's queue is missing (an operator deleted it), its messages wait in the unroutable
//! queue. Connecting declares the missing queue again, and then they are requeued.

use bytes::Bytes;
use lapin::options::{BasicAckOptions, BasicGetOptions};

use super::archiving::Paths;
use super::error::AmqpError;
use super::link::{Link, REQUEST_TIMEOUT};
use super::publish::OutboundMessage;
use super::{journal, message, topology};

/// Requeues the messages that are in the unroutable queue now, and returns how many. A message for an
/// unknown partition goes to the dead-letter exchange.
pub(super) async fn requeue(link: &Link, paths: &Paths, partitions: u32) -> Result<u64, AmqpError> {
    let open = link.open(REQUEST_TIMEOUT).await?;
    let channel = link.channel(&open).await?;
    // Counted once: a message that is still unroutable comes back and must not be moved again.
    let waiting = link.count(&open, &channel, topology::UNROUTABLE).await?;
    let (mut moved, mut noted_ms) = (0, i64::MAX);
    while moved < waiting {
        let get = channel.basic_get(topology::UNROUTABLE.into(), BasicGetOptions::default());
        let Some(got) = link
            .request(&open, "reading unroutable messages", get)
            .await?
        else {
            break;
        };
        let tag = got.delivery.delivery_tag;
        let (received_ms, outbound) = outbound(got.delivery, partitions);
        if received_ms < noted_ms {
            noted_ms = received_ms;
            journal::note_requeued(&paths.to_streams, std::iter::once(received_ms)).await?;
        }
        paths.publisher.publish(outbound).await?;
        let ack = channel.basic_ack(tag, BasicAckOptions::default());
        link.request(&open, "acknowledging", ack).await?;
        moved += 1;
    }
    link.request(
        &open,
        "closing a channel",
        channel.close(200, "done".into()),
    )
    .await?;
    Ok(moved)
}

/// The message to publish, not through the intake because the archive has it already, and the time of its earliest
/// delivery.
fn outbound(message: lapin::message::Delivery, partitions: u32) -> (i64, OutboundMessage) {
    let (properties, body) = (
        message.properties.clone(),
        Bytes::copy_from_slice(&message.data),
    );
    let routing_key = message.routing_key.to_string();
    let deliveries = message::deliveries(message, partitions);
    let received_ms = deliveries
        .iter()
        .map(|delivery| delivery.received_ms)
        .min()
        .unwrap_or_default();
    let partition = deliveries
        .first()
        .map(|delivery| delivery.partition)
        .filter(|partition| *partition < partitions);
    let (exchange, routing_key) = match partition {
        Some(partition) => (topology::EVENTS, topology::routing_key(partition)),
        None => (topology::DEAD, routing_key),
    };
    (
        received_ms,
        OutboundMessage {
            exchange,
            routing_key,
            properties,
            body,
        },
    )
}
