//! Export to the collector: OTLP over HTTP, in batches, in the background.
//!
//! Invariant: the process keeps working whatever a collector answers. Lost spans are counted, and
//! logged at most once a minute, with the cause. Of the collector's own words only its message about
//! rejected spans is shown, redacted.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderValue, USER_AGENT};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, RetryPolicy, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanExporter};
use prometheus::IntCounter;
use prost::Message as _;
use revwatch_core::redact;
use revwatch_storage::connection_failure;
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
    if let Some(switch) = &config.turned_off_by {
        tracing::info!("no traces are sent: {switch}");
        return Ok(None);
    }
    let loss = LastLoss::default();
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
            loss: loss.clone(),
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
        loss,
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

/// What the collector did not accept of the last spans.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Loss {
    /// The request: all its spans.
    All(String),
    /// A part of them.
    Some { spans: u64, why: String },
}

/// The last loss that was not reported yet.
#[derive(Debug, Clone, Default)]
struct LastLoss(Arc<Mutex<Option<Loss>>>);

impl LastLoss {
    fn set(&self, loss: Loss) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(loss);
    }

    fn take(&self) -> Option<Loss> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What an answer with success says that was not accepted. Source:
/// <https://opentelemetry.io/docs/specs/otlp/#partial-success-1>. A message without rejected spans is a warning.
fn partial_success(content_type: &str, body: &[u8]) -> Option<Loss> {
    /// The message is for people; a page of text is none.
    const MESSAGE_CHARS: usize = 300;
    if content_type.to_ascii_lowercase().contains("html") {
        return Some(Loss::All(
            "a web page answered in its place: check OTEL_EXPORTER_OTLP_ENDPOINT, and whether a proxy or a login page \
             answers there"
                .to_owned(),
        ));
    }
    // An answer in JSON, for instance, cannot be read: then its status is all that it says.
    let answer = ExportTraceServiceResponse::decode(body).ok()?;
    let partial = answer.partial_success?;
    let spans = u64::try_from(partial.rejected_spans).unwrap_or(0);
    let message: String = partial.error_message.chars().take(MESSAGE_CHARS).collect();
    (spans > 0 || !message.is_empty()).then(|| Loss::Some {
        spans,
        why: match redact::phrase(&message) {
            message if message.is_empty() => "it does not say why".to_owned(),
            message => format!("it says: {message}"),
        },
    })
}

/// What the collector's status means, and what to do.
fn refusal(status: StatusCode) -> String {
    let fix = match status.as_u16() {
        401 | 403 => ": check OTEL_EXPORTER_OTLP_HEADERS",
        404 | 405 => {
            ": OTEL_EXPORTER_OTLP_ENDPOINT must be the base URL of OTLP over HTTP, to which /v1/traces is added"
        }
        413 => ": let the collector accept larger requests",
        415 => ": the collector must accept OTLP over HTTP as protobuf",
        429 | 502..=504 => ": the collector is overloaded or not ready",
        _ => "",
    };
    format!("it answered {status}{fix}")
}

/// Why there is no answer, and what to do. The collector's own bytes are not quoted.
fn no_answer(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |cause| cause.source());
    let speaks_http2 = causes
        .map(ToString::to_string)
        .any(|cause| cause.contains("invalid HTTP version") || cause.contains("message format"));
    let fix = match speaks_http2 {
        true => {
            ": is it a gRPC port, usually 4317? revwatch sends OTLP over HTTP, usually to port 4318"
        }
        false => ": check OTEL_EXPORTER_OTLP_ENDPOINT, and whether the collector runs",
    };
    format!("{}{fix}", connection_failure::plain(error))
}

/// Lends the processor's thread our runtime: a request runs there, and the thread waits for its
/// answer.
#[derive(Debug)]
struct OnRuntime {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    runtime: Handle,
    loss: LastLoss,
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
            // It must be read for the connection to be reused. One that is longer says nothing.
            let body = Limited::new(body, MAX_RESPONSE_BYTES).collect().await;
            let body = body.map(|body| body.to_bytes()).unwrap_or_default();
            Ok::<_, HttpError>((head, body))
        };
        // The timer, too, belongs to the runtime and is created there.
        let answered = self
            .runtime
            .spawn(async { timeout(EXPORT_TIMEOUT, exchange).await });
        let (head, body) = match answered.await? {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                self.loss.set(Loss::All(no_answer(error.as_ref())));
                return Err(error);
            }
            Err(late) => {
                self.loss
                    .set(Loss::All("it did not answer in time".to_owned()));
                return Err(late.into());
            }
        };
        let content_type = head.headers.get(CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok());
        let loss = match head.status.is_success() {
            true => partial_success(content_type.unwrap_or_default(), &body),
            false => Some(Loss::All(refusal(head.status))),
        };
        if let Some(loss) = loss {
            self.loss.set(loss);
        }
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = head.status;
        Ok(response)
    }
}

