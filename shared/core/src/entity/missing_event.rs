//! An event that Stripe failed to make, as another event reports: which object it was about is known only
//! from Stripe's API. Source: <https://docs.stripe.com/webhooks/handle-irrecoverable-events>.

use serde::{Deserialize, Serialize};

use super::events::EventRef;
use super::key::EntityKey;
use super::mention::{Mention, unanswered};
use super::state::EntityState;
use super::transition::Transition;
use crate::class::{Class, Owner};
use crate::condition::Condition;
use crate::counters::Tally;
use crate::realm::Realm;

/// The report, and whether its object was found out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingEvent {
    /// That of the report: `evt_…`
    #[serde(skip)]
    pub id: String,
    /// The connected account that the report belongs to.
    pub account: Option<String>,
    /// When the API last said which object it was, Unix seconds.
    pub found_s: Option<i64>,
    /// Which of the platform's own Stripe accounts it is of.
    pub realm: Option<Realm>,
    /// The report.
    pub mention: Option<Mention>,
}

impl MissingEvent {
    /// The API said which object it was.
    pub(super) fn find(&mut self, at_s: i64) {
        self.found_s = self.found_s.max(Some(at_s));
    }

    /// See [`super::Entity::union`].
    pub(super) fn union(&mut self, other: &Self) {
        self.found_s = self.found_s.max(other.found_s);
    }
}

impl EntityState for MissingEvent {
    fn set_key(&mut self, key: &EntityKey) {
        self.id.clone_from(&key.id);
    }

    fn partition_key(&self) -> &str {
        self.account.as_ref().unwrap_or(&self.id)
    }

    fn account(&self) -> Option<&str> {
        self.account.as_deref()
    }

    fn unanswered(&self) -> Option<&Mention> {
        unanswered(self.mention.as_ref(), self.found_s)
    }

    fn class(&self) -> Class<'_> {
        Class::of(self.realm.as_ref(), Owner::of(self.account.as_deref()))
    }

    fn contributions(&self, _: &mut Tally) {}

    fn conditions(&self) -> Vec<Condition> {
        Vec::new()
    }

    fn transitions(&self) -> Vec<Transition> {
        Vec::new()
    }

    fn events(&self) -> Vec<EventRef> {
        Vec::new()
    }
}
