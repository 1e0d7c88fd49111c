//! Several deliveries of one partition in one message, MessagePack; each body in it is the webhook's, byte for byte.
//!
//! Invariant: a pack reads back unchanged; a body that is not a pack stays unchanged.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::ports::Delivery;

/// The content type of such a message.
pub(super) const CONTENT_TYPE: &str = "application/vnd.revwatch.deliveries+msgpack";

/// A delivery in a pack. Fields may be added at the end, with a default.
#[derive(Serialize, Deserialize)]
struct Packed<'a> {
    id: [u8; 16],
    event_id: &'a str,
    event_type: &'a str,
    endpoint: &'a str,
    received_ms: i64,
    traceparent: Option<&'a str>,
    #[serde(borrow)]
    body: Raw<'a>,
}

/// Bytes as bytes, not as a list of numbers.
struct Raw<'a>(&'a [u8]);

/// The body of a message with these deliveries, all of one partition.
pub(super) fn pack(deliveries: &[Delivery]) -> Vec<u8> {
    let bytes: usize = deliveries
        .iter()
        .map(|delivery| delivery.body.len() + ABOUT_A_DELIVERY)
        .sum();
    let mut packed = Vec::with_capacity(bytes);
    let all: Vec<Packed<'_>> = deliveries.iter().map(Packed::of).collect();
    rmp_serde::encode::write(&mut packed, &all).expect("writing to memory cannot fail");
    packed
}

/// The deliveries of `partition` in such a body; they share its memory.
pub(super) fn unpack(body: &Bytes, partition: u32) -> Option<Vec<Delivery>> {
    let packed: Vec<Packed<'_>> = rmp_serde::from_slice(body).ok()?;
    Some(
        packed
            .into_iter()
            .map(|one| one.delivery(body, partition))
            .collect(),
    )
}

/// The size of a delivery without its body, in bytes.
const ABOUT_A_DELIVERY: usize = 192;

impl<'a> Packed<'a> {
    fn of(delivery: &'a Delivery) -> Self {
        Self {
            id: delivery.id.into_bytes(),
            event_id: &delivery.event_id,
            event_type: &delivery.event_type,
            endpoint: &delivery.endpoint,
            received_ms: delivery.received_ms,
            traceparent: delivery.traceparent.as_deref(),
            body: Raw(&delivery.body),
        }
    }

    fn delivery(self, within: &Bytes, partition: u32) -> Delivery {
        Delivery {
            id: Uuid::from_bytes(self.id),
            event_id: self.event_id.to_owned(),
            event_type: self.event_type.to_owned(),
            partition,
            endpoint: self.endpoint.to_owned(),
            received_ms: self.received_ms,
            traceparent: self.traceparent.map(str::to_owned),
            body: within.slice_ref(self.body.0),
        }
    }
}

impl Serialize for Raw<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Raw<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&[u8]>::deserialize(deserializer).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(n: u128, body: &'static [u8]) -> Delivery {
        Delivery {
            id: Uuid::from_u128(n),
            event_id: format!("evt_{n}"),
            event_type: "payout.failed".into(),
            partition: 3,
            endpoint: "stripe".into(),
            received_ms: -1,
            traceparent: (n == 1)
                .then(|| "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
            body: Bytes::from_static(body),
        }
    }

    #[test]
    fn deliveries_read_back_as_they_were() {
        let long = Delivery {
            event_id: "é".repeat(300),
            event_type: String::new(),
            ..delivery(9, b"x")
        };
        let original = vec![
            delivery(1, b"{}"),
            delivery(2, b""),
            delivery(3, b"\xff\x00 not UTF-8"),
            long,
        ];
        assert_eq!(unpack(&pack(&original).into(), 3), Some(original));
    }

    #[test]
    fn what_is_no_pack_is_none() {
        let complete = pack(&[delivery(1, b"{}"), delivery(2, b"{}")]);
        let cut = |length: usize| unpack(&Bytes::copy_from_slice(&complete[..length]), 0);
        assert!(
            (0..complete.len()).all(|length| cut(length).is_none()),
            "a part of one"
        );
        assert_eq!(unpack(&Bytes::from_static(br#"{"id":"evt_1"}"#), 0), None);
    }
}
