//! The id that connects everything about one event: log lines, spans, and the notification it led
//! to.
//!
//! Invariant: it is a function of the event's id alone. Every process, every redelivery and every
//! later reader of the id computes the same value, and nothing has to be passed along or stored.

use std::fmt;

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};
use sha2::{Digest, Sha256};

/// The trace of one event, or of an alert without a triggering event. Displays as the trace id, 32
/// hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Correlation {
    /// The first 16 bytes of the SHA-256 of the id; never zero.
    pub trace_id: TraceId,
    /// The 8 bytes after those: the span in which the worker applied the event. Never zero.
    pub applied: SpanId,
}

impl Correlation {
    /// Derived from the id of an event or an alert.
    pub fn of(id: &str) -> Self {
        let digest: [u8; 32] = Sha256::digest(id).into();
        let (trace, rest) = digest.split_at(16);
        let trace = u128::from_be_bytes(trace.try_into().expect("16 bytes"));
        let applied = u64::from_be_bytes(rest[..8].try_into().expect("8 bytes"));
        // Zero means "none" to OpenTelemetry.
        Self {
            trace_id: TraceId::from(trace.max(1)),
            applied: SpanId::from(applied.max(1)),
        }
    }

    /// The `traceparent` of a message, with `span` as the parent of its processing.
    pub fn traceparent(&self, span: SpanId, is_sampled: bool) -> String {
        format!("00-{}-{span}-{:02x}", self.trace_id, u8::from(is_sampled))
    }

    /// The context of one of its spans, for others to refer to.
    pub fn span(&self, span: SpanId) -> SpanContext {
        SpanContext::new(
            self.trace_id,
            span,
            TraceFlags::SAMPLED,
            true,
            TraceState::NONE,
        )
    }
}

impl fmt::Display for Correlation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.trace_id.fmt(f)
    }
}

/// A valid `traceparent`: `version-trace_id-parent_id-flags` in lower-case hex, neither id all
/// zeros.
/// Source: <https://www.w3.org/TR/trace-context/#traceparent-header>.
pub fn parse_traceparent(text: &str) -> Option<SpanContext> {
    let parts: Vec<&str> = text.split('-').collect();
    let ["00", trace_id, parent_id, flags] = parts.as_slice() else {
        return None;
    };
    let is_hex = |part: &str, len: usize| {
        part.len() == len && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    if !is_hex(trace_id, 32) || !is_hex(parent_id, 16) || !is_hex(flags, 2) {
        return None;
    }
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?);
    let context = SpanContext::new(
        TraceId::from_hex(trace_id).ok()?,
        SpanId::from_hex(parent_id).ok()?,
        flags,
        true,
        TraceState::NONE,
    );
    context.is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_the_same_trace_in_every_process() {
        let one = Correlation::of("evt_1");
        assert_eq!(one, Correlation::of("evt_1"));
        assert_ne!(one.trace_id, Correlation::of("evt_2").trace_id);
        // The output of `printf evt_1 | sha256sum`.
        assert_eq!(one.to_string(), "7d4e5a76eae6d8c165410ac19fe67565");
        assert_eq!(one.applied.to_string(), "21ba86ed96752d01");
    }

    #[test]
    fn a_traceparent_round_trips_and_invalid_ones_are_refused() {
        let one = Correlation::of("evt_1");
        let span = SpanId::from(7);
        let text = one.traceparent(span, true);
        assert_eq!(text, format!("00-{one}-0000000000000007-01"));
        assert_eq!(parse_traceparent(&text), Some(one.span(span)));
        assert!(
            parse_traceparent(&one.traceparent(span, false))
                .is_some_and(|context| !context.is_sampled())
        );
        for invalid in [
            "",
            "00",
            "é",
            "00-0-0-0",
            &text.to_uppercase(),
            &text.replace("00-", "01-"),
        ] {
            assert_eq!(parse_traceparent(invalid), None, "{invalid}");
        }
    }
}
