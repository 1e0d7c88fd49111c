//! An alert for programs. Pure.

use jiff::Timestamp;
use revwatch_core::requirement::Detail;
use serde_json::{Value, json};

use super::links::stripe_url;
use crate::alert::{Alert, Notice};

/// The alert, and the kind of notice, as JSON.
pub(super) fn details(alert: &Alert, notice: Option<&Notice>) -> Value {
    let iso = |unix_s: Option<i64>| {
        unix_s
            .and_then(|s| Timestamp::from_second(s).ok())
            .map(|t| t.to_string())
    };
    let due = |unix_s: i64| iso(Some(unix_s).filter(|s| *s > 0));
    let money = alert.evidence.amounts().json("amount_minor");
    let unknown: Vec<_> = alert.evidence.money_doubt.reasons.keys().collect();
    let detail = alert.evidence.detail.as_deref().map(Detail::of);
    let reason = detail
        .map(|detail| detail.reason)
        .filter(|it| !it.is_empty());
    let requirements: Vec<_> = detail.into_iter().flat_map(Detail::names).collect();
    json!({
        "id": alert.id, "rule": alert.rule, "severity": alert.severity, "state": alert.state, "route": alert.route,
        "title": alert.title, "subject": alert.subject_text(), "account": alert.evidence.account, "customer": alert.evidence.customer,
        "labels": alert.labels, "since": iso(Some(alert.since_s)), "fired_at": iso(Some(alert.fired_s)),
        "acknowledged_at": iso(alert.acknowledged_s), "acknowledged_by": alert.acknowledged_by,
        "resolved_at": iso(alert.resolved_s), "respond_by": due(alert.sla.respond_due_s),
        "resolve_by": due(alert.sla.resolve_due_s), "pre_existing": alert.pre_existing, "metric_value": alert.evidence.metric_value, "money": money, "money_unknown": unknown,
        "due_at": iso(alert.evidence.due_s), "answer_by": iso(alert.evidence.answer_by_s), "trial_end": iso(alert.evidence.trial_end_s), "reason": reason, "requirements": requirements, "event_ids": alert.evidence.event_ids, "actions": alert.actions,
        "runbook": alert.runbook, "stripe_url": stripe_url(alert), "revision": alert.revision,
        "group": alert.group.as_ref().map(|group| json!({"joined": group.joined, "open": group.open})),
        "notice": notice.map(|notice| notice.kind),
    })
}
