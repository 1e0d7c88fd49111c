//! RabbitMQ as the queue: a quorum queue per partition, a stream as the archive, 3.10 or newer.
//!
//! Publishing and consuming use separate connections, because RabbitMQ stops reading from a connection
//! that publishes more than it can store. What goes to streams alone has a third, because RabbitMQ closes a connection on
//! which it cannot reach the coordinator of streams. Nothing retries in the background: the next call that needs a
//! lost connection opens it again, and until that succeeds every call fails.
//!
//! Invariant: no message, log line or error holds the password of the URL.

mod archive;
mod archiving;
mod broker;
mod consume;
mod error;
mod holding;
mod intake;
mod journal;
mod link;
mod message;
mod own_gaps;
mod pack;
mod publish;
mod stream;
mod topology;
mod transport;
mod unroutable;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use secrecy::SecretString;

use crate::ports::{
    Archive, Consume, Consumer, Delivery, Disposition, EventQueue, FIRST_DELIVERIES, HeldDelivery,
    Holding, HoldingQueue, Journal, JournalEntry, Probed, Publish, QueueError, Replay,
    TriageSummary,
};
use archiving::{Paths, Way};
use broker::Broker;
use error::AmqpError;
use intake::Intake;
use link::{Link, REQUEST_TIMEOUT};
use publish::Publisher;

/// How to use RabbitMQ.
#[derive(Debug, Clone)]
pub struct RabbitOptions {
    /// `amqp://user:password@host:5672/virtual-host`, or `amqps://…`. Several hosts, or several URLs, are separated by
    /// commas: the nodes of a cluster.
    pub url: SecretString,
    /// Must be the number that the virtual host was set up for.
    pub partitions: u32,
    /// A publish not confirmed by then has failed.
    pub publish_timeout: Duration,
    /// Messages RabbitMQ sends ahead of their acknowledgement, for each consumer.
    pub prefetch: u16,
    /// Shown in RabbitMQ's list of connections.
    pub name: String,
}

/// The RabbitMQ adapter of [`EventQueue`].
pub struct RabbitQueue {
    partitions: u32,
    broker: Arc<Broker>,
    prefetch: u16,
    consuming: Arc<Link>,
    paths: Arc<Paths>,
    intake: Arc<Intake>,
    /// Two concurrent visits to a holding queue would hide deliveries from each other.
    visiting: tokio::sync::Mutex<()>,
    requeuing: Arc<tokio::sync::Mutex<()>>,
}

impl RabbitQueue {
    /// Checks the URL as [`RabbitQueue::connect`] does.
    pub fn check_url(url: &SecretString) -> Result<(), QueueError> {
        Ok(Broker::new(url, String::new(), 1).map(drop)?)
    }

    /// Connects and logs in as [`RabbitQueue::connect`] does, but to each node, and compares the number of partitions.
    /// Makes nothing. Returns why some nodes do not answer, if others do.
    pub async fn probe(url: &SecretString, partitions: u32) -> Result<Vec<String>, QueueError> {
        let broker = Broker::new(url, format!("revwatch {}", std::process::id()), partitions)?;
        Ok(link::probe(&broker).await?)
    }

    /// Connects, and declares what is missing.
    pub async fn connect(options: RabbitOptions) -> Result<Self, QueueError> {
        if options.partitions == 0 {
            return Err(QueueError::Misconfigured(
                "there must be at least one partition".to_owned(),
            ));
        }
        let broker = Arc::new(Broker::new(&options.url, options.name, options.partitions)?);
        let publishing = Arc::new(Link::new(Arc::clone(&broker), "publisher"));
        let consuming = Arc::new(Link::new(Arc::clone(&broker), "consuming"));
        publishing.open(FIRST_CONNECT_TIMEOUT).await?;
        consuming.open(FIRST_CONNECT_TIMEOUT).await?;
        // Connected when it is first needed.
        let streams = Arc::new(Link::new(Arc::clone(&broker), "streams"));
        let publisher = |link| Arc::new(Publisher::new(link, options.publish_timeout));
        let paths = Paths {
            publisher: publisher(Arc::clone(&publishing)),
            link: publishing,
            to_streams: publisher(Arc::clone(&streams)),
            streams,
        };
        let queue = Self {
            partitions: options.partitions,
            prefetch: options.prefetch,
            intake: Arc::new(Intake::new(
                Arc::clone(&paths.publisher),
                Arc::clone(&broker),
                options.publish_timeout,
            )),
            broker,
            consuming,
            paths: Arc::new(paths),
            visiting: tokio::sync::Mutex::new(()),
            requeuing: Arc::default(),
        };
        queue.requeue_unroutable();
        Ok(queue)
    }

