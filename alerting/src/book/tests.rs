use std::collections::BTreeMap;

use revwatch_shared::condition::{Condition, ConditionKey};
use revwatch_shared::config::Config;
use revwatch_shared::counters::{Bucket, Counters};
use revwatch_shared::entity::{EntityKey, EntityKind};
use revwatch_shared::money::Money;
use revwatch_shared::ports::COMMANDS;
use revwatch_shared::ports::ConditionChange;

use super::*;
use crate::alert::{AlertState, NoticeKind, Way};
use crate::command::{Ask, Command, Matcher};
use crate::figure::{Facts, Pipeline};
use crate::lifecycle::TRANSITIONS;
use crate::outcome::Outcome;
use crate::policy::Habits;

const RULES: &str = r##"
[[rule]]
name = "lost"
kind = "condition"
condition = "charges_lost"
severity = "critical"
route = "alerts-critical"
title = "A provider can no longer take charges"
actions = ["Look."]

[[rule]]
name = "payout"
kind = "condition"
condition = "payout_failed"
severity = "critical"
route = "alerts-critical"
title = "A payout failed"
actions = ["Look."]
inhibited_by = ["lost"]
keep_firing_for = "1m"

[[rule]]
name = "due"
kind = "condition"
condition = "requirements_due"
after = "1h"
fresh_within = "2h"
severity = "low"
route = "x"
title = "Requirements are due"
actions = ["Look."]

[[rule]]
name = "failures"
kind = "ratio"
metric = "payout_failures"
by = "currency"
window = "1h"
above = 0.5
for = "1m"
severity = "high"
route = "alerts-high"
title = "Payouts fail"
actions = ["Look."]
"##;

/// A book and what its store holds: every write goes there, and it can be reopened from there at any time.
struct Desk {
    book: Book,
    store: BTreeMap<(&'static str, String), String>,
    happened: Vec<Happened>,
}

fn policy() -> Policy {
    policy_with(&["slack", "email"])
}

/// Slack's messages can be changed, the others' cannot.
fn policy_with(notifiers: &[&str]) -> Policy {
    let config = Config::load(None, &|_| None).expect("the defaults");
    let mut alerting = config.alerting;
    alerting.group_above = 3;
    let habits = |name: &str| Habits { edits: name == "slack", resolves: true };
    let notifiers = notifiers.iter().map(|name| ((*name).to_owned(), habits(name)));
    Policy::new(&alerting, notifiers.collect()).expect("valid")
}

fn rules() -> Vec<Rule> {
    crate::rule_text::parse(&[("test".into(), RULES.into())]).expect("valid")
}

impl Desk {
    fn new() -> Self {
        let book = Book::open(rules(), policy(), &Documents::default()).expect("readable");
        let mut desk = Self { book, store: BTreeMap::new(), happened: Vec::new() };
        desk.book.on_scan(&[], 0);
        desk.settle(0);
        desk
    }

    fn settle(&mut self, now_s: i64) {
        for write in self.book.settle(now_s) {
            self.put(write);
        }
        self.happened.extend(self.book.take_happened());
    }

    fn put(&mut self, write: DocumentWrite) {
        match write.body {
            Some(body) => self.store.insert((write.space, write.key), body),
            None => self.store.remove(&(write.space, write.key)),
        };
    }

    fn reopen(&mut self) {
        self.reopen_with(policy());
    }

    fn reopen_with(&mut self, policy: Policy) {
        let space = |wanted| {
            let of_space = self.store.iter().filter(|((space, _), _)| *space == wanted);
            of_space.map(|((_, key), body)| (key.clone(), body.clone())).collect()
        };
        let stored = Documents {
            alerts: space(ALERTS),
            pending: space(PENDING),
            silences: space(SILENCES),
            progress: space(PROGRESS),
        };
        self.book = Book::open(rules(), policy, &stored).expect("readable");
    }

    fn open(&mut self, condition: &Condition, now_s: i64) {
        self.book.on_open(condition, now_s);
    }

    fn close(&mut self, condition: &Condition, now_s: i64) {
        self.book.on_changes(&[ConditionChange::Close(condition.key.clone())], now_s);
    }

    fn command(&mut self, ask: Ask, now_s: i64) {
        let command = Command { ask, by: "ana".into(), via: "cli".into(), at_s: now_s };
        self.book.on_command("c1", &json(&command), now_s).expect("readable");
    }

    /// Tells whatever may be told, well, and returns it: the way and the headline.
    fn tell_all(&mut self, now_s: i64) -> Vec<String> {
        self.tell(now_s, |_| Outcome::Delivered { receipt: Some("r".into()) })
    }

    fn tell(&mut self, now_s: i64, answer: impl Fn(&Way) -> Outcome) -> Vec<String> {
        let mut told = Vec::new();
        // Bounded: nothing may be told for ever.
        for _ in 0..1000 {
            self.settle(now_s);
            let lanes = self.book.lanes().filter(|(_, at_ms)| *at_ms <= now_s * 1000);
            let Some(lane) = lanes.map(|(lane, _)| lane.clone()).next() else { return told };
            let job = self.book.begin(&lane, now_s * 1000).expect("something to tell");
            self.settle(now_s);
            told.push(format!("{} {}", job.way, job.message.headline));
            let Job { alert_id, way, revision, .. } = job;
            let outcome = answer(&way);
            self.book.on_told(&Told { alert_id, way, revision, outcome, possible_duplicate: false }, now_s * 1000);
        }
        panic!("endless: {told:?}");
    }

