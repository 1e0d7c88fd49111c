//! What the agenda does next, in which order and when.

use revwatch_core::condition::ConditionKind;
use revwatch_core::entity::{EntityKey, EntityKind};

use revwatch_core::realm::Realm;

use super::*;

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// One that begins after all conditions of these tests.
fn agenda() -> Agenda {
    Agenda::beginning_at(1000)
}

/// The next step, if the store lacks each object and Stripe may be asked at once.
fn next(agenda: &mut Agenda, now: Duration) -> Next {
    match agenda.next(now, Duration::ZERO) {
        Next::Look(task) => {
            agenda.ended(&task, Outcome::NotStored, now);
            agenda.next(now, Duration::ZERO)
        }
        next => next,
    }
}

/// When the store is looked into, and when the first object is fetched, while the store lacks all.
fn looks_and_fetch(
    agenda: &mut Agenda,
    mut now: Duration,
    ask_at: Duration,
) -> (Vec<Duration>, Duration) {
    let mut looks = Vec::new();
    loop {
        match agenda.next(now, ask_at) {
            Next::Look(task) => {
                looks.push(now);
                agenda.ended(&task, Outcome::NotStored, now);
            }
            Next::Wait(at) => now = at,
            Next::Fetch(_) => return (looks, now),
            Next::Idle => panic!("it waits"),
        }
    }
}

fn stale(account: &str, named_at_s: i64) -> Condition {
    let subject = EntityKey::new(EntityKind::Account, account);
    Condition {
        key: ConditionKey {
            kind: ConditionKind::AccountStale,
            subject,
        },
        since_s: named_at_s,
        began_before: None,
        due_s: named_at_s,
        account: Some(account.to_owned()),
        realm: Realm::MAIN,
        customer: None,
        money: None,
        detail: None,
        event_id: format!("evt_{named_at_s}"),
        times: None,
        answer_by_s: None,
        trial_end_s: None,
        further_money: Vec::new(),
        uncertain: None,
    }
}

fn open(account: &str, named_at_s: i64) -> ConditionChange {
    ConditionChange::Open(stale(account, named_at_s))
}

fn task(account: &str, named_at_s: i64) -> Task {
    task_of(&[stale(account, named_at_s)])
}

/// What conditions about one object have to do.
fn task_of(conditions: &[Condition]) -> Task {
    let causes = conditions.iter().map(|condition| {
        let Condition {
            since_s, event_id, ..
        } = condition.clone();
        (condition.key.clone(), Cause { since_s, event_id })
    });
    Task {
        need: Need::of(&conditions[0]).remove(0),
        waiting: causes.collect(),
    }
}

/// An agenda while the fetch of `acct_1` is in progress; an event at 100 named the account.
fn fetching() -> Agenda {
    let mut agenda = agenda();
    agenda.on_changes(&[open("acct_1", 100)], s(0));
    assert_eq!(next(&mut agenda, s(0)), Next::Wait(s(1)));
    assert_eq!(next(&mut agenda, s(1)), Next::Fetch(task("acct_1", 100)));
    assert_eq!(
        next(&mut agenda, s(1)),
        Next::Idle,
        "one fetch per account at a time"
    );
    agenda
}

#[test]
fn what_the_store_has_of_an_object_is_for_the_others_that_wait() {
    let own = task("acct_1", 100);
    assert_eq!(own.by_others(), None);
    let mut both = own;
    let mut other = stale("acct_1", 90);
    other.key.subject = EntityKey::new(EntityKind::Subscription, "sub_1");
    let cause = Cause {
        since_s: 90,
        event_id: "evt_90".to_owned(),
    };
    both.waiting.insert(other.key.clone(), cause.clone());
    let others = both.by_others().expect("one");
    assert_eq!(others.waiting, [(other.key, cause)].into());
}

#[test]
fn objects_of_every_realm_are_looked_for_but_not_those_of_an_unknown_account() {
    let of = |realm: &Realm| Condition {
        realm: realm.clone(),
        ..stale("acct_1", 100)
    };
    let realms = [&Realm::MAIN, &Realm::kernel(), Realm::unknown()];
    let tasks = realms.map(|realm| Task::all_of(&[of(realm)]).len());
    assert_eq!(tasks, [1, 1, 0]);
}

