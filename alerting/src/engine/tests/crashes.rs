//! Restarts, and writes that a crash interrupts.

use super::*;

#[test]
fn an_engine_reopened_at_any_point_continues_as_if_it_had_not_been() {
    let play = |restarts: bool| {
        let mut desk = Desk::new();
        let mut log: Vec<Vec<String>> = Vec::new();
        let again = |desk: &mut Desk, now_s| {
            desk.settle(now_s);
            if restarts {
                desk.reopen();
            }
        };
        for n in 0..6 {
            desk.open(
                &payout(&format!("po_{n}"), &format!("acct_{n}"), 100 * n),
                20,
            );
            again(&mut desk, 20);
        }
        log.push(desk.deliver_all(20));
        again(&mut desk, 20);
        desk.command(
            CommandKind::Acknowledge {
                alert_id: desk.id("payout"),
            },
            25,
        );
        again(&mut desk, 25);
        desk.engine.on_time(20 + 15 * 60);
        again(&mut desk, 20 + 15 * 60);
        log.push(desk.deliver_all(20 + 15 * 60));
        for n in 0..6 {
            desk.close(&payout(&format!("po_{n}"), "", 0), 2000);
            again(&mut desk, 2000);
        }
        desk.engine.on_time(2059);
        again(&mut desk, 2059);
        log.push(desk.alerts());
        desk.engine.on_time(2060);
        again(&mut desk, 2060);
        log.push(desk.deliver_all(2060));
        log.push(desk.alerts());
        log
    };
    let (plain, restarted) = (play(false), play(true));
    assert_eq!(plain, restarted);
    assert!(plain[4].is_empty(), "{plain:?}");
}

#[test]
fn pending_rules_are_counted_after_a_restart_too() {
    let mut desk = Desk::new();
    let mut counters = Counters::default();
    counters.add(Bucket::Hour(0), &["payouts", "failed", "usd"], 3);
    let pending = |desk: &Desk| -> i64 {
        desk.engine
            .counts()
            .filter(|(_, _, stage, _)| *stage == Stage::Pending)
            .map(|(.., n)| n)
            .sum()
    };
    desk.engine.on_counters(facts(&counters, 100));
    desk.settle(100);
    assert_eq!(pending(&desk), 1);
    desk.reopen();
    assert_eq!(pending(&desk), 1);
    desk.engine.on_counters(facts(&counters, 160));
    assert_eq!(pending(&desk), 0);
}

#[test]
fn an_alert_that_fires_again_within_its_second_is_another_alert() {
    let mut desk = Desk::new();
    let again = Condition {
        event_id: "evt_3".into(),
        ..lost("acct_1")
    };
    desk.open(&lost("acct_1"), 100);
    desk.close(&lost("acct_1"), 100);
    desk.open(&again, 100);
    let sent = desk.deliver_all(100);
    assert!(
        sent.len() == 4 && sent.iter().filter(|t| t.contains("RESOLVED")).count() == 2,
        "{sent:?}"
    );
    assert_eq!(desk.alerts(), ["lost account acct_1 firing"]);
    desk.close(&again, 100);
    assert_eq!(desk.deliver_all(100).len(), 2);
    assert_eq!(desk.alerts(), Vec::<String>::new());
}

/// The shell writes many documents in parts.
#[test]
fn a_dismissed_alert_stays_dismissed_wherever_a_crash_interrupts_the_write() {
    let mut desk = Desk::new();
    desk.open(&lost("acct_1"), 20);
    desk.deliver_all(20);
    let (before, ask) = (
        desk.store.clone(),
        CommandKind::Resolve {
            alert_id: desk.id("lost"),
        },
    );
    desk.command(ask.clone(), 30);
    let writes = desk.engine.settle(30);
    for cut in 0..=writes.len() {
        desk.store.clone_from(&before);
        for write in &writes[..cut] {
            desk.put(write.clone());
        }
        desk.reopen();
        if !writes[..cut].iter().any(|write| write.space == COMMANDS) {
            desk.command(ask.clone(), 31);
        }
        desk.open(&lost("acct_1"), 40);
        desk.deliver_all(40);
        assert_eq!(desk.alerts(), Vec::<String>::new(), "cut at {cut}");
    }
}

/// The shell writes many documents in parts.
#[test]
fn documents_are_ordered_so_that_a_crash_loses_nothing() {
    let mut desk = Desk::new();
    desk.open(&lost("acct_1"), 20);
    desk.deliver_all(20);
    desk.command(
        CommandKind::Resolve {
            alert_id: desk.id("lost"),
        },
        30,
    );
    desk.engine.position.cursor = ChangeCursor::default();
    desk.engine.position.until_s = 30;
    let sent = desk.engine.settle(30);
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
    let storm = |desk: &mut Desk, now_s| {
        for n in 0..8 {
            desk.open(
                &payout(&format!("po_{n}"), &format!("acct_{n}"), 100),
                now_s,
            );
        }
    };
    let mut desk = Desk::new();
    storm(&mut desk, 20);
    let writes = desk.engine.settle(20);
    for cut in 0..=writes.len() {
        let mut desk = Desk::new();
        for write in &writes[..cut] {
            if let Some(body) = &write.body {
                desk.store
                    .insert((write.space, write.key.clone()), body.clone());
            }
        }
        desk.reopen();
        // How far was read is written last: the changes come again.
        storm(&mut desk, 25);
        desk.engine.on_time(25);
        let sent = desk.deliver_all(25);
        assert!(
            sent.iter().all(|t| t.contains(" × A payout failed")) && !sent.is_empty(),
            "cut at {cut}: {sent:?}"
        );
        let open: u32 = desk
            .engine
            .alerts()
            .filter_map(|a| a.group.as_ref())
            .map(|g| g.open)
            .sum();
        assert_eq!(open, 8, "cut at {cut}");
        for n in 0..8 {
            desk.close(&payout(&format!("po_{n}"), "", 0), 100);
        }
        desk.engine.on_time(200);
        desk.deliver_all(200);
        assert!(
            desk.alerts().is_empty(),
            "cut at {cut}: {:?}",
            desk.alerts()
        );
    }
}
