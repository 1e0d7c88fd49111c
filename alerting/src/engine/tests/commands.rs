//! Commands, inhibition, silences and SLA clocks.

use super::*;

#[test]
fn an_inhibited_alert_is_delivered_only_if_it_outlives_the_inhibitor() {
    let mut harness = Harness::new();
    harness.open(&payout("po_1", "acct_1", 100), 20);
    harness.open(&lost("acct_1"), 20);
    harness.open(&payout("po_2", "acct_2", 100), 20);
    let sent = harness.deliver_all(20);
    assert_eq!(
        sent.len(),
        4,
        "the lost account and the payout of the other one: {sent:?}"
    );
    harness.close(&lost("acct_1"), 30);
    let sent = harness.deliver_all(30);
    assert!(
        sent.contains(&"slack 🔴 CRITICAL: A payout failed".to_owned()),
        "{sent:?}"
    );
    let clock = harness
        .engine
        .alerts()
        .filter(|a| a.rule == "payout")
        .map(|a| a.sla.respond_due_s - 15 * 60)
        .max();
    assert_eq!(clock, Some(30), "its clocks began when it was delivered");
}

#[test]
fn alerts_that_still_fire_when_a_silence_ends_are_delivered() {
    let mut harness = Harness::new();
    let silence = Silence {
        id: "si_1".into(),
        matches: Matcher {
            account: Some("acct_1".into()),
            ..Matcher::default()
        },
        from_s: 0,
        until_s: 100,
        ahead_until_s: None,
        reason: "migration".into(),
        by: "ana".into(),
    };
    harness.command(CommandKind::Silence(silence), 0);
    harness.open(&lost("acct_1"), 20);
    harness.open(&lost("acct_2"), 20);
    assert_eq!(harness.deliver_all(20).len(), 2, "the other one only");
    harness.settle(20);
    harness.reopen();
    harness.engine.on_time(99);
    assert!(harness.deliver_all(99).is_empty());
    harness.engine.on_time(100);
    assert_eq!(harness.deliver_all(100).len(), 2);
    assert_eq!(harness.engine.silences().count(), 1, "still listed");
    // Ended early.
    let again = Silence {
        id: "si_2".into(),
        matches: Matcher {
            rule: Some("lost".into()),
            ..Matcher::default()
        },
        from_s: 100,
        until_s: 1000,
        ahead_until_s: None,
        reason: "r".into(),
        by: "ana".into(),
    };
    harness.command(CommandKind::Silence(again), 110);
    harness.open(&lost("acct_3"), 120);
    assert!(harness.deliver_all(120).is_empty());
    harness.command(
        CommandKind::Unsilence {
            silence_id: "si_2".into(),
        },
        130,
    );
    assert!(
        harness
            .deliver_all(130)
            .iter()
            .any(|t| t.starts_with("slack 🔴"))
    );
}

#[test]
fn clocks_warn_and_escalate_until_a_person_acknowledges() {
    let mut harness = Harness::new();
    let minute = 60;
    harness.open(&lost("acct_1"), 0);
    harness.deliver_all(0);
    harness.engine.on_time(12 * minute);
    let sent = harness.deliver_all(12 * minute);
    assert!(
        sent.iter()
            .any(|t| t.starts_with("slack#1 ⏳ RESPONSE DUE SOON")),
        "{sent:?}"
    );
    harness.engine.on_time(15 * minute);
    let sent = harness.deliver_all(15 * minute);
    assert!(
        sent.iter().any(|t| t.contains("NO RESPONSE IN TIME")),
        "{sent:?}"
    );
    harness.engine.on_time(30 * minute);
    let sent = harness.deliver_all(30 * minute);
    assert!(sent.iter().any(|t| t.contains("ESCALATION 1")), "{sent:?}");
    harness.command(
        CommandKind::Acknowledge {
            alert_id: harness.id("lost"),
        },
        35 * minute,
    );
    harness.deliver_all(35 * minute);
    harness.engine.on_time(46 * minute);
    assert!(
        harness.deliver_all(46 * minute).is_empty(),
        "it is acknowledged"
    );
    harness.engine.on_time(60 * minute);
    let sent = harness.deliver_all(60 * minute);
    assert!(
        sent.iter().any(|t| t.contains("NOT RESOLVED IN TIME")),
        "{sent:?}"
    );
    assert!(
        !sent.iter().any(|t| t.contains("DUE SOON")),
        "a warning is not sent together with the breach it warned of: {sent:?}"
    );
    let kinds: Vec<_> = harness
        .engine
        .alerts()
        .flat_map(|a| a.notices.iter().map(|n| n.kind))
        .collect();
    assert_eq!(
        kinds,
        [
            NoticeKind::RespondSoon,
            NoticeKind::RespondBreached,
            NoticeKind::Escalated(0),
            NoticeKind::ResolveBreached
        ]
    );
}

