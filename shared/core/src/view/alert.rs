//! Alerts as rows, and the words for their parts.

use std::cmp::Reverse;
use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::column::{Column, Unit, cell, column, time};
use super::text::rfc3339;
use crate::alert::{
    Alert, AlertState, Matcher, MessageKey, Mute, NoticeKind, NotificationState, Severity, Silence,
};
use crate::requirement::Detail;

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
    column("pre_existing", Unit::Text, |a| json!(a.pre_existing)),
];

/// Which alerts a list shows. All given criteria must match.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Also resolved alerts.
    pub resolved: bool,
    /// Only alerts of this rule.
    pub rule: Option<String>,
    /// Only alerts of this severity.
    pub severity: Option<Severity>,
    /// Only alerts in this state; [`ListedState::Resolved`] includes resolved alerts.
    pub state: Option<ListedState>,
    /// Only alerts on this connected account, and groups with such a member.
    pub account: Option<String>,
    /// Only the members of this group.
    pub group: Option<String>,
    /// Also the members of groups.
    pub members: bool,
}

/// The states by which a list can be restricted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListedState {
    /// See [`AlertState::Firing`].
    Firing,
    /// See [`AlertState::Acknowledged`].
    Acknowledged,
    /// See [`AlertState::Resolved`].
    Resolved,
    /// See [`Mute::Silence`].
    Silenced,
    /// See [`Mute::Inhibited`].
    Inhibited,
}

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

impl Selection {
    /// The selected alerts: open before resolved, the most severe first, and then the oldest.
    pub fn of(&self, alerts: Vec<Alert>) -> Vec<Alert> {
        let groups: HashSet<String> = alerts
            .iter()
            // The digest has members of many rules and severities.
            .filter(|alert| alert.group.is_some() && (!alert.is_digest() || self.matches(alert)))
            .map(|alert| alert.id.clone())
            .collect();
        // The accounts of a group are those of its members.
        let concerned: HashSet<String> = alerts
            .iter()
            .filter(|alert| self.concerns(alert) && self.includes_state(alert))
            .filter_map(|alert| alert.part_of.clone())
            .collect();
        // What was wrong already is listed one by one: no message is about one alone.
        let is_folded = |alert: &Alert| {
            !alert.pre_existing
                && !self.members
                && self.group.is_none()
                && alert.part_of.as_ref().is_some_and(|id| groups.contains(id))
        };
        let mut selected = alerts;
        selected.retain(|alert| {
            self.matches(alert)
                && !is_folded(alert)
                && (self.concerns(alert) || concerned.contains(&alert.id))
        });
        selected.sort_by_key(|a| {
            (
                a.is_resolved(),
                Reverse(a.severity),
                a.since_s,
                a.id.clone(),
            )
        });
        selected
    }

    /// Every criterion except the account, which a group has by its members.
    fn matches(&self, alert: &Alert) -> bool {
        self.includes_state(alert)
            && self.rule.as_ref().is_none_or(|rule| alert.rule == *rule)
            && self
                .severity
                .is_none_or(|severity| alert.severity == severity)
            && self.state.is_none_or(|state| state.matches(alert))
            && self
                .group
                .as_ref()
                .is_none_or(|id| alert.part_of.as_ref() == Some(id))
    }

    fn includes_state(&self, alert: &Alert) -> bool {
        self.resolved || self.state == Some(ListedState::Resolved) || !alert.is_resolved()
    }

    fn concerns(&self, alert: &Alert) -> bool {
        let account = self.account.as_deref();
        account.is_none_or(|account| alert.account() == Some(account))
    }
}

impl ListedState {
    fn matches(self, alert: &Alert) -> bool {
        let is_muted =
            |by: fn(&Mute) -> bool| !alert.is_resolved() && alert.muted.as_ref().is_some_and(by);
        match self {
            Self::Firing => alert.state == AlertState::Firing,
            Self::Acknowledged => alert.state == AlertState::Acknowledged,
            Self::Resolved => alert.is_resolved(),
            Self::Silenced => is_muted(|mute| matches!(mute, Mute::Silence(_))),
            Self::Inhibited => is_muted(|mute| matches!(mute, Mute::Inhibited(_))),
        }
    }
}

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
        since(alert),
        respond_by(alert, now_s),
    ]
}

