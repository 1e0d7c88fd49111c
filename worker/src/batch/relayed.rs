//! What the customers of changed subscriptions have to hear: see [`revwatch_core::relay`].

use std::collections::BTreeMap;

use bytes::Bytes;
use revwatch_core::entity::{Entity, EntityKey, Observation};
use revwatch_core::event_settings::REFRESH;
use revwatch_core::relay::{RELAY_TYPE, Relay};
use revwatch_storage::ports::{Delivery, ReadSet, StoredEntity};
use uuid::Uuid;

use crate::guarded::on_entity;

/// A relay, to be published after the commit.
#[derive(Debug, Clone)]
pub struct Relayed {
    /// Which subscription and customer.
    pub relay: Relay,
    /// Unix seconds of the newest state of the subscription.
    created_s: i64,
    /// What the subscription says.
    content: Observation,
    /// The customer does not have it: this batch changes it. Otherwise it may have it.
    pub is_sure: bool,
}

/// Stored entities of any partition.
pub type Foreign = BTreeMap<EntityKey, Option<StoredEntity>>;

impl Relayed {
    /// What a change of an entity relays. `is_unsure`: what it says now, also if that is no change.
    pub(super) fn of(before: &Entity, after: &Entity, is_unsure: bool) -> Vec<Self> {
        let relay = |is_sure| {
            move |relay: Relay| Self {
                content: relay.observe(Some(after)),
                created_s: after.newest_s().unwrap_or(0),
                relay,
                is_sure,
            }
        };
        let mut relays: Vec<_> = match before == after {
            true => Vec::new(),
            false => {
                let changed = Relay::between(before, after).into_iter();
                changed.map(relay(true)).collect()
            }
        };
        if is_unsure && relays.is_empty() {
            relays.extend(Relay::of(after).map(relay(false)));
        }
        relays
    }

    /// The event in the partition of the customer, of `partitions`. `id` is new.
    pub fn delivery(&self, id: Uuid, partitions: u32, now_ms: i64) -> Delivery {
        let (event_id, body) = self.relay.event(self.created_s);
        Delivery {
            id,
            event_id,
            event_type: RELAY_TYPE.to_owned(),
            partition: self.relay.customer_partition(partitions),
            endpoint: REFRESH.to_owned(),
            received_ms: now_ms,
            traceparent: None,
            body: Bytes::from(body),
        }
    }

    /// Whether the customer, as it is stored, has it.
    pub fn is_known(&self, customers: &Foreign) -> Result<bool, String> {
        let key = &self.content.key;
        let before = read(key, customers)?.unwrap_or_else(|| Entity::new(key));
        let mut after = before.clone();
        on_entity(key, || after.merge(&self.content))?;
        Ok(after == before)
    }
}

/// What to read of each partition.
pub fn read_sets(keys: impl IntoIterator<Item = (u32, EntityKey)>) -> BTreeMap<u32, ReadSet> {
    let mut read_sets = BTreeMap::<u32, ReadSet>::new();
    for (partition, key) in keys {
        let entities = &mut read_sets.entry(partition).or_default().entities;
        if !entities.contains(&key) {
            entities.push(key);
        }
    }
    read_sets
}

/// Decodes one of them.
pub(super) fn read(key: &EntityKey, foreign: &Foreign) -> Result<Option<Entity>, String> {
    let Some(stored) = foreign.get(key).and_then(Option::as_ref) else {
        return Ok(None);
    };
    on_entity(key, || Entity::decode(key, &stored.body))?.map(Some)
}

#[cfg(test)]
mod tests {
    use revwatch_core::entity::{Entity, EntityKey, EntityKind};
    use revwatch_core::event_settings::EventSettings;
    use revwatch_storage::ports::ReadResult;
    use serde_json::json;

    use super::*;
    use crate::batch::{Batch, Decision, Outcome, Place};

    fn subscription(n: u8, status: &str) -> Delivery {
        let body = json!({"id": format!("evt_{n}"), "object": "event", "created": 100 + i64::from(n),
            "type": "customer.subscription.updated", "data": {"object": {"id": "sub_1", "status": status,
            "customer": "cus_1", "currency": "usd", "items": {"data": [{"quantity": 1, "price":
            {"unit_amount": 1000, "recurring": {"interval": "month", "interval_count": 1}}}]}}}})
        .to_string();
        Delivery {
            id: Uuid::from_u128(n.into()),
            event_id: format!("evt_{n}"),
            event_type: "customer.subscription.updated".to_owned(),
            partition: 0,
            endpoint: "stripe".to_owned(),
            received_ms: 1,
            traceparent: None,
            body: Bytes::from(body),
        }
    }

    /// Decides about deliveries with these entities stored; `by` is the delivery that stored the dedupe keys.
    fn decide(deliveries: &[Delivery], stored: &Foreign, by: Option<Uuid>) -> Decision {
        let mut batch = Batch::read(Place::ONLY, deliveries, &EventSettings::default());
        batch.settle(stored).expect("readable");
        let entities = batch.read_set.entities.iter();
        let found = ReadResult {
            dedupe_keys: vec![by; batch.read_set.dedupe_keys.len()],
            entities: entities
                .map(|key| stored.get(key).cloned().flatten())
                .collect(),
        };
        batch.decide(&found, 1).expect("readable")
    }

