//! What an attempt to tell leaves behind: a log line and a span, both in the trace of the event that led to it.

use std::time::SystemTime;

use revwatch_core::redact;
use revwatch_runtime::telemetry::{Correlation, Span, SpanKind, Tracer};

use crate::engine::{AttemptResult, Origin};
use crate::notify::Outcome;

/// More events than these are not linked.
const MAX_LINKS: usize = 8;

/// Says how it ended.
pub(crate) fn record(tracer: &Tracer, origin: &Origin, told: &AttemptResult, began: SystemTime) {
    log(origin, told);
    let of = correlation(origin, &told.alert_id);
    if !tracer.keeps(&of) {
        return;
    }
    let span = Span::new(of, "notify", SpanKind::Client, began)
        .with("revwatch.rule", origin.rule.clone())
        .with("revwatch.alert.id", told.alert_id.clone())
        .with("revwatch.notifier", told.message_key.notifier.clone())
        .with("revwatch.outcome", told.outcome.as_str());
    // The worker's span of the event; nobody has to tell its id.
    let parent = (!origin.event_ids.is_empty()).then(|| of.span(of.applied));
    let others = origin
        .event_ids
        .iter()
        .skip(1)
        .take(MAX_LINKS)
        .map(|id| Correlation::of(id));
    let span = others.fold(span.after(parent.as_ref()), |span, other| {
        span.link(other.span(other.applied))
    });
    tracer.end(match told.outcome {
        Outcome::Delivered { .. } => span,
        _ => span.failed(told.outcome.as_str()),
    });
}

/// The trace of the event; an alert that no event led to has one of its own.
fn correlation(origin: &Origin, alert_id: &str) -> Correlation {
    Correlation::of(origin.event_ids.first().map_or(alert_id, String::as_str))
}

fn log(origin: &Origin, told: &AttemptResult) {
    let AttemptResult {
        alert_id,
        message_key: way,
        outcome,
        ..
    } = told;
    // Arguments are worked out only where the line is wanted.
    macro_rules! line {
        ($level:ident, $($more:ident,)* $message:literal) => {
            tracing::$level!(
                alert_id, rule = origin.rule, notifier = way.notifier, %way, outcome = outcome.as_str(),
                event_id = origin.event_ids.first().map(|id| redact::id(id)).as_deref(),
                trace_id = %correlation(origin, alert_id), $($more,)* $message
            )
        };
    }
    match outcome {
        Outcome::Delivered { .. } => line!(info, "notification"),
        Outcome::Failed {
            reason,
            permanent: true,
        } => {
            line!(
                error,
                reason,
                "notification failed for good; another way is taken"
            );
        }
        Outcome::Failed { reason, .. } | Outcome::Unknown { reason } => {
            line!(warn, reason, "notification is tried again");
        }
        Outcome::RetryAfter { wait_ms } => line!(warn, wait_ms, "notification must wait"),
        Outcome::Gone => line!(warn, "the message is gone and is posted anew"),
    }
}
