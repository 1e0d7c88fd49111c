//! What a batch changes: its deliveries one after another, then the entities that they changed.

use std::collections::{BTreeMap, BTreeSet};

use revwatch_core::condition::Condition;
use revwatch_core::entity::{Entity, EntityKey, Transition, transitions};
use revwatch_core::relay::Relay;
use revwatch_storage::ports::{
    AuditEntry, Commit, ConditionChange, DedupeKey, EntityWrite, ReadResult, StoredEntity,
};
use uuid::Uuid;

use super::event_counts::EventCounts;
use super::item::{Content, Item};
use super::outcome::{Outcome, Seen};
use super::{Batch, Decision, Relays, stored_entity};
use crate::guarded::on_event;

/// What happens to each entity that the batch may change. They are large, and the map is sorted.
pub(super) type Changes<'a> = BTreeMap<&'a EntityKey, Box<Change>>;

#[derive(Clone)]
pub(super) struct Change {
    /// The stored version.
    expected: u64,
    before: Entity,
    after: Entity,
}

/// What follows from the changes besides the commit.
struct Changed {
    transitions: Vec<(EntityKey, Transition)>,
    relays: Relays,
}

/// The part of a decision that is made so far.
pub(super) struct Plan<'a> {
    commit: Commit,
    counts: EventCounts,
    entities: Changes<'a>,
    seen: Seen<'a>,
    /// Of subscriptions that were changed by deliveries which the queue has redelivered.
    unsure_relays: BTreeSet<&'a EntityKey>,
    outcomes: Vec<Outcome>,
    created_s: Vec<Option<i64>>,
}

impl<'a> Plan<'a> {
    /// Without a delivery so far.
    pub(super) fn of(batch: &'a Batch, found: &ReadResult) -> Result<Self, String> {
        let stored = batch.read_set.entities.iter().zip(&found.entities);
        let entities = stored.map(|(key, stored)| {
            let change = Change::of(key, stored.as_ref())?;
            Ok((key, Box::new(change)))
        });
        Ok(Self {
            commit: Commit {
                partition: batch.partition,
                ..Commit::default()
            },
            counts: EventCounts::default(),
            entities: entities.collect::<Result<_, String>>()?,
            seen: Seen::default(),
            unsure_relays: BTreeSet::new(),
            outcomes: Vec::with_capacity(batch.items.len()),
            created_s: Vec::with_capacity(batch.items.len()),
        })
    }

    /// Decides about the next delivery, given the deliveries that stored the dedupe keys of its event and of itself.
    pub(super) fn add(
        &mut self,
        item: &'a Item,
        (by_event, by_delivery): (Option<Uuid>, Option<Uuid>),
        now_ms: Option<i64>,
        fault: impl Fn(&Content, &Changes<'_>) -> Option<String>,
    ) {
        let other_realm = other_realm(item, &self.entities);
        let mut outcome = self.seen.outcome(item, other_realm, by_event, by_delivery);
        match (&outcome, &item.content) {
            (Outcome::Applied | Outcome::Ignored, Ok(content)) => {
                match fault(content, &self.entities) {
                    Some(reason) => outcome = Outcome::Dead(reason),
                    None => {
                        merge(content, &mut self.entities);
                        self.counts.add_times(item, content, &outcome, now_ms);
                    }
                }
            }
            // The worker that committed it may have stopped before it wrote the relay.
            (Outcome::Redelivered, Ok(content)) => {
                let keys = content.observations.iter().map(|it| &it.key);
                let that_relay = keys.filter(|key| Relay::FROM.contains(&key.kind));
                self.unsure_relays.extend(that_relay);
            }
            _ => {}
        }
        self.counts.add(item, &outcome);
        note(&mut self.commit, item, &outcome);
        self.seen.add(item, &outcome);
        self.outcomes.push(outcome);
        let content = item.content.as_ref().ok();
        self.created_s
            .push(content.map(|content| content.created_s));
    }

    /// Adds what the changed entities change.
    pub(super) fn finish(mut self) -> Decision {
        self.counts.add_to(&mut self.commit.counters);
        let Changed {
            transitions,
            relays,
        } = add_changes(&mut self.commit, self.entities, &self.unsure_relays);
        Decision {
            commit: self.commit,
            outcomes: self.outcomes,
            created_s: self.created_s,
            transitions,
            relays,
        }
    }
}

impl Change {
    /// The entity as it is stored, without a change so far.
    fn of(key: &EntityKey, stored: Option<&StoredEntity>) -> Result<Self, String> {
        let (expected, before) = stored_entity(key, stored)?;
        Ok(Self {
            expected,
            after: before.clone(),
            before,
        })
    }
}

/// Why a delivery cannot be applied to the entities as they are: revwatch panics. The entities stay so.
pub(super) fn fault(content: &Content, entities: &Changes<'_>) -> Option<String> {
    let keys = content
        .observations
        .iter()
        .map(|observation| &observation.key);
    let own = keys.filter_map(|key| entities.get_key_value(key));
    let mut own: Changes<'_> = own.map(|(key, change)| (*key, change.clone())).collect();
    let applied = on_event(|| {
        merge(content, &mut own);
        add_changes(&mut Commit::default(), own, &BTreeSet::new())
    });
    applied.err()
}

fn merge(content: &Content, entities: &mut Changes<'_>) {
    for observation in &content.observations {
        if let Some(change) = entities.get_mut(&observation.key) {
            change.after.merge(observation);
        }
    }
}

/// Why a delivery cannot be applied because an object of its event is of another realm than its endpoint;
/// `None`: it can. The realm of an object is that of the first delivery about it.
fn other_realm(item: &Item, entities: &Changes<'_>) -> Option<String> {
    let content = item.content.as_ref().ok()?;
    let mut saying = content.observations.iter().filter(|it| it.says_realm());
    saying.find_map(|observation| {
        let known = entities.get(&observation.key)?.after.realm()?;
        (*known != observation.realm).then(|| {
            format!(
                "came to an endpoint of realm {}, but {} is of realm {known}: send each Stripe account's events to \
                 endpoints of one realm; if the realm of an endpoint was changed, run `revwatch rebuild --yes`",
                observation.realm, observation.key
            )
        })
    })
}

/// Notes that a delivery was processed, unless it is paused or was processed before.
fn note(commit: &mut Commit, item: &Item, outcome: &Outcome) {
    if outcome.counter().is_none() {
        return;
    }
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
}

/// Adds the entities that changed, and what follows from that.
fn add_changes(
    commit: &mut Commit,
    entities: Changes<'_>,
    unsure_relays: &BTreeSet<&EntityKey>,
) -> Changed {
    let (mut changed, mut relays) = (Vec::new(), Relays::default());
    for (key, change) in entities {
        let Change {
            expected,
            before,
            after,
        } = *change;
        relays.add(&before, &after, unsure_relays.contains(key));
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
    Changed {
        transitions: changed,
        relays,
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

#[cfg(test)]
mod tests;
