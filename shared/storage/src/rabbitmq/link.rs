//! One connection to RabbitMQ: opened when needed, together with exchanges and queues, and opened again
//! after it was lost or after an exchange or queue turned out to be missing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use lapin::options::{ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::uri::AMQPUri;
use lapin::{Channel, Connection, ConnectionProperties, Event};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::watch;

use super::error::{AmqpError, soft_or_hard};
use super::{topology, transport};
use crate::reconnecting::Reconnecting;
use crate::server_url;

/// The address of RabbitMQ and the expected deployment. Not `Debug`: it holds the password.
pub(super) struct Broker {
    uri: AMQPUri,
    /// `host:port`, for messages.
    pub(super) address: String,
    /// Shown in RabbitMQ's list of connections.
    name: String,
    pub(super) partitions: u32,
}

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
}

/// For any request that a healthy RabbitMQ answers at once.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// For connecting and declaring everything, the first time too.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);
const TCP_CONNECT_MS: u64 = 5_000;
/// A silent peer is detected after about twice this time.
const HEARTBEAT_SECONDS: u16 = 10;
/// lapin has 32 frames of memory in each direction: with RabbitMQ's own 128 KiB, 8 MiB for each connection. A webhook
/// fits as a rule; what does not is sent in several frames.
const FRAME_BYTES: u32 = 32 * 1024;
const MAX_BACKOFF: Duration = Duration::from_secs(3);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

