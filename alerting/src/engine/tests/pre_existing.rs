//! What was wrong already when revwatch began.

use revwatch_core::condition::BeganBefore;

use crate::alert::DIGEST;

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
    let lost_at = |since_s| Condition {
        since_s,
        due_s: since_s,
        ..lost("acct_po_1")
    };
    let is_muted = |harness: &mut Harness| {
        harness.settle(NOW_S);
        of(harness, "payout po_1").muted.is_some()
    };
    let mut harness = since_it_began_without_freshness();
    harness.open(&lost_at(50), NOW_S);
    harness.open(&failed("po_1", NOW_S), NOW_S);
    assert!(!is_muted(&mut harness));
    let mut sent = harness.deliver_all(NOW_S);
    sent.retain(|message| message.ends_with("A payout failed"));
    assert_eq!(sent.len(), 2, "by both notifiers");

    let mut harness = since_it_began_without_freshness();
    harness.open(&lost_at(50), NOW_S);
    harness.open(&failed("po_1", 60), NOW_S);
    assert!(is_muted(&mut harness), "both were wrong already");

    // What inhibits it turns out to be older than the beginning.
    let mut harness = since_it_began_without_freshness();
    harness.open(&lost_at(NOW_S), NOW_S);
    harness.open(&failed("po_1", NOW_S), NOW_S);
    assert!(is_muted(&mut harness));
    harness.open(&lost_at(50), NOW_S);
    assert!(!is_muted(&mut harness));
}

#[test]
fn what_fell_due_before_the_beginning_was_wrong_already() {
    let mut harness = since_it_began_without_freshness();
    let due = |id: &str, since_s| Condition {
        since_s,
        due_s: since_s,
        ..condition(
            ConditionKind::RequirementsDue,
            EntityKind::Account,
            id,
            id,
            since_s,
        )
    };
    // The rule adds an hour.
    harness.open(&due("acct_old", BEGAN_S - 3601), NOW_S);
    harness.open(&due("acct_new", BEGAN_S - 3600), NOW_S);
    harness.settle(NOW_S);
    assert!(of(&harness, "acct_old").pre_existing);
    assert!(!of(&harness, "acct_new").pre_existing);
}

/// A trial that is shorter than the warning is due before it begins.
#[test]
fn what_begins_after_the_beginning_is_new_even_if_it_is_due_before_that() {
    let mut harness = since_it_began();
    let overdue = Condition {
        due_s: BEGAN_S - 5,
        ..failed("po_1", BEGAN_S + 5)
    };
    harness.open(&overdue, NOW_S);
    harness.settle(NOW_S);
    assert!(!of(&harness, "po_1").pre_existing);
}

/// It was seen first before an hour was over: that it is over now is news.
#[test]
fn what_falls_due_after_it_was_first_seen_is_new() {
    let mut harness = since_it_began_without_freshness();
    let kind = ConditionKind::RequirementsDue;
    let seen = Condition {
        began_before: Some(BeganBefore::FirstSeen),
        ..condition(kind, EntityKind::Account, "acct_1", "acct_1", NOW_S - 3600)
    };
    harness.open(&seen, NOW_S);
    harness.settle(NOW_S);
    assert!(!of(&harness, "acct_1").pre_existing);
}

