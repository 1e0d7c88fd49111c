//! What the tests of this folder start with: a queue on an empty virtual host, and another client of it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionProperties};
use revwatch_storage::ports::{Delivery, EventQueue, Publish, QueueError};
use revwatch_storage::rabbitmq::{RabbitOptions, RabbitQueue};
use secrecy::{ExposeSecret, SecretString};

use crate::contract::QueuePlace;
use crate::contract::fixtures::{PARTITIONS, delivery, within};
use crate::support::rabbitmq::RabbitServer;

/// An empty virtual host of the shared server.
pub(crate) struct RabbitMq {
    url: SecretString,
    _server: Arc<RabbitServer>,
}

impl RabbitMq {
    pub(crate) async fn empty() -> Self {
        let server = RabbitServer::shared().await;
        Self {
            url: server.url(),
            _server: server,
        }
    }
}

#[async_trait]
impl QueuePlace for RabbitMq {
    async fn queue(&self) -> Box<dyn EventQueue> {
        Box::new(connect(&self.url).await)
    }
}

/// A queue on an empty virtual host of the shared server, and another client of the host.
pub(super) struct Setup {
    pub(super) url: SecretString,
    pub(super) queue: RabbitQueue,
    pub(super) raw: RawChannel,
    _server: Arc<RabbitServer>,
}

impl Setup {
    pub(super) async fn on_shared_server() -> Self {
        let server = RabbitServer::shared().await;
        let url = server.url();
        Self {
            queue: connect(&url).await,
            raw: RawChannel::open(&url).await,
            url,
            _server: server,
        }
    }
}

/// Another client of the same virtual host.
pub(super) struct RawChannel {
    pub(super) channel: Channel,
    _connection: Connection,
}

impl RawChannel {
    pub(super) async fn open(url: &SecretString) -> Self {
        let connecting = Connection::connect(url.expose_secret(), ConnectionProperties::default());
        let connection = connecting.await.expect("connected");
        Self {
            channel: connection.create_channel().await.expect("a channel"),
            _connection: connection,
        }
    }

    pub(super) async fn count(&self, queue: &str) -> u32 {
        let options = QueueDeclareOptions::default().passive();
        let declared = self
            .channel
            .queue_declare(queue.into(), options, FieldTable::default());
        declared.await.expect("the queue exists").message_count()
    }
}

/// Enough that most wait for the confirm of another.
pub(super) const MANY: usize = 100;

/// Publishes [`MANY`] deliveries concurrently, in this order, each received a millisecond after the previous one.
pub(super) async fn publish_concurrently(queue: &RabbitQueue, partition: u32) -> Vec<Delivery> {
    let sent: Vec<_> = (0..).take(MANY).map(|n| delivery(partition, n)).collect();
    let publishing = join_all(sent.iter().map(|delivery| queue.publish(delivery.clone())));
    within(publishing)
        .await
        .into_iter()
        .collect::<Result<Vec<()>, _>>()
        .expect("published");
    sent
}

pub(super) fn options(url: &SecretString) -> RabbitOptions {
    RabbitOptions {
        url: url.clone(),
        partitions: PARTITIONS,
        publish_timeout: Duration::from_secs(5),
        prefetch: 1000,
        name: "revwatch-test".to_owned(),
    }
}

pub(super) async fn connect(url: &SecretString) -> RabbitQueue {
    RabbitQueue::connect(options(url)).await.expect("connected")
}

pub(super) async fn publish(queue: &RabbitQueue, partition: u32, n: u32) -> Result<(), QueueError> {
    within(queue.publish(delivery(partition, n))).await
}
