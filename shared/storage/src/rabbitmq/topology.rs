//! The exchanges and queues of a deployment, declared by every process that connects. Declaring is idempotent.
//!
//! ```text
//! publish ─▶ revwatch.intake (fanout) ─┬▶ revwatch.archive (stream)
//!                                      └▶ revwatch.events (direct) ─ p<N> ─▶ revwatch.events.p<N> (quorum)
//!                                              │ no such queue                    │ rejected by the broker
//!                                              ▼                                  ▼
//!                                  revwatch.unroutable (fanout, quorum)   revwatch.dead (fanout, quorum)
//! ```
//!
//! Also revwatch.parked (fanout, quorum), for deliveries that an operator holds back, revwatch.probe (quorum), to try
//! out whether RabbitMQ takes messages, and the journal, a stream. The last two are published to directly.
//!
//! Invariant: a publish is confirmed only when a quorum queue has it: its partition's, or, if that
//! is missing, the unroutable one. That is why the archive is not bound to `revwatch.events` itself: a
//! message that reached the archive would count as routed there, and the alternate exchange would never
//! be used. (If both queues are deleted, only the archive is left, until the next connect declares them.)
//!
//! While the archive takes nothing, deliveries are published to `revwatch.events` itself
//! (`shared/storage/src/rabbitmq/archiving.rs`).

use std::sync::atomic::{AtomicBool, Ordering};

use lapin::options::{
    ExchangeBindOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ExchangeKind};

use super::error::{AmqpError, is_missing, is_precondition_failed, said};
use super::link::Open;

/// Where deliveries are published; the routing key is that of the partition.
pub(super) const INTAKE: &str = "revwatch.intake";
/// Routes to the partitions, without archiving.
pub(super) const EVENTS: &str = "revwatch.events";
/// Exchange and queue of unroutable messages.
pub(super) const UNROUTABLE: &str = "revwatch.unroutable";
/// Exchange and queue of dead letters.
pub(super) const DEAD: &str = "revwatch.dead";
/// Exchange and queue of parked deliveries.
pub(super) const PARKED: &str = "revwatch.parked";
/// Takes what [`Publish::probe`](crate::ports::Publish::probe) publishes, and keeps the last of it. It is of the type
/// of the partitions' queues, so it needs what they need: no alarm, a disk, a majority of the nodes.
pub(super) const PROBE: &str = "revwatch.probe";
/// Stream of the journal.
pub(super) const JOURNAL: &str = "revwatch.journal";
/// Stream of everything accepted.
pub(super) const ARCHIVE: &str = "revwatch.archive";

/// An unused exchange. Its alternate exchange, which need not exist, is named after the number of
/// partitions: RabbitMQ itself compares that argument whenever the exchange is declared again, so two
/// processes that disagree cannot both connect, not even when both are the first, and a process that
/// only publishes does not need the store to know the number.
const PARTITIONS: &str = "revwatch.partitions";

/// The argument that says on which node a queue begins.
const LOCATOR: &str = "x-queue-leader-locator";

/// RabbitMQ 4 drops (or dead-letters) a message after 20 returns by default; here a return
/// only means that a worker stopped. "No limit" has no notation that 3.10 accepts, too.
const DELIVERY_LIMIT: i32 = 1_000_000_000;
/// Longer than the 30 days for which Stripe's API lists events. See [`ARCHIVE_DAYS`](crate::gaps::ARCHIVE_DAYS).
const ARCHIVE_AGE: &str = "35D";
/// The size of the journal: years for all but the largest deployments.
const JOURNAL_BYTES: i64 = 2_000_000_000;
/// A stream drops complete segments only; smaller segments follow the maximum age more closely.
const SEGMENT_BYTES: i64 = 100_000_000;

/// Declares queues so that their leaders are spread over the nodes of a cluster: without that, all of them are on the
/// node that was connected to first.
///
/// RabbitMQ compares this argument with that of a queue which exists, and earlier versions did not give it. Such queues
/// stay as they are. RabbitMQ logs each difference, so what one queue has is tried first with the next.
pub(super) struct Declaring<'a> {
    open: &'a Open,
    pub(super) channel: Channel,
    /// Whether queues are declared without the argument first.
    unplaced: &'a AtomicBool,
}

