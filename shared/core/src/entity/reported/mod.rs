//! Objects of the user's application, of which Stripe knows nothing: tickets, booking fees, members, which are alike but
//! for what they are counted as and how they are shown; and providers, of whom accounts say something, too.

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
use super::kind::EntityKind;
use super::mention::Mention;
use super::reports::{Field, Reports, Step};
use super::state::EntityState;
use super::transition::Transition;
use crate::class::{Class, Owner};
use crate::condition::{Condition, ConditionKey, ConditionKind};
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
    /// The kind.
    const KIND: EntityKind;

    /// What is shown of it between its id and its realm.
    const COLUMNS: &'static [Column<Reported<Self>>];

    /// See [`super::Entity::contributions`].
    fn contributions(reports: &Reports, tally: &mut Tally);

    /// See [`super::Entity::conditions`].
    fn condition(_reports: &Reports) -> Option<Reason> {
        None
    }
}

/// A problem of an object of the application.
pub struct Reason {
    kind: ConditionKind,
    /// When it began, in Unix seconds, and the event that says so.
    since: (i64, String),
    detail: Option<String>,
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
        let reason = K::condition(&self.reports).into_iter();
        let condition = |reason: Reason| {
            let (since_s, event_id) = reason.since;
            Condition {
                key: ConditionKey {
                    kind: reason.kind,
                    subject: EntityKey::new(K::KIND, &self.id),
                },
                since_s,
                began_before: None,
                due_s: since_s,
                account: None,
                realm: self.realm.clone().unwrap_or_default(),
                customer: self.reports.text(Field::Customer).map(str::to_owned),
                money: None,
                further_money: Vec::new(),
                uncertain: None,
                detail: reason.detail,
                event_id,
                times: None,
                answer_by_s: None,
                trial_end_s: None,
            }
        };
        reason.map(condition).collect()
    }

    fn transitions(&self) -> Vec<Transition> {
        transitions(&self.reports)
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

/// Everything that its events say to have happened.
fn transitions(reports: &Reports) -> Vec<Transition> {
    let change = |(at_s, event_id, step): (i64, &str, Step)| Transition {
        at_s,
        event_id: event_id.into(),
        what: step.as_str().to_owned(),
        expected: true,
    };
    reports.named().into_iter().map(change).collect()
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
