//! The spans of one request in the trace of its event.
//!
//! A sender's own trace context is linked, not continued: an event has one trace, however many
//! requests deliver it and from whichever sender, and this must not depend on a header that a
//! sender writes.

use std::time::SystemTime;

use hyper::HeaderMap;
use revwatch_core::redact;
use revwatch_runtime::telemetry::{
    Correlation, Span, SpanContext, SpanId, SpanKind, Tracer, new_span_id,
};

use crate::answer::Answer;
use crate::verify::{self, Envelope};

/// One request with a genuine event.
pub(crate) struct RequestSpan {
    /// The event's trace.
    pub(crate) correlation: Correlation,
    span: SpanId,
    began: SystemTime,
    sender: Option<SpanContext>,
}

impl RequestSpan {
    pub(crate) fn new(event_id: &str, headers: &HeaderMap, began: SystemTime) -> Self {
        Self {
            correlation: Correlation::of(event_id),
            span: new_span_id(),
            began,
            sender: verify::traceparent(headers),
        }
    }

    /// The `traceparent` for the message, which makes the later processing a child of this request.
    pub(crate) fn traceparent(&self, tracer: &Tracer) -> String {
        self.correlation
            .traceparent(self.span, tracer.keeps(&self.correlation))
    }

    /// The queue has answered, or the deadline has passed.
    pub(crate) fn published(&self, tracer: &Tracer, began: SystemTime, answer: &Answer) {
        if tracer.keeps(&self.correlation) {
            let span =
                Span::new(self.correlation, "publish", SpanKind::Producer, began).within(self.span);
            tracer.end(with_outcome(span, answer));
        }
    }

    /// The request was answered.
    pub(crate) fn end(
        self,
        tracer: &Tracer,
        endpoint: &str,
        event: &Envelope,
        bytes: usize,
        answer: &Answer,
    ) {
        if !tracer.keeps(&self.correlation) {
            return;
        }
        let span = Span::new(self.correlation, "webhook", SpanKind::Server, self.began)
            .id(self.span)
            .with("revwatch.endpoint", endpoint.to_owned())
            .with(
                "revwatch.event.id",
                redact::id(&event.event_id).into_owned(),
            )
            .with(
                "revwatch.event.type",
                redact::kind(&event.event_type).into_owned(),
            )
            .with(
                "http.request.body.size",
                i64::try_from(bytes).unwrap_or(i64::MAX),
            )
            .with(
                "http.response.status_code",
                i64::from(answer.status().as_u16()),
            );
        let span = self.sender.into_iter().fold(span, Span::link);
        tracer.end(with_outcome(span, answer));
    }
}

fn with_outcome(span: Span, answer: &Answer) -> Span {
    let span = span.with("revwatch.outcome", answer.outcome());
    if answer.status().is_server_error() {
        span.failed(answer.outcome())
    } else {
        span
    }
}
