//! Which other notifier delivers a message, and when, while its own fails.

use super::*;

fn fails(reason: &str) -> Outcome {
    Outcome::Failed {
        reason: reason.to_owned(),
        permanent: false,
    }
}

fn delivered() -> Outcome {
    Outcome::Delivered { receipt: None }
}

/// The notifiers that were used in each second of `seconds`, while `answer` says what they answer.
fn used(
    harness: &mut Harness,
    seconds: std::ops::Range<i64>,
    answer: impl Fn(&MessageKey) -> Outcome,
) -> Vec<(i64, String)> {
    let mut used = Vec::new();
    for now_s in seconds {
        let sent = harness.send(now_s, &answer).into_iter();
        used.extend(sent.map(|(key, _)| (now_s, key.to_string())));
    }
    used
}

fn at(attempts: &[(i64, &str)]) -> Vec<(i64, String)> {
    let attempts = attempts.iter();
    attempts
        .map(|(at_s, key)| (*at_s, (*key).to_owned()))
        .collect()
}

#[test]
fn the_third_failure_uses_the_next_notifier() {
    for outcome in [
        fails("the connection failed"),
        Outcome::Unknown {
            reason: "503".into(),
        },
    ] {
        let mut harness = Harness::new();
        harness.reopen_with(rules(), policy_with(&["email", "log"]));
        harness.open(&lost("acct_1"), 20);
        let answer = |key: &MessageKey| match key.notifier.as_str() {
            "email" => outcome.clone(),
            _ => delivered(),
        };
        assert_eq!(
            used(&mut harness, 20..30, answer),
            at(&[(20, "email"), (22, "email"), (26, "email"), (26, "log")])
        );
        assert_eq!(
            harness.engine.broken_notifiers().collect::<Vec<_>>(),
            ["email"]
        );
    }
}

#[test]
fn a_notifier_that_asks_to_wait_for_longer_than_two_minutes_is_not_waited_for() {
    for (wait_ms, expected) in [
        (119_000, at(&[(20, "email")])),
        (120_000, at(&[(20, "email"), (20, "log")])),
    ] {
        let mut harness = Harness::new();
        harness.reopen_with(rules(), policy_with(&["email", "log"]));
        harness.open(&lost("acct_1"), 20);
        let answer = |key: &MessageKey| match key.notifier.as_str() {
            "email" => Outcome::RetryAfter { wait_ms },
            _ => delivered(),
        };
        assert_eq!(used(&mut harness, 20..139, answer), expected);
    }
}

#[test]
fn what_waits_for_a_broken_notifier_goes_around_it() {
    let mut harness = Harness::new();
    harness.reopen_with(rules(), policy_with(&["email", "log"]));
    let answer = |key: &MessageKey| match key.notifier.as_str() {
        "email" => fails("the connection failed"),
        _ => delivered(),
    };
    harness.open(&lost("acct_1"), 20);
    used(&mut harness, 20..27, answer);
    // It fires while the notifier is known to fail.
    harness.open(&lost("acct_2"), 30);
    assert_eq!(
        used(&mut harness, 30..31, answer),
        at(&[(30, "email"), (30, "log")])
    );
    // Failures of its own add no third one.
    let later = used(&mut harness, 31..100, answer);
    assert!(later.iter().all(|(_, key)| key == "email"), "{later:?}");
    // The first delivery repairs it, and all that waited is sent at once.
    let repaired = used(&mut harness, 400..401, |_| delivered());
    assert_eq!(repaired, at(&[(400, "email"), (400, "email")]));
    assert_eq!(harness.engine.broken_notifiers().count(), 0);
}

#[test]
fn the_sequence_of_failures_is_kept_and_survives_the_delivery() {
    let mut harness = Harness::new();
    harness.reopen_with(rules(), policy_with(&["email"]));
    harness.open(&lost("acct_1"), 20);
    used(&mut harness, 20..21, |_| fails("refused"));
    used(&mut harness, 22..23, |_| fails("refused"));
    used(&mut harness, 26..27, |_| fails("535"));
    harness.reopen_with(rules(), policy_with(&["email"]));
    used(&mut harness, 40..41, |_| delivered());
    let alert = harness.engine.alerts().next().expect("an alert");
    let state = &alert.notifications[&MessageKey::main("email")];
    let failures = state.failures.iter();
    let failures: Vec<_> = failures
        .map(|f| (f.reason.as_str(), f.count, f.first_s, f.last_s))
        .collect();
    assert_eq!(failures, [("refused", 2, 20, 22), ("535", 1, 26, 26)]);
    assert_eq!((state.attempts, state.failing), (0, None));
}

/// The alert about a notifier says why it fails, and in which route.
#[test]
fn the_status_says_why_a_notifier_is_broken() {
    let mut harness = Harness::new();
    harness.reopen_with(rules(), policy_with(&["email", "log"]));
    harness.open(&lost("acct_1"), 20);
    used(&mut harness, 20..27, |key| match key.notifier.as_str() {
        "email" => fails("mail server, connecting: refused"),
        _ => delivered(),
    });
    let broken: Vec<_> = harness.engine.outbox.broken_notifiers().collect();
    let why = "mail server, connecting: refused (route alerts-critical)".to_owned();
    assert_eq!(broken, [(&"email".to_owned(), &why)]);
}
