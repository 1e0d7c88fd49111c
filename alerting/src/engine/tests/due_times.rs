//! Conditions whose due time moves: what fires ends, and fires again when it is due.

use std::borrow::Cow;
use std::time::Duration;

use revwatch_storage::ports::Changes as ChangePage;

use super::*;

const DUE_RULES: &str = r##"
[[rule]]
name = "trial"
kind = "condition"
condition = "trial_ending"
severity = "high"
route = "x"
title = "A trial ends"
actions = ["Look."]

[[rule]]
name = "late"
kind = "condition"
condition = "past_due"
after = "2m"
severity = "high"
route = "y"
title = "A customer is past due"
actions = ["Look."]

[[rule]]
name = "very_late"
kind = "condition"
condition = "past_due"
after = "5m"
keep_firing_for = "1m"
severity = "high"
route = "z"
title = "A customer is past due for long"
actions = ["Look."]
"##;

pub(super) fn due_rules() -> Vec<Rule> {
    crate::rule_text::parse(&[("test".into(), DUE_RULES.into())]).expect("valid")
}

/// The store of a deployment, as far as the engine reads it.
#[derive(Default)]
pub(super) struct Store {
    pub open: BTreeMap<ConditionKey, Condition>,
    pub changes: Vec<ConditionChange>,
    /// Changes before this one are no longer kept.
    pub kept_from: usize,
}

impl Store {
    pub fn change(&mut self, change: ConditionChange) {
        match &change {
            ConditionChange::Open(condition) => {
                self.open.insert(condition.key.clone(), condition.clone());
            }
            ConditionChange::Close(key) => drop(self.open.remove(key)),
        }
        self.changes.push(change);
    }

    fn open(&mut self, condition: &Condition) {
        self.change(ConditionChange::Open(condition.clone()));
    }

    fn read(&self, reads: &ReadSet, counters: &Counters) -> ReadResult<'static> {
        let due = |condition: &&Condition| {
            let mut windows = reads.due.iter();
            windows.any(|it| it.after_s < condition.due_s && condition.due_s <= it.until_s)
        };
        ReadResult {
            pipeline: reads.pipeline.then(|| PipelineRead {
                status: PipelineStatus::default(),
                stalled_s: None,
            }),
            deliveries: reads.deliveries.then_some(0),
            counters: reads.counters.as_ref().map(|_| CounterRead {
                counters: Cow::Owned(counters.clone()),
                took: Duration::ZERO,
            }),
            changes: reads.changes.as_ref().map(|read| self.page(&read.cursor)),
            conditions: reads
                .conditions
                .as_ref()
                .map(|_| self.open.values().cloned().collect()),
            due: self.open.values().filter(due).cloned().collect(),
            ..ReadResult::default()
        }
    }

    fn page(&self, cursor: &ChangeCursor) -> ChangePage {
        let read = cursor.get(&0).copied().unwrap_or(0);
        let read = usize::try_from(read).expect("few");
        ChangePage {
            changes: self.changes[read.max(self.kept_from)..].to_vec(),
            cursor: ChangeCursor::from([(0, self.changes.len() as u64)]),
            gap: read < self.kept_from,
            more: false,
        }
    }
}

impl Harness {
    fn of_due_rules() -> Self {
        Self::open_with(due_rules(), policy_with(&["slack"]), &Documents::default())
    }

    fn reopen_due_rules(&mut self) {
        self.reopen_with(due_rules(), policy_with(&["slack"]));
    }

    /// A complete tick, and the messages that follow from it.
    pub(super) fn tick_and_send(&mut self, store: &Store, now_s: i64) -> Vec<Message> {
        let time = TickTime {
            now_s,
            elapsed: Duration::from_secs(now_s.unsigned_abs()),
        };
        loop {
            let reads = self.engine.required_reads(time);
            let read = store.read(&reads, &Counters::default());
            let mut output = self.engine.tick(read, time);
            for write in output.decisions.writes {
                self.put(write);
            }
            self.transitions.append(&mut output.decisions.transitions);
            if output.unfinished.is_none() {
                break;
            }
        }
        let sent = self.send(now_s, |_| Outcome::Delivered {
            receipt: Some("r".into()),
        });
        sent.into_iter().map(|(_, message)| message).collect()
    }

    fn headlines(&mut self, store: &Store, now_s: i64) -> Vec<String> {
        let sent = self.tick_and_send(store, now_s).into_iter();
        sent.map(|message| message.headline).collect()
    }
}

fn trial(due_s: i64) -> Condition {
    let trial = condition(
        ConditionKind::TrialEnding,
        EntityKind::Subscription,
        "sub_1",
        "acct_1",
        100,
    );
    Condition { due_s, ..trial }
}

fn past_due(since_s: i64) -> Condition {
    condition(
        ConditionKind::PastDue,
        EntityKind::Subscription,
        "sub_1",
        "acct_1",
        since_s,
    )
}

