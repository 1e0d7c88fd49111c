//! One alert in full: its status, deadlines, notices, messages and members.

use serde_json::{Value, json};

use super::alert::{money, mute_reason, notice, since, state, subject};
use super::alert_history::after;
use super::rfc3339;
use crate::alert::report::{Verdict, counts, resolution, response};
use crate::alert::{Alert, MessageKey, NotificationState, Silence};

/// A table of an alert's details.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// What it lists.
    pub title: &'static str,
    /// The header of the rows.
    pub header: &'static [&'static str],
    /// The rows.
    pub rows: Vec<Vec<String>>,
}

/// The stored alert as JSON, with the verdicts on its deadlines and its members. `text` is the text
/// of its notification.
pub fn describe(
    alert: &Alert,
    members: &[Alert],
    text: &str,
    now_s: i64,
) -> Result<Value, serde_json::Error> {
    let judged = counts(alert);
    let mut value = serde_json::to_value(alert)?;
    value["text"] = json!(text);
    value["response"] = json!(judged.then(|| response(alert, now_s)));
    value["resolution"] = json!(judged.then(|| resolution(alert, now_s)));
    value["members"] = serde_json::to_value(members)?;
    Ok(value)
}

/// The members of the group `id`, and all other alerts. The members are open before resolved, and
/// then the oldest first.
pub fn members_of(id: &str, alerts: Vec<Alert>) -> (Vec<Alert>, Vec<Alert>) {
    let (mut members, others): (Vec<_>, Vec<_>) = alerts
        .into_iter()
        .partition(|alert| alert.part_of.as_deref() == Some(id));
    members.sort_by_key(|a| (a.is_resolved(), a.since_s, a.id.clone()));
    (members, others)
}

/// The alert's state, its times and its deadlines: name and value.
pub fn status(alert: &Alert, silences: &[Silence], now_s: i64) -> Vec<(&'static str, String)> {
    let done = |at_s: i64, by: Option<&String>| {
        format!("{}, {}", rfc3339(Some(at_s)), after(alert, at_s, by))
    };
    let mut rows = vec![("State", state(alert))];
    if let Some(mute) = alert.muted.as_ref().filter(|_| !alert.is_resolved()) {
        rows.push(("Muted", mute_reason(mute, silences)));
    }
    if let Some(group_id) = &alert.part_of {
        rows.push(("Notified by group", group_id.clone()));
    }
    rows.push(("Fired", rfc3339(Some(alert.fired_s))));
    if let Some(at_s) = alert.acknowledged_s {
        rows.push(("Acknowledged", done(at_s, alert.acknowledged_by.as_ref())));
    }
    if let Some(at_s) = alert.resolved_s {
        rows.push(("Resolved", done(at_s, alert.resolved_by.as_ref())));
    }
    if let Some(at_s) = alert.clear_since_s.filter(|_| !alert.is_resolved()) {
        rows.push(("Clear since", rfc3339(Some(at_s))));
    }
    if counts(alert) {
        let clock = |due_s: i64, verdict: Verdict| {
            format!("{} ({})", rfc3339(Some(due_s)), verdict_text(verdict))
        };
        rows.push((
            "Respond by",
            clock(alert.sla.respond_due_s, response(alert, now_s)),
        ));
        rows.push((
            "Resolve by",
            clock(alert.sla.resolve_due_s, resolution(alert, now_s)),
        ));
    }
    rows
}

/// The tables of an alert that have rows.
pub fn sections(alert: &Alert, members: &[Alert]) -> Vec<Section> {
    let mut sections = vec![
        deadlines(alert),
        notices(alert),
        messages(alert),
        failures(alert),
        Section {
            title: "Members",
            header: &["id", "state", "subject", "money", "since"],
            rows: members.iter().map(member).collect(),
        },
    ];
    sections.retain(|section| !section.rows.is_empty());
    sections
}

fn deadlines(alert: &Alert) -> Section {
    let upcoming = alert.sla.upcoming.iter().filter(|_| !alert.is_resolved());
    Section {
        title: "Upcoming deadlines",
        header: &["at", "what"],
        rows: upcoming
            .map(|(at_s, kind)| vec![rfc3339(Some(*at_s)), notice(*kind)])
            .collect(),
    }
}

fn notices(alert: &Alert) -> Section {
    let rows = alert.notices.iter().map(|sent| {
        vec![
            sent.number.to_string(),
            rfc3339(Some(sent.at_s)),
            notice(sent.kind),
            sent.route.clone(),
            sent.notifiers.join(", "),
        ]
    });
    Section {
        title: "Follow-up notices",
        header: &["number", "at", "what", "route", "by"],
        rows: rows.collect(),
    }
}

fn messages(alert: &Alert) -> Section {
    let rows = alert.notifications.iter().map(|(key, message)| {
        let delivered = match message.delivered_revision {
            0 => "nothing yet".to_owned(),
            revision => format!("revision {revision} of {}", alert.revision),
        };
        vec![
            key.to_string(),
            delivered,
            message.receipt.clone().unwrap_or_default(),
            remarks(message),
        ]
    });
    Section {
        title: "Messages",
        header: &["key", "delivered", "receipt", "remarks"],
        rows: rows.collect(),
    }
}