#[test]
fn each_outcome_has_its_next_step() {
    let table = [
        (Outcome::Refreshed, Next::Wait(s(62))),
        (Outcome::Found, Next::Wait(s(62))),
        (Outcome::Known, Next::Wait(s(3))),
        (Outcome::Gone, Next::Idle),
        (Outcome::Forbidden, Next::Idle),
        (Outcome::Refused { all: false }, Next::Wait(s(302))),
        (Outcome::Refused { all: true }, Next::Wait(s(302))),
        (Outcome::Limited { wait: Some(s(7)) }, Next::Wait(s(9))),
        (Outcome::Limited { wait: None }, Next::Wait(s(3))),
        (Outcome::Failed, Next::Wait(s(3))),
    ];
    for (outcome, expected) in table {
        let mut agenda = fetching();
        agenda.ended(&task("acct_1", 100), outcome, s(2));
        assert_eq!(next(&mut agenda, s(2)), expected, "{outcome:?}");
    }
}

#[test]
fn backoff_doubles_up_to_an_hour() {
    let mut agenda = fetching();
    let mut waits = Vec::new();
    for _ in 0..14 {
        agenda.ended(&task("acct_1", 100), Outcome::Failed, s(0));
        let Next::Wait(at) = next(&mut agenda, s(0)) else {
            panic!("it waits")
        };
        waits.push(at.as_secs());
        assert_eq!(next(&mut agenda, at), Next::Fetch(task("acct_1", 100)));
    }
    assert_eq!(waits[..4], [1, 2, 4, 8]);
    assert_eq!(waits[12..], [3600, 3600]);
}

#[test]
fn a_rate_limit_and_a_refused_key_delay_all_accounts() {
    for (outcome, until) in [
        (Outcome::Limited { wait: Some(s(30)) }, s(32)),
        (Outcome::Refused { all: true }, s(62)),
    ] {
        let mut agenda = fetching();
        agenda.on_changes(&[open("acct_2", 100)], s(0));
        agenda.ended(&task("acct_1", 100), outcome, s(2));
        let (_, fetched_at) = looks_and_fetch(&mut agenda, s(2), Duration::ZERO);
        assert_eq!(fetched_at, until, "{outcome:?}");
    }
}

#[test]
fn the_store_is_asked_at_once_and_again_while_stripe_is_asked_at_its_pace() {
    let mut agenda = agenda();
    agenda.on_changes(&[open("acct_1", 100), open("acct_2", 100)], s(0));
    let ask_at = s(60);
    assert_eq!(agenda.next(s(1), ask_at), Next::Look(task("acct_1", 100)));
    agenda.ended(&task("acct_1", 100), Outcome::NotStored, s(1));
    assert_eq!(agenda.next(s(1), ask_at), Next::Look(task("acct_2", 100)));
    agenda.ended(&task("acct_2", 100), Outcome::Found, s(1));
    let (looks, fetched_at) = looks_and_fetch(&mut agenda, s(2), ask_at);
    assert_eq!(
        (looks, fetched_at),
        ([2, 4, 8, 16, 32].map(s).to_vec(), ask_at)
    );
}

#[test]
fn what_the_key_may_not_read_is_asked_for_again_after_an_hour() {
    let mut agenda = fetching();
    agenda.ended(&task("acct_1", 100), Outcome::Forbidden, s(2));
    assert_eq!(next(&mut agenda, s(3600)), Next::Idle);
    assert!(!agenda.needs_scan(s(3601)) && agenda.needs_scan(s(3602)));
    agenda.on_scan(&[stale("acct_1", 100)], s(3000));
    assert_eq!(
        next(&mut agenda, s(3100)),
        Next::Idle,
        "a scan for another reason"
    );
    assert!(agenda.needs_scan(s(3602)));
    agenda.on_scan(&[stale("acct_1", 100)], s(3602));
    assert_eq!(next(&mut agenda, s(3603)), Next::Fetch(task("acct_1", 100)));
}

