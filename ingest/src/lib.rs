//! revwatch's HTTP edge: takes webhooks, verifies them, and answers 2xx once the queue has them.
//!
//! Order of work: connection and header limits → path, method, content type → body limit → signature
//! over the raw bytes → envelope → mode → publish → answer. The body is published as it came.
//!
//! Invariant: a 200 `stored` is sent only after [`EventQueue::publish`] returned `Ok`; and a delivery
//! with a right signature is never rate limited, because only a refusal can turn into a 429.
//!
//! | status | `reason` (also the metric's `outcome`) | when |
//! |---|---|---|
//! | 200 | `stored` | the queue has it |
//! | 200 | `ignored` | a live event at a test endpoint, or the reverse |
//! | 400 | `signature_missing`, `signature_unreadable`, `signature_without_timestamp`, `signature_without_v1`, `signature_mismatch`, `signature_too_old` | it is not signed, or not well |
//! | 400 | `invalid_json`, `not_an_event` | the signature is right, but the body is no JSON, or does not say that it is an event and which |
//! | 400 | `incomplete_body` | the body ended early, or its chunks are malformed |
//! | 404 | `not_found` | no endpoint has this path |
//! | 405 | `method_not_allowed` | anything but POST (`Allow: POST`) |
//! | 408 | `timeout` | the body did not arrive within `limits.body_seconds` |
//! | 413 | `too_large` | the body is, or says it is, larger than `limits.body_bytes` |
//! | 415 | `unsupported_media_type` | there is a content type and it is not `application/json` |
//! | 429 | `limited` | instead of any refusal without a right signature, from an address (IPv6: a /64) with too many of them (`Retry-After`) |
//! | 503 | `unavailable` | the queue refused, or did not confirm within `limits.publish_seconds` (`Retry-After`) |
//! | 503 | `overloaded` | `limits.in_flight` deliveries are being published (`Retry-After`) |
//! | 503 | `body_budget` | larger bodies that are not complete fill `limits.unfinished_body_bytes`: it finds no room there, or was slow and gave way (`Retry-After`) |
//!
//! Bodies are JSON: `{"status":"stored"}` or `{"error":{"reason":"…","message":"…"}}`. What never
//! becomes a request is answered by the HTTP layer, without a body, and counted too: 400
//! `malformed_http`; 414 or 431 `header_too_large`; cut off without an answer `header_timeout`; closed at once, because
//! its address has `limits.connections_per_peer` open, `too_many_connections`; and `aborted` where the sender went away
//! first.
//!
//! Addresses are those of peers or, where a peer is one of `trusted_proxies`, those that it names. A trusted proxy may
//! have any number of connections.
//!
//! A request is judged by the endpoints there are when it comes. Where its signature does not match and a reload
//! replaced them before its body had come, it is judged by the new ones too: the secret may be one of theirs.
//!
//! [`EventQueue::publish`]: revwatch_storage::ports::EventQueue::publish

use std::net::SocketAddr;
use std::sync::Arc;

use revwatch_runtime::config::{ConfigError, Endpoint, Limits, TrustedProxies};
use revwatch_runtime::listen::{ListenError, ListenSetting, listen};
use revwatch_runtime::process::Process;
use revwatch_runtime::telemetry::{Metrics, Tracer};
use revwatch_storage::ports::EventQueue;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::deadlines::Deadlines;
use crate::service::Edge;

mod accept;
mod answer;
mod bodies;
mod client;
mod connection;
mod deadlines;
mod limiter;
mod listener;
mod peers;
mod publisher;
mod request_metrics;
mod request_span;
mod service;

/// What the edge needs; all values ready to use.
pub struct Settings {
    /// The public address; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Who says in `X-Forwarded-For` who the client is.
    pub trusted_proxies: TrustedProxies,
    /// Where webhooks are taken, each with a path of its own.
    pub endpoints: Vec<Endpoint>,
    /// Sizes, counts and deadlines.
    pub limits: Limits,
    /// Where accepted deliveries go.
    pub queue: Arc<dyn EventQueue>,
    /// What is counted.
    pub metrics: Metrics,
    /// Where spans go.
    pub tracer: Tracer,
}

/// The edge, listening but not yet serving.
pub struct Ingest {
    listener: TcpListener,
    local_addr: SocketAddr,
    edge: Arc<Edge>,
}

/// The edge cannot start until a setting is changed.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The public address could not be opened.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// An endpoint is not configured well.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A limit makes no sense.
    #[error("limits.{name} must be {must}")]
    Limit {
        /// Key within `[limits]`.
        name: &'static str,
        /// What it must be.
        must: &'static str,
    },
}

/// Binds and serves until `shutdown`; returns when what was accepted has been finished or given up.
pub async fn run(settings: Settings, shutdown: CancellationToken) -> Result<(), StartError> {
    Ingest::bind(settings).await?.serve(shutdown).await;
    Ok(())
}

impl Ingest {
    /// Opens the public listener as `process` is configured; what is accepted goes into `queue`.
    pub async fn of(process: &Process, queue: Arc<dyn EventQueue>) -> Result<Self, StartError> {
        let ingest = Self::bind(Settings {
            listen: process.config.listen,
            trusted_proxies: process.config.trusted_proxies.clone(),
            endpoints: process.config.webhook_endpoints()?,
            limits: process.config.limits.clone(),
            queue,
            metrics: process.metrics.clone(),
            tracer: process.tracer.clone(),
        })
        .await?;
        let endpoints = ingest.edge.endpoints();
        process.on_reload(move |config| {
            let (current, new) = (endpoints.clone(), config.webhook_endpoints()?);
            Ok(Box::new(move || current.set(new)))
        });
        process.readiness.check("ingest").pass();
        tracing::info!(listen = %ingest.local_addr, "taking webhooks");
        Ok(ingest)
    }

    /// Opens the public listener. Connections queue in the kernel until [`Ingest::serve`].
    pub async fn bind(settings: Settings) -> Result<Self, StartError> {
        let deadlines = Deadlines::new(&settings.limits)?;
        let listener = listen(settings.listen, ListenSetting::Public).await?;
        let local_addr = listener.local_addr().map_err(|source| ListenError {
            setting: ListenSetting::Public,
            addr: settings.listen,
            source,
        })?;
        let edge = Arc::new(Edge::new(settings, deadlines));
        Ok(Self {
            listener,
            local_addr,
            edge,
        })
    }

    /// Where it listens, with the port the system chose.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Serves until `shutdown`, then drains: accepts nothing more, lets requests under way finish for
    /// `limits.drain_seconds`, then publishes under way for `limits.publish_seconds`.
    pub async fn serve(self, shutdown: CancellationToken) {
        listener::serve(self.listener, self.edge, shutdown).await;
    }
}
