//! Deliveries as AMQP messages and back. In a message with one delivery the body is the webhook's, byte for byte;
//! everything else is in message properties and headers.
//!
//! Invariant: every message reads back as some delivery, even one published by hand.

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use revwatch_core::clock::Ids as _;
use revwatch_core::event::{Event, beginning};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::publish::OutboundMessage;
use super::{pack, topology};
use crate::ports::{Delivery, HeldDelivery};
use crate::system::SystemIds;

const DELIVERY: &str = "revwatch-delivery";
const EVENT_ID: &str = "revwatch-event-id";
const EVENT_TYPE: &str = "revwatch-event-type";
const ENDPOINT: &str = "revwatch-endpoint";
const PARTITION: &str = "revwatch-partition";
const RECEIVED_MS: &str = "revwatch-received-ms";
const TRACEPARENT: &str = "traceparent";
const REASON: &str = "revwatch-reason";
const HELD_MS: &str = "revwatch-died-ms";
const MARKER: &str = "revwatch-marker";

const PERSISTENT: u8 = 2;

/// The longest text in a header: what is longer would make the headers larger than a frame, which ends the
/// connection. Ids have a bound when they are received, but a queue may hold what an earlier version received.
const MAX_TEXT_BYTES: usize = 4096;

/// The properties a delivery is published with.
pub(super) fn properties(delivery: &Delivery) -> BasicProperties {
    with_headers(delivery, headers(delivery))
}

/// The properties of a held delivery: those of the delivery, the reason and the time.
pub(super) fn held_properties(held: &HeldDelivery) -> BasicProperties {
    let mut headers = headers(&held.delivery);
    headers.insert(REASON.into(), text(&held.reason));
    headers.insert(HELD_MS.into(), AMQPValue::LongLongInt(held.at_ms));
    with_headers(&held.delivery, headers)
}

/// The properties of a message with several deliveries.
pub(super) fn pack_properties() -> BasicProperties {
    BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_content_type(pack::CONTENT_TYPE.into())
}

/// The properties of a line of the journal.
pub(super) fn journal_properties() -> BasicProperties {
    BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_content_type("application/json".into())
}

/// The properties of a message that only marks a position in a stream.
pub(super) fn marker_properties(marker: Uuid) -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert(MARKER.into(), text(&marker.to_string()));
    BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_headers(headers)
}

/// A message that says nothing, to try out whether `queue` takes one. Readers of a stream skip it.
pub(super) fn marker_for(queue: &str) -> OutboundMessage {
    OutboundMessage {
        // The default exchange routes to the queue named by the routing key.
        exchange: "",
        routing_key: queue.to_owned(),
        properties: marker_properties(SystemIds.fresh()),
        body: Bytes::new(),
    }
}

/// Puts a delivery that the archive has into the queue of its partition: not through the intake.
pub(super) fn put_back(delivery: Delivery) -> OutboundMessage {
    OutboundMessage {
        exchange: topology::EVENTS,
        routing_key: topology::routing_key(delivery.partition),
        properties: properties(&delivery),
        body: delivery.body,
    }
}

/// The marker, if the message is one.
pub(super) fn marker(properties: &BasicProperties) -> Option<Uuid> {
    string(properties, MARKER)?.parse().ok()
}

/// Reads a message with one delivery or several.
pub(super) fn deliveries(mut message: lapin::message::Delivery, partition: u32) -> Vec<Delivery> {
    match packed(&mut message, partition) {
        Some(deliveries) => deliveries,
        None => vec![delivery(message, partition)],
    }
}

/// Reads a message of a holding queue, published by revwatch or dead-lettered by the broker.
pub(super) fn held_deliveries(mut message: lapin::message::Delivery) -> Vec<HeldDelivery> {
    let Some(deliveries) = packed(&mut message, 0) else {
        return vec![held(message)];
    };
    // Only the broker dead-letters such a message.
    let (reason, at_ms) = reason(&message.properties);
    let held = |delivery: Delivery| HeldDelivery {
        at_ms: at_ms.unwrap_or(delivery.received_ms),
        reason: reason.clone(),
        delivery,
    };
    deliveries.into_iter().map(held).collect()
}

