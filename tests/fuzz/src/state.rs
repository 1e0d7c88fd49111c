//! The committed state and what is read of it.

use std::collections::{BTreeMap, BTreeSet};

use revwatch_alerting::engine::{CounterReadReason, HistoryRead, ReadSet, ScanReason};
use revwatch_core::condition::Condition;
use revwatch_core::counters::{Counters, is_beyond};
use revwatch_core::entity::{Entity, EntityKey};
use revwatch_core::event_settings::EventSettings;
use revwatch_core::kpi::{Kpis, buckets_needed};
use revwatch_core::view;
use revwatch_storage::ports::Delivery;
use revwatch_worker::batch::{Outcome, recompute};

use crate::NOW_S;
use crate::simulation::memory_store::MemoryStore;

/// What a worker makes of deliveries.
pub(crate) struct State {
    store: MemoryStore,
    keys: BTreeSet<EntityKey>,
}

/// What is stored.
pub(crate) struct Seen {
    pub(crate) entities: BTreeMap<EntityKey, Entity>,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) counters: Counters,
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
    /// The outcome of each.
    pub(crate) fn apply(&mut self, deliveries: &[Delivery]) -> Vec<Outcome> {
        let outcomes = self.store.apply(deliveries, NOW_S * 1000);
        let outcomes = outcomes.expect("what was committed can be read");
        for outcome in &outcomes {
            // A panic at one event makes a dead letter of it.
            let fault = matches!(outcome, Outcome::Dead(reason) if reason.contains("panic at"));
            assert!(!fault, "{outcome:?}");
        }
        self.keys.extend(self.store.take_written().entities);
        outcomes
    }

    pub(crate) fn seen(&self) -> Seen {
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

/// Every counter, with its name.
pub(crate) fn of_state(counters: &Counters) -> Vec<(String, i64)> {
    let counters = counters.iter();
    counters
        .map(|(bucket, name, value)| (format!("{bucket:?} {name}"), value))
        .collect()
}

impl Seen {
    /// The metrics, all entities as rows and in detail, and the sums computed again.
    pub(crate) fn show(&self) {
        let kpis = Kpis::compute(&self.counters, NOW_S);
        let _ = kpis.json().to_string();
        let _ = view::kpi::rows(&kpis);
        for (key, entity) in &self.entities {
            let _ = view::entity::row(entity);
            let _ = view::entity::describe(key, entity).to_string();
        }
        let expected = recompute(self.entities.values());
        let of_entities = |counters: &Counters| -> BTreeMap<_, _> {
            let all = counters
                .iter()
                .filter(|(_, name, _)| !name.starts_with("events|"));
            let all = all.map(|(bucket, name, value)| ((bucket, name.to_owned()), value));
            // A sum that was too large at some time is not known, and the same sum of other parts may be.
            all.filter(|(_, value)| !is_beyond(*value)).collect()
        };
        let (stored, expected) = (of_entities(&self.counters), of_entities(&expected));
        for (name, value) in &stored {
            let known = expected.get(name).copied();
            assert_eq!(
                Some(*value),
                known,
                "{name:?} is not the sum of its entities"
            );
        }
    }
}
