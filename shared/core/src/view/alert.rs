//! Alerts as rows, and the words for their parts.

use serde_json::json;

use super::column::{Column, Unit, cell, column, time};
use super::rfc3339;
use crate::alert::{Alert, AlertState, Matcher, Mute, NoticeKind, Silence};

/// The columns of the export of alerts.
pub const EXPORT: &[Column<Alert>] = &[
    column("id", Unit::Text, |a| json!(a.id)),
    column("rule", Unit::Text, |a| json!(a.rule)),
    column("severity", Unit::Text, |a| json!(a.severity)),
    column("state", Unit::Text, |a| json!(a.state)),
    column("subject", Unit::Text, |a| json!(a.subject_text())),
    column("since", Unit::Time, |a| time(Some(a.since_s))),
    column("acknowledged_at", Unit::Time, |a| time(a.acknowledged_s)),
    column("resolved_at", Unit::Time, |a| time(a.resolved_s)),
    column("acknowledged_by", Unit::Text, |a| json!(a.acknowledged_by)),
    column("resolved_by", Unit::Text, |a| json!(a.resolved_by)),
    column("respond_by", Unit::Time, |a| due(a.sla.respond_due_s)),
    column("resolve_by", Unit::Time, |a| due(a.sla.resolve_due_s)),
    column("group", Unit::Text, |a| json!(a.part_of)),
];

/// The header of [`list_row`].
pub const LIST_HEADER: [&str; 8] = [
    "id",
    "severity",
    "state",
    "rule",
    "subject",
    "money",
    "since",
    "respond by",
];

/// The values of [`EXPORT`] as text.
pub fn export_row(alert: &Alert) -> Vec<String> {
    EXPORT
        .iter()
        .map(|column| cell(&(column.value)(alert)))
        .collect()
}

/// One alert in a list.
pub fn list_row(alert: &Alert, now_s: i64) -> [String; LIST_HEADER.len()] {
    [
        alert.id.clone(),
        alert.severity.as_str().to_owned(),
        state(alert),
        alert.rule.clone(),
        subject(alert),
        money(alert),
        rfc3339(Some(alert.since_s)),
        respond_by(alert, now_s),
    ]
}

/// For example `firing, silenced`.
pub fn state(alert: &Alert) -> String {
    let muted = match alert.muted.as_ref().filter(|_| !alert.is_over()) {
        None => "",
        Some(Mute::Silence(_)) => ", silenced",
        Some(Mute::Inhibited(_)) => ", inhibited",
    };
    format!("{}{muted}", alert.state.as_str())
}

/// What the alert is about, for display.
pub fn subject(alert: &Alert) -> String {
    match &alert.group {
        Some(group) if group.open == group.joined || alert.is_over() => {
            format!("{} alerts", group.joined)
        }
        Some(group) => format!("{} alerts, {} open", group.joined, group.open),
        None if alert.subject_text().is_empty() => "the business".to_owned(),
        None => alert.subject_text(),
    }
}

/// The money concerned, in every currency.
pub fn money(alert: &Alert) -> String {
    let amounts = alert.evidence.money.iter().map(ToString::to_string);
    amounts.collect::<Vec<_>>().join(" + ")
}

/// The deadline to respond. Empty once the alert is acknowledged, and while it is muted.
pub fn respond_by(alert: &Alert, now_s: i64) -> String {
    let due_s = alert.sla.respond_due_s;
    if alert.state != AlertState::Firing || due_s == 0 || alert.part_of.is_some() {
        return String::new();
    }
    let overdue = if now_s > due_s { " (overdue)" } else { "" };
    format!("{}{overdue}", rfc3339(Some(due_s)))
}

/// What a notice says.
pub fn notice(kind: NoticeKind) -> String {
    match kind {
        NoticeKind::RespondSoon => "response due soon".to_owned(),
        NoticeKind::RespondBreached => "no response in time".to_owned(),
        NoticeKind::Escalated(step) => format!("escalation {}", step + 1),
        NoticeKind::ResolveSoon => "resolution due soon".to_owned(),
        NoticeKind::ResolveBreached => "not resolved in time".to_owned(),
    }
}

/// Why the messages of an alert are suppressed.
pub fn mute_reason(mute: &Mute, silences: &[Silence]) -> String {
    match mute {
        Mute::Inhibited(id) => format!("{id} inhibits it"),
        Mute::Silence(id) => match silences.iter().find(|silence| silence.id == *id) {
            Some(silence) => format!(
                "{id} {}: {} ({})",
                silence_end(silence),
                silence.reason,
                silence.by
            ),
            None => id.clone(),
        },
    }
}

/// For example `until 2026-12-24T18:00:00Z`.
pub fn silence_end(silence: &Silence) -> String {
    format!("until {}", rfc3339(Some(silence.until_s)))
}

/// For example `rule payout_failed, account acct_1`.
pub fn matcher(matches: &Matcher) -> String {
    let Matcher {
        alert_id,
        rule,
        account,
        labels,
    } = matches;
    let named = [("alert", alert_id), ("rule", rule), ("account", account)];
    let named = named
        .into_iter()
        .filter_map(|(what, value)| Some(format!("{what} {}", value.as_ref()?)));
    let labels = labels.iter().map(|(name, value)| format!("{name}={value}"));
    named.chain(labels).collect::<Vec<_>>().join(", ")
}

/// A deadline that has not started has no time.
fn due(at_s: i64) -> serde_json::Value {
    time(Some(at_s).filter(|at_s| *at_s > 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::{AlertTemplate, Evidence, Severity, Subject};

    fn alert() -> Alert {
        let template = AlertTemplate {
            rule: "charges_lost".into(),
            severity: Severity::Critical,
            route: "x".into(),
            labels: Default::default(),
            title: "t".into(),
            actions: Vec::new(),
            runbook: None,
        };
        let mut alert = Alert::fire(template, &Subject::Business, 0, 0, Evidence::default());
        alert.sla.respond_due_s = 600;
        alert
    }

    #[test]
    fn the_response_deadline_is_shown_until_the_alert_is_acknowledged() {
        let acknowledged = Alert {
            state: AlertState::Acknowledged,
            ..alert()
        };
        let member = Alert {
            part_of: Some("al_g".into()),
            ..alert()
        };
        let mut muted = alert();
        muted.sla.respond_due_s = 0;
        for (alert, now_s, expected) in [
            (alert(), 600, "1970-01-01T00:10:00Z"),
            (alert(), 601, "1970-01-01T00:10:00Z (overdue)"),
            (acknowledged, 601, ""),
            (member, 601, ""),
            (muted, 601, ""),
        ] {
            assert_eq!(respond_by(&alert, now_s), expected);
        }
    }

    #[test]
    fn an_exported_alert_has_no_time_for_a_deadline_that_has_not_started() {
        let mut alert = alert();
        alert.id = "al_1".into();
        assert_eq!(
            export_row(&alert).join(","),
            "al_1,charges_lost,critical,firing,,1970-01-01T00:00:00Z,,,,,1970-01-01T00:10:00Z,,"
        );
    }
}