    /// Subject and state of every alert that is not over and told.
    fn alerts(&self) -> Vec<String> {
        let mut found: Vec<_> = self
            .book
            .alerts()
            .map(|a| {
                format!(
                    "{} {} {}{}",
                    a.rule,
                    a.subject,
                    a.state.as_str(),
                    if a.group.is_some() { " group" } else { "" }
                )
            })
            .collect();
        found.sort();
        found
    }

    fn id(&self, rule: &str) -> String {
        let of_rule = self.book.alerts().filter(|a| a.rule == rule);
        of_rule.max_by_key(|a| a.group.is_some()).map(|a| a.id.clone()).expect("an alert")
    }
}

fn condition(kind: ConditionKind, entity: EntityKind, id: &str, account: &str, since_s: i64) -> Condition {
    Condition {
        key: ConditionKey { kind, subject: EntityKey::new(entity, id) },
        since_s,
        due_s: since_s,
        account: Some(account.into()),
        customer: None,
        money: None,
        detail: None,
        event_id: "evt_1".into(),
    }
}

fn lost(id: &str) -> Condition {
    condition(ConditionKind::ChargesLost, EntityKind::Account, id, id, 0)
}

fn payout(id: &str, account: &str, minor: i64) -> Condition {
    let money = Some(Money::new(minor, "usd"));
    Condition { money, ..condition(ConditionKind::PayoutFailed, EntityKind::Payout, id, account, 10) }
}

#[test]
fn an_alert_is_told_when_it_fires_and_when_it_is_over() {
    let mut desk = Desk::new();
    desk.open(&lost("acct_1"), 20);
    desk.open(&lost("acct_1"), 21);
    assert_eq!(
        desk.tell_all(21),
        [
            "email 🔴 CRITICAL: A provider can no longer take charges",
            "slack 🔴 CRITICAL: A provider can no longer take charges"
        ]
    );
    assert!(desk.tell_all(22).is_empty());
    desk.close(&lost("acct_1"), 30);
    assert_eq!(
        desk.tell_all(30),
        [
            "email ✅ RESOLVED: A provider can no longer take charges",
            "slack ✅ RESOLVED: A provider can no longer take charges"
        ]
    );
    assert!(desk.alerts().is_empty());
    let history: Vec<_> = desk.store.keys().filter(|(space, _)| *space == HISTORY).collect();
    assert_eq!(history.len(), 1);
}

#[test]
fn reopened_at_any_point_it_goes_on_where_it_was() {
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
            desk.open(&payout(&format!("po_{n}"), &format!("acct_{n}"), 100 * n), 20);
            again(&mut desk, 20);
        }
        log.push(desk.tell_all(20));
        again(&mut desk, 20);
        desk.command(Ask::Acknowledge { alert_id: desk.id("payout") }, 25);
        again(&mut desk, 25);
        desk.book.on_time(20 + 15 * 60);
        again(&mut desk, 20 + 15 * 60);
        log.push(desk.tell_all(20 + 15 * 60));
        for n in 0..6 {
            desk.close(&payout(&format!("po_{n}"), "", 0), 2000);
            again(&mut desk, 2000);
        }
        desk.book.on_time(2059);
        again(&mut desk, 2059);
        log.push(desk.alerts());
        desk.book.on_time(2060);
        again(&mut desk, 2060);
        log.push(desk.tell_all(2060));
        log.push(desk.alerts());
        log
    };
    let (plain, restarted) = (play(false), play(true));
    assert_eq!(plain, restarted);
    assert!(plain[4].is_empty(), "{plain:?}");
}

#[test]
fn an_attempt_that_a_crash_cut_off_is_looked_for_first() {
    let mut desk = Desk::new();
    desk.open(&lost("acct_1"), 20);
    desk.settle(20);
    let lane = ("slack".to_owned(), "alerts-critical".to_owned());
    let job = desk.book.begin(&lane, 20_000).expect("a job");
    assert!(job.doubtful.is_none());
    desk.settle(20);
    desk.reopen();
    let job = desk.book.begin(&lane, 20_000).expect("a job");
    let (doubtful, revision) = job.doubtful.expect("it may have arrived");
    assert_eq!((revision, doubtful.possible_duplicate, job.message.possible_duplicate), (1, true, false));
    assert!(doubtful.text.contains("Possible duplicate"), "{}", doubtful.text);
    assert_eq!(doubtful.delivery_id, job.message.delivery_id);
    // Found: nothing more to tell.
    let told = Told {
        alert_id: job.alert_id,
        way: job.way,
        revision,
        outcome: Outcome::Delivered { receipt: Some("C:1".into()) },
        possible_duplicate: false,
    };
    desk.book.on_told(&told, 20_000);
    desk.settle(20);
    assert!(desk.book.begin(&lane, i64::MAX).is_none());
}

#[test]
fn failed_attempts_are_repeated_later_and_a_broken_way_is_replaced() {
    let mut desk = Desk::new();
    desk.command(
        Ask::Silence(Silence {
            id: "si_1".into(),
            matches: Matcher { rule: Some("payout".into()), ..Matcher::default() },
            from_s: 0,
            until_s: 10,
            reason: "r".into(),
            by: "ana".into(),
        }),
        0,
    );
    desk.open(&lost("acct_1"), 20);
    let wait = |way: &Way| match way.notifier.as_str() {
        "slack" => Outcome::RetryAfter { wait_ms: 30_000 },
        _ => Outcome::Failed { reason: "550".into(), permanent: false },
    };
    assert_eq!(desk.tell(20, wait).len(), 2);
    assert_eq!(desk.tell_all(49).len(), 1, "email's pause is over, Slack's is not");
    assert_eq!(desk.tell_all(50).len(), 1);
    desk.close(&lost("acct_1"), 60);
    let gone = |way: &Way| match way.notifier.as_str() {
        "slack" => Outcome::Failed { reason: "invalid_auth".into(), permanent: true },
        _ => Outcome::Delivered { receipt: None },
    };
    desk.tell(60, gone);
    assert_eq!(desk.book.broken_notifiers().collect::<Vec<_>>(), ["slack"]);
    desk.reopen();
    assert_eq!(desk.book.broken_notifiers().collect::<Vec<_>>(), ["slack"]);
    // Tried again from time to time; once it can be told, it is mended.
    assert_eq!(desk.tell_all(60 + 299).len(), 0);
    assert_eq!(desk.tell_all(60 + 300).len(), 1);
    assert_eq!(desk.book.broken_notifiers().count(), 0);
    assert!(desk.alerts().is_empty());
}

