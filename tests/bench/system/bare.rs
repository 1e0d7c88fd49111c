//! The minimal parts that revwatch's work is compared with, as simple as possible: without
//! everything that revwatch adds. They use the same libraries and the same exchanges and queues.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use futures_util::StreamExt as _;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, QueuePurgeOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use revwatch_core::event::partition_of;
use revwatch_core::signature::{self, SigningKey};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::events::{self, SECRET};
use super::process::{cpu_s, print_line};

/// The minimal write of a commit.
pub(crate) const COMMIT: &str = include_str!("../prototype.lua");

const INTAKE: &str = "revwatch.intake";
const PARTITIONS: u32 = 8;

/// The fields that a minimal ingest must read of a body.
#[derive(Deserialize)]
struct Minimal<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
}

#[derive(Clone)]
struct Endpoint {
    key: Arc<[SigningKey; 1]>,
    outlet: Option<Arc<Outlet>>,
}

/// A channel with publisher confirms.
struct Outlet {
    channel: Channel,
    numbering: Mutex<()>,
}

/// axum, signature verification, and reading two fields.
pub(crate) async fn http() {
    serve(None).await;
}

/// The same, with valid webhooks published and confirmed before the response: the minimal work of
/// an ingest.
pub(crate) async fn ingest() {
    serve(Some(Arc::new(Outlet::open().await))).await;
}

async fn serve(outlet: Option<Arc<Outlet>>) {
    let endpoint = Endpoint {
        key: Arc::new([SigningKey::new(SECRET).expect("a secret")]),
        outlet,
    };
    let router = Router::new()
        .route("/webhooks/stripe", post(webhook))
        .with_state(endpoint);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    print_line(&serde_json::json!({"message": "listening", "listen": listener.local_addr().expect("an address")}).to_string());
    axum::serve(listener, router).await.expect("served");
}

async fn webhook(State(endpoint): State<Endpoint>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let header = headers
        .get("stripe-signature")
        .map(|value| value.as_bytes());
    let now_s = jiff::Timestamp::now().as_second();
    if signature::verify(
        &*endpoint.key,
        header,
        &body,
        now_s,
        signature::DEFAULT_TOLERANCE_S,
    )
    .is_err()
    {
        return StatusCode::BAD_REQUEST;
    }
    let Ok(minimal) = serde_json::from_slice::<Minimal<'_>>(&body) else {
        return StatusCode::BAD_REQUEST;
    };
    match &endpoint.outlet {
        None => StatusCode::OK,
        Some(outlet) => match outlet.publish(minimal.id, minimal.kind, &body).await {
            Confirmation::Ack(None) => StatusCode::OK,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        },
    }
}

impl Outlet {
    async fn open() -> Self {
        let channel = connect().await.create_channel().await.expect("a channel");
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await
            .expect("confirms");
        Self {
            channel,
            numbering: Mutex::new(()),
        }
    }

    async fn publish(&self, id: &str, kind: &str, body: &[u8]) -> Confirmation {
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_message_id(id.into())
            .with_type(kind.into());
        let key = format!("p{}", partition_of(id, PARTITIONS));
        let options = BasicPublishOptions {
            mandatory: true,
            ..Default::default()
        };
        // lapin numbers a publish and queues it in two steps.
        let one_at_a_time = self.numbering.lock().await;
        let confirm = self
            .channel
            .basic_publish(
                INTAKE.into(),
                key.as_str().into(),
                options,
                body,
                properties,
            )
            .await;
        drop(one_at_a_time);
        confirm.expect("published").await.expect("confirmed")
    }
}

/// A connection for the lifetime of the process.
async fn connect() -> &'static Connection {
    let url = variable("AMQP_URL");
    let connection = Connection::connect(&url, ConnectionProperties::default())
        .await
        .expect("a connection");
    Box::leak(Box::new(connection))
}

/// Publishes `COUNT` webhooks, 256 of them unconfirmed at any time.
pub(crate) async fn publish() {
    const OUTSTANDING: usize = 256;
    let count = number("COUNT");
    let now_s = jiff::Timestamp::now().as_second();
    let bodies = events::bodies(number("SEED") as u64, count, now_s);
    let outlet = Outlet::open().await;
    let measure = Measure::begin();
    let publishing = bodies.iter().map(|body| async {
        let minimal: Minimal<'_> = serde_json::from_str(body).expect("an event");
        assert_eq!(
            outlet
                .publish(minimal.id, minimal.kind, body.as_bytes())
                .await,
            Confirmation::Ack(None)
        );
    });
    futures_util::stream::iter(publishing)
        .buffer_unordered(OUTSTANDING)
        .for_each(|()| async {})
        .await;
    measure.end(count);
}

