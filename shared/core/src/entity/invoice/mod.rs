//! An invoice: status, amounts, attempts to collect it.

mod collection;
mod facts;
mod payments;
mod stripe_object;

use serde::{Deserialize, Serialize};

use self::collection::{OpenState, Retry, Unreported, had_failed, was_exhausted};
pub use self::facts::{InvoiceFacts, InvoiceOrigin, NextAttempt};
pub use self::payments::{InvoicePayment, InvoicePayments};
use super::events::{EventRef, event_refs};
use super::key::EntityKey;
use super::kind::EntityKind;
use super::mention::{Mention, unanswered};
use super::state::EntityState;
use super::timeline::{RecordedState, Timeline};
use super::transition::{Transition, status_changes};
use crate::amounts::UncertainMoney;
use crate::class::{Class, Owner};
use crate::condition::{BeganBefore, Condition, ConditionKey, ConditionKind};
use crate::counters::{Bucket, Tally};
use crate::money::Money;
use crate::realm::Realm;

/// The counter of invoices that bill a subscription.
pub const INVOICES_OF_SUBSCRIPTIONS: &str = "invoices_of_subscriptions";

/// The state of an invoice, as known from its events.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invoice {
    /// `in_…`
    #[serde(skip)]
    pub id: String,
    /// Facts that never change.
    pub origin: InvoiceOrigin,
    /// The recorded states.
    pub timeline: Timeline<InvoiceFacts>,
    /// Which of the platform's own Stripe accounts it is of; unknown of what earlier versions stored.
    #[serde(default)]
    pub realm: Option<Realm>,
    /// Its payments, as far as events are about them.
    #[serde(default)]
    pub payments: InvoicePayments,
    /// The newest thin event that names it.
    #[serde(default)]
    pub mention: Option<Mention>,
}

impl Invoice {
    /// Merges one event.
    pub fn merge(&mut self, origin: &InvoiceOrigin, state: RecordedState<InvoiceFacts>) {
        self.origin.merge(origin);
        self.timeline.insert(state);
    }

    /// Merges the event of one of its payments.
    pub fn merge_payment(&mut self, origin: &InvoiceOrigin, id: &str, payment: &InvoicePayment) {
        self.origin.merge(origin);
        self.payments.insert(id, payment);
    }

    /// See [`super::Entity::union`].
    pub(super) fn union(&mut self, other: &Self) {
        self.origin.merge(&other.origin);
        self.timeline.union(&other.timeline);
        self.payments.union(&other.payments);
    }

    /// The current state.
    pub fn current(&self) -> Option<&InvoiceFacts> {
        self.timeline.last().map(|s| &*s.facts)
    }

    /// What was paid of it, in minor units, if known. Neither its own events nor those of its payments come in
    /// order, and each of them may be missing: both say what was paid at least.
    pub fn paid_minor(&self) -> Option<i64> {
        self.paid_minor_in(self.timeline.last()?)
    }

    /// The amount remaining, in minor units, if known.
    pub fn owed_minor(&self) -> Option<i64> {
        self.remaining_minor(self.timeline.last()?)
    }

    fn paid_minor_in(&self, state: &RecordedState<InvoiceFacts>) -> Option<i64> {
        let paid_minor = state.facts.amount_paid_minor?;
        let with_later = paid_minor.saturating_add(self.payments.minor_after(state.created_s));
        Some(with_later.max(self.payments.total_minor()))
    }

    fn remaining_minor(&self, state: &RecordedState<InvoiceFacts>) -> Option<i64> {
        let due_minor = state.facts.amount_due_minor?;
        let paid_minor = self.paid_minor_in(state)?;
        Some(due_minor.saturating_sub(paid_minor).max(0))
    }

    fn condition(
        &self,
        kind: ConditionKind,
        first: &RecordedState<InvoiceFacts>,
        began_before: Option<BeganBefore>,
        attempts: Option<u32>,
    ) -> Condition {
        let (owed_minor, currency) = (self.owed_minor(), self.origin.currency.as_deref());
        // What was paid makes it less.
        let due_minor = self.current().and_then(|facts| facts.amount_due_minor);
        Condition {
            key: ConditionKey {
                kind,
                subject: EntityKey::new(EntityKind::Invoice, &self.id),
            },
            since_s: first.created_s,
            began_before,
            due_s: first.created_s,
            account: self.origin.account.clone(),
            customer: self.origin.customer.clone(),
            realm: self.realm.clone().unwrap_or_default(),
            money: Money::known(owed_minor, currency),
            detail: attempts.map(|attempts| format!("{attempts} attempt(s)")),
            event_id: first.event_id.to_string(),
            times: None,
            answer_by_s: None,
            trial_end_s: None,
            further_money: Vec::new(),
            uncertain: UncertainMoney::read(owed_minor, due_minor, currency),
        }
    }