    fn commit(stored: &mut Foreign, decision: &Decision) {
        for write in &decision.commit.entities {
            let body = write.body.clone().expect("no deletion");
            let version = write.expected + 1;
            stored.insert(write.key.clone(), Some(StoredEntity { version, body }));
        }
    }

    fn relay_delivery(decision: &Decision) -> Delivery {
        let [relayed] = decision.relays.as_slice() else {
            panic!("{:?}", decision.relays)
        };
        relayed.delivery(Uuid::from_u128(99), 1, 1)
    }

    fn paying(stored: &Foreign) -> usize {
        let key = EntityKey::new(EntityKind::Customer, "cus_1");
        match read(&key, stored).expect("readable") {
            Some(Entity::Customer(customer)) => customer.subscriptions.paying(),
            _ => 0,
        }
    }

    #[test]
    fn a_relay_gives_the_customer_what_the_subscription_says_now() {
        let mut stored = Foreign::new();
        let began = decide(&[subscription(1, "active")], &stored, None);
        commit(&mut stored, &began);
        let relay = relay_delivery(&began);
        let ended = decide(&[subscription(2, "canceled")], &stored, None);
        let decision = decide(std::slice::from_ref(&relay), &stored, None);
        assert_eq!(decision.outcomes, [Outcome::Relayed]);
        assert!(decision.commit.dedupe_keys.is_empty(), "it is no event");
        assert!(!decision.is_empty() && decision.relays.is_empty());
        commit(&mut stored, &decision);
        assert_eq!(paying(&stored), 1);
        // The second relay comes, then the first again.
        commit(&mut stored, &ended);
        for relay in [relay_delivery(&ended), relay.clone()] {
            let decision = decide(&[relay], &stored, None);
            commit(&mut stored, &decision);
            assert_eq!(paying(&stored), 0);
        }
        assert!(
            decide(&[relay], &stored, None).is_empty(),
            "nothing changed"
        );
    }

    #[test]
    fn what_changes_nothing_for_the_customer_is_not_relayed() {
        let mut stored = Foreign::new();
        let began = decide(&[subscription(1, "active")], &stored, None);
        commit(&mut stored, &began);
        for status in ["active", "past_due"] {
            let again = decide(&[subscription(2, status)], &stored, None);
            assert_eq!(again.outcomes, [Outcome::Applied]);
            assert!(again.relays.is_empty(), "{status}");
        }
    }

    /// The worker that committed it may have failed before it published the relay.
    #[test]
    fn a_redelivered_delivery_relays_again_unless_the_customer_has_it() {
        let mut stored = Foreign::new();
        let first = decide(&[subscription(1, "active")], &stored, None);
        commit(&mut stored, &first);
        let by = Some(Uuid::from_u128(1));
        let again = decide(&[subscription(1, "active")], &stored, by);
        assert_eq!(again.outcomes, [Outcome::Redelivered]);
        let [relayed] = again.relays.as_slice() else {
            panic!("{:?}", again.relays)
        };
        assert!(!relayed.is_sure);
        assert_eq!(relayed.is_known(&stored), Ok(false));
        let applied = decide(&[relay_delivery(&again)], &stored, None);
        commit(&mut stored, &applied);
        assert_eq!(relayed.is_known(&stored), Ok(true));
    }

    #[test]
    fn a_webhook_is_no_relay() {
        let mut stored = Foreign::new();
        let began = decide(&[subscription(1, "active")], &stored, None);
        commit(&mut stored, &began);
        let forged = Delivery {
            endpoint: "stripe".to_owned(),
            ..relay_delivery(&began)
        };
        assert_eq!(
            decide(&[forged], &stored, None).outcomes,
            [Outcome::Ignored]
        );
    }

    #[test]
    fn a_relay_in_a_foreign_partition_moves_to_that_of_the_customer() {
        let began = decide(&[subscription(1, "active")], &Foreign::new(), None);
        let [relayed] = began.relays.as_slice() else {
            panic!("{:?}", began.relays)
        };
        let partitions = 64;
        let delivery = relayed.delivery(Uuid::from_u128(99), partitions, 1);
        let own = relayed.relay.customer_partition(partitions);
        assert_eq!(delivery.partition, own);
        let partition = (own + 1) % partitions;
        let place = Place {
            partition,
            partitions,
        };
        let batch = Batch::read(place, &[delivery], &EventSettings::default());
        assert!(batch.subscriptions(partitions).is_empty());
        let found = ReadResult {
            dedupe_keys: vec![None; 2],
            entities: Vec::new(),
        };
        let decision = batch.decide(&found, 1).expect("readable");
        assert_eq!(decision.outcomes, [Outcome::Moved(own)]);
    }
}
