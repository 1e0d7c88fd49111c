//! What was wrong already when revwatch began.

mod digest;
mod late_events;

use revwatch_core::condition::BeganBefore;

use crate::alert::{DIGEST, Mute};

use super::*;

const BEGAN_S: i64 = 10_000;
const NOW_S: i64 = 20_000;

/// revwatch began at [`BEGAN_S`].
fn since_it_began() -> Harness {
    let mut harness = Harness::new();
    reopen(&mut harness);
    harness
}

/// No rule waits until the queue is fresh.
fn since_it_began_without_freshness() -> Harness {
    let mut harness = Harness::new();
    let text = RULES.replace("fresh_within = \"2h\"\n", "");
    let rules = crate::rule_text::parse(&[("test".into(), text)]).expect("valid");
    harness.reopen_with(rules, policy_with_beginning(Some(BEGAN_S)));
    harness
}

fn policy_with_beginning(began_s: Option<i64>) -> Policy {
    let mut policy = policy();
    policy.began_s = began_s;
    policy
}

fn reopen(harness: &mut Harness) {
    harness.reopen_with(rules(), policy_with_beginning(Some(BEGAN_S)));
}

/// A payout that failed at this time.
fn failed(id: &str, at_s: i64) -> Condition {
    Condition {
        since_s: at_s,
        due_s: at_s,
        ..payout(id, &format!("acct_{id}"), 100)
    }
}

/// The first event about it says that it had failed before, but not when.
fn had_failed(id: &str, seen_s: i64) -> Condition {
    Condition {
        began_before: Some(BeganBefore::FirstSeen),
        ..failed(id, seen_s)
    }
}

/// An account whose requirements are due since this time; the rule adds an hour.
fn due(id: &str, since_s: i64) -> Condition {
    let kind = ConditionKind::RequirementsDue;
    condition(kind, EntityKind::Account, id, id, since_s)
}

/// An account that lost charges, due at once.
fn lost_since(account: &str, since_s: i64) -> Condition {
    Condition {
        since_s,
        due_s: since_s,
        ..lost(account)
    }
}

fn delivered() -> Outcome {
    Outcome::Delivered {
        receipt: Some("r".into()),
    }
}

fn digest(harness: &Harness) -> Alert {
    let digest = harness.engine.alerts().find(|a| a.is_digest());
    digest.expect("a digest").clone()
}

fn of<'a>(harness: &'a Harness, subject: &str) -> &'a Alert {
    let mut alerts = harness.engine.alerts();
    let found = alerts.find(|a| a.subject.to_string().ends_with(subject));
    found.expect("an alert")
}

/// Whether the alert of a condition is one of what was wrong already.
fn was_wrong_already(harness: &mut Harness, condition: &Condition) -> bool {
    harness.open(condition, NOW_S);
    harness.settle(NOW_S);
    of(harness, &condition.key.subject.id).pre_existing
}

/// C13: one digest of everything, and a single alert of what is new.
#[test]
fn what_was_wrong_already_is_one_digest_and_what_is_new_is_an_alert() {
    let mut harness = since_it_began();
    for n in 0..30 {
        harness.open(&failed(&format!("po_{n}"), n), NOW_S);
    }
    let older = Condition {
        since_s: 50,
        due_s: 50,
        ..lost("acct_1")
    };
    harness.open(&older, NOW_S);
    harness.open(&failed("po_new", BEGAN_S), NOW_S);
    let mut sent = harness.deliver_all(NOW_S);
    sent.sort();
    assert_eq!(
        sent,
        [
            "email 🔴 CRITICAL: 31 things were wrong already when revwatch began",
            "email 🔴 CRITICAL: A payout failed",
            "slack 🔴 CRITICAL: 31 things were wrong already when revwatch began",
            "slack 🔴 CRITICAL: A payout failed",
        ]
    );
    let counts = digest(&harness).group.expect("a group").rules;
    let counts: Vec<_> = counts.iter().map(|c| (c.rule.as_str(), c.joined)).collect();
    assert_eq!(counts, [("lost", 1), ("payout", 30)]);
    assert_eq!(digest(&harness).evidence.money, [Money::new(3000, "usd")]);
    let alert = of(&harness, "po_7");
    assert!(alert.pre_existing && alert.state == AlertState::Firing);
    assert_eq!(alert.sla, Default::default(), "its clocks are off");
    harness.engine.on_time(NOW_S + 86_400);
    let later = harness.deliver_all(NOW_S + 86_400);
    assert!(!later.is_empty(), "the clocks of the one alert run");
    assert!(
        later.iter().all(|m| m.ends_with("A payout failed")),
        "{later:?}"
    );
}