    /// Since when which number of attempts had failed, while Stripe goes on or that is not known.
    fn failures(&self, open: &[OpenState<'_>]) -> Vec<Condition> {
        let attempts = open.last().map(|newest| newest.failed);
        let since = |at_least| open.iter().find(|state| state.failed >= at_least);
        let kinds = [
            (ConditionKind::InvoicePaymentFailed, 1),
            (ConditionKind::DunningEscalation, 3),
        ];
        let begun = kinds.into_iter().filter_map(|(kind, at_least)| {
            let first = since(at_least)?.state;
            let held_before = |s: &RecordedState<_>| Some(had_failed(s, at_least));
            let began_before = self.timeline.began_before(first, held_before);
            let condition = self.condition(kind, first, began_before, attempts);
            // Finance is notified of each failed attempt (K4). From the third on, all are one escalation.
            let each = kind == ConditionKind::InvoicePaymentFailed;
            Some(Condition {
                times: attempts.filter(|_| each),
                ..condition
            })
        });
        begun.collect()
    }

    fn exhausted(&self, open: &[OpenState<'_>]) -> Option<Condition> {
        let first = self.exhausted_since(open)?;
        let began_before = self.timeline.began_before(first, was_exhausted);
        let attempts = open.last().map(|newest| newest.failed);
        let kind = ConditionKind::RetriesExhausted;
        Some(self.condition(kind, first, began_before, attempts))
    }
}

impl EntityState for Invoice {
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
        Class::of(
            self.realm.as_ref(),
            Owner::of(self.origin.account.as_deref()),
        )
    }

    fn contributions(&self, tally: &mut Tally) {
        let Some(facts) = self.current() else { return };
        tally.add(Bucket::Current, &["invoices", facts.status.label()], 1);
        if self.origin.subscription.is_some() {
            tally.add(Bucket::Current, &[INVOICES_OF_SUBSCRIPTIONS], 1);
        }
        if !facts.is_open() {
            return;
        }
        let mut owed = |family: &str| {
            tally.add_amount(
                Bucket::Current,
                &[family],
                self.owed_minor(),
                self.origin.currency.as_deref(),
            );
        };
        owed("invoices_open_minor");
        let retry = self.open_states().last().map(|newest| self.retry(newest));
        let families = match retry.unwrap_or(Retry::Other) {
            Retry::Scheduled => Some(("invoices_retrying", "invoices_retrying_minor")),
            Retry::Exhausted => Some(("invoices_uncollected", "invoices_uncollected_minor")),
            Retry::Other => None,
        };
        if let Some((count, minor)) = families {
            owed(minor);
            tally.add(Bucket::Current, &[count], 1);
        }
    }

    /// While Stripe tries to collect it, each failed attempt counts. When it does not try any more, that is the
    /// only problem; it lasts until the invoice is paid, written off or void.
    fn conditions(&self) -> Vec<Condition> {
        let open = self.open_states();
        if open.is_empty() || self.owed_minor() == Some(0) {
            return Vec::new();
        }
        let mut found = match self.exhausted(&open) {
            Some(exhausted) => vec![exhausted],
            None => self.failures(&open),
        };
        if let Some(first) = open.iter().find(|open| open.state.facts.action_required) {
            // The event itself says so, and at once.
            let kind = ConditionKind::PaymentActionRequired;
            found.push(self.condition(kind, first.state, None, None));
        }
        if let Some(attempt) = self.unreported(&open) {
            let Unreported { first, due_s, .. } = attempt;
            let began_before = self.timeline.began_before(first, |s| attempt.was_so(s));
            let attempts = open.last().map(|newest| newest.attempts.max(newest.failed));
            let kind = ConditionKind::AttemptUnreported;
            found.push(Condition {
                due_s,
                ..self.condition(kind, first, began_before, attempts)
            });
        }
        found
    }

    /// Every change of status and every payment, oldest first.
    fn transitions(&self) -> Vec<Transition> {
        let mut found = status_changes(&self.timeline, "status", None, |facts| {
            facts.status.as_str()
        });
        found.extend(self.payments.transitions());
        found.sort_by_key(|change| change.at_s);
        found
    }

    fn events(&self) -> Vec<EventRef> {
        let mut found = event_refs(&self.timeline, None);
        found.extend(self.payments.events());
        found.sort_by_key(|event| event.created_s);
        found
    }
}
