//! Export to the collector: OTLP over HTTP, in batches, in the background.
//!
//! Invariant: the process keeps working whatever a collector answers. Lost spans are counted, and
//! logged at most once a minute without quoting the collector.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use axum::http::header::{HeaderValue, USER_AGENT};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, RetryPolicy, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanExporter};
use prometheus::IntCounter;
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::config::{ConfigError, TracesConfig};

/// Traces cannot be sent until a setting is corrected.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A wrong setting.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No certificate authority was found.
    #[error(
        "cannot set up HTTPS for traces: {0}. Are CA certificates installed (Debian: ca-certificates)?"
    )]
    Tls(#[from] std::io::Error),
    /// OpenTelemetry's own settings.
    #[error("traces cannot be set up: {0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
}

/// Maximum number of spans that wait to be sent; about a kilobyte each. Further ones are dropped
/// and counted.
pub(super) const MAX_QUEUED_SPANS: usize = 8192;
/// The name that requests carry.
const NAME: &str = concat!("revwatch/", env!("CARGO_PKG_VERSION"));
/// A collector that has not answered within this time has not accepted the spans.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// Spans are sent in batches after this interval, or earlier when a batch is full.
const EXPORT_INTERVAL: Duration = Duration::from_secs(2);
const MAX_EXPORT_BATCH: usize = 512;
/// More than a collector's answer needs.
const MAX_RESPONSE_BYTES: usize = 64 * 1024;
/// Minimum time between two log lines about a failing collector.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// The processor that sends spans, in a thread of its own; `None` without an endpoint.
pub(super) fn processor(
    config: &TracesConfig,
    service: &str,
    waiting: Arc<AtomicUsize>,
    dropped: IntCounter,
) -> Result<Option<BatchSpanProcessor>, SetupError> {
    let Some(url) = config.url() else {
        return Ok(None);
    };
    let connector = HttpsConnectorBuilder::new()
        .with_native_roots()?
        .https_or_http()
        .enable_http1()
        .build();
    // Headers may hold a secret: this client follows no redirect and uses no proxy, so they are sent
    // only to the configured URL.
    let client = Client::builder(TokioExecutor::new()).build(connector);
    let mut exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_http_client(OnRuntime {
            client,
            runtime: Handle::current(),
        })
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(url)
        .with_timeout(EXPORT_TIMEOUT)
        .with_headers(config.headers()?.into_iter().collect())
        // A failed batch is dropped and counted: a retry would keep the next spans waiting.
        .with_retry_policy(RetryPolicy::disabled())
        .build()?;
    let name = if config.service_name.is_empty() {
        service
    } else {
        &config.service_name
    };
    exporter.set_resource(
        &Resource::builder()
            .with_service_name(name.to_owned())
            .build(),
    );
    let exporter = CountingExporter {
        exporter,
        waiting,
        dropped,
        last_logged: Mutex::new(None),
    };
    let batches = BatchConfigBuilder::default()
        .with_max_queue_size(MAX_QUEUED_SPANS)
        .with_max_export_batch_size(MAX_EXPORT_BATCH)
        .with_scheduled_delay(EXPORT_INTERVAL)
        .build();
    tracing::info!(service = name, "sending traces to the collector");
    Ok(Some(
        BatchSpanProcessor::builder(exporter)
            .with_batch_config(batches)
            .build(),
    ))
}

/// Lends the processor's thread our runtime: a request runs there, and the thread waits for its
/// answer.
#[derive(Debug)]
struct OnRuntime {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    runtime: Handle,
}

#[async_trait]
impl HttpClient for OnRuntime {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let mut request = request.map(Full::new);
        request
            .headers_mut()
            .insert(USER_AGENT, HeaderValue::from_static(NAME));
        let client = self.client.clone();
        let exchange = async move {
            let (head, body) = client.request(request).await?.into_parts();
            // The body is not used, but must be read for the connection to be reused.
            let _ = Limited::new(body, MAX_RESPONSE_BYTES).collect().await;
            Ok::<_, HttpError>(head.status)
        };
        // The timer, too, belongs to the runtime and is created there.
        let answered = self
            .runtime
            .spawn(async { timeout(EXPORT_TIMEOUT, exchange).await });
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = answered.await???;
        Ok(response)
    }
}

/// Counts lost spans.
struct CountingExporter {
    exporter: opentelemetry_otlp::SpanExporter,
    waiting: Arc<AtomicUsize>,
    dropped: IntCounter,
    last_logged: Mutex<Option<Instant>>,
}

impl fmt::Debug for CountingExporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the exporter: it holds the headers.
        f.debug_struct("CountingExporter")
            .field("waiting", &self.waiting)
            .finish_non_exhaustive()
    }
}

impl SpanExporter for CountingExporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        self.waiting.fetch_sub(spans, Ordering::Relaxed);
        if self.exporter.export(batch).await.is_err() {
            self.dropped
                .inc_by(u64::try_from(spans).unwrap_or(u64::MAX));
            let mut logged_at = self
                .last_logged
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if logged_at.is_none_or(|at| at.elapsed() > LOG_INTERVAL) {
                tracing::warn!(
                    spans,
                    "the collector did not accept spans; they are lost (OTEL_EXPORTER_OTLP_ENDPOINT)"
                );
                *logged_at = Some(Instant::now());
            }
        }
        Ok(())
    }
}
