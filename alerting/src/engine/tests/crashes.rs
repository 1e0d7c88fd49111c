//! Restarts, and writes that a crash interrupts.

use super::*;

#[test]
fn an_engine_reopened_at_any_point_continues_as_if_it_had_not_been() {
    let play = |restarts: bool| {
        let mut harness = Harness::new();
        let mut log: Vec<Vec<String>> = Vec::new();
        let again = |harness: &mut Harness, now_s| {
            harness.settle(now_s);
            if restarts {
                harness.reopen();
            }
        };
        for n in 0..6 {
            harness.open(
                &payout(&format!("po_{n}"), &format!("acct_{n}"), 100 * n),
                20,
            );
            again(&mut harness, 20);
        }
        log.push(harness.deliver_all(20));
        again(&mut harness, 20);
        harness.command(
            CommandKind::Acknowledge {
                alert_id: harness.id("payout"),
            },
            25,
        );
        again(&mut harness, 25);
        harness.engine.on_time(20 + 15 * 60);
        again(&mut harness, 20 + 15 * 60);
        log.push(harness.deliver_all(20 + 15 * 60));
        for n in 0..6 {
            harness.close(&payout(&format!("po_{n}"), "", 0), 2000);
            again(&mut harness, 2000);
        }
        harness.engine.on_time(2059);
        again(&mut harness, 2059);
        log.push(harness.alerts());
        harness.engine.on_time(2060);
        again(&mut harness, 2060);
        log.push(harness.deliver_all(2060));
        log.push(harness.alerts());
        log
    };
    let (plain, restarted) = (play(false), play(true));
    assert_eq!(plain, restarted);
    assert!(plain[4].is_empty(), "{plain:?}");
}

#[test]
fn pending_rules_are_counted_after_a_restart_too() {
    let mut harness = Harness::new();
    let mut counters = Counters::default();
    counters.add(
        Bucket::Minute(0),
        &["main/connected:payouts", "failed", "usd"],
        3,
    );
    let pending = |harness: &Harness| -> i64 {
        harness
            .engine
            .counts()
            .filter(|(_, _, stage, _)| *stage == Stage::Pending)
            .map(|(.., n)| n)
            .sum()
    };
    harness.engine.on_counters(facts(&counters, 100));
    harness.settle(100);
    assert_eq!(pending(&harness), 1);
    harness.reopen();
    assert_eq!(pending(&harness), 1);
    harness.engine.on_counters(facts(&counters, 160));
    assert_eq!(pending(&harness), 0);
}

#[test]
fn an_alert_that_fires_again_within_its_second_is_another_alert() {
    let mut harness = Harness::new();
    let again = Condition {
        event_id: "evt_3".into(),
        ..lost("acct_1")
    };
    harness.open(&lost("acct_1"), 100);
    harness.close(&lost("acct_1"), 100);
    harness.open(&again, 100);
    let sent = harness.deliver_all(100);
    assert!(
        sent.len() == 4 && sent.iter().filter(|t| t.contains("RESOLVED")).count() == 2,
        "{sent:?}"
    );
    assert_eq!(harness.alerts(), ["lost account acct_1 firing"]);
    harness.close(&again, 100);
    assert_eq!(harness.deliver_all(100).len(), 2);
    assert_eq!(harness.alerts(), Vec::<String>::new());
}

/// The shell writes many documents in parts.
#[test]
fn a_dismissed_alert_stays_dismissed_wherever_a_crash_interrupts_the_write() {
    let mut harness = Harness::new();
    harness.open(&lost("acct_1"), 20);
    harness.deliver_all(20);
    let (before, ask) = (
        harness.store.clone(),
        CommandKind::Resolve {
            alert_id: harness.id("lost"),
        },
    );
    harness.command(ask.clone(), 30);
    let writes = harness.engine.settle(30);
    for cut in 0..=writes.len() {
        harness.store.clone_from(&before);
        for write in &writes[..cut] {
            harness.put(write.clone());
        }
        harness.reopen();
        if !writes[..cut].iter().any(|write| write.space == COMMANDS) {
            harness.command(ask.clone(), 31);
        }
        harness.open(&lost("acct_1"), 40);
        harness.deliver_all(40);
        assert_eq!(harness.alerts(), Vec::<String>::new(), "cut at {cut}");
    }
}

/// The shell writes many documents in parts.
#[test]
fn documents_are_ordered_so_that_a_crash_loses_nothing() {
    let mut harness = Harness::new();
    harness.open(&lost("acct_1"), 20);
    harness.deliver_all(20);
    harness.command(
        CommandKind::Resolve {
            alert_id: harness.id("lost"),
        },
        30,
    );
    harness.engine.position.cursor = ChangeCursor::default();
    harness.engine.position.until_s = 30;
    let sent = harness.engine.settle(30);
    let kinds: Vec<_> = sent.iter().map(|w| (w.space, w.body.is_some())).collect();
    assert_eq!(
        kinds,
        [
            (PENDING, true),
            (ALERTS, true),
            (COMMANDS, false),
            (POSITION, true)
        ]
    );
}

#[test]
fn a_very_large_write_is_repaired_wherever_a_crash_interrupts_it() {
    let storm = |harness: &mut Harness, now_s| {
        for n in 0..8 {
            harness.open(
                &payout(&format!("po_{n}"), &format!("acct_{n}"), 100),
                now_s,
            );
        }
    };
    let mut harness = Harness::new();
    storm(&mut harness, 20);
    let writes = harness.engine.settle(20);
    for cut in 0..=writes.len() {
        let mut harness = Harness::new();
        for write in &writes[..cut] {
            if let Some(body) = &write.body {
                harness
                    .store
                    .insert((write.space, write.key.clone()), body.clone());
            }
        }
        harness.reopen();
        // How far was read is written last: the changes come again.
        storm(&mut harness, 25);
        harness.engine.on_time(25);
        let sent = harness.deliver_all(25);
        assert!(
            sent.iter().all(|t| t.contains(" × A payout failed")) && !sent.is_empty(),
            "cut at {cut}: {sent:?}"
        );
        let open: u32 = harness
            .engine
            .alerts()
            .filter_map(|a| a.group.as_ref())
            .map(|g| g.open)
            .sum();
        assert_eq!(open, 8, "cut at {cut}");
        for n in 0..8 {
            harness.close(&payout(&format!("po_{n}"), "", 0), 100);
        }
        harness.engine.on_time(200);
        harness.deliver_all(200);
        assert!(
            harness.alerts().is_empty(),
            "cut at {cut}: {:?}",
            harness.alerts()
        );
    }
}
