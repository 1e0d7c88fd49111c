//! A customer: whose it is, and who that is in the user's own application. Names and addresses are not
//! stored.

use serde::{Deserialize, Serialize};

use super::application_ids::ApplicationIds;
use super::events::{EventRef, event_refs};
use super::key::EntityKey;
use super::merge::{keep_greater, keep_smaller};
use super::state::EntityState;
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
pub struct CustomerFacts {
    /// Whether it was deleted.
    pub deleted: bool,
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

    fn class(&self) -> Class<'_> {
        let owner = Owner::of(self.origin.account.as_deref());
        Class::of(self.realm.as_ref(), owner)
    }

    fn contributions(&self, tally: &mut Tally) {
        let Some(facts) = self.current() else { return };
        tally.add(Bucket::Current, &["customers", facts.status()], 1);
    }

    fn conditions(&self) -> Vec<Condition> {
        Vec::new()
    }

    /// Its creation and its deletion.
    fn transitions(&self) -> Vec<Transition> {
        status_changes(&self.timeline, "deleted", |facts| facts.status())
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

    /// A deleted customer does not come back.
    fn progress(&self) -> u64 {
        self.deleted.into()
    }

    fn values(&self) -> Vec<u32> {
        vec![value_fingerprint(self.deleted)]
    }
}
