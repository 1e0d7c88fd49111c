//! Decides purely what meets a need without a request to Stripe: what the store has of the object, and of others
//! that say the same. The resolver and simulations read the store for it.

use std::collections::BTreeMap;

use revwatch_core::condition::{ConditionKey, ConditionKind};
use revwatch_core::entity::Entity;
use revwatch_core::need::{Need, Stored};

use super::snapshot::{self, Snapshot, SnapshotError};
use super::task::Task;
use crate::guarded::on_entity;

/// What the store was found to have of objects. `None`: nothing that can be read.
pub type Found = BTreeMap<Need, Option<Entity>>;

/// The next step.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Read these.
    Read(Vec<Need>),
    /// Nothing more has to be read.
    Decided(FromStore),
}

/// How the store meets a need.
#[derive(Debug, PartialEq, Eq)]
pub enum FromStore {
    /// Nothing lacks the object any more: an event came in the meantime.
    Met,
    /// With these events, once they are applied; perhaps only a part of it.
    Events(Vec<Snapshot>),
    /// It does not: only Stripe knows. Another event about what was read may change that.
    Unknown,
}

/// What meets the need of `task`, as far as the store was read. `livemode`: the deployment's mode.
pub fn from_store(
    task: &Task,
    livemode: Option<bool>,
    found: &Found,
) -> Result<Step, SnapshotError> {
    let decided = |by| Ok(Step::Decided(by));
    let Some(cause) = task.newest() else {
        return decided(FromStore::Met);
    };
    let others = task.by_others();
    let by_others = others.is_some();
    let (needs, waiting) = match look(&task.need, by_others, found) {
        None => return Ok(Step::Read(vec![task.need.clone()])),
        Some(Stored::Met) => return decided(FromStore::Met),
        Some(Stored::Object(_)) => {
            let waiting = others.unwrap_or_else(|| task.clone()).waiting;
            (vec![task.need.clone()], waiting)
        }
        Some(Stored::In(needs)) if !is_asked_for_itself(task) => (needs, task.waiting.clone()),
        Some(Stored::In(_) | Stored::Unknown) => return decided(FromStore::Unknown),
    };
    let is_unread = |need: &&Need| !found.contains_key(need);
    let unread: Vec<_> = needs.iter().filter(is_unread).cloned().collect();
    if !unread.is_empty() {
        return Ok(Step::Read(unread));
    }
    let mut events = Vec::new();
    for need in needs {
        let by_others = by_others || need != task.need;
        if let Some(Stored::Object(object)) = look(&need, by_others, found) {
            let waiting = waiting.clone();
            let task = Task { need, waiting };
            events.extend(snapshot::events(&task, cause.since_s, livemode, &object)?);
        }
    }
    decided(match events.is_empty() {
        false => FromStore::Events(events),
        true => FromStore::Unknown,
    })
}

/// A thin event asks for the object itself: other objects are no answer.
fn is_asked_for_itself(task: &Task) -> bool {
    let lacks_others = |key: &ConditionKey| {
        matches!(
            key.kind,
            ConditionKind::MrrIncomplete | ConditionKind::CouponNeeded
        )
    };
    !task.waiting.keys().all(lacks_others)
}

/// What it says to the object itself, or to others that need it. `None`: it was not read.
fn look(need: &Need, by_others: bool, found: &Found) -> Option<Stored> {
    let Some(entity) = found.get(need)? else {
        return Some(Stored::Unknown);
    };
    let stored = on_entity(&need.key(), || need.resolve(entity, by_others));
    Some(stored.unwrap_or(Stored::Unknown))
}

#[cfg(test)]
mod tests {
    use revwatch_core::entity::Observation;
    use revwatch_core::event::Event;
    use revwatch_core::observe::{ObserveSettings, observe};
    use revwatch_core::realm::Realm;
    use serde_json::{Value, json};

    use super::*;

    /// What one event says about one object, merged into what is known of it.
    fn merge(entity: &mut Option<Entity>, event: &Value) {
        let body = event.to_string();
        let event = Event::parse(body.as_bytes()).expect("an event");
        let observed = observe(&event, &ObserveSettings::default()).expect("readable");
        let own: Observation = observed.into_iter().next_back().expect("its own");
        let observation = own.of(&Realm::MAIN);
        let entity = entity.get_or_insert_with(|| Entity::new(&observation.key));
        entity.merge(&observation);
    }

    fn event(id: &str, kind: &str, object: &Value) -> Value {
        json!({"id": id, "type": kind, "created": 100, "livemode": true, "data": {"object": object}})
    }

    /// A subscription of 10.00 with a discount of which only the id is known, and that discount, which only
    /// names its coupon.
    fn subscription() -> Entity {
        let price = json!({"id": "price_1", "currency": "usd", "unit_amount": 1000,
            "recurring": {"interval": "month", "interval_count": 1, "usage_type": "licensed"}});
        let object = json!({"id": "sub_1", "object": "subscription", "status": "active", "currency": "usd",
            "discounts": ["di_1"], "items": {"data": [{"id": "si_1", "quantity": 1, "price": price}]}});
        let discount =
            json!({"id": "di_1", "object": "discount", "subscription": "sub_1", "coupon": "HALF"});
        let mut entity = None;
        merge(
            &mut entity,
            &event("evt_1", "customer.subscription.created", &object),
        );
        merge(
            &mut entity,
            &event("evt_2", "customer.discount.created", &discount),
        );
        entity.expect("a subscription")
    }

