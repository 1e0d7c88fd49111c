//! Reading the archive stream from a time up to now.
//!
//! A stream has no end that could be asked for: RabbitMQ's count lags by seconds. So a marker is
//! published into the stream itself, and reading stops there. Readers skip the markers of others.

use futures_util::StreamExt;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable};
use uuid::Uuid;

use super::failure::Failure;
use super::link::{Link, PATIENCE};
use super::{message, topology};
use crate::ports::Delivery;

/// Deliveries RabbitMQ sends ahead.
const PREFETCH: u16 = 1000;
/// Acknowledging only asks for more, so not every delivery needs it.
const ACK_EVERY: u64 = 250;
/// The stream is entered by the broker's clock, deliveries are stamped by ingest's.
const CLOCK_SKEW_SECONDS: i64 = 600;

/// Hands every delivery received at or after `from_ms` to `each` until it answers `false`.
pub(super) async fn read(
    link: &Link,
    from_ms: i64,
    each: &mut (dyn FnMut(Delivery) -> bool + Send),
) -> Result<(), Failure> {
    let open = link.open(PATIENCE).await?;
    open.ensure_unblocked()?;
    let channel = link.confirming_channel(&open).await?;
    link.ask(&open, "limiting prefetch", channel.basic_qos(PREFETCH, BasicQosOptions::default())).await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-stream-offset".into(), entry(from_ms));
    let subscription =
        channel.basic_consume(topology::ARCHIVE.into(), "".into(), BasicConsumeOptions::default(), arguments);
    let mut archived = link.ask(&open, "reading the archive", subscription).await?;

    // On the channel that subscribed, so that RabbitMQ has found the place to begin before the marker is
    // there: if that place is the end, the marker is still to come.
    let end = Uuid::now_v7();
    let marking = async {
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let properties = message::marker_properties(end);
        channel.basic_publish("".into(), topology::ARCHIVE.into(), options, b"", properties).await?.await
    };
    if link.ask(&open, "marking the end of the archive", marking).await? != lapin::Confirmation::Ack(None) {
        return Err(Failure::unavailable("RabbitMQ could not mark the end of the archive".to_owned()));
    }

    let mut read = 0_u64;
    loop {
        let next = async { archived.next().await.transpose() };
        let Some(archived) = link.ask(&open, "reading the archive", next).await? else {
            return Err(Failure::unavailable("RabbitMQ ended the reading of the archive".to_owned()));
        };
        let tag = archived.delivery_tag;
        match message::marker(&archived.properties) {
            Some(marker) if marker == end => break,
            Some(_) => {}
            None => {
                let delivery = message::delivery(archived, 0);
                if delivery.received_ms >= from_ms && !each(delivery) {
                    break;
                }
            }
        }
        read += 1;
        if read.is_multiple_of(ACK_EVERY) {
            let more = channel.basic_ack(tag, BasicAckOptions { multiple: true });
            link.ask(&open, "reading the archive", more).await?;
        }
    }
    link.ask(&open, "closing a channel", channel.close(200, "done".into())).await
}

/// Where to enter the stream. Chunks are found by the time they were written, which is later than the
/// time ingest received what is in them.
fn entry(from_ms: i64) -> AMQPValue {
    match u64::try_from(from_ms / 1000 - CLOCK_SKEW_SECONDS) {
        Ok(seconds) if seconds > 0 => AMQPValue::Timestamp(seconds),
        _ => AMQPValue::LongString("first".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_before_all_streams_is_their_beginning() {
        let first = AMQPValue::LongString("first".into());
        assert_eq!([entry(i64::MIN), entry(0), entry(600_000)], [first.clone(), first.clone(), first]);
        assert_eq!(entry(1_700_000_000_999), AMQPValue::Timestamp(1_700_000_000 - 600));
    }
}
