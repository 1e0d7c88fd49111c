//! Objects of the user's application, of which Stripe knows nothing: tickets, providers, booking fees, members. They
//! are alike but for what they are counted as and how they are shown.

mod booking_fee;
mod member;
mod provider;
#[cfg(test)]
mod tests;
mod ticket;

use std::fmt;
use std::marker::PhantomData;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use self::booking_fee::BookingFee;
pub use self::member::Member;
pub use self::provider::Provider;
pub use self::ticket::Ticket;
use super::events::EventRef;
use super::key::EntityKey;
use super::mention::Mention;
use super::reports::{Field, Reports};
use super::state::EntityState;
use super::transition::Transition;
use crate::class::{Class, Owner};
use crate::condition::Condition;
use crate::counters::Tally;
use crate::realm::Realm;
use crate::view::column::{Column, Unit, column};
use crate::view::field::Columns;

/// An object of the application.
#[derive(Clone, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Reported<K> {
    /// The application's own id.
    #[serde(skip)]
    pub id: String,
    /// The realm of the endpoint that its events came to.
    pub realm: Option<Realm>,
    /// What its events say.
    pub reports: Reports,
    #[serde(skip)]
    of: PhantomData<K>,
}

/// What is different for one kind of them.
pub trait ReportedKind: Sized + 'static {
    /// What is shown of it between its id and its realm.
    const COLUMNS: &'static [Column<Reported<Self>>];

    /// See [`super::Entity::contributions`].
    fn contributions(reports: &Reports, tally: &mut Tally);
}

impl<K> Reported<K> {
    /// See [`super::Entity::union`].
    pub(super) fn union(&mut self, other: &Self) {
        self.reports.union(&other.reports);
    }

    fn text(&self, field: Field) -> Value {
        json!(self.reports.text(field))
    }
}

impl<K: ReportedKind> EntityState for Reported<K> {
    fn set_key(&mut self, key: &EntityKey) {
        self.id.clone_from(&key.id);
    }

    fn partition_key(&self) -> &str {
        &self.id
    }

    fn account(&self) -> Option<&str> {
        None
    }

    fn unanswered(&self) -> Option<&Mention> {
        None
    }

    fn class(&self) -> Class<'_> {
        Class::of(self.realm.as_ref(), Owner::Platform)
    }

    fn contributions(&self, tally: &mut Tally) {
        K::contributions(&self.reports, tally);
    }

    fn conditions(&self) -> Vec<Condition> {
        Vec::new()
    }

    fn transitions(&self) -> Vec<Transition> {
        let named = self.reports.named().into_iter();
        let change = |(at_s, event_id, step): (i64, &str, super::reports::Step)| Transition {
            at_s,
            event_id: event_id.into(),
            what: step.as_str().to_owned(),
            expected: true,
        };
        named.map(change).collect()
    }

    fn events(&self) -> Vec<EventRef> {
        EventRef::of_reports(&self.reports)
    }
}

impl<K: ReportedKind> Columns for Reported<K> {
    const COLUMNS: &'static [Column<Self>] = K::COLUMNS;

    fn details(&self) -> Value {
        json!({})
    }

    fn has_row(&self) -> bool {
        !self.reports.is_empty()
    }
}

/// The first column.
const fn id<K>() -> Column<Reported<K>> {
    column("id", Unit::Text, |it| json!(it.id))
}

/// The last column.
const fn realm<K>() -> Column<Reported<K>> {
    column("realm", Unit::Text, |it| {
        json!(it.realm.as_ref().map(Realm::as_str))
    })
}

// Without a bound on what only marks the type.
impl<K> fmt::Debug for Reported<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Reported");
        shown.field("id", &self.id).field("realm", &self.realm);
        shown.field("reports", &self.reports).finish()
    }
}

impl<K> Default for Reported<K> {
    fn default() -> Self {
        Self {
            id: String::new(),
            realm: None,
            reports: Reports::default(),
            of: PhantomData,
        }
    }
}

impl<K> PartialEq for Reported<K> {
    fn eq(&self, other: &Self) -> bool {
        (&self.id, &self.realm, &self.reports) == (&other.id, &other.realm, &other.reports)
    }
}

impl<K> Eq for Reported<K> {}