#[test]
fn a_mail_that_may_have_arrived_says_so_also_when_it_is_not_the_first() {
    let mut desk = Desk::new();
    desk.open(&lost("acct_1"), 20);
    desk.tell_all(20);
    desk.close(&lost("acct_1"), 30);
    desk.settle(30);
    let lane = ("email".to_owned(), "alerts-critical".to_owned());
    assert!(desk.book.begin(&lane, 30_000).expect("it is over").doubtful.is_none());
    desk.settle(30);
    desk.reopen();
    let (doubtful, _) = desk.book.begin(&lane, 30_000).expect("again").doubtful.expect("it may have arrived");
    assert!(doubtful.possible_duplicate);
}

#[test]
fn a_broken_way_that_is_tried_again_is_replaced_one_time() {
    let mut desk = Desk::new();
    desk.reopen_with(policy_with(&["slack", "email", "sms", "pagerduty", "webhook", "log"]));
    let mut counters = Counters::default();
    counters.add(Bucket::Hour(0), &["payouts", "failed", "usd"], 3);
    for now_s in [100, 160] {
        desk.book.on_figures(facts(&counters, now_s));
        desk.settle(now_s);
    }
    let fails = |way: &Way| match way.notifier.as_str() {
        "slack" => Outcome::Failed { reason: "invalid_auth".into(), permanent: true },
        _ => Outcome::Delivered { receipt: None },
    };
    let told = |told: Vec<String>| -> Vec<String> {
        told.iter().map(|t| t.split(' ').next().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(told(desk.tell(160, fails)), ["email", "slack", "sms", "webhook"]);
    assert_eq!(told(desk.tell(460, fails)), ["slack"]);
}

#[test]
fn what_a_notifier_that_is_no_longer_set_up_has_not_told_is_told_by_another() {
    let fails = |_: &Way| Outcome::Failed { reason: "502".into(), permanent: false };
    let mut desk = Desk::new();
    desk.reopen_with(policy_with(&["slack"]));
    desk.open(&lost("acct_1"), 20);
    desk.tell(20, fails);
    desk.reopen_with(policy_with(&["email"]));
    assert_eq!(desk.tell_all(30), ["email 🔴 CRITICAL: A provider can no longer take charges"]);
    desk.book.on_time(20 + 15 * 60);
    let told = desk.tell(20 + 15 * 60, fails);
    assert_eq!(told, ["email#1 ⏰ NO RESPONSE IN TIME · 🔴 CRITICAL: A provider can no longer take charges"]);
    // It was told before by a way that is gone, and is open: so are those who have it now.
    desk.reopen_with(policy_with(&["log"]));
    assert_eq!(desk.tell_all(2000).len(), 2, "the alert and its notice");
    desk.close(&lost("acct_1"), 2000);
    desk.settle(2000);
    desk.reopen_with(policy_with(&["sms"]));
    assert_eq!(desk.tell_all(2000), Vec::<String>::new(), "nobody there knows of it");
}

#[test]
fn a_group_adds_up_what_its_members_show_now() {
    let mut desk = Desk::new();
    let of = |n: i64, minor| payout(&format!("po_{n}"), &format!("acct_{n}"), minor);
    for n in 0..5 {
        desk.open(&of(n, 100), 20);
    }
    desk.tell_all(20);
    desk.open(&of(0, 40), 30);
    assert_eq!(desk.tell_all(30), ["slack 🔴 CRITICAL: 5 × A payout failed"]);
    let group = |desk: &Desk| desk.book.alert(&desk.id("payout")).expect("a group").clone();
    assert_eq!(group(&desk).evidence.money, [Money::new(440, "usd")]);
    let top = group(&desk).group.expect("a group").top;
    assert_eq!(top.last().and_then(|member| member.money.clone()), Some(Money::new(40, "usd")));
    desk.close(&of(0, 40), 30);
    desk.book.on_time(90);
    assert_eq!(group(&desk).evidence.money, [Money::new(400, "usd")]);
}

#[test]
fn what_is_pending_is_counted_also_after_a_restart() {
    let mut desk = Desk::new();
    let mut counters = Counters::default();
    counters.add(Bucket::Hour(0), &["payouts", "failed", "usd"], 3);
    let pending = |desk: &Desk| -> i64 {
        desk.book.counts().filter(|(_, _, stage, _)| *stage == Stage::Pending).map(|(.., n)| n).sum()
    };
    desk.book.on_figures(facts(&counters, 100));
    desk.settle(100);
    assert_eq!(pending(&desk), 1);
    desk.reopen();
    assert_eq!(pending(&desk), 1);
    desk.book.on_figures(facts(&counters, 160));
    assert_eq!(pending(&desk), 0);
}

#[test]
fn what_was_mended_is_used_at_once_for_all_that_waited() {
    let mut desk = Desk::new();
    let fails = |way: &Way| match way.notifier.as_str() {
        "slack" => Outcome::Failed { reason: "invalid_auth".into(), permanent: true },
        _ => Outcome::Delivered { receipt: None },
    };
    for (n, now_s) in [(1, 20), (2, 200)] {
        desk.open(&lost(&format!("acct_{n}")), now_s);
        desk.tell(now_s, fails);
    }
    assert_eq!(desk.tell_all(20 + 300).len(), 2, "the first is tried, and with it the second");
    desk.reopen();
    assert_eq!(desk.book.broken_notifiers().count(), 0);
}

#[test]
fn a_deleted_message_is_posted_anew() {
    let mut desk = Desk::new();
    desk.open(&lost("acct_1"), 20);
    desk.tell_all(20);
    desk.command(Ask::Acknowledge { alert_id: desk.id("lost") }, 30);
    desk.settle(30);
    let lane = ("slack".to_owned(), "alerts-critical".to_owned());
    let job = desk.book.begin(&lane, 30_000).expect("the change");
    assert_eq!(job.message.receipt.as_deref(), Some("r"));
    let Job { alert_id, way, revision, .. } = job;
    desk.book.on_told(&Told { alert_id, way, revision, outcome: Outcome::Gone, possible_duplicate: false }, 30_000);
    desk.settle(30);
    let job = desk.book.begin(&lane, 30_000).expect("anew");
    assert_eq!((job.message.receipt, job.doubtful.is_none()), (None, true));
}

#[test]
fn a_storm_is_told_as_one_and_few_are_told_each() {
    let mut desk = Desk::new();
    for n in 0..3 {
        desk.open(&payout(&format!("po_{n}"), &format!("acct_{n}"), 100), 20);
    }
    assert_eq!(desk.tell_all(20).len(), 6, "three, to two notifiers");
    for n in 3..10_000 {
        desk.open(&payout(&format!("po_{n}"), &format!("acct_{n}"), n), 30);
    }
    assert_eq!(
        desk.tell_all(30),
        ["email 🔴 CRITICAL: 9997 × A payout failed", "slack 🔴 CRITICAL: 9997 × A payout failed"]
    );
    // Others join for a while; the message is changed in place.
    desk.open(&payout("po_late", "acct_x", 5), 60);
    assert_eq!(desk.tell_all(60), ["slack 🔴 CRITICAL: 9998 × A payout failed"]);
    let group = desk.book.alerts().find(|a| a.group.is_some()).expect("a group").clone();
    let top = &group.group.as_ref().expect("a group").top;
    assert_eq!((top.len(), top[0].money.as_ref().map(|m| m.minor)), (10, Some(9999)));
    let sum: i64 = (3..10_000).sum::<i64>() + 5;
    assert_eq!(group.evidence.money, [Money::new(sum, "usd")]);
    desk.command(Ask::Acknowledge { alert_id: group.id.clone() }, 70);
    desk.tell_all(70);
    desk.open(&payout("po_later", "acct_y", 5), 71);
    let told = desk.tell_all(71);
    assert!(told.contains(&"email 🔴 CRITICAL: A payout failed".to_owned()), "the group is taken as it was: {told:?}");
    assert_eq!(desk.book.counts().filter(|(_, _, s, n)| *s == Stage::Acknowledged && *n == 9998).count(), 1);
    for n in 0..10_000 {
        desk.close(&payout(&format!("po_{n}"), "", 0), 80);
    }
    desk.close(&payout("po_late", "", 0), 80);
    desk.close(&payout("po_later", "", 0), 80);
    desk.book.on_time(140);
    let told = desk.tell_all(140);
    assert_eq!(told.iter().filter(|t| t.contains("RESOLVED")).count(), 10, "four and the group, each twice: {told:?}");
    assert!(desk.alerts().is_empty());
    assert!(desk.book.counts().all(|(_, _, _, n)| n == 0));
}

#[test]
fn what_is_over_before_anybody_looked_is_told_as_that() {
    // As after a failover: both changes are read at once.
    let mut desk = Desk::new();
    desk.open(&lost("acct_1"), 100);
    desk.close(&lost("acct_1"), 100);
    let resolved = "✅ RESOLVED: A provider can no longer take charges";
    assert_eq!(desk.tell_all(100), [format!("email {resolved}"), format!("slack {resolved}")]);
    assert_eq!(desk.alerts(), Vec::<String>::new());
    // Many of them are told as one, and beside one that goes on.
    for n in 2..=9 {
        desk.open(&lost(&format!("acct_{n}")), 200);
        desk.close(&lost(&format!("acct_{n}")), 200);
    }
    let many = "✅ RESOLVED: 8 × A provider can no longer take charges";
    assert_eq!(desk.tell_all(200), [format!("email {many}"), format!("slack {many}")]);
    for n in 10..=19 {
        desk.open(&lost(&format!("acct_{n}")), 300);
        if n > 10 {
            desk.close(&lost(&format!("acct_{n}")), 300);
        }
    }
    assert!(desk.tell_all(300).iter().all(|told| told.contains("CRITICAL: 10 × ")));
    let group = desk.book.alerts().find_map(|a| a.group.clone()).expect("a group");
    assert_eq!((group.joined, group.open), (10, 1));
    desk.close(&lost("acct_10"), 310);
    assert!(desk.tell_all(310).iter().all(|told| told.contains("RESOLVED: 10 × ")));
    // What is silenced is not told as over either.
    let silence = Silence {
        id: "si_1".into(),
        matches: Matcher { rule: Some("lost".into()), ..Matcher::default() },
        from_s: 400,
        until_s: 500,
        reason: "known".into(),
        by: "ana".into(),
    };
    desk.command(Ask::Silence(silence), 400);
    desk.open(&lost("acct_1"), 410);
    desk.close(&lost("acct_1"), 410);
    assert_eq!(desk.tell_all(410), Vec::<String>::new());
    assert_eq!(desk.alerts(), Vec::<String>::new());
}

#[test]
fn an_alert_that_comes_back_within_its_second_is_another_one() {
    let mut desk = Desk::new();
    let again = Condition { event_id: "evt_3".into(), ..lost("acct_1") };
    desk.open(&lost("acct_1"), 100);
    desk.close(&lost("acct_1"), 100);
    desk.open(&again, 100);
    let told = desk.tell_all(100);
    assert!(told.len() == 4 && told.iter().filter(|t| t.contains("RESOLVED")).count() == 2, "{told:?}");
    assert_eq!(desk.alerts(), ["lost account acct_1 firing"]);
    desk.close(&again, 100);
    assert_eq!(desk.tell_all(100).len(), 2);
    assert_eq!(desk.alerts(), Vec::<String>::new());
}

#[test]
fn what_another_alert_explains_is_told_only_if_it_outlives_it() {
    let mut desk = Desk::new();
    desk.open(&payout("po_1", "acct_1", 100), 20);
    desk.open(&lost("acct_1"), 20);
    desk.open(&payout("po_2", "acct_2", 100), 20);
    let told = desk.tell_all(20);
    assert_eq!(told.len(), 4, "the lost account and the payout of the other one: {told:?}");
    desk.close(&lost("acct_1"), 30);
    let told = desk.tell_all(30);
    assert!(told.contains(&"slack 🔴 CRITICAL: A payout failed".to_owned()), "{told:?}");
    let clock = desk.book.alerts().filter(|a| a.rule == "payout").map(|a| a.sla.respond_due_s - 15 * 60).max();
    assert_eq!(clock, Some(30), "its clocks began when somebody could know");
}

#[test]
fn a_silence_ends_and_what_still_fires_is_told() {
    let mut desk = Desk::new();
    let silence = Silence {
        id: "si_1".into(),
        matches: Matcher { account: Some("acct_1".into()), ..Matcher::default() },
        from_s: 0,
        until_s: 100,
        reason: "migration".into(),
        by: "ana".into(),
    };
    desk.command(Ask::Silence(silence), 0);
    desk.open(&lost("acct_1"), 20);
    desk.open(&lost("acct_2"), 20);
    assert_eq!(desk.tell_all(20).len(), 2, "the other one only");
    desk.settle(20);
    desk.reopen();
    desk.book.on_time(99);
    assert!(desk.tell_all(99).is_empty());
    desk.book.on_time(100);
    assert_eq!(desk.tell_all(100).len(), 2);
    assert_eq!(desk.book.silences().count(), 1, "still listed");
    // Ended early.
    let again = Silence {
        id: "si_2".into(),
        matches: Matcher { rule: Some("lost".into()), ..Matcher::default() },
        from_s: 100,
        until_s: 1000,
        reason: "r".into(),
        by: "ana".into(),
    };
    desk.command(Ask::Silence(again), 110);
    desk.open(&lost("acct_3"), 120);
    assert!(desk.tell_all(120).is_empty());
    desk.command(Ask::Unsilence { silence_id: "si_2".into() }, 130);
    assert!(desk.tell_all(130).iter().any(|t| t.starts_with("slack 🔴")));
}

#[test]
fn clocks_warn_escalate_and_fall_silent_when_somebody_answers() {
    let mut desk = Desk::new();
    let minute = 60;
    desk.open(&lost("acct_1"), 0);
    desk.tell_all(0);
    desk.book.on_time(12 * minute);
    let told = desk.tell_all(12 * minute);
    assert!(told.iter().any(|t| t.starts_with("slack#1 ⏳ RESPONSE DUE SOON")), "{told:?}");
    desk.book.on_time(15 * minute);
    let told = desk.tell_all(15 * minute);
    assert!(told.iter().any(|t| t.contains("NO RESPONSE IN TIME")), "{told:?}");
    desk.book.on_time(30 * minute);
    let told = desk.tell_all(30 * minute);
    assert!(told.iter().any(|t| t.contains("ESCALATION 1")), "{told:?}");
    desk.command(Ask::Acknowledge { alert_id: desk.id("lost") }, 35 * minute);
    desk.tell_all(35 * minute);
    desk.book.on_time(46 * minute);
    assert!(desk.tell_all(46 * minute).is_empty(), "somebody has it");
    desk.book.on_time(60 * minute);
    let told = desk.tell_all(60 * minute);
    assert!(told.iter().any(|t| t.contains("NOT RESOLVED IN TIME")), "{told:?}");
    assert!(!told.iter().any(|t| t.contains("DUE SOON")), "beside the breach it is not worth saying: {told:?}");
    let kinds: Vec<_> = desk.book.alerts().flat_map(|a| a.notices.iter().map(|n| n.kind)).collect();
    assert_eq!(
        kinds,
        [NoticeKind::RespondSoon, NoticeKind::RespondBreached, NoticeKind::Escalated(0), NoticeKind::ResolveBreached]
    );
}

#[test]
fn what_was_ended_by_hand_does_not_fire_again_before_it_has_been_over() {
    let mut desk = Desk::new();
    desk.open(&lost("acct_1"), 20);
    desk.tell_all(20);
    desk.command(Ask::Resolve { alert_id: desk.id("lost") }, 30);
    desk.tell_all(30);
    desk.reopen();
    desk.open(&lost("acct_1"), 40);
    desk.book.on_scan(&[lost("acct_1")], 41);
    desk.settle(41);
    assert!(desk.alerts().is_empty());
    desk.close(&lost("acct_1"), 50);
    desk.open(&lost("acct_1"), 60);
    desk.settle(60);
    assert_eq!(desk.alerts(), ["lost account acct_1 firing"]);
}

/// The rule of payouts keeps firing for a minute: in between, what was over is not the trouble that was
/// ended by hand.
#[test]
fn what_was_ended_by_hand_after_it_was_over_fires_when_it_begins_again() {
    let mut desk = Desk::new();
    desk.open(&payout("po_1", "acct_1", 100), 20);
    desk.tell_all(20);
    desk.close(&payout("po_1", "acct_1", 100), 30);
    desk.command(Ask::Resolve { alert_id: desk.id("payout") }, 40);
    desk.tell_all(40);
    desk.reopen();
    desk.open(&payout("po_1", "acct_1", 100), 50);
    desk.settle(50);
    assert_eq!(desk.alerts(), ["payout payout po_1 firing"]);
}

#[test]
fn a_group_that_is_ended_by_hand_says_by_whom() {
    let mut desk = Desk::new();
    for n in 0..5 {
        desk.open(&payout(&format!("po_{n}"), &format!("acct_{n}"), 100), 20);
    }
    desk.settle(20);
    let id = desk.id("payout");
    desk.command(Ask::Resolve { alert_id: id.clone() }, 30);
    desk.settle(30);
    let group = desk.book.alert(&id).expect("not told yet");
    assert_eq!((group.state, group.resolved_by.as_deref()), (AlertState::Resolved, Some("ana")));
    desk.tell_all(30);
    assert!(desk.alerts().is_empty());
}

#[test]
fn a_silence_asked_for_by_a_clock_that_is_ahead_begins_at_once() {
    let mut desk = Desk::new();
    desk.open(&lost("acct_1"), 20);
    let matches = Matcher { rule: Some("lost".into()), ..Matcher::default() };
    let (id, by) = ("si_1".to_owned(), "ana".to_owned());
    desk.command(Ask::Silence(Silence { id, matches, from_s: 21, until_s: 100, reason: "r".into(), by }), 20);
    assert!(desk.tell_all(20).is_empty());
}

#[test]
fn what_is_silenced_or_taken_before_it_is_told_does_not_become_one_of_a_group() {
    let mut desk = Desk::new();
    for n in 0..3 {
        desk.open(&payout(&format!("po_{n}"), &format!("acct_{n}"), 100), 20);
    }
    desk.settle(20);
    let id = |desk: &Desk, subject: &str| {
        desk.book.alerts().find(|a| a.subject_text() == subject).map(|a| a.id.clone()).expect("an alert")
    };
    desk.command(Ask::Acknowledge { alert_id: id(&desk, "payout po_0") }, 21);
    let matches = Matcher { account: Some("acct_1".into()), ..Matcher::default() };
    let (silence, by) = ("si_1".to_owned(), "ana".to_owned());
    desk.command(Ask::Silence(Silence { id: silence, matches, from_s: 0, until_s: 100, reason: "r".into(), by }), 21);
    desk.settle(21);
    desk.reopen();
    for n in 3..6 {
        desk.open(&payout(&format!("po_{n}"), &format!("acct_{n}"), 100), 30);
    }
    desk.settle(30);
    let group = desk.book.alerts().find_map(|a| a.group.as_ref()).expect("a group");
    assert_eq!(group.joined, 4);
    for alone in ["payout po_0", "payout po_1"] {
        assert_eq!(desk.book.alert(&id(&desk, alone)).expect("open").part_of, None, "{alone}");
    }
}

/// The shell writes many documents in parts.
#[test]
fn what_was_ended_by_hand_stays_so_wherever_a_crash_cuts_off_the_write() {
    let mut desk = Desk::new();
    desk.open(&lost("acct_1"), 20);
    desk.tell_all(20);
    let (before, ask) = (desk.store.clone(), Ask::Resolve { alert_id: desk.id("lost") });
    desk.command(ask.clone(), 30);
    let writes = desk.book.settle(30);
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
        desk.tell_all(40);
        assert_eq!(desk.alerts(), Vec::<String>::new(), "cut at {cut}");
    }
}

/// The shell writes many documents in parts.
#[test]
fn documents_come_in_an_order_in_which_a_crash_loses_nothing() {
    let mut desk = Desk::new();
    desk.open(&lost("acct_1"), 20);
    desk.tell_all(20);
    desk.command(Ask::Resolve { alert_id: desk.id("lost") }, 30);
    desk.book.read.cursor = ChangeCursor::default();
    desk.book.read.until_s = 30;
    let told = desk.book.settle(30);
    let kinds: Vec<_> = told.iter().map(|w| (w.space, w.body.is_some())).collect();
    assert_eq!(kinds, [(PENDING, true), (ALERTS, true), (COMMANDS, false), (PROGRESS, true)]);
}

#[test]
fn figures_wait_for_their_time_and_are_judged_by_part() {
    let mut desk = Desk::new();
    let mut counters = Counters::default();
    counters.add(Bucket::Hour(0), &["payouts", "failed", "usd"], 3);
    counters.add(Bucket::Hour(0), &["payouts", "paid", "eur"], 3);
    desk.book.on_figures(facts(&counters, 100));
    desk.settle(100);
    desk.reopen();
    desk.book.on_figures(facts(&counters, 159));
    desk.settle(159);
    assert!(desk.alerts().is_empty());
    desk.book.on_figures(facts(&counters, 160));
    assert!(desk.tell_all(160).contains(&"slack 🟠 HIGH: Payouts fail (usd)".to_owned()));
    assert_eq!(desk.alerts(), ["failures currency usd firing"]);
    counters.add(Bucket::Hour(0), &["payouts", "paid", "usd"], 3);
    desk.book.on_figures(facts(&counters, 200));
    desk.tell_all(200);
    assert!(desk.alerts().is_empty(), "half is not above half");
}

#[test]
fn a_figure_of_which_nothing_is_known_any_more_does_not_resolve_by_time_alone() {
    let patient = RULES.replace("for = \"1m\"\nseverity", "keep_firing_for = \"10m\"\nseverity");
    let mut desk = Desk::new();
    desk.book.rules = crate::rule_text::parse(&[("test".into(), patient)]).expect("valid");
    let of = |status: &str| {
        let mut counters = Counters::default();
        counters.add(Bucket::Hour(0), &["payouts", status, "usd"], 3);
        counters
    };
    desk.book.on_figures(facts(&of("failed"), 100));
    desk.book.on_figures(facts(&of("paid"), 200));
    desk.book.on_figures(facts(&Counters::default(), 300));
    desk.book.on_time(800);
    assert_eq!(desk.alerts(), ["failures currency usd firing"]);
    desk.book.on_figures(facts(&of("paid"), 810));
    assert_eq!(desk.alerts(), ["failures currency usd resolved"]);
}

#[test]
fn what_was_left_aside_waits_for_its_own_rule_only() {
    let strict = RULES.replace("above = 0.5", "above = 0.5\nfresh_within = \"1s\"");
    let mut desk = Desk::new();
    desk.book.rules = crate::rule_text::parse(&[("test".into(), strict)]).expect("valid");
    let due = condition(ConditionKind::RequirementsDue, EntityKind::Account, "acct_1", "acct_1", -4000);
    let due = Condition { due_s: 0, ..due };
    let mut counters = Counters::default();
    counters.add(Bucket::Hour(0), &["events", "created"], 1);
    let hour = 3600;
    desk.book.on_figures(facts(&counters, 4 * hour));
    desk.open(&due, 4 * hour);
    assert!(!desk.book.needs_scan(4 * hour));
    counters.add(Bucket::Hour(3), &["events", "created"], 1);
    desk.book.on_figures(facts(&counters, 4 * hour + 60));
    assert!(desk.book.needs_scan(4 * hour + 60), "a stricter rule is late, which left nothing aside");
    desk.book.on_scan(std::slice::from_ref(&due), 4 * hour + 60);
    assert_eq!(desk.alerts(), ["due account acct_1 firing"]);
}

#[test]
fn a_figure_that_moved_too_soon_is_shown_when_it_may_be() {
    let mut desk = Desk::new();
    let mut counters = Counters::default();
    counters.add(Bucket::Hour(0), &["payouts", "failed", "usd"], 3);
    for now_s in [100, 160] {
        desk.book.on_figures(facts(&counters, now_s));
        desk.settle(now_s);
    }
    desk.tell_all(160);
    counters.add(Bucket::Hour(0), &["payouts", "paid", "usd"], 1);
    desk.book.on_figures(facts(&counters, 200));
    assert!(desk.tell_all(200).is_empty(), "not yet");
    desk.reopen();
    desk.book.on_figures(facts(&counters, 459));
    assert!(desk.tell_all(459).is_empty());
    desk.book.on_figures(facts(&counters, 460));
    assert_eq!(desk.tell_all(460), ["slack 🟠 HIGH: Payouts fail (usd)"]);
    desk.book.on_figures(facts(&counters, 900));
    assert!(desk.tell_all(900).is_empty(), "it has not moved");
}

fn facts(counters: &Counters, now_s: i64) -> Facts<'_> {
    Facts { counters, pipeline: &PIPELINE, now_s }
}

