//! A trace collector on a loopback port: accepts spans by OTLP over HTTP, like OpenTelemetry's, and
//! keeps them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message as _;

/// One span, ids in hex.
#[derive(Debug, Clone)]
pub(crate) struct Span {
    /// The process that sent it.
    pub(crate) service: String,
    pub(crate) name: String,
    pub(crate) kind: SpanKind,
    pub(crate) trace_id: String,
    pub(crate) id: String,
    /// Empty: none.
    pub(crate) parent: String,
    /// Unix nanoseconds.
    pub(crate) began: u64,
    pub(crate) ended: u64,
    /// Attributes as text.
    pub(crate) attributes: BTreeMap<String, String>,
    /// Trace and span.
    pub(crate) links: Vec<(String, String)>,
    pub(crate) has_failed: bool,
}

impl Span {
    /// The value of one attribute.
    pub(crate) fn get(&self, key: &str) -> &str {
        self.attributes.get(key).map_or("", String::as_str)
    }
}

/// A running collector.
#[derive(Clone)]
pub(crate) struct Collector {
    addr: SocketAddr,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    spans: Vec<Span>,
    authorizations: Vec<String>,
    answer: ExportTraceServiceResponse,
}

impl Collector {
    /// Starts the collector.
    pub(crate) async fn start() -> Self {
        Self::answering(ExportTraceServiceResponse::default()).await
    }

    /// One that says of each request that it took all but `spans` of its spans, and why.
    pub(crate) async fn rejecting(spans: i64, why: &str) -> Self {
        let partial_success = Some(ExportTracePartialSuccess {
            rejected_spans: spans,
            error_message: why.to_owned(),
        });
        Self::answering(ExportTraceServiceResponse { partial_success }).await
    }

    async fn answering(answer: ExportTraceServiceResponse) -> Self {
        let (listener, addr) = revwatch_test_servers::listen().await;
        let inner = Inner {
            answer,
            ..Inner::default()
        };
        let collector = Self {
            addr,
            inner: Arc::new(Mutex::new(inner)),
        };
        let router = Router::new()
            .route("/v1/traces", axum::routing::post(take))
            .with_state(collector.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        collector
    }

    /// Its base URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Every span so far.
    pub(crate) fn spans(&self) -> Vec<Span> {
        self.inner
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .spans
            .clone()
    }

    /// The `authorization` of every request so far.
    pub(crate) fn authorizations(&self) -> Vec<String> {
        self.inner
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .authorizations
            .clone()
    }
}

async fn take(
    State(collector): State<Collector>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, Vec<u8>) {
    let header = |name: &str| {
        headers
            .get(name)
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default()
            .to_owned()
    };
    if header("content-type") != "application/x-protobuf" {
        return (StatusCode::UNSUPPORTED_MEDIA_TYPE, Vec::new());
    }
    let Ok(request) = ExportTraceServiceRequest::decode(body) else {
        return (StatusCode::BAD_REQUEST, Vec::new());
    };
    let mut inner = collector
        .inner
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    inner.authorizations.push(header("authorization"));
    for resource in request.resource_spans {
        let of_process = attributes(&resource.resource.unwrap_or_default().attributes);
        let service = of_process.get("service.name").cloned().unwrap_or_default();
        for span in resource
            .scope_spans
            .into_iter()
            .flat_map(|scope| scope.spans)
        {
            inner.spans.push(Span {
                service: service.clone(),
                kind: span.kind(),
                trace_id: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                began: span.start_time_unix_nano,
                ended: span.end_time_unix_nano,
                attributes: attributes(&span.attributes),
                links: span
                    .links
                    .iter()
                    .map(|link| (hex(&link.trace_id), hex(&link.span_id)))
                    .collect(),
                has_failed: span.status.as_ref().is_some_and(|status| status.code == 2),
                name: span.name,
            });
        }
    }
    (StatusCode::OK, inner.answer.encode_to_vec())
}

fn attributes(pairs: &[KeyValue]) -> BTreeMap<String, String> {
    let text =
        |value: &Option<AnyValue>| match value.as_ref().and_then(|value| value.value.as_ref()) {
            Some(any_value::Value::StringValue(text)) => text.clone(),
            Some(any_value::Value::IntValue(number)) => number.to_string(),
            other => format!("{other:?}"),
        };
    pairs
        .iter()
        .map(|pair| (pair.key.clone(), text(&pair.value)))
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
