//! A history of the application's events and Stripe's, through the worker's plan into the store: whatever the order and
//! the repetition, the model's numbers and the bytes of the same events in order.

use std::collections::BTreeMap;

use fastrand::Rng;
use revwatch_core::entity::{Entity, EntityKey, EntityKind};
use revwatch_core::event::Event;
use revwatch_core::event_settings::EventSettings;
use revwatch_core::kpi::buckets_needed;
use revwatch_core::observe::observe;
use revwatch_core::source::Source;
use revwatch_storage::ports::{Committed, Delivery, StateStore};
use revwatch_worker::batch::{Batch, Place};
use uuid::Uuid;

use crate::contract::StorePlace;
use crate::contract::fixtures::{PARTITIONS, now_s};
use crate::property::application::covered;
use crate::support::history::History;
use crate::support::history::application::AppHistory;

contract!(store: [
    a_shuffled_and_repeated_history_of_the_application_equals_its_model,
]);

const SIZE: usize = 12;

async fn a_shuffled_and_repeated_history_of_the_application_equals_its_model(
    place: &dyn StorePlace,
) {
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let mut rng = Rng::with_seed(seed);
    let application = AppHistory::new(seed, SIZE, 250, now_s());
    let stripes = History::new(seed, SIZE, now_s()).events;
    let of_source =
        |bodies: Vec<String>, source| bodies.into_iter().map(move |body| (source, body));
    let all: Vec<(Source, String)> = of_source(application.bodies(), Source::App)
        .chain(of_source(stripes, Source::Stripe))
        .collect();
    let mut sent = all.clone();
    sent.extend((0..all.len() / 3).map(|_| all[rng.usize(..all.len())].clone()));
    rng.shuffle(&mut sent);
    let store = place.store().await;
    let mut rest = &sent[..];
    while !rest.is_empty() {
        let (some, after) = rest.split_at(rng.usize(1..=rest.len().min(60)));
        apply(&*store, some, &mut rng).await;
        rest = after;
    }
    let counters = store.counters(&buckets_needed(now_s())).await;
    let counted = covered(&counters.expect("counters"));
    assert_eq!(counted, application.expected(), "seed {seed}");
    for (key, entity) in in_order(&all) {
        let stored = store.entity(&key).await.expect("a read");
        let stored = stored.expect("it was written");
        assert_eq!(stored.body, entity.encode(), "seed {seed}: {key}");
    }
}

/// One commit for each partition.
async fn apply(store: &dyn StateStore, events: &[(Source, String)], rng: &mut Rng) {
    let mut batches: BTreeMap<u32, Vec<Delivery>> = BTreeMap::new();
    for (source, body) in events {
        let delivery = delivery(*source, body, rng);
        let batch = batches.entry(delivery.partition).or_default();
        batch.push(delivery);
    }
    for (partition, deliveries) in batches {
        let place = Place {
            partition,
            partitions: PARTITIONS,
        };
        let settings = EventSettings::default();
        let batch = Batch::read(place, &deliveries, &settings);
        let found = store.read(partition, &batch.read_set).await;
        let decision = batch.decide(&found.expect("a read"), now_s() * 1000);
        let commit = decision.expect("readable").commit;
        let committed = store.commit(&commit).await.expect("a commit");
        assert_eq!(committed, Committed::Applied);
    }
}

fn delivery(source: Source, body: &str, rng: &mut Rng) -> Delivery {
    let event = Event::read(source, body.as_bytes()).expect("an event");
    let endpoint = match source {
        Source::App => "app",
        Source::Stripe | Source::Snapshot => "stripe",
    };
    Delivery {
        id: Uuid::from_u128(rng.u128(..)),
        event_id: event.id.clone().into_owned(),
        event_type: event.kind.clone().into_owned(),
        partition: event.partition(PARTITIONS),
        endpoint: endpoint.to_owned(),
        received_ms: now_s() * 1000,
        traceparent: None,
        body: body.to_owned().into(),
    }
}

/// The objects of the application and the accounts, of all events in their order. (Others also get what a worker relays.)
fn in_order(events: &[(Source, String)]) -> BTreeMap<EntityKey, Entity> {
    let mut entities: BTreeMap<EntityKey, Entity> = BTreeMap::new();
    for (source, body) in events {
        let event = Event::read(*source, body.as_bytes()).expect("an event");
        let settings = EventSettings::default();
        for observation in observe(&event, &settings.observe).expect("readable") {
            let key = observation.key.clone();
            if key.kind == EntityKind::Account || key.kind.is_of_app() {
                let entity = entities.entry(key.clone());
                entity
                    .or_insert_with(|| Entity::new(&key))
                    .merge(&observation);
            }
        }
    }
    entities
}