/// The deliveries of a message that holds several; they share its body. Any other message is returned unchanged.
fn packed(message: &mut lapin::message::Delivery, partition: u32) -> Option<Vec<Delivery>> {
    if message.properties.content_type().as_ref()?.as_str() != pack::CONTENT_TYPE {
        return None;
    }
    let partition = topology::partition_of(message.routing_key.as_str()).unwrap_or(partition);
    let body = Bytes::from(std::mem::take(&mut message.data));
    let deliveries = pack::unpack(&body, partition);
    if deliveries.is_none() {
        message.data = body.into();
    }
    deliveries
}

/// Reads a message. Missing headers are derived from the rest of the message as far as possible: the same message
/// always reads as the same delivery. `partition` is used if the message names none.
fn delivery(message: lapin::message::Delivery, partition: u32) -> Delivery {
    let properties = &message.properties;
    let body = Bytes::from(message.data);
    let envelope = std::cell::OnceCell::new();
    let envelope = || envelope.get_or_init(|| Event::parse(&body).ok()).as_ref();
    let event_id = string(properties, EVENT_ID)
        .or_else(|| properties.message_id().as_ref().map(ToString::to_string))
        .or_else(|| envelope().map(|e| e.id.to_string()))
        .unwrap_or_default();
    let event_type = string(properties, EVENT_TYPE)
        .or_else(|| properties.kind().as_ref().map(ToString::to_string))
        .or_else(|| envelope().map(|e| e.kind.to_string()))
        .unwrap_or_default();
    let received_ms = integer(properties, RECEIVED_MS)
        .or_else(|| {
            properties
                .timestamp()
                .and_then(|s| i64::try_from(s).ok()?.checked_mul(1000))
        })
        .or_else(|| envelope().map(|e| e.created_s * 1000))
        .unwrap_or_default();
    Delivery {
        id: string(properties, DELIVERY)
            .and_then(|id| id.parse().ok())
            .unwrap_or_else(|| made_up_id(&event_id, &body)),
        partition: integer(properties, PARTITION)
            .and_then(|n| u32::try_from(n).ok())
            .or_else(|| topology::partition_of(message.routing_key.as_str()))
            .unwrap_or(partition),
        endpoint: string(properties, ENDPOINT).unwrap_or_default(),
        traceparent: string(properties, TRACEPARENT),
        event_id,
        event_type,
        received_ms,
        body: body.clone(),
    }
}

fn held(message: lapin::message::Delivery) -> HeldDelivery {
    let (reason, at_ms) = reason(&message.properties);
    let delivery = delivery(message, 0);
    HeldDelivery {
        at_ms: at_ms.unwrap_or(delivery.received_ms),
        reason,
        delivery,
    }
}

/// The reason and time of holding.
fn reason(properties: &BasicProperties) -> (String, Option<i64>) {
    let by_broker = broker_death(properties);
    let reason = string(properties, REASON)
        .or_else(|| by_broker.as_ref().map(|(reason, _)| reason.clone()))
        .unwrap_or_else(|| "unknown".to_owned());
    (
        reason,
        integer(properties, HELD_MS).or(by_broker.and_then(|(_, ms)| ms)),
    )
}

fn with_headers(delivery: &Delivery, headers: FieldTable) -> BasicProperties {
    let mut properties = BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_headers(headers);
    if let Ok(seconds) = u64::try_from(delivery.received_ms / 1000) {
        properties = properties.with_timestamp(seconds);
    }
    if let Ok(id) = ShortString::try_new(delivery.event_id.as_str()) {
        properties = properties.with_message_id(id);
    }
    if let Ok(kind) = ShortString::try_new(delivery.event_type.as_str()) {
        properties = properties.with_type(kind);
    }
    properties
}

fn headers(delivery: &Delivery) -> FieldTable {
    let mut headers = FieldTable::default();
    headers.insert(DELIVERY.into(), text(&delivery.id.to_string()));
    headers.insert(ENDPOINT.into(), text(&delivery.endpoint));
    headers.insert(
        PARTITION.into(),
        AMQPValue::LongLongInt(i64::from(delivery.partition)),
    );
    headers.insert(
        RECEIVED_MS.into(),
        AMQPValue::LongLongInt(delivery.received_ms),
    );
    if let Some(traceparent) = &delivery.traceparent {
        headers.insert(TRACEPARENT.into(), text(traceparent));
    }
    // A property holds at most 255 bytes; a longer value goes into a header.
    for (header, value) in [
        (EVENT_ID, &delivery.event_id),
        (EVENT_TYPE, &delivery.event_type),
    ] {
        if ShortString::try_new(value.as_str()).is_err() {
            headers.insert(header.into(), text(value));
        }
    }
    headers
}