/// Counts lost spans.
struct CountingExporter {
    exporter: opentelemetry_otlp::SpanExporter,
    waiting: Arc<AtomicUsize>,
    dropped: IntCounter,
    loss: LastLoss,
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
        let sent = batch.len();
        self.waiting.fetch_sub(sent, Ordering::Relaxed);
        let sent = u64::try_from(sent).unwrap_or(u64::MAX);
        let exported = self.exporter.export(batch).await;
        let (spans, reason) = match (exported, self.loss.take()) {
            (_, Some(Loss::All(why))) => (sent, why),
            (Ok(()), Some(Loss::Some { spans, why })) => (spans.min(sent), why),
            (Err(error), _) => (sent, no_answer(&error)),
            (Ok(()), None) => return Ok(()),
        };
        self.dropped.inc_by(spans);
        let mut logged_at = self
            .last_logged
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if logged_at.is_none_or(|at| at.elapsed() > LOG_INTERVAL) {
            if spans == 0 {
                tracing::warn!(reason, "the collector accepted spans with a warning");
            } else {
                tracing::warn!(
                    spans,
                    reason,
                    "the collector did not accept spans; they are lost (OTEL_EXPORTER_OTLP_ENDPOINT)"
                );
            }
            *logged_at = Some(Instant::now());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_status_and_the_fix() {
        for (status, part) in [
            (401, "OTEL_EXPORTER_OTLP_HEADERS"),
            (404, "/v1/traces is added"),
            (413, "larger requests"),
            (503, "not ready"),
            (400, "400 Bad Request"),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            let reason = refusal(status);
            assert!(reason.contains(part), "{reason}");
        }
    }

    #[test]
    fn a_success_says_what_was_rejected_all_the_same() {
        use opentelemetry_proto::tonic::collector::trace::v1::ExportTracePartialSuccess;
        let protobuf = "application/x-protobuf";
        let rejecting = |rejected_spans: i64, error_message: &str| {
            let partial_success = Some(ExportTracePartialSuccess {
                rejected_spans,
                error_message: error_message.to_owned(),
            });
            ExportTraceServiceResponse { partial_success }.encode_to_vec()
        };
        let check = |body: &[u8], expected: Option<(u64, &str)>| {
            let expected = expected.map(|(spans, why)| Loss::Some {
                spans,
                why: why.to_owned(),
            });
            assert_eq!(partial_success(protobuf, body), expected);
        };
        check(b"", None);
        check(br#"{"partialSuccess":{}}"#, None);
        check(&rejecting(0, ""), None);
        check(&rejecting(-1, ""), None);
        check(&rejecting(3, ""), Some((3, "it does not say why")));
        check(
            &rejecting(2, "the quota is used up"),
            Some((2, "it says: the quota is used up")),
        );
        check(
            &rejecting(0, "attributes were cut"),
            Some((0, "it says: attributes were cut")),
        );
        let Some(Loss::Some { why, .. }) = partial_success(
            protobuf,
            &rejecting(1, &format!("bad: a@b.example {}", "x".repeat(10_000))),
        ) else {
            panic!("a loss")
        };
        assert!(why.len() < 400 && !why.contains("b.example"), "{why}");
        let page = partial_success("text/html; charset=utf-8", b"<html>");
        assert!(matches!(page, Some(Loss::All(why)) if why.contains("login page")));
    }

    #[test]
    fn a_missing_answer_names_the_cause_and_the_fix() {
        let refused = std::io::Error::other("Connection refused");
        let reason = no_answer(&refused);
        assert!(reason.starts_with(
            "nothing listens there (connection refused): check OTEL_EXPORTER_OTLP_ENDPOINT"
        ));
        let grpc = std::io::Error::other("invalid HTTP version parsed");
        assert!(no_answer(&grpc).contains("4318"));
    }
}
