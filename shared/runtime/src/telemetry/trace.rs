//! Traces: one per event, from the webhook through the queue to its commit and the notification it
//! led to.
//!
//! A span is created when its step has ended and the result is known. Span ids are derived
//! ([`Correlation`]), so no context has to be passed through the code in between. A [`Tracer`] that
//! is off creates no spans and costs one comparison.
//!
//! Invariant: a span never holds secrets, card data or personal data, and nothing waits for a
//! collector.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{Link, Status, TraceFlags, TraceState};
pub use opentelemetry::trace::{SpanContext, SpanId, SpanKind};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::trace::{
    BatchSpanProcessor, IdGenerator as _, RandomIdGenerator, SpanData, SpanProcessor as _,
};
use prometheus::IntCounter;

use super::correlation::Correlation;
use super::export::{self, MAX_QUEUED_SPANS, SetupError};
use crate::config::TracesConfig;

/// Maximum time for sending the last spans at shutdown.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);

/// Receives spans. Cheap to clone; off by default.
#[derive(Clone, Default)]
pub struct Tracer(Option<Arc<Inner>>);

struct Inner {
    processor: BatchSpanProcessor,
    /// Handed over and not yet taken by the processor's thread.
    waiting: Arc<AtomicUsize>,
    dropped: IntCounter,
    sampler: Sampler,
    scope: InstrumentationScope,
}

/// Selects the traces to keep: a function of the trace id, the same in every process (and in
/// OpenTelemetry's own `TraceIdRatioBased`).
#[derive(Debug, Clone, Copy)]
struct Sampler {
    below: u64,
}

/// One step in processing an event. It is created when the step ends.
pub struct Span {
    of: Correlation,
    id: Option<SpanId>,
    name: &'static str,
    kind: SpanKind,
    began: SystemTime,
    ended: Option<SystemTime>,
    parent: Option<(SpanId, bool)>,
    attributes: Vec<KeyValue>,
    links: Vec<Link>,
    status: Status,
}

impl Tracer {
    /// Creates the configured tracer; off without an endpoint. Must be called within a tokio
    /// runtime, on which spans are sent.
    pub fn new(
        config: &TracesConfig,
        service: &str,
        dropped: IntCounter,
    ) -> Result<Self, SetupError> {
        let waiting = Arc::<AtomicUsize>::default();
        let Some(processor) = export::processor(config, service, waiting.clone(), dropped.clone())?
        else {
            return Ok(Self::default());
        };
        let scope = InstrumentationScope::builder("revwatch")
            .with_version(env!("CARGO_PKG_VERSION"))
            .build();
        let sampler = Sampler::new(config.sample_ratio);
        Ok(Self(Some(Arc::new(Inner {
            processor,
            waiting,
            dropped,
            sampler,
            scope,
        }))))
    }

    /// Whether spans of this trace are kept. Check this before creating one.
    pub fn keeps(&self, of: &Correlation) -> bool {
        self.0.as_ref().is_some_and(|inner| inner.sampler.keeps(of))
    }

    /// Whether any spans are kept: values needed only for spans need not be computed otherwise.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Hands a span over if its trace is kept. Never waits.
    pub fn end(&self, span: Span) {
        let Some(inner) = self
            .0
            .as_ref()
            .filter(|inner| inner.sampler.keeps(&span.of))
        else {
            return;
        };
        if inner.waiting.fetch_add(1, Ordering::Relaxed) >= MAX_QUEUED_SPANS {
            inner.waiting.fetch_sub(1, Ordering::Relaxed);
            inner.dropped.inc();
            return;
        }
        inner.processor.on_end(span.data(inner.scope.clone()));
    }

    /// Sends queued spans, within a bounded time.
    pub async fn finish(&self) {
        let Some(inner) = self.0.clone() else { return };
        let finished = tokio::task::spawn_blocking(move || {
            inner.processor.shutdown_with_timeout(SHUTDOWN_TIMEOUT)
        });
        if !matches!(finished.await, Ok(Ok(()))) {
            tracing::warn!("not all spans could be sent before shutdown");
        }
    }
}

/// A random id, for a span that no other process refers to.
pub fn new_span_id() -> SpanId {
    RandomIdGenerator::default().new_span_id()
}

impl Sampler {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a ratio: the last bits do not matter"
    )]
    fn new(ratio: f64) -> Self {
        Self {
            below: if ratio >= 1.0 {
                u64::MAX
            } else {
                (ratio.max(0.0) * (1_u64 << 63) as f64) as u64
            },
        }
    }

    fn keeps(self, of: &Correlation) -> bool {
        let [.., a, b, c, d, e, f, g, h] = of.trace_id.to_bytes();
        self.below == u64::MAX || u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 1 < self.below
    }
}

impl Span {
    /// A step that began at `began` and ends when it is handed over.
    pub fn new(of: Correlation, name: &'static str, kind: SpanKind, began: SystemTime) -> Self {
        let (attributes, links) = (Vec::with_capacity(8), Vec::new());
        Self {
            of,
            id: None,
            name,
            kind,
            began,
            ended: None,
            parent: None,
            attributes,
            links,
            status: Status::Unset,
        }
    }

