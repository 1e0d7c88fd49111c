//! An alert whose problem comes back soon is the same alert.

use super::*;

const AGAIN: &str = "keep_firing_for = \"1m\"";

fn harness() -> Harness {
    let text = RULES.replace(AGAIN, "reopen_within = \"10m\"");
    let rules = crate::rule_text::parse(&[("test".into(), text)]).expect("valid");
    let mut harness = Harness::open_with(rules, policy(), &Documents::default());
    harness.engine.on_scan(&[], 0);
    harness.settle(0);
    harness
}

fn reopen(harness: &mut Harness) {
    let rules = harness.engine.rules().to_vec();
    harness.reopen_with(rules, policy());
}

/// Fires, is delivered, and resolves.
fn flip(harness: &mut Harness, at_s: i64) -> Vec<String> {
    let failed = payout("po_1", "acct_1", 100);
    harness.open(&failed, at_s);
    let mut sent = harness.deliver_all(at_s);
    harness.close(&failed, at_s + 30);
    sent.extend(harness.deliver_all(at_s + 30));
    sent
}

#[test]
fn what_comes_back_within_the_time_is_the_same_alert_also_after_a_restart() {
    for restarts in [false, true] {
        let mut harness = harness();
        let first = flip(&mut harness, 100);
        assert_eq!(
            first,
            [
                "email 🔴 CRITICAL: A payout failed",
                "slack 🔴 CRITICAL: A payout failed",
                "email ✅ RESOLVED: A payout failed",
                "slack ✅ RESOLVED: A payout failed",
            ]
        );
        if restarts {
            reopen(&mut harness);
        }
        let id = harness.id("payout");
        // Slack's message changes; a mail cannot, so there is another one. Then it stays for ten minutes.
        for at_s in [200, 300, 400] {
            let sent = flip(&mut harness, at_s);
            let expected: &[&str] = match at_s {
                200 => &[
                    "email 🔴 CRITICAL: A payout failed",
                    "slack 🔴 CRITICAL: A payout failed",
                ],
                _ => &[],
            };
            assert_eq!(sent, expected, "{at_s}");
            if restarts {
                reopen(&mut harness);
            }
        }
        assert_eq!(harness.id("payout"), id);
        harness.engine.on_time(799);
        assert!(harness.deliver_all(799).is_empty());
        harness.engine.on_time(800);
        let sent = harness.deliver_all(800);
        assert_eq!(sent.len(), 2, "{sent:?}");
        assert!(sent.iter().all(|it| it.contains("RESOLVED")), "{sent:?}");
        // It is over ten minutes later, and what comes then is another one.
        harness.settle(1400);
        assert!(harness.alerts().is_empty(), "{:?}", harness.alerts());
        flip(&mut harness, 1500);
        assert_ne!(harness.id("payout"), id);
    }
}

#[test]
fn an_acknowledged_alert_returns_as_that_and_one_that_a_person_resolved_does_not() {
    let mut harness = harness();
    let failed = payout("po_1", "acct_1", 100);
    harness.open(&failed, 100);
    harness.deliver_all(100);
    let alert_id = harness.id("payout");
    let acknowledge = CommandKind::Acknowledge {
        alert_id: alert_id.clone(),
    };
    harness.command(acknowledge, 110);
    harness.close(&failed, 120);
    harness.deliver_all(120);
    harness.open(&failed, 130);
    harness.deliver_all(130);
    let state = |harness: &Harness, id: &str| harness.engine.alert(id).map(|it| it.state);
    assert_eq!(state(&harness, &alert_id), Some(AlertState::Acknowledged));
    harness.engine.on_time(130 + 900);
    let sent = harness.deliver_all(130 + 900);
    assert!(sent.is_empty(), "a person has it: {sent:?}");
    let resolve = CommandKind::Resolve {
        alert_id: alert_id.clone(),
    };
    harness.command(resolve, 1100);
    harness.close(&failed, 1110);
    harness.deliver_all(1110);
    harness.open(&failed, 1120);
    let sent = harness.deliver_all(1120);
    assert_eq!(sent.len(), 2, "{sent:?}");
    assert_ne!(harness.id("payout"), alert_id);
}

#[test]
fn those_of_a_group_do_not_return_but_a_new_one_stays_for_as_long() {
    let mut harness = harness();
    let storm: Vec<_> = (0..5)
        .map(|n| payout(&format!("po_{n}"), &format!("acct_{n}"), 100))
        .collect();
    let mut groups = 0;
    for at_s in [100, 200, 300, 400] {
        for failed in &storm {
            harness.open(failed, at_s);
        }
        let sent = harness.deliver_all(at_s);
        groups += sent.iter().filter(|it| it.starts_with("email 🔴")).count();
        for failed in &storm {
            harness.close(failed, at_s + 30);
        }
        harness.deliver_all(at_s + 30);
    }
    assert_eq!(groups, 2, "the second one is held");
    harness.engine.on_time(800);
    harness.deliver_all(800);
    harness.settle(1401);
    assert!(harness.alerts().is_empty(), "{:?}", harness.alerts());
}

/// The attempt that said that it is over had no outcome: people may not know it yet.
#[test]
fn while_people_are_being_told_that_it_is_over_another_alert_fires() {
    let mut harness = harness();
    let failed = payout("po_1", "acct_1", 100);
    harness.open(&failed, 100);
    harness.deliver_all(100);
    let id = harness.id("payout");
    harness.close(&failed, 130);
    harness.deliver(130, |key| match key.notifier.as_str() {
        "email" => Outcome::Unknown {
            reason: "no answer".into(),
        },
        _ => Outcome::Delivered {
            receipt: Some("r".into()),
        },
    });
    harness.open(&failed, 131);
    let mut firing = harness.engine.alerts().filter(|it| !it.is_resolved());
    let alert = firing.next().expect("another one");
    assert_ne!(alert.id, id);
    assert_eq!(alert.returned_s, Some(131));
}