    fn keep_archiving(&self) -> impl Future<Output = Result<(), AmqpError>> + use<> {
        let (broker, paths) = (Arc::clone(&self.broker), Arc::clone(&self.paths));
        async move { broker.archiving.keep(&broker, &paths).await }
    }

    /// Starts to requeue unroutable messages. Best effort: what stays in the unroutable queue is safe until
    /// the next attempt.
    fn requeue_unroutable(&self) {
        let Ok(alone) = Arc::clone(&self.requeuing).try_lock_owned() else {
            return;
        };
        let (link, paths) = (Arc::clone(&self.consuming), Arc::clone(&self.paths));
        let partitions = self.partitions;
        tokio::spawn(async move {
            let _alone = alone;
            match unroutable::requeue(&link, &paths, partitions).await {
                Ok(0) => {}
                Ok(moved) => {
                    tracing::warn!(moved, "requeued unroutable messages");
                }
                Err(error) => tracing::warn!(%error, "cannot requeue unroutable messages"),
            }
        });
    }
}

/// Declaring the queues of a large deployment for the first time takes a while.
const FIRST_CONNECT_TIMEOUT: Duration = Duration::from_secs(60);

#[async_trait]
impl Publish for RabbitQueue {
    fn partitions(&self) -> u32 {
        self.partitions
    }

    fn place(&self) -> Option<&str> {
        let node = self.broker.nodes.first()?;
        Some(&node.uri.vhost)
    }

    async fn publish(&self, delivery: Delivery) -> Result<(), QueueError> {
        if delivery.partition >= self.partitions {
            return Err(no_such_partition(delivery.partition, self.partitions));
        }
        let archiving = &self.broker.archiving;
        if archiving.is_in_doubt() {
            // A process that is not probed notices here what has become of the archive.
            tokio::spawn(self.keep_archiving());
        }
        match archiving.way() {
            Way::Waiting(reason) => Err(AmqpError::unavailable(reason).into()),
            Way::Archived | Way::Unarchived => Ok(self.intake.publish(delivery).await?),
        }
    }

    async fn put_back(&self, deliveries: Vec<Delivery>) -> Result<(), QueueError> {
        let received_ms = deliveries.iter().map(|delivery| delivery.received_ms);
        journal::note_requeued(&self.paths.to_streams, received_ms).await?;
        let messages = deliveries.into_iter().map(message::put_back);
        let publishing = messages.map(|message| self.paths.publisher.publish(message));
        Ok(futures_util::future::try_join_all(publishing)
            .await
            .map(drop)?)
    }

    async fn probe(&self) -> Result<Probed, QueueError> {
        self.paths
            .publisher
            .publish(message::marker_for(topology::PROBE))
            .await?;
        // Not cancelled with its caller: what it finds out is noted.
        tokio::spawn(self.keep_archiving())
            .await
            .map_err(|error| AmqpError::unavailable(error.to_string()))??;
        let archiving = &self.broker.archiving;
        let refuses = match archiving.way() {
            Way::Waiting(reason) => Some(reason),
            Way::Archived | Way::Unarchived => None,
        };
        Ok(Probed {
            refuses,
            unarchived_since_ms: archiving.unarchived_since_ms(),
        })
    }
}

#[async_trait]
impl Consume for RabbitQueue {
    async fn consume(&self, partition: u32) -> Result<Box<dyn Consumer>, QueueError> {
        if partition >= self.partitions {
            return Err(no_such_partition(partition, self.partitions));
        }
        let consumer =
            consume::RabbitConsumer::new(&self.consuming, partition, self.prefetch).await?;
        // A consumer that was lost because its queue was deleted is replaced here.
        self.requeue_unroutable();
        Ok(Box::new(consumer))
    }

