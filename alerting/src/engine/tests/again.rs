//! What happens again while its alert fires: when it is notified, and how often.

use super::*;

#[test]
fn what_happens_again_is_notified_once_to_those_who_know_of_it() {
    let failed = |times: Option<u32>| {
        let detail = Some(format!("{} attempt(s)", times.unwrap_or(0)));
        ConditionChange::Open(Condition {
            times,
            detail,
            ..payout("po_1", "acct_1", 500)
        })
    };
    let mut harness = Harness::new();
    let mut sent_after = |times: &[Option<u32>], now_s| {
        let changes: Vec<_> = times.iter().map(|times| failed(*times)).collect();
        harness.engine.on_changes(&changes, now_s);
        let mut sent = harness.deliver_all(now_s);
        sent.retain(|sent| sent.starts_with("email"));
        sent
    };
    let first = sent_after(&[Some(1)], 100);
    assert!(
        first.len() == 1 && first[0].contains("CRITICAL"),
        "{first:?}"
    );
    assert_eq!(sent_after(&[Some(1)], 101), [""; 0], "the same time");
    let again = sent_after(&[Some(2)], 200);
    assert!(
        again.len() == 1 && again[0].contains("AGAIN (2)"),
        "{again:?}"
    );
    // Of several that could not be read in between, the newest.
    let again = sent_after(&[Some(3), Some(4), Some(4)], 300);
    assert!(
        again.len() == 1 && again[0].contains("AGAIN (4)"),
        "{again:?}"
    );
    assert_eq!(sent_after(&[Some(3)], 400), [""; 0], "an earlier state");
    assert_eq!(sent_after(&[Some(4), None], 500), [""; 0]);
    // A restart changes nothing of that.
    harness.reopen();
    harness.engine.on_changes(&[failed(Some(4))], 600);
    assert!(
        harness
            .deliver_all(600)
            .iter()
            .all(|sent| !sent.contains("AGAIN"))
    );
    harness.engine.on_changes(&[failed(Some(5))], 700);
    let again = harness.deliver_all(700);
    assert!(
        again.iter().any(|sent| sent.contains("AGAIN (5)")),
        "{again:?}"
    );
}

#[test]
fn what_happened_again_before_the_first_message_is_in_it() {
    let failed = |times| {
        ConditionChange::Open(Condition {
            times: Some(times),
            ..payout("po_1", "acct_1", 500)
        })
    };
    let mut harness = Harness::new();
    harness.engine.on_changes(&[failed(1)], 100);
    harness.settle(100);
    harness.engine.on_changes(&[failed(2)], 200);
    let sent = harness.deliver_all(200);
    assert!(sent.iter().all(|sent| !sent.contains("AGAIN")), "{sent:?}");
    assert_eq!(
        harness
            .engine
            .alerts()
            .next()
            .expect("an alert")
            .evidence
            .times,
        Some(2)
    );
}

#[test]
fn what_happens_again_to_members_of_a_group_is_counted_and_notified_together() {
    let failed = |n: u32, times| {
        ConditionChange::Open(Condition {
            times: Some(times),
            ..payout(&format!("po_{n}"), "acct_1", 500)
        })
    };
    let mut harness = Harness::new();
    let emails = |harness: &mut Harness, now_s| {
        harness.engine.on_time(now_s);
        let mut sent = harness.deliver_all(now_s);
        sent.retain(|sent| sent.starts_with("email"));
        sent
    };
    let all: Vec<_> = (0..9).map(|n| failed(n, 1)).collect();
    harness.engine.on_changes(&all, 100);
    let sent = emails(&mut harness, 100);
    assert!(
        sent.len() == 1 && sent[0].contains("9 × A payout failed"),
        "{sent:?}"
    );
    harness
        .engine
        .on_changes(&[failed(0, 2), failed(1, 2)], 200);
    assert_eq!(emails(&mut harness, 200), [""; 0]);
    harness
        .engine
        .on_changes(&[failed(2, 2), failed(0, 2)], 230);
    assert_eq!(emails(&mut harness, 259), [""; 0]);
    harness.reopen();
    let sent = emails(&mut harness, 260);
    assert!(sent.len() == 1 && sent[0].contains("AGAIN (3)"), "{sent:?}");
    assert_eq!(emails(&mut harness, 400), [""; 0]);
    let acknowledged = CommandKind::Acknowledge {
        alert_id: harness.id("payout"),
    };
    harness.engine.on_changes(&[failed(0, 3)], 500);
    harness.command(acknowledged, 510);
    let sent = emails(&mut harness, 560);
    assert!(
        sent.iter().any(|sent| sent.contains("AGAIN (1)")),
        "{sent:?}"
    );
}
