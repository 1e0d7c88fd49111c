//! One connection to RabbitMQ: opened when needed, together with exchanges and queues, and opened again
//! after it was lost or after an exchange or queue turned out to be missing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Event};
use revwatch_core::clock::{Clock as _, Ids as _};
use tokio::sync::watch;

use super::broker::{Broker, Node};
use super::error::{AmqpError, is_precondition_failed, said, soft_or_hard};
use super::topology::{self, Declaring, Presence};
use super::{message, transport};
use crate::gaps::Gap;
use crate::reconnecting::Reconnecting;
use crate::server_url;
use crate::system::{SystemClock, SystemIds};

/// See the module.
pub(super) struct Link {
    broker: Arc<Broker>,
    role: &'static str,
    slot: Reconnecting<Open, AmqpError>,
    /// Why the first connection fails is said once, by the start or the command that ends with it.
    was_open: Arc<AtomicBool>,
}

/// An open connection. It closes when its last holder drops it.
pub(super) struct Open {
    connection: Connection,
    /// The reason why RabbitMQ accepts no messages at present.
    blocked: watch::Receiver<Option<String>>,
    /// Of the node.
    address: String,
}

/// For any request that a healthy RabbitMQ answers at once.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// For connecting and declaring everything, the first time too, however many nodes there are.
const OPEN_TIMEOUT: Duration = Duration::from_secs(60);
/// The same at one node.
const NODE_TIMEOUT: Duration = Duration::from_secs(30);
/// For connecting to a node. One that is silent is passed over.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// For declaring one stream.
const STREAM_TIMEOUT: Duration = Duration::from_secs(10);
/// The name of a connection on which a stream is created: RabbitMQ closes it if it cannot.
const APART: &str = "declaring";
const MAX_BACKOFF: Duration = Duration::from_secs(3);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

impl Link {
    /// Connects at the first use. `role` names this connection of the process.
    pub(super) fn new(broker: Arc<Broker>, role: &'static str) -> Self {
        let name = format!("the {role} connection to RabbitMQ at {}", broker.address);
        Self {
            broker,
            role,
            slot: Reconnecting::new(name, Open::usable, MAX_BACKOFF),
            was_open: Arc::default(),
        }
    }

    /// The connection, opened within `within` if necessary.
    pub(super) async fn open(&self, within: Duration) -> Result<Arc<Open>, AmqpError> {
        let (broker, role) = (Arc::clone(&self.broker), self.role);
        let was_open = Arc::clone(&self.was_open);
        self.slot
            .get(within, || opening(broker, role, was_open).boxed())
            .await
    }

    /// Makes the next caller connect and declare again. Holders of `open` may finish with it.
    pub(super) fn discard(&self, open: &Arc<Open>) {
        self.slot.discard(open);
    }

    /// A fresh channel on `open`.
    pub(super) async fn channel(&self, open: &Arc<Open>) -> Result<Channel, AmqpError> {
        self.request(open, "opening a channel", open.connection.create_channel())
            .await
    }

    /// A fresh channel on `open` on which publishes are confirmed.
    pub(super) async fn confirming_channel(&self, open: &Arc<Open>) -> Result<Channel, AmqpError> {
        let channel = self.channel(open).await?;
        self.request(
            open,
            "enabling confirms",
            channel.confirm_select(ConfirmSelectOptions::default()),
        )
        .await?;
        Ok(channel)
    }

    /// How many messages are ready in `queue`.
    pub(super) async fn count(
        &self,
        open: &Arc<Open>,
        channel: &Channel,
        queue: &str,
    ) -> Result<u64, AmqpError> {
        let declare = channel.queue_declare(
            queue.into(),
            QueueDeclareOptions::default().passive(),
            FieldTable::default(),
        );
        Ok(u64::from(
            self.request(open, &format!("counting {queue}"), declare)
                .await?
                .message_count(),
        ))
    }