#[test]
fn what_is_due_later_waits_until_then_and_takes_no_room() {
    let mut agenda = agenda();
    let due_in = |invoice: &str, seconds: i64| {
        let mut planned = needed(EntityKind::Invoice, invoice, None);
        planned.key.kind = ConditionKind::AttemptUnreported;
        planned.due_s = 1000 + seconds;
        planned
    };
    let (soon, late) = (due_in("in_1", 50), due_in("in_2", 5000));
    agenda.on_scan(&[soon, late.clone()], s(0));
    assert_eq!(next(&mut agenda, s(9)), Next::Wait(s(50)));
    assert!(!agenda.needs_scan(s(4999)) && agenda.needs_scan(s(5000)));
    agenda.on_scan(std::slice::from_ref(&late), s(5000));
    assert!(!agenda.needs_scan(s(9999)));
    assert_eq!(next(&mut agenda, s(5001)), Next::Fetch(task_of(&[late])));
}

#[test]
fn an_event_of_a_clock_that_is_ahead_is_answered_at_once() {
    let mut agenda = agenda();
    agenda.on_changes(&[open("acct_1", 9999)], s(0));
    assert_eq!(next(&mut agenda, s(1)), Next::Fetch(task("acct_1", 9999)));
}

#[test]
fn a_burst_of_events_about_one_account_causes_one_fetch() {
    let mut agenda = agenda();
    let burst: Vec<_> = (0..20).map(|n| open("acct_1", 100 + n)).collect();
    agenda.on_changes(&burst, s(0));
    assert_eq!(next(&mut agenda, s(1)), Next::Fetch(task("acct_1", 119)));
    agenda.ended(&task("acct_1", 119), Outcome::Refreshed, s(1));
    agenda.on_changes(&[ConditionChange::Close(stale("acct_1", 119).key)], s(1));
    assert_eq!(next(&mut agenda, s(9999)), Next::Idle);
}

#[test]
fn events_during_or_after_a_fetch_cause_another_fetch() {
    for outcome in [
        Outcome::Refreshed,
        Outcome::Found,
        Outcome::Gone,
        Outcome::Forbidden,
    ] {
        let mut agenda = fetching();
        agenda.on_changes(&[open("acct_1", 101)], s(1));
        agenda.ended(&task("acct_1", 100), outcome, s(2));
        assert_eq!(
            next(&mut agenda, s(3)),
            Next::Fetch(task("acct_1", 101)),
            "during the fetch, {outcome:?}"
        );
        let mut agenda = fetching();
        agenda.ended(&task("acct_1", 100), outcome, s(2));
        agenda.on_changes(&[open("acct_1", 100)], s(2));
        assert!(
            !matches!(next(&mut agenda, s(3)), Next::Fetch(_)),
            "the same event again, {outcome:?}"
        );
        agenda.on_changes(&[open("acct_1", 101)], s(2));
        assert_eq!(
            next(&mut agenda, s(3)),
            Next::Fetch(task("acct_1", 101)),
            "after the fetch, {outcome:?}"
        );
    }
    let mut agenda = fetching();
    agenda.ended(&task("acct_1", 100), Outcome::Failed, s(2));
    agenda.on_changes(&[open("acct_1", 101)], s(2));
    assert_eq!(
        next(&mut agenda, s(2)),
        Next::Wait(s(3)),
        "another event does not end a back-off"
    );
}

#[test]
fn a_scan_adds_open_conditions_and_drops_closed_ones() {
    let mut agenda = fetching();
    agenda.on_changes(&[open("acct_2", 100)], s(0));
    agenda.ended(&task("acct_1", 100), Outcome::Gone, s(1));
    agenda.on_scan(&[stale("acct_1", 100), stale("acct_3", 100)], s(1));
    assert_eq!(
        next(&mut agenda, s(9)),
        Next::Fetch(task("acct_3", 100)),
        "acct_1 stays unavailable, and acct_2 is closed"
    );
    assert_eq!(next(&mut agenda, s(9)), Next::Idle);
}

#[test]
fn only_plain_ids_become_part_of_a_url() {
    for id in [
        "acct_",
        "acct_1/../../v1/balance",
        "acct_1?expand=x",
        "cus_1",
        "acct_é",
        "acct_1%2e",
        &format!("acct_{}", "1".repeat(251)),
    ] {
        let mut agenda = agenda();
        agenda.on_changes(&[open(id, 100)], s(0));
        assert_eq!(next(&mut agenda, s(9)), Next::Idle, "{id}");
    }
}

