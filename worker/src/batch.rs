//! Decides purely what a batch of deliveries changes; other modules carry it out.
//!
//! Invariant: the same batch over the same state at the same time gives the same commit, and a
//! delivery is counted once no matter how often the queue redelivers it.

mod item;
mod outcome;

use std::collections::{BTreeMap, HashSet};

use revwatch_core::condition::Condition;
use revwatch_core::counters::{Bucket, Counters};
use revwatch_core::entity::{Entity, EntityKey, Transition, transitions};
use revwatch_core::event::kind_label;
use revwatch_core::event_settings::EventSettings;
use revwatch_core::histogram;
use revwatch_core::mode::LACKS_MODE;
use revwatch_core::pauses::{PauseHistory, Pauses};
use revwatch_storage::ports::{
    AuditEntry, Commit, ConditionChange, DedupeKey, Delivery, EntityWrite, ReadResult, ReadSet,
    StoredEntity,
};

pub use self::item::Place;
use self::item::{Content, Item};
pub use self::outcome::Outcome;
use self::outcome::Seen;

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
}

/// What happens to each entity that the batch may change.
type Changes<'a> = BTreeMap<&'a EntityKey, Change>;

struct Change {
    /// The stored version.
    expected: u64,
    before: Entity,
    after: Entity,
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
        let items: Vec<Item> = deliveries
            .iter()
            .map(|d| item::read(d, place, pauses, settings))
            .collect();
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
    /// to count processing times. Fails if the store holds data that this version cannot decode.
    pub fn decide(&self, found: &ReadResult, now_ms: i64) -> Result<Decision, String> {
        let now_ms = self.timed.then_some(now_ms);
        let mut entities = self.found_entities(found)?;
        let mut commit = Commit {
            partition: self.partition,
            ..Commit::default()
        };
        let mut seen = Seen::default();
        let mut outcomes = Vec::with_capacity(self.items.len());
        for (item, dedupe_keys) in self.items.iter().zip(found.dedupe_keys.chunks(2)) {
            let other_realm = other_realm(item, &entities);
            let outcome = seen.outcome(item, other_realm, dedupe_keys[0], dedupe_keys[1]);
            if let (Outcome::Applied | Outcome::Ignored, Ok(content)) = (&outcome, &item.content) {
                for observation in &content.observations {
                    if let Some(change) = entities.get_mut(&observation.key) {
                        change.after.merge(observation);
                    }
                }
                count_times(&mut commit.counters, item, content, &outcome, now_ms);
            }
            count(&mut commit, item, &outcome);
            outcomes.push(outcome);
        }
        let transitions = add_changes(&mut commit, entities);
        let created_s = |item: &Item| item.content.as_ref().ok().map(|content| content.created_s);
        Ok(Decision {
            commit,
            outcomes,
            created_s: self.items.iter().map(created_s).collect(),
            transitions,
        })
    }

    /// The entities of the read set, as they are stored.
    fn found_entities(&self, found: &ReadResult) -> Result<Changes<'_>, String> {
        let stored = self.read_set.entities.iter().zip(&found.entities);
        let changes = stored.map(|(key, stored)| Ok((key, Change::of(key, stored.as_ref())?)));
        changes.collect()
    }
}

impl Change {
    /// The entity as it is stored, without a change so far.
    fn of(key: &EntityKey, stored: Option<&StoredEntity>) -> Result<Self, String> {
        let (expected, before) = match stored {
            Some(StoredEntity { version, body }) => (*version, Entity::decode(key, body)?),
            None => (0, Entity::new(key)),
        };
        Ok(Self {
            expected,
            after: before.clone(),
            before,
        })
    }
}

impl Decision {
    /// Whether there is nothing to commit because every delivery was processed before.
    pub fn is_empty(&self) -> bool {
        self.commit.dedupe_keys.is_empty()
    }
}

