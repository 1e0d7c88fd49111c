//! Critical properties of joining two copies of one entity: the union is what one gets that sees the
//! events of both.

use std::collections::BTreeMap;

use fastrand::Rng;
use revwatch_core::entity::{Entity, EntityKey, Observation};
use revwatch_core::event::Event;
use revwatch_core::observe::{ObserveSettings, Plans, observe};

use super::END_S;
use crate::support::history::History;

/// Each observation is in one part, in the other, or in both.
pub(super) fn two_parts<'a>(
    all: &'a [Observation],
    rng: &mut Rng,
) -> (Vec<&'a Observation>, Vec<&'a Observation>) {
    let (mut one, mut other) = (Vec::new(), Vec::new());
    for observation in all {
        let place = rng.u8(..3);
        if place != 0 {
            one.push(observation);
        }
        if place != 1 {
            other.push(observation);
        }
    }
    (one, other)
}

fn built<'a>(key: &EntityKey, observed: impl IntoIterator<Item = &'a Observation>) -> Entity {
    let mut entity = Entity::new(key);
    for observation in observed {
        entity.merge(observation);
    }
    entity
}

fn united(one: &Entity, other: &Entity) -> Entity {
    let mut all = one.clone();
    all.union(other);
    all
}

#[test]
fn a_union_is_the_entity_that_saw_the_events_of_both() {
    let first = fastrand::u64(..u64::MAX / 2);
    eprintln!("seeds from {first}");
    for seed in first..first + 20 {
        let mut rng = Rng::with_seed(seed);
        let mut observed: BTreeMap<EntityKey, Vec<Observation>> = BTreeMap::new();
        for body in &History::new(seed, 12, END_S).events {
            let event = Event::parse(body.as_bytes()).expect("an event");
            for observation in observe(&event, &ObserveSettings::default()).expect("readable") {
                let key = observation.key.clone();
                observed.entry(key).or_default().push(observation);
            }
        }
        for (key, all) in &observed {
            let expected = built(key, all);
            let (one, other) = two_parts(all, &mut rng);
            let (one, other) = (built(key, one), built(key, other));
            assert_eq!(united(&one, &other).encode(), expected.encode(), "{key}");
            assert_eq!(united(&other, &one).encode(), expected.encode(), "{key}");
            assert_eq!(united(&expected, &one), expected, "{key}");
        }
    }
}

/// Versions of revwatch may have read one event differently.
#[test]
fn of_two_readings_of_one_event_the_same_stays_in_any_order() {
    let observed = |plan: &str| {
        let body = r#"{"id":"evt_1","type":"customer.subscription.created","created":1,"data":{"object":{
            "id":"sub_1","object":"subscription","status":"active","currency":"usd","customer":"cus_1",
            "items":{"data":[{"quantity":1,"price":{"id":"price_1","unit_amount":100,
            "recurring":{"interval":"month","interval_count":1}}}]}}}}"#;
        let event = Event::parse(body.as_bytes()).expect("an event");
        let plans = Plans::new([("price_1".to_owned(), plan.to_owned())].into());
        observe(&event, &plans.into()).expect("readable")
    };
    let key = observed("a").pop().expect("an observation").key;
    let (one, other) = (
        built(&key, &observed("basic")),
        built(&key, &observed("pro")),
    );
    assert_ne!(one, other);
    let union = united(&one, &other);
    assert_eq!(union, united(&other, &one));
    assert!(union == one || union == other);
}