static PIPELINE: Pipeline =
    Pipeline { queue_depth: None, dead_letters: None, stalled_s: 0, broken_notifiers: Vec::new() };

#[test]
fn while_events_are_late_nobody_is_accused_of_not_having_acted() {
    let mut desk = Desk::new();
    let hour = 3600;
    let mut due = condition(ConditionKind::RequirementsDue, EntityKind::Account, "acct_1", "acct_1", 0);
    due.due_s = 2 * hour;
    let mut counters = Counters::default();
    counters.add(Bucket::Hour(0), &["events", "created"], 1);
    desk.book.on_figures(facts(&counters, 4 * hour));
    desk.open(&due, 4 * hour);
    desk.settle(4 * hour);
    assert!(desk.alerts().is_empty() && !desk.book.read.waiting.is_empty() && !desk.book.needs_scan(4 * hour));
    desk.reopen();
    counters.add(Bucket::Hour(4), &["events", "created"], 1);
    desk.book.on_figures(facts(&counters, 4 * hour + 60));
    assert!(desk.book.needs_scan(4 * hour + 60));
    desk.book.on_scan(std::slice::from_ref(&due), 4 * hour + 60);
    assert_eq!(desk.alerts(), ["due account acct_1 firing"]);
    desk.settle(4 * hour + 60);
    assert!(!desk.book.needs_scan(4 * hour + 60));
    // Deliveries wait and none is applied: what would show it may be among them.
    let stalled = Pipeline { stalled_s: 301, ..PIPELINE.clone() };
    desk.book.on_figures(Facts { counters: &counters, pipeline: &stalled, now_s: 4 * hour + 90 });
    due.key.subject.id = "acct_2".into();
    desk.open(&due, 4 * hour + 90);
    assert_eq!(desk.alerts(), ["due account acct_1 firing"]);
    desk.book.on_figures(facts(&counters, 4 * hour + 120));
    assert!(desk.book.needs_scan(4 * hour + 120));
}

