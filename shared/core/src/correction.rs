//! What entities add up to, and what must be added to stored aggregates so that they agree with it.

use std::collections::BTreeMap;

use crate::bucket::Buckets;
use crate::condition::{Condition, ConditionKey};
use crate::counters::Counters;
use crate::entity::Entity;
use crate::recount::{StoredAggregates, is_of_entities};

/// The counters and conditions of all added entities. Each is added once.
#[derive(Debug, Default)]
pub struct Sums {
    counters: Counters,
    conditions: BTreeMap<ConditionKey, Condition>,
}

/// What stored aggregates lack.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Correction {
    /// To be added.
    pub counters: Counters,
    /// Conditions that are not stored, or with other details.
    pub opened: Vec<Condition>,
    /// Stored conditions that no entity has.
    pub closed: Vec<ConditionKey>,
}

impl Sums {
    /// Adds what one entity contributes.
    pub fn add(&mut self, entity: &Entity) {
        self.counters.merge(entity.contributions(), 1);
        for condition in entity.conditions() {
            self.conditions.insert(condition.key.clone(), condition);
        }
    }

    /// How to correct aggregates, of which these buckets are stored. Counters that are no sums over entities stay.
    pub fn correction(&self, stored: &StoredAggregates, buckets: &Buckets) -> Correction {
        let mut counters = Counters::default();
        for (all, sign) in [(&self.counters, 1), (&stored.counters, -1)] {
            for (bucket, name, value) in all.iter() {
                if buckets.contains(bucket) && is_of_entities(name) {
                    counters.add_named(bucket, name.to_owned(), value.saturating_mul(sign));
                }
            }
        }
        let held: BTreeMap<_, _> = stored.conditions.iter().map(|it| (&it.key, it)).collect();
        let is_held = |condition: &&Condition| held.get(&condition.key) == Some(condition);
        let is_left_over = |key: &&ConditionKey| !self.conditions.contains_key(key);
        let opened = self.conditions.values().filter(|it| !is_held(it));
        let closed = held.keys().copied().filter(is_left_over);
        Correction {
            counters,
            opened: opened.cloned().collect(),
            closed: closed.cloned().collect(),
        }
    }
}

impl Correction {
    /// Whether the aggregates agree.
    pub fn is_empty(&self) -> bool {
        self.counters.is_empty() && self.opened.is_empty() && self.closed.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::counters::Bucket;
    use crate::event::Event;
    use crate::observe::{ObserveSettings, observe};

    fn invoice(id: &str, status: &str) -> Entity {
        let body = json!({"id": "evt_1", "type": "invoice.payment_failed", "created": 7_200_000, "data": {"object": {
            "id": id, "object": "invoice", "status": status, "currency": "usd", "amount_due": 500, "amount_paid": 0, "attempt_count": 1}}});
        let body = body.to_string();
        let event = Event::parse(body.as_bytes()).expect("an event");
        let observed = observe(&event, &ObserveSettings::default()).expect("readable");
        let observed = observed.last().expect("an observation");
        let mut entity = Entity::new(&observed.key);
        entity.merge(observed);
        entity
    }

    #[test]
    fn corrected_aggregates_agree_and_keep_what_is_no_sum_over_entities() {
        let mut sums = Sums::default();
        let entities = [
            invoice("in_1", "open"),
            invoice("in_2", "open"),
            invoice("in_3", "paid"),
        ];
        entities.iter().for_each(|entity| sums.add(entity));
        let mut stored = StoredAggregates::default();
        stored
            .counters
            .add(Bucket::Current, &["events", "applied"], 7);
        stored
            .counters
            .add(Bucket::Current, &["invoices", "gone"], 2);
        stored
            .counters
            .add(Bucket::Current, &["invoices", "open"], 5);
        stored.counters.add(Bucket::Hour(9), &["expired"], 3);
        let mut other = entities[0].conditions().remove(0);
        other.detail = None;
        stored.conditions = vec![other, invoice("in_9", "open").conditions().remove(0)];

        let buckets = Buckets::of_hours(10, u32::MAX);
        let correction = sums.correction(&stored, &buckets);
        assert_eq!(correction.opened.len(), 2);
        assert_eq!(correction.closed.len(), 1);
        stored.counters.merge(correction.counters, 1);
        stored
            .conditions
            .retain(|it| !correction.closed.contains(&it.key));
        for opened in correction.opened {
            stored.conditions.retain(|it| it.key != opened.key);
            stored.conditions.push(opened);
        }
        assert!(sums.correction(&stored, &buckets).is_empty());
        let current = |parts: &[&str]| stored.counters.get(Bucket::Current, parts);
        assert_eq!(current(&["events", "applied"]), 7);
        assert_eq!(current(&["invoices", "open"]), 2);
        assert_eq!(current(&["invoices", "gone"]), 0);
        assert_eq!(stored.counters.get(Bucket::Hour(9), &["expired"]), 3);
    }
}