/// One alert in a list as JSON, whatever the form in which it is stored.
pub fn describe(alert: &Alert) -> Value {
    let group = alert.group.as_ref();
    json!({
        "id": alert.id, "rule": alert.rule, "severity": alert.severity, "state": alert.state,
        "muted": alert.muted.as_ref().filter(|_| !alert.is_resolved()),
        "subject": alert.subject_text(), "account": alert.account(), "money": alert.evidence.amounts().json("minor"),
        "events": alert.evidence.event_ids, "reason": reason(alert),
        "group": group.map(|group| json!({"joined": group.joined, "open": group.open})), "part_of": alert.part_of,
        "pre_existing": alert.pre_existing, "began_before": alert.evidence.began_before,
        "since": time(Some(alert.since_s)), "fired_at": time(Some(alert.fired_s)),
        "acknowledged_at": time(alert.acknowledged_s), "acknowledged_by": alert.acknowledged_by,
        "resolved_at": time(alert.resolved_s), "resolved_by": alert.resolved_by,
        "respond_by": due(alert.sla.respond_due_s), "resolve_by": due(alert.sla.resolve_due_s),
        "revision": alert.revision,
        "notifications": alert.notifications.iter().map(notification).collect::<Map<_, _>>(),
    })
}

/// Why, in Stripe's words or ours.
fn reason(alert: &Alert) -> Option<&str> {
    let reason = alert.evidence.detail.as_deref().map(Detail::of)?.reason;
    Some(reason).filter(|reason| !reason.is_empty())
}

/// The state of one message, by its key.
fn notification((key, message): (&MessageKey, &NotificationState)) -> (String, Value) {
    let state = json!({
        "delivered_revision": message.delivered_revision, "attempting_revision": message.attempting_revision,
        "attempts": message.attempts, "possible_duplicate": message.possible_duplicate, "broken": message.broken,
        "failures": message.failures,
    });
    (key.to_string(), state)
}

/// For example `firing, silenced`, or `firing, pre-existing`.
pub fn state(alert: &Alert) -> String {
    let before = if alert.pre_existing {
        ", pre-existing"
    } else {
        ""
    };
    let muted = match alert.muted.as_ref().filter(|_| !alert.is_resolved()) {
        None => "",
        Some(Mute::Silence(_)) => ", silenced",
        Some(Mute::Inhibited(_)) => ", inhibited",
    };
    format!("{}{before}{muted}", alert.state.as_str())
}

/// What the alert is about, for display.
pub fn subject(alert: &Alert) -> String {
    match &alert.group {
        Some(group) if group.open == group.joined || alert.is_resolved() => {
            format!("{} alerts", group.joined)
        }
        Some(group) => format!("{} alerts, {} open", group.joined, group.open),
        None if alert.subject_text().is_empty() => "the business".to_owned(),
        None => alert.subject_text(),
    }
}

/// When the problem began, or at least held.
pub fn since(alert: &Alert) -> String {
    let at_least = if alert.evidence.began_before {
        "at least "
    } else {
        ""
    };
    format!("{at_least}{}", rfc3339(Some(alert.since_s)))
}