/// Why a delivery cannot be applied because an object of its event is of another realm than its endpoint;
/// `None`: it can. The realm of an object is that of the first delivery about it.
fn other_realm(item: &Item, entities: &Changes<'_>) -> Option<String> {
    let content = item.content.as_ref().ok()?;
    content.observations.iter().find_map(|observation| {
        let known = entities.get(&observation.key)?.after.realm()?;
        (*known != item.realm).then(|| {
            format!(
                "came to an endpoint of realm {}, but {} is of realm {known}: send each Stripe account's events to \
                 endpoints of one realm; if the realm of an endpoint was changed, run `revwatch rebuild --yes`",
                item.realm, observation.key
            )
        })
    })
}

/// Notes that a delivery was processed, unless it is paused or was processed before.
fn count(commit: &mut Commit, item: &Item, outcome: &Outcome) {
    let Some(counter) = outcome.counter() else {
        return;
    };
    let key = if outcome.decides_event() {
        item.event_id.clone()
    } else {
        item.delivery_id.simple().to_string()
    };
    commit.high_watermark_ms = commit.high_watermark_ms.max(item.received_ms);
    commit.dedupe_keys.push(DedupeKey {
        day: item.day,
        key,
        delivery: item.delivery_id,
    });
    commit
        .counters
        .add(Bucket::Current, &["events", counter], 1);
    if item.lacks_mode && *outcome == Outcome::Applied {
        let lacks_mode = &["events", LACKS_MODE];
        commit.counters.add(Bucket::Current, lacks_mode, 1);
    }
}

/// Adds the entities that changed, and what follows from that; returns their transitions.
fn add_changes(commit: &mut Commit, entities: Changes<'_>) -> Vec<(EntityKey, Transition)> {
    let mut changed = Vec::new();
    for (key, change) in entities {
        let Change {
            expected,
            before,
            after,
        } = change;
        if before == after {
            continue;
        }
        commit.entities.push(EntityWrite {
            key: key.clone(),
            expected,
            body: Some(after.encode()),
        });
        commit
            .counters
            .add_difference(&before.tally(), &after.tally());
        commit
            .conditions
            .extend(condition_changes(&before.conditions(), after.conditions()));
        let of_entity = transitions(&before, &after).into_iter();
        changed.extend(of_entity.map(|transition| (key.clone(), transition)));
    }
    let entry = |(subject, transition): &(EntityKey, Transition)| AuditEntry {
        at_s: transition.at_s,
        subject: subject.clone(),
        event_id: transition.event_id.to_string(),
        what: match transition.expected {
            true => transition.what.clone(),
            false => format!("{} (unexpected)", transition.what),
        },
    };
    commit.audit.extend(changed.iter().map(entry));
    changed
}

/// Counts an event in the hour of its `created` time (the newest such hour shows how current the
/// events are). For an applied event, also counts the processing time in milliseconds, if known, in
/// the hour of receipt.
fn count_times(
    counters: &mut Counters,
    item: &Item,
    content: &Content,
    outcome: &Outcome,
    now_ms: Option<i64>,
) {
    counters.add(
        Bucket::hour_of(content.created_s),
        &["events", "created"],
        1,
    );
    if let Some(now_ms) = now_ms.filter(|_| *outcome == Outcome::Applied) {
        let took =
            histogram::processing_bound_ms(now_ms.saturating_sub(item.received_ms)).to_string();
        counters.add(
            Bucket::hour_of(item.received_ms.div_euclid(1000)),
            &["events", "processing", &took],
            1,
        );
    }
}

/// The conditions that opened, changed or closed between two versions of one entity.
fn condition_changes(before: &[Condition], after: Vec<Condition>) -> Vec<ConditionChange> {
    let closed = before
        .iter()
        .filter(|b| after.iter().all(|a| a.key != b.key));
    let mut changes: Vec<_> = closed
        .map(|b| ConditionChange::Close(b.key.clone()))
        .collect();
    changes.extend(
        after
            .into_iter()
            .filter(|a| !before.contains(a))
            .map(ConditionChange::Open),
    );
    changes
}

/// The metric label of a delivery's type.
pub fn label(delivery: &Delivery) -> &str {
    kind_label(&delivery.event_type)
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
