//! The objects whose state revwatch keeps, and the pure functions on them.
//!
//! An entity accumulates what events say about it ([`Entity::merge`]); everything else is a
//! function of the accumulated state. Stripe guarantees neither order nor uniqueness, therefore:
//!
//! Invariant: `merge` is commutative, associative and idempotent. Any permutation and any repetition
//! of the same events gives an entity that encodes to the same bytes.

pub mod account;
mod compact;
pub mod events;
pub mod invoice;
pub mod kind;
pub mod movement;
pub mod payout;
pub mod risk;
mod state;
pub mod stripe_enums;
pub mod subscription;
pub mod timeline;

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use self::account::{Account, AccountUpdate};
use self::events::EventRef;
use self::invoice::{Invoice, InvoiceFacts, InvoiceOrigin};
pub use self::kind::EntityKind;
use self::movement::{MoneyMovement, MoneyMovementFacts, MoneyMovementOrigin};
use self::payout::{Payout, PayoutFacts, PayoutOrigin};
pub use self::state::EntityState;
use self::subscription::{Subscription, SubscriptionFacts, SubscriptionOrigin};
use self::timeline::{Facts, RecordedState, Timeline, fingerprint};
use crate::condition::Condition;
use crate::counters::{Counters, Tally};

/// One entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entity {
    /// `sub_…`
    Subscription(Subscription),
    /// `in_…`
    Invoice(Invoice),
    /// `po_…`
    Payout(Payout),
    /// `acct_…`
    Account(Account),
    /// Payment intent, checkout session, dispute, refund or transfer.
    Movement(MoneyMovement),
}

/// What one event says about one entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// The entity.
    pub key: EntityKey,
    /// Unix seconds, from the event.
    pub created_s: i64,
    /// The content.
    pub update: Update,
}

/// The content of an observation, by kind of entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// About a subscription.
    Subscription(SubscriptionOrigin, RecordedState<SubscriptionFacts>),
    /// About an invoice.
    Invoice(InvoiceOrigin, RecordedState<InvoiceFacts>),
    /// About a payout.
    Payout(PayoutOrigin, RecordedState<PayoutFacts>),
    /// About a connected account.
    Account(AccountUpdate),
    /// About a movement of money.
    Movement(MoneyMovementOrigin, RecordedState<MoneyMovementFacts>),
}

/// A change worth a log line and an audit entry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Transition {
    /// Unix seconds.
    pub at_s: i64,
    /// The event that caused it.
    pub event_id: String,
    /// For example `status active → past_due`.
    pub what: String,
    /// Whether the documented lifecycle of such an object has this change (K3); otherwise it is
    /// flagged.
    pub expected: bool,
}

impl Entity {
    /// An entity without any known state.
    pub fn new(key: &EntityKey) -> Self {
        (key.kind.row().state.empty)(key)
    }

    /// Merges an observation of this entity.
    pub fn merge(&mut self, observation: &Observation) {
        match (self, &observation.update) {
            (Self::Subscription(s), Update::Subscription(origin, state)) => {
                s.merge(origin, state.clone());
            }
            (Self::Invoice(i), Update::Invoice(origin, state)) => i.merge(origin, state.clone()),
            (Self::Payout(p), Update::Payout(origin, state)) => p.merge(origin, state.clone()),
            (Self::Movement(m), Update::Movement(origin, state)) => m.merge(origin, state.clone()),
            (Self::Account(a), Update::Account(update)) => {
                a.merge(observation.created_s, update.clone());
            }
            (entity, update) => debug_assert!(false, "{update:?} does not match {entity:?}"),
        }
    }

    /// What this entity adds to every aggregate. A total is the sum of this over all entities.
    pub fn contributions(&self) -> Counters {
        Counters::from(&self.tally())
    }

    /// The contributions before they are summed up.
    pub fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        self.state().contributions(&mut tally);
        tally
    }

    /// Its problems, present and scheduled.
    pub fn conditions(&self) -> Vec<Condition> {
        self.state().conditions()
    }

    /// All remembered transitions, oldest first.
    pub fn history(&self) -> Vec<Transition> {
        self.state().transitions()
    }

    /// Every remembered event, whether it changed anything or not, in the order in which things
    /// happened. Where only the latest event counts (authorization, a bank account), only that one.
    pub fn events(&self) -> Vec<EventRef> {
        self.state().events()
    }

    /// The stored bytes: a format number, then MessagePack with fields by position. New fields are
    /// appended and have a default.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT];
        self.state().encode(&mut bytes);
        bytes
    }

    /// Decodes the output of [`Entity::encode`].
    pub fn decode(key: &EntityKey, bytes: &[u8]) -> Result<Self, String> {
        match bytes.split_first() {
            Some((&FORMAT, rest)) => {
                (key.kind.row().state.decode)(key, rest).map_err(|e| format!("{key}: {e}"))
            }
            Some((other, _)) => Err(format!(
                "{key}: format {other} was written by another version of revwatch"
            )),
            None => Err(format!("{key}: empty")),
        }
    }

    /// The state, without its type.
    pub fn state(&self) -> &dyn EntityState {
        match self {
            Self::Subscription(s) => s,
            Self::Invoice(i) => i,
            Self::Payout(p) => p,
            Self::Account(a) => a,
            Self::Movement(m) => m,
        }
    }
}

/// The transitions in `after` that are not in `before`. An event that arrives late adds transitions
/// in the past.
pub fn transitions(before: &Entity, after: &Entity) -> Vec<Transition> {
    let known: HashSet<Transition> = before.history().into_iter().collect();
    after
        .history()
        .into_iter()
        .filter(|t| !known.contains(t))
        .collect()
}

const FORMAT: u8 = 1;

/// Identifies an entity.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EntityKey {
    /// The kind.
    pub kind: EntityKind,
    /// Stripe's id.
    pub id: String,
}

impl EntityKey {
    /// `id` is Stripe's id.
    pub fn new(kind: EntityKind, id: impl Into<String>) -> Self {
        Self {
            kind,
            id: id.into(),
        }
    }
}

impl std::fmt::Display for EntityKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind.as_str(), self.id)
    }
}

/// For immutable facts: the greater value wins, so that even contradicting events merge equally in
/// any order.
fn keep_greater<T: Ord + Clone>(kept: &mut Option<T>, new: &Option<T>) {
    if *new > *kept {
        kept.clone_from(new);
    }
}

/// The earliest time wins.
fn keep_smaller(kept: &mut Option<i64>, new: i64) {
    *kept = Some(kept.map_or(new, |k| k.min(new)));
}

/// The fingerprint of a value in Stripe's JSON.
fn value_fingerprint<T: Serialize>(value: T) -> u32 {
    fingerprint(&serde_json::to_string(&value).unwrap_or_default())
}

/// Every change of a status without forbidden transitions, oldest first.
fn status_changes<F: Facts>(
    timeline: &Timeline<F>,
    status: impl Fn(&F) -> &str,
) -> Vec<Transition> {
    let mut before: Option<&str> = None;
    let mut found = Vec::new();
    for state in timeline.in_order() {
        let now = status(&state.facts);
        if before != Some(now) {
            found.push(Transition {
                at_s: state.created_s,
                event_id: state.event_id.clone(),
                what: format!("status {} → {now}", before.unwrap_or("(new)")),
                expected: true,
            });
        }
        before = Some(now);
    }
    found
}

#[cfg(test)]
mod tests;
