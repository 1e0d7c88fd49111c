//! Messages: when they are delivered, and how failed attempts continue.

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
fn an_attempt_that_a_crash_interrupted_is_searched_for_first() {
    let mut harness = Harness::new();
    harness.open(&lost("acct_1"), 20);
    harness.settle(20);
    let lane = ("slack".to_owned(), "alerts-critical".to_owned());
    let job = harness.engine.begin_attempt(&lane, 20_000).expect("a job");
    assert!(job.unconfirmed.is_none());
    harness.settle(20);
    harness.reopen();
    let job = harness.engine.begin_attempt(&lane, 20_000).expect("a job");
    let (unconfirmed, revision) = job.unconfirmed.expect("it may have arrived");
    assert_eq!(
        (
            revision,
            unconfirmed.possible_duplicate,
            job.message.possible_duplicate
        ),
        (1, true, false)
    );
    assert!(
        unconfirmed.text.contains("Possible duplicate"),
        "{}",
        unconfirmed.text
    );
    assert_eq!(unconfirmed.delivery_id, job.message.delivery_id);
    // Found: nothing is left to deliver.
    let sent = AttemptResult {
        alert_id: job.alert_id,
        message_key: job.message_key,
        revision,
        outcome: Outcome::Delivered {
            receipt: Some("C:1".into()),
        },
        possible_duplicate: false,
        is_partly_delivered: false,
    };
    harness.engine.on_attempt_result(&sent, 20_000);
    harness.settle(20);
    assert!(harness.engine.begin_attempt(&lane, i64::MAX).is_none());
}

#[test]
fn failed_attempts_are_repeated_later_and_a_broken_notifier_is_replaced() {
    let mut harness = Harness::new();
    harness.command(
        CommandKind::Silence(Silence {
            id: "si_1".into(),
            matches: Matcher {
                rule: Some("payout".into()),
                ..Matcher::default()
            },
            from_s: 0,
            until_s: 10,
            reason: "r".into(),
            by: "ana".into(),
        }),
        0,
    );
    harness.open(&lost("acct_1"), 20);
    let wait = |key: &MessageKey| match key.notifier.as_str() {
        "slack" => Outcome::RetryAfter { wait_ms: 30_000 },
        _ => Outcome::Failed {
            reason: "550".into(),
            permanent: false,
        },
    };
    assert_eq!(harness.deliver(20, wait).len(), 2);
    assert_eq!(
        harness.deliver_all(49).len(),
        1,
        "email's pause has ended, Slack's has not"
    );
    assert_eq!(harness.deliver_all(50).len(), 1);
    harness.close(&lost("acct_1"), 60);
    let gone = |key: &MessageKey| match key.notifier.as_str() {
        "slack" => Outcome::Failed {
            reason: "invalid_auth".into(),
            permanent: true,
        },
        _ => Outcome::Delivered { receipt: None },
    };
    harness.deliver(60, gone);
    assert_eq!(
        harness.engine.broken_notifiers().collect::<Vec<_>>(),
        ["slack"]
    );
    harness.reopen();
    assert_eq!(
        harness.engine.broken_notifiers().collect::<Vec<_>>(),
        ["slack"]
    );
    // The failing channel is retried from time to time. A delivery repairs it.
    assert_eq!(harness.deliver_all(60 + 299).len(), 0);
    assert_eq!(harness.deliver_all(60 + 300).len(), 1);
    assert_eq!(harness.engine.broken_notifiers().count(), 0);
    assert!(harness.alerts().is_empty());
}

#[test]
fn a_later_mail_that_may_have_arrived_says_so_too() {
    let mut harness = Harness::new();
    harness.open(&lost("acct_1"), 20);
    harness.deliver_all(20);
    harness.close(&lost("acct_1"), 30);
    harness.settle(30);
    let lane = ("email".to_owned(), "alerts-critical".to_owned());
    assert!(
        harness
            .engine
            .begin_attempt(&lane, 30_000)
            .expect("it is resolved")
            .unconfirmed
            .is_none()
    );
    harness.settle(30);
    harness.reopen();
    let (unconfirmed, _) = harness
        .engine
        .begin_attempt(&lane, 30_000)
        .expect("again")
        .unconfirmed
        .expect("it may have arrived");
    assert!(unconfirmed.possible_duplicate);
}