impl Broker {
    /// Parses the URL. Errors do not repeat it.
    pub(super) fn new(
        url: &SecretString,
        name: String,
        partitions: u32,
    ) -> Result<Self, AmqpError> {
        let bad = |why: &str| {
            AmqpError::Misconfigured(format!(
                "amqp_url (REVWATCH_AMQP_URL) {why}; write it like amqp://user:password@host:5672/virtual-host"
            ))
        };
        let text = url.expose_secret();
        let parsed = url::Url::parse(text).ok();
        if let Some(why) = wrong(text, parsed.as_ref()) {
            return Err(bad(why));
        }
        // The parser's own message can repeat the URL, password included.
        let not_a_url = || bad("is not a URL of RabbitMQ");
        let parsed = parsed.ok_or_else(not_a_url)?;
        let mut uri: AMQPUri = text.parse().map_err(|_| not_a_url())?;
        // It also takes an IPv6 address for "localhost" …
        if let Some(url::Host::Ipv6(address)) = parsed.host() {
            uri.authority.host = address.to_string();
        }
        // … and a closing slash for a virtual host without a name.
        if uri.vhost.is_empty() {
            "/".clone_into(&mut uri.vhost);
        }
        uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
        uri.query.frame_max.get_or_insert(FRAME_BYTES);
        uri.query.connection_timeout.get_or_insert(TCP_CONNECT_MS);
        let address = match parsed.host() {
            Some(url::Host::Ipv6(address)) => format!("[{address}]:{}", uri.authority.port),
            _ => format!("{}:{}", uri.authority.host, uri.authority.port),
        };
        Ok(Self {
            uri,
            address,
            name,
            partitions,
        })
    }
}

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
                self.broker.address
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
        Ok(_) => {
            was_open.store(true, Ordering::Relaxed);
            tracing::info!(
                address = broker.address,
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

/// Connects and logs in; declares nothing.
pub(super) async fn probe(broker: &Broker) -> Result<(), AmqpError> {
    let connection = connect(broker, "probe").await?;
    // What it would answer is of no interest.
    let closing = connection.close(200, "closed by revwatch".into());
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, closing).await;
    Ok(())
}

async fn connect_and_declare(broker: &Broker, role: &str) -> Result<Open, AmqpError> {
    let connection = connect(broker, role).await?;
    let (block_sender, blocked) = watch::channel(None);
    let events = connection.events_listener();
    tokio::spawn(watch_for_blocks(events, block_sender));
    let channel = connection
        .create_channel()
        .await
        .map_err(|error| AmqpError::while_doing("opening a channel", &error))?;
    topology::declare(&channel, broker.partitions).await?;
    Ok(Open {
        connection,
        blocked,
    })
}

async fn connect(broker: &Broker, role: &str) -> Result<Connection, AmqpError> {
    let properties = ConnectionProperties::default()
        .with_connection_name(format!("{} {role}", broker.name).into());
    // Not every service answers a greeting that it does not know.
    let connecting = transport::connect(broker.uri.clone(), properties);
    tokio::time::timeout(REQUEST_TIMEOUT, connecting)
        .await
        .map_err(|_| {
            AmqpError::unavailable(format!(
                "RabbitMQ at {} (REVWATCH_AMQP_URL) did not answer within {REQUEST_TIMEOUT:?}: is it another service that \
                 listens there? AMQP has port 5672, with TLS 5671",
                broker.address
            ))
        })?
        .map_err(|error| connect_failure(broker, &error))
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

/// What people write instead of a URL of RabbitMQ; `parsed` is the URL, if it is one.
fn wrong(text: &str, parsed: Option<&url::Url>) -> Option<&'static str> {
    let (scheme, _) = text.split_once("://").unwrap_or_default();
    match scheme {
        "amqp" | "amqps" if server_url::is_unescaped(text) => Some(
            "has characters in its user or password that end the URL: write / ? # @ : and % there like %2F %3F %23 %40 \
             %3A and %25",
        ),
        "amqp" | "amqps" => match parsed?.port() {
            Some(15_672 | 15_671) => {
                Some("has the port of RabbitMQ's web pages: AMQP has 5672, with TLS 5671")
            }
            Some(6379 | 6380 | 26_379) => Some(
                "has a port of Redis: the URL of Redis belongs into redis_url (REVWATCH_REDIS_URL)",
            ),
            _ => None,
        },
        scheme if scheme.starts_with("redis") => {
            Some("is a URL of Redis: that belongs into redis_url (REVWATCH_REDIS_URL)")
        }
        _ => Some("must begin with amqp:// or amqps://"),
    }
}

fn connect_failure(broker: &Broker, error: &lapin::Error) -> AmqpError {
    use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
    let address = &broker.address;
    match soft_or_hard(error) {
        Some(AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED)) => {
            AmqpError::Misconfigured(format!(
                "RabbitMQ at {address} refuses the user name or password in REVWATCH_AMQP_URL: check both, and {}",
                server_url::ESCAPES
            ))
        }
        Some(AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED)) => AmqpError::Misconfigured(format!(
            "RabbitMQ at {address} has no virtual host {vhost:?} that this user may use (it is the end of REVWATCH_AMQP_URL; \
             without one it is \"/\"): name another, or run `rabbitmqctl add_vhost {vhost}` and `rabbitmqctl \
             set_permissions -p {vhost} USER '.*' '.*' '.*'`",
            vhost = broker.uri.vhost
        )),
        _ => AmqpError::unreachable(&format!("RabbitMQ at {address} (REVWATCH_AMQP_URL)"), error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broker(url: &str) -> Result<Broker, AmqpError> {
        Broker::new(&SecretString::from(url), "test".into(), 8)
    }

    #[test]
    fn reads_urls_as_people_write_them() {
        let table = [
            ("amqp://rabbit.internal", "rabbit.internal:5672", "/"),
            ("amqp://rabbit.internal/", "rabbit.internal:5672", "/"),
            (
                "amqp://u:p@10.0.0.1:5673/revenue",
                "10.0.0.1:5673",
                "revenue",
            ),
            (
                "amqps://u:p@rabbit.internal/%2f",
                "rabbit.internal:5671",
                "/",
            ),
            ("amqp://u:p@[::1]:5673/x", "[::1]:5673", "x"),
        ];
        for (url, address, vhost) in table {
            let broker = broker(url).unwrap_or_else(|error| panic!("{url}: {error}"));
            assert_eq!(
                (broker.address.as_str(), broker.uri.vhost.as_str()),
                (address, vhost),
                "{url}"
            );
        }
        assert_eq!(
            broker("amqp://h?heartbeat=60")
                .expect("a URL")
                .uri
                .query
                .heartbeat,
            Some(60)
        );
        assert_eq!(
            broker("amqp://u:p@[::1]/")
                .expect("a URL")
                .uri
                .authority
                .host,
            "::1"
        );
    }

    #[tokio::test]
    async fn an_unreachable_server_is_named_with_its_setting_and_without_the_password() {
        let broker = broker("amqp://u:s3cret@127.0.0.1:1").expect("a URL");
        let Err(error) = connect_and_declare(&broker, "test").await else {
            panic!("nothing listens on port 1")
        };
        let text = error.to_string();
        assert!(
            text.starts_with("RabbitMQ at 127.0.0.1:1 (REVWATCH_AMQP_URL) cannot be reached: nothing listens there"),
            "{text}"
        );
        assert!(!text.contains("s3cret"), "{text}");
    }

    #[test]
    fn a_wrong_url_is_refused_without_naming_the_password() {
        let not_a_url = "is not a URL of RabbitMQ";
        for (url, expected) in [
            ("s3cret", "must begin with amqp://"),
            ("http://u:s3cret@host", "must begin with amqp://"),
            ("amqp:s3cret", "must begin with amqp://"),
            ("amqp://u:s3cret@host:99999", not_a_url),
            ("amqp://u:s3cret@h?heartbeat=x", not_a_url),
            ("amqp://u:s3cret#w@h/v", "like %2F %3F %23"),
            ("amqp://u:s3cret/w@h/v", "like %2F %3F %23"),
            ("redis://:s3cret@h/0", "is a URL of Redis"),
            ("amqp://u:s3cret@h:6379/v", "has a port of Redis"),
            (
                "amqp://u:s3cret@h:15672/v",
                "has the port of RabbitMQ's web pages",
            ),
        ] {
            let Err(AmqpError::Misconfigured(text)) = broker(url) else {
                panic!("{url} was accepted")
            };
            assert!(
                text.starts_with("amqp_url (REVWATCH_AMQP_URL) ")
                    && text.contains(expected)
                    && text.ends_with("write it like amqp://user:password@host:5672/virtual-host")
                    && !text.contains("s3cret"),
                "{text} should contain {expected}"
            );
        }
    }
}
