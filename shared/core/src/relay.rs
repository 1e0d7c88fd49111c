//! Relays: a subscription makes its customer a subscriber, and the customer may be in another partition. When what
//! it says changes, the worker writes that into the customer, after the commit and before the acknowledgement.
//!
//! Invariant: the worker reads the customer first, then the subscription, and its write fails if another one has
//! written the customer since. So relays may come in any order, and repeatedly.

use crate::entity::{Entity, EntityKey, EntityKind, Observation, Update};
use crate::event::partition_of;
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

impl Relay {
    /// To the customer of a subscription, and to the one that an event named before.
    pub fn all_of(entity: &Entity) -> impl Iterator<Item = Self> {
        let subscription = match entity {
            Entity::Subscription(subscription) => Some(subscription),
            _ => None,
        };
        subscription.into_iter().flat_map(|subscription| {
            let origin = &subscription.origin;
            let customers = origin.customer.iter().chain(&origin.former_customer);
            customers.map(|customer| Self {
                subscription: subscription.id.clone(),
                customer: customer.clone(),
                account: origin.account.clone(),
            })
        })
    }

    /// Whether a subscription says something else about its customers than before.
    pub fn is_due(before: &Entity, after: &Entity) -> bool {
        let (Entity::Subscription(old), Entity::Subscription(new)) = (before, after) else {
            return false;
        };
        if new.only_repeats(old) {
            return false;
        }
        let (old_origin, new_origin) = (&old.origin, &new.origin);
        old_origin.customer != new_origin.customer
            || old_origin.former_customer != new_origin.former_customer
            || old.subscribed() != new.subscribed()
    }

    /// The subscription.
    pub fn subscription_key(&self) -> EntityKey {
        EntityKey::new(EntityKind::Subscription, &self.subscription)
    }

    /// The customer.
    pub fn customer_key(&self) -> EntityKey {
        EntityKey::new(EntityKind::Customer, &self.customer)
    }

    /// The partition of the subscription, of `partitions`.
    pub fn subscription_partition(&self, partitions: u32) -> u32 {
        self.partition(&self.subscription, partitions)
    }

    /// The partition of the customer, of `partitions`.
    pub fn customer_partition(&self, partitions: u32) -> u32 {
        self.partition(&self.customer, partitions)
    }

    fn partition(&self, id: &str, partitions: u32) -> u32 {
        partition_of(self.account.as_deref().unwrap_or(id), partitions)
    }

    /// What the subscription, as it is stored, says about the customer. Nothing, if it is not stored: its partition
    /// has lost data, and says it when that is back.
    pub fn observe(&self, subscription: Option<&Entity>) -> Option<Observation> {
        let Some(Entity::Subscription(subscription)) = subscription else {
            return None;
        };
        let is_own = subscription.origin.customer.as_ref() == Some(&self.customer);
        Some(Observation {
            key: self.customer_key(),
            created_s: subscription.timeline.newest_s().unwrap_or(0),
            realm: subscription.realm.clone().unwrap_or(Realm::MAIN),
            update: Update::Subscribed {
                account: self.account.clone(),
                subscription: self.subscription.clone(),
                subscribed: is_own.then(|| subscription.subscribed()),
            },
        })
    }
}
