//! Publishes deliveries to the intake: one message each, or several in one message under load.
//!
//! Each partition has at most one unconfirmed message. What is published before its confirm waits for it and then goes
//! together: the higher the load, the fewer messages per event; without load nothing waits.
//!
//! Invariants: a confirm is awaited in a separate task, so a cancelled caller does not affect it; the result of each
//! delivery is the confirm of its message.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;
use tokio::time::{Duration, Instant};

use super::broker::Broker;
use super::error::AmqpError;
use super::publish::{OutboundMessage, Publisher};
use super::{message, pack, topology};
use crate::lock::lock;
use crate::ports::Delivery;

/// See the module.
pub(super) struct Intake {
    publisher: Arc<Publisher>,
    broker: Arc<Broker>,
    publish_timeout: Duration,
    /// One for each partition.
    lanes: Vec<Mutex<Lane>>,
}

#[derive(Default)]
struct Lane {
    waiting: VecDeque<Waiting>,
    /// A task publishes from `waiting` until it is empty.
    is_served: bool,
}

struct Waiting {
    delivery: Delivery,
    until: Instant,
    confirm: oneshot::Sender<Result<(), AmqpError>>,
}

/// The most deliveries in one message. Larger messages save the broker little, and readers need more memory.
const MAX_PACK_DELIVERIES: usize = 32;
const MAX_PACK_BYTES: usize = 256 * 1024;

impl Intake {
    /// A delivery waits at most `publish_timeout` for the confirm of an earlier message, and its own message as long
    /// for its confirm.
    pub(super) fn new(
        publisher: Arc<Publisher>,
        broker: Arc<Broker>,
        publish_timeout: Duration,
    ) -> Self {
        Self {
            publisher,
            lanes: (0..broker.partitions).map(|_| Mutex::default()).collect(),
            broker,
            publish_timeout,
        }
    }

    /// Returns `Ok` once RabbitMQ has confirmed the delivery. Its partition must exist.
    pub(super) async fn publish(self: &Arc<Self>, delivery: Delivery) -> Result<(), AmqpError> {
        let partition = delivery.partition;
        let (confirm, result) = oneshot::channel();
        let is_served = {
            let mut lane = lock(&self.lanes[partition as usize]);
            lane.waiting.push_back(Waiting {
                delivery,
                until: Instant::now() + self.publish_timeout,
                confirm,
            });
            std::mem::replace(&mut lane.is_served, true)
        };
        if !is_served {
            tokio::spawn(
                PublishTurn {
                    intake: Arc::clone(self),
                    partition,
                    is_over: false,
                }
                .serve(),
            );
        }
        result.await.unwrap_or_else(|_| {
            Err(AmqpError::unavailable(
                "publishing was interrupted".to_owned(),
            ))
        })
    }
}

/// The right to serve a lane.
struct PublishTurn {
    intake: Arc<Intake>,
    partition: u32,
    /// It was released.
    is_over: bool,
}

impl PublishTurn {
    async fn serve(mut self) {
        while let Some(load) = self.next() {
            let (deliveries, confirms): (Vec<_>, Vec<_>) =
                load.into_iter().map(|w| (w.delivery, w.confirm)).unzip();
            let (properties, body) = match <[Delivery; 1]>::try_from(deliveries) {
                Ok([delivery]) => (message::properties(&delivery), delivery.body),
                Err(deliveries) => (message::pack_properties(), pack::pack(&deliveries).into()),
            };
            let routing_key = topology::routing_key(self.partition);
            let archiving = &self.intake.broker.archiving;
            let stored = self.intake.publisher.store(OutboundMessage {
                exchange: archiving.way().exchange(),
                routing_key,
                properties,
                body,
            });
            let stored = stored.await;
            if stored.is_err() {
                archiving.suspect();
            }
            for confirm in confirms {
                // The caller may have been cancelled.
                let _ = confirm.send(stored.clone());
            }
        }
    }

    /// The deliveries of the next message; `None` ends the turn. Deliveries that waited too long for an earlier
    /// confirm fail.
    fn next(&mut self) -> Option<Vec<Waiting>> {
        let mut lane = lock(&self.intake.lanes[self.partition as usize]);
        let now = Instant::now();
        let (mut load, mut bytes) = (Vec::new(), 0);
        while let Some(waiting) = lane.waiting.pop_front() {
            if waiting.until <= now {
                let late = format!(
                    "no confirm from RabbitMQ within {:?}",
                    self.intake.publish_timeout
                );
                let _ = waiting.confirm.send(Err(AmqpError::unavailable(late)));
                continue;
            }
            bytes += waiting.delivery.body.len();
            if !load.is_empty() && (bytes > MAX_PACK_BYTES || load.len() == MAX_PACK_DELIVERIES) {
                lane.waiting.push_front(waiting);
                break;
            }
            load.push(waiting);
        }
        // While the lane is locked: the next delivery starts another turn.
        lane.is_served = !load.is_empty();
        self.is_over = load.is_empty();
        (!self.is_over).then_some(load)
    }
}

impl Drop for PublishTurn {
    /// An interrupted turn does not block the next one; its waiting deliveries fail at once.
    fn drop(&mut self) {
        if !self.is_over {
            *lock(&self.intake.lanes[self.partition as usize]) = Lane::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use secrecy::SecretString;
    use uuid::Uuid;

    use super::super::link::Link;
    use super::*;

    #[tokio::test]
    async fn publishes_fail_when_the_turn_that_they_wait_for_is_interrupted() {
        let broker = Broker::new(&SecretString::from("amqp://127.0.0.1:1"), "test".into(), 1);
        let broker = Arc::new(broker.expect("a URL"));
        let publish_timeout = Duration::from_secs(60);
        let publisher = Arc::new(Publisher::new(
            Arc::new(Link::new(Arc::clone(&broker), "publisher")),
            publish_timeout,
        ));
        let intake = Arc::new(Intake::new(publisher, broker, publish_timeout));
        // One turn is under way.
        lock(&intake.lanes[0]).is_served = true;
        let turn = PublishTurn {
            intake: Arc::clone(&intake),
            partition: 0,
            is_over: false,
        };
        let delivery = Delivery {
            id: Uuid::now_v7(),
            event_id: "evt_1".into(),
            event_type: "payout.paid".into(),
            partition: 0,
            endpoint: "stripe".into(),
            received_ms: 0,
            traceparent: None,
            body: Bytes::new(),
        };
        let mut publishing = std::pin::pin!(intake.publish(delivery));
        assert!(futures_util::poll!(publishing.as_mut()).is_pending());
        drop(turn);
        let result = tokio::time::timeout(Duration::from_secs(30), publishing)
            .await
            .expect("at once");
        assert!(
            result
                .expect_err("not published")
                .to_string()
                .contains("interrupted")
        );
        assert!(!lock(&intake.lanes[0]).is_served);
    }
}
