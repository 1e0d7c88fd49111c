//! A bug at one event costs that event, not its batch.

use std::sync::Arc;

use bytes::Bytes;
use revwatch_core::counters::Bucket;
use revwatch_core::entity::Update;
use revwatch_core::event::Event;
use revwatch_core::event_settings::EventSettings;
use revwatch_core::observe::{ObserveSettings, observe};
use revwatch_core::pauses::Pauses;
use revwatch_storage::ports::Delivery;
use serde_json::json;

use super::super::{Place, item};
use super::*;

const NOW_MS: i64 = 1_800_000_500_000;

fn delivery(n: u128, body: String) -> Delivery {
    Delivery {
        id: Uuid::from_u128(n),
        event_id: "evt".into(),
        event_type: "payout.paid".into(),
        partition: 0,
        endpoint: "stripe".into(),
        received_ms: 1_800_000_000_000,
        traceparent: None,
        body: Bytes::from(body),
    }
}

fn payout(n: u128) -> Delivery {
    let body = json!({"id": format!("evt_{n}"), "type": "payout.paid", "created": 1_800_000_000, "data": {"object": {
        "id": format!("po_{n}"), "object": "payout", "status": "paid", "amount": 500, "currency": "usd"}}});
    delivery(n, body.to_string())
}

fn subscription(n: u32) -> String {
    json!({"id": format!("evt_{n}"), "type": "customer.subscription.updated", "created": 1_800_000_000 + n, "data": {
        "object": {"id": "sub_1", "object": "subscription", "status": "active", "customer": "cus_1", "currency": "usd",
            "items": {"data": [{"id": "si_1", "quantity": 1, "price": {"id": "price_1", "unit_amount": 900,
                "currency": "usd", "recurring": {"interval": "month", "interval_count": 1}}}]}},
        "previous_attributes": {"cancel_at_period_end": true}}})
    .to_string()
}

/// A subscription whose MRR is so low that revwatch panics at the next change of it: see `Level::change_to`.
fn panicking() -> (EntityKey, Entity) {
    let body = subscription(1);
    let event = Event::parse(body.as_bytes()).expect("an event");
    let mut observed = observe(&event, &ObserveSettings::default()).expect("readable");
    let observation = observed
        .iter_mut()
        .find(|it| it.key.id == "sub_1")
        .expect("of the subscription");
    let Update::Subscription(_, state) = &mut observation.update else {
        panic!("{observation:?}");
    };
    Arc::make_mut(&mut state.facts).recurring_minor = Some(i64::MIN);
    let mut entity = Entity::new(&observation.key);
    entity.merge(observation);
    (observation.key.clone(), entity)
}

/// Decides over a store that has the subscription.
fn decide(batch: &Batch) -> Decision {
    let (key, entity) = panicking();
    let stored = StoredEntity {
        version: 1,
        body: entity.encode(),
    };
    let entities = batch.read_set.entities.iter();
    let found = ReadResult {
        dedupe_keys: vec![None; batch.read_set.dedupe_keys.len()],
        entities: entities
            .map(|it| (*it == key).then(|| stored.clone()))
            .collect(),
    };
    batch.decide(&found, NOW_MS).expect("readable")
}

fn read(deliveries: &[Delivery]) -> Batch {
    Batch::read(Place::ONLY, deliveries, &EventSettings::default())
}

/// The commit is that of the deliveries 1 and 3, and counts dead letters.
fn is_of_the_others(commit: &Commit, dead: i64) {
    let alone = decide(&read(&[payout(1), payout(3)])).commit;
    let mut counters = commit.counters.clone();
    counters.add(Bucket::Current, &["events", "dead"], -dead);
    assert_eq!(counters, alone.counters);
    assert_eq!(commit.entities, alone.entities);
    assert_eq!(commit.conditions, alone.conditions);
    assert_eq!(commit.audit, alone.audit);
}

#[test]
fn an_event_that_panics_when_it_is_parsed_is_dead_and_the_others_are_applied() {
    let (settings, pauses) = (EventSettings::default(), Pauses::default().into());
    let items = [payout(1), payout(2), payout(3)].map(|delivery| {
        item::read_by(&delivery, || {
            assert!(delivery.id != Uuid::from_u128(2), "it holds {delivery:?}");
            item::parse(&delivery, Place::ONLY, &pauses, &settings)
        })
    });
    let Decision {
        outcomes, commit, ..
    } = decide(&Batch::of(Place::ONLY, items.into()));
    let [Outcome::Applied, Outcome::Dead(reason), Outcome::Applied] = &outcomes[..] else {
        panic!("{outcomes:?}");
    };
    let place = format!("revwatch failed on this event (panic at {}:", file!());
    assert!(
        reason.starts_with(&place) && !reason.contains("po_2"),
        "{reason}"
    );
    is_of_the_others(&commit, 1);
}

#[test]
fn an_event_at_whose_entity_revwatch_panics_is_dead_and_the_entity_stays() {
    let dead = |n| delivery(n, subscription(2));
    // Its event is not decided: the second delivery is tried, too.
    let batch = read(&[payout(1), dead(2), payout(3), dead(4)]);
    let Decision {
        outcomes, commit, ..
    } = decide(&batch);
    let [
        Outcome::Applied,
        Outcome::Dead(reason),
        Outcome::Applied,
        Outcome::Dead(second),
    ] = &outcomes[..]
    else {
        panic!("{outcomes:?}");
    };
    assert!(
        reason.contains("panic at") && reason.contains("level.rs"),
        "{reason}"
    );
    assert_eq!(reason, second);
    is_of_the_others(&commit, 2);
    let keys: Vec<_> = commit.dedupe_keys.iter().map(|it| it.key.clone()).collect();
    let of_delivery = |n| Uuid::from_u128(n).simple().to_string();
    assert_eq!(
        keys,
        [
            "evt_1".into(),
            of_delivery(2),
            "evt_3".into(),
            of_delivery(4)
        ]
    );
}