/// An id for a message without a delivery id, derived from its content so that it stays the same.
fn made_up_id(event_id: &str, body: &[u8]) -> Uuid {
    let digest = Sha256::new()
        .chain_update(event_id)
        .chain_update([0])
        .chain_update(body)
        .finalize();
    let head: [u8; 16] = digest[..16].try_into().expect("a digest has 32 bytes");
    uuid::Builder::from_custom_bytes(head).into_uuid()
}

/// Reason and time of the latest entry in the broker's `x-death` header.
fn broker_death(properties: &BasicProperties) -> Option<(String, Option<i64>)> {
    let AMQPValue::FieldArray(deaths) = header(properties, "x-death")? else {
        return None;
    };
    let Some(AMQPValue::FieldTable(latest)) = deaths.as_slice().first() else {
        return None;
    };
    let field = |name: &str| {
        latest
            .inner()
            .get(name)
            .and_then(as_string)
            .unwrap_or_else(|| "unknown".to_owned())
    };
    let died_ms = match latest.inner().get("time") {
        Some(AMQPValue::Timestamp(seconds)) => i64::try_from(*seconds)
            .ok()
            .and_then(|s| s.checked_mul(1000)),
        _ => None,
    };
    Some((
        format!(
            "dead-lettered by RabbitMQ: {} in {}",
            field("reason"),
            field("queue")
        ),
        died_ms,
    ))
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(beginning(value, MAX_TEXT_BYTES).into())
}

fn header<'a>(properties: &'a BasicProperties, name: &str) -> Option<&'a AMQPValue> {
    properties.headers().as_ref()?.inner().get(name)
}

fn string(properties: &BasicProperties, name: &str) -> Option<String> {
    header(properties, name).and_then(as_string)
}

fn as_string(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::LongString(s) => Some(s.to_string()),
        AMQPValue::ShortString(s) => Some(s.to_string()),
        _ => None,
    }
}