    /// Awaits the response to a request on `open`. Without a successful response in time the connection is
    /// discarded.
    pub(super) async fn request<T>(
        &self,
        open: &Arc<Open>,
        doing: &str,
        request: impl Future<Output = lapin::Result<T>>,
    ) -> Result<T, AmqpError> {
        let failure = match tokio::time::timeout(REQUEST_TIMEOUT, request).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => AmqpError::while_doing(doing, &error),
            Err(_) => AmqpError::unavailable(format!(
                "{doing}: no response from {} within {REQUEST_TIMEOUT:?}",
                open.address
            )),
        };
        self.discard(open);
        Err(failure)
    }

    /// Ends the connection and all further use, within a bounded time.
    pub(super) async fn close(&self) {
        if let Some(open) = self.slot.close() {
            // lapin awaits the response of a broker that may be gone.
            let _ = tokio::time::timeout(
                CLOSE_TIMEOUT,
                open.connection.close(200, "closed by revwatch".into()),
            )
            .await;
        }
    }
}

impl Open {
    /// A fresh channel. Unlike [`Link::channel`], a failure does not discard the connection.
    pub(super) async fn create_channel(&self) -> lapin::Result<Channel> {
        self.connection.create_channel().await
    }

    /// Whether the connection is open and its blocked state is known.
    pub(super) fn usable(&self) -> bool {
        self.connection.status().connected() && self.blocked.has_changed().is_ok()
    }

    /// Fails while RabbitMQ accepts no messages because it is low on memory or disk.
    pub(super) fn ensure_unblocked(&self) -> Result<(), AmqpError> {
        self.blocked
            .borrow()
            .as_deref()
            .map_or(Ok(()), |reason| Err(blocked(reason)))
    }

    /// Returns once RabbitMQ accepts no messages.
    pub(super) async fn until_blocked(&self) -> AmqpError {
        let mut changes = self.blocked.clone();
        let reason = changes
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|reason| reason.clone());
        match reason {
            Some(reason) => blocked(&reason),
            // The connection is lost; lapin reports it to its users.
            None => std::future::pending().await,
        }
    }
}

fn blocked(reason: &str) -> AmqpError {
    AmqpError::unavailable(format!("RabbitMQ accepts no messages at present: {reason}"))
}

async fn opening(
    broker: Arc<Broker>,
    role: &'static str,
    was_open: Arc<AtomicBool>,
) -> Result<Open, AmqpError> {
    let opened = tokio::time::timeout(OPEN_TIMEOUT, connect_and_declare(&broker, role))
        .await
        .unwrap_or_else(|_| {
            Err(AmqpError::unavailable(format!(
                "RabbitMQ at {} (REVWATCH_AMQP_URL) did not answer within {OPEN_TIMEOUT:?}",
                broker.address
            )))
        });
    match &opened {
        Ok(open) => {
            was_open.store(true, Ordering::Relaxed);
            tracing::info!(
                address = open.address,
                connection = role,
                "connected to RabbitMQ"
            );
        }
        Err(_) if !was_open.load(Ordering::Relaxed) => {}
        Err(error) => {
            tracing::warn!(address = broker.address, connection = role, %error, "cannot connect to RabbitMQ");
        }
    }
    opened
}

/// Connects to each node, and logs in; declares nothing. Fails if none of them answers; else returns why others do not.
pub(super) async fn probe(broker: &Broker) -> Result<Vec<String>, AmqpError> {
    let asking = broker.nodes.iter().map(|node| probe_node(broker, node));
    let mut silent = Vec::new();
    for answer in futures_util::future::join_all(asking).await {
        match answer {
            Ok(()) => {}
            // The other nodes say the same.
            Err(error @ AmqpError::Misconfigured(_)) => return Err(error),
            Err(error) => silent.push(error.to_string()),
        }
    }
    match silent.len() == broker.nodes.len() {
        true => Err(AmqpError::unavailable(silent.join("; "))),
        false => Ok(silent),
    }
}

async fn probe_node(broker: &Broker, node: &Node) -> Result<(), AmqpError> {
    let connection = connect(broker, node, "probe", CONNECT_TIMEOUT).await?;
    let compared = topology::compare_partitions(&connection, broker.partitions).await;
    // What it would answer is of no interest.
    let closing = connection.close(200, "closed by revwatch".into());
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, closing).await;
    compared
}