    /// Sets the id by which others refer to the span; otherwise a new one is generated.
    #[must_use]
    pub fn id(mut self, id: SpanId) -> Self {
        self.id = Some(id);
        self
    }

    /// Makes it a child of a span of this process.
    #[must_use]
    pub fn within(mut self, parent: SpanId) -> Self {
        self.parent = Some((parent, false));
        self
    }

    /// Makes it a child of another process's span in this trace. A parent from another trace is
    /// linked instead; an unsampled parent is ignored, because it was never recorded.
    #[must_use]
    pub fn after(mut self, parent: Option<&SpanContext>) -> Self {
        match parent {
            Some(parent) if parent.trace_id() != self.of.trace_id => {
                return self.link(parent.clone());
            }
            Some(parent) if parent.is_sampled() => self.parent = Some((parent.span_id(), true)),
            _ => {}
        }
        self
    }

    /// Adds a link to a span of another trace.
    #[must_use]
    pub fn link(mut self, to: SpanContext) -> Self {
        self.links.push(Link::with_context(to));
        self
    }

    /// Adds an attribute.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.attributes.push(KeyValue::new(key, value));
        self
    }

    /// Sets an end earlier than the handover.
    #[must_use]
    pub fn until(mut self, ended: SystemTime) -> Self {
        self.ended = Some(ended);
        self
    }

    /// Marks it as failed, with a reason in one word.
    #[must_use]
    pub fn failed(mut self, reason: &'static str) -> Self {
        self.status = Status::error(reason);
        self
    }

    fn data(self, scope: InstrumentationScope) -> SpanData {
        let (parent, is_remote) = self.parent.unwrap_or((SpanId::INVALID, false));
        let mut links = opentelemetry_sdk::trace::SpanLinks::default();
        links.links = self.links;
        let id = self.id.unwrap_or_else(new_span_id);
        SpanData {
            span_context: SpanContext::new(
                self.of.trace_id,
                id,
                TraceFlags::SAMPLED,
                false,
                TraceState::NONE,
            ),
            parent_span_id: parent,
            parent_span_is_remote: is_remote,
            span_kind: self.kind,
            name: self.name.into(),
            start_time: self.began,
            // If the clock was set back in between, a step must not end before it began.
            end_time: self.ended.unwrap_or_else(SystemTime::now).max(self.began),
            attributes: self.attributes,
            dropped_attributes_count: 0,
            events: Default::default(),
            links,
            status: self.status,
            instrumentation_scope: scope,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sampling_keeps_the_ratio_and_is_deterministic() {
        let kept = |ratio| {
            let sampler = Sampler::new(ratio);
            (0..10_000)
                .filter(|n| sampler.keeps(&Correlation::of(&format!("evt_{n}"))))
                .collect::<Vec<_>>()
        };
        assert_eq!((kept(0.0).len(), kept(1.0).len()), (0, 10_000));
        let (tenth, half) = (kept(0.1), kept(0.5));
        assert!((900..1100).contains(&tenth.len()) && (4800..5200).contains(&half.len()));
        assert!(
            tenth.iter().all(|n| half.contains(n)),
            "a higher ratio keeps the same traces and more"
        );
    }

    #[test]
    fn a_parent_of_another_trace_becomes_a_link_and_an_unsampled_one_is_ignored() {
        let (one, other) = (Correlation::of("evt_1"), Correlation::of("evt_2"));
        let scope = InstrumentationScope::builder("t").build();
        let span = |parent: &str| {
            let parent = super::super::parse_traceparent(parent);
            Span::new(one, "apply", SpanKind::Consumer, SystemTime::UNIX_EPOCH)
                .after(parent.as_ref())
                .data(scope.clone())
        };
        let id = SpanId::from(7);
        let below = span(&one.traceparent(id, true));
        assert_eq!(
            (
                below.parent_span_id,
                below.parent_span_is_remote,
                below.links.len()
            ),
            (id, true, 0)
        );
        let linked = span(&other.traceparent(id, true));
        assert_eq!(
            (
                linked.parent_span_id,
                linked.links[0].span_context.span_id()
            ),
            (SpanId::INVALID, id)
        );
        assert_eq!(
            span(&one.traceparent(id, false)).parent_span_id,
            SpanId::INVALID
        );
        assert_eq!(span("junk").span_context.trace_id(), one.trace_id);
    }

    #[tokio::test]
    async fn without_an_endpoint_no_span_is_created() {
        let config = crate::config::Config::load(None, &|_| None)
            .expect("the defaults")
            .traces;
        let metrics = super::super::Metrics::new();
        let tracer = Tracer::new(&config, "revwatch", metrics.spans_dropped).expect("off");
        let one = Correlation::of("evt_1");
        assert!(!tracer.is_on() && !tracer.keeps(&one));
        tracer.end(Span::new(
            one,
            "apply",
            SpanKind::Consumer,
            SystemTime::UNIX_EPOCH,
        ));
        tracer.finish().await;
    }
}
