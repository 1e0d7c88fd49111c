//! revwatch's HTTP edge: receives webhooks, verifies them, and answers 2xx once the queue has
//! confirmed them.
//!
//! Order of checks: connection and header limits → path, method, content type → body limit →
//! signature over the raw bytes → envelope → publish → answer. The body is published
//! unchanged.
//!
//! Invariant: a 200 `stored` is sent only after [`Publish::publish`] returned `Ok`. Correctly
//! signed deliveries are never rate limited: only a refusal can become a 429.
//!
//! | status | `reason` (also the metric's `outcome`) | when |
//! |---|---|---|
//! | 200 | `stored` | the queue has confirmed it; a batch: all of it that is accepted |
//! | 400 | `signature_missing`, `signature_unreadable`, `signature_without_timestamp`, `signature_without_v1`, `signature_mismatch`, `signature_too_old` | the signature is missing or invalid |
//! | 400 | `invalid_json`, `not_an_event` | the signature is valid, but the body is not JSON, or lacks the fields that identify an event, or one of them is longer than 255 bytes, or the id is one that revwatch gives; of the application also, if the event is not after the schema of its type, or more than a day ahead |
//! | 400 | `incomplete_body` | the body ended early, or its chunks are malformed |
//! | 404 | `not_found` | no endpoint has this path |
//! | 405 | `method_not_allowed` | anything but POST (`Allow: POST`) |
//! | 408 | `timeout` | the body did not arrive within `limits.body_seconds` |
//! | 413 | `too_large` | the body is, or says it is, larger than `limits.body_bytes` |
//! | 415 | `unsupported_media_type` | there is a content type and it is not `application/json` (for the application also that of CloudEvents) |
//! | 429 | `limited` | replaces any refusal without a valid signature if the address (IPv6: the /64) had too many of them (`Retry-After`) |
//! | 503 | `signature_from_future` | the signature is valid, and later than this machine's clock by more than `limits.signature_tolerance_seconds` (`Retry-After`) |
//! | 503 | `unavailable` | the queue refused, or did not confirm within `limits.publish_seconds` (`Retry-After`) |
//! | 503 | `overloaded` | `limits.in_flight` deliveries are being published (`Retry-After`) |
//! | 503 | `body_budget` | incomplete large bodies fill `limits.unfinished_body_bytes`: this one did not fit, or was slow and was evicted (`Retry-After`) |
//!
//! Response bodies are JSON: `{"status":"stored"}` or `{"error":{"reason":"…","message":"…"}}`. About an event of the
//! application, an error has a `pointer` (RFC 6901) to what is wrong. A batch of such events is answered 200 with one of
//! both for each event, in their order: `{"events":[…]}`; or 503 for all, if the queue did not confirm all that are
//! accepted. Its events count as requests, each with its outcome.
//!
//! Connections that never become a request are counted too: [`public`] has their outcomes. Which
//! connections are closed when all places are taken is said there as well.
//!
//! The client address is the peer's or, if the peer is one of `trusted_proxies`, the address that
//! the proxy reports. Trusted proxies have no limit on connections of their own.
//!
//! A request is verified against the endpoints configured when it arrives. If its signature does
//! not match and a reload replaced the endpoints before the body was complete, it is verified
//! against the new ones too: its secret may be new.
//!
//! [`Publish::publish`]: revwatch_storage::ports::Publish::publish
//! [`public`]: revwatch_runtime::public

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Body;
use hyper::{Request, Response};
use revwatch_core::clock::{Clock, Ids};
use revwatch_runtime::config::{ConfigError, Endpoint, Limits, TrustedProxies};
use revwatch_runtime::listen::{ListenError, ListenSetting, listen};
use revwatch_runtime::open_files::connections_within_limit;
use revwatch_runtime::probe::Probe;
use revwatch_runtime::process::Process;
use revwatch_runtime::public::{self, Port};
use revwatch_runtime::telemetry::{Metrics, Tracer};
use revwatch_storage::ports::{Publish, QueueError};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::deadlines::Deadlines;
use crate::service::Edge;

mod answer;
mod deadlines;
mod publisher;
mod request_metrics;
mod request_span;
mod service;
mod verify;

/// What the edge needs; all values are ready to use.
pub struct Settings {
    /// The public address; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Proxies whose `X-Forwarded-For` names the client.
    pub trusted_proxies: TrustedProxies,
    /// The webhook endpoints; each has its own path.
    pub endpoints: Vec<Endpoint>,
    /// Sizes, counts and deadlines.
    pub limits: Limits,
    /// Where accepted deliveries go.
    pub queue: Arc<dyn Publish>,
    /// The wall clock: signatures expire, deliveries are stamped.
    pub clock: Arc<dyn Clock>,
    /// The ids of deliveries.
    pub ids: Arc<dyn Ids>,
    /// Where requests are counted.
    pub metrics: Metrics,
    /// Where spans are sent.
    pub tracer: Tracer,
}