/// The money concerned, in every currency.
pub fn money(alert: &Alert) -> String {
    alert.evidence.amounts().texts().join(" + ")
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
        NoticeKind::Escalated(step) => format!("escalation {}", step.saturating_add(1)),
        NoticeKind::ResolveSoon => "resolution due soon".to_owned(),
        NoticeKind::ResolveBreached => "not resolved in time".to_owned(),
        NoticeKind::Again(times) => format!("again, {times} times"),
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
fn due(at_s: i64) -> Value {
    time(Some(at_s).filter(|at_s| *at_s > 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::{AlertTemplate, DIGEST, Evidence, Group, Subject};

    fn alert() -> Alert {
        let mut alert = Alert::fire(
            AlertTemplate::sample(),
            &Subject::Business,
            0,
            0,
            Evidence::default(),
        );
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
    fn what_was_wrong_already_is_listed_as_that() {
        let mut old = alert();
        old.pre_existing = true;
        old.evidence.began_before = true;
        assert_eq!(state(&old), "firing, pre-existing");
        assert_eq!(since(&old), "at least 1970-01-01T00:00:00Z");
        assert_eq!(describe(&old)["pre_existing"], true);
        old.part_of = Some("al_digest".into());
        let digest = Alert {
            id: "al_digest".into(),
            rule: DIGEST.into(),
            pre_existing: true,
            group: Some(Group::default()),
            ..alert()
        };
        let listed = |selection: Selection| {
            let shown = selection.of(vec![old.clone(), digest.clone()]);
            shown.into_iter().map(|a| a.rule).collect::<Vec<_>>()
        };
        let both = [old.rule.as_str(), DIGEST];
        assert_eq!(listed(Selection::default()), both);
        // Its members are of many rules: a list of one rule has only those.
        let of_rule = Selection {
            rule: Some(old.rule.clone()),
            ..Selection::default()
        };
        assert_eq!(listed(of_rule), [old.rule.clone()]);
    }

    #[test]
    fn an_exported_alert_has_no_time_for_a_deadline_that_has_not_started() {
        let mut alert = alert();
        alert.id = "al_1".into();
        assert_eq!(
            export_row(&alert).join(","),
            "al_1,charges_lost,critical,firing,,1970-01-01T00:00:00Z,,,,,1970-01-01T00:10:00Z,,,false"
        );
    }

    #[test]
    fn a_listed_alert_has_every_documented_key_and_no_stored_one() {
        let mut alert = alert();
        alert.muted = Some(Mute::Silence("si_1".into()));
        alert.notifications = [(MessageKey::main("slack"), NotificationState::default())].into();
        let shown = describe(&alert);
        let keys: Vec<_> = shown.as_object().expect("an object").keys().collect();
        let expected = [
            "account",
            "acknowledged_at",
            "acknowledged_by",
            "began_before",
            "events",
            "fired_at",
            "group",
            "id",
            "money",
            "muted",
            "notifications",
            "part_of",
            "pre_existing",
            "reason",
            "resolve_by",
            "resolved_at",
            "resolved_by",
            "respond_by",
            "revision",
            "rule",
            "severity",
            "since",
            "state",
            "subject",
        ];
        assert_eq!(keys, expected);
        assert_eq!(
            (&shown["muted"], &shown["respond_by"], &shown["resolve_by"]),
            (
                &json!({"silence": "si_1"}),
                &json!("1970-01-01T00:10:00Z"),
                &Value::Null
            )
        );
        assert_eq!(shown["notifications"]["slack"]["delivered_revision"], 0);
    }

    #[test]
    fn members_are_listed_if_their_group_is_not_stored() {
        let named = |name: &str| Alert {
            id: format!("al_{name}"),
            evidence: Evidence {
                account: Some(name.into()),
                ..Evidence::default()
            },
            ..alert()
        };
        let resolved = |alert: Alert| Alert {
            state: AlertState::Resolved,
            ..alert
        };
        let member = |name: &str, group: &str| Alert {
            part_of: Some(group.into()),
            ..named(name)
        };
        let group = Alert {
            group: Some(Group::default()),
            ..named("g")
        };
        let silenced = Alert {
            muted: Some(Mute::Silence("si_1".into())),
            ..named("a")
        };
        let all = [
            group,
            member("1", "al_g"),
            resolved(member("2", "al_g")),
            member("3", "al_gone"),
            silenced,
        ];
        let select = |given: fn(&mut Selection)| {
            let mut selection = Selection::default();
            given(&mut selection);
            let selected = selection.of(all.to_vec());
            selected.into_iter().map(|a| a.id).collect::<Vec<_>>()
        };
        assert_eq!(select(|_| ()), ["al_3", "al_a", "al_g"]);
        assert_eq!(
            select(|s| s.members = true),
            ["al_1", "al_3", "al_a", "al_g"]
        );
        assert_eq!(select(|s| s.group = Some("al_g".into())), ["al_1"]);
        assert_eq!(
            select(|s| (s.group, s.resolved) = (Some("al_g".into()), true)),
            ["al_1", "al_2"]
        );
        assert_eq!(select(|s| s.account = Some("1".into())), ["al_g"]);
        assert!(select(|s| s.account = Some("2".into())).is_empty());
        assert_eq!(
            select(|s| (s.account, s.resolved) = (Some("2".into()), true)),
            ["al_g"]
        );
        assert_eq!(select(|s| s.state = Some(ListedState::Silenced)), ["al_a"]);
        assert!(select(|s| s.state = Some(ListedState::Inhibited)).is_empty());
        assert_eq!(
            select(|s| (s.state, s.members) = (Some(ListedState::Resolved), true)),
            ["al_2"]
        );
    }
}
