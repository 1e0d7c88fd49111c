//! Events, from their JSON through to the committed state and what is read of it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use revwatch_alerting::engine::{CounterReadReason, HistoryRead, ReadSet, ScanReason};
use revwatch_core::app_event::AppEvent;
use revwatch_core::condition::Condition;
use revwatch_core::counters::{Counters, is_beyond};
use revwatch_core::entity::{Entity, EntityKey};
use revwatch_core::event::Event;
use revwatch_core::event_settings::EventSettings;
use revwatch_core::kpi::{Kpis, buckets_needed};
use revwatch_core::source::Source;
use revwatch_core::view;
use revwatch_storage::ports::Delivery;
use revwatch_worker::batch::{Outcome, recompute};
use uuid::Uuid;

use crate::NOW_S;
use crate::simulation::memory_store::MemoryStore;

/// One event per line, of different ids: Stripe's, or of the application.
///
/// Together and in this order, or one by one from the last to the first: the state is the same. Its sums are those of
/// the entities. Everything that shows it can do so.
pub fn events(data: &[u8]) {
    let deliveries = deliveries(data);
    let mut together = State::default();
    together.apply(&deliveries);
    let mut reversed = State::default();
    for delivery in deliveries.iter().rev() {
        reversed.apply(std::slice::from_ref(delivery));
    }
    let (seen, other) = (together.seen(), reversed.seen());
    assert_eq!(
        seen.entities, other.entities,
        "another order, other entities"
    );
    assert_eq!(
        seen.conditions, other.conditions,
        "another order, other conditions"
    );
    assert_eq!(
        of_state(&seen.counters),
        of_state(&other.counters),
        "another order, other sums"
    );
    show(&seen);
}

/// More are only slower.
const MAX_EVENTS: usize = 64;

/// An event that comes again with other content has the content that came first, so each comes one time.
fn deliveries(data: &[u8]) -> Vec<Delivery> {
    let mut ids = BTreeSet::new();
    let lines = data
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty());
    let deliveries = lines
        .take(MAX_EVENTS)
        .zip(1..)
        .filter_map(|(body, number)| {
            let source = match AppEvent::parse(body) {
                Ok(_) => Source::App,
                Err(_) => Source::Stripe,
            };
            let (event_id, event_type) = match Event::read_head(source, body) {
                Ok(event) => (event.id.into_owned(), event.kind.into_owned()),
                Err(_) => (format!("unreadable_{number}"), "unreadable".to_owned()),
            };
            ids.insert(event_id.clone()).then(|| Delivery {
                id: Uuid::from_u128(number),
                event_id,
                event_type,
                partition: 0,
                endpoint: "stripe".to_owned(),
                received_ms: NOW_S * 1000,
                traceparent: None,
                body: Bytes::copy_from_slice(body),
            })
        });
    deliveries.collect()
}

struct State {
    store: MemoryStore,
    keys: BTreeSet<EntityKey>,
}

/// What is stored.
struct Seen {
    entities: BTreeMap<EntityKey, Entity>,
    conditions: Vec<Condition>,
    counters: Counters,
}

impl Default for State {
    fn default() -> Self {
        Self {
            store: MemoryStore::new(EventSettings::default()),
            keys: BTreeSet::new(),
        }
    }
}

impl State {
    fn apply(&mut self, deliveries: &[Delivery]) {
        let outcomes = self.store.apply(deliveries, NOW_S * 1000);
        for outcome in outcomes.expect("what was committed can be read") {
            // A panic at one event makes a dead letter of it.
            let fault = matches!(&outcome, Outcome::Dead(reason) if reason.contains("panic at"));
            assert!(!fault, "{outcome:?}");
        }
        self.keys.extend(self.store.take_written().entities);
    }

    fn seen(&self) -> Seen {
        let read = self.store.read(&ReadSet {
            counters: Some(HistoryRead {
                buckets: buckets_needed(NOW_S),
                reason: CounterReadReason::NeverRead,
            }),
            conditions: Some(ScanReason::RulesChanged),
            ..ReadSet::default()
        });
        let entity = |key: &EntityKey| {
            let entity = self
                .store
                .entity(key)
                .expect("what was written can be read");
            (key.clone(), entity)
        };
        let entities = self.keys.iter().map(entity);
        Seen {
            entities: entities
                .filter(|(_, entity)| says_anything(entity))
                .collect(),
            conditions: read.conditions.expect("requested"),
            counters: read.counters.expect("requested").counters.into_owned(),
        }
    }
}

/// A customer whom a subscription named before it named another may be left without any content.
fn says_anything(entity: &Entity) -> bool {
    let is_counted = !entity.contributions().is_empty();
    is_counted || view::entity::row(entity).is_some() || !entity.conditions().is_empty()
}

fn of_state(counters: &Counters) -> Vec<(String, i64)> {
    let counters = counters.iter();
    counters
        .map(|(bucket, name, value)| (format!("{bucket:?} {name}"), value))
        .collect()
}

/// The metrics, all entities as rows and in detail, and the sums computed again.
fn show(seen: &Seen) {
    let kpis = Kpis::compute(&seen.counters, NOW_S);
    let _ = kpis.json().to_string();
    let _ = view::kpi::rows(&kpis);
    for (key, entity) in &seen.entities {
        let _ = view::entity::row(entity);
        let _ = view::entity::describe(key, entity).to_string();
    }
    let expected = recompute(seen.entities.values());
    let of_entities = |counters: &Counters| -> BTreeMap<_, _> {
        let all = counters
            .iter()
            .filter(|(_, name, _)| !name.starts_with("events|"));
        let all = all.map(|(bucket, name, value)| ((bucket, name.to_owned()), value));
        // A sum that was too large at some time is not known, and the same sum of other parts may be.
        all.filter(|(_, value)| !is_beyond(*value)).collect()
    };
    let (stored, expected) = (of_entities(&seen.counters), of_entities(&expected));
    for (name, value) in &stored {
        let known = expected.get(name).copied();
        assert_eq!(
            Some(*value),
            known,
            "{name:?} is not the sum of its entities"
        );
    }
}
