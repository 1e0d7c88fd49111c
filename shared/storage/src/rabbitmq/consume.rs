//! Consuming one partition: a channel of its own, a bounded number of deliveries ahead, and one
//! acknowledgement for all that was handed out.

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

/// Dropping it closes the channel, whereupon RabbitMQ hands out again what was not acknowledged.
pub(super) struct RabbitConsumer {
    partition: u32,
    link: Arc<Link>,
    open: Arc<Open>,
    channel: Channel,
    messages: lapin::Consumer,
    /// The rest of the newest message that came.
    unpacked: VecDeque<Delivery>,
    /// The newest message that came.
    newest: DeliveryTag,
    /// The newest message of which everything was handed out.
    handed_out: DeliveryTag,
    acknowledged: DeliveryTag,
    /// Why nothing more will come.
    ended: Option<AmqpError>,
}

/// RabbitMQ counts from 1.
const NONE: DeliveryTag = 0;

impl RabbitConsumer {
    /// Subscribes, connecting if need be.
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
            handed_out: NONE,
            acknowledged: NONE,
            ended: None,
        })
    }

    /// Unpacks a message; those before it were handed out.
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
            Some(Err(error)) => AmqpError::while_doing("consuming", error),
            None => AmqpError::unavailable(format!(
                "RabbitMQ ended the consumer of partition {}",
                self.partition
            )),
        };
        // Perhaps the queue is gone: connecting anew declares it again.
        self.link.discard(&self.open);
        self.ended = Some(failure.clone());
        Err(failure)
    }

    /// As many as there are here and now.
    fn take(&mut self, max: usize) -> Vec<Delivery> {
        let mut batch = Vec::new();
        loop {
            let some = self.unpacked.len().min(max - batch.len());
            batch.extend(self.unpacked.drain(..some));
            if !self.unpacked.is_empty() {
                break;
            }
            self.handed_out = self.newest;
            if batch.len() == max {
                break;
            }
            let Some(received) = self.messages.next().now_or_never() else {
                break;
            };
            // Told at the next call; acknowledging this batch fails, and it is handed out again.
            if self.unpack(received).is_err() {
                break;
            }
        }
        // Where it is counts, whatever a message published by hand may say of itself.
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
        // No waiting from here on: a cancelled call must not have taken anything.
        Ok(self.take(max.max(1)))
    }

    async fn ack(&mut self) -> Result<(), QueueError> {
        // A message of which a part was not handed out yet waits for its rest.
        if self.handed_out == self.acknowledged {
            return Ok(());
        }
        let acknowledgement = self
            .channel
            .basic_ack(self.handed_out, BasicAckOptions { multiple: true });
        self.link
            .request(&self.open, "acknowledging", acknowledgement)
            .await?;
        self.acknowledged = self.handed_out;
        Ok(())
    }
}
