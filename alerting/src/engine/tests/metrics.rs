//! Rules on metrics, and late events.

use super::*;

#[test]
fn a_metric_rule_waits_for_its_time_and_evaluates_each_segment() {
    let mut harness = Harness::new();
    let mut counters = Counters::default();
    counters.add(
        Bucket::Minute(0),
        &["main/connected:payouts", "failed", "usd"],
        3,
    );
    counters.add(
        Bucket::Minute(0),
        &["main/connected:payouts", "paid", "eur"],
        3,
    );
    harness.engine.on_counters(facts(&counters, 100));
    harness.settle(100);
    harness.reopen();
    harness.engine.on_counters(facts(&counters, 159));
    harness.settle(159);
    assert!(harness.alerts().is_empty());
    harness.engine.on_counters(facts(&counters, 160));
    assert!(
        harness
            .deliver_all(160)
            .contains(&"slack 🟠 HIGH: Payouts fail (usd)".to_owned())
    );
    assert_eq!(harness.alerts(), ["failures currency usd firing"]);
    counters.add(
        Bucket::Minute(0),
        &["main/connected:payouts", "paid", "usd"],
        3,
    );
    harness.engine.on_counters(facts(&counters, 200));
    harness.deliver_all(200);
    assert!(harness.alerts().is_empty(), "half is not above half");
}

#[test]
fn a_trend_ends_with_the_value_that_the_alert_shows() {
    let mut harness = Harness::new();
    let mut counters = Counters::default();
    counters.add(
        Bucket::Minute(0),
        &["main/connected:payouts", "failed", "usd"],
        3,
    );
    for now_s in [100, 160] {
        harness.engine.on_counters(facts(&counters, now_s));
        harness.deliver_all(now_s);
    }
    let ends_now = |harness: &Harness| {
        let alert = harness.engine.alerts().next().expect("an alert");
        let last = alert.evidence.trend.last().and_then(|point| point.value);
        let shown = alert.evidence.metric_value.map(|shown| shown.value);
        assert!(last.is_some() && last == shown, "{:?}", alert.evidence);
    };
    ends_now(&harness);
    // It moved, too soon for a change of its message.
    counters.add(
        Bucket::Minute(0),
        &["main/connected:payouts", "paid", "usd"],
        1,
    );
    harness.engine.on_counters(facts(&counters, 170));
    ends_now(&harness);
    counters.add(
        Bucket::Minute(0),
        &["main/connected:payouts", "paid", "usd"],
        9,
    );
    harness.engine.on_counters(facts(&counters, 200));
    assert_eq!(harness.alerts(), ["failures currency usd resolved"]);
    ends_now(&harness);
}

#[test]
fn an_unknown_metric_does_not_resolve_by_time_alone() {
    let patient = RULES.replace(
        "for = \"1m\"\nseverity",
        "keep_firing_for = \"10m\"\nseverity",
    );
    let mut harness = Harness::new();
    let changed = crate::rule_text::parse(&[("test".into(), patient)]);
    harness.engine.rules = RuleSet::new(changed.expect("valid"), "");
    let of = |status: &str| {
        let mut counters = Counters::default();
        counters.add(
            Bucket::Minute(0),
            &["main/connected:payouts", status, "usd"],
            3,
        );
        counters
    };
    harness.engine.on_counters(facts(&of("failed"), 100));
    harness.engine.on_counters(facts(&of("paid"), 200));
    harness.engine.on_counters(facts(&Counters::default(), 300));
    harness.engine.on_time(800);
    assert_eq!(harness.alerts(), ["failures currency usd firing"]);
    harness.engine.on_counters(facts(&of("paid"), 810));
    assert_eq!(harness.alerts(), ["failures currency usd resolved"]);
}

#[test]
fn a_skipped_condition_waits_for_its_own_rule_only() {
    let strict = RULES.replace("above = 0.5", "above = 0.5\nfresh_within = \"1s\"");
    let mut harness = Harness::new();
    let changed = crate::rule_text::parse(&[("test".into(), strict)]);
    harness.engine.rules = RuleSet::new(changed.expect("valid"), "");
    let due = condition(
        ConditionKind::RequirementsDue,
        EntityKind::Account,
        "acct_1",
        "acct_1",
        -4000,
    );
    let due = Condition { due_s: 0, ..due };
    let mut counters = Counters::default();
    counters.add(Bucket::Hour(0), &["events", "created"], 1);
    let hour = 3600;
    harness.engine.on_counters(facts(&counters, 4 * hour));
    harness.open(&due, 4 * hour);
    assert!(harness.engine.scan_reason(4 * hour).is_none());
    counters.add(Bucket::Hour(3), &["events", "created"], 1);
    harness.engine.on_counters(facts(&counters, 4 * hour + 60));
    assert!(
        harness.engine.scan_reason(4 * hour + 60).is_some(),
        "only the stricter rule is late, and it skipped nothing"
    );
    harness
        .engine
        .on_scan(std::slice::from_ref(&due), 4 * hour + 60);
    assert_eq!(harness.alerts(), ["due account acct_1 firing"]);
}