impl<'a> Declaring<'a> {
    /// On a channel of its own.
    pub(super) async fn new(open: &'a Open, unplaced: &'a AtomicBool) -> lapin::Result<Self> {
        let channel = open.create_channel().await?;
        Ok(Self {
            open,
            channel,
            unplaced,
        })
    }

    async fn queue(&mut self, name: &str, arguments: FieldTable) -> lapin::Result<()> {
        let first = self.unplaced.load(Ordering::Relaxed);
        match self.declare(name, arguments.clone(), first).await {
            Err(error) if is_precondition_failed(&error) && error.to_string().contains(LOCATOR) => {
                // The channel has ended.
                self.channel = self.open.create_channel().await?;
                self.unplaced.store(!first, Ordering::Relaxed);
                self.declare(name, arguments, !first).await
            }
            declared => declared,
        }
    }

    async fn declare(
        &self,
        name: &str,
        mut arguments: FieldTable,
        unplaced: bool,
    ) -> lapin::Result<()> {
        if !unplaced {
            arguments.insert(LOCATOR.into(), AMQPValue::LongString("balanced".into()));
        }
        let options = QueueDeclareOptions::durable();
        let declaring = self.channel.queue_declare(name.into(), options, arguments);
        declaring.await.map(drop)
    }
}

/// What is known of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    /// It is there. That does not mean that it works.
    Present,
    /// It was never declared.
    New,
    /// It was declared once.
    Deleted,
}

/// The routing key of a partition.
pub(super) fn routing_key(partition: u32) -> String {
    format!("p{partition}")
}

/// The partition of a routing key.
pub(super) fn partition_of(routing_key: &str) -> Option<u32> {
    routing_key.strip_prefix('p')?.parse().ok()
}

/// The queue of a partition.
pub(super) fn partition_queue(partition: u32) -> String {
    format!("{EVENTS}.{}", routing_key(partition))
}

/// Declares everything but the streams, which can be out of order by themselves. The channel is not usable after an
/// error.
pub(super) async fn declare(
    declaring: &mut Declaring<'_>,
    partitions: u32,
) -> Result<(), AmqpError> {
    agree_on_partitions(&declaring.channel, partitions).await?;
    declare_all(declaring, partitions).await.map_err(|error| {
        if is_precondition_failed(&error) {
            other_properties(&error)
        } else {
            AmqpError::while_doing("declaring exchanges and queues", &error)
        }
    })
}

/// Whether the stream is there, [`ARCHIVE`] or [`JOURNAL`].
pub(super) async fn presence(open: &Open, stream: &str) -> lapin::Result<Presence> {
    // In this order: a process that starts at the same time declares the stream before the mark.
    let was_declared = is_exchange_there(open.create_channel().await?, &mark_of(stream)).await?;
    Ok(match (is_queue_there(open, stream).await?, was_declared) {
        (true, _) => Presence::Present,
        (false, true) => Presence::Deleted,
        (false, false) => Presence::New,
    })
}

/// The archive, and its place behind the intake. The channel is not usable after an error.
pub(super) async fn declare_archive(declaring: &mut Declaring<'_>) -> lapin::Result<()> {
    let age = AMQPValue::LongString(ARCHIVE_AGE.into());
    stream(declaring, ARCHIVE, "x-max-age", age).await?;
    bind(&declaring.channel, ARCHIVE, INTAKE, "").await?;
    mark(declaring, ARCHIVE).await
}

/// The journal. The channel is not usable after an error.
pub(super) async fn declare_journal(declaring: &mut Declaring<'_>) -> lapin::Result<()> {
    let bytes = AMQPValue::LongLongInt(JOURNAL_BYTES);
    stream(declaring, JOURNAL, "x-max-length-bytes", bytes).await?;
    mark(declaring, JOURNAL).await
}

/// An unused exchange says that the stream was declared: if that is missing later, it was deleted, with all that it held.
fn mark_of(stream: &str) -> String {
    format!("{stream}.declared")
}

async fn mark(declaring: &Declaring<'_>, stream: &str) -> lapin::Result<()> {
    let mark = mark_of(stream);
    exchange(&declaring.channel, &mark, ExchangeKind::Fanout, None).await
}

