//! Reads a stream from a position up to its present end.
//!
//! The end of a stream cannot be queried: RabbitMQ's count lags by seconds. So a marker is published to
//! the stream, and reading stops there. Readers skip the markers of others.

use std::sync::Arc;

use futures_util::{FutureExt, StreamExt};
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, message::Delivery as Message};
use revwatch_core::clock::Ids as _;
use uuid::Uuid;

use super::error::AmqpError;
use super::link::{Link, Open, REQUEST_TIMEOUT};
use super::message;
use crate::system::SystemIds;

/// Messages RabbitMQ sends ahead.
const PREFETCH: u16 = 1000;
/// An acknowledgement only requests more messages, so not every message needs one.
const ACK_EVERY: u64 = 250;

/// The start position, a value of `x-stream-offset`, at which everything is read that was written at or after a time by
/// the broker's clock.
pub(super) fn since(at_ms: i64) -> AMQPValue {
    match u64::try_from(at_ms.div_euclid(1000)) {
        Ok(seconds) if seconds > 0 => AMQPValue::Timestamp(seconds),
        _ => AMQPValue::LongString("first".into()),
    }
}

/// One pass through a stream.
pub(super) struct StreamReader {
    link: Arc<Link>,
    open: Arc<Open>,
    channel: Channel,
    messages: lapin::Consumer,
    end: Uuid,
    read: u64,
    ended: bool,
}

impl StreamReader {
    /// From `entry`, a value of `x-stream-offset`, to the present end.
    pub(super) async fn begin(
        link: &Arc<Link>,
        stream: &str,
        entry: AMQPValue,
    ) -> Result<Self, AmqpError> {
        let open = link.open(REQUEST_TIMEOUT).await?;
        open.ensure_unblocked()?;
        let channel = link.confirming_channel(&open).await?;
        link.request(
            &open,
            "limiting prefetch",
            channel.basic_qos(PREFETCH, BasicQosOptions::default()),
        )
        .await?;
        let mut arguments = FieldTable::default();
        arguments.insert("x-stream-offset".into(), entry);
        let subscription = channel.basic_consume(
            stream.into(),
            "".into(),
            BasicConsumeOptions::default(),
            arguments,
        );
        let messages = link
            .request(&open, "reading a stream", subscription)
            .await?;

        // On the subscribing channel, so that RabbitMQ resolves the start position before it stores the marker: even
        // if that position is the end, the marker comes after it.
        let end = SystemIds.fresh();
        let marking = async {
            let options = BasicPublishOptions {
                mandatory: true,
                ..Default::default()
            };
            let properties = message::marker_properties(end);
            channel
                .basic_publish("".into(), stream.into(), options, b"", properties)
                .await?
                .await
        };
        if link
            .request(&open, "marking the end of a stream", marking)
            .await?
            != lapin::Confirmation::Ack(None)
        {
            return Err(AmqpError::unavailable(format!(
                "RabbitMQ could not mark the end of {stream}"
            )));
        }
        Ok(Self {
            link: Arc::clone(link),
            open,
            channel,
            messages,
            end,
            read: 0,
            ended: false,
        })
    }

    /// The next message; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Message>, AmqpError> {
        while !self.ended {
            // Most messages have arrived already and need no deadline.
            let received = match self.messages.next().now_or_never() {
                Some(received) => received
                    .transpose()
                    .map_err(|e| AmqpError::while_doing("reading a stream", &e))?,
                None => {
                    let next = async { self.messages.next().await.transpose() };
                    self.link
                        .request(&self.open, "reading a stream", next)
                        .await?
                }
            };
            let Some(message) = received else {
                return Err(AmqpError::unavailable(
                    "RabbitMQ ended the reading of a stream".to_owned(),
                ));
            };
            self.read += 1;
            if self.read.is_multiple_of(ACK_EVERY) {
                let more = self
                    .channel
                    .basic_ack(message.delivery_tag, BasicAckOptions { multiple: true });
                self.link
                    .request(&self.open, "reading a stream", more)
                    .await?;
            }
            match message::marker(&message.properties) {
                None => return Ok(Some(message)),
                Some(marker) if marker == self.end => {
                    self.ended = true;
                    let closing = self.channel.close(200, "done".into());
                    self.link
                        .request(&self.open, "closing a channel", closing)
                        .await?;
                }
                Some(_) => {}
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_before_all_streams_is_their_beginning() {
        let first = AMQPValue::LongString("first".into());
        assert_eq!([since(i64::MIN), since(999)], [first.clone(), first]);
        let seconds = 1_700_000_000;
        assert_eq!(since(1_700_000_000_999), AMQPValue::Timestamp(seconds));
    }
}