/// As after an upgrade: it has been due for long, and what is remembered begins later.
#[test]
fn a_beginning_that_was_forgotten_resolves_nothing_and_fires_nothing() {
    let mut harness = since_it_began_without_freshness();
    let due = |id: &str, since_s, began_before| Condition {
        began_before,
        due_s: since_s,
        ..condition(
            ConditionKind::RequirementsDue,
            EntityKind::Account,
            id,
            id,
            since_s,
        )
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

#[test]
fn an_event_that_arrives_late_makes_an_ordinary_alert_of_it() {
    let mut harness = since_it_began();
    harness.open(&had_failed("po_1", NOW_S - 1), NOW_S);
    harness.open(&failed("po_2", 5), NOW_S);
    harness.deliver_all(NOW_S);
    harness.open(&failed("po_1", BEGAN_S + 5), NOW_S + 1);
    assert_eq!(
        harness.deliver_all(NOW_S + 1),
        [
            "email 🔴 CRITICAL: A payout failed",
            "slack 🔴 CRITICAL: A payout failed",
            "slack 🔴 CRITICAL: 1 thing was wrong already when revwatch began",
        ]
    );
    let alert = of(&harness, "po_1");
    assert!(!alert.pre_existing && alert.part_of.is_none());
    assert!(alert.sla.respond_due_s > NOW_S);
    assert_eq!(digest(&harness).evidence.money, [Money::new(100, "usd")]);
    // The last one leaves a digest of nothing, which is over.
    harness.open(&failed("po_2", BEGAN_S + 5), NOW_S + 2);
    let key = MessageKey::main("slack");
    let sent = harness.send(NOW_S + 2, |_| delivered());
    let (_, message) = sent
        .into_iter()
        .find(|(sent, message)| *sent == key && message.rule == DIGEST)
        .expect("the digest's readers read it");
    assert_eq!(
        message.headline,
        "↩️ CORRECTED: nothing was wrong already when revwatch began"
    );
    let what = "Corrected: what was in it turned out to be news";
    assert!(message.text.contains(what), "{}", message.text);
    for word in ["esolved", "Since", "Alerts"] {
        assert!(!message.text.contains(word), "{word}: {}", message.text);
    }
    assert!(harness.engine.alerts().all(|a| !a.is_digest()));
}

/// The same as if its first event had arrived first.
#[test]
fn an_event_that_arrives_late_moves_an_alert_into_the_digest() {
    let mut harness = since_it_began();
    harness.open(&failed("po_1", BEGAN_S + 5), NOW_S);
    assert_eq!(harness.deliver_all(NOW_S).len(), 2);
    harness.open(&failed("po_1", 5), NOW_S + 1);
    let mut sent = harness.deliver_all(NOW_S + 1);
    sent.sort();
    assert_eq!(
        sent,
        [
            "email 🔴 CRITICAL: 1 thing was wrong already when revwatch began",
            "slack 🔴 CRITICAL (wrong already): A payout failed",
            "slack 🔴 CRITICAL: 1 thing was wrong already when revwatch began",
        ]
    );
    let alert = of(&harness, "po_1");
    assert_eq!(alert.sla, Default::default(), "its clocks are off");
    let key = MessageKey::main("slack");
    let shown = crate::message::render(alert, &key, &alert.notifications[&key]).text;
    let what = "Wrong already: it was so when revwatch began, and has no deadlines: see ";
    let what = format!("{what}{}", digest(&harness).id);
    assert!(shown.contains(&what), "{shown}");
    harness.engine.on_time(NOW_S + 86_400);
    reopen(&mut harness);
    harness.engine.on_time(NOW_S + 86_400);
    assert_eq!(harness.deliver_all(NOW_S + 86_400), [""; 0]);
    // Those who have its message read that it is over.
    harness.close(&failed("po_1", 5), NOW_S + 86_401);
    harness.engine.on_time(NOW_S + 86_461);
    let mut sent = harness.deliver_all(NOW_S + 86_461);
    sent.sort();
    assert_eq!(
        sent,
        [
            "email ✅ RESOLVED: 1 thing was wrong already when revwatch began",
            "email ✅ RESOLVED: A payout failed",
            "slack ✅ RESOLVED: 1 thing was wrong already when revwatch began",
            "slack ✅ RESOLVED: A payout failed",
        ]
    );
    assert!(harness.alerts().is_empty());
}

/// A deadline had passed, and its notice was not sent yet.
#[test]
fn what_turns_out_to_have_been_wrong_already_has_no_more_notices() {
    let mut harness = since_it_began();
    harness.open(&failed("po_1", BEGAN_S + 5), NOW_S);
    harness.deliver_all(NOW_S);
    harness.engine.on_time(NOW_S + 3600);
    harness.open(&failed("po_1", 5), NOW_S + 3600);
    let sent = harness.send(NOW_S + 3600, |_| delivered());
    assert_eq!(sent.len(), 3, "{sent:?}");
    assert!(sent.iter().all(|(_, message)| message.notice.is_none()));
    assert!(
        sent.iter()
            .all(|(_, message)| !message.text.contains("Respond by"))
    );
}

#[test]
fn a_group_whose_alerts_were_wrong_already_says_so() {
    let mut harness = since_it_began();
    let storm: Vec<_> = (0..5).map(|n| format!("po_{n}")).collect();
    for id in &storm {
        harness.open(&failed(id, BEGAN_S + 5), NOW_S);
    }
    assert_eq!(harness.deliver_all(NOW_S).len(), 2);
    for id in &storm {
        harness.open(&failed(id, 5), NOW_S + 1);
    }
    let mut sent = harness.deliver_all(NOW_S + 1);
    sent.sort();
    assert_eq!(
        sent,
        [
            "email ↩️ CORRECTED: 0 × A payout failed",
            "email 🔴 CRITICAL: 5 things were wrong already when revwatch began",
            "slack ↩️ CORRECTED: 0 × A payout failed",
            "slack 🔴 CRITICAL: 5 things were wrong already when revwatch began",
        ]
    );
    assert_eq!(digest(&harness).evidence.money, [Money::new(500, "usd")]);
}

#[test]
fn a_silenced_alert_that_was_sent_joins_when_the_silence_ends() {
    let mut harness = since_it_began();
    let lost_at = |since_s| Condition {
        since_s,
        due_s: since_s,
        ..lost("acct_1")
    };
    harness.open(&lost_at(BEGAN_S + 5), NOW_S);
    harness.deliver_all(NOW_S);
    let silence = silence_of_lost(0, NOW_S + 60);
    harness.command(CommandKind::Silence(silence), NOW_S);
    harness.open(&lost_at(5), NOW_S + 1);
    assert_eq!(harness.deliver_all(NOW_S + 1), [""; 0]);
    assert!(of(&harness, "acct_1").pre_existing);
    harness.engine.on_time(NOW_S + 60);
    harness.deliver_all(NOW_S + 60);
    let alert = of(&harness, "acct_1");
    assert_eq!(alert.part_of, Some(digest(&harness).id));
}

/// As when a person sets another beginning: revwatch saw it begin.
#[test]
fn an_alert_that_fired_before_another_beginning_stays_one() {
    let mut harness = Harness::new();
    harness.open(&failed("po_1", 5), 100);
    harness.deliver_all(100);
    reopen(&mut harness);
    harness.open(&failed("po_1", 4), NOW_S);
    harness.settle(NOW_S);
    assert!(!of(&harness, "po_1").pre_existing);
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

/// What is known in the end decides, whatever was known before, and whatever was sent. The events of a history that
/// arrive in any order make such a sequence, with the same end.
#[test]
fn what_was_known_before_the_end_does_not_decide_what_was_wrong_already() {
    let first = fastrand::u64(..u64::MAX / 2);
    eprintln!("seeds from {first}");
    let deployment = (rules(), policy_with_beginning(Some(BEGAN_S)));
    for seed in first..first + 200 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut last: Vec<Known> = SUBJECTS.map(|id| known(&mut rng, id)).into();
        let expected = in_the_end(&deployment, &last, None);
        for _ in 0..2 {
            let mut history: Vec<Known> = Vec::new();
            for _ in 0..12 {
                let id = rng.choice(SUBJECTS).expect("one");
                history.push(known(&mut rng, id));
            }
            rng.shuffle(&mut last);
            history.extend(last.iter().cloned());
            let found = in_the_end(&deployment, &history, Some(rng.fork()));
            assert_eq!(found, expected, "seed {seed}: {history:#?}");
        }
    }
}

const SUBJECTS: [&str; 6] = ["po_0", "po_1", "po_2", "po_3", "po_4", "po_5"];

/// A condition as it is known, and whether it holds.
type Known = (Condition, bool);

fn known(rng: &mut fastrand::Rng, id: &str) -> Known {
    let condition = Condition {
        began_before: rng.bool().then_some(BeganBefore::FirstSeen),
        ..failed(id, BEGAN_S + rng.i64(-500..500))
    };
    (condition, rng.u8(..5) > 0)
}

/// What is open: each alert with whether it was wrong already, is in the digest and has a clock; and what the digest
/// says of them.
fn in_the_end(
    (rules, policy): &(Vec<Rule>, Policy),
    history: &[Known],
    mut interruptions: Option<fastrand::Rng>,
) -> Vec<String> {
    let nothing = Documents::default();
    let mut harness = Harness::open_with(rules.clone(), policy.clone(), &nothing);
    harness.engine.on_scan(&[], NOW_S);
    let mut now_s = NOW_S;
    for (condition, holds) in history {
        match holds {
            true => harness.open(condition, now_s),
            false => harness.close(condition, now_s),
        }
        if let Some(rng) = &mut interruptions {
            match rng.u8(..4) {
                0 => harness.settle(now_s),
                1 => drop(harness.deliver_all(now_s)),
                2 => {
                    harness.settle(now_s);
                    harness.reopen_with(rules.clone(), policy.clone());
                }
                _ => {}
            }
            now_s += rng.i64(0..60);
            harness.engine.on_time(now_s);
        }
    }
    harness.engine.on_time(now_s + 60);
    harness.deliver_all(now_s + 60);
    let open: Vec<&Alert> = harness
        .engine
        .alerts()
        .filter(|a| !a.is_resolved())
        .collect();
    let digest = open.iter().find(|a| a.is_digest()).map(|a| &a.id);
    let shown = open.iter().filter_map(|alert| match &alert.group {
        None => Some(format!(
            "{} {} {} {}",
            alert.subject,
            alert.pre_existing,
            alert.part_of.as_ref().is_some_and(|id| Some(id) == digest),
            alert.sla.respond_due_s > 0
        )),
        Some(group) if alert.pre_existing => Some(format!(
            "digest {} {} {} {:?}",
            group.open, alert.since_s, alert.evidence.began_before, alert.evidence.money
        )),
        Some(_) => None,
    });
    let mut shown: Vec<String> = shown.collect();
    shown.sort();
    shown
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

/// The beginning is stored; the settings override it.
#[test]
fn it_began_an_hour_before_the_first_delivery_and_that_is_remembered() {
    let unset = || policy_with_beginning(None);
    let mut harness = Harness::new();
    harness.reopen_with(rules(), unset());
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
