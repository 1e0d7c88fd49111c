//! The telemetry of an attempt: a log line and a span, both in the trace of the event that led to it.

use std::time::SystemTime;

use revwatch_core::redact;
use revwatch_runtime::telemetry::{Correlation, Span, SpanKind, Tracer};

use crate::engine::{AttemptResult, Origin};
use crate::notify::Outcome;

/// More events than these are not linked.
const MAX_LINKS: usize = 8;

/// Logs and traces how an attempt ended.
pub(crate) fn record(tracer: &Tracer, origin: &Origin, result: &AttemptResult, began: SystemTime) {
    log(origin, result);
    let of = correlation(origin, &result.alert_id);
    if !tracer.keeps(&of) {
        return;
    }
    let span = Span::new(of, "notify", SpanKind::Client, began)
        .with("revwatch.rule", origin.rule.clone())
        .with("revwatch.alert.id", result.alert_id.clone())
        .with("revwatch.notifier", result.message_key.notifier.clone())
        .with("revwatch.outcome", result.outcome.as_str());
    // The worker's span of the event; its id follows from the event's.
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
    tracer.end(match result.outcome {
        Outcome::Delivered { .. } | Outcome::Withheld => span,
        _ => span.failed(result.outcome.as_str()),
    });
}

/// The trace of the event; an alert that no event led to has one of its own.
fn correlation(origin: &Origin, alert_id: &str) -> Correlation {
    Correlation::of(origin.event_ids.first().map_or(alert_id, String::as_str))
}

fn log(origin: &Origin, result: &AttemptResult) {
    let AttemptResult {
        alert_id,
        message_key: key,
        outcome,
        ..
    } = result;
    // Arguments are computed only if the line is logged.
    macro_rules! line {
        ($level:ident, $($more:ident,)* $message:literal) => {
            tracing::$level!(
                alert_id, rule = origin.rule, notifier = key.notifier, message_key = %key, outcome = outcome.as_str(),
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
                "notification failed permanently; another notifier is used"
            );
        }
        Outcome::Failed { reason, .. } | Outcome::Unknown { reason } => {
            line!(warn, reason, "notification will be retried");
        }
        Outcome::RetryAfter { wait_ms } => line!(warn, wait_ms, "notification is rate limited"),
        Outcome::Withheld => line!(
            info,
            "nothing is sent: the alert is muted, and the earlier attempt did not arrive"
        ),
        Outcome::Gone => line!(warn, "the message was deleted and will be posted again"),
    }
}
