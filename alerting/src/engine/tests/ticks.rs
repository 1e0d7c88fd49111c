//! What a tick reads, in how many rounds, and what it writes between them.

use std::borrow::Cow;
use std::time::Duration;

use revwatch_storage::ports::Changes as ChangePage;

use super::super::tick::{MAX_UNREAD, SCAN_PART};
use super::*;

/// What a tick finds in the store.
#[derive(Default)]
struct Found {
    /// Deliveries that wait in the only partition; `None`: that is not read.
    waiting: Option<u64>,
    /// Deliveries received up to this Unix millisecond are applied.
    applied_until_ms: Option<i64>,
    deliveries: i64,
    /// Each is read once; after the last there are no more changes.
    pages: Vec<ChangePage>,
    open: Vec<Condition>,
    due: Vec<Condition>,
    commands: Vec<(String, String)>,
    counters: Counters,
}

/// The rounds of a tick: what each read, and why there was another one.
type Rounds = Vec<(ReadSet, Option<Unfinished>)>;

const HOUR_S: i64 = 3600;

impl Found {
    fn backlog(&self) -> Option<BacklogRead> {
        let partition = |waiting| PartitionBacklog {
            waiting,
            applied_until_ms: self.applied_until_ms,
        };
        let waiting = self.waiting?;
        Some(BacklogRead::Partitions(vec![partition(waiting)]))
    }

    fn read(&mut self, reads: &ReadSet) -> ReadResult<'_> {
        let (waiting, backlog) = (self.waiting, self.backlog());
        let page = |read: &ChangeRead| match self.pages.is_empty() {
            false => self.pages.remove(0),
            true => page(vec![], read.cursor.clone()),
        };
        ReadResult {
            pipeline: reads.pipeline.then(|| PipelineRead {
                status: PipelineStatus {
                    queue_depth: waiting.map(|waiting| i64::try_from(waiting).expect("few")),
                    ..PipelineStatus::default()
                },
                stalled_s: None,
            }),
            backlog: backlog.filter(|_| reads.backlog),
            applied: reads.applied.then(|| vec![self.applied_until_ms]),
            deliveries: reads.deliveries.then_some(self.deliveries),
            changes: reads.changes.as_ref().map(page),
            counters: reads.counters.as_ref().map(|_| CounterRead {
                counters: Cow::Borrowed(&self.counters),
                took: Duration::ZERO,
            }),
            conditions: reads.conditions.as_ref().map(|_| self.open.clone()),
            due: match reads.due.is_empty() {
                true => vec![],
                false => std::mem::take(&mut self.due),
            },
            commands: match reads.commands {
                true => std::mem::take(&mut self.commands),
                false => vec![],
            },
            first_delivery: None,
        }
    }
}

impl Harness {
    fn round(&mut self, found: &mut Found, now_s: i64) -> (ReadSet, TickOutput) {
        let reads = self.engine.required_reads(time(now_s));
        let mut output = self.engine.tick(found.read(&reads), time(now_s));
        for write in &output.decisions.writes {
            self.put(write.clone());
        }
        self.transitions.append(&mut output.decisions.transitions);
        (reads, output)
    }

    fn tick(&mut self, found: &mut Found, now_s: i64) -> Rounds {
        let mut rounds = Rounds::new();
        loop {
            let (reads, output) = self.round(found, now_s);
            let has_ended = output.unfinished.is_none();
            rounds.push((reads, output.unfinished));
            if has_ended {
                return rounds;
            }
        }
    }
}

fn time(now_s: i64) -> TickTime {
    TickTime {
        now_s,
        elapsed: Duration::from_secs(now_s.unsigned_abs()),
    }
}

/// The last page of some changes.
fn page(changes: Vec<ConditionChange>, cursor: ChangeCursor) -> ChangePage {
    ChangePage {
        changes,
        cursor,
        ..ChangePage::default()
    }
}

fn read_up_to(number: u64) -> ChangeCursor {
    ChangeCursor::from([(0, number)])
}

