//! Documents of earlier versions, in which fields had other names.

use super::*;

const ALERT: &str = r#"{
    "id": "al_1", "rule": "lost", "severity": "critical", "route": "alerts-critical",
    "title": "A provider can no longer take charges", "actions": ["Look."], "runbook": null,
    "subject": {"entity": {"kind": "account", "id": "acct_1"}},
    "state": "firing", "since_s": 10, "fired_s": 20, "acknowledged_s": null, "resolved_s": null,
    "sla": {"respond_s": 60, "resolve_s": 90, "respond_due_s": 80, "resolve_due_s": 110,
            "ahead": [[110, "resolve_breached"]]},
    "evidence": {"figure": {"value": 0.5, "threshold": 0.1, "side": "above", "unit": "share"},
                 "account": "acct_1"},
    "revision": 3, "revised_s": 30, "is_behind": true, "notifiers": ["slack"],
    "deliveries": {"slack": {"told": 2, "trying": 3, "receipt": "r", "attempts": 1, "not_before_ms": 5}}
}"#;

const POSITION_BODY: &str = r#"{
    "cursor": {"0": 7}, "until_s": 40, "rules": ["r"], "waiting": ["due"], "history_cut_s": 1,
    "healed_by": "run_1"
}"#;

/// Each name that a field had, and the one that it has.
const RENAMED: [(&str, &str); 7] = [
    ("ahead", "upcoming"),
    ("figure", "metric_value"),
    ("is_behind", "has_unsent_changes"),
    ("deliveries", "notifications"),
    ("told", "delivered_revision"),
    ("trying", "attempting_revision"),
    ("healed_by", "recovery_id"),
];

#[test]
fn documents_with_the_old_names_are_read_and_mean_the_same() {
    let stored = Documents {
        alerts: vec![("al_1".into(), ALERT.into())],
        position: vec![("position".into(), POSITION_BODY.into())],
        ..Documents::default()
    };
    let harness = Harness::open_engine(&stored);
    let alert = harness.engine.alert("al_1").expect("it was stored");
    assert_eq!(alert.sla.upcoming, [(110, NoticeKind::ResolveBreached)]);
    let value = alert.evidence.metric_value.expect("a metric value");
    assert!((value.value - 0.5).abs() < f64::EPSILON);
    assert!(alert.has_unsent_changes);
    let slack = &alert.notifications[&MessageKey::main("slack")];
    let revisions = (slack.delivered_revision, slack.attempting_revision);
    assert_eq!(revisions, (2, Some(3)));
    assert_eq!(harness.engine.position.recovery_id, "run_1");
    assert_eq!(
        harness.engine.next_moment_s(30),
        Some(110),
        "its clock runs"
    );
}

#[test]
fn documents_are_written_with_the_new_names() {
    let alert: Alert = serde_json::from_str(ALERT).expect("readable");
    let position: EvaluatorPosition = serde_json::from_str(POSITION_BODY).expect("readable");
    let written = json(&alert) + &json(&position);
    for (old, new) in RENAMED {
        let holds = |name: &str| written.contains(&format!("\"{name}\":"));
        assert!(holds(new) && !holds(old), "{old} → {new}");
    }
}
