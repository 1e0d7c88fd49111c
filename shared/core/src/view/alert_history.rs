//! Resolved alerts: who acknowledged and resolved them, after how long, and whether in time.

use std::cmp::Reverse;

use serde_json::{Value, json};

use super::alert::subject;
use super::column::time;
use super::{NOT_KNOWN, rfc3339};
use crate::alert::Alert;
use crate::alert::report::{Verdict, counts, resolution, response};
use crate::durations::duration;

/// Which resolved alerts are shown. All given criteria must match.
#[derive(Debug, Clone)]
pub struct HistorySelection {
    /// Alerts resolved at this time or later, Unix seconds.
    pub since_s: i64,
    /// Only alerts of this rule.
    pub rule: Option<String>,
    /// Maximum number of alerts.
    pub limit: usize,
    /// Also the members of groups.
    pub members: bool,
}

/// The header of [`row`].
pub const HEADER: [&str; 8] = [
    "id",
    "severity",
    "rule",
    "subject",
    "fired",
    "acknowledged",
    "resolved",
    "in time",
];

impl HistorySelection {
    /// The selected alerts, newest first.
    pub fn of(&self, mut alerts: Vec<Alert>) -> Vec<Alert> {
        alerts.retain(|alert| {
            alert.resolved_s.is_some_and(|at_s| at_s >= self.since_s)
                && self.rule.as_ref().is_none_or(|rule| alert.rule == *rule)
                && (self.members || alert.part_of.is_none())
        });
        alerts.sort_by_key(|alert| (Reverse(alert.resolved_s), alert.id.clone()));
        alerts.truncate(self.limit);
        alerts
    }
}

/// One alert.
pub fn row(alert: &Alert, now_s: i64) -> [String; HEADER.len()] {
    let step = |at_s: Option<i64>, by: Option<&String>| {
        at_s.map_or_else(|| NOT_KNOWN.to_owned(), |at_s| after(alert, at_s, by))
    };
    [
        alert.id.clone(),
        alert.severity.as_str().to_owned(),
        alert.rule.clone(),
        subject(alert),
        rfc3339(Some(alert.fired_s)),
        step(alert.acknowledged_s, alert.acknowledged_by.as_ref()),
        step(alert.resolved_s, alert.resolved_by.as_ref()),
        in_time(alert, now_s).to_owned(),
    ]
}

/// One alert as JSON.
pub fn describe(alert: &Alert, now_s: i64) -> Value {
    let seconds = |at_s: Option<i64>| at_s.map(|at_s| at_s.saturating_sub(alert.fired_s));
    let judged = counts(alert);
    json!({
        "id": alert.id, "rule": alert.rule, "severity": alert.severity, "subject": alert.subject_text(),
        "account": alert.account(), "money": alert.evidence.money, "group": alert.group.as_ref().map(|g| g.joined),
        "part_of": alert.part_of, "since": time(Some(alert.since_s)), "fired_at": time(Some(alert.fired_s)),
        "acknowledged_at": time(alert.acknowledged_s), "acknowledged_by": alert.acknowledged_by,
        "acknowledged_after_seconds": seconds(alert.acknowledged_s),
        "resolved_at": time(alert.resolved_s), "resolved_by": alert.resolved_by,
        "resolved_after_seconds": seconds(alert.resolved_s),
        "response": judged.then(|| response(alert, now_s)), "resolution": judged.then(|| resolution(alert, now_s)),
    })
}

/// For example `after 3 min 5 s by ana`.
pub(super) fn after(alert: &Alert, at_s: i64, by: Option<&String>) -> String {
    let by = by.map_or_else(String::new, |by| format!(" by {by}"));
    format!("after {}{by}", duration(at_s.saturating_sub(alert.fired_s)))
}

fn in_time(alert: &Alert, now_s: i64) -> &'static str {
    if !counts(alert) {
        return NOT_KNOWN;
    }
    match (response(alert, now_s), resolution(alert, now_s)) {
        (Verdict::Breached, Verdict::Breached) => "no: acknowledged and resolved late",
        (Verdict::Breached, _) => "no: acknowledged late",
        (_, Verdict::Breached) => "no: resolved late",
        _ => "yes",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::{AlertState, AlertTemplate, Evidence, Sla, Subject};

    /// Fired at 0, to be acknowledged within a minute and resolved within an hour.
    fn resolved(id: &str, at_s: i64) -> Alert {
        let alert = Alert::fire(
            AlertTemplate::sample(),
            &Subject::Business,
            0,
            0,
            Evidence::default(),
        );
        Alert {
            id: id.into(),
            state: AlertState::Resolved,
            resolved_s: Some(at_s),
            sla: Sla {
                respond_due_s: 60,
                resolve_due_s: 3600,
                ..Sla::default()
            },
            ..alert
        }
    }

    #[test]
    fn the_newest_resolved_alerts_are_selected() {
        let open = Alert {
            resolved_s: None,
            ..resolved("al_open", 0)
        };
        let member = Alert {
            part_of: Some("al_1".into()),
            ..resolved("al_member", 150)
        };
        let other_rule = Alert {
            rule: "other".into(),
            ..resolved("al_other", 400)
        };
        let all = [
            open,
            resolved("al_old", 99),
            resolved("al_1", 100),
            member,
            resolved("al_2", 200),
            other_rule,
        ];
        let select = |limit: usize, members: bool| {
            let selection = HistorySelection {
                since_s: 100,
                rule: Some("charges_lost".into()),
                limit,
                members,
            };
            let selected = selection.of(all.to_vec());
            selected.into_iter().map(|a| a.id).collect::<Vec<_>>()
        };
        assert_eq!(select(9, false), ["al_2", "al_1"]);
        assert_eq!(select(9, true), ["al_2", "al_member", "al_1"]);
        assert_eq!(select(1, true), ["al_2"]);
    }

    #[test]
    fn a_row_says_who_acted_after_how_long_and_whether_in_time() {
        let late = Alert {
            acknowledged_s: Some(61),
            acknowledged_by: Some("ana".into()),
            ..resolved("al_1", 3600)
        };
        assert_eq!(
            row(&late, 5000)[4..],
            [
                "1970-01-01T00:00:00Z",
                "after 1 min 1 s by ana",
                "after 1 h 0 min",
                "no: acknowledged late"
            ]
        );
        let shown = describe(&late, 5000);
        assert_eq!(
            (
                &shown["acknowledged_after_seconds"],
                &shown["response"],
                &shown["resolution"]
            ),
            (&json!(61), &json!("breached"), &json!("within"))
        );
        let never_counted = Alert {
            sla: Sla::default(),
            ..resolved("al_2", 5)
        };
        assert_eq!(row(&never_counted, 5000)[7], NOT_KNOWN);
        assert_eq!(describe(&never_counted, 5000)["response"], Value::Null);
    }
}
