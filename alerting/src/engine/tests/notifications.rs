//! When messages are delivered.

use super::*;

#[test]
fn an_alert_is_delivered_when_it_fires_and_when_it_resolves() {
    let mut harness = Harness::new();
    harness.open(&lost("acct_1"), 20);
    harness.open(&lost("acct_1"), 21);
    assert_eq!(
        harness.deliver_all(21),
        [
            "email 🔴 CRITICAL: A provider can no longer take charges",
            "slack 🔴 CRITICAL: A provider can no longer take charges"
        ]
    );
    assert!(harness.deliver_all(22).is_empty());
    harness.close(&lost("acct_1"), 30);
    assert_eq!(
        harness.deliver_all(30),
        [
            "email ✅ RESOLVED: A provider can no longer take charges",
            "slack ✅ RESOLVED: A provider can no longer take charges"
        ]
    );
    assert!(harness.alerts().is_empty());
    let history: Vec<_> = harness
        .store
        .keys()
        .filter(|(space, _)| *space == HISTORY)
        .collect();
    assert_eq!(history.len(), 1);
}

#[test]
fn a_deleted_message_is_posted_again() {
    let mut harness = Harness::new();
    harness.open(&lost("acct_1"), 20);
    harness.deliver_all(20);
    harness.command(
        CommandKind::Acknowledge {
            alert_id: harness.id("lost"),
        },
        30,
    );
    harness.settle(30);
    let lane = ("slack".to_owned(), "alerts-critical".to_owned());
    let job = harness
        .engine
        .begin_attempt(&lane, 30_000)
        .expect("the change");
    assert_eq!(job.message.receipt.as_deref(), Some("r"));
    let Attempt {
        alert_id,
        message_key: key,
        revision,
        ..
    } = job;
    harness.engine.on_attempt_result(
        &AttemptResult {
            alert_id,
            message_key: key,
            revision,
            outcome: Outcome::Gone,
            possible_duplicate: false,
            is_partly_delivered: false,
        },
        30_000,
    );
    harness.settle(30);
    let job = harness
        .engine
        .begin_attempt(&lane, 30_000)
        .expect("a second attempt");
    assert_eq!(
        (job.message.receipt, job.unconfirmed.is_none()),
        (None, true)
    );
}

#[test]
fn an_alert_that_resolved_before_delivery_is_delivered_once_as_both() {
    // It was read while it was open, and closed before a message could be sent.
    let mut harness = Harness::new();
    harness.open(&lost("acct_1"), 100);
    harness.close(&lost("acct_1"), 100);
    let resolved = "✅ FIRED AND RESOLVED: A provider can no longer take charges";
    assert_eq!(
        harness.deliver_all(100),
        [format!("email {resolved}"), format!("slack {resolved}")]
    );
    assert_eq!(harness.alerts(), Vec::<String>::new());
    // Many of them are delivered as one group, also together with one that still fires.
    for n in 2..=9 {
        harness.open(&lost(&format!("acct_{n}")), 200);
        harness.close(&lost(&format!("acct_{n}")), 200);
    }
    let many = "✅ FIRED AND RESOLVED: 8 × A provider can no longer take charges";
    assert_eq!(
        harness.deliver_all(200),
        [format!("email {many}"), format!("slack {many}")]
    );
    for n in 10..=19 {
        harness.open(&lost(&format!("acct_{n}")), 300);
        if n > 10 {
            harness.close(&lost(&format!("acct_{n}")), 300);
        }
    }
    assert!(
        harness
            .deliver_all(300)
            .iter()
            .all(|sent| sent.contains("CRITICAL: 10 × "))
    );
    let group = harness
        .engine
        .alerts()
        .find_map(|a| a.group.clone())
        .expect("a group");
    assert_eq!((group.joined, group.open), (10, 1));
    harness.close(&lost("acct_10"), 310);
    assert!(
        harness
            .deliver_all(310)
            .iter()
            .all(|sent| sent.contains("✅ RESOLVED: 10 × "))
    );
    // A silenced alert is not delivered as resolved either.
    let silence = silence_of_lost(400, 500);
    harness.command(CommandKind::Silence(silence.clone()), 400);
    harness.open(&lost("acct_1"), 410);
    harness.close(&lost("acct_1"), 410);
    assert_eq!(harness.deliver_all(410), Vec::<String>::new());
    assert_eq!(harness.alerts(), Vec::<String>::new());
    // Nor is one that was to be sent before it was silenced, although its end may end the mutes of others.
    harness.open(&lost("acct_1"), 600);
    harness.deliver(600, |_| Outcome::RetryAfter { wait_ms: 60_000 });
    let again = Silence {
        id: "si_2".into(),
        from_s: 610,
        until_s: 900,
        ..silence
    };
    harness.command(CommandKind::Silence(again), 610);
    harness.settle(610);
    harness.close(&lost("acct_1"), 620);
    assert_eq!(harness.deliver_all(700), Vec::<String>::new());
    assert_eq!(harness.alerts(), Vec::<String>::new());
}