/// The error of something that exists with other properties.
pub(super) fn other_properties(error: &lapin::Error) -> AmqpError {
    AmqpError::Misconfigured(format!(
        "an exchange or queue of revwatch exists in RabbitMQ with other properties than required \
         (delete it if it is empty, or use another virtual host): {}",
        said(error)
    ))
}

/// Fails if the virtual host was set up for another number of partitions. Makes nothing.
pub(super) async fn compare_partitions(
    connection: &Connection,
    partitions: u32,
) -> Result<(), AmqpError> {
    let failed = |error| AmqpError::while_doing("comparing the number of partitions", &error);
    let looking = connection.create_channel().await.map_err(failed)?;
    let is_set_up = is_exchange_there(looking, PARTITIONS).await;
    if !is_set_up.map_err(failed)? {
        return Ok(());
    }
    // Declaring what is there compares it.
    let comparing = connection.create_channel().await.map_err(failed)?;
    agree_on_partitions(&comparing, partitions).await
}

async fn agree_on_partitions(channel: &Channel, partitions: u32) -> Result<(), AmqpError> {
    let mark = format!("{PARTITIONS}.{partitions}");
    match exchange(channel, PARTITIONS, ExchangeKind::Fanout, Some(mark)).await {
        Ok(()) => Ok(()),
        Err(error) if is_precondition_failed(&error) => {
            Err(AmqpError::Misconfigured(match marked(&error.to_string()) {
                Some(existing) => format!(
                    "this RabbitMQ virtual host was set up for {existing} partitions, not {partitions}: \
                 set `partitions = {existing}` (REVWATCH_PARTITIONS={existing}), or use another virtual host"
                ),
                None => format!(
                    "this RabbitMQ virtual host was set up for another number of partitions: {}",
                    said(&error)
                ),
            }))
        }
        Err(error) => Err(AmqpError::while_doing(
            "declaring exchanges and queues",
            &error,
        )),
    }
}

