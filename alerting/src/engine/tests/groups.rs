//! Many alerts at once.

use revwatch_core::amounts::UncertainMoney;

use super::*;
use crate::alert::NotificationState;
use crate::message::render;

#[test]
fn a_group_shows_the_current_sum_of_its_members() {
    let mut harness = Harness::new();
    let of = |n: i64, minor| payout(&format!("po_{n}"), &format!("acct_{n}"), minor);
    for n in 0..5 {
        harness.open(&of(n, 100), 20);
    }
    harness.deliver_all(20);
    harness.open(&of(0, 40), 30);
    assert_eq!(
        harness.deliver_all(30),
        ["slack 🔴 CRITICAL: 5 × A payout failed"]
    );
    let group = |harness: &Harness| {
        harness
            .engine
            .alert(&harness.id("payout"))
            .expect("a group")
            .clone()
    };
    assert_eq!(group(&harness).evidence.money, [Money::new(440, "usd")]);
    let top = group(&harness).group.expect("a group").top;
    assert_eq!(
        top.last().and_then(|member| member.money.clone()),
        Some(Money::new(40, "usd"))
    );
    harness.close(&of(0, 40), 30);
    harness.engine.on_time(90);
    assert_eq!(group(&harness).evidence.money, [Money::new(400, "usd")]);
}

#[test]
fn a_group_says_what_is_known_of_the_money_of_its_members() {
    let mut harness = Harness::new();
    let exact = |n: i64| payout(&format!("po_{n}"), &format!("acct_{n}"), 100);
    let bounded = |n: i64, high_minor| Condition {
        money: None,
        uncertain: Some(UncertainMoney {
            currency: Some("usd".into()),
            low_minor: 100,
            high_minor,
            reason: "discount".into(),
        }),
        ..exact(n)
    };
    for n in 0..4 {
        harness.open(&exact(n), 20);
    }
    for n in 4..6 {
        harness.open(&bounded(n, Some(300)), 20);
    }
    harness.deliver_all(20);
    let alert = |harness: &Harness| {
        let alert = harness.engine.alert(&harness.id("payout"));
        alert.expect("a group").clone()
    };
    let sum = |harness: &Harness| alert(harness).evidence.amounts().to_string();
    let why = "a discount is named only by its id";
    assert_eq!(sum(&harness), format!("USD 6.00 to USD 10.00: 2 × {why}"));
    let key = MessageKey::main("slack");
    let text = render(&alert(&harness), &key, &NotificationState::default()).text;
    for line in [
        format!("\nMoney: USD 6.00 to USD 10.00: 2 × {why}\n"),
        "\n- payout po_4, USD 1.00 to USD 3.00\n".to_owned(),
    ] {
        assert!(text.contains(&line), "{line}: {text}");
    }
    // Only what is not known of it changes.
    harness.open(&bounded(4, None), 30);
    harness.deliver_all(30);
    assert_eq!(sum(&harness), format!("at least USD 6.00: 2 × {why}"));
    harness.close(&bounded(4, None), 40);
    harness.close(&bounded(5, Some(300)), 40);
    harness.engine.on_time(100);
    assert_eq!(sum(&harness), "USD 4.00");
}

#[test]
fn a_storm_is_delivered_as_one_group_and_a_few_alerts_one_by_one() {
    let mut harness = Harness::new();
    for n in 0..3 {
        harness.open(&payout(&format!("po_{n}"), &format!("acct_{n}"), 100), 20);
    }
    assert_eq!(harness.deliver_all(20).len(), 6, "three, to two notifiers");
    for n in 3..10_000 {
        harness.open(&payout(&format!("po_{n}"), &format!("acct_{n}"), n), 30);
    }
    assert_eq!(
        harness.deliver_all(30),
        [
            "email 🔴 CRITICAL: 9997 × A payout failed",
            "slack 🔴 CRITICAL: 9997 × A payout failed"
        ]
    );
    // Others join for a while; the message is changed in place.
    harness.open(&payout("po_late", "acct_x", 5), 60);
    assert_eq!(
        harness.deliver_all(60),
        ["slack 🔴 CRITICAL: 9998 × A payout failed"]
    );
    let group = harness
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
    harness.command(
        CommandKind::Acknowledge {
            alert_id: group.id.clone(),
        },
        70,
    );
    harness.deliver_all(70);
    harness.open(&payout("po_later", "acct_y", 5), 71);
    let sent = harness.deliver_all(71);
    assert!(
        sent.contains(&"email 🔴 CRITICAL: A payout failed".to_owned()),
        "the group was acknowledged as it was: {sent:?}"
    );
    assert_eq!(
        harness
            .engine
            .counts()
            .filter(|(_, _, s, n)| *s == Stage::Acknowledged && *n == 9998)
            .count(),
        1
    );
    for n in 0..10_000 {
        harness.close(&payout(&format!("po_{n}"), "", 0), 80);
    }
    harness.close(&payout("po_late", "", 0), 80);
    harness.close(&payout("po_later", "", 0), 80);
    harness.engine.on_time(140);
    let sent = harness.deliver_all(140);
    assert_eq!(
        sent.iter().filter(|t| t.contains("RESOLVED")).count(),
        10,
        "four and the group, each twice: {sent:?}"
    );
    assert!(harness.alerts().is_empty());
    assert!(harness.engine.counts().all(|(_, _, _, n)| n == 0));
}