/// Reads `COUNT` deliveries, up to 64 at a time, and writes each to Redis: a deduplication key, a
/// stored body, a counter. The minimal work of a worker: it parses none.
pub(crate) async fn worker() {
    let client = redis::Client::open(variable("REDIS_URL")).expect("a URL");
    let store = client
        .get_multiplexed_async_connection()
        .await
        .expect("a Redis");
    let connection = connect().await;
    let left = Arc::new(AtomicU64::new(number("COUNT") as u64));
    let measure = Arc::new(std::sync::OnceLock::new());
    let mut partitions = tokio::task::JoinSet::new();
    for partition in 0..PARTITIONS {
        let channel = connection.create_channel().await.expect("a channel");
        partitions.spawn(drain(
            partition,
            channel,
            store.clone(),
            left.clone(),
            measure.clone(),
        ));
    }
    // The task that takes the last delivery ends; the others wait for more.
    partitions
        .join_next()
        .await
        .expect("a partition")
        .expect("no panic");
    let measure: &Measure = measure.get().expect("there was something");
    measure.end(number("COUNT"));
}

async fn drain(
    partition: u32,
    channel: Channel,
    mut store: redis::aio::MultiplexedConnection,
    left: Arc<AtomicU64>,
    measure: Arc<std::sync::OnceLock<Measure>>,
) {
    const BATCH: usize = 64;
    let script = redis::Script::new(COMMIT);
    channel
        .basic_qos(512, BasicQosOptions::default())
        .await
        .expect("a limit");
    let queue = format!("revwatch.events.p{partition}");
    let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
    let consumer = channel
        .basic_consume(queue.as_str().into(), "".into(), options, arguments)
        .await;
    let mut batches = consumer.expect("a consumer").ready_chunks(BATCH);
    while let Some(batch) = batches.next().await {
        measure.get_or_init(Measure::begin);
        let mut call = script.prepare_invoke();
        for name in ["marks", "entities", "counters"] {
            call.key(format!("prototype:{{p{partition}}}:{name}"));
        }
        let mut newest = 0;
        let count = batch.len() as u64;
        for delivery in batch {
            let delivery = delivery.expect("a delivery");
            newest = delivery.delivery_tag;
            let id = delivery
                .properties
                .message_id()
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default();
            call.arg(id)
                .arg(&delivery.data[..delivery.data.len().min(450)]);
        }
        let () = call.invoke_async(&mut store).await.expect("committed");
        channel
            .basic_ack(newest, BasicAckOptions { multiple: true })
            .await
            .expect("acknowledged");
        // More deliveries may be waiting, whose acknowledgement was lost with the process.
        if left.fetch_sub(count, Ordering::SeqCst) <= count {
            return;
        }
    }
}

/// Purges the queues.
pub(crate) async fn purge(url: &str) {
    let connection = Connection::connect(url, ConnectionProperties::default())
        .await
        .expect("a connection");
    let channel = connection.create_channel().await.expect("a channel");
    for partition in 0..PARTITIONS {
        let queue = format!("revwatch.events.p{partition}");
        channel
            .queue_purge(queue.as_str().into(), QueuePurgeOptions::default())
            .await
            .expect("purged");
    }
    connection.close(200, "done".into()).await.expect("closed");
}

/// The measurement of a part itself.
struct Measure {
    began: Instant,
    cpu_s: f64,
}

impl Measure {
    fn begin() -> Self {
        Self {
            began: Instant::now(),
            cpu_s: cpu_s(std::process::id()),
        }
    }

    fn end(&self, count: usize) {
        let (seconds, cpu_s) = (
            self.began.elapsed().as_secs_f64(),
            cpu_s(std::process::id()) - self.cpu_s,
        );
        let done = serde_json::json!({"message": "done", "count": count, "seconds": seconds, "cpu_s": cpu_s});
        print_line(&done.to_string());
    }
}

#[expect(clippy::disallowed_methods, reason = "not a setting of revwatch")]
fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"))
}

fn number(name: &str) -> usize {
    variable(name).parse().expect("a number")
}