#[test]
fn an_alert_whose_due_time_moves_ends_and_another_fires_at_the_new_time() {
    let (mut harness, mut store) = (Harness::of_due_rules(), Store::default());
    store.open(&trial(200));
    assert!(harness.headlines(&store, 199).is_empty());
    let sent = harness.headlines(&store, 200);
    assert_eq!(sent, ["🟠 HIGH: A trial ends"]);
    store.open(&trial(1000));
    let sent = harness.tick_and_send(&store, 300);
    let [ended] = sent.as_slice() else {
        panic!("{sent:?}")
    };
    assert_eq!(ended.headline, "✅ RESOLVED: A trial ends");
    assert!(ended.text.contains("Not due before: 1970-01-01 00:16 UTC"));
    let in_slack = ended.blocks.to_string();
    for shown in ["Not due before", "1970-01-01 00:16 UTC"] {
        assert!(in_slack.contains(shown), "{in_slack}");
    }
    assert_eq!(ended.details["due_at"], "1970-01-01T00:16:40Z");
    assert!(harness.headlines(&store, 999).is_empty());
    let sent = harness.tick_and_send(&store, 1000);
    let [again] = sent.as_slice() else {
        panic!("{sent:?}")
    };
    assert_eq!(again.headline, "🟠 HIGH: A trial ends");
    assert_ne!(again.alert_id, ended.alert_id);
    assert!(!again.text.contains("Not due before"), "{}", again.text);
}

#[test]
fn a_scan_and_an_evaluator_that_finds_a_stored_alert_see_that_the_due_time_moved() {
    for is_reopened in [false, true] {
        let (mut harness, mut store) = (Harness::of_due_rules(), Store::default());
        store.open(&trial(200));
        harness.tick_and_send(&store, 200);
        if is_reopened {
            // As the evaluators wrote it that did not follow the due time.
            let of_earlier = |name: &String| name.replace(" due ", " ");
            let rules = &mut harness.engine.position.rules;
            *rules = rules.iter().map(of_earlier).collect();
            store.open.insert(trial(1000).key, trial(1000));
            harness.settle(200);
            harness.reopen_due_rules();
        } else {
            store.open(&trial(1000));
            store.kept_from = store.changes.len();
        }
        let sent = harness.headlines(&store, 300);
        assert_eq!(sent, ["✅ RESOLVED: A trial ends"], "{is_reopened}");
        let sent = harness.headlines(&store, 1000);
        assert_eq!(sent, ["🟠 HIGH: A trial ends"], "{is_reopened}");
    }
}

#[test]
fn a_moved_due_time_respects_keep_firing_for_also_after_a_restart() {
    let (mut harness, mut store) = (Harness::of_due_rules(), Store::default());
    store.open(&past_due(0));
    let sent = harness.headlines(&store, 400);
    assert_eq!(sent.len(), 2, "after 2 and after 5 minutes: {sent:?}");
    store.open(&past_due(390));
    let sent = harness.headlines(&store, 420);
    let expected = [
        "✅ RESOLVED: A customer is past due",
        "🟠 HIGH: A customer is past due for long",
    ];
    assert_eq!(sent, expected, "the second says why it will end");
    harness.reopen_due_rules();
    assert!(harness.headlines(&store, 479).is_empty());
    let sent = harness.headlines(&store, 480);
    assert_eq!(sent, ["✅ RESOLVED: A customer is past due for long"]);
    let sent = harness.headlines(&store, 510);
    assert_eq!(sent, ["🟠 HIGH: A customer is past due"]);
    // It is due again before a minute has passed: it never ended.
    harness.tick_and_send(&store, 690);
    store.open(&past_due(400));
    harness.tick_and_send(&store, 695);
    assert!(harness.headlines(&store, 699).is_empty());
    let sent = harness.headlines(&store, 700);
    assert_eq!(sent, ["🟠 HIGH: A customer is past due for long"]);
}

#[test]
fn a_firing_alert_shows_since_when_the_condition_holds_as_is_known_now() {
    let (mut harness, mut store) = (Harness::of_due_rules(), Store::default());
    store.open(&past_due(60));
    harness.tick_and_send(&store, 240);
    store.open(&past_due(0));
    let sent = harness.tick_and_send(&store, 241);
    let [message] = sent.as_slice() else {
        panic!("{sent:?}")
    };
    assert!(message.text.contains("Since: 1970-01-01 00:00 UTC"));
    assert_eq!(message.state, AlertState::Firing);
}

#[test]
fn what_a_person_resolved_fires_at_the_new_due_time() {
    let (mut harness, mut store) = (Harness::of_due_rules(), Store::default());
    store.open(&trial(200));
    harness.tick_and_send(&store, 200);
    let alert_id = harness.id("trial");
    harness.command(CommandKind::Resolve { alert_id }, 210);
    harness.tick_and_send(&store, 210);
    store.open(&trial(1000));
    assert!(harness.headlines(&store, 300).is_empty());
    harness.reopen_due_rules();
    let sent = harness.headlines(&store, 1000);
    assert_eq!(sent, ["🟠 HIGH: A trial ends"]);
}

#[test]
fn a_due_time_that_moved_on_before_it_was_read_fires_nothing() {
    let (mut harness, mut store) = (Harness::of_due_rules(), Store::default());
    harness.tick_and_send(&store, 100);
    store.open(&trial(200));
    store.open(&trial(1000));
    assert!(harness.headlines(&store, 300).is_empty());
    store.open(&trial(250));
    let sent = harness.headlines(&store, 301);
    assert_eq!(sent, ["🟠 HIGH: A trial ends"], "it moved back");
}
