//! A customer: whose it is, and who that is in the user's own application. Names and addresses are not
//! stored.

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::application_ids::ApplicationIds;
use super::events::{EventRef, event_refs};
use super::key::EntityKey;
use super::mention::{Mention, unanswered};
use super::merge::{keep_greater, keep_smaller};
use super::state::EntityState;
use super::subscribed::Subscriptions;
use super::timeline::{Facts, RecordedState, Timeline, value_fingerprint};
use super::transition::{Transition, status_changes};
use crate::class::{Class, Owner};
use crate::condition::Condition;
use crate::counters::{Bucket, Tally};
use crate::realm::Realm;

/// The state of a customer, as known from its events.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Customer {
    /// `cus_…`
    #[serde(skip)]
    pub id: String,
    /// Facts that never change.
    pub origin: CustomerOrigin,
    /// The recorded states.
    pub timeline: Timeline<CustomerFacts>,
    /// Which of the platform's own Stripe accounts it is of.
    #[serde(default)]
    pub realm: Option<Realm>,
    /// The newest thin event that names it.
    #[serde(default)]
    pub mention: Option<Mention>,
    /// Its subscriptions.
    #[serde(default)]
    pub subscriptions: Subscriptions,
}

/// Facts outside of the recorded states.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustomerOrigin {
    /// The connected account it belongs to.
    pub account: Option<String>,
    /// `created` of the customer itself, Unix seconds.
    pub created_s: Option<i64>,
    /// Ids of the platform's own application, as the newest event shows them.
    #[serde(default)]
    pub ids: Option<ApplicationIds>,
}

/// The state of a customer in one event.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "StoredFacts")]
pub struct CustomerFacts {
    /// Whether it was deleted.
    pub deleted: bool,
}

/// The stored form of [`CustomerFacts`].
#[derive(Deserialize)]
struct StoredFacts(
    bool,
    /// In encoding 2, at first, two ids from the metadata of the event.
    #[serde(default)]
    IgnoredAny,
    #[serde(default)] IgnoredAny,
);

impl From<StoredFacts> for CustomerFacts {
    fn from(StoredFacts(deleted, ..): StoredFacts) -> Self {
        Self { deleted }
    }
}

impl Customer {
    /// Merges one event.
    pub fn merge(&mut self, origin: &CustomerOrigin, state: RecordedState<CustomerFacts>) {
        self.origin.merge(origin);
        self.timeline.insert(state);
    }

    pub(super) fn union(&mut self, other: &Self) {
        self.origin.merge(&other.origin);
        self.timeline.union(&other.timeline);
        self.subscriptions.union(&other.subscriptions);
    }

    /// The current state.
    pub fn current(&self) -> Option<&CustomerFacts> {
        self.timeline.last().map(|s| &*s.facts)
    }
}

impl CustomerOrigin {
    fn merge(&mut self, other: &Self) {
        keep_greater(&mut self.account, &other.account);
        keep_greater(&mut self.ids, &other.ids);
        if let Some(created_s) = other.created_s {
            keep_smaller(&mut self.created_s, created_s);
        }
    }
}

impl EntityState for Customer {
    fn set_key(&mut self, key: &EntityKey) {
        self.id.clone_from(&key.id);
    }

    fn partition_key(&self) -> &str {
        self.origin.account.as_ref().unwrap_or(&self.id)
    }

    fn account(&self) -> Option<&str> {
        self.origin.account.as_deref()
    }

    fn unanswered(&self) -> Option<&Mention> {
        unanswered(self.mention.as_ref(), self.timeline.newest_s())
    }

    fn class(&self) -> Class<'_> {
        let owner = Owner::of(self.origin.account.as_deref());
        Class::of(self.realm.as_ref(), owner)
    }

    fn contributions(&self, tally: &mut Tally) {
        if let Some(facts) = self.current() {
            tally.add(Bucket::Current, &["customers", facts.status()], 1);
        }
        self.subscriptions.count(tally);
    }

    fn conditions(&self) -> Vec<Condition> {
        Vec::new()
    }

    /// Its creation and its deletion.
    fn transitions(&self) -> Vec<Transition> {
        let began_s = self.origin.created_s;
        status_changes(&self.timeline, "deleted", began_s, |facts| facts.status())
    }

    fn events(&self) -> Vec<EventRef> {
        event_refs(&self.timeline, None)
    }
}

impl CustomerFacts {
    /// `active` or `deleted`.
    pub fn status(&self) -> &'static str {
        if self.deleted { "deleted" } else { "active" }
    }
}

