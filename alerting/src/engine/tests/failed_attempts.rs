//! How failed and interrupted attempts continue: later, by another notifier, or marked as a possible duplicate.

use super::*;

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
            ahead_until_s: None,
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
