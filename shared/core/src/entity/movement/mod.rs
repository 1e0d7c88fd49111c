//! One movement of money, or an attempt at one: payment intent, checkout session, dispute, refund,
//! transfer. They all have an amount and a status that mostly moves in one direction, so they share
//! one type. What is different for one kind is in its own file.

pub mod checkout;
pub mod dispute;
pub mod facts;
pub mod payment;
pub mod refund;
pub mod transfer;

use self::facts::NO_RULES;
pub use self::facts::{
    MoneyMovement, MoneyMovementFacts, MoneyMovementOrigin, MovementRules, Reached,
};
use super::events::{EventRef, event_refs};
use super::key::EntityKey;
use super::kind::EntityKind;
use super::mention::{Mention, unanswered};
use super::state::EntityState;
use super::timeline::RecordedState;
use super::transition::{Transition, status_changes};
use crate::amounts::UncertainMoney;
use crate::class::{Class, Owner};
use crate::condition::{Condition, ConditionKey, ConditionKind};
use crate::counters::{Bucket, Tally};
use crate::money::Money;

/// How long before the deadline of a dispute its reminder is due.
const ANSWER_REMINDER_S: i64 = 3 * 86_400;

impl MoneyMovement {
    /// Merges one event.
    pub fn merge(
        &mut self,
        origin: &MoneyMovementOrigin,
        state: RecordedState<MoneyMovementFacts>,
    ) {
        self.origin.merge(origin);
        (self.rules().record)(&mut self.reached, &state);
        self.timeline.insert(state);
    }

    /// See [`super::Entity::union`].
    pub(super) fn union(&mut self, other: &Self) {
        self.origin.merge(&other.origin);
        self.reached.merge(&other.reached);
        self.timeline.union(&other.timeline);
    }

    /// The connected account concerned: the one that it belongs to, or that a transfer goes to.
    pub fn account(&self) -> Option<&str> {
        let destination = self.origin.of.as_deref();
        let destination = destination.filter(|_| self.kind == EntityKind::Transfer);
        self.origin.account.as_deref().or(destination)
    }

    /// What is different for its kind.
    fn rules(&self) -> &'static MovementRules {
        match self.kind {
            EntityKind::Payment => &payment::RULES,
            EntityKind::Checkout => &checkout::RULES,
            EntityKind::Dispute => &dispute::RULES,
            EntityKind::Refund => &refund::RULES,
            EntityKind::Transfer => &transfer::RULES,
            EntityKind::Subscription
            | EntityKind::Invoice
            | EntityKind::Payout
            | EntityKind::Account
            | EntityKind::Customer
            | EntityKind::Coupon
            | EntityKind::MissingEvent
            | EntityKind::Ticket
            | EntityKind::Provider
            | EntityKind::BookingFee
            | EntityKind::Member => &NO_RULES,
        }
    }
}

impl EntityState for MoneyMovement {
    fn set_key(&mut self, key: &EntityKey) {
        self.kind = key.kind;
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
        Class::of(
            self.realm.as_ref(),
            Owner::of(self.origin.account.as_deref()),
        )
    }

    fn contributions(&self, tally: &mut Tally) {
        (self.rules().contributions)(self, tally);
        if let Some(facts) = self.current() {
            tally.add(
                Bucket::Current,
                &[self.kind.plural(), facts.status_label()],
                1,
            );
        }
    }

    fn conditions(&self) -> Vec<Condition> {
        let Some(facts) = self.current() else {
            return Vec::new();
        };
        let status_field = self.rules().status_field;
        let held_before = |s: &RecordedState<_>| s.unchanged(status_field);
        let status = |f: &MoneyMovementFacts| (f.status.clone(), f.reversed_minor);
        let now = status(facts);
        let first = self.timeline.since(|f| status(f) == now, held_before);
        let Some(first) = first else {
            return Vec::new();
        };
        let minor = facts.reversed_minor.or(facts.amount_minor);
        let currency = self.origin.currency.as_deref();
        let condition = |kind, due_s, answer_by_s| Condition {
            key: ConditionKey {
                kind,
                subject: EntityKey::new(self.kind, &self.id),
            },
            since_s: first.created_s,
            began_before: self.timeline.began_before(first, held_before),
            due_s,
            account: self.account().map(str::to_owned),
            customer: self.origin.customer.clone(),
            realm: self.realm.clone().unwrap_or_default(),
            money: Money::known(minor, currency),
            detail: (self.rules().detail)(self),
            event_id: first.event_id.to_string(),
            times: None,
            answer_by_s,
            trial_end_s: None,
            further_money: Vec::new(),
            uncertain: UncertainMoney::read(minor, None, currency),
        };
        let answer_by_s = (self.rules().answer_by)(facts);
        let problem = (self.rules().condition)(facts);
        let problem = problem.map(|kind| condition(kind, first.created_s, answer_by_s));
        let reminder = answer_by_s.map(|at_s| {
            let due_s = at_s.saturating_sub(ANSWER_REMINDER_S);
            condition(ConditionKind::DisputeEvidenceDue, due_s, answer_by_s)
        });
        problem.into_iter().chain(reminder).collect()
    }

    /// Every change of status and of what was reversed, oldest first.
    fn transitions(&self) -> Vec<Transition> {
        let status_field = self.rules().status_field;
        let mut found = status_changes(&self.timeline, status_field, None, |facts| &facts.status);
        found.extend(transfer::further_reversals(self));
        found.sort_by_key(|transition| transition.at_s);
        found
    }

    fn events(&self) -> Vec<EventRef> {
        event_refs(&self.timeline, None)
    }
}