    /// Over AMQP 0.9.1 RabbitMQ reports how many messages are ready, not how many were sent to consumers
    /// and are unacknowledged: up to `prefetch` for each consumer are missing here. A message counts as
    /// one, and holds several deliveries under load.
    async fn depth(&self) -> Result<Vec<u64>, QueueError> {
        let open = self.consuming.open(REQUEST_TIMEOUT).await?;
        let channel = self.consuming.channel(&open).await?;
        let mut depth = Vec::new();
        for partition in 0..self.partitions {
            depth.push(
                self.consuming
                    .count(&open, &channel, &topology::partition_queue(partition))
                    .await?,
            );
        }
        // Depth is requested regularly, and does not include unroutable messages.
        if self
            .consuming
            .count(&open, &channel, topology::UNROUTABLE)
            .await?
            > 0
        {
            self.requeue_unroutable();
        }
        Ok(depth)
    }
}

#[async_trait]
impl Holding for RabbitQueue {
    async fn hold(&self, place: HoldingQueue, held: HeldDelivery) -> Result<(), QueueError> {
        Ok(self
            .paths
            .publisher
            .publish(holding::message_for(queue_of(place), held))
            .await?)
    }

    async fn visit_held(
        &self,
        place: HoldingQueue,
        visit: &mut (dyn FnMut(HeldDelivery) -> ControlFlow<()> + Send),
    ) -> Result<(), QueueError> {
        let _alone = self.visiting.lock().await;
        Ok(holding::visit(&self.consuming, queue_of(place), visit).await?)
    }

    async fn triage(
        &self,
        place: HoldingQueue,
        decide: &mut (dyn for<'a> FnMut(&'a HeldDelivery) -> Disposition + Send),
    ) -> Result<TriageSummary, QueueError> {
        let _alone = self.visiting.lock().await;
        let partitions = self.partitions;
        let mut checked = |held: &HeldDelivery| decide(held).checked(partitions);
        Ok(holding::triage(
            &self.consuming,
            &self.paths,
            &self.broker.archiving,
            queue_of(place),
            &mut checked,
        )
        .await?)
    }

    /// A delivery that was held twice, because its confirm was lost, counts twice.
    async fn held_count(&self, place: HoldingQueue) -> Result<u64, QueueError> {
        let _alone = self.visiting.lock().await;
        let open = self.consuming.open(REQUEST_TIMEOUT).await?;
        let channel = self.consuming.channel(&open).await?;
        Ok(self
            .consuming
            .count(&open, &channel, queue_of(place))
            .await?)
    }
}

#[async_trait]
impl Replay for RabbitQueue {
    async fn archive(&self, from_ms: i64) -> Result<Box<dyn Archive>, QueueError> {
        Ok(Box::new(
            archive::ArchiveReader::begin(&self.paths.streams, from_ms).await?,
        ))
    }

    fn is_apart(&self) -> bool {
        true
    }

    async fn oldest_ms(&self) -> Result<Option<i64>, QueueError> {
        // All partitions are in one stream.
        let mut archive = self.archive(0).await?;
        let first = archive.next(FIRST_DELIVERIES.into()).await?;
        Ok(first.iter().map(|delivery| delivery.received_ms).min())
    }
}

#[async_trait]
impl Journal for RabbitQueue {
    async fn append_journal(&self, entries: Vec<JournalEntry>) -> Result<(), QueueError> {
        Ok(journal::record(&self.paths.to_streams, entries).await?)
    }

    async fn probe_journal(&self) -> Result<(), QueueError> {
        Ok(self
            .paths
            .to_streams
            .publish(message::marker_for(topology::JOURNAL))
            .await?)
    }

    async fn read_journal(
        &self,
        each: &mut (dyn FnMut(JournalEntry) + Send),
    ) -> Result<(), QueueError> {
        self.read_journal_since(i64::MIN, each).await
    }

    async fn read_journal_since(
        &self,
        from_ms: i64,
        each: &mut (dyn FnMut(JournalEntry) + Send),
    ) -> Result<(), QueueError> {
        Ok(journal::read(&self.paths.streams, stream::since(from_ms), each).await?)
    }
}

#[async_trait]
impl EventQueue for RabbitQueue {
    async fn close(&self) {
        let Paths {
            link,
            streams,
            to_streams,
            ..
        } = self.paths.as_ref();
        self.broker.archiving.finish(to_streams).await;
        tokio::join!(link.close(), streams.close(), self.consuming.close());
    }
}

fn queue_of(place: HoldingQueue) -> &'static str {
    match place {
        HoldingQueue::DeadLetters => topology::DEAD,
        HoldingQueue::Parked => topology::PARKED,
    }
}

fn no_such_partition(partition: u32, partitions: u32) -> QueueError {
    QueueError::Misconfigured(format!(
        "there is no partition {partition}: there are {partitions}"
    ))
}