fn probe() -> ReadSet {
    ReadSet {
        deliveries: true,
        ..ReadSet::default()
    }
}

fn changes_after(cursor: ChangeCursor) -> ReadSet {
    ReadSet {
        changes: Some(ChangeRead {
            cursor,
            limit: 1000,
        }),
        ..ReadSet::default()
    }
}

fn scan(reason: ScanReason) -> ReadSet {
    ReadSet {
        conditions: Some(reason),
        ..ReadSet::default()
    }
}

fn commands() -> ReadSet {
    ReadSet {
        commands: true,
        ..ReadSet::default()
    }
}

fn reads(rounds: &Rounds) -> Vec<ReadSet> {
    rounds.iter().map(|(reads, _)| reads.clone()).collect()
}

fn accounts(count: usize) -> Vec<Condition> {
    (0..count).map(|n| lost(&format!("acct_{n}"))).collect()
}

/// An engine that has ticked at second 100 and found nothing.
fn ticked() -> (Harness, Found) {
    let (mut harness, mut found) = (Harness::new(), Found::default());
    harness.tick(&mut found, 100);
    (harness, found)
}

#[test]
fn the_first_tick_of_all_reads_everything() {
    let mut harness = Harness::open_engine(&Documents::default());
    let mut found = Found {
        open: vec![lost("acct_1")],
        ..Found::default()
    };
    let rounds = harness.tick(&mut found, 500 * HOUR_S);
    let first = ReadSet {
        pipeline: true,
        backlog: true,
        ..probe()
    };
    let with_counters = ReadSet {
        counters: Some(HistoryRead {
            buckets: harness.engine.buckets_needed(500 * HOUR_S),
            reason: CounterReadReason::NeverRead,
        }),
        ..changes_after(ChangeCursor::new())
    };
    let expected = [
        first,
        with_counters,
        scan(ScanReason::RulesChanged),
        commands(),
    ];
    let expected = expected.map(|reads| ReadSet {
        first_delivery: true,
        ..reads
    });
    assert_eq!(reads(&rounds), expected, "nothing falls due after a scan");
    assert_eq!(harness.alerts(), ["lost account acct_1 firing"]);
}

#[test]
fn an_idle_tick_reads_the_probe_one_page_of_changes_and_the_commands() {
    let (mut harness, mut found) = ticked();
    let rounds = harness.tick(&mut found, 100);
    let expected = [
        (probe(), Some(Unfinished::ChangesUnread)),
        (
            changes_after(ChangeCursor::new()),
            Some(Unfinished::CommandsUnread),
        ),
        (commands(), None),
    ];
    assert_eq!(rounds, expected);
}

#[test]
fn a_tick_in_the_next_second_reads_what_fell_due_in_it() {
    let (mut harness, mut found) = ticked();
    found.due.push(lost("acct_1"));
    let rounds = harness.tick(&mut found, 101);
    let window = |after_s, until_s| DueWindow { after_s, until_s };
    let expected = [window(100, 101), window(100 - HOUR_S, 101 - HOUR_S)];
    assert_eq!(rounds[2].0.due, expected);
    assert_eq!(harness.alerts(), ["lost account acct_1 firing"]);
}

#[test]
fn the_pipeline_is_read_again_after_its_interval() {
    let (mut harness, mut found) = ticked();
    let reads_at =
        |harness: &mut Harness, found: &mut Found, now_s| harness.tick(found, now_s)[0].0.pipeline;
    assert!(!reads_at(&mut harness, &mut found, 110));
    assert!(reads_at(&mut harness, &mut found, 111));
    assert!(!reads_at(&mut harness, &mut found, 112));
}

