//! The engine on a pretended store, and tests that concern all of it.

mod again;
mod clocks;
mod commands;
mod crashes;
mod due_histories;
mod due_times;
mod failed_attempts;
mod groups;
mod metrics;
mod notifications;
mod old_names;
mod other_ways;
mod pre_existing;
mod returning;
mod scopes;
mod ticks;

use std::collections::{BTreeMap, BTreeSet};

use revwatch_core::condition::{Condition, ConditionKey, ConditionKind};
use revwatch_core::counters::{Bucket, Counters};
use revwatch_core::entity::{EntityKey, EntityKind};
use revwatch_core::money::Money;
use revwatch_core::realm::Realm;
use revwatch_runtime::config::Config;
use revwatch_storage::ports::{COMMANDS, ChangeCursor, ConditionChange, DueWindow};

use super::*;
use crate::alert::{AlertState, Command, CommandKind, Matcher, MessageKey, NoticeKind, Silence};
use crate::message::Message;
use crate::metric_value::{MetricInputs, PipelineStatus};
use crate::outcome::Outcome;
use crate::policy::Capabilities;
use crate::stage::TRANSITIONS;

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

/// An engine and its stored documents: every write goes there, and it can be reopened from there at any time.
struct Harness {
    engine: Engine,
    store: BTreeMap<(&'static str, String), String>,
    transitions: Vec<TransitionEvent>,
}

fn policy() -> Policy {
    policy_with(&["slack", "email"])
}

/// Slack's messages can be changed, the others' cannot.
fn policy_with(notifiers: &[&str]) -> Policy {
    let config = Config::load(None, &|_| None).expect("the defaults");
    let mut alerting = config.alerting;
    alerting.group_above = 3;
    let capabilities = |name: &str| Capabilities {
        edits: name == "slack",
        resolves: true,
    };
    let notifiers = notifiers
        .iter()
        .map(|name| ((*name).to_owned(), capabilities(name)));
    // All that these tests tell happened since.
    alerting.began = "1970-01-01T00:00:00Z".into();
    Policy::new(&alerting, notifiers.collect()).expect("valid")
}

/// Ana's silence of the rule `lost`.
fn silence_of_lost(from_s: i64, until_s: i64) -> Silence {
    Silence {
        id: "si_1".into(),
        matches: Matcher {
            rule: Some("lost".into()),
            ..Matcher::default()
        },
        from_s,
        until_s,
        ahead_until_s: None,
        reason: "known".into(),
        by: "ana".into(),
    }
}

pub(super) fn rules() -> Vec<Rule> {
    crate::rule_text::parse(&[("test".into(), RULES.into())]).expect("valid")
}

impl Harness {
    fn new() -> Self {
        let mut harness = Self::open_engine(&Documents::default());
        harness.engine.begin(Some(0));
        harness.engine.on_scan(&[], 0);
        harness.settle(0);
        harness
    }

    fn open_engine(stored: &Documents) -> Self {
        Self::open_with(rules(), policy(), stored)
    }

    fn open_with(rules: Vec<Rule>, policy: Policy, stored: &Documents) -> Self {
        Self {
            engine: Engine::open(rules, policy, stored).expect("readable"),
            store: BTreeMap::new(),
            transitions: Vec::new(),
        }
    }

    fn settle(&mut self, now_s: i64) {
        let Decisions {
            writes,
            transitions,
        } = self.engine.take_writes(now_s);
        for write in writes {
            self.put(write);
        }
        self.transitions.extend(transitions);
    }

    fn put(&mut self, write: DocumentWrite) {
        match write.body {
            Some(body) => self.store.insert((write.space, write.key), body),
            None => self.store.remove(&(write.space, write.key)),
        };
    }

    fn reopen(&mut self) {
        self.reopen_with(rules(), policy());
    }

    fn reopen_with(&mut self, rules: Vec<Rule>, policy: Policy) {
        let space = |wanted| {
            let of_space = self.store.iter().filter(|((space, _), _)| *space == wanted);
            of_space
                .map(|((_, key), body)| (key.clone(), body.clone()))
                .collect()
        };
        let stored = Documents {
            alerts: space(ALERTS),
            pending: space(PENDING),
            silences: space(SILENCES),
            began: space(BEGAN),
            position: space(POSITION),
        };
        self.engine = Engine::open(rules, policy, &stored).expect("readable");
    }

    fn open(&mut self, condition: &Condition, now_s: i64) {
        self.engine.on_open(condition, now_s);
    }