/// Connects to the first node that answers.
async fn connect_and_declare(broker: &Broker, role: &str) -> Result<Open, AmqpError> {
    let mut failed = None;
    for (at, node) in broker.in_turn() {
        let connecting = async {
            let open = connect_to(broker, node, role).await?;
            declare(broker, node, &open).await?;
            Ok(open)
        };
        let connected = tokio::time::timeout(NODE_TIMEOUT, connecting)
            .await
            .unwrap_or_else(|_| Err(silent(node, NODE_TIMEOUT)));
        match connected {
            Ok(open) => {
                broker.prefer(at);
                return Ok(open);
            }
            // The other nodes say the same.
            Err(error @ AmqpError::Misconfigured(_)) => return Err(error),
            Err(error) => failed = Some(error),
        }
    }
    Err(failed.unwrap_or_else(no_node))
}

async fn connect_to(broker: &Broker, node: &Node, role: &str) -> Result<Open, AmqpError> {
    let connection = connect(broker, node, role, CONNECT_TIMEOUT).await?;
    let (block_sender, blocked) = watch::channel(None);
    let events = connection.events_listener();
    tokio::spawn(watch_for_blocks(events, block_sender));
    Ok(Open {
        connection,
        blocked,
        address: node.address.clone(),
    })
}

async fn declare(broker: &Broker, node: &Node, open: &Open) -> Result<(), AmqpError> {
    let opening = |error| AmqpError::while_doing("opening a channel", &error);
    let declaring = Declaring::new(open, &broker.unplaced).await;
    topology::declare(&mut declaring.map_err(opening)?, broker.partitions).await?;
    declare_streams(broker, node, open).await
}

/// A stream that is out of order must not stop the rest: what needs it fails by itself.
async fn declare_streams(broker: &Broker, node: &Node, open: &Open) -> Result<(), AmqpError> {
    let (archive, journal) = tokio::join!(
        declare_stream(
            topology::ARCHIVE,
            find_or_declare_archive(broker, node, open)
        ),
        declare_stream(
            topology::JOURNAL,
            find_or_declare_journal(broker, node, open)
        ),
    );
    if let Some(reason) = archive? {
        broker.archiving.fails(&reason);
    }
    journal.map(drop)
}

async fn find_or_declare_archive(
    broker: &Broker,
    node: &Node,
    open: &Open,
) -> Result<(), AmqpError> {
    match presence(open, topology::ARCHIVE).await? {
        Presence::Present => declare_archive(broker, open).await,
        Presence::New => declare_archive(broker, &connect_to(broker, node, APART).await?).await,
        // What is missing with it is written down first, see `archiving`.
        Presence::Deleted => {
            broker.archiving.suspect();
            Ok(())
        }
    }
}

async fn find_or_declare_journal(
    broker: &Broker,
    node: &Node,
    open: &Open,
) -> Result<(), AmqpError> {
    let apart;
    let found = presence(open, topology::JOURNAL).await?;
    if found == Presence::Deleted {
        tracing::error!(
            "RabbitMQ's stream {} was deleted, with all that it held: the audit trail, and what a store that loses its data \
             is restored from (alerts, silences, acknowledgements, pauses, gaps of the archive). It is declared again",
            topology::JOURNAL
        );
    }
    let on = if found == Presence::Present {
        open
    } else {
        apart = connect_to(broker, node, APART).await?;
        &apart
    };
    let declaring =
        async { topology::declare_journal(&mut Declaring::new(on, &broker.unplaced).await?).await };
    asked(topology::JOURNAL, declaring).await?;
    if found == Presence::Deleted {
        // What it said of the archive is not known any more, and no rebuild may rely on that nothing is missing.
        let now_ms = SystemClock.now_ms();
        let line = Gap::of_lost_journal(now_ms).line(&SystemIds.fresh().to_string(), now_ms);
        let body = serde_json::to_vec(&line).unwrap_or_default();
        store_in(on, topology::JOURNAL, message::journal_properties(), &body).await?;
    }
    Ok(())
}

