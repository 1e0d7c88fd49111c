//! Bringing home what no partition's queue took.
//!
//! While a partition's queue is missing (somebody deleted it), its messages wait in the unroutable
//! queue. Connecting declares the missing queue again; then they are moved to where they belong.

use std::sync::Arc;

use bytes::Bytes;
use lapin::options::{BasicAckOptions, BasicGetOptions};

use super::error::AmqpError;
use super::link::{Link, REQUEST_TIMEOUT};
use super::publish::{OutboundMessage, Publisher};
use super::{journal, message, topology};

/// Moves the messages that are in the unroutable queue now, and returns how many. What names no
/// partition of ours becomes a dead letter, by way of the dead-letter exchange.
pub(super) async fn bring_home(
    link: &Link,
    publisher: &Arc<Publisher>,
    partitions: u32,
) -> Result<u64, AmqpError> {
    let open = link.open(REQUEST_TIMEOUT).await?;
    let channel = link.channel(&open).await?;
    // Counted once: what cannot be routed even now comes back, and must not be moved for ever.
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
        let (received_ms, parcel) = parcel(got.delivery, partitions);
        if received_ms < noted_ms {
            noted_ms = received_ms;
            journal::note_sent_on(publisher, std::iter::once(received_ms)).await?;
        }
        publisher.publish(parcel).await?;
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

/// Not by way of the intake: the archive has it already. Also the time of the earliest delivery in it.
fn parcel(message: lapin::message::Delivery, partitions: u32) -> (i64, OutboundMessage) {
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
    let home = deliveries
        .first()
        .map(|delivery| delivery.partition)
        .filter(|partition| *partition < partitions);
    let (exchange, routing_key) = match home {
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
