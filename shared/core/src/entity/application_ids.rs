//! Ids of the platform's own application.

use serde::{Deserialize, Serialize};

use super::{Entity, EntityKey, EntityKind};

/// What an object's `metadata` says about the platform's own application. The newest event decides:
/// metadata can be changed and removed. The order of the fields is the order of two of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ApplicationIds {
    /// Unix seconds of the event.
    pub at_s: i64,
    /// The application that the object is for.
    pub app_id: Option<String>,
    /// The user of the application that it is for.
    pub user_id: Option<String>,
}

impl Entity {
    /// What its metadata says.
    pub fn application_ids(&self) -> Option<&ApplicationIds> {
        match self {
            Self::Subscription(s) => s.origin.ids.as_ref(),
            Self::Customer(c) => c.origin.ids.as_ref(),
            Self::Account(a) => a.ids.as_ref(),
            Self::Invoice(_)
            | Self::Payout(_)
            | Self::Movement(_)
            | Self::Coupon(_)
            | Self::MissingEvent(_)
            | Self::Ticket(_)
            | Self::Provider(_)
            | Self::BookingFee(_)
            | Self::Member(_) => None,
        }
    }

    /// Whose ids count where its own metadata has none: those of a subscription's customer. They are in
    /// another partition, so they are joined when they are shown, and never stored.
    pub fn ids_come_from(&self) -> Option<EntityKey> {
        let Self::Subscription(subscription) = self else {
            return None;
        };
        let has = |id: fn(&ApplicationIds) -> Option<&String>| {
            subscription
                .origin
                .ids
                .as_ref()
                .is_some_and(|ids| id(ids).is_some())
        };
        let is_complete = has(|ids| ids.app_id.as_ref()) && has(|ids| ids.user_id.as_ref());
        let customer = subscription.origin.customer.as_ref()?;
        (!is_complete).then(|| EntityKey::new(EntityKind::Customer, customer))
    }

    /// Takes those of `customer` that its own metadata lacks.
    pub fn take_ids(&mut self, customer: &ApplicationIds) {
        if let Self::Subscription(subscription) = self {
            let own = subscription.origin.ids.take();
            let (app_id, user_id) = own.map_or((None, None), |own| (own.app_id, own.user_id));
            subscription.origin.ids = Some(ApplicationIds {
                app_id: app_id.or_else(|| customer.app_id.clone()),
                user_id: user_id.or_else(|| customer.user_id.clone()),
                at_s: customer.at_s,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_takes_what_it_lacks_from_its_customer() {
        let ids = |app_id: Option<&str>, user_id: Option<&str>| ApplicationIds {
            at_s: 1,
            app_id: app_id.map(str::to_owned),
            user_id: user_id.map(str::to_owned),
        };
        let of_customer = ids(Some("app_c"), Some("user_c"));
        let customer = EntityKey::new(EntityKind::Customer, "cus_1");
        for (own, asks, expected) in [
            (None, true, ("app_c", "user_c")),
            (Some(ids(Some("app_s"), None)), true, ("app_s", "user_c")),
            (Some(ids(None, Some("user_s"))), true, ("app_c", "user_s")),
            (
                Some(ids(Some("app_s"), Some("user_s"))),
                false,
                ("app_s", "user_s"),
            ),
        ] {
            let mut entity = Entity::new(&EntityKey::new(EntityKind::Subscription, "sub_1"));
            if let Entity::Subscription(subscription) = &mut entity {
                subscription.origin.customer = Some("cus_1".to_owned());
                subscription.origin.ids = own;
            }
            assert_eq!(entity.ids_come_from(), asks.then(|| customer.clone()));
            entity.take_ids(&of_customer);
            let shown = entity.application_ids().expect("it has some");
            let shown = (shown.app_id.as_deref(), shown.user_id.as_deref());
            assert_eq!(shown, (Some(expected.0), Some(expected.1)));
        }
    }
}