#[test]
fn a_rule_that_is_gone_resolves_what_it_fired() {
    let mut desk = Desk::new();
    desk.open(&lost("acct_1"), 20);
    desk.tell_all(20);
    let stored = Documents {
        alerts: desk
            .store
            .iter()
            .filter(|((s, _), _)| *s == ALERTS)
            .map(|((_, k), b)| (k.clone(), b.clone()))
            .collect(),
        ..Documents::default()
    };
    let others = rules().into_iter().filter(|r| r.name != "lost" && r.inhibited_by.is_empty()).collect();
    desk.book = Book::open(others, policy(), &stored).expect("readable");
    assert!(desk.book.needs_scan(30));
    desk.book.on_scan(&[lost("acct_1")], 30);
    assert_eq!(desk.alerts(), ["lost account acct_1 resolved"]);
}

#[test]
fn a_very_large_write_that_a_crash_cut_off_anywhere_is_mended() {
    let storm = |desk: &mut Desk, now_s| {
        for n in 0..8 {
            desk.open(&payout(&format!("po_{n}"), &format!("acct_{n}"), 100), now_s);
        }
    };
    let mut desk = Desk::new();
    storm(&mut desk, 20);
    let writes = desk.book.settle(20);
    for cut in 0..=writes.len() {
        let mut desk = Desk::new();
        for write in &writes[..cut] {
            if let Some(body) = &write.body {
                desk.store.insert((write.space, write.key.clone()), body.clone());
            }
        }
        desk.reopen();
        // How far was read is written last: the changes come again.
        storm(&mut desk, 25);
        desk.book.on_time(25);
        let told = desk.tell_all(25);
        assert!(told.iter().all(|t| t.contains(" × A payout failed")) && !told.is_empty(), "cut at {cut}: {told:?}");
        let open: u32 = desk.book.alerts().filter_map(|a| a.group.as_ref()).map(|g| g.open).sum();
        assert_eq!(open, 8, "cut at {cut}");
        for n in 0..8 {
            desk.close(&payout(&format!("po_{n}"), "", 0), 100);
        }
        desk.book.on_time(200);
        desk.tell_all(200);
        assert!(desk.alerts().is_empty(), "cut at {cut}: {:?}", desk.alerts());
    }
}