fn needed(kind: EntityKind, id: &str, account: Option<&str>) -> Condition {
    let mut condition = stale(id, 100);
    condition.key.kind = ConditionKind::StateNeeded;
    condition.key.subject.kind = kind;
    condition.account = account.map(str::to_owned);
    condition
}

#[test]
fn objects_of_every_kind_are_fetched_as_their_account() {
    for kind in EntityKind::ALL.into_iter().filter(|kind| !kind.is_of_app()) {
        let id = format!("{}a_1", kind.row().id_prefixes[0]);
        for account in [None, Some("acct_1")] {
            let condition = needed(kind, &id, account);
            let mut agenda = agenda();
            agenda.on_scan(std::slice::from_ref(&condition), s(0));
            let Next::Fetch(task) = next(&mut agenda, s(1)) else {
                panic!("{kind:?}")
            };
            assert_eq!(task, task_of(&[condition]));
            assert_eq!(task.need.account.as_deref(), account);
        }
    }
    for (id, account) in [
        ("in_1", None),
        ("po_1", Some("acct_1/x")),
        ("po_1", Some("")),
    ] {
        let mut agenda = agenda();
        agenda.on_scan(&[needed(EntityKind::Payout, id, account)], s(0));
        assert_eq!(next(&mut agenda, s(9)), Next::Idle, "{id} {account:?}");
    }
}

#[test]
fn conditions_that_wait_for_one_object_have_one_task() {
    let mut both = [
        stale("acct_1", 100),
        needed(EntityKind::Account, "acct_1", None),
    ];
    both[1].since_s = 105;
    let mut agenda = agenda();
    agenda.on_scan(&both, s(0));
    let all = task_of(&both);
    assert_eq!(all.newest().map(|cause| cause.since_s), Some(105));
    assert_eq!(next(&mut agenda, s(1)), Next::Fetch(all.clone()));
    assert_eq!(next(&mut agenda, s(1)), Next::Idle);
    // One closes during the fetch: the other still waits for the answer, and no longer.
    agenda.on_changes(&[ConditionChange::Close(both[0].key.clone())], s(1));
    agenda.ended(&all, Outcome::Refreshed, s(2));
    assert_eq!(next(&mut agenda, s(2)), Next::Wait(s(62)));
    // Another that begins to wait does not wait for a minute.
    agenda.on_changes(&[ConditionChange::Open(both[0].clone())], s(2));
    assert_eq!(next(&mut agenda, s(3)), Next::Fetch(all));
    let closed = both.map(|condition| ConditionChange::Close(condition.key));
    agenda.on_changes(&closed, s(3));
    assert!(agenda.entries.is_empty() && agenda.needs.is_empty());
}

#[test]
fn a_condition_that_closes_and_opens_again_asks_for_what_was_gone() {
    let mut agenda = fetching();
    agenda.ended(&task("acct_1", 100), Outcome::Gone, s(2));
    assert!(agenda.entries.is_empty() && agenda.needs.is_empty());
    agenda.on_changes(&[ConditionChange::Close(stale("acct_1", 100).key)], s(2));
    agenda.on_changes(&[open("acct_1", 100)], s(2));
    assert_eq!(next(&mut agenda, s(3)), Next::Fetch(task("acct_1", 100)));
}

#[test]
fn conditions_beyond_the_limit_are_found_by_a_later_scan() {
    let all: Vec<_> = (0..=Agenda::MAX_WAITING)
        .map(|n| stale(&format!("acct_{n}"), 100))
        .collect();
    let mut agenda = agenda();
    agenda.on_scan(&all, s(0));
    assert!(
        agenda.overflowed && !agenda.needs_scan(s(1)),
        "no scan before there is room"
    );
    for condition in &all[..Agenda::MAX_WAITING / 2] {
        agenda.on_changes(&[ConditionChange::Close(condition.key.clone())], s(1));
    }
    assert!(agenda.needs_scan(s(1)));
    agenda.on_scan(&all[Agenda::MAX_WAITING / 2..], s(2));
    assert!(!agenda.overflowed);
}