#[test]
fn counters_are_read_when_deliveries_were_processed_and_not_a_second_time() {
    let (mut harness, mut found) = ticked();
    found.deliveries += 1;
    found.counters.add(
        Bucket::Minute(0),
        &["main/connected:payouts", "failed", "usd"],
        3,
    );
    let reason = |rounds: &Rounds| rounds[1].0.counters.as_ref().map(|read| read.reason);
    let rounds = harness.tick(&mut found, 101);
    assert_eq!(reason(&rounds), Some(CounterReadReason::NewDeliveries));
    let key = WatchKey {
        rule: "failures".into(),
        subject: Subject::Segment {
            by: "currency".into(),
            value: "usd".into(),
        },
    };
    assert_eq!(harness.engine.stage_of(&key), Stage::Pending);
    assert_eq!(reason(&harness.tick(&mut found, 102)), None);
    let rounds = harness.tick(&mut found, 161);
    assert_eq!(reason(&rounds), Some(CounterReadReason::IntervalElapsed));
    assert_eq!(harness.engine.stage_of(&key), Stage::Firing);
}

#[test]
fn changes_are_read_to_the_end_before_anything_is_decided() {
    let (mut harness, mut found) = ticked();
    let opened = vec![ConditionChange::Open(lost("acct_1"))];
    let closed = vec![ConditionChange::Close(lost("acct_1").key)];
    let first = ChangePage {
        more: true,
        ..page(opened, read_up_to(1))
    };
    found.pages = vec![first, page(closed, read_up_to(2))];
    let rounds = harness.tick(&mut found, 100);
    let expected = [
        probe(),
        changes_after(ChangeCursor::new()),
        changes_after(read_up_to(1)),
        commands(),
    ];
    assert_eq!(reads(&rounds), expected);
    assert!(harness.alerts().is_empty() && harness.transitions.is_empty());
    let next = harness.tick(&mut found, 100);
    assert_eq!(next[1].0, changes_after(read_up_to(2)));
}

#[test]
fn lost_changes_are_replaced_by_a_scan_after_the_newest_was_read() {
    let (mut harness, mut found) = ticked();
    let gap = ChangePage {
        gap: true,
        ..page(vec![], read_up_to(9))
    };
    let since = ConditionChange::Open(lost("acct_2"));
    found.pages = vec![gap, page(vec![since], read_up_to(10))];
    found.open = accounts(1);
    let rounds = harness.tick(&mut found, 100);
    let expected = [
        probe(),
        changes_after(ChangeCursor::new()),
        changes_after(read_up_to(9)),
        scan(ScanReason::ChangesLost),
        commands(),
    ];
    assert_eq!(reads(&rounds), expected);
    assert_eq!(harness.alerts(), ["lost account acct_0 firing"]);
}

#[test]
fn too_many_changes_are_replaced_by_a_scan() {
    let (mut harness, mut found) = ticked();
    let closed = ConditionChange::Close(lost("acct_1").key);
    found.pages = vec![page(vec![closed; MAX_UNREAD + 1], read_up_to(9))];
    let rounds = harness.tick(&mut found, 100);
    assert_eq!(rounds[2].0, scan(ScanReason::TooManyChanges));
}

#[test]
fn a_scan_is_written_in_parts_and_an_evaluator_that_dies_within_it_starts_it_again() {
    let (mut harness, mut found) = ticked();
    let gap = ChangePage {
        gap: true,
        ..page(vec![], read_up_to(9))
    };
    found.pages = vec![gap];
    found.open = accounts(SCAN_PART + 1);
    for _ in 0..3 {
        harness
            .round(&mut found, 100)
            .1
            .unfinished
            .expect("another round");
    }
    let (_, part) = harness.round(&mut found, 100);
    assert_eq!(part.unfinished, Some(Unfinished::ScanUnderWay(1)));
    let written = |harness: &Harness| {
        harness
            .store
            .keys()
            .filter(|(space, _)| *space == ALERTS)
            .count()
    };
    assert_eq!(written(&harness), SCAN_PART + 1, "with the group");
    let (before, in_flight) = (
        harness.store.clone(),
        harness.engine.required_reads(time(100)),
    );
    assert_eq!(in_flight, ReadSet::default(), "the rest is in memory");
    // It goes on …
    let rounds = harness.tick(&mut found, 100);
    assert_eq!(reads(&rounds), [ReadSet::default(), commands()]);
    assert_eq!(written(&harness), SCAN_PART + 2);
    assert_eq!(harness.engine.scan_reason(100), None);
    // … or another evaluator begins where it stopped.
    harness.store = before;
    harness.reopen();
    assert_eq!(
        harness.engine.scan_reason(100),
        Some(ScanReason::RulesChanged)
    );
    harness.tick(&mut found, 100);
    assert_eq!(written(&harness), SCAN_PART + 2);
}

