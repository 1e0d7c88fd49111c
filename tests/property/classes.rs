//! Events of two owners and two realms in any order: the figures of each class are the sums over its
//! objects, and those of several classes are the sums over these.

use std::collections::BTreeMap;

use fastrand::Rng;
use revwatch_core::class::{Owner, Scope};
use revwatch_core::counters::{Bucket, Counters, Tally};
use revwatch_core::entity::{Entity, EntityKey, Observation};
use revwatch_core::event::Event;
use revwatch_core::observe::{ObserveSettings, observe};
use revwatch_core::realm::Realm;
use serde_json::json;

const CLASSES: [(&str, Owner); 4] = [
    ("main", Owner::Platform),
    ("main", Owner::Connected),
    ("kernel", Owner::Platform),
    ("kernel", Owner::Connected),
];

/// What events say about one subscription of a class, and its MRR in the end.
fn history(class: usize, number: usize, rng: &mut Rng) -> (Vec<Observation>, i64) {
    let (realm, owner) = CLASSES[class];
    let realm = Realm::named(realm).expect("a name");
    let id = format!("sub_{class}_{number}");
    let account = (owner == Owner::Connected).then(|| format!("acct_{}_{}", class, number % 2));
    let mut last_minor = 0;
    let mut observed = |n: i64| {
        last_minor = rng.i64(0..1000);
        let status = if rng.bool() { "active" } else { "past_due" };
        let body = json!({"id": format!("evt_{id}_{n}"), "type": "customer.subscription.updated", "created": n * 1800,
            "account": account, "data": {"object": {"id": id, "status": status, "currency": "usd", "items": {"data":
                [{"price": {"id": "p", "unit_amount": last_minor, "recurring": {"interval": "month", "interval_count": 1}}, "quantity": 1}]}}}});
        let body = body.to_string();
        let event = Event::parse(body.as_bytes()).expect("an event");
        let seen = observe(&event, &ObserveSettings::default()).expect("readable");
        seen.into_iter().map(|o| o.of(&realm)).collect::<Vec<_>>()
    };
    let observations = (1..=4).flat_map(&mut observed).collect();
    (observations, last_minor)
}

/// The counters after each observation changed its entity, one after the other.
fn counted(observations: &[Observation]) -> Counters {
    let mut entities = BTreeMap::<&EntityKey, Entity>::new();
    let mut counters = Counters::default();
    for observation in observations {
        let key = &observation.key;
        let entity = entities.entry(key).or_insert_with(|| Entity::new(key));
        let before = if entity.realm().is_some() {
            entity.tally()
        } else {
            Tally::default()
        };
        entity.merge(observation);
        counters.add_difference(&before, &entity.tally());
    }
    counters
}

#[test]
fn the_sums_of_each_owner_and_realm_add_up_in_any_order() {
    let first = fastrand::u64(..u64::MAX / 2);
    eprintln!("seeds from {first}");
    for seed in first..first + 40 {
        let mut rng = Rng::with_seed(seed);
        let (mut all, mut expected) = (Vec::new(), [0; CLASSES.len()]);
        for (class, sum) in expected.iter_mut().enumerate() {
            for number in 0..rng.usize(1..6) {
                let (observations, minor) = history(class, number, &mut rng);
                all.extend(observations);
                *sum += minor;
            }
        }
        let in_order = counted(&all);
        rng.shuffle(&mut all);
        let again: Vec<_> = all.iter().filter(|_| rng.bool()).cloned().collect();
        all.extend(again);
        let counters = counted(&all);
        assert_eq!(counters, in_order, "seed {seed}");
        for realm in [None, Some("main"), Some("kernel")] {
            for owner in [None, Some(Owner::Platform), Some(Owner::Connected)] {
                let is_in = |(of_realm, of_owner): &(&str, Owner)| {
                    realm.is_none_or(|realm| realm == *of_realm)
                        && owner.is_none_or(|owner| owner == *of_owner)
                };
                let minor: i64 = CLASSES
                    .iter()
                    .zip(expected)
                    .filter(|(class, _)| is_in(class))
                    .map(|(_, minor)| minor)
                    .sum();
                let scope = Scope {
                    realm: realm.map(|name| Realm::named(name).expect("a name")),
                    owner,
                };
                let figures = counters.of(&scope);
                let (current, hours) = (figures.get(Bucket::Current, &["mrr", "usd"]), 0..=2);
                assert_eq!(current, minor, "seed {seed}, {scope:?}");
                let changes =
                    hours.map(|hour| figures.get(Bucket::Hour(hour), &["mrr_change", "usd"]));
                assert_eq!(changes.sum::<i64>(), minor, "seed {seed}, {scope:?}");
            }
        }
    }
}
