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
