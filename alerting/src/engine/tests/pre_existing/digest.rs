//! The digest, its members and its messages.

use super::*;

/// Of the same digest, whatever came and went.
#[test]
fn a_digest_says_of_its_beginning_what_is_known_of_its_open_alerts() {
    let mut harness = since_it_began();
    let shown = |harness: &Harness| {
        let digest = digest(harness);
        (
            digest.since_s,
            digest.evidence.began_before,
            digest.severity,
        )
    };
    harness.open(&failed("po_1", 50), NOW_S);
    harness.deliver_all(NOW_S);
    let alone = shown(&harness);
    assert_eq!(alone, (50, false, Severity::Critical));
    harness.open(&had_failed("po_2", NOW_S - 1), NOW_S + 1);
    harness.open(&failed("po_3", 40), NOW_S + 1);
    harness.settle(NOW_S + 1);
    assert_eq!(shown(&harness), (40, true, Severity::Critical));
    harness.open(&failed("po_2", 60), NOW_S + 2);
    harness.open(&failed("po_3", BEGAN_S + 1), NOW_S + 2);
    harness.settle(NOW_S + 2);
    assert_eq!(shown(&harness), alone);
}

#[test]
fn a_digest_of_nothing_is_not_sent() {
    let mut harness = since_it_began();
    harness.open(&had_failed("po_1", NOW_S - 1), NOW_S);
    harness.settle(NOW_S);
    harness.open(&failed("po_1", BEGAN_S + 5), NOW_S);
    assert_eq!(
        harness.deliver_all(NOW_S),
        [
            "email 🔴 CRITICAL: A payout failed",
            "slack 🔴 CRITICAL: A payout failed"
        ]
    );
}

#[test]
fn later_ones_join_silently_and_it_resolves_with_the_last() {
    let mut harness = since_it_began();
    harness.open(&failed("po_1", 5), NOW_S);
    harness.deliver_all(NOW_S);
    // A day later: a person acknowledged it meanwhile.
    let later_s = NOW_S + 86_400;
    let acknowledge = CommandKind::Acknowledge {
        alert_id: digest(&harness).id,
    };
    harness.command(acknowledge, later_s);
    harness.deliver_all(later_s);
    harness.open(&failed("po_2", 6), later_s);
    assert_eq!(
        harness.deliver_all(later_s),
        ["slack 🔴 CRITICAL (acknowledged): 2 things were wrong already when revwatch began"],
        "changed in place where that is possible"
    );
    harness.close(&failed("po_1", 5), later_s);
    harness.engine.on_time(later_s + 60);
    harness.deliver_all(later_s + 60);
    harness.close(&failed("po_2", 6), later_s + 60);
    harness.engine.on_time(later_s + 120);
    assert_eq!(
        harness.deliver_all(later_s + 120),
        [
            "email ✅ RESOLVED: 2 things were wrong already when revwatch began",
            "slack ✅ RESOLVED: 2 things were wrong already when revwatch began",
        ]
    );
    assert!(harness.alerts().is_empty());
    // What clears and comes again is news.
    harness.open(&failed("po_1", later_s + 200), later_s + 200);
    assert_eq!(harness.deliver_all(later_s + 200).len(), 2);
    assert!(!of(&harness, "po_1").pre_existing);
}

#[test]
fn a_restart_between_the_digest_and_the_next_tick_sends_nothing_twice() {
    let mut harness = since_it_began();
    harness.open(&failed("po_1", 5), NOW_S);
    // It dies before and after the message.
    harness.settle(NOW_S);
    reopen(&mut harness);
    assert_eq!(harness.deliver_all(NOW_S).len(), 2);
    reopen(&mut harness);
    assert_eq!(harness.deliver_all(NOW_S), [""; 0]);
    harness
        .engine
        .on_scan(&[failed("po_1", 5), failed("po_2", 6)], NOW_S + 1);
    assert_eq!(
        harness.deliver_all(NOW_S + 1),
        ["slack 🔴 CRITICAL: 2 things were wrong already when revwatch began"],
        "it is the same digest"
    );
    assert_eq!(harness.alerts().len(), 3);
}