#[test]
fn while_the_workers_are_behind_only_rules_about_the_pipeline_are_evaluated() {
    let rules = format!(
        "{RULES}\n[[rule]]\nname = \"queue\"\nkind = \"gauge\"\nmetric = \"queue_depth\"\nabove = 3\n\
         severity = \"high\"\nroute = \"x\"\ntitle = \"Deliveries wait\"\nactions = [\"Look.\"]\n"
    );
    let rules = crate::rule_text::parse(&[("test".into(), rules)]).expect("valid");
    let mut harness = Harness::open_engine(&Documents::default());
    harness.reopen_with(rules, policy());
    let mut found = Found {
        waiting: Some(4),
        open: vec![lost("acct_1")],
        ..Found::default()
    };
    let rounds = harness.tick(&mut found, 100);
    assert_eq!(harness.engine.waiting_for(time(100)), Some(4));
    assert!(reads(&rounds).iter().all(|reads| reads.changes.is_none()
        && reads.conditions.is_none()
        && reads.due.is_empty()));
    assert_eq!(harness.alerts(), ["queue  firing"]);
    found.waiting = Some(0);
    harness.tick(&mut found, 101);
    assert_eq!(harness.alerts(), ["queue  firing"], "it must be quiet");
    let rounds = harness.tick(&mut found, 103);
    let counters = rounds.iter().find_map(|(reads, _)| reads.counters.clone());
    let reason = counters.map(|read| read.reason);
    assert_eq!(reason, Some(CounterReadReason::NeverRead), "all rules");
    let expected = ["lost account acct_1 firing", "queue  firing"];
    assert_eq!(harness.alerts(), expected, "now everything is evaluated");
}

#[test]
fn a_reopened_engine_does_not_wait_again_for_a_partition_that_stands_still() {
    let mut harness = Harness::open_engine(&Documents::default());
    let mut found = Found {
        waiting: Some(4),
        open: vec![lost("acct_1")],
        ..Found::default()
    };
    harness.tick(&mut found, 100);
    assert!(harness.alerts().is_empty());
    harness.tick(&mut found, 161);
    assert_eq!(harness.alerts(), ["lost account acct_1 firing"]);
    harness.reopen();
    let failed = ConditionChange::Open(lost("acct_2"));
    found.pages = vec![page(vec![failed], read_up_to(1))];
    harness.tick(&mut found, 162);
    let expected = ["lost account acct_1 firing", "lost account acct_2 firing"];
    assert_eq!(
        harness.alerts(),
        expected,
        "it is as little waited for as before"
    );
}

#[test]
fn what_the_workers_applied_late_is_evaluated_when_they_have_caught_up() {
    let (mut harness, mut found) = ticked();
    found.waiting = Some(0);
    found.applied_until_ms = Some(99_000);
    harness.tick(&mut found, 111);
    harness.tick(&mut found, 113);
    let failed = |cursor| page(vec![ConditionChange::Open(lost("acct_1"))], cursor);
    found.pages = vec![failed(read_up_to(1))];
    found.applied_until_ms = Some(100_000);
    let rounds = harness.tick(&mut found, 120);
    let why = |(_, why): &(ReadSet, Option<Unfinished>)| *why == Some(Unfinished::AppliedUnread);
    assert!(rounds.iter().any(why), "what is applied is read last");
    assert!(
        harness.alerts().is_empty(),
        "it was received 20 seconds ago"
    );
    let paid = page(
        vec![ConditionChange::Close(lost("acct_1").key)],
        read_up_to(2),
    );
    found.pages = vec![failed(read_up_to(1)), paid];
    found.pages[0].more = true;
    let rounds = harness.tick(&mut found, 123);
    let changes = rounds.iter().find_map(|(reads, _)| reads.changes.clone());
    let cursor = changes.map(|read| read.cursor);
    assert_eq!(cursor, Some(ChangeCursor::new()), "they are read again");
    assert!(harness.alerts().is_empty(), "it has ended");
    found.pages = vec![failed(read_up_to(3))];
    found.applied_until_ms = Some(139_000);
    harness.tick(&mut found, 140);
    assert_eq!(harness.alerts(), ["lost account acct_1 firing"]);
}

