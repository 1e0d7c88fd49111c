//! Publishing with confirms: `Ok` means stored. Only a positive confirm without a returned message counts, and every
//! publish has a deadline.
//!
//! Invariant: hundreds of publishes share one channel and await their confirms concurrently.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use lapin::options::BasicPublishOptions;
use lapin::{BasicProperties, Channel, Confirmation};
use tokio::time::{Instant, timeout_at};

use super::error::AmqpError;
use super::link::{Link, Open};
use crate::lock::lock;
use crate::reconnecting::Reconnecting;

/// See the module.
pub(super) struct Publisher {
    link: Arc<Link>,
    slot: Reconnecting<PublishChannel, AmqpError>,
    publish_timeout: Duration,
}

/// A message and its destination.
pub(super) struct OutboundMessage {
    pub(super) exchange: &'static str,
    pub(super) routing_key: String,
    pub(super) properties: BasicProperties,
    pub(super) body: Bytes,
}

/// A channel in confirm mode.
pub(super) struct PublishChannel {
    open: Arc<Open>,
    channel: Channel,
    numbering: Mutex<()>,
}

impl Publisher {
    /// Every publish takes at most `publish_timeout`, connecting included.
    pub(super) fn new(link: Arc<Link>, publish_timeout: Duration) -> Self {
        // No backoff of its own: it has the link's.
        let slot = Reconnecting::new(
            "the channel to publish on".to_owned(),
            PublishChannel::usable,
            Duration::ZERO,
        );
        Self {
            link,
            slot,
            publish_timeout,
        }
    }

    /// Returns `Ok` once RabbitMQ has confirmed the message. A cancelled caller does not interrupt it.
    pub(super) async fn publish(
        self: &Arc<Self>,
        message: OutboundMessage,
    ) -> Result<(), AmqpError> {
        let publisher = Arc::clone(self);
        tokio::spawn(async move { publisher.store(message).await })
            .await
            .unwrap_or_else(|_| Err(AmqpError::unavailable("the process is stopping".to_owned())))
    }

    /// The same, cancelled with its caller.
    pub(super) async fn store(&self, message: OutboundMessage) -> Result<(), AmqpError> {
        let deadline = Instant::now() + self.publish_timeout;
        let link = Arc::clone(&self.link);
        let channel = self
            .slot
            .get(self.publish_timeout, || {
                open_channel(link, self.publish_timeout).boxed()
            })
            .await?;
        channel.open.ensure_unblocked()?;
        let sent = tokio::select! {
            sent = timeout_at(deadline, channel.send(&message)) => sent,
            blocked = channel.open.until_blocked() => {
                self.slot.discard(&channel);
                return Err(blocked);
            }
        };
        match sent {
            Ok(Ok(Confirmation::Ack(None))) => Ok(()),
            Ok(Ok(Confirmation::Nack(None))) => Err(AmqpError::unavailable(format!(
                "RabbitMQ could not store the message for {}",
                message.routing_key
            ))),
            // Returned: even the alternate exchange has no queue. The next connect declares it again.
            Ok(Ok(_)) => {
                self.slot.discard(&channel);
                self.link.discard(&channel.open);
                Err(AmqpError::unavailable(format!(
                    "no queue took the message for {}",
                    message.routing_key
                )))
            }
            // A channel also ends because its exchange is gone.
            Ok(Err(error)) => {
                self.slot.discard(&channel);
                self.link.discard(&channel.open);
                Err(AmqpError::while_doing("publishing", &error))
            }
            // The broker may hang, or this queue may have lost its majority. A late confirm belongs to no caller, so
            // the channel is not used again.
            Err(_) => {
                self.slot.discard(&channel);
                Err(AmqpError::unavailable(format!(
                    "no confirm from RabbitMQ within {:?}",
                    self.publish_timeout
                )))
            }
        }
    }
}

impl PublishChannel {
    /// One channel on a link that is open and takes messages.
    pub(super) async fn open(link: &Link, within: Duration) -> Result<Self, AmqpError> {
        let open = link.open(within).await?;
        open.ensure_unblocked()?;
        let channel = link.confirming_channel(&open).await?;
        Ok(Self {
            open,
            channel,
            numbering: Mutex::new(()),
        })
    }

    /// Publishes and waits for the confirm.
    pub(super) async fn send(&self, message: &OutboundMessage) -> lapin::Result<Confirmation> {
        let mut publish = pin!(self.channel.basic_publish(
            message.exchange.into(),
            message.routing_key.as_str().into(),
            BasicPublishOptions {
                mandatory: true,
                ..Default::default()
            },
            &message.body,
            message.properties.clone(),
        ));
        // lapin gives a publish its number and queues its frames in two separate steps, both when first
        // polled. Between them another thread could slip in, and the two would get each other's confirm.
        let confirm = poll_fn(|context| {
            let _one_at_a_time = lock(&self.numbering);
            publish.as_mut().poll(context)
        })
        .await?;
        confirm.await
    }

    fn usable(&self) -> bool {
        self.open.usable() && self.channel.status().connected()
    }
}

async fn open_channel(link: Arc<Link>, within: Duration) -> Result<PublishChannel, AmqpError> {
    PublishChannel::open(&link, within).await
}
