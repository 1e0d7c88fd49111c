//! Relays: what one entity says about another, which may be in another partition. A subscription makes its customer
//! a subscriber; an account shows how far the provider whose account it is has come. When what it says changes, the
//! worker writes that into the other, after the commit and before the acknowledgement.
//!
//! Invariant: the worker reads the entity that is written first, then the one that says it, and its write fails if
//! another one has written since. So relays may come in any order, and repeatedly.

use crate::entity::{Entity, EntityKey, EntityKind, Observation, Update};
use crate::event::partition_of;
use crate::realm::Realm;

/// That what one entity says about another may have changed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Relay {
    /// What says it: a subscription or an account.
    pub from: EntityKey,
    /// What it is said about: a customer or a provider.
    pub to: EntityKey,
    /// The connected account that both belong to.
    pub account: Option<String>,
}

impl Relay {
    /// The kinds that say something about others.
    pub const FROM: [EntityKind; 2] = [EntityKind::Subscription, EntityKind::Account];

    /// Of a subscription: to its customer, and to the one that an event named before. Of an account: to all users
    /// that the application ever named as its user.
    pub fn all_of(entity: &Entity) -> Vec<Self> {
        match entity {
            Entity::Subscription(subscription) => {
                let origin = &subscription.origin;
                let customers = origin.customer.iter().chain(&origin.former_customer);
                let to_customer = |customer: &String| Self {
                    from: EntityKey::new(EntityKind::Subscription, &subscription.id),
                    to: EntityKey::new(EntityKind::Customer, customer),
                    account: origin.account.clone(),
                };
                customers.map(to_customer).collect()
            }
            Entity::Account(account) => {
                let to_provider = |user: &String| Self {
                    from: EntityKey::new(EntityKind::Account, &account.id),
                    to: EntityKey::new(EntityKind::Provider, user),
                    account: None,
                };
                account.users.iter().map(to_provider).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Whether an entity says something else about others than before.
    pub fn is_due(before: &Entity, after: &Entity) -> bool {
        match (before, after) {
            (Entity::Subscription(old), Entity::Subscription(new)) => {
                let (old_origin, new_origin) = (&old.origin, &new.origin);
                !new.only_repeats(old)
                    && (old_origin.customer != new_origin.customer
                        || old_origin.former_customer != new_origin.former_customer
                        || old.subscribed() != new.subscribed())
            }
            // Most accounts have no user: of them nothing is computed.
            (Entity::Account(old), Entity::Account(new)) => {
                !new.users.is_empty()
                    && (old.users != new.users
                        || old.user() != new.user()
                        || old.stages_reached() != new.stages_reached())
            }
            _ => false,
        }
    }

    /// The partition of what says it, of `partitions`.
    pub fn from_partition(&self, partitions: u32) -> u32 {
        self.partition(&self.from, partitions)
    }

    /// The partition of what it is said about, of `partitions`.
    pub fn to_partition(&self, partitions: u32) -> u32 {
        self.partition(&self.to, partitions)
    }

    fn partition(&self, key: &EntityKey, partitions: u32) -> u32 {
        partition_of(self.account.as_deref().unwrap_or(&key.id), partitions)
    }

    /// What an entity, as it is stored, says about the other. Nothing, if it is not stored: its partition has lost
    /// data, and says it when that is back.
    pub fn observe(&self, from: Option<&Entity>) -> Option<Observation> {
        let (created_s, realm, update) = match from? {
            Entity::Subscription(subscription) => {
                let is_own = subscription.origin.customer.as_ref() == Some(&self.to.id);
                let update = Update::Subscribed {
                    account: self.account.clone(),
                    subscription: self.from.id.clone(),
                    subscribed: is_own.then(|| subscription.subscribed()),
                };
                let created_s = subscription.timeline.newest_s().unwrap_or(0);
                (created_s, &subscription.realm, update)
            }
            Entity::Account(account) => {
                let is_own = account.user() == Some(&self.to.id);
                let update = Update::Onboarded {
                    account: self.from.id.clone(),
                    reached: is_own.then(|| account.stages_reached()),
                };
                (account.first_seen_s.unwrap_or(0), &account.realm, update)
            }
            _ => return None,
        };
        Some(Observation {
            key: self.to.clone(),
            created_s,
            realm: realm.clone().unwrap_or(Realm::MAIN),
            update,
        })
    }
}