#[test]
fn what_has_been_clear_for_long_enough_resolves_when_the_workers_have_caught_up() {
    let (mut harness, mut found) = ticked();
    let failed = payout("po_1", "acct_1", 5);
    harness.open(&failed, 100);
    harness.close(&failed, 101);
    found.waiting = Some(3);
    harness.tick(&mut found, 170);
    assert_eq!(harness.alerts(), ["payout payout po_1 firing"]);
    found.waiting = Some(0);
    harness.tick(&mut found, 173);
    assert_eq!(harness.alerts(), ["payout payout po_1 resolved"]);
}

#[test]
fn conditions_that_were_not_read_do_not_count_as_closed() {
    let (mut harness, mut found) = ticked();
    harness.open(&lost("acct_1"), 100);
    harness.engine.on_recovery("run_2");
    harness
        .round(&mut found, 101)
        .1
        .unfinished
        .expect("another round");
    harness
        .round(&mut found, 101)
        .1
        .unfinished
        .expect("another round");
    let output = harness.engine.tick(ReadResult::default(), time(101));
    assert_eq!(output.unfinished, Some(Unfinished::ScanDue));
    assert_eq!(harness.alerts(), ["lost account acct_1 firing"]);
    found.open = vec![lost("acct_1")];
    harness.tick(&mut found, 101);
    assert_eq!(harness.alerts(), ["lost account acct_1 firing"]);
}

#[test]
fn a_command_is_carried_out_or_discarded_with_its_place() {
    let (mut harness, mut found) = ticked();
    harness.open(&lost("acct_1"), 100);
    let command = Command {
        kind: CommandKind::Acknowledge {
            alert_id: harness.id("lost"),
        },
        by: "ana".into(),
        via: "cli".into(),
        at_s: 100,
    };
    found.commands = vec![
        ("c1".into(), json(&command)),
        ("c2".into(), "{\"ask\": 4242}".into()),
    ];
    for _ in 0..2 {
        harness
            .round(&mut found, 100)
            .1
            .unfinished
            .expect("another round");
    }
    let (_, output) = harness.round(&mut found, 100);
    assert_eq!(output.commands, [("c1".to_owned(), command)]);
    let [unreadable] = &output.unreadable[..] else {
        panic!("{:?}", output.unreadable)
    };
    assert_eq!(unreadable.key, "c2");
    assert!(unreadable.place.starts_with("line 1, column ") && !unreadable.place.contains("4242"));
    let deleted = output
        .decisions
        .writes
        .iter()
        .filter(|write| write.space == COMMANDS);
    assert_eq!(deleted.filter(|write| write.body.is_none()).count(), 2);
    assert_eq!(harness.alerts(), ["lost account acct_1 acknowledged"]);
}

#[test]
fn the_history_is_cut_once_a_day() {
    let (mut harness, mut found) = ticked();
    let mut cuts_at = |now_s| {
        let mut output = TickOutput::default();
        for _ in 0..3 {
            output = harness.round(&mut found, now_s).1;
        }
        assert_eq!(output.unfinished, None);
        output.cut_history
    };
    let first_s = 86_401;
    assert!(cuts_at(first_s) && !cuts_at(first_s + 86_400));
    assert!(cuts_at(first_s + 86_401));
}