#[test]
fn a_broken_notifier_that_is_retried_is_replaced_once() {
    let mut harness = Harness::new();
    harness.reopen_with(
        rules(),
        policy_with(&["slack", "email", "sms", "pagerduty", "webhook", "log"]),
    );
    let mut counters = Counters::default();
    counters.add(
        Bucket::Minute(0),
        &["main/connected:payouts", "failed", "usd"],
        3,
    );
    for now_s in [100, 160] {
        harness.engine.on_counters(facts(&counters, now_s));
        harness.settle(now_s);
    }
    let fails = |key: &MessageKey| match key.notifier.as_str() {
        "slack" => Outcome::Failed {
            reason: "invalid_auth".into(),
            permanent: true,
        },
        _ => Outcome::Delivered { receipt: None },
    };
    let notifiers = |sent: Vec<String>| -> Vec<String> {
        sent.iter()
            .map(|t| t.split(' ').next().unwrap_or_default().to_owned())
            .collect()
    };
    assert_eq!(
        notifiers(harness.deliver(160, fails)),
        ["email", "slack", "sms", "webhook"]
    );
    assert_eq!(notifiers(harness.deliver(460, fails)), ["slack"]);
}

#[test]
fn another_notifier_delivers_for_one_that_is_no_longer_configured() {
    let fails = |_: &MessageKey| Outcome::Failed {
        reason: "502".into(),
        permanent: false,
    };
    let mut harness = Harness::new();
    harness.reopen_with(rules(), policy_with(&["slack"]));
    harness.open(&lost("acct_1"), 20);
    harness.deliver(20, fails);
    harness.reopen_with(rules(), policy_with(&["email"]));
    assert_eq!(
        harness.deliver_all(30),
        ["email 🔴 CRITICAL: A provider can no longer take charges"]
    );
    harness.engine.on_time(20 + 15 * 60);
    let sent = harness.deliver(20 + 15 * 60, fails);
    assert_eq!(
        sent,
        ["email#1 ⏰ NO RESPONSE IN TIME · 🔴 CRITICAL: A provider can no longer take charges"]
    );
    // A notifier that is gone delivered it before, and it is open: its present readers get it too.
    harness.reopen_with(rules(), policy_with(&["log"]));
    assert_eq!(
        harness.deliver_all(2000).len(),
        2,
        "the alert and its notice"
    );
    harness.close(&lost("acct_1"), 2000);
    harness.settle(2000);
    harness.reopen_with(rules(), policy_with(&["sms"]));
    assert_eq!(
        harness.deliver_all(2000),
        Vec::<String>::new(),
        "the channel never had the message"
    );
}