#[test]
fn a_metric_that_moved_within_the_refresh_period_is_shown_after_it() {
    let mut harness = Harness::new();
    let mut counters = Counters::default();
    counters.add(
        Bucket::Minute(0),
        &["main/connected:payouts", "failed", "usd"],
        3,
    );
    for now_s in [100, 160] {
        harness.engine.on_counters(facts(&counters, now_s));
        harness.settle(now_s);
    }
    harness.deliver_all(160);
    counters.add(
        Bucket::Minute(0),
        &["main/connected:payouts", "paid", "usd"],
        1,
    );
    harness.engine.on_counters(facts(&counters, 200));
    assert!(harness.deliver_all(200).is_empty(), "not yet");
    harness.reopen();
    harness.engine.on_counters(facts(&counters, 459));
    assert!(harness.deliver_all(459).is_empty());
    harness.engine.on_counters(facts(&counters, 460));
    assert_eq!(
        harness.deliver_all(460),
        ["slack 🟠 HIGH: Payouts fail (usd)"]
    );
    harness.engine.on_counters(facts(&counters, 900));
    assert!(harness.deliver_all(900).is_empty(), "it has not moved");
}

#[test]
fn while_events_are_late_overdue_conditions_do_not_fire() {
    let mut harness = Harness::new();
    let hour = 3600;
    let mut due = condition(
        ConditionKind::RequirementsDue,
        EntityKind::Account,
        "acct_1",
        "acct_1",
        0,
    );
    due.due_s = 2 * hour;
    let mut counters = Counters::default();
    counters.add(Bucket::Hour(0), &["events", "created"], 1);
    harness.engine.on_counters(facts(&counters, 4 * hour));
    harness.open(&due, 4 * hour);
    harness.settle(4 * hour);
    assert!(
        harness.alerts().is_empty()
            && !harness.engine.position.waiting.is_empty()
            && harness.engine.scan_reason(4 * hour).is_none()
    );
    harness.reopen();
    counters.add(Bucket::Hour(4), &["events", "created"], 1);
    harness.engine.on_counters(facts(&counters, 4 * hour + 60));
    assert!(harness.engine.scan_reason(4 * hour + 60).is_some());
    harness
        .engine
        .on_scan(std::slice::from_ref(&due), 4 * hour + 60);
    assert_eq!(harness.alerts(), ["due account acct_1 firing"]);
    harness.settle(4 * hour + 60);
    assert!(harness.engine.scan_reason(4 * hour + 60).is_none());
    // Deliveries wait and none is applied: the event that closes the condition may be among them.
    let stalled = PipelineStatus {
        stalled_s: 301,
        ..PIPELINE.clone()
    };
    harness.engine.on_counters(MetricInputs {
        begun_s: None,
        counters: &counters,
        pipeline: &stalled,
        now_s: 4 * hour + 90,
    });
    due.key.subject.id = "acct_2".into();
    harness.open(&due, 4 * hour + 90);
    assert_eq!(harness.alerts(), ["due account acct_1 firing"]);
    harness.engine.on_counters(facts(&counters, 4 * hour + 120));
    assert!(harness.engine.scan_reason(4 * hour + 120).is_some());
}

#[test]
fn a_metric_rule_that_is_removed_or_has_other_segments_ends_its_alerts() {
    for (from, to) in [
        ("name = \"failures\"", "name = \"other\""),
        ("by = \"currency\"\n", ""),
    ] {
        let mut harness = Harness::new();
        let mut counters = Counters::default();
        counters.add(
            Bucket::Minute(0),
            &["main/connected:payouts", "failed", "usd"],
            3,
        );
        for now_s in [100, 160] {
            harness.engine.on_counters(facts(&counters, now_s));
            harness.settle(now_s);
        }
        assert_eq!(harness.alerts(), ["failures currency usd firing"]);
        harness.reopen();
        assert!(harness.engine.scan_reason(160).is_none());
        let changed =
            crate::rule_text::parse(&[("test".into(), RULES.replace(from, to))]).expect("valid");
        harness.reopen_with(changed, policy());
        assert!(harness.engine.scan_reason(170).is_some(), "{to}");
        harness.engine.on_scan(&[], 170);
        assert_eq!(harness.alerts(), ["failures currency usd resolved"], "{to}");
    }
}
