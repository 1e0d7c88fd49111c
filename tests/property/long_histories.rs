//! Objects with more states than are kept: since when something holds is not forgotten, the result does not
//! depend on the order, and the cost stays within its bound.

use std::collections::HashSet;

use fastrand::Rng;
use revwatch_core::condition::ConditionKind;
use revwatch_core::entity::timeline::{
    Changes, Facts, HORIZON_S, KEPT, KEPT_CHANGES, KEPT_IN_HORIZON, RecordedState, Stage, Timeline,
};
use revwatch_core::entity::{Entity, EntityKey, EntityKind, Observation};
use revwatch_core::event::Event;
use revwatch_core::observe::{ObserveSettings, observe};
use serde_json::{Value, json};

const DAY_S: i64 = 86_400;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Level(u8);

impl Facts for Level {
    const FIELDS: &'static [&'static str] = &["level"];

    fn progress(&self) -> u64 {
        0
    }

    fn value(&self, _: usize) -> u32 {
        self.0.into()
    }
}

/// A subscription's event `n`, of the day `day`.
fn event(n: usize, at_s: i64, status: &str, previous: Option<&Value>) -> Observation {
    let kind = if n == 0 { "created" } else { "updated" };
    let price = json!({"id": "pro", "unit_amount": 2000, "recurring": {"interval": "month", "interval_count": 1}});
    let body = json!({"id": format!("evt_1SAbCdEfGhIjKlMnOpQr{n:04}"), "type": format!("customer.subscription.{kind}"),
        "created": at_s, "data": {"previous_attributes": previous, "object": {"id": "sub_1", "status": status,
        "customer": "cus_1", "currency": "usd", "metadata": {"n": n}, "items": {"data": [{"price": price, "quantity": 1}]}}}})
    .to_string();
    let event = Event::parse(body.as_bytes()).expect("an event");
    let observed = observe(&event, &ObserveSettings::default()).expect("readable");
    observed.into_iter().next().expect("an observation")
}

fn built<'a>(observed: impl IntoIterator<Item = &'a Observation>) -> Entity {
    let mut entity = Entity::new(&EntityKey::new(EntityKind::Subscription, "sub_1"));
    observed
        .into_iter()
        .for_each(|observation| entity.merge(observation));
    entity
}

/// Case: metadata that changes every half hour while the subscription is past due.
#[test]
fn a_thousand_updates_shorten_no_past_due_time_and_take_no_more_than_20_kb() {
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let mut rng = Rng::with_seed(seed);
    let mut observed = vec![
        event(0, 0, "active", None),
        event(1, 5 * DAY_S, "past_due", Some(&json!({"status": "active"}))),
    ];
    observed.extend((2..1002).map(|n| {
        let at_s = 5 * DAY_S + 1800 * i64::try_from(n).expect("small");
        event(
            n,
            at_s,
            "past_due",
            Some(&json!({"metadata": {"n": n - 1}})),
        )
    }));
    let entity = built(&observed);
    assert!(entity.encode().len() <= 20_000, "{}", entity.encode().len());
    let past_due = |entity: &Entity| {
        let conditions = entity.conditions();
        let condition = conditions
            .iter()
            .find(|c| c.key.kind == ConditionKind::PastDue);
        condition.map(|c| (c.since_s, c.event_id.clone()))
    };
    let began = (5 * DAY_S, "evt_1SAbCdEfGhIjKlMnOpQr0001".to_owned());
    assert_eq!(past_due(&entity), Some(began));
    for _ in 0..3 {
        rng.shuffle(&mut observed);
        assert_eq!(built(&observed).encode(), entity.encode());
    }
    let decoded = Entity::decode(
        &EntityKey::new(EntityKind::Subscription, "sub_1"),
        &entity.encode(),
    );
    assert_eq!(decoded, Ok(entity));
}