#[test]
fn a_dismissed_alert_fires_again_only_after_its_condition_closed() {
    let mut harness = Harness::new();
    harness.open(&lost("acct_1"), 20);
    harness.deliver_all(20);
    harness.command(
        CommandKind::Resolve {
            alert_id: harness.id("lost"),
        },
        30,
    );
    harness.deliver_all(30);
    harness.reopen();
    harness.open(&lost("acct_1"), 40);
    harness.engine.on_scan(&[lost("acct_1")], 41);
    harness.settle(41);
    assert!(harness.alerts().is_empty());
    harness.close(&lost("acct_1"), 50);
    harness.open(&lost("acct_1"), 60);
    harness.settle(60);
    assert_eq!(harness.alerts(), ["lost account acct_1 firing"]);
}

/// The rule of payouts keeps firing for a minute: the condition that opens within it is not the one that was dismissed.
#[test]
fn an_alert_dismissed_after_its_condition_closed_fires_when_it_opens_again() {
    let mut harness = Harness::new();
    harness.open(&payout("po_1", "acct_1", 100), 20);
    harness.deliver_all(20);
    harness.close(&payout("po_1", "acct_1", 100), 30);
    harness.command(
        CommandKind::Resolve {
            alert_id: harness.id("payout"),
        },
        40,
    );
    harness.deliver_all(40);
    harness.reopen();
    harness.open(&payout("po_1", "acct_1", 100), 50);
    harness.settle(50);
    assert_eq!(harness.alerts(), ["payout payout po_1 firing"]);
}

#[test]
fn a_silence_from_a_clock_that_is_ahead_begins_at_once() {
    let mut harness = Harness::new();
    harness.open(&lost("acct_1"), 20);
    let matches = Matcher {
        rule: Some("lost".into()),
        ..Matcher::default()
    };
    let (id, by) = ("si_1".to_owned(), "ana".to_owned());
    harness.command(
        CommandKind::Silence(Silence {
            id,
            matches,
            from_s: 21,
            until_s: 100,
            ahead_until_s: None,
            reason: "r".into(),
            by,
        }),
        20,
    );
    assert!(harness.deliver_all(20).is_empty());
}

#[test]
fn a_transition_that_stops_a_clock_says_how_long_it_took_unless_the_alert_was_silenced() {
    let mut harness = Harness::new();
    let silence = Silence {
        id: "si_1".into(),
        matches: Matcher {
            account: Some("acct_2".into()),
            ..Matcher::default()
        },
        from_s: 0,
        until_s: 9000,
        ahead_until_s: None,
        reason: "migration".into(),
        by: "ana".into(),
    };
    harness.command(CommandKind::Silence(silence), 0);
    harness.open(&lost("acct_1"), 20);
    harness.deliver_all(20);
    harness.command(
        CommandKind::Acknowledge {
            alert_id: harness.id("lost"),
        },
        50,
    );
    harness.close(&lost("acct_1"), 95);
    harness.deliver_all(95);
    harness.open(&lost("acct_2"), 100);
    harness.close(&lost("acct_2"), 150);
    harness.settle(150);
    let clocked: Vec<_> = harness
        .transitions
        .iter()
        .map(|h| (h.to, h.clocked))
        .collect();
    assert_eq!(
        clocked,
        [
            (Stage::Firing, None),
            (Stage::Acknowledged, Some((Severity::Critical, 30))),
            (Stage::Resolved, Some((Severity::Critical, 75))),
            (Stage::Firing, None),
            (Stage::Resolved, None),
        ]
    );
}
