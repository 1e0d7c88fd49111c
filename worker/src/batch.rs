//! Decides purely what a batch of deliveries changes; other modules carry it out.
//!
//! Invariant: the same batch over the same state at the same time gives the same commit, and a
//! delivery is counted once no matter how often the queue redelivers it.

// What a sender sends must neither panic nor wrap; see `revwatch_core`.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

mod event_counts;
mod item;
mod outcome;
mod plan;
mod relays;

use std::collections::HashSet;

use revwatch_core::bucket::first_minute_kept;
use revwatch_core::counters::Counters;
use revwatch_core::entity::{Entity, EntityKey, Observation, Transition};
use revwatch_core::event_settings::EventSettings;
use revwatch_core::pauses::{PauseHistory, Pauses};
use revwatch_runtime::panics::catch;
use revwatch_storage::ports::{Commit, Delivery, ReadResult, ReadSet, StoredEntity};

pub use self::item::Place;
use self::item::{Content, Item};
pub use self::outcome::Outcome;
use self::plan::{Changes, Plan};
pub use self::relays::{Foreign, RelayBatch, Relays};
use crate::guarded::on_entity;

/// A parsed batch that has not yet been compared with the stored state.
#[derive(Debug)]
pub struct Batch {
    partition: u32,
    items: Vec<Item>,
    /// Whether processing times are counted.
    timed: bool,
    /// What must be read from the store before [`Batch::decide`].
    pub read_set: ReadSet,
}

/// A decided batch.
#[derive(Debug)]
pub struct Decision {
    /// The commit for the store.
    pub commit: Commit,
    /// In the order of the deliveries.
    pub outcomes: Vec<Outcome>,
    /// When the events were created (Unix seconds), in the same order; `None` if the event cannot
    /// be parsed.
    pub created_s: Vec<Option<i64>>,
    /// State transitions, for the log.
    pub transitions: Vec<(EntityKey, Transition)>,
    /// What customers get after the commit and before the acknowledgement.
    pub relays: Relays,
}

/// What became of a delivery, as far as the store knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trace {
    /// It was processed, or it is not for this partition to say.
    Processed,
    /// A pause holds it back.
    HeldBack,
    /// Nothing is known of it.
    Missing,
}

impl Batch {
    /// Parses the deliveries of one partition.
    pub fn read(place: Place, deliveries: &[Delivery], settings: &EventSettings) -> Self {
        let pauses = Pauses::default().into();
        Self::read_under(&pauses, place, deliveries, settings)
    }

    /// Parses the deliveries of one partition, some of which may be paused.
    pub fn read_under(
        pauses: &PauseHistory,
        place: Place,
        deliveries: &[Delivery],
        settings: &EventSettings,
    ) -> Self {
        let items = deliveries.iter();
        let items = items.map(|d| item::read(d, place, pauses, settings));
        Self::of(place, items.collect())
    }

    fn of(place: Place, items: Vec<Item>) -> Self {
        let mut read_set = ReadSet::default();
        let mut seen: HashSet<&EntityKey> = HashSet::new();
        for item in &items {
            read_set.dedupe_keys.push((item.day, item.event_id.clone()));
            read_set
                .dedupe_keys
                .push((item.day, item.delivery_id.simple().to_string()));
            let here = item.content.iter().filter(|_| item.elsewhere.is_none());
            for observation in here.flat_map(|c| &c.observations) {
                if seen.insert(&observation.key) {
                    read_set.entities.push(observation.key.clone());
                }
            }
        }
        Self {
            partition: place.partition,
            items,
            timed: true,
            read_set,
        }
    }

    /// For deliveries from the archive: how long they originally took is unknown, so it is not
    /// counted.
    pub fn untimed(mut self) -> Self {
        self.timed = false;
        self
    }