#[test]
fn a_group_that_a_person_resolved_says_who() {
    let mut harness = Harness::new();
    for n in 0..5 {
        harness.open(&payout(&format!("po_{n}"), &format!("acct_{n}"), 100), 20);
    }
    harness.settle(20);
    let id = harness.id("payout");
    harness.command(
        CommandKind::Resolve {
            alert_id: id.clone(),
        },
        30,
    );
    harness.settle(30);
    let group = harness.engine.alert(&id).expect("not delivered yet");
    assert_eq!(
        (group.state, group.resolved_by.as_deref()),
        (AlertState::Resolved, Some("ana"))
    );
    harness.deliver_all(30);
    assert!(harness.alerts().is_empty());
}

#[test]
fn an_alert_silenced_or_acknowledged_before_delivery_joins_no_group() {
    let mut harness = Harness::new();
    for n in 0..3 {
        harness.open(&payout(&format!("po_{n}"), &format!("acct_{n}"), 100), 20);
    }
    harness.settle(20);
    let id = |harness: &Harness, subject: &str| {
        harness
            .engine
            .alerts()
            .find(|a| a.subject_text() == subject)
            .map(|a| a.id.clone())
            .expect("an alert")
    };
    harness.command(
        CommandKind::Acknowledge {
            alert_id: id(&harness, "payout po_0"),
        },
        21,
    );
    let matches = Matcher {
        account: Some("acct_1".into()),
        ..Matcher::default()
    };
    let (silence, by) = ("si_1".to_owned(), "ana".to_owned());
    harness.command(
        CommandKind::Silence(Silence {
            id: silence,
            matches,
            from_s: 0,
            until_s: 100,
            ahead_until_s: None,
            reason: "r".into(),
            by,
        }),
        21,
    );
    harness.settle(21);
    harness.reopen();
    for n in 3..6 {
        harness.open(&payout(&format!("po_{n}"), &format!("acct_{n}"), 100), 30);
    }
    harness.settle(30);
    let group = harness
        .engine
        .alerts()
        .find_map(|a| a.group.as_ref())
        .expect("a group");
    assert_eq!(group.joined, 4);
    for alone in ["payout po_0", "payout po_1"] {
        assert_eq!(
            harness
                .engine
                .alert(&id(&harness, alone))
                .expect("open")
                .part_of,
            None,
            "{alone}"
        );
    }
}

/// As a single alert has.
#[test]
fn a_group_has_its_deadlines_from_the_end_of_the_silence_on() {
    let mut harness = Harness::new();
    let silence = Silence {
        matches: Matcher {
            rule: Some("payout".into()),
            ..Matcher::default()
        },
        ..silence_of_lost(0, 90_000)
    };
    harness.command(CommandKind::Silence(silence), 20);
    for n in 0..5 {
        harness.open(&payout(&format!("po_{n}"), &format!("acct_{n}"), 100), 20);
    }
    harness.settle(20);
    harness.engine.on_time(90_000);
    harness.settle(90_000);
    harness.engine.on_time(90_000);
    assert_eq!(
        harness.deliver_all(90_000),
        [
            "email 🔴 CRITICAL: 5 × A payout failed",
            "slack 🔴 CRITICAL: 5 × A payout failed",
        ]
    );
    let group = harness.engine.alert(&harness.id("payout"));
    let sla = &group.expect("a group").sla;
    assert_eq!(sla.respond_due_s, 90_000 + sla.respond_s);
}

#[test]
fn a_resolved_group_shows_the_sum_of_all_its_members() {
    let mut harness = Harness::new();
    for n in 0..6 {
        harness.open(
            &payout(&format!("po_{n}"), &format!("acct_{n}"), 100 + n),
            20,
        );
    }
    harness.deliver_all(20);
    for n in 0..6 {
        harness.close(&payout(&format!("po_{n}"), "", 0), 30);
    }
    harness.engine.on_time(90);
    let group = harness
        .engine
        .alerts()
        .find(|a| a.group.is_some())
        .expect("a group");
    assert_eq!(
        (group.state, group.evidence.money.as_slice()),
        (AlertState::Resolved, &[Money::new(615, "usd")][..])
    );
}
