//! What people ask for, what explains what, and what clocks say.

use super::*;

#[test]
fn what_another_alert_explains_is_told_only_if_it_outlives_it() {
    let mut desk = Desk::new();
    desk.open(&payout("po_1", "acct_1", 100), 20);
    desk.open(&lost("acct_1"), 20);
    desk.open(&payout("po_2", "acct_2", 100), 20);
    let told = desk.tell_all(20);
    assert_eq!(
        told.len(),
        4,
        "the lost account and the payout of the other one: {told:?}"
    );
    desk.close(&lost("acct_1"), 30);
    let told = desk.tell_all(30);
    assert!(
        told.contains(&"slack 🔴 CRITICAL: A payout failed".to_owned()),
        "{told:?}"
    );
    let clock = desk
        .engine
        .alerts()
        .filter(|a| a.rule == "payout")
        .map(|a| a.sla.respond_due_s - 15 * 60)
        .max();
    assert_eq!(clock, Some(30), "its clocks began when somebody could know");
}

#[test]
fn a_silence_ends_and_what_still_fires_is_told() {
    let mut desk = Desk::new();
    let silence = Silence {
        id: "si_1".into(),
        matches: Matcher {
            account: Some("acct_1".into()),
            ..Matcher::default()
        },
        from_s: 0,
        until_s: 100,
        reason: "migration".into(),
        by: "ana".into(),
    };
    desk.command(CommandKind::Silence(silence), 0);
    desk.open(&lost("acct_1"), 20);
    desk.open(&lost("acct_2"), 20);
    assert_eq!(desk.tell_all(20).len(), 2, "the other one only");
    desk.settle(20);
    desk.reopen();
    desk.engine.on_time(99);
    assert!(desk.tell_all(99).is_empty());
    desk.engine.on_time(100);
    assert_eq!(desk.tell_all(100).len(), 2);
    assert_eq!(desk.engine.silences().count(), 1, "still listed");
    // Ended early.
    let again = Silence {
        id: "si_2".into(),
        matches: Matcher {
            rule: Some("lost".into()),
            ..Matcher::default()
        },
        from_s: 100,
        until_s: 1000,
        reason: "r".into(),
        by: "ana".into(),
    };
    desk.command(CommandKind::Silence(again), 110);
    desk.open(&lost("acct_3"), 120);
    assert!(desk.tell_all(120).is_empty());
    desk.command(
        CommandKind::Unsilence {
            silence_id: "si_2".into(),
        },
        130,
    );
    assert!(desk.tell_all(130).iter().any(|t| t.starts_with("slack 🔴")));
}

#[test]
fn clocks_warn_escalate_and_fall_silent_when_somebody_answers() {
    let mut desk = Desk::new();
    let minute = 60;
    desk.open(&lost("acct_1"), 0);
    desk.tell_all(0);
    desk.engine.on_time(12 * minute);
    let told = desk.tell_all(12 * minute);
    assert!(
        told.iter()
            .any(|t| t.starts_with("slack#1 ⏳ RESPONSE DUE SOON")),
        "{told:?}"
    );
    desk.engine.on_time(15 * minute);
    let told = desk.tell_all(15 * minute);
    assert!(
        told.iter().any(|t| t.contains("NO RESPONSE IN TIME")),
        "{told:?}"
    );
    desk.engine.on_time(30 * minute);
    let told = desk.tell_all(30 * minute);
    assert!(told.iter().any(|t| t.contains("ESCALATION 1")), "{told:?}");
    desk.command(
        CommandKind::Acknowledge {
            alert_id: desk.id("lost"),
        },
        35 * minute,
    );
    desk.tell_all(35 * minute);
    desk.engine.on_time(46 * minute);
    assert!(desk.tell_all(46 * minute).is_empty(), "somebody has it");
    desk.engine.on_time(60 * minute);
    let told = desk.tell_all(60 * minute);
    assert!(
        told.iter().any(|t| t.contains("NOT RESOLVED IN TIME")),
        "{told:?}"
    );
    assert!(
        !told.iter().any(|t| t.contains("DUE SOON")),
        "a warning is not sent together with the breach it warned of: {told:?}"
    );
    let kinds: Vec<_> = desk
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
fn what_was_ended_by_hand_does_not_fire_again_before_it_has_been_over() {
    let mut desk = Desk::new();
    desk.open(&lost("acct_1"), 20);
    desk.tell_all(20);
    desk.command(
        CommandKind::Resolve {
            alert_id: desk.id("lost"),
        },
        30,
    );
    desk.tell_all(30);
    desk.reopen();
    desk.open(&lost("acct_1"), 40);
    desk.engine.on_scan(&[lost("acct_1")], 41);
    desk.settle(41);
    assert!(desk.alerts().is_empty());
    desk.close(&lost("acct_1"), 50);
    desk.open(&lost("acct_1"), 60);
    desk.settle(60);
    assert_eq!(desk.alerts(), ["lost account acct_1 firing"]);
}

/// The rule of payouts keeps firing for a minute: in between, what was over is not the trouble that was
/// ended by hand.
#[test]
fn what_was_ended_by_hand_after_it_was_over_fires_when_it_begins_again() {
    let mut desk = Desk::new();
    desk.open(&payout("po_1", "acct_1", 100), 20);
    desk.tell_all(20);
    desk.close(&payout("po_1", "acct_1", 100), 30);
    desk.command(
        CommandKind::Resolve {
            alert_id: desk.id("payout"),
        },
        40,
    );
    desk.tell_all(40);
    desk.reopen();
    desk.open(&payout("po_1", "acct_1", 100), 50);
    desk.settle(50);
    assert_eq!(desk.alerts(), ["payout payout po_1 firing"]);
}

#[test]
fn a_silence_asked_for_by_a_clock_that_is_ahead_begins_at_once() {
    let mut desk = Desk::new();
    desk.open(&lost("acct_1"), 20);
    let matches = Matcher {
        rule: Some("lost".into()),
        ..Matcher::default()
    };
    let (id, by) = ("si_1".to_owned(), "ana".to_owned());
    desk.command(
        CommandKind::Silence(Silence {
            id,
            matches,
            from_s: 21,
            until_s: 100,
            reason: "r".into(),
            by,
        }),
        20,
    );
    assert!(desk.tell_all(20).is_empty());
}

#[test]
fn what_stops_a_clock_says_how_long_it_took_and_what_nobody_was_told_of_does_not() {
    let mut desk = Desk::new();
    let silence = Silence {
        id: "si_1".into(),
        matches: Matcher {
            account: Some("acct_2".into()),
            ..Matcher::default()
        },
        from_s: 0,
        until_s: 9000,
        reason: "migration".into(),
        by: "ana".into(),
    };
    desk.command(CommandKind::Silence(silence), 0);
    desk.open(&lost("acct_1"), 20);
    desk.tell_all(20);
    desk.command(
        CommandKind::Acknowledge {
            alert_id: desk.id("lost"),
        },
        50,
    );
    desk.close(&lost("acct_1"), 95);
    desk.tell_all(95);
    desk.open(&lost("acct_2"), 100);
    desk.close(&lost("acct_2"), 150);
    desk.settle(150);
    let clocked: Vec<_> = desk.happened.iter().map(|h| (h.to, h.clocked)).collect();
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
