//! Consuming one partition: a channel of its own, a bounded number of deliveries ahead, and one
//! acknowledgement for all that was handed out.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{FutureExt, StreamExt};
use lapin::Channel;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{DeliveryTag, FieldTable};

use super::failure::Failure;
use super::link::{Link, Open, PATIENCE};
use super::{message, topology};
use crate::ports::{Consumer, Delivery, QueueError};

/// Dropping it closes the channel, whereupon RabbitMQ hands out again what was not acknowledged.
pub(super) struct RabbitConsumer {
    partition: u32,
    link: Arc<Link>,
    open: Arc<Open>,
    channel: Channel,
    deliveries: lapin::Consumer,
    /// The newest delivery handed out and not yet acknowledged.
    newest: Option<DeliveryTag>,
    /// Why nothing more will come.
    ended: Option<Failure>,
}

impl RabbitConsumer {
    /// Subscribes, connecting if need be.
    pub(super) async fn new(link: &Arc<Link>, partition: u32, prefetch: u16) -> Result<Self, Failure> {
        let open = link.open(PATIENCE).await?;
        let channel = link.channel(&open).await?;
        link.ask(&open, "limiting prefetch", channel.basic_qos(prefetch, BasicQosOptions::default())).await?;
        let queue = topology::partition_queue(partition);
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        let subscription = channel.basic_consume(queue.as_str().into(), "".into(), options, arguments);
        let deliveries = link.ask(&open, &format!("consuming {queue}"), subscription).await?;
        Ok(Self { partition, link: Arc::clone(link), open, channel, deliveries, newest: None, ended: None })
    }

    fn take(&mut self, received: Option<lapin::Result<lapin::message::Delivery>>) -> Result<Delivery, Failure> {
        let failure = match received {
            Some(Ok(received)) => {
                self.newest = Some(received.delivery_tag);
                // Where it is counts, whatever a message published by hand may say of itself.
                return Ok(Delivery { partition: self.partition, ..message::delivery(received, self.partition) });
            }
            Some(Err(error)) => Failure::while_doing("consuming", error),
            None => Failure::unavailable(format!("RabbitMQ ended the consumer of partition {}", self.partition)),
        };
        // Perhaps the queue is gone: connecting anew declares it again.
        self.link.discard(&self.open);
        self.ended = Some(failure.clone());
        Err(failure)
    }
}

#[async_trait]
impl Consumer for RabbitConsumer {
    async fn next(&mut self, max: usize) -> Result<Vec<Delivery>, QueueError> {
        if let Some(failure) = &self.ended {
            return Err(failure.clone().into());
        }
        let first = self.deliveries.next().await;
        // No waiting from here on: a cancelled call must not have taken anything.
        let mut batch = vec![self.take(first)?];
        while batch.len() < max {
            let Some(received) = self.deliveries.next().now_or_never() else { break };
            match self.take(received) {
                Ok(delivery) => batch.push(delivery),
                // Told at the next call; acknowledging this batch fails, and it is handed out again.
                Err(_) => break,
            }
        }
        Ok(batch)
    }

    async fn ack(&mut self) -> Result<(), QueueError> {
        let Some(newest) = self.newest else { return Ok(()) };
        let acknowledgement = self.channel.basic_ack(newest, BasicAckOptions { multiple: true });
        self.link.ask(&self.open, "acknowledging", acknowledgement).await?;
        self.newest = None;
        Ok(())
    }
}