#[test]
fn a_thousand_changes_of_status_take_no_more_than_20_kb_and_all_are_remembered() {
    let mut observed = vec![event(0, 0, "active", None)];
    observed.extend((1..1000).map(|n| {
        let statuses = ["active", "past_due"];
        let (now, before) = (statuses[n % 2], statuses[(n + 1) % 2]);
        let at_s = 3000 * i64::try_from(n).expect("small");
        event(n, at_s, now, Some(&json!({"status": before})))
    }));
    let entity = built(&observed);
    assert!(entity.encode().len() <= 20_000, "{}", entity.encode().len());
    let entered = entity.contributions();
    let entered = entered
        .iter()
        .filter(|(_, name, _)| *name == "dunning|entered");
    assert_eq!(entered.map(|(_, _, by)| by).sum::<i64>(), 500);
}

/// An object with `n` in some of its fields, its event's type without the verb, and what the event says of before.
type Growing = (EntityKind, &'static str, fn(i64) -> Value, fn(i64) -> Value);

/// Each event changes the same fields to values that the object never had before.
#[test]
fn a_thousand_different_facts_take_no_more_than_20_kb() {
    let table: [Growing; 5] = [
        (
            EntityKind::Subscription,
            "customer.subscription",
            |n| json!({"status": "active", "items": priced(2000, n)}),
            |n| json!({"items": priced(2000, n)}),
        ),
        (
            EntityKind::Subscription,
            "customer.subscription",
            |n| json!({"status": "trialing", "trial_end": 90 * DAY_S + n, "items": priced(2000, 1)}),
            |n| json!({"trial_end": 90 * DAY_S + n}),
        ),
        (
            EntityKind::Invoice,
            "invoice",
            |n| json!({"status": "draft", "amount_due": 70_000 + 1999 * n, "amount_paid": 0, "attempt_count": 0}),
            |n| json!({"amount_due": 70_000 + 1999 * n}),
        ),
        (
            EntityKind::Account,
            "account",
            |n| {
                json!({"charges_enabled": true, "payouts_enabled": true, "details_submitted": true,
                "requirements": {"currently_due": [format!("person_{n}.id_number")], "past_due": []}})
            },
            |n| json!({"requirements": {"currently_due": [format!("person_{n}.id_number")]}}),
        ),
        (
            EntityKind::Payment,
            "payment_intent",
            |n| json!({"status": "requires_payment_method", "amount": 70_000 + 1999 * n}),
            |n| json!({"amount": 70_000 + 1999 * n}),
        ),
    ];
    for (kind, family, object_at, before) in table {
        let id = format!("{}1", kind.row().id_prefixes[0]);
        let observed: Vec<_> = (0..1000)
            .map(|n| {
                let mut object = object_at(n);
                object["id"] = json!(id);
                object["customer"] = json!("cus_SAbCdEfGhIjKlM");
                object["currency"] = json!("usd");
                let (verb, previous) = match n {
                    // No event reports that an account was created.
                    0 if kind == EntityKind::Account => ("updated", None),
                    0 => ("created", None),
                    _ => ("updated", Some(before(n - 1))),
                };
                let body = json!({"id": format!("evt_1SAbCdEfGhIjKlMnOpQr{n:04}"), "type": format!("{family}.{verb}"),
                    "account": (kind == EntityKind::Account).then_some(&id), "created": 1_800_000_000 + 3400 * n,
                    "data": {"object": object, "previous_attributes": previous}})
                .to_string();
                let event = Event::parse(body.as_bytes()).expect("an event");
                let observed = observe(&event, &ObserveSettings::default()).expect("readable");
                observed.into_iter().last().expect("an observation")
            })
            .collect();
        let key = EntityKey::new(kind, &id);
        let mut entity = Entity::new(&key);
        observed
            .iter()
            .for_each(|observation| entity.merge(observation));
        let bytes = entity.encode();
        assert_eq!(entity.events().len(), 1000, "{key}");
        assert!(bytes.len() <= 20_000, "{key}: {} bytes", bytes.len());
        assert_eq!(Entity::decode(&key, &bytes), Ok(entity), "{key}");
    }
}

fn priced(unit_amount: i64, quantity: i64) -> Value {
    let price = json!({"id": "pro", "unit_amount": unit_amount, "recurring": {"interval": "month", "interval_count": 1}});
    json!({"data": [{"price": price, "quantity": quantity}]})
}

#[test]
fn a_thousand_updates_in_one_second_have_an_order() {
    let all = (0..1000).map(|n| event(n, 7, "active", Some(&json!({"metadata": {"n": n}}))));
    let observed: Vec<_> = all.collect();
    let entity = built(&observed);
    assert_eq!(entity.events().len(), 1000);
    assert_eq!(built(observed.iter().rev()).encode(), entity.encode());
}

fn is_significant(state: &RecordedState<Level>) -> bool {
    state.stage != Stage::Updated || !state.changes.are_none()
}

/// What of a set of states is kept, said plainly.
fn kept(all: &[RecordedState<Level>]) -> (HashSet<u64>, bool) {
    let newest_s = all.iter().map(|s| s.created_s).max().unwrap_or(0);
    let rank = |state: &RecordedState<Level>, counts: &dyn Fn(&RecordedState<Level>) -> bool| {
        all.iter()
            .filter(|s| counts(s) && s.created_s > state.created_s)
            .count()
    };
    let is_kept = |state: &RecordedState<Level>| {
        let is_recent = state.created_s >= newest_s - HORIZON_S;
        let by_age = rank(state, &|_| true);
        let by_change = rank(state, &is_significant);
        by_age < KEPT
            || is_recent && by_age < KEPT_IN_HORIZON
            || is_significant(state)
                && (by_change < KEPT_CHANGES || is_recent && by_change < KEPT_IN_HORIZON)
    };
    let is_cut = all.iter().any(|s| is_significant(s) && !is_kept(s));
    let oldest_s = all.iter().map(|s| s.created_s).min();
    let ids = all
        .iter()
        .filter(|s| is_kept(s) || !is_cut && Some(s.created_s) == oldest_s)
        .map(|s| s.event_id.hash());
    (ids.collect(), is_cut)
}

#[test]
fn what_is_kept_is_a_function_of_the_set_and_says_since_when() {
    let first_seed = fastrand::u64(..u64::MAX / 2);
    eprintln!("seeds from {first_seed}");
    for seed in first_seed..first_seed + 12 {
        let mut rng = Rng::with_seed(seed);
        let days = [1, 30, 45, 100, 400][rng.usize(..5)];
        let (count, share_of_changes) = (rng.usize(1..2500), rng.f64());
        let mut times: Vec<i64> = (0..count).map(|_| rng.i64(0..days * DAY_S)).collect();
        times.sort_unstable();
        let mut level = 0;
        let all: Vec<_> = (0..)
            .zip(times)
            .map(|(n, created_s)| {
                let changed = (rng.f64() < share_of_changes).then(|| {
                    let former = std::mem::replace(&mut level, rng.u8(0..3));
                    (0, Some(former.into()))
                });
                RecordedState {
                    created_s,
                    event_id: format!("evt_{n}").into(),
                    stage: Stage::Updated,
                    facts: Level(level).into(),
                    changes: Changes::new(Some(changed.into_iter().collect())),
                }
            })
            .collect();
        let (expected, is_cut) = kept(&all);
        let mut first = None;
        for _ in 0..3 {
            let mut order: Vec<_> = all
                .iter()
                .chain(all.iter().filter(|_| rng.bool()))
                .collect();
            rng.shuffle(&mut order);
            let mut timeline = Timeline::default();
            order
                .into_iter()
                .for_each(|state| timeline.insert(state.clone()));
            let ids: HashSet<u64> = timeline
                .in_order()
                .iter()
                .map(|s| s.event_id.hash())
                .collect();
            assert_eq!(ids, expected, "seed {seed}");
            assert_eq!(timeline.is_cut(), is_cut, "seed {seed}");
            let named = |s: &&RecordedState<Level>| s.event_id.text().map(str::to_owned);
            let names: Vec<_> = timeline.in_order().iter().map(named).collect();
            let built = (timeline.clone(), names);
            assert_eq!(
                *first.get_or_insert_with(|| built.clone()),
                built,
                "seed {seed}"
            );
            // Without equal seconds the order is certain, and so is since when.
            let run = all.iter().rev().take_while(|s| *s.facts == Level(level));
            let since = run.last().map(|s| s.created_s);
            let found = timeline.since(|facts| *facts == Level(level), |_| None);
            if !is_cut
                && all
                    .windows(2)
                    .all(|pair| pair[0].created_s != pair[1].created_s)
            {
                assert_eq!(found.map(|s| s.created_s), since, "seed {seed}");
            }
        }
    }
}