/// C6: people have no message of their own about what was wrong already, so it inhibits only what was, too.
#[test]
fn what_was_wrong_already_does_not_inhibit_what_is_new() {
    let is_muted = |harness: &mut Harness| {
        harness.settle(NOW_S);
        of(harness, "payout po_1").muted.is_some()
    };
    let mut harness = since_it_began_without_freshness();
    harness.open(&lost_since("acct_po_1", 50), NOW_S);
    harness.open(&failed("po_1", NOW_S), NOW_S);
    assert!(!is_muted(&mut harness));
    let mut sent = harness.deliver_all(NOW_S);
    sent.retain(|message| message.ends_with("A payout failed"));
    assert_eq!(sent.len(), 2, "by both notifiers");

    let mut harness = since_it_began_without_freshness();
    harness.open(&lost_since("acct_po_1", 50), NOW_S);
    harness.open(&failed("po_1", 60), NOW_S);
    assert!(is_muted(&mut harness), "both were wrong already");

    // What inhibits it turns out to be older than the beginning.
    let mut harness = since_it_began_without_freshness();
    harness.open(&lost_since("acct_po_1", NOW_S), NOW_S);
    harness.open(&failed("po_1", NOW_S), NOW_S);
    assert!(is_muted(&mut harness));
    harness.open(&lost_since("acct_po_1", 50), NOW_S);
    assert!(!is_muted(&mut harness));
}

#[test]
fn what_fell_due_before_the_beginning_was_wrong_already() {
    let mut harness = since_it_began_without_freshness();
    let [old, new] =
        [3601, 3600].map(|before_s| due(&format!("acct_{before_s}"), BEGAN_S - before_s));
    assert!(was_wrong_already(&mut harness, &old));
    assert!(!was_wrong_already(&mut harness, &new));
}

/// A trial that is shorter than the warning is due before it begins.
#[test]
fn what_begins_after_the_beginning_is_new_even_if_it_is_due_before_that() {
    let mut harness = since_it_began();
    let overdue = Condition {
        due_s: BEGAN_S - 5,
        ..failed("po_1", BEGAN_S + 5)
    };
    assert!(!was_wrong_already(&mut harness, &overdue));
}

/// It was seen first before an hour was over: that it is over now is news.
#[test]
fn what_falls_due_after_it_was_first_seen_is_new() {
    let mut harness = since_it_began_without_freshness();
    let seen = Condition {
        began_before: Some(BeganBefore::FirstSeen),
        ..due("acct_1", NOW_S - 3600)
    };
    assert!(!was_wrong_already(&mut harness, &seen));
}

/// As after an upgrade: it has been due for long, and what is remembered begins later.
#[test]
fn a_beginning_that_was_forgotten_resolves_nothing_and_fires_nothing() {
    let mut harness = since_it_began_without_freshness();
    let due = |id: &str, since_s, began_before| Condition {
        began_before,
        ..due(id, since_s)
    };
    harness.open(&due("acct_1", NOW_S - 4000, None), NOW_S - 100);
    harness.settle(NOW_S - 100);
    let forgotten = Some(BeganBefore::Forgotten);
    for id in ["acct_1", "acct_2"] {
        harness.open(&due(id, NOW_S - 60, forgotten), NOW_S);
    }
    harness.settle(NOW_S);
    assert_eq!(of(&harness, "acct_1").state, AlertState::Firing);
    let fired = harness
        .engine
        .alerts()
        .filter(|a| a.subject.to_string().ends_with("acct_2"));
    assert_eq!(fired.count(), 0);
    // Without the mark, the due time has moved: it is over.
    harness.open(&due("acct_1", NOW_S - 60, None), NOW_S + 1);
    harness.settle(NOW_S + 1);
    let open = harness
        .engine
        .alerts()
        .filter(|a| a.state == AlertState::Firing);
    assert_eq!(open.count(), 0);
}