    fn close(&mut self, condition: &Condition, now_s: i64) {
        self.engine
            .on_changes(&[ConditionChange::Close(condition.key.clone())], now_s);
    }

    fn command(&mut self, kind: CommandKind, now_s: i64) {
        let command = Command {
            kind,
            by: "ana".into(),
            via: "cli".into(),
            at_s: now_s,
        };
        self.engine
            .on_command("c1", &json(&command), now_s)
            .expect("readable");
    }

    /// Delivers every due message successfully and returns their keys and headlines.
    fn deliver_all(&mut self, now_s: i64) -> Vec<String> {
        self.deliver(now_s, |_| Outcome::Delivered {
            receipt: Some("r".into()),
        })
    }

    fn deliver(&mut self, now_s: i64, answer: impl Fn(&MessageKey) -> Outcome) -> Vec<String> {
        let sent = self.send(now_s, answer).into_iter();
        sent.map(|(key, message)| format!("{key} {}", message.headline))
            .collect()
    }

    /// Attempts every due message and returns them.
    fn send(
        &mut self,
        now_s: i64,
        answer: impl Fn(&MessageKey) -> Outcome,
    ) -> Vec<(MessageKey, Message)> {
        let mut sent = Vec::new();
        // Bounded: delivery must come to an end.
        for _ in 0..1000 {
            self.settle(now_s);
            let lanes = self
                .engine
                .lanes()
                .filter(|(_, at_ms)| *at_ms <= now_s * 1000);
            let Some(lane) = lanes.map(|(lane, _)| lane.clone()).next() else {
                return sent;
            };
            let job = self
                .engine
                .begin_attempt(&lane, now_s * 1000)
                .expect("a message to deliver");
            self.settle(now_s);
            let Attempt {
                alert_id,
                message_key: key,
                revision,
                message,
                ..
            } = job;
            let outcome = answer(&key);
            sent.push((key.clone(), message));
            self.engine.on_attempt_result(
                &AttemptResult {
                    alert_id,
                    message_key: key,
                    revision,
                    outcome,
                    possible_duplicate: false,
                    is_partly_delivered: false,
                },
                now_s * 1000,
            );
        }
        panic!("endless: {sent:?}");
    }

    /// Subject and state of every alert that is not in the history.
    fn alerts(&self) -> Vec<String> {
        let mut found: Vec<_> = self
            .engine
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
        let of_rule = self.engine.alerts().filter(|a| a.rule == rule);
        of_rule
            .max_by_key(|a| a.group.is_some())
            .map(|a| a.id.clone())
            .expect("an alert")
    }
}

fn condition(
    kind: ConditionKind,
    entity: EntityKind,
    id: &str,
    account: &str,
    since_s: i64,
) -> Condition {
    Condition {
        key: ConditionKey {
            kind,
            subject: EntityKey::new(entity, id),
        },
        since_s,
        began_before: None,
        due_s: since_s,
        // Subscriptions are the platform's.
        account: (entity != EntityKind::Subscription).then(|| account.into()),
        realm: Realm::MAIN,
        customer: None,
        money: None,
        detail: None,
        event_id: "evt_1".into(),
        times: None,
        answer_by_s: None,
        trial_end_s: None,
        further_money: Vec::new(),
        uncertain: None,
    }
}

fn lost(id: &str) -> Condition {
    condition(ConditionKind::ChargesLost, EntityKind::Account, id, id, 0)
}

fn payout(id: &str, account: &str, minor: i64) -> Condition {
    let money = Some(Money::new(minor, "usd"));
    Condition {
        money,
        ..condition(
            ConditionKind::PayoutFailed,
            EntityKind::Payout,
            id,
            account,
            10,
        )
    }
}

fn facts(counters: &Counters, now_s: i64) -> MetricInputs<'_> {
    MetricInputs {
        begun_s: None,
        counters,
        pipeline: &PIPELINE,
        now_s,
    }
}

static PIPELINE: PipelineStatus = PipelineStatus {
    queue_depth: None,
    dead_letters: None,
    parked: None,
    stalled_s: 0,
    broken_notifiers: BTreeMap::new(),
};