/// The shell writes many documents in parts. Whichever are written, there is one digest of all.
#[test]
fn a_digest_is_one_wherever_a_crash_interrupts_its_write() {
    let storm: Vec<_> = (0..8).map(|n| failed(&format!("po_{n}"), n)).collect();
    let open = |harness: &mut Harness, now_s| {
        for condition in &storm {
            harness.open(condition, now_s);
        }
    };
    let mut harness = since_it_began();
    let before = harness.store.clone();
    open(&mut harness, NOW_S);
    let writes = harness.engine.settle(NOW_S);
    for cut in 0..=writes.len() {
        harness.store.clone_from(&before);
        for write in &writes[..cut] {
            harness.put(write.clone());
        }
        reopen(&mut harness);
        // How far was read is written last: the changes come again.
        open(&mut harness, NOW_S + 5);
        let mut sent = harness.deliver_all(NOW_S + 5);
        sent.sort();
        let all = "🔴 CRITICAL: 8 things were wrong already when revwatch began";
        let expected = ["email", "slack"].map(|notifier| format!("{notifier} {all}"));
        assert_eq!(sent, expected, "cut at {cut}");
        let digest = digest(&harness);
        let members = harness.engine.alerts().filter(|a| a.group.is_none());
        let mut members = members.map(|a| a.part_of.as_ref());
        assert!(members.all(|it| it == Some(&digest.id)), "cut at {cut}");
    }
}

/// A crash between two parts of a very large write: the digest is written after its members.
#[test]
fn members_without_their_digest_join_another() {
    let mut harness = since_it_began();
    harness.open(&failed("po_1", 5), NOW_S);
    harness.settle(NOW_S);
    let lost = digest(&harness).id;
    harness.store.remove(&(ALERTS, lost));
    reopen(&mut harness);
    assert_eq!(
        harness.deliver_all(NOW_S),
        [
            "email 🔴 CRITICAL: 1 thing was wrong already when revwatch began",
            "slack 🔴 CRITICAL: 1 thing was wrong already when revwatch began",
        ]
    );
}

/// It is sent if it is still open when the silence ends.
#[test]
fn a_silence_of_digests_is_also_one_of_the_next_digest() {
    let mut harness = since_it_began();
    let silence = Silence {
        matches: Matcher {
            rule: Some(DIGEST.into()),
            ..Matcher::default()
        },
        ..silence_of_lost(0, NOW_S + 60)
    };
    harness.command(CommandKind::Silence(silence), NOW_S);
    harness.open(&failed("po_1", 5), NOW_S);
    assert_eq!(harness.deliver_all(NOW_S), [""; 0]);
    assert_eq!(digest(&harness).muted, Some(Mute::Silence("si_1".into())));
    reopen(&mut harness);
    harness.open(&failed("po_2", 5), NOW_S + 1);
    assert_eq!(harness.deliver_all(NOW_S + 1), [""; 0]);
    harness.engine.on_time(NOW_S + 60);
    assert_eq!(
        harness.deliver_all(NOW_S + 60),
        [
            "email 🔴 CRITICAL: 2 things were wrong already when revwatch began",
            "slack 🔴 CRITICAL: 2 things were wrong already when revwatch began",
        ]
    );
}

#[test]
fn a_silenced_one_joins_when_the_silence_ends() {
    let mut harness = since_it_began();
    harness.command(CommandKind::Silence(silence_of_lost(0, NOW_S + 60)), NOW_S);
    let older = Condition {
        since_s: 50,
        due_s: 50,
        ..lost("acct_1")
    };
    harness.open(&older, NOW_S);
    assert_eq!(harness.deliver_all(NOW_S), [""; 0]);
    harness.engine.on_time(NOW_S + 60);
    assert_eq!(
        harness.deliver_all(NOW_S + 60),
        [
            "email 🔴 CRITICAL: 1 thing was wrong already when revwatch began",
            "slack 🔴 CRITICAL: 1 thing was wrong already when revwatch began",
        ]
    );
}