#[test]
fn what_the_first_event_says_was_so_before_was_wrong_already() {
    let mut harness = since_it_began();
    harness.open(&had_failed("po_1", NOW_S - 1), NOW_S);
    assert_eq!(
        harness.deliver_all(NOW_S),
        [
            "email 🔴 CRITICAL: 1 thing was wrong already when revwatch began",
            "slack 🔴 CRITICAL: 1 thing was wrong already when revwatch began",
        ]
    );
    // Older events were dropped, but one of them began it: that is no first sight.
    let forgotten = Condition {
        began_before: Some(BeganBefore::Forgotten),
        ..failed("po_2", NOW_S)
    };
    harness.open(&forgotten, NOW_S);
    assert_eq!(harness.deliver_all(NOW_S).len(), 2, "an alert");
    // Neither does it become one.
    let forgotten = Condition {
        began_before: Some(BeganBefore::Forgotten),
        ..failed("po_1", NOW_S)
    };
    harness.open(&forgotten, NOW_S + 1);
    harness.settle(NOW_S + 1);
    assert!(of(&harness, "po_1").pre_existing);
}

/// Whenever it began, the end of a trial is known.
#[test]
fn a_trial_that_was_due_before_the_beginning_was_wrong_already_and_a_later_one_is_news() {
    let kind = ConditionKind::TrialEnding;
    let key = |id: &str| ConditionKey {
        kind,
        subject: EntityKey::new(EntityKind::Subscription, id),
    };
    let trial = |id: &str, due_s, began_before| Condition {
        key: key(id),
        due_s,
        began_before,
        ..failed(id, NOW_S - 1)
    };
    let seen = Some(BeganBefore::FirstSeen);
    let there = |due_s, began_before| was_there(&trial("sub_1", due_s, began_before), due_s);
    assert_eq!(there(BEGAN_S - 1, seen), Some(true));
    assert_eq!(there(BEGAN_S, seen), Some(false));
    assert_eq!(there(NOW_S - 1, seen), Some(false), "with its first event");
    assert_eq!(
        there(BEGAN_S - 1, None),
        Some(false),
        "it began with the event"
    );
    assert_eq!(there(BEGAN_S - 1, Some(BeganBefore::Forgotten)), None);
}

fn was_there(condition: &Condition, due_s: i64) -> Option<bool> {
    super::super::pre_existing::was_there(condition, due_s, BEGAN_S)
}

/// A setting says what was wrong already. It does not say since when an event can be missing.
#[test]
fn the_first_delivery_is_read_and_stored_although_a_setting_says_when_it_began() {
    let setting = || policy_with_beginning(Some(BEGAN_S));
    let mut harness = Harness::open_with(rules(), setting(), &Documents::default());
    let is_read = |harness: &Harness| {
        let time = TickTime {
            now_s: NOW_S,
            elapsed: std::time::Duration::ZERO,
        };
        harness.engine.required_reads(time).first_delivery
    };
    assert!(is_read(&harness));
    assert_eq!(harness.engine.begun_s(), None);
    harness.engine.begin(Some(NOW_S * 1000));
    harness.settle(NOW_S);
    harness.reopen_with(rules(), setting());
    assert!(!is_read(&harness));
    assert_eq!(harness.engine.begun_s(), Some(NOW_S));
    assert_eq!(harness.engine.began_s(), Some(BEGAN_S));
}

/// The beginning is stored; the settings override it.
#[test]
fn it_began_an_hour_before_the_first_delivery_and_that_is_remembered() {
    let unset = || policy_with_beginning(None);
    let mut harness = Harness::open_with(rules(), unset(), &Documents::default());
    assert_eq!(harness.engine.began_s(), None);
    harness.engine.begin(Some(7_200_500));
    assert_eq!(harness.engine.began_s(), Some(3600));
    harness.settle(NOW_S);
    harness.reopen_with(rules(), unset());
    assert_eq!(harness.engine.began_s(), Some(3600));
    reopen(&mut harness);
    assert_eq!(harness.engine.began_s(), Some(BEGAN_S));
    // The oldest deliveries are gone: it was long ago.
    harness.engine.begin(None);
    harness.settle(NOW_S);
    harness.reopen_with(rules(), unset());
    assert_eq!(harness.engine.began_s(), Some(0));
}