#[test]
fn a_muted_alert_is_not_sent_late_when_its_message_did_not_arrive() {
    let unknown = |_: &MessageKey| Outcome::Unknown {
        reason: "no answer".into(),
    };
    let mut harness = Harness::new();
    harness.reopen_with(rules(), policy_with(&["slack"]));
    harness.open(&lost("acct_1"), 20);
    harness.deliver(20, unknown);
    let silence = silence_of_lost(25, 500);
    harness.command(CommandKind::Silence(silence), 25);
    harness.settle(25);
    harness.close(&lost("acct_1"), 30);
    harness.settle(30);
    let lane = ("slack".to_owned(), "alerts-critical".to_owned());
    let job = harness
        .engine
        .begin_attempt(&lane, 30_000)
        .expect("the search");
    assert!(job.is_muted && job.unconfirmed.is_some());
    let result = AttemptResult {
        alert_id: job.alert_id,
        message_key: job.message_key,
        revision: job.revision,
        outcome: Outcome::Withheld,
        possible_duplicate: false,
        is_partly_delivered: false,
    };
    harness.engine.on_attempt_result(&result, 30_000);
    assert_eq!(harness.deliver_all(40), Vec::<String>::new());
    assert_eq!(harness.alerts(), Vec::<String>::new());
}

#[test]
fn a_condition_that_closed_before_it_was_read_fires_nothing() {
    let mut harness = Harness::new();
    let opened = |n: usize| ConditionChange::Open(lost(&format!("acct_{n}")));
    let closed = |n: usize| ConditionChange::Close(lost(&format!("acct_{n}")).key);
    // As after a failover, and far more of them than make a group.
    let unread: Vec<_> = (0..400)
        .map(opened)
        .chain((0..400).map(closed))
        .chain([opened(400)])
        .collect();
    harness.engine.on_changes(&unread, 100);
    let sent = harness.deliver_all(100);
    assert!(
        sent.len() == 2
            && sent
                .iter()
                .all(|sent| sent.contains("CRITICAL: A provider")),
        "{sent:?}"
    );
    assert_eq!((harness.alerts().len(), harness.transitions.len()), (1, 1));
    // The condition that fires closes, and another one opens; what came between them fires nothing.
    let came_back = [closed(400), opened(400), closed(400), opened(400)];
    harness.engine.on_changes(&came_back, 200);
    let mut sent = harness.deliver_all(200);
    sent.retain(|sent| sent.starts_with("slack"));
    sent.sort();
    assert!(
        sent.len() == 2 && sent[0].contains("RESOLVED") && sent[1].contains("CRITICAL"),
        "{sent:?}"
    );
    // An alert that fires already shows the last state.
    let changed = Condition {
        detail: Some("rejected".into()),
        ..lost("acct_400")
    };
    harness
        .engine
        .on_changes(&[ConditionChange::Open(changed), closed(400)], 300);
    let last = harness
        .engine
        .alerts()
        .find(|alert| alert.is_resolved())
        .expect("a resolved alert");
    assert!(
        format!("{:?}", last.evidence).contains("rejected"),
        "{:?}",
        last.evidence
    );
}