    fn coupon() -> Entity {
        let object =
            json!({"id": "HALF", "object": "coupon", "percent_off": 50, "duration": "forever"});
        let mut entity = None;
        merge(&mut entity, &event("evt_3", "coupon.created", &object));
        entity.expect("a coupon")
    }

    fn task() -> Task {
        let conditions = subscription().conditions();

        let tasks = Task::all_of(&conditions);
        let [task] = tasks.try_into().expect("one");
        task
    }

    fn needed() -> Need {
        Need {
            kind: revwatch_core::entity::EntityKind::Coupon,
            id: "HALF".to_owned(),
            account: None,
            realm: Realm::MAIN,
        }
    }

    fn step(found: &Found) -> Step {
        from_store(&task(), Some(true), found).expect("readable")
    }

    #[test]
    fn a_coupon_in_the_store_becomes_an_event_that_makes_the_amount_known() {
        let mut found = Found::new();
        assert_eq!(step(&found), Step::Read(vec![task().need]));
        found.insert(task().need, Some(subscription()));
        assert_eq!(step(&found), Step::Read(vec![needed()]));
        found.insert(needed(), None);
        assert_eq!(step(&found), Step::Decided(FromStore::Unknown));
        found.insert(needed(), Some(coupon()));
        let Step::Decided(FromStore::Events(events)) = step(&found) else {
            panic!("{:?}", step(&found))
        };
        let [snapshot] = events.try_into().expect("one");
        let mut entity = Some(subscription());
        let body = serde_json::from_str(&snapshot.body).expect("JSON");
        merge(&mut entity, &body);
        let entity = entity.expect("a subscription");
        assert_eq!(entity.conditions(), []);
        found.insert(task().need, Some(entity));
        assert_eq!(step(&found), Step::Decided(FromStore::Met));
    }

    /// Which of its terms the discount has, its id does not say.
    #[test]
    fn a_coupon_that_was_made_again_with_other_terms_is_no_answer() {
        let made_again = |percent_off: i64| {
            let mut coupon = Some(coupon());
            let object = json!({"id": "HALF", "object": "coupon", "percent_off": percent_off,
                "duration": "forever"});
            merge(&mut coupon, &event("evt_4", "coupon.created", &object));
            coupon
        };
        let mut found = Found::from([(task().need, Some(subscription()))]);
        found.insert(needed(), made_again(25));
        assert_eq!(step(&found), Step::Decided(FromStore::Unknown));
        found.insert(needed(), made_again(50));
        assert!(matches!(step(&found), Step::Decided(FromStore::Events(_))));
    }

    /// Otherwise past metrics would depend on whether the coupon came before the discount was removed.
    #[test]
    fn the_coupon_of_a_past_discount_is_needed_until_it_is_known() {
        let mut entity = Some(subscription());
        let price = json!({"id": "price_1", "currency": "usd", "unit_amount": 1000,
            "recurring": {"interval": "month", "interval_count": 1, "usage_type": "licensed"}});
        let object = json!({"id": "sub_1", "object": "subscription", "status": "active", "currency": "usd",
            "discounts": [], "items": {"data": [{"id": "si_1", "quantity": 1, "price": price}]}});
        let mut removed = event("evt_5", "customer.subscription.updated", &object);
        removed["created"] = json!(200);
        merge(&mut entity, &removed);
        let without = entity.clone().expect("a subscription");
        let conditions = without.conditions();
        let kinds: Vec<_> = conditions.iter().map(|it| it.key.kind).collect();
        assert_eq!(kinds, [ConditionKind::CouponNeeded]);
        let [task] = Task::all_of(&conditions).try_into().expect("one");
        let found = Found::from([
            (task.need.clone(), Some(without)),
            (needed(), Some(coupon())),
        ]);
        let Ok(Step::Decided(FromStore::Events(events))) = from_store(&task, Some(true), &found)
        else {
            panic!("the store has it")
        };
        for snapshot in events {
            let body = serde_json::from_str(&snapshot.body).expect("JSON");
            merge(&mut entity, &body);
        }
        assert_eq!(entity.expect("a subscription").conditions(), []);
    }

    #[test]
    fn no_other_object_is_an_answer_to_a_thin_event() {
        let mut task = task();
        let (key, cause) = task.waiting.pop_first().expect("one");
        let kind = ConditionKind::StateNeeded;
        task.waiting.insert(ConditionKey { kind, ..key }, cause);
        let found = [
            (task.need.clone(), Some(subscription())),
            (needed(), Some(coupon())),
        ];
        let step = from_store(&task, None, &found.into());
        assert_eq!(step, Ok(Step::Decided(FromStore::Unknown)));
    }
}
