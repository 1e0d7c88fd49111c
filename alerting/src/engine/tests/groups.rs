//! Many alerts at once.

use super::*;

#[test]
fn a_group_shows_the_current_sum_of_its_members() {
    let mut desk = Desk::new();
    let of = |n: i64, minor| payout(&format!("po_{n}"), &format!("acct_{n}"), minor);
    for n in 0..5 {
        desk.open(&of(n, 100), 20);
    }
    desk.deliver_all(20);
    desk.open(&of(0, 40), 30);
    assert_eq!(
        desk.deliver_all(30),
        ["slack 🔴 CRITICAL: 5 × A payout failed"]
    );
    let group = |desk: &Desk| {
        desk.engine
            .alert(&desk.id("payout"))
            .expect("a group")
            .clone()
    };
    assert_eq!(group(&desk).evidence.money, [Money::new(440, "usd")]);
    let top = group(&desk).group.expect("a group").top;
    assert_eq!(
        top.last().and_then(|member| member.money.clone()),
        Some(Money::new(40, "usd"))
    );
    desk.close(&of(0, 40), 30);
    desk.engine.on_time(90);
    assert_eq!(group(&desk).evidence.money, [Money::new(400, "usd")]);
}

#[test]
fn a_storm_is_delivered_as_one_group_and_a_few_alerts_one_by_one() {
    let mut desk = Desk::new();
    for n in 0..3 {
        desk.open(&payout(&format!("po_{n}"), &format!("acct_{n}"), 100), 20);
    }
    assert_eq!(desk.deliver_all(20).len(), 6, "three, to two notifiers");
    for n in 3..10_000 {
        desk.open(&payout(&format!("po_{n}"), &format!("acct_{n}"), n), 30);
    }
    assert_eq!(
        desk.deliver_all(30),
        [
            "email 🔴 CRITICAL: 9997 × A payout failed",
            "slack 🔴 CRITICAL: 9997 × A payout failed"
        ]
    );
    // Others join for a while; the message is changed in place.
    desk.open(&payout("po_late", "acct_x", 5), 60);
    assert_eq!(
        desk.deliver_all(60),
        ["slack 🔴 CRITICAL: 9998 × A payout failed"]
    );
    let group = desk
        .engine
        .alerts()
        .find(|a| a.group.is_some())
        .expect("a group")
        .clone();
    let top = &group.group.as_ref().expect("a group").top;
    assert_eq!(
        (top.len(), top[0].money.as_ref().map(|m| m.minor)),
        (10, Some(9999))
    );
    let sum: i64 = (3..10_000).sum::<i64>() + 5;
    assert_eq!(group.evidence.money, [Money::new(sum, "usd")]);
    desk.command(
        CommandKind::Acknowledge {
            alert_id: group.id.clone(),
        },
        70,
    );
    desk.deliver_all(70);
    desk.open(&payout("po_later", "acct_y", 5), 71);
    let sent = desk.deliver_all(71);
    assert!(
        sent.contains(&"email 🔴 CRITICAL: A payout failed".to_owned()),
        "the group was acknowledged as it was: {sent:?}"
    );
    assert_eq!(
        desk.engine
            .counts()
            .filter(|(_, _, s, n)| *s == Stage::Acknowledged && *n == 9998)
            .count(),
        1
    );
    for n in 0..10_000 {
        desk.close(&payout(&format!("po_{n}"), "", 0), 80);
    }
    desk.close(&payout("po_late", "", 0), 80);
    desk.close(&payout("po_later", "", 0), 80);
    desk.engine.on_time(140);
    let sent = desk.deliver_all(140);
    assert_eq!(
        sent.iter().filter(|t| t.contains("RESOLVED")).count(),
        10,
        "four and the group, each twice: {sent:?}"
    );
    assert!(desk.alerts().is_empty());
    assert!(desk.engine.counts().all(|(_, _, _, n)| n == 0));
}

#[test]
fn a_group_that_a_person_resolved_says_who() {
    let mut desk = Desk::new();
    for n in 0..5 {
        desk.open(&payout(&format!("po_{n}"), &format!("acct_{n}"), 100), 20);
    }
    desk.settle(20);
    let id = desk.id("payout");
    desk.command(
        CommandKind::Resolve {
            alert_id: id.clone(),
        },
        30,
    );
    desk.settle(30);
    let group = desk.engine.alert(&id).expect("not delivered yet");
    assert_eq!(
        (group.state, group.resolved_by.as_deref()),
        (AlertState::Resolved, Some("ana"))
    );
    desk.deliver_all(30);
    assert!(desk.alerts().is_empty());
}

#[test]
fn an_alert_silenced_or_acknowledged_before_delivery_joins_no_group() {
    let mut desk = Desk::new();
    for n in 0..3 {
        desk.open(&payout(&format!("po_{n}"), &format!("acct_{n}"), 100), 20);
    }
    desk.settle(20);
    let id = |desk: &Desk, subject: &str| {
        desk.engine
            .alerts()
            .find(|a| a.subject_text() == subject)
            .map(|a| a.id.clone())
            .expect("an alert")
    };
    desk.command(
        CommandKind::Acknowledge {
            alert_id: id(&desk, "payout po_0"),
        },
        21,
    );
    let matches = Matcher {
        account: Some("acct_1".into()),
        ..Matcher::default()
    };
    let (silence, by) = ("si_1".to_owned(), "ana".to_owned());
    desk.command(
        CommandKind::Silence(Silence {
            id: silence,
            matches,
            from_s: 0,
            until_s: 100,
            reason: "r".into(),
            by,
        }),
        21,
    );
    desk.settle(21);
    desk.reopen();
    for n in 3..6 {
        desk.open(&payout(&format!("po_{n}"), &format!("acct_{n}"), 100), 30);
    }
    desk.settle(30);
    let group = desk
        .engine
        .alerts()
        .find_map(|a| a.group.as_ref())
        .expect("a group");
    assert_eq!(group.joined, 4);
    for alone in ["payout po_0", "payout po_1"] {
        assert_eq!(
            desk.engine.alert(&id(&desk, alone)).expect("open").part_of,
            None,
            "{alone}"
        );
    }
}

#[test]
fn a_resolved_group_shows_the_sum_of_all_its_members() {
    let mut desk = Desk::new();
    for n in 0..6 {
        desk.open(
            &payout(&format!("po_{n}"), &format!("acct_{n}"), 100 + n),
            20,
        );
    }
    desk.deliver_all(20);
    for n in 0..6 {
        desk.close(&payout(&format!("po_{n}"), "", 0), 30);
    }
    desk.engine.on_time(90);
    let group = desk
        .engine
        .alerts()
        .find(|a| a.group.is_some())
        .expect("a group");
    assert_eq!(
        (group.state, group.evidence.money.as_slice()),
        (AlertState::Resolved, &[Money::new(615, "usd")][..])
    );
}
