//! What is wrong in a state of format 1: it took every `context` of an event without `account` for a
//! connected account. The platform's own objects, whose events have a context from API version
//! 2025-04-30 on, then belong to the platform as if it were connected to itself, or to a path such as
//! `acct_PLATFORM/acct_CONNECTED`.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Entity, EntityKey};
use crate::event::connected_account;

/// What the archived events say about accounts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accounts {
    /// Those that an event without `account` had as its only context.
    contexts: BTreeSet<String>,
    /// Those that an event had as its `account`.
    connected: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    account: Option<Cow<'a, str>>,
    #[serde(borrow)]
    context: Option<Cow<'a, str>>,
    #[serde(borrow)]
    data: Option<Data<'a>>,
}

#[derive(Deserialize)]
struct Data<'a> {
    #[serde(borrow)]
    object: Option<&'a RawValue>,
}

impl Accounts {
    /// Adds what one event says. Thin events are left out: their context may be the account itself.
    pub fn add(&mut self, body: &[u8]) {
        let Ok(wire) = serde_json::from_slice::<Wire<'_>>(body) else {
            return;
        };
        match (wire.account.filter(|it| !it.is_empty()), wire.context) {
            (Some(account), _) => {
                self.connected.insert(account.into_owned());
            }
            (None, Some(context)) if wire.data.is_some_and(|data| data.object.is_some()) => {
                let own = context.split('/').find(|it| it.starts_with("acct_"));
                self.contexts.extend(own.map(str::to_owned));
            }
            _ => {}
        }
    }

    /// The entity without what format 1 had wrong, and its key. `None`: there is no such object.
    pub fn correct(&self, key: EntityKey, mut entity: Entity) -> Option<(EntityKey, Entity)> {
        let account = match &mut entity {
            Entity::Account(_) => {
                let id = self.account(&key.id)?;
                if id == key.id {
                    return Some((key, entity));
                }
                let key = EntityKey::new(key.kind, &id);
                if let Entity::Account(account) = &mut entity {
                    account.id = id;
                }
                return Some((key, entity));
            }
            Entity::Subscription(it) => &mut it.origin.account,
            Entity::Invoice(it) => &mut it.origin.account,
            Entity::Payout(it) => &mut it.origin.account,
            Entity::Movement(it) => &mut it.origin.account,
            Entity::Customer(it) => &mut it.origin.account,
            // Format 1 had none.
            Entity::Coupon(_)
            | Entity::MissingEvent(_)
            | Entity::Ticket(_)
            | Entity::Provider(_)
            | Entity::BookingFee(_)
            | Entity::Member(_) => return Some((key, entity)),
        };
        *account = account.take().and_then(|it| self.account(&it));
        Some((key, entity))
    }

    /// The connected account that format 1 has under this name.
    fn account(&self, name: &str) -> Option<String> {
        if name.contains('/') || name.starts_with("org_") {
            return connected_account(Cow::Borrowed(name)).map(Cow::into_owned);
        }
        let is_own = self.contexts.contains(name) && !self.connected.contains(name);
        (!is_own).then(|| name.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::entity::EntityKind;

    fn accounts() -> Accounts {
        let mut accounts = Accounts::default();
        let object = json!({"object": {"id": "sub_1"}});
        for event in [
            json!({"context": "acct_P", "data": object}),
            json!({"context": "org_O/acct_Q", "data": object}),
            json!({"context": "acct_R/acct_C", "data": object}),
            json!({"context": "acct_T", "related_object": {"id": "acct_T"}}),
            json!({"context": "acct_B", "data": object}),
            json!({"context": "acct_B", "account": "acct_B", "data": object}),
            json!({"context": "acct_X", "account": "acct_C", "data": object}),
            json!([1]),
        ] {
            accounts.add(event.to_string().as_bytes());
        }
        accounts
    }

    #[test]
    fn the_platforms_own_objects_have_no_connected_account() {
        let accounts = accounts();
        for (name, expected) in [
            ("acct_P", None),
            ("acct_Q", None),
            ("acct_R", None),
            ("org_O", None),
            ("org_O/acct_Q", None),
            ("acct_R/acct_C", Some("acct_C")),
            ("acct_C", Some("acct_C")),
            ("acct_T", Some("acct_T")),
            ("acct_B", Some("acct_B")),
            ("acct_unknown", Some("acct_unknown")),
        ] {
            assert_eq!(accounts.account(name).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn an_entity_gets_its_account_and_an_account_its_id() {
        let accounts = accounts();
        let invoice = |account: Option<&str>| {
            let key = EntityKey::new(EntityKind::Invoice, "in_1");
            let mut entity = Entity::new(&key);
            if let Entity::Invoice(invoice) = &mut entity {
                invoice.origin.account = account.map(str::to_owned);
            }
            (key, entity)
        };
        let account = |id: &str| {
            let key = EntityKey::new(EntityKind::Account, id);
            let entity = Entity::new(&key);
            (key, entity)
        };
        for ((key, entity), expected) in [
            (invoice(Some("acct_P")), Some(invoice(None))),
            (
                invoice(Some("acct_R/acct_C")),
                Some(invoice(Some("acct_C"))),
            ),
            (invoice(None), Some(invoice(None))),
            (account("acct_C"), Some(account("acct_C"))),
            (account("acct_R/acct_C"), Some(account("acct_C"))),
            (account("acct_P"), None),
        ] {
            assert_eq!(accounts.correct(key, entity), expected);
        }
    }
}
