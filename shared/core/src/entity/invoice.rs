//! An invoice: status, amounts, payment attempts.

use serde::{Deserialize, Serialize};

use super::events::{EventRef, event_refs};
use super::key::EntityKey;
use super::kind::EntityKind;
use super::merge::keep_greater;
use super::state::EntityState;
use super::stripe_enums::InvoiceStatus;
use super::timeline::{Before, Facts, RecordedState, Timeline, value_fingerprint};
use super::transition::{Transition, status_changes};
use crate::class::{Class, Owner};
use crate::condition::{Condition, ConditionKey, ConditionKind};
use crate::counters::{Bucket, Tally};
use crate::money::Money;
use crate::realm::Realm;

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
}

/// Facts that Stripe never changes during an invoice's life.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvoiceOrigin {
    /// The connected account it belongs to.
    pub account: Option<String>,
    /// `cus_…`
    pub customer: Option<String>,
    /// The subscription it bills.
    pub subscription: Option<String>,
    /// Lower case.
    pub currency: Option<String>,
}

/// The state of an invoice in one event.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct InvoiceFacts {
    /// Stripe's status, or `deleted`.
    pub status: InvoiceStatus,
    /// Minor units, if known.
    pub amount_due_minor: Option<i64>,
    /// Minor units, if known.
    pub amount_paid_minor: Option<i64>,
    /// Payment attempts so far, if known.
    pub attempts: Option<u32>,
    /// The event itself requires the customer to act (`invoice.payment_action_required`).
    pub action_required: bool,
}

impl InvoiceOrigin {
    fn merge(&mut self, other: &Self) {
        keep_greater(&mut self.account, &other.account);
        keep_greater(&mut self.customer, &other.customer);
        keep_greater(&mut self.subscription, &other.subscription);
        keep_greater(&mut self.currency, &other.currency);
    }
}

impl Invoice {
    /// Merges one event.
    pub fn merge(&mut self, origin: &InvoiceOrigin, state: RecordedState<InvoiceFacts>) {
        self.origin.merge(origin);
        self.timeline.insert(state);
    }

    /// See [`super::Entity::union`].
    pub(super) fn union(&mut self, other: &Self) {
        self.origin.merge(&other.origin);
        self.timeline.union(&other.timeline);
    }

    /// The current state.
    pub fn current(&self) -> Option<&InvoiceFacts> {
        self.timeline.last().map(|s| &*s.facts)
    }

    /// While it is open, newest first.
    fn open_states(&self) -> impl Iterator<Item = &RecordedState<InvoiceFacts>> {
        let newest_first = self.timeline.in_order().into_iter().rev();
        newest_first.take_while(|state| state.facts.status == InvoiceStatus::Open)
    }

    /// The first state since which it is open after at least this many attempts to collect it. A
    /// state whose attempts are unknown neither begins nor ends that: attempts only grow.
    fn open_after(&self, attempts: u32) -> Option<&RecordedState<InvoiceFacts>> {
        self.open_states()
            .take_while(|state| state.facts.attempts.is_none_or(|known| known >= attempts))
            .filter(|state| state.facts.attempts.is_some())
            .last()
    }
}

impl EntityState for Invoice {
    fn set_key(&mut self, key: &EntityKey) {
        self.id.clone_from(&key.id);
    }

    fn partition_key(&self) -> &str {
        self.origin.account.as_ref().unwrap_or(&self.id)
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
        if facts.status == InvoiceStatus::Open {
            tally.add_amount(
                Bucket::Current,
                &["invoices_open_minor"],
                facts.owed_minor(),
                self.origin.currency.as_deref(),
            );
        }
        if self.open_after(1).is_some() {
            tally.add(Bucket::Current, &["invoices_retrying"], 1);
        }
    }

    fn conditions(&self) -> Vec<Condition> {
        let Some(facts) = self.current().filter(|f| f.status == InvoiceStatus::Open) else {
            return Vec::new();
        };
        let money = Money::known(facts.owed_minor(), self.origin.currency.as_deref());
        let attempts = self.open_states().find_map(|state| state.facts.attempts);
        let condition =
            |kind, first: &RecordedState<InvoiceFacts>, began_before, detail| Condition {
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
                money: money.clone(),
                detail,
                event_id: first.event_id.to_string(),
            };
        let mut found = Vec::new();
        for (kind, at_least) in [
            (ConditionKind::InvoicePaymentFailed, 1),
            (ConditionKind::DunningEscalation, 3),
        ] {
            if let Some(first) = self.open_after(at_least) {
                let began_before = self
                    .timeline
                    .began_before(first, |s| Some(was_open_after(s, at_least)));
                let detail = attempts.map(|attempts| format!("{attempts} attempt(s)"));
                found.push(condition(kind, first, began_before, detail));
            }
        }
        let required = self.open_states().filter(|s| s.facts.action_required);
        if let Some(first) = required.last() {
            // The event itself says so, and at once.
            let kind = ConditionKind::PaymentActionRequired;
            found.push(condition(kind, first, None, None));
        }
        found
    }

    /// Every change of status, oldest first.
    fn transitions(&self) -> Vec<Transition> {
        status_changes(&self.timeline, "status", None, |facts| {
            facts.status.as_str()
        })
    }

    fn events(&self) -> Vec<EventRef> {
        event_refs(&self.timeline, None)
    }
}

/// Whether an event says that the invoice was open after at least this many attempts before it.
fn was_open_after(state: &RecordedState<InvoiceFacts>, attempts: u32) -> bool {
    let enough = match state.before("attempt_count") {
        Before::Same => true,
        Before::Was(from) => {
            let now = state.facts.attempts.unwrap_or(attempts);
            (attempts..=now).any(|n| value_fingerprint(n) == from)
        }
        Before::Nothing | Before::NotSaid | Before::Unknown => false,
    };
    enough && state.was_so_before(&["status"])
}

impl InvoiceFacts {
    /// The amount remaining, in minor units, if known.
    pub fn owed_minor(&self) -> Option<i64> {
        let (due_minor, paid_minor) = self.amount_due_minor.zip(self.amount_paid_minor)?;
        Some(due_minor.saturating_sub(paid_minor).max(0))
    }
}

impl Facts for InvoiceFacts {
    const FIELDS: &'static [&'static str] =
        &["status", "amount_due", "amount_paid", "attempt_count"];

    /// Invoices only go forward (draft, open, uncollectible, then paid, void or deleted), and attempts
    /// only grow; unknown ones come first. Source: <https://docs.stripe.com/invoicing/overview#invoice-statuses>.
    fn progress(&self) -> u64 {
        let status = match self.status {
            InvoiceStatus::Draft => 0,
            InvoiceStatus::Open | InvoiceStatus::Other(_) => 1,
            InvoiceStatus::Uncollectible => 2,
            InvoiceStatus::Paid | InvoiceStatus::Void => 3,
            InvoiceStatus::Deleted => 4,
        };
        (status << 32) | u64::from(self.attempts.unwrap_or(0))
    }

    fn value(&self, place: usize) -> u32 {
        match place {
            0 => value_fingerprint(self.status.as_str()),
            1 => value_fingerprint(self.amount_due_minor),
            2 => value_fingerprint(self.amount_paid_minor),
            _ => value_fingerprint(self.attempts),
        }
    }
}