#[test]
fn a_removed_rule_resolves_its_alerts() {
    let mut harness = Harness::new();
    harness.open(&lost("acct_1"), 20);
    harness.deliver_all(20);
    let stored = Documents {
        alerts: harness
            .store
            .iter()
            .filter(|((s, _), _)| *s == ALERTS)
            .map(|((_, k), b)| (k.clone(), b.clone()))
            .collect(),
        ..Documents::default()
    };
    let others = rules()
        .into_iter()
        .filter(|r| r.name != "lost" && r.inhibited_by.is_empty())
        .collect();
    harness.engine = Engine::open(others, policy(), &stored).expect("readable");
    assert!(harness.engine.scan_reason(30).is_some());
    harness.engine.on_scan(&[lost("acct_1")], 30);
    assert_eq!(harness.alerts(), ["lost account acct_1 resolved"]);
}

#[test]
fn due_windows_are_one_per_second_and_delay() {
    let mut harness = Harness::new();
    harness.engine.position.until_s = 10_000;
    assert_eq!(
        harness.engine.due_windows(10_000),
        [],
        "within the same second"
    );
    assert_eq!(
        harness.engine.due_windows(9_999),
        [],
        "a clock that was set back"
    );
    let window = |after_s, until_s| DueWindow { after_s, until_s };
    // "lost" and "payout" at once, "due" an hour later.
    assert_eq!(
        harness.engine.due_windows(10_003),
        [window(10_000, 10_003), window(6_400, 6_403)]
    );
}

/// In whatever order inputs come, the engine takes the listed transitions and no others, and in the end nothing is
/// left.
#[test]
fn every_listed_transition_is_taken_and_no_other() {
    let mut taken = BTreeSet::new();
    for seed in 0..40_u64 {
        let mut random = seed;
        // Knuth's constants; no need for more than variety.
        let mut next = |n: u64| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % n
        };
        let mut harness = Harness::new();
        let mut now_s = 100;
        for _ in 0..120 {
            now_s += i64::try_from(next(90)).expect("small");
            let id = next(8);
            let (account, po) = (format!("acct_{}", id % 3), format!("po_{id}"));
            match next(10) {
                0 => harness.open(&lost(&account), now_s),
                1 => harness.close(&lost(&account), now_s),
                2 => harness.open(&payout(&po, &account, 5), now_s),
                3 => harness.close(&payout(&po, &account, 5), now_s),
                4 | 5 => {
                    let mut counters = Counters::default();
                    let outcome = if next(2) == 0 { "failed" } else { "paid" };
                    for bucket in [Bucket::minute_of(now_s), Bucket::hour_of(now_s)] {
                        let parts = ["main/connected:payouts", outcome, "usd"];
                        counters.add(bucket, &parts, 3);
                    }
                    harness.engine.on_counters(MetricInputs {
                        begun_s: None,
                        counters: &counters,
                        pipeline: &PIPELINE,
                        now_s,
                    });
                }
                6 => {
                    if let Some(alert_id) = harness.engine.alerts().map(|a| a.id.clone()).min() {
                        let kind = if next(2) == 0 {
                            CommandKind::Acknowledge { alert_id }
                        } else {
                            CommandKind::Resolve { alert_id }
                        };
                        harness.command(kind, now_s);
                    }
                }
                7 => {
                    harness.settle(now_s);
                    harness.reopen();
                }
                8 => harness.engine.on_time(now_s),
                _ => drop(harness.deliver_all(now_s)),
            }
        }
        harness.engine.on_scan(&[], now_s);
        harness.engine.on_counters(MetricInputs {
            begun_s: None,
            counters: &Counters::default(),
            pipeline: &PIPELINE,
            now_s,
        });
        let rest: Vec<_> = harness
            .engine
            .alerts()
            .filter(|a| !a.is_resolved())
            .map(|a| a.id.clone())
            .collect();
        for alert_id in rest {
            harness.command(CommandKind::Resolve { alert_id }, now_s + 61);
        }
        harness.engine.on_time(now_s + 61);
        harness.deliver_all(now_s + 61);
        assert!(
            harness.alerts().is_empty(),
            "seed {seed}: {:?}",
            harness.alerts()
        );
        let is_left = |stage, n| n == 0 || (stage == Stage::Pending && n > 0);
        assert!(
            harness
                .engine
                .counts()
                .all(|(_, _, stage, n)| is_left(stage, n)),
            "seed {seed}"
        );
        taken.extend(harness.transitions.iter().map(|h| (h.from, h.to)));
    }
    let drawn: BTreeSet<_> = TRANSITIONS
        .iter()
        .map(|(a, b, _)| (*a, *b))
        .filter(|(a, _)| *a != Stage::Resolved)
        .collect();
    assert_eq!(taken, drawn);
}