/// What went wrong with each message, oldest first.
fn failures(alert: &Alert) -> Section {
    let of_message = |(key, message): (&MessageKey, &NotificationState)| {
        let key = key.to_string();
        let rows = message.failures.iter().map(move |failures| {
            vec![
                key.clone(),
                failures.count.to_string(),
                rfc3339(Some(failures.first_s)),
                rfc3339(Some(failures.last_s)),
                failures.reason.clone(),
            ]
        });
        rows.collect::<Vec<_>>()
    };
    Section {
        title: "Failed attempts",
        header: &["key", "number", "first", "last", "why"],
        rows: alert.notifications.iter().flat_map(of_message).collect(),
    }
}

fn remarks(message: &NotificationState) -> String {
    let mut remarks = Vec::new();
    if let Some(revision) = message.attempting_revision {
        remarks.push(format!("revision {revision} is being sent"));
    }
    if message.attempts > 0 {
        remarks.push(format!("{} attempt(s) failed", message.attempts));
    }
    if message.possible_duplicate {
        remarks.push("possible duplicate".to_owned());
    }
    if let Some(reason) = &message.broken {
        remarks.push(format!("broken: {reason}"));
    }
    remarks.join("; ")
}

fn member(alert: &Alert) -> Vec<String> {
    vec![
        alert.id.clone(),
        state(alert),
        subject(alert),
        money(alert),
        since(alert),
    ]
}

fn verdict_text(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Within => "within",
        Verdict::Breached => "breached",
        Verdict::Open => "open",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::{AlertTemplate, Evidence, MessageKey, NoticeKind, Sla, Subject};

    /// Fired at 0, to be acknowledged within a minute and resolved within an hour.
    fn alert() -> Alert {
        let mut alert = Alert::fire(
            AlertTemplate::sample(),
            &Subject::Business,
            0,
            0,
            Evidence::default(),
        );
        alert.sla = Sla {
            respond_due_s: 60,
            resolve_due_s: 3600,
            upcoming: vec![(60, NoticeKind::RespondBreached)],
            ..Sla::default()
        };
        alert
    }

    #[test]
    fn the_status_has_a_verdict_on_each_deadline() {
        let mut alert = alert();
        (alert.acknowledged_s, alert.acknowledged_by) = (Some(61), Some("ana".into()));
        assert_eq!(
            status(&alert, &[], 100),
            [
                ("State", "firing".to_owned()),
                ("Fired", "1970-01-01T00:00:00Z".to_owned()),
                (
                    "Acknowledged",
                    "1970-01-01T00:01:01Z, after 1 min 1 s by ana".to_owned()
                ),
                ("Respond by", "1970-01-01T00:01:00Z (breached)".to_owned()),
                ("Resolve by", "1970-01-01T01:00:00Z (open)".to_owned()),
            ]
        );
        let shown = describe(&alert, &[], "text", 100).expect("JSON");
        assert_eq!(
            (&shown["text"], &shown["response"], &shown["resolution"]),
            (&json!("text"), &json!("breached"), &json!("open"))
        );
    }

    #[test]
    fn sections_without_rows_are_left_out_and_messages_have_remarks() {
        let mut alert = alert();
        alert.revision = 2;
        let message = NotificationState {
            delivered_revision: 1,
            attempting_revision: Some(2),
            attempts: 3,
            ..NotificationState::default()
        };
        alert.notifications = [(MessageKey::main("slack"), message)].into();
        let shown: Vec<_> = sections(&alert, &[])
            .into_iter()
            .map(|section| (section.title, section.rows))
            .collect();
        let rows = |cells: &[&str]| vec![cells.iter().map(ToString::to_string).collect()];
        assert_eq!(
            shown,
            [
                (
                    "Upcoming deadlines",
                    rows(&["1970-01-01T00:01:00Z", "no response in time"])
                ),
                (
                    "Messages",
                    rows(&[
                        "slack",
                        "revision 1 of 2",
                        "",
                        "revision 2 is being sent; 3 attempt(s) failed"
                    ])
                ),
            ]
        );
    }

    #[test]
    fn members_are_apart_and_open_ones_come_first() {
        let named = |id: &str, part_of: Option<&str>, since_s: i64| Alert {
            id: id.into(),
            part_of: part_of.map(Into::into),
            since_s,
            ..alert()
        };
        let resolved = Alert {
            state: crate::alert::AlertState::Resolved,
            ..named("al_1", Some("al_g"), 1)
        };
        let alerts = vec![
            resolved,
            named("al_g", None, 1),
            named("al_2", Some("al_g"), 3),
            named("al_3", Some("al_g"), 2),
            named("al_4", Some("al_h"), 2),
        ];
        let (members, others) = members_of("al_g", alerts);
        let ids = |alerts: Vec<Alert>| alerts.into_iter().map(|a| a.id).collect::<Vec<_>>();
        assert_eq!(ids(members), ["al_3", "al_2", "al_1"]);
        assert_eq!(ids(others), ["al_g", "al_4"]);
    }
}
