//! Meets needs as the worker's resolver does, but from the store alone: a simulation asks no API. Pure.
//!
//! It reads an entity when a need opens, and again when something that it read is written, so its cost grows with
//! what changed.

use std::collections::{BTreeMap, BTreeSet};

use revwatch_core::entity::EntityKey;
use revwatch_core::event_settings::{EventSettings, REFRESH, refresh_endpoint};
use revwatch_core::need::Need;
use revwatch_core::realm::Realm;
use revwatch_storage::ports::Delivery;
use revwatch_worker::batch::Place;
use revwatch_worker::resolver::snapshot::Snapshot;
use revwatch_worker::resolver::stored::{Found, FromStore, Step, from_store};
use revwatch_worker::resolver::task::Task;
use uuid::Uuid;

use super::memory_store::{MemoryStore, Written};

/// See the module.
#[derive(Default)]
pub struct Resolver {
    /// Entities whose needs the store did not meet, or perhaps not all, by what was read for them.
    waiting: BTreeMap<EntityKey, BTreeSet<EntityKey>>,
}

impl Resolver {
    /// What meets needs, now that this was written, as deliveries received at `now_ms` (Unix milliseconds).
    pub fn deliveries(
        &mut self,
        store: &MemoryStore,
        events: &EventSettings,
        written: Written,
        now_ms: i64,
    ) -> Result<Vec<Delivery>, String> {
        let mut subjects = written.in_need;
        for key in &written.entities {
            subjects.extend(self.waiting.remove(key).into_iter().flatten());
        }
        let mut deliveries = Vec::new();
        for subject in subjects {
            for (realm, snapshot) in self.snapshots(store, events, &subject)? {
                let id = id_of(&snapshot);
                let of_key = events.realms.of(REFRESH, None);
                let endpoint = refresh_endpoint(&realm, of_key);
                let delivery = snapshot.delivery(endpoint, Place::ONLY.partitions, id, now_ms);
                deliveries.push(delivery.map_err(|error| error.to_string())?);
            }
        }
        Ok(deliveries)
    }

    fn snapshots(
        &mut self,
        store: &MemoryStore,
        events: &EventSettings,
        subject: &EntityKey,
    ) -> Result<Vec<(Realm, Snapshot)>, String> {
        let entity = store.entity(subject);
        let conditions = entity.map_or_else(Vec::new, |entity| entity.conditions());
        let mut snapshots = Vec::new();
        for task in Task::all_of(&conditions) {
            let (decided, found) = decide(store, events, &task)?;
            // Events may meet only a part of it.
            for need in found.keys() {
                let waiting = self.waiting.entry(need.key()).or_default();
                waiting.insert(subject.clone());
            }
            if let FromStore::Events(events) = decided {
                let realm = || task.need.realm.clone();
                snapshots.extend(events.into_iter().map(|event| (realm(), event)));
            }
        }
        Ok(snapshots)
    }
}

fn decide(
    store: &MemoryStore,
    events: &EventSettings,
    task: &Task,
) -> Result<(FromStore, Found), String> {
    let livemode = Some(events.modes.deployment.livemode());
    let mut found = Found::new();
    loop {
        let step = from_store(task, livemode, &found);
        match step.map_err(|error| error.to_string())? {
            Step::Decided(decided) => return Ok((decided, found)),
            Step::Read(needs) => {
                let read = |need: Need| (store.entity(&need.key()), need);
                let read = needs.into_iter().map(read);
                found.extend(read.map(|(entity, need)| (need, entity)));
            }
        }
    }
}