#[test]
fn a_repaired_notifier_delivers_everything_that_waited() {
    let mut harness = Harness::new();
    let fails = |key: &MessageKey| match key.notifier.as_str() {
        "slack" => Outcome::Failed {
            reason: "invalid_auth".into(),
            permanent: true,
        },
        _ => Outcome::Delivered { receipt: None },
    };
    for (n, now_s) in [(1, 20), (2, 200)] {
        harness.open(&lost(&format!("acct_{n}")), now_s);
        harness.deliver(now_s, fails);
    }
    assert_eq!(
        harness.deliver_all(20 + 300).len(),
        2,
        "the first is tried, and with it the second"
    );
    harness.reopen();
    assert_eq!(harness.engine.broken_notifiers().count(), 0);
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
fn an_alert_whose_firing_may_have_arrived_is_resolved_in_either_case() {
    let unknown = |_: &MessageKey| Outcome::Unknown {
        reason: "no answer".into(),
    };
    let mut harness = Harness::new();
    harness.reopen_with(rules(), policy_with(&["slack"]));
    harness.open(&lost("acct_1"), 20);
    harness.deliver(20, unknown);
    harness.close(&lost("acct_1"), 30);
    harness.settle(30);
    let lane = ("slack".to_owned(), "alerts-critical".to_owned());
    let job = harness
        .engine
        .begin_attempt(&lane, 30_000)
        .expect("the end");
    let (unconfirmed, _) = job.unconfirmed.expect("it may have arrived");
    // If the search finds nothing, its readers do not know of it. If it cannot tell, they may.
    let title = "A provider can no longer take charges";
    assert_eq!(
        job.message.headline,
        format!("✅ FIRED AND RESOLVED: {title}")
    );
    assert_eq!(unconfirmed.headline, format!("✅ RESOLVED: {title}"));
    assert!(unconfirmed.possible_duplicate);
}

#[test]
fn what_some_recipients_have_is_searched_for_or_marked_after_a_crash() {
    let outcomes = [
        Outcome::RetryAfter { wait_ms: 1000 },
        Outcome::Failed {
            reason: "450".into(),
            permanent: false,
        },
        Outcome::Failed {
            reason: "535".into(),
            permanent: true,
        },
    ];
    for (outcome, is_partly_delivered) in outcomes.iter().flat_map(|o| [(o, true), (o, false)]) {
        let mut harness = Harness::new();
        harness.reopen_with(rules(), policy_with(&["email"]));
        harness.open(&lost("acct_1"), 20);
        harness.settle(20);
        let lane = ("email".to_owned(), "alerts-critical".to_owned());
        let job = harness.engine.begin_attempt(&lane, 20_000).expect("a job");
        let result = AttemptResult {
            alert_id: job.alert_id,
            message_key: job.message_key,
            revision: job.revision,
            outcome: outcome.clone(),
            possible_duplicate: false,
            is_partly_delivered,
        };
        harness.engine.on_attempt_result(&result, 20_000);
        harness.settle(20);
        harness.reopen_with(rules(), policy_with(&["email"]));
        let again = harness.engine.begin_attempt(&lane, i64::MAX);
        let is_searched = again.expect("again").unconfirmed.is_some();
        assert_eq!(is_searched, is_partly_delivered, "{outcome:?}");
    }
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
fn the_only_notifier_delivers_after_its_repair_what_fired_and_resolved_meanwhile() {
    let broken = |_: &MessageKey| Outcome::Failed {
        reason: "invalid_auth".into(),
        permanent: true,
    };
    // Every deployment has the log. It does not count as a delivery to people.
    for notifiers in [&["slack"][..], &["slack", "log"]] {
        let mut harness = Harness::new();
        harness.reopen_with(rules(), policy_with(notifiers));
        harness.open(&lost("acct_1"), 20);
        harness.deliver(20, |key| match key.notifier.as_str() {
            "slack" => broken(key),
            _ => Outcome::Delivered { receipt: None },
        });
        harness.close(&lost("acct_1"), 30);
        let meanwhile = harness.deliver_all(30);
        assert!(
            meanwhile.iter().all(|sent| sent.starts_with("log ")),
            "{meanwhile:?}"
        );
        assert_eq!(
            harness.deliver_all(20 + 300),
            ["slack ✅ FIRED AND RESOLVED: A provider can no longer take charges"]
        );
        assert_eq!(harness.alerts(), Vec::<String>::new());
    }
}

#[test]
fn a_message_that_cannot_be_delivered_is_given_up_a_day_after_the_alert_resolved() {
    const DAY_S: i64 = 86_400;
    let broken = |_: &MessageKey| Outcome::Failed {
        reason: "invalid_auth".into(),
        permanent: true,
    };
    let mut harness = Harness::new();
    harness.reopen_with(rules(), policy_with(&["slack"]));
    harness.open(&lost("acct_1"), 20);
    harness.deliver(20, broken);
    harness.close(&lost("acct_1"), 30);
    let in_history = |harness: &Harness| {
        let mut spaces = harness.store.keys().map(|(space, _)| *space);
        spaces.any(|space| space == HISTORY)
    };
    harness.deliver(30 + DAY_S, broken);
    assert_eq!(harness.alerts(), ["lost account acct_1 resolved"]);
    assert!(!in_history(&harness));
    assert_eq!(
        harness.deliver(30 + DAY_S + 1, broken),
        Vec::<String>::new()
    );
    assert_eq!(harness.alerts(), Vec::<String>::new());
    assert!(in_history(&harness));
    assert!(harness.engine.lanes().next().is_none());
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