    /// Decides, given the store's answer to `read_set`. `now_ms` (Unix milliseconds) is used only
    /// to count processing times, and to leave out minutes that no store keeps. Fails if the store holds data that this
    /// version cannot decode.
    ///
    /// If revwatch panics, it is a bug at one event. That delivery is dead, and the others do not wait for it.
    pub fn decide(&self, found: &ReadResult, now_ms: i64) -> Result<Decision, String> {
        let timed_ms = self.timed.then_some(now_ms);
        let mut decision = catch(|| self.plan(found, timed_ms, |_, _| None))
            .unwrap_or_else(|_| self.plan(found, timed_ms, plan::fault))?;
        let kept_ms = timed_ms.map_or(now_ms, |now_ms| self.received_by(now_ms));
        let first_minute = first_minute_kept(kept_ms.div_euclid(1000));
        let counters = &mut decision.commit.counters;
        counters.forget_minutes_before(first_minute);
        Ok(decision)
    }

    /// When its last delivery was received: Stripe signed that time. A worker's clock that is ahead must not drop the
    /// minutes of what was just received.
    fn received_by(&self, now_ms: i64) -> i64 {
        let received = self.items.iter().map(|item| item.received_ms);
        received.max().unwrap_or(now_ms).min(now_ms)
    }

    /// What became of each delivery, given the store's answer to the dedupe keys of `read_set`. Of an event that was
    /// created before `first_day` nothing is known: its dedupe keys may have ended.
    pub(crate) fn traces(&self, found: &ReadResult, first_day: u32) -> impl Iterator<Item = Trace> {
        let keys = found.dedupe_keys.chunks(2);
        self.items.iter().zip(keys).map(move |(item, keys)| {
            if item.elsewhere.is_some() || item.day < first_day || keys.iter().any(Option::is_some)
            {
                Trace::Processed
            } else if item.pause_reason.is_some() {
                Trace::HeldBack
            } else {
                Trace::Missing
            }
        })
    }

    /// `fault` says why a delivery that should change entities is dead nevertheless.
    fn plan(
        &self,
        found: &ReadResult,
        now_ms: Option<i64>,
        fault: impl Fn(&Content, &Changes<'_>) -> Option<String>,
    ) -> Result<Decision, String> {
        let mut plan = Plan::of(self, found)?;
        for (item, dedupe_keys) in self.items.iter().zip(found.dedupe_keys.chunks(2)) {
            plan.add(item, (dedupe_keys[0], dedupe_keys[1]), now_ms, &fault);
        }
        Ok(plan.finish())
    }
}

impl Decision {
    /// Whether there is nothing to commit because every delivery was processed before.
    pub fn is_empty(&self) -> bool {
        self.commit.dedupe_keys.is_empty()
    }
}

/// An entity as it is stored, and its version.
fn stored_entity(key: &EntityKey, stored: Option<&StoredEntity>) -> Result<(u64, Entity), String> {
    match stored {
        Some(StoredEntity { version, body }) => {
            let decoded = on_entity(key, || Entity::decode(key, body));
            Ok((*version, decoded??))
        }
        None => Ok((0, Entity::new(key))),
    }
}

/// What those of the deliveries that can be applied say, in their order.
pub fn observations(
    place: Place,
    deliveries: &[Delivery],
    settings: &EventSettings,
) -> Vec<Observation> {
    let items = Batch::read(place, deliveries, settings).items.into_iter();
    let contents = items.filter_map(|item| item.content.ok());
    contents.flat_map(|content| content.observations).collect()
}

/// What one delivery says, or why it can never be applied, whatever is stored.
pub fn observed(
    place: Place,
    delivery: &Delivery,
    settings: &EventSettings,
) -> Result<Vec<Observation>, String> {
    let pauses = Pauses::default().into();
    let item = item::read(delivery, place, &pauses, settings);
    item.content.map(|content| content.observations)
}

/// The metric label of a delivery's type.
pub fn label(delivery: &Delivery) -> &str {
    delivery.type_label()
}

/// The sum of the contributions of `entities`: the expected values of the current aggregates.
pub fn recompute<'a>(entities: impl IntoIterator<Item = &'a Entity>) -> Counters {
    let mut total = Counters::default();
    for entity in entities {
        total.merge(entity.contributions(), 1);
    }
    total
}

#[cfg(test)]
mod tests;