impl Facts for CustomerFacts {
    const FIELDS: &'static [&'static str] = &["deleted"];

    /// No event has `deleted` in its `previous_attributes`, so each recorded change is one of `metadata`.
    const FIELDS_OF_FORMAT_2: &'static [&'static str] = &["metadata"];

    /// A deleted customer does not come back.
    fn progress(&self) -> u64 {
        self.deleted.into()
    }

    fn value(&self, _: usize) -> u32 {
        value_fingerprint(self.deleted)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::counters::Bucket;
    use crate::entity::{Entity, EntityKey, EntityKind, Observation};
    use crate::event::Event;
    use crate::observe::{ObserveSettings, observe};

    fn event(at_s: i64, last: &str, account: Option<&str>, metadata: &Value) -> Vec<Observation> {
        let body = json!({"id": format!("evt_{at_s}"), "type": format!("customer.{last}"), "created": at_s,
            "account": account, "data": {"object": {"id": "cus_1", "object": "customer", "created": 5,
            "email": "jane@example.com", "metadata": metadata}}})
        .to_string();
        let event = Event::parse(body.as_bytes()).expect("an event");
        observe(&event, &ObserveSettings::default()).expect("readable")
    }

    fn after<'a>(observed: impl IntoIterator<Item = &'a Observation>) -> Entity {
        let mut entity = Entity::new(&EntityKey::new(EntityKind::Customer, "cus_1"));
        for observation in observed {
            if observation.key.kind == EntityKind::Customer {
                entity.merge(observation);
            }
        }
        entity
    }

    fn ids(entity: &Entity) -> (Option<String>, Option<String>) {
        let Entity::Customer(customer) = entity else {
            panic!("{entity:?}");
        };
        let ids = customer.origin.ids.clone();
        ids.map_or((None, None), |ids| (ids.app_id, ids.user_id))
    }

    #[test]
    fn a_customer_is_counted_once_and_has_the_ids_of_its_newest_metadata_in_any_order() {
        let of = |app: &str| json!({"app_id": app, "user_id": "7"});
        let observed: Vec<_> = [
            event(10, "created", None, &of("shop")),
            event(20, "updated", None, &of("other")),
            event(30, "deleted", None, &json!({})),
        ]
        .concat();
        let (first, all) = (after(&observed[..2]), after(&observed));
        assert_eq!(ids(&first), (Some("other".into()), Some("7".into())));
        assert_eq!(ids(&all), (None, None), "the metadata was removed");
        let count = |entity: &Entity| {
            let counters = entity.contributions();
            ["active", "deleted"]
                .map(|status| counters.get(Bucket::Current, &["customers", status]))
        };
        assert_eq!((count(&first), count(&all)), ([1, 0], [0, 1]));
        assert_eq!(after(observed.iter().rev()), all);
        let bytes = all.encode();
        assert!(!bytes.windows(4).any(|w| w == b"jane"), "no addresses");
    }

    /// A connected account writes what it likes into its metadata.
    #[test]
    fn a_connected_accounts_customer_is_its_own_and_has_no_ids() {
        let entity = after(&event(
            10,
            "created",
            Some("acct_1"),
            &json!({"app_id": "shop"}),
        ));
        assert_eq!(ids(&entity), (None, None));
        let counters = entity.contributions();
        let connected = ["main/connected:customers", "active"];
        assert_eq!(counters.get(Bucket::Current, &connected), 1);
        assert_eq!(counters.get(Bucket::Current, &["customers", "active"]), 0);
    }

    #[test]
    fn a_customer_that_is_updated_first_is_not_new() {
        let mut body = json!({"id": "evt_1", "type": "customer.updated", "created": 9,
            "data": {"object": {"id": "cus_1", "object": "customer"}}});
        let history = |body: &Value| {
            let body = body.to_string();
            let event = Event::parse(body.as_bytes()).expect("an event");
            let observed = observe(&event, &ObserveSettings::default()).expect("readable");
            let history = after(&observed).history().into_iter();
            history.map(|change| change.what).collect::<Vec<_>>()
        };
        assert_eq!(history(&body), ["status (new) → active"]);
        body["data"]["object"]["created"] = json!(8);
        assert_eq!(history(&body), ["status (new) → active"], "of that hour");
        body["created"] = json!(8_000_000);
        assert_eq!(history(&body), ["status (first seen) → active"]);
        body["data"]["previous_attributes"] = json!({"email": "old@example.com"});
        assert_eq!(history(&body), ["status (first seen) → active"]);
    }
}