/// Publishes one message directly to a queue, on a channel of its own, because a channel ends with an error.
pub(super) async fn store_in(
    open: &Open,
    queue: &str,
    properties: BasicProperties,
    body: &[u8],
) -> Result<(), AmqpError> {
    let storing = async {
        let channel = open.create_channel().await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        let options = BasicPublishOptions {
            mandatory: true,
            ..Default::default()
        };
        let publishing = channel.basic_publish("".into(), queue.into(), options, body, properties);
        let confirm = publishing.await?.await?;
        // It closes when it is dropped, too.
        let _ = channel.close(200, "done".into()).await;
        Ok(confirm)
    };
    match asked(queue, storing).await? {
        Confirmation::Ack(None) => Ok(()),
        _ => Err(AmqpError::unavailable(
            "RabbitMQ could not store a message in it".to_owned(),
        )),
    }
}

/// Declares the archive, which changes nothing if it exists.
pub(super) async fn declare_archive(broker: &Broker, open: &Open) -> Result<(), AmqpError> {
    let declaring = async {
        topology::declare_archive(&mut Declaring::new(open, &broker.unplaced).await?).await
    };
    asked(topology::ARCHIVE, declaring).await
}

/// Returns why the stream cannot be used; an error if a setting has to be changed.
async fn declare_stream(
    name: &str,
    declaring: impl Future<Output = Result<(), AmqpError>>,
) -> Result<Option<String>, AmqpError> {
    let reason = match tokio::time::timeout(STREAM_TIMEOUT, declaring).await {
        Ok(Ok(())) => return Ok(None),
        Ok(Err(error @ AmqpError::Misconfigured(_))) => return Err(error),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("declaring {name}: no answer within {STREAM_TIMEOUT:?}"),
    };
    tracing::error!(stream = name, reason, "a stream of RabbitMQ cannot be used");
    Ok(Some(reason))
}

/// Whether the stream is there.
pub(super) async fn presence(open: &Open, stream: &str) -> Result<Presence, AmqpError> {
    asked(stream, topology::presence(open, stream)).await
}

/// What RabbitMQ answers to a declaration of a stream, or to the question whether it is there.
async fn asked<T>(
    stream: &str,
    asking: impl Future<Output = lapin::Result<T>>,
) -> Result<T, AmqpError> {
    asking
        .await
        .map_err(|error| match is_precondition_failed(&error) {
            true => topology::other_properties(&error),
            false => AmqpError::while_doing(&format!("declaring {stream}"), &error),
        })
}

/// Connects to this node, and logs in.
async fn connect(
    broker: &Broker,
    node: &Node,
    role: &str,
    within: Duration,
) -> Result<Connection, AmqpError> {
    let properties = ConnectionProperties::default()
        .with_connection_name(format!("{} {role}", broker.name).into());
    let connecting = transport::connect(node.uri.clone(), properties);
    tokio::time::timeout(within, connecting)
        .await
        .map_err(|_| {
            // Not every service answers a greeting that it does not know.
            AmqpError::unavailable(format!(
                "{}: is it another service that listens there? AMQP has port 5672, with TLS 5671",
                silent(node, within)
            ))
        })?
        .map_err(|error| connect_failure(node, &error))
}

/// Ends with the connection: lapin then drops the other side of `events`.
async fn watch_for_blocks(
    events: impl futures_util::Stream<Item = Event>,
    block_sender: watch::Sender<Option<String>>,
) {
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        match event {
            Event::ConnectionBlocked(reason) => {
                tracing::warn!(reason, "RabbitMQ accepts no messages at present");
                block_sender.send_replace(Some(reason));
            }
            Event::ConnectionUnblocked => {
                tracing::info!("RabbitMQ accepts messages again");
                block_sender.send_replace(None);
            }
            _ => {}
        }
    }
}

fn no_node() -> AmqpError {
    AmqpError::unavailable("there is no node".to_owned())
}