/// The number of partitions in RabbitMQ's "… but current is 'revwatch.partitions.8'".
fn marked(error: &str) -> Option<u32> {
    let (_, rest) = error.rsplit_once(&format!("current is '{PARTITIONS}."))?;
    rest.split(|c: char| !c.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}

async fn declare_all(declaring: &mut Declaring<'_>, partitions: u32) -> lapin::Result<()> {
    exchange(&declaring.channel, UNROUTABLE, ExchangeKind::Fanout, None).await?;
    quorum_queue(declaring, UNROUTABLE, FieldTable::default()).await?;
    bind(&declaring.channel, UNROUTABLE, UNROUTABLE, "").await?;

    exchange(&declaring.channel, DEAD, ExchangeKind::Fanout, None).await?;
    quorum_queue(declaring, DEAD, FieldTable::default()).await?;
    bind(&declaring.channel, DEAD, DEAD, "").await?;

    exchange(&declaring.channel, PARKED, ExchangeKind::Fanout, None).await?;
    quorum_queue(declaring, PARKED, FieldTable::default()).await?;
    bind(&declaring.channel, PARKED, PARKED, "").await?;

    let mut last_alone = FieldTable::default();
    last_alone.insert("x-max-length".into(), AMQPValue::LongInt(1));
    quorum_queue(declaring, PROBE, last_alone).await?;

    exchange(
        &declaring.channel,
        EVENTS,
        ExchangeKind::Direct,
        Some(UNROUTABLE.to_owned()),
    )
    .await?;
    for partition in 0..partitions {
        let queue = partition_queue(partition);
        quorum_queue(declaring, &queue, dead_letters_to(DEAD)).await?;
        bind(&declaring.channel, &queue, EVENTS, &routing_key(partition)).await?;
    }

    // Last: once a message can be published, it can be routed.
    exchange(&declaring.channel, INTAKE, ExchangeKind::Fanout, None).await?;
    let options = ExchangeBindOptions::default();
    declaring
        .channel
        .exchange_bind(
            EVENTS.into(),
            INTAKE.into(),
            "".into(),
            options,
            FieldTable::default(),
        )
        .await
}

async fn is_queue_there(open: &Open, name: &str) -> lapin::Result<bool> {
    let channel = open.create_channel().await?;
    let options = QueueDeclareOptions::default().passive();
    let found = channel
        .queue_declare(name.into(), options, FieldTable::default())
        .await;
    is_there(&channel, found.map(drop)).await
}

async fn is_exchange_there(channel: Channel, name: &str) -> lapin::Result<bool> {
    let options = ExchangeDeclareOptions {
        passive: true,
        ..Default::default()
    };
    let (kind, arguments) = (ExchangeKind::Fanout, FieldTable::default());
    let found = channel
        .exchange_declare(name.into(), kind, options, arguments)
        .await;
    is_there(&channel, found).await
}

/// What a passive declaration on `channel` found. The channel has ended if it found nothing.
async fn is_there(channel: &Channel, found: lapin::Result<()>) -> lapin::Result<bool> {
    match found {
        Ok(()) => {
            // It closes when it is dropped, too.
            let _ = channel.close(200, "done".into()).await;
            Ok(true)
        }
        Err(error) if is_missing(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

async fn exchange(
    channel: &Channel,
    name: &str,
    kind: ExchangeKind,
    alternate_exchange: Option<String>,
) -> lapin::Result<()> {
    let mut arguments = FieldTable::default();
    if let Some(alternate) = alternate_exchange {
        arguments.insert(
            "alternate-exchange".into(),
            AMQPValue::LongString(alternate.into()),
        );
    }
    let options = ExchangeDeclareOptions {
        durable: true,
        ..Default::default()
    };
    channel
        .exchange_declare(name.into(), kind, options, arguments)
        .await
}

async fn quorum_queue(
    declaring: &mut Declaring<'_>,
    name: &str,
    mut arguments: FieldTable,
) -> lapin::Result<()> {
    arguments.insert(
        "x-queue-type".into(),
        AMQPValue::LongString("quorum".into()),
    );
    arguments.insert(
        "x-delivery-limit".into(),
        AMQPValue::LongInt(DELIVERY_LIMIT),
    );
    declaring.queue(name, arguments).await
}

/// The arguments of a queue whose rejected messages go to `exchange`.
fn dead_letters_to(exchange: &str) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert(
        "x-dead-letter-exchange".into(),
        AMQPValue::LongString(exchange.into()),
    );
    // Without these two RabbitMQ moves dead letters at most once: it may lose them.
    arguments.insert(
        "x-dead-letter-strategy".into(),
        AMQPValue::LongString("at-least-once".into()),
    );
    arguments.insert(
        "x-overflow".into(),
        AMQPValue::LongString("reject-publish".into()),
    );
    arguments
}

async fn stream(
    declaring: &mut Declaring<'_>,
    name: &str,
    limit: &str,
    at: AMQPValue,
) -> lapin::Result<()> {
    let mut arguments = FieldTable::default();
    arguments.insert(
        "x-queue-type".into(),
        AMQPValue::LongString("stream".into()),
    );
    arguments.insert(limit.into(), at);
    arguments.insert(
        "x-stream-max-segment-size-bytes".into(),
        AMQPValue::LongLongInt(SEGMENT_BYTES),
    );
    declaring.queue(name, arguments).await
}

async fn bind(channel: &Channel, queue: &str, exchange: &str, key: &str) -> lapin::Result<()> {
    let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
    channel
        .queue_bind(
            queue.into(),
            exchange.into(),
            key.into(),
            options,
            arguments,
        )
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_partitions_read_back() {
        assert_eq!(partition_queue(12), "revwatch.events.p12");
        assert_eq!(partition_of(&routing_key(12)), Some(12));
        assert_eq!(
            [
                partition_of("12"),
                partition_of("px"),
                partition_of("p-1"),
                partition_of("")
            ],
            [None; 4]
        );
    }

    #[test]
    fn the_existing_number_of_partitions_is_read_from_rabbitmqs_answer() {
        let said = "PRECONDITION_FAILED - inequivalent arg 'alternate-exchange' for exchange 'revwatch.partitions' in \
                    vhost '/': received 'revwatch.partitions.16' but current is 'revwatch.partitions.8'";
        assert_eq!(marked(said), Some(8));
        assert_eq!(marked("PRECONDITION_FAILED - something else"), None);
    }
}
