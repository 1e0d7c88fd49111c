//! Metrics, log lines and spans of a batch that was committed.
//!
//! Invariant: of an event's object, only the id and the transitions are published.

use revwatch_core::redact;
use revwatch_core::source::Source;
use revwatch_runtime::telemetry::{
    Correlation, Span, SpanKind, log_together, new_span_id, parse_traceparent,
};
use revwatch_storage::ports::Delivery;

use crate::Worker;
use crate::applied::Applied;
use crate::batch::{Outcome, label};

pub(crate) fn report(worker: &Worker, deliveries: &[Delivery], applied: &Applied) {
    log_together(|| report_each(worker, deliveries, applied));
}

fn report_each(worker: &Worker, deliveries: &[Delivery], applied: &Applied) {
    let decision = &applied.decision;
    let now_ms = worker.clock.now_ms();
    let metrics = &worker.metrics;
    let mut count = 0;
    for ((delivery, outcome), created_s) in deliveries
        .iter()
        .zip(&decision.outcomes)
        .zip(&decision.created_s)
    {
        if let Some(word) = outcome.counter() {
            metrics
                .worker_events
                .with_label_values(&[label(delivery), word])
                .inc();
        } else if matches!(outcome, Outcome::Paused(_) | Outcome::Moved(_)) {
            metrics
                .worker_events
                .with_label_values(&[label(delivery), outcome.as_str()])
                .inc();
        }
        if let Outcome::OtherMode(reason) = outcome {
            worker.other_mode.note(*reason);
        }
        if *outcome == Outcome::Applied {
            count += 1;
            metrics
                .processing_seconds
                .observe(seconds(now_ms.saturating_sub(delivery.received_ms)));
            // An application may report what happened long ago.
            let is_of_app = Source::of(&delivery.event_id) == Source::App;
            if let Some(created_s) = created_s.filter(|_| !is_of_app) {
                metrics
                    .event_age_seconds
                    .observe(seconds(now_ms - created_s * 1000));
            }
        }
        log(delivery, outcome);
        if worker.tracer.is_on() {
            trace(worker, delivery, outcome, deliveries.len(), applied);
        }
    }
    for (subject, t) in &decision.transitions {
        // A macro, so that arguments are evaluated only if the level is enabled.
        macro_rules! line {
            ($level:ident, $message:literal) => {
                tracing::$level!(
                    kind = subject.kind.as_str(), id = &*redact::id(&subject.id), event_id = &*redact::id(t.event_id.as_str()),
                    trace_id = %Correlation::of(t.event_id.as_str()), change = &*redact::phrase(&t.what), $message
                )
            };
        }
        if t.expected {
            line!(info, "transition");
        } else {
            line!(warn, "unexpected transition");
        }
    }
    let (partition, entities) = (decision.commit.partition, decision.commit.entities.len());
    tracing::debug!(
        partition,
        deliveries = deliveries.len(),
        applied = count,
        entities,
        "batch"
    );
}

/// One line per delivery. The trace id is computed only if the level is enabled.
fn log(delivery: &Delivery, outcome: &Outcome) {
    let Delivery {
        id,
        event_id,
        event_type,
        partition,
        ..
    } = delivery;
    match outcome {
        Outcome::Dead(reason) => tracing::error!(
            event_id = &*redact::id(event_id), trace_id = %Correlation::of(event_id), delivery_id = %id, partition,
            event_type = &*redact::kind(event_type), outcome = outcome.as_str(), reason, "dead letter"
        ),
        Outcome::Paused(_) => tracing::info!(
            event_id = &*redact::id(event_id), trace_id = %Correlation::of(event_id), delivery_id = %id, partition,
            event_type = &*redact::kind(event_type), outcome = outcome.as_str(), "held back"
        ),
        Outcome::Moved(to) => tracing::info!(
            event_id = &*redact::id(event_id), trace_id = %Correlation::of(event_id), delivery_id = %id, partition, to,
            event_type = &*redact::kind(event_type), outcome = outcome.as_str(), "moved to the partition of its object"
        ),
        _ => tracing::info!(
            event_id = &*redact::id(event_id), trace_id = %Correlation::of(event_id), delivery_id = %id, partition,
            event_type = &*redact::kind(event_type), outcome = outcome.as_str(), "commit"
        ),
    }
}

/// Records the span `apply` and, within it, `commit`. The delivery that applied the event gets the
/// span id derived from the event, so that a notification can link to it. Repeats get ids of their
/// own.
fn trace(worker: &Worker, delivery: &Delivery, outcome: &Outcome, batch: usize, applied: &Applied) {
    let correlation = Correlation::of(&delivery.event_id);
    if !worker.tracer.keeps(&correlation) {
        return;
    }
    let id = if outcome.decides_event() {
        correlation.applied
    } else {
        new_span_id()
    };
    if outcome.counter().is_some() {
        let commit = Span::new(
            correlation,
            "commit",
            SpanKind::Client,
            applied.commit_began,
        )
        .within(id)
        .until(applied.commit_ended);
        worker.tracer.end(commit);
    }
    let parent = delivery.traceparent.as_deref().and_then(parse_traceparent);
    let apply = Span::new(correlation, "apply", SpanKind::Consumer, applied.began)
        .id(id)
        .after(parent.as_ref())
        .with("revwatch.partition", i64::from(delivery.partition))
        .with("revwatch.outcome", outcome.as_str())
        .with(
            "revwatch.event.id",
            redact::id(&delivery.event_id).into_owned(),
        )
        .with(
            "revwatch.event.type",
            redact::kind(&delivery.event_type).into_owned(),
        )
        .with(
            "messaging.batch.message_count",
            i64::try_from(batch).unwrap_or(i64::MAX),
        );
    worker.tracer.end(if matches!(outcome, Outcome::Dead(_)) {
        apply.failed("dead")
    } else {
        apply
    });
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a metric: milliseconds fit a double's 53 bits for 285,000 years"
)]
fn seconds(ms: i64) -> f64 {
    ms.max(0) as f64 / 1000.0
}