fn silent(node: &Node, within: Duration) -> AmqpError {
    let address = &node.address;
    AmqpError::unavailable(format!(
        "RabbitMQ at {address} (REVWATCH_AMQP_URL) did not answer within {within:?}"
    ))
}

fn connect_failure(node: &Node, error: &lapin::Error) -> AmqpError {
    use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
    let address = &node.address;
    match soft_or_hard(error) {
        Some(AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED)) => {
            AmqpError::Misconfigured(format!(
                "RabbitMQ at {address} refuses the user name or password in REVWATCH_AMQP_URL: check both, and {}",
                server_url::ESCAPES
            ))
        }
        Some(AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED))
            if lacks_virtual_host(&said(error)) =>
        {
            AmqpError::Misconfigured(format!(
                "RabbitMQ at {address} has no virtual host {vhost:?} that this user may use (it is the end of REVWATCH_AMQP_URL; \
             without one it is \"/\"): name another, or run `rabbitmqctl add_vhost {vhost}` and `rabbitmqctl \
             set_permissions -p {vhost} USER '.*' '.*' '.*'`",
                vhost = node.uri.vhost
            ))
        }
        _ => AmqpError::unreachable(
            &format!("RabbitMQ at {address} (REVWATCH_AMQP_URL)"),
            node.uri.scheme == lapin::uri::AMQPScheme::AMQPS,
            error,
        ),
    }
}

/// Whether RabbitMQ's reply says that the virtual host is missing or not the user's, which is so at all nodes. It gives
/// the same code when a node, the virtual host or the user has as many connections as it may, or when it cannot ask.
fn lacks_virtual_host(reply: &str) -> bool {
    let reply = reply.trim_end();
    let is_missing = reply.starts_with("vhost ") && reply.ends_with(" not found");
    // Followed by a reason, it is another one.
    let is_refused = reply.starts_with("access to vhost ") && reply.ends_with('\'');
    is_missing || is_refused
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;

    #[tokio::test]
    async fn an_unreachable_server_is_named_with_its_setting_and_without_the_password() {
        for (hosts, named) in [
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("127.0.0.1:1,127.0.0.1:2", "127.0.0.1:"),
        ] {
            let url = SecretString::from(format!("amqp://u:s3cret@{hosts}"));
            let broker = Broker::new(&url, "test".into(), 8).expect("a URL");
            let Err(error) = connect_and_declare(&broker, "test").await else {
                panic!("nothing listens on these ports")
            };
            let text = error.to_string();
            assert!(
                text.starts_with(&format!("RabbitMQ at {named}"))
                    && text
                        .contains(" (REVWATCH_AMQP_URL) cannot be reached: nothing listens there"),
                "{text}"
            );
            assert!(!text.contains("s3cret"), "{text}");
        }
    }

    /// The texts are those of RabbitMQ 3.10 to 4.2.
    #[test]
    fn only_a_virtual_host_that_is_missing_or_refused_is_a_wrong_setting() {
        for (reply, expected) in [
            ("vhost revenue not found", true),
            ("access to vhost 'revenue' refused for user 'u'", true),
            (
                "access to vhost 'revenue' refused for user 'u': connection limit (9) is reached",
                false,
            ),
            (
                "access to vhost 'revenue' refused for user 'u': connection limit cannot be queried, timeout",
                false,
            ),
            (
                "connection refused for user 'u': user connection limit (9) is reached",
                false,
            ),
            (
                "connection refused: node connection limit (9) is reached",
                false,
            ),
        ] {
            assert_eq!(lacks_virtual_host(reply), expected, "{reply}");
        }
    }

    #[tokio::test]
    async fn a_probe_names_each_node_that_does_not_answer() {
        let url = SecretString::from("amqp://u:s3cret@127.0.0.1:1,127.0.0.1:2");
        let broker = Broker::new(&url, "test".into(), 1).expect("a URL");
        let error = probe(&broker).await.expect_err("nothing listens there");
        let text = error.to_string();
        assert!(
            text.contains("127.0.0.1:1 ") && text.contains("127.0.0.1:2 "),
            "{text}"
        );
    }
}