/// The edge, bound but not yet serving.
pub struct Ingest {
    listener: TcpListener,
    local_addr: SocketAddr,
    port: Arc<Port>,
    edge: Arc<Edge>,
}

/// The edge without its listener: requests come from the caller and answers go back to it. A program
/// that has its own connections uses this, and so does a test without any.
pub struct Webhooks {
    port: Port,
    edge: Edge,
}

/// The edge cannot start until a setting is corrected.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The public address could not be opened.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// An endpoint is misconfigured.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A limit is out of range.
    #[error("limits.{name} must be {must}")]
    Limit {
        /// Key within `[limits]`.
        name: &'static str,
        /// The accepted range.
        must: &'static str,
    },
}

impl Webhooks {
    /// `settings.listen` is not used.
    pub fn new(settings: Settings) -> Result<Self, StartError> {
        let (port, edge) = parts(settings)?;
        Ok(Self { port, edge })
    }

    /// Answers one request of the client at `peer`. Cancelling it does not cancel a publish.
    pub async fn answer<B>(&self, peer: IpAddr, request: Request<B>) -> Response<Full<Bytes>>
    where
        B: Body<Data = Bytes> + Send + Unpin,
    {
        self.port.answer(&self.edge, peer, request).await
    }
}

/// Binds and serves until `shutdown`. Returns once accepted requests have finished or reached their
/// deadline.
pub async fn run(settings: Settings, shutdown: CancellationToken) -> Result<(), StartError> {
    Ingest::bind(settings).await?.serve(shutdown).await;
    Ok(())
}

impl Ingest {
    /// Opens the public listener with the settings of `process`; accepted deliveries go to `queue`.
    pub async fn of(process: &Process, queue: Arc<dyn Publish>) -> Result<Self, StartError> {
        let (probed, mut limits) = (queue.clone(), process.config.limits.clone());
        limits.connections = connections_within_limit(limits.connections);
        let ingest = Self::bind(Settings {
            listen: process.config.listen,
            trusted_proxies: process.config.trusted_proxies.clone(),
            endpoints: process.config.webhook_endpoints()?,
            limits,
            queue,
            clock: process.clock.clone(),
            ids: process.ids.clone(),
            metrics: process.metrics.clone(),
            tracer: process.tracer.clone(),
        })
        .await?;
        let endpoints = ingest.edge.endpoints();
        process.on_reload(move |config| {
            let (current, new) = (endpoints.clone(), config.webhook_endpoints()?);
            Ok(Box::new(move || current.set(new)))
        });
        let gap = process
            .metrics
            .archive_failing
            .with_label_values(&["write"]);
        let probe = Probe::new(process.readiness.check("ingest"), move || {
            let (queue, gap) = (probed.clone(), gap.clone());
            async move {
                let probed = queue.probe().await?;
                gap.set(i64::from(probed.unarchived_since_ms.is_some()));
                probed
                    .refuses
                    .map_or(Ok(()), |reason| Err(QueueError::Unavailable(reason.into())))
            }
        });
        let failed = ingest.edge.publisher().failed();
        process.watch("ingest", probe.woken_by(failed)).await;
        tracing::info!(listen = %ingest.local_addr, "accepting webhooks");
        Ok(ingest)
    }

    /// Opens the public listener. Connections queue in the kernel until [`Ingest::serve`].
    pub async fn bind(settings: Settings) -> Result<Self, StartError> {
        let addr = settings.listen;
        let (port, edge) = parts(settings)?;
        let (listener, local_addr) = listen(addr, ListenSetting::Public).await?;
        Ok(Self {
            listener,
            local_addr,
            port: Arc::new(port),
            edge: Arc::new(edge),
        })
    }

    /// The bound address, with the port that the system chose.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Serves until `shutdown`, then drains: accepts no new connections, lets requests in progress
    /// finish for `limits.drain_seconds`, then publishes in progress for `limits.publish_seconds`.
    pub async fn serve(self, shutdown: CancellationToken) {
        public::serve(self.listener, self.port, self.edge.clone(), shutdown).await;
        self.edge.publisher().finish().await;
    }
}

fn parts(settings: Settings) -> Result<(Port, Edge), StartError> {
    let Deadlines { bounds, publish } = Deadlines::new(&settings.limits)?;
    let port = Port::new(bounds, settings.trusted_proxies.clone());
    Ok((port, Edge::new(settings, publish)))
}
