//! Events that arrive late and show when a problem began.

use revwatch_core::condition::BeganBefore;

use super::*;

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

/// The first one is still to be corrected, or is in the history.
#[test]
fn another_digest_and_another_group_of_the_same_alerts_have_ids_of_their_own() {
    let mut harness = since_it_began();
    let storm: Vec<_> = (0..5).map(|n| format!("po_{n}")).collect();
    let mut now_s = NOW_S;
    let mut ids = BTreeSet::new();
    let mut rounds = 0;
    for is_delivered in [false, true, false] {
        for since_s in [5, BEGAN_S + 5] {
            for id in &storm {
                harness.open(&failed(id, since_s), now_s);
            }
            harness.settle(now_s);
            let alerts = harness.engine.alerts();
            let open = alerts.filter(|a| a.group.is_some() && !a.is_resolved());
            ids.extend(open.map(|a| a.id.clone()));
            rounds += 1;
            assert_eq!(ids.len(), rounds, "each is another one");
            if is_delivered {
                harness.deliver_all(now_s);
            }
            now_s += 1;
        }
    }
}

/// Hours after they began to fire, they are sent as if they fired now.
#[test]
fn a_group_of_what_turns_out_to_be_news_has_its_deadlines_from_then_on() {
    let mut harness = since_it_began();
    let storm: Vec<_> = (0..5).map(|n| format!("po_{n}")).collect();
    for id in &storm {
        harness.open(&failed(id, 5), NOW_S);
    }
    harness.deliver_all(NOW_S);
    let later_s = NOW_S + 86_400;
    for id in &storm {
        harness.open(&failed(id, BEGAN_S + 5), later_s);
    }
    harness.deliver_all(later_s);
    harness.engine.on_time(later_s);
    let sent = harness.send(later_s, |_| delivered());
    assert!(sent.is_empty(), "nothing is overdue: {sent:?}");
    let mut alerts = harness.engine.alerts();
    let group = alerts.find(|a| a.group.is_some() && !a.is_resolved());
    let sla = &group.expect("a group").sla;
    assert_eq!(sla.respond_due_s, later_s + sla.respond_s);
}

#[test]
fn a_silenced_alert_that_was_sent_joins_when_the_silence_ends() {
    let mut harness = since_it_began();
    harness.open(&lost_since("acct_1", BEGAN_S + 5), NOW_S);
    harness.deliver_all(NOW_S);
    let silence = silence_of_lost(0, NOW_S + 60);
    harness.command(CommandKind::Silence(silence), NOW_S);
    harness.open(&lost_since("acct_1", 5), NOW_S + 1);
    assert_eq!(harness.deliver_all(NOW_S + 1), [""; 0]);
    assert!(of(&harness, "acct_1").pre_existing);
    harness.engine.on_time(NOW_S + 60);
    harness.deliver_all(NOW_S + 60);
    let alert = of(&harness, "acct_1");
    assert_eq!(alert.part_of, Some(digest(&harness).id));
}

/// It was sent, was wrong already for some time, and is news again: all of this while it is silenced or before.
#[test]
fn a_silenced_alert_has_its_deadlines_when_the_silence_ends() {
    let mut harness = since_it_began();
    harness.open(&lost_since("acct_1", BEGAN_S + 5), NOW_S);
    harness.deliver_all(NOW_S);
    harness.open(&lost_since("acct_1", 5), NOW_S + 1);
    harness.deliver_all(NOW_S + 1);
    let silence = silence_of_lost(0, NOW_S + 60);
    harness.command(CommandKind::Silence(silence), NOW_S + 2);
    harness.open(&lost_since("acct_1", BEGAN_S + 6), NOW_S + 2);
    harness.deliver_all(NOW_S + 2);
    assert_eq!(of(&harness, "acct_1").part_of, None);
    harness.engine.on_time(NOW_S + 60);
    harness.deliver_all(NOW_S + 60);
    let alert = of(&harness, "acct_1");
    assert!(!alert.pre_existing && alert.muted.is_none());
    assert_eq!(alert.sla.respond_due_s, NOW_S + 60 + alert.sla.respond_s);
    assert!(alert.sla.respond_s > 0);
    let breached_s = alert.sla.respond_due_s;
    harness.engine.on_time(breached_s);
    let sent = harness.send(breached_s, |_| delivered());
    assert!(sent.iter().any(|(_, message)| message.notice.is_some()));
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

/// No silence is longer.
const SILENCED_S: i64 = 300;
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

/// A silence of one alert, of all of them or of the digest. Several overlap.
fn any_silence(rng: &mut fastrand::Rng, now_s: i64) -> Silence {
    let id = rng.choice(SUBJECTS).expect("one");
    let rule = |rule: &str| Matcher {
        rule: Some(rule.into()),
        ..Matcher::default()
    };
    let matches = match rng.u8(..3) {
        0 => rule("payout"),
        1 => rule(DIGEST),
        _ => Matcher {
            account: Some(format!("acct_{id}")),
            ..Matcher::default()
        },
    };
    Silence {
        id: format!("si_{}", rng.u8(..)),
        matches,
        until_s: now_s + rng.i64(1..SILENCED_S),
        ..silence_of_lost(now_s, now_s)
    }
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
            match rng.u8(..5) {
                0 => harness.settle(now_s),
                1 => drop(harness.deliver_all(now_s)),
                2 => {
                    harness.settle(now_s);
                    harness.reopen_with(rules.clone(), policy.clone());
                }
                3 => harness.command(CommandKind::Silence(any_silence(rng, now_s)), now_s),
                _ => {}
            }
            now_s += rng.i64(0..60);
            harness.engine.on_time(now_s);
        }
    }
    // Every silence has ended, and what is clear is resolved.
    let end_s = now_s + SILENCED_S;
    harness.engine.on_time(end_s);
    harness.deliver_all(end_s);
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
