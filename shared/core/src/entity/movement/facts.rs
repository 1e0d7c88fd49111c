//! The types that all kinds of movement share.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::condition::ConditionKind;
use crate::counters::{Tally, UNKNOWN};
use crate::entity::kind::EntityKind;
use crate::entity::mention::Mention;
use crate::entity::merge::keep_greater;
use crate::entity::timeline::{Facts, RecordedState, Timeline, value_fingerprint};
use crate::realm::Realm;

/// The state of a movement, as known from its events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoneyMovement {
    /// The kind of movement.
    #[serde(skip, default = "any_kind")]
    pub kind: EntityKind,
    /// `pi_…`, `cs_…`, `dp_…`, `re_…`, `tr_…`
    #[serde(skip)]
    pub id: String,
    /// Facts that never change.
    pub origin: MoneyMovementOrigin,
    /// The recorded states.
    pub timeline: Timeline<MoneyMovementFacts>,
    /// Outcomes that are never revoked.
    #[serde(default)]
    pub reached: Reached,
    /// Which of the platform's own Stripe accounts it is of; unknown of what earlier versions stored.
    #[serde(default)]
    pub realm: Option<Realm>,
    /// The newest thin event that names it.
    #[serde(default)]
    pub mention: Option<Mention>,
}

/// The outcomes that a payment or a checkout ever reached. They are never revoked, whatever comes
/// later and whatever the timeline drops.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    /// Whether any event showed the payment as succeeded, or the checkout as completed.
    pub done: bool,
    /// Fingerprints of a payment's failed attempts, at most the 64 smallest.
    pub failed: BTreeSet<u32>,
}

/// Facts that Stripe never changes during a movement's lifetime; the customer may be added later.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoneyMovementOrigin {
    /// The connected account it belongs to.
    pub account: Option<String>,
    /// `cus_…`
    pub customer: Option<String>,
    /// Lower case.
    pub currency: Option<String>,
    /// The related object: a payment's invoice, a dispute's or refund's charge, a transfer's
    /// destination, a checkout's subscription.
    pub of: Option<String>,
}

/// The state of a movement in one event.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MoneyMovementFacts {
    /// Stripe's status, or for a transfer `created`, `reversed`, `partially_reversed`.
    pub status: String,
    /// Minor units, if known.
    pub amount_minor: Option<i64>,
    /// A failure code or a dispute's reason.
    pub reason: Option<String>,
    /// The event itself reports a failed attempt (`payment_intent.payment_failed`).
    pub attempt_failed: bool,
    /// The charge of a payment's latest attempt. It identifies two events about the same attempt.
    #[serde(default)]
    pub charge: Option<String>,
    /// How much of a transfer was reversed, in minor units.
    #[serde(default)]
    pub reversed_minor: Option<i64>,
    /// Unix seconds by which Stripe must have the evidence in a dispute.
    #[serde(default)]
    pub evidence_due_s: Option<i64>,
}

/// What is different for one kind of movement.
#[derive(Debug)]
pub struct MovementRules {
    /// Records an outcome that is never revoked.
    pub record: fn(&mut Reached, &RecordedState<MoneyMovementFacts>),
    /// What it adds to aggregates in addition to its status.
    pub contributions: fn(&MoneyMovement, &mut Tally),
    /// The problem that its current state is.
    pub condition: fn(&MoneyMovementFacts) -> Option<ConditionKind>,
    /// Unix seconds by which its current state must be answered, if it waits for an answer.
    pub answer_by: fn(&MoneyMovementFacts) -> Option<i64>,
    /// The field of Stripe's object that decides the status: see [`Facts::FIELDS`].
    pub status_field: &'static str,
    /// Why it has that problem.
    pub detail: fn(&MoneyMovement) -> Option<String>,
}

/// A kind without outcomes, contributions and conditions of its own.
pub(super) const NO_RULES: MovementRules = MovementRules {
    record: |_, _| {},
    contributions: |_, _| {},
    condition: |_| None,
    answer_by: |_| None,
    status_field: "status",
    detail: |movement| movement.current()?.reason.clone(),
};

fn any_kind() -> EntityKind {
    EntityKind::Payment
}

/// The key sets the kind.
impl Default for MoneyMovement {
    fn default() -> Self {
        Self {
            kind: any_kind(),
            id: String::new(),
            origin: MoneyMovementOrigin::default(),
            timeline: Timeline::default(),
            reached: Reached::default(),
            realm: None,
            mention: None,
        }
    }
}