#[test]
fn a_figure_rule_that_is_gone_or_divides_otherwise_ends_what_it_fired() {
    for (from, to) in [("name = \"failures\"", "name = \"other\""), ("by = \"currency\"\n", "")] {
        let mut desk = Desk::new();
        let mut counters = Counters::default();
        counters.add(Bucket::Hour(0), &["payouts", "failed", "usd"], 3);
        for now_s in [100, 160] {
            desk.book.on_figures(facts(&counters, now_s));
            desk.settle(now_s);
        }
        assert_eq!(desk.alerts(), ["failures currency usd firing"]);
        desk.reopen();
        assert!(!desk.book.needs_scan(160));
        let changed = crate::rule_text::parse(&[("test".into(), RULES.replace(from, to))]).expect("valid");
        desk.book.rules = changed;
        assert!(desk.book.needs_scan(170), "{to}");
        desk.book.on_scan(&[], 170);
        assert_eq!(desk.alerts(), ["failures currency usd resolved"], "{to}");
    }
}

/// Whatever comes in whatever order: the book takes the ways that the picture shows, and no others, and in
/// the end nothing is left.
#[test]
fn every_way_in_the_picture_is_taken_and_no_other() {
    let mut taken = BTreeSet::new();
    for seed in 0..40_u64 {
        let mut random = seed;
        // Knuth's constants; no need for more than variety.
        let mut next = |n: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % n
        };
        let mut desk = Desk::new();
        let mut now_s = 100;
        for _ in 0..120 {
            now_s += i64::try_from(next(90)).expect("small");
            let id = next(8);
            let (account, po) = (format!("acct_{}", id % 3), format!("po_{id}"));
            match next(10) {
                0 => desk.open(&lost(&account), now_s),
                1 => desk.close(&lost(&account), now_s),
                2 => desk.open(&payout(&po, &account, 5), now_s),
                3 => desk.close(&payout(&po, &account, 5), now_s),
                4 | 5 => {
                    let mut counters = Counters::default();
                    counters.add(
                        Bucket::hour_of(now_s),
                        &["payouts", if next(2) == 0 { "failed" } else { "paid" }, "usd"],
                        3,
                    );
                    desk.book.on_figures(Facts { counters: &counters, pipeline: &PIPELINE, now_s });
                }
                6 => {
                    if let Some(alert_id) = desk.book.alerts().map(|a| a.id.clone()).min() {
                        let ask = if next(2) == 0 { Ask::Acknowledge { alert_id } } else { Ask::Resolve { alert_id } };
                        desk.command(ask, now_s);
                    }
                }
                7 => {
                    desk.settle(now_s);
                    desk.reopen();
                }
                8 => desk.book.on_time(now_s),
                _ => drop(desk.tell_all(now_s)),
            }
        }
        desk.book.on_scan(&[], now_s);
        desk.book.on_figures(Facts { counters: &Counters::default(), pipeline: &PIPELINE, now_s });
        let rest: Vec<_> = desk.book.alerts().filter(|a| !a.is_over()).map(|a| a.id.clone()).collect();
        for alert_id in rest {
            desk.command(Ask::Resolve { alert_id }, now_s + 61);
        }
        desk.book.on_time(now_s + 61);
        desk.tell_all(now_s + 61);
        assert!(desk.alerts().is_empty(), "seed {seed}: {:?}", desk.alerts());
        let is_left = |stage, n| n == 0 || (stage == Stage::Pending && n > 0);
        assert!(desk.book.counts().all(|(_, _, stage, n)| is_left(stage, n)), "seed {seed}");
        taken.extend(desk.happened.iter().map(|h| (h.from, h.to)));
    }
    let drawn: BTreeSet<_> =
        TRANSITIONS.iter().map(|(a, b, _)| (*a, *b)).filter(|(a, _)| *a != Stage::Resolved).collect();
    assert_eq!(taken, drawn);
}
