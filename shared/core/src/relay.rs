//! Relays: a subscription makes its customer a subscriber, and the two are in different partitions. When that
//! changes, the worker publishes an event into the customer's partition, which names both.
//!
//! Invariant: a relay says only that something changed. Whoever applies it reads the subscription after the
//! customer, so relays may come in any order, and repeatedly. The last one is published after the commit that
//! changed the subscription, and before the acknowledgement.

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::entity::{Entity, EntityKey, EntityKind, Observation, Update};
use crate::event::{Event, RELAYED, partition_of};
use crate::realm::Realm;

/// That what a subscription says about a customer may have changed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Relay {
    /// `sub_…`
    pub subscription: String,
    /// `cus_…`
    pub customer: String,
    /// The connected account of both.
    pub account: Option<String>,
}

/// The type of the event.
pub const RELAY_TYPE: &str = "revwatch.subscription_changed";

impl Relay {
    /// To the customer of a subscription.
    pub fn of(entity: &Entity) -> Option<Self> {
        let Entity::Subscription(subscription) = entity else {
            return None;
        };
        Some(Self {
            subscription: subscription.id.clone(),
            customer: subscription.origin.customer.clone()?,
            account: subscription.origin.account.clone(),
        })
    }

    /// To every customer of whom an entity says something else than before.
    pub fn between(before: &Entity, after: &Entity) -> Vec<Self> {
        let (Entity::Subscription(old), Entity::Subscription(new)) = (before, after) else {
            return Vec::new();
        };
        let is_same_customer =
            old.origin.customer == new.origin.customer && old.origin.account == new.origin.account;
        if is_same_customer && old.subscribed() == new.subscribed() {
            return Vec::new();
        }
        let former = Self::of(before).filter(|_| !is_same_customer);
        former.into_iter().chain(Self::of(after)).collect()
    }

    /// What an event that revwatch made relays.
    pub fn read(event: &Event<'_>) -> Option<Self> {
        if event.kind != RELAY_TYPE {
            return None;
        }
        Some(Self {
            subscription: event.object_id()?.into_owned(),
            customer: event.related_id.as_deref()?.to_owned(),
            account: event.account.as_deref().map(str::to_owned),
        })
    }

    /// The id and the body of its event. `created_s` is that of the change, Unix seconds.
    pub fn event(&self, created_s: i64) -> (String, String) {
        let Self {
            subscription,
            customer,
            account,
        } = self;
        let digest = Sha256::digest(format!("{subscription} {customer} {created_s}"));
        let id = format!("{RELAYED}{}", hex::encode(&digest[..12]));
        let body = json!({"id": id, "object": "event", "type": RELAY_TYPE, "created": created_s,
            "account": account, "data": {"object": {"id": subscription, "object": "subscription"}},
            "related_object": {"id": customer, "type": "customer"}});
        (id, body.to_string())
    }

    /// The subscription.
    pub fn subscription_key(&self) -> EntityKey {
        EntityKey::new(EntityKind::Subscription, &self.subscription)
    }

    /// Its partition, of `partitions`.
    pub fn subscription_partition(&self, partitions: u32) -> u32 {
        partition_of(
            self.account.as_deref().unwrap_or(&self.subscription),
            partitions,
        )
    }

    /// The customer.
    pub fn customer_key(&self) -> EntityKey {
        EntityKey::new(EntityKind::Customer, &self.customer)
    }

    /// Its partition, of `partitions`.
    pub fn customer_partition(&self, partitions: u32) -> u32 {
        partition_of(
            self.account.as_deref().unwrap_or(&self.customer),
            partitions,
        )
    }

    /// What the subscription, as it is stored, says about the customer.
    pub fn observe(&self, subscription: Option<&Entity>) -> Observation {
        let own = subscription.filter(|entity| Self::of(entity).as_ref() == Some(self));
        let subscribed = match own {
            Some(Entity::Subscription(subscription)) => Some(subscription.subscribed()),
            _ => None,
        };
        let realm = subscription.and_then(Entity::realm);
        Observation {
            key: self.customer_key(),
            created_s: 0,
            realm: realm.unwrap_or(Realm::main()).clone(),
            update: Update::Subscribed {
                account: self.account.clone(),
                subscription: self.subscription.clone(),
                subscribed,
            },
        }
    }
}
