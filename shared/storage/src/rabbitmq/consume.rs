//! Consuming one partition: a separate channel, a bounded prefetch, and one acknowledgement for everything
//! returned.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{FutureExt, StreamExt};
use lapin::Channel;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{DeliveryTag, FieldTable};

use super::error::AmqpError;
use super::link::{Link, Open, REQUEST_TIMEOUT};
use super::{message, topology};
use crate::ports::{Consumer, Delivery, QueueError};

/// Dropping it closes the channel; RabbitMQ then redelivers what is unacknowledged.
pub(super) struct RabbitConsumer {
    partition: u32,
    link: Arc<Link>,
    open: Arc<Open>,
    channel: Channel,
    messages: lapin::Consumer,
    /// The rest of the newest message received.
    unpacked: VecDeque<Delivery>,
    /// The newest message received.
    newest: DeliveryTag,
    /// The newest message of which every delivery was returned.
    returned: DeliveryTag,
    acknowledged: DeliveryTag,
    /// The reason why the consumer ended.
    ended: Option<AmqpError>,
}

/// RabbitMQ counts from 1.
const NONE: DeliveryTag = 0;

impl RabbitConsumer {
    /// Subscribes; connects if necessary.
    pub(super) async fn new(
        link: &Arc<Link>,
        partition: u32,
        prefetch: u16,
    ) -> Result<Self, AmqpError> {
        let open = link.open(REQUEST_TIMEOUT).await?;
        let channel = link.channel(&open).await?;
        link.request(
            &open,
            "limiting prefetch",
            channel.basic_qos(prefetch, BasicQosOptions::default()),
        )
        .await?;
        let queue = topology::partition_queue(partition);
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        let subscription =
            channel.basic_consume(queue.as_str().into(), "".into(), options, arguments);
        let messages = link
            .request(&open, &format!("consuming {queue}"), subscription)
            .await?;
        Ok(Self {
            partition,
            link: Arc::clone(link),
            open,
            channel,
            messages,
            unpacked: VecDeque::new(),
            newest: NONE,
            returned: NONE,
            acknowledged: NONE,
            ended: None,
        })
    }

    /// Unpacks a message; everything before it was returned.
    fn unpack(
        &mut self,
        received: Option<lapin::Result<lapin::message::Delivery>>,
    ) -> Result<(), AmqpError> {
        let failure = match received {
            Some(Ok(received)) => {
                self.newest = received.delivery_tag;
                self.unpacked
                    .extend(message::deliveries(received, self.partition));
                return Ok(());
            }
            Some(Err(error)) => AmqpError::while_doing("consuming", &error),
            None => AmqpError::unavailable(format!(
                "RabbitMQ ended the consumer of partition {}",
                self.partition
            )),
        };
        // The queue may be missing: the next connect declares it again.
        self.link.discard(&self.open);
        self.ended = Some(failure.clone());
        Err(failure)
    }

    /// The deliveries available without waiting.
    fn take(&mut self, max: usize) -> Vec<Delivery> {
        let mut batch = Vec::new();
        loop {
            let some = self.unpacked.len().min(max - batch.len());
            batch.extend(self.unpacked.drain(..some));
            if !self.unpacked.is_empty() {
                break;
            }
            self.returned = self.newest;
            if batch.len() == max {
                break;
            }
            let Some(received) = self.messages.next().now_or_never() else {
                break;
            };
            // Reported by the next call. Acknowledging this batch fails, and it is redelivered.
            if self.unpack(received).is_err() {
                break;
            }
        }
        // The queue decides the partition, whatever a message published by hand claims.
        batch
            .iter_mut()
            .for_each(|delivery| delivery.partition = self.partition);
        batch
    }
}

#[async_trait]
impl Consumer for RabbitConsumer {
    async fn ready(&mut self) -> Result<(), QueueError> {
        while self.unpacked.is_empty() {
            if let Some(failure) = &self.ended {
                return Err(failure.clone().into());
            }
            let received = self.messages.next().await;
            self.unpack(received)?;
        }
        Ok(())
    }

    async fn next(&mut self, max: usize) -> Result<Vec<Delivery>, QueueError> {
        self.ready().await?;
        // No await after this point: a cancelled call must not lose deliveries.
        Ok(self.take(max.max(1)))
    }

    async fn ack(&mut self) -> Result<(), QueueError> {
        // A partly returned message is acknowledged with its rest.
        if self.returned == self.acknowledged {
            return Ok(());
        }
        let acknowledgement = self
            .channel
            .basic_ack(self.returned, BasicAckOptions { multiple: true });
        self.link
            .request(&self.open, "acknowledging", acknowledgement)
            .await?;
        self.acknowledged = self.returned;
        Ok(())
    }
}