fn integer(properties: &BasicProperties, name: &str) -> Option<i64> {
    // A broker may return a number in a narrower type.
    match header(properties, name)? {
        AMQPValue::LongLongInt(n) => Some(*n),
        AMQPValue::LongInt(n) => Some(i64::from(*n)),
        AMQPValue::LongUInt(n) => Some(i64::from(*n)),
        AMQPValue::ShortInt(n) => Some(i64::from(*n)),
        AMQPValue::ShortUInt(n) => Some(i64::from(*n)),
        AMQPValue::ShortShortInt(n) => Some(i64::from(*n)),
        AMQPValue::ShortShortUInt(n) => Some(i64::from(*n)),
        AMQPValue::Timestamp(n) => i64::try_from(*n).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(
        properties: BasicProperties,
        routing_key: &str,
        body: &[u8],
    ) -> lapin::message::Delivery {
        let mut message =
            lapin::message::Delivery::mock(1, "".into(), routing_key.into(), false, body.to_vec());
        message.properties = properties;
        message
    }

    fn sample() -> Delivery {
        Delivery {
            id: Uuid::from_u128(7),
            event_id: "evt_1".into(),
            event_type: "payout.failed".into(),
            partition: 3,
            endpoint: "stripe".into(),
            received_ms: 1_700_000_000_123,
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
            body: Bytes::from_static(b"\xff\x00 not UTF-8"),
        }
    }

    #[test]
    fn a_delivery_reads_back_as_it_was() {
        let long = Delivery {
            event_id: "e".repeat(300),
            event_type: "é".repeat(200),
            traceparent: None,
            ..sample()
        };
        let odd = Delivery {
            received_ms: -1,
            endpoint: String::new(),
            body: Bytes::new(),
            ..sample()
        };
        for original in [sample(), long, odd] {
            let back = delivery(message(properties(&original), "p9", &original.body), 9);
            assert_eq!(back, original);
        }
    }

    #[test]
    fn a_dead_letter_reads_back_as_it_was() {
        let letter = HeldDelivery {
            delivery: sample(),
            reason: "no such thing: ü".into(),
            at_ms: 5,
        };
        assert_eq!(
            held(message(
                held_properties(&letter),
                "p3",
                &letter.delivery.body
            )),
            letter
        );
    }

    /// An earlier version received it in a pack. Its dead letter must be a message that RabbitMQ accepts.
    #[test]
    fn no_text_makes_the_headers_larger_than_a_frame() {
        let long = "é".repeat(70_000);
        let letter = HeldDelivery {
            delivery: Delivery {
                event_id: long.clone(),
                event_type: long.clone(),
                endpoint: long.clone(),
                traceparent: Some(long.clone()),
                ..sample()
            },
            reason: long,
            at_ms: 5,
        };
        let properties = held_properties(&letter);
        let headers = properties.headers().as_ref().expect("headers").inner();
        let bytes: usize = headers
            .iter()
            .map(|(name, value)| {
                let text = as_string(value).unwrap_or_default();
                name.as_str().len() + text.len()
            })
            .sum();
        assert!(bytes < 32_000, "{bytes}");
        let read = held(message(properties, "p3", &letter.delivery.body));
        assert_eq!(read.delivery.id, letter.delivery.id);
        assert!(
            letter
                .delivery
                .event_id
                .starts_with(&read.delivery.event_id)
        );
    }

    #[test]
    fn a_message_published_by_hand_is_read_as_well_as_it_goes() {
        let body = br#"{"id":"evt_9","type":"payout.paid","created":1700000000}"#;
        let read =
            |key: &str, body: &[u8]| delivery(message(BasicProperties::default(), key, body), 2);
        let by_hand = read("p5", body);
        assert_eq!(
            (by_hand.event_id.as_str(), by_hand.event_type.as_str()),
            ("evt_9", "payout.paid")
        );
        assert_eq!(
            (by_hand.partition, by_hand.received_ms),
            (5, 1_700_000_000_000)
        );
        assert_eq!(by_hand.id, read("p5", body).id);
        assert_ne!(by_hand.id, read("p5", b"junk").id);
        let junk = read("", b"junk");
        assert_eq!(
            (junk.event_id.as_str(), junk.partition, junk.received_ms),
            ("", 2, 0)
        );
    }

    #[test]
    fn several_read_back_from_one_message_and_what_only_says_so_is_one() {
        let all = vec![
            sample(),
            Delivery {
                id: Uuid::from_u128(8),
                body: Bytes::from_static(b"{}"),
                ..sample()
            },
        ];
        let read = |body: &[u8]| deliveries(message(pack_properties(), "p3", body), 9);
        assert_eq!(read(&pack::pack(&all)), all);
        let junk = read(b"junk");
        assert_eq!(
            (junk.len(), &junk[0].body[..], junk[0].partition),
            (1, &b"junk"[..], 3)
        );
    }

    #[test]
    fn wrong_types_in_headers_do_no_harm() {
        let mut headers = FieldTable::default();
        headers.insert(DELIVERY.into(), AMQPValue::Boolean(true));
        headers.insert(PARTITION.into(), text("three"));
        headers.insert(RECEIVED_MS.into(), AMQPValue::Void);
        headers.insert(
            "x-death".into(),
            AMQPValue::FieldArray(vec![AMQPValue::Void].into()),
        );
        let properties = BasicProperties::default()
            .with_headers(headers)
            .with_timestamp(u64::MAX);
        let letter = held(message(properties, "p4", b"x"));
        assert_eq!(
            (letter.delivery.partition, letter.reason.as_str()),
            (4, "unknown")
        );
    }

    #[test]
    fn the_reason_of_the_brokers_own_dead_letters_is_read() {
        let mut death = FieldTable::default();
        death.insert("reason".into(), text("delivery_limit"));
        death.insert("queue".into(), text("revwatch.events.p3"));
        death.insert("time".into(), AMQPValue::Timestamp(1_700_000_000));
        let mut headers = headers(&sample());
        headers.insert(
            "x-death".into(),
            AMQPValue::FieldArray(vec![AMQPValue::FieldTable(death)].into()),
        );
        let letter = held(message(
            with_headers(&sample(), headers),
            "p3",
            &sample().body,
        ));
        assert_eq!(
            letter.reason,
            "dead-lettered by RabbitMQ: delivery_limit in revwatch.events.p3"
        );
        assert_eq!(
            (letter.at_ms, letter.delivery),
            (1_700_000_000_000, sample())
        );
    }
}