/// The same event has the same id, whatever was delivered before.
fn id_of(snapshot: &Snapshot) -> Uuid {
    let hex = snapshot.event_id.rsplit('_').next().unwrap_or_default();
    Uuid::from_u128(u128::from_str_radix(hex, 16).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use revwatch_core::condition::ConditionKind;
    use revwatch_worker::batch::Outcome;
    use serde_json::{Value, json};

    use super::*;

    /// A discount of `subscription` of which only the id is known, that discount, which only names its coupon, and
    /// the coupon; `account`: of this connected account.
    fn discounted(account: Option<&str>, subscription: &str) -> [Delivery; 3] {
        let price = json!({"id": "price_1", "currency": "usd", "unit_amount": 1000,
            "recurring": {"interval": "month", "interval_count": 1, "usage_type": "licensed"}});
        let object = json!({"id": subscription, "object": "subscription", "status": "active", "currency": "usd",
            "discounts": ["di_1"], "items": {"data": [{"id": "si_1", "quantity": 1, "price": price}]}});
        let discount = json!({"id": "di_1", "object": "discount", "subscription": subscription, "coupon": "HALF"});
        let coupon =
            json!({"id": "HALF", "object": "coupon", "percent_off": 50, "duration": "forever"});
        [
            delivery(1, account, "customer.subscription.created", &object),
            delivery(2, account, "customer.discount.created", &discount),
            delivery(3, account, "coupon.created", &coupon),
        ]
    }

    fn delivery(n: u128, account: Option<&str>, kind: &str, object: &Value) -> Delivery {
        let body = json!({"id": format!("evt_{n}"), "type": kind, "created": 100, "livemode": true,
            "account": account, "data": {"object": object}});
        Delivery {
            id: Uuid::from_u128(n),
            event_id: format!("evt_{n}"),
            event_type: kind.to_owned(),
            partition: 0,
            endpoint: "stripe".to_owned(),
            received_ms: 100_000,
            traceparent: None,
            body: Bytes::from(body.to_string()),
        }
    }

    struct Deployment {
        store: MemoryStore,
        resolver: Resolver,
    }

    impl Deployment {
        fn new() -> Self {
            Self {
                store: MemoryStore::default(),
                resolver: Resolver::default(),
            }
        }

        /// How many events the resolver makes, which are applied.
        fn apply(&mut self, deliveries: &[Delivery]) -> usize {
            let outcomes = self.store.apply(deliveries, 100_000).expect("applied");
            assert!(
                !outcomes.iter().any(|it| matches!(it, Outcome::Dead(_))),
                "{outcomes:?}"
            );
            let written = self.store.take_written();
            let events = EventSettings::default();
            let made = self
                .resolver
                .deliveries(&self.store, &events, written, 100_000);
            let made = made.expect("events");
            if !made.is_empty() {
                assert_eq!(self.apply(&made), 0, "one round is enough");
            }
            made.len()
        }

        fn is_incomplete(&self, subscription: &str) -> bool {
            let key = EntityKey::new(
                revwatch_core::entity::EntityKind::Subscription,
                subscription,
            );
            let entity = self.store.entity(&key).expect("stored");
            let conditions = entity.conditions();
            conditions
                .iter()
                .any(|it| it.key.kind == ConditionKind::MrrIncomplete)
        }
    }

    #[test]
    fn in_any_order_a_discount_is_known_once_all_is_in_the_store() {
        let orders = [
            [0, 1, 2],
            [0, 2, 1],
            [1, 0, 2],
            [1, 2, 0],
            [2, 0, 1],
            [2, 1, 0],
        ];
        for account in [None, Some("acct_1")] {
            let events = discounted(account, "sub_1");
            for order in orders {
                let mut deployment = Deployment::new();
                let made = order.map(|i| deployment.apply(&[events[i].clone()]));
                assert_eq!(made, [0, 0, 1], "{account:?} {order:?}");
                assert!(!deployment.is_incomplete("sub_1"), "{account:?} {order:?}");
                assert_eq!(
                    deployment.apply(&events),
                    0,
                    "the same again changes nothing"
                );
            }
        }
    }

    /// The second discount of an amount, and one of a state that is past, are needed as well as the first.
    #[test]
    fn each_coupon_is_taken_when_it_is_there() {
        let named = |n: u128| {
            let discount = json!({"id": format!("di_{n}"), "object": "discount", "subscription": "sub_1",
                "coupon": format!("C{n}")});
            delivery(10 + n, None, "customer.discount.created", &discount)
        };
        let coupon = |n: u128| {
            let coupon = json!({"id": format!("C{n}"), "object": "coupon", "percent_off": 10, "duration": "forever"});
            delivery(20 + n, None, "coupon.created", &coupon)
        };
        let price = json!({"id": "price_1", "currency": "usd", "unit_amount": 1000,
            "recurring": {"interval": "month", "interval_count": 1, "usage_type": "licensed"}});
        let state = |n: u128, discounts: &[&str]| {
            let object = json!({"id": "sub_1", "object": "subscription", "status": "active", "currency": "usd",
                "discounts": discounts, "items": {"data": [{"id": "si_1", "quantity": 1, "price": price}]}});
            delivery(n, None, "customer.subscription.updated", &object)
        };
        let mut deployment = Deployment::new();
        let states = [state(1, &["di_1"]), state(2, &["di_2", "di_3"])];
        deployment.apply(&[&states[..], &[named(1), named(2), named(3)]].concat());
        let made = [1, 2, 3].map(|n| deployment.apply(&[coupon(n)]));
        assert_eq!(made, [1, 1, 1]);
        assert!(!deployment.is_incomplete("sub_1"));
    }

    #[test]
    fn the_coupon_of_another_account_is_no_answer() {
        let [subscription, discount, _] = discounted(None, "sub_1");
        let [.., coupon] = discounted(Some("acct_1"), "sub_1");
        let mut deployment = Deployment::new();
        assert_eq!(deployment.apply(&[subscription, discount, coupon]), 0);
        assert!(deployment.is_incomplete("sub_1"));
    }

    /// It looks again at what waits for a coupon only when that is written.
    #[test]
    fn what_waits_costs_nothing_until_something_of_it_changes() {
        let [subscription, discount, coupon] = discounted(None, "sub_1");
        let mut deployment = Deployment::new();
        assert_eq!(deployment.apply(&[subscription, discount]), 0);
        let waiting = deployment.resolver.waiting.clone();
        assert_eq!(waiting.len(), 2, "{waiting:?}");
        let other =
            json!({"id": "OTHER", "object": "coupon", "percent_off": 1, "duration": "once"});
        assert_eq!(
            deployment.apply(&[delivery(9, None, "coupon.created", &other)]),
            0
        );
        assert_eq!(deployment.resolver.waiting, waiting);
        assert_eq!(deployment.apply(&[coupon]), 1);
    }
}