impl MoneyMovementOrigin {
    pub(super) fn merge(&mut self, other: &Self) {
        keep_greater(&mut self.account, &other.account);
        keep_greater(&mut self.customer, &other.customer);
        keep_greater(&mut self.currency, &other.currency);
        keep_greater(&mut self.of, &other.of);
    }
}

/// How much of a transfer was reversed.
pub(super) const AMOUNT_REVERSED: &str = "amount_reversed";

/// The maximum of failed attempts that are counted separately per payment. The smallest of a union
/// are among the smallest of its parts, so the result does not depend on the order.
const MAX_ATTEMPTS: usize = 64;

impl Reached {
    /// Notes a failed attempt by its fingerprint.
    pub(super) fn fail(&mut self, attempt: u32) {
        self.failed.insert(attempt);
        while self.failed.len() > MAX_ATTEMPTS {
            self.failed.pop_last();
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.done |= other.done;
        for attempt in &other.failed {
            self.fail(*attempt);
        }
    }
}

impl MoneyMovement {
    /// The current state.
    pub fn current(&self) -> Option<&MoneyMovementFacts> {
        self.timeline.last().map(|s| &*s.facts)
    }

    pub(super) fn currency(&self) -> &str {
        self.origin.currency.as_deref().unwrap_or(UNKNOWN)
    }
}

impl MoneyMovementFacts {
    #[cfg(test)]
    pub(in crate::entity) fn with_status(status: &str) -> Self {
        Self {
            status: status.to_owned(),
            amount_minor: None,
            reason: None,
            attempt_failed: false,
            charge: None,
            reversed_minor: None,
            evidence_due_s: None,
        }
    }

    /// The status if this version knows it, else `other`: bounded, for counters.
    pub(in crate::entity) fn status_label(&self) -> &'static str {
        let known = STATUSES.iter().find(|known| **known == self.status);
        known.copied().unwrap_or("other")
    }
}

/// Sources: the `status` of <https://docs.stripe.com/api/payment_intents/object>,
/// `checkout/sessions`, `disputes`, `refunds` under the same address; our words for transfers.
const STATUSES: &[&str] = &[
    // Payments, those of old API versions included.
    "requires_payment_method",
    "requires_confirmation",
    "requires_action",
    "requires_source",
    "requires_source_action",
    "requires_capture",
    "processing",
    "succeeded",
    "canceled",
    // Checkouts.
    "open",
    "complete",
    "expired",
    // Disputes.
    "warning_needs_response",
    "warning_under_review",
    "warning_closed",
    "needs_response",
    "under_review",
    "charge_refunded",
    "prevented",
    "won",
    "lost",
    // Refunds.
    "pending",
    "failed",
    // Transfers.
    "created",
    "partially_reversed",
    "reversed",
];

impl Facts for MoneyMovementFacts {
    const FIELDS: &'static [&'static str] = &["status", "amount", AMOUNT_REVERSED];

    /// Final statuses come last; a refund or transfer can still change after it succeeded. The
    /// statuses of all kinds share one list, because none has two meanings.
    ///
    /// A failed payment can be retried, but hardly in the same way within one second. Within a
    /// second, a payment therefore fails after it was processing, and moves on in another way after
    /// it failed.
    /// Sources: the `status` of <https://docs.stripe.com/api/payment_intents/object>,
    /// `checkout/sessions`, `disputes`, `refunds` under the same address.
    fn progress(&self) -> u64 {
        match self.status.as_str() {
            "processing" => 1,
            "requires_payment_method" if self.attempt_failed => 2,
            "requires_action" => 3,
            "requires_capture" => 4,
            "succeeded" | "complete" => 5,
            "canceled" | "expired" | "won" | "lost" | "warning_closed" | "prevented" | "failed" => {
                6
            }
            // What was reversed only grows.
            "partially_reversed" => self.reversed_minor.unwrap_or(1).max(1).cast_unsigned(),
            "reversed" => u64::MAX,
            _ => 0,
        }
    }

    fn value(&self, place: usize) -> u32 {
        match place {
            0 => value_fingerprint(&self.status),
            1 => value_fingerprint(self.amount_minor),
            _ => value_fingerprint(self.reversed_minor),
        }
    }
}
