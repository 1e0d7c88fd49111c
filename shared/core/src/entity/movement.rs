//! One movement of money, or an attempt at one: payment intent, checkout session, dispute, refund,
//! transfer. They all have an amount and a status that mostly moves in one direction, so they share
//! one type.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::timeline::{Facts, RecordedState, Timeline, fingerprint};
use super::{EntityKey, EntityKind, Transition, keep_greater, value_fingerprint};
use crate::condition::{Condition, ConditionKey, ConditionKind};
use crate::counters::{Bucket, Tally};
use crate::money::Money;

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

/// The maximum of failed attempts that are counted separately per payment. The smallest of a union
/// are among the smallest of its parts, so the result does not depend on the order.
const MAX_ATTEMPTS: usize = 64;

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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoneyMovementFacts {
    /// Stripe's status, or for a transfer `created`, `reversed`, `partially_reversed`.
    pub status: String,
    /// Minor units.
    pub amount_minor: i64,
    /// A failure code or a dispute's reason.
    pub reason: Option<String>,
    /// The event itself reports a failed attempt (`payment_intent.payment_failed`).
    pub attempt_failed: bool,
    /// The charge of a payment's latest attempt. It identifies two events about the same attempt.
    #[serde(default)]
    pub charge: Option<String>,
}

fn any_kind() -> EntityKind {
    EntityKind::Payment
}

impl MoneyMovement {
    /// A movement without any known state.
    pub fn new(kind: EntityKind, id: String) -> Self {
        Self {
            kind,
            id,
            origin: MoneyMovementOrigin::default(),
            timeline: Timeline::default(),
            reached: Reached::default(),
        }
    }

    /// Merges one event.
    pub fn merge(
        &mut self,
        origin: &MoneyMovementOrigin,
        state: RecordedState<MoneyMovementFacts>,
    ) {
        keep_greater(&mut self.origin.account, &origin.account);
        keep_greater(&mut self.origin.customer, &origin.customer);
        keep_greater(&mut self.origin.currency, &origin.currency);
        keep_greater(&mut self.origin.of, &origin.of);
        self.reached.record(self.kind, &state);
        self.timeline.insert(state);
    }

    /// The current state.
    pub fn current(&self) -> Option<&MoneyMovementFacts> {
        self.timeline.last().map(|s| &s.facts)
    }

    /// See [`super::Entity::contributions`]. Payments count in the hour of each failed attempt and
    /// of the success. Outcomes ever reached (`payments_reached`, `checkouts_reached`) only grow.
    pub fn contributions(&self, tally: &mut Tally) {
        self.reached.contributions(self.kind, tally);
        let ordered = self.timeline.in_order();
        let Some(last) = ordered.last() else { return };
        let family = self.kind.plural();
        tally.add(Bucket::Current, &[family, &last.facts.status], 1);
        let currency = self.origin.currency.as_deref().unwrap_or("unknown");
        match self.kind {
            EntityKind::Payment => {
                let mut charges = BTreeSet::new();
                for failed in ordered.iter().filter(|s| s.facts.attempt_failed) {
                    if failed
                        .facts
                        .charge
                        .as_ref()
                        .is_some_and(|charge| !charges.insert(charge))
                    {
                        continue;
                    }
                    tally.add(
                        Bucket::hour_of(failed.created_s),
                        &["payments", "failed", currency],
                        1,
                    );
                    tally.add(Bucket::Current, &["payment_attempts", "failed"], 1);
                }
                if let Some(done) = ordered.iter().find(|s| s.facts.status == "succeeded") {
                    let hour = Bucket::hour_of(done.created_s);
                    tally.add(hour, &["payments", "succeeded", currency], 1);
                    tally.add(
                        hour,
                        &["payments_minor", "succeeded", currency],
                        done.facts.amount_minor,
                    );
                    tally.add(Bucket::Current, &["payment_attempts", "succeeded"], 1);
                }
            }
            EntityKind::Dispute if self.is_open_dispute() => {
                tally.add(
                    Bucket::Current,
                    &["disputed_minor", currency],
                    last.facts.amount_minor,
                );
            }
            _ => {}
        }
    }

    /// See [`super::Entity::conditions`].
    pub fn conditions(&self) -> Vec<Condition> {
        let Some(facts) = self.current() else {
            return Vec::new();
        };
        let kind = match (self.kind, facts.status.as_str()) {
            (EntityKind::Payment, "requires_payment_method") if facts.reason.is_some() => {
                ConditionKind::PaymentFailed
            }
            (EntityKind::Dispute, _) if self.is_open_dispute() => ConditionKind::DisputeOpen,
            (EntityKind::Refund, "failed") => ConditionKind::RefundFailed,
            (EntityKind::Transfer, "reversed" | "partially_reversed") => {
                ConditionKind::TransferReversed
            }
            _ => return Vec::new(),
        };
        let Some(first) = self.timeline.since(|f| f.status == facts.status) else {
            return Vec::new();
        };
        vec![Condition {
            key: ConditionKey {
                kind,
                subject: EntityKey::new(self.kind, &self.id),
            },
            since_s: first.created_s,
            due_s: first.created_s,
            account: self.origin.account.clone(),
            customer: self.origin.customer.clone(),
            money: self
                .origin
                .currency
                .as_ref()
                .map(|currency| Money::new(facts.amount_minor, currency)),
            detail: facts.reason.clone(),
            event_id: first.event_id.clone(),
        }]
    }

    /// Every change of status, oldest first.
    pub fn transitions(&self) -> Vec<Transition> {
        super::status_changes(&self.timeline, |facts| &facts.status)
    }

    fn is_open_dispute(&self) -> bool {
        let open = |f: &MoneyMovementFacts| {
            !matches!(
                f.status.as_str(),
                "won" | "lost" | "warning_closed" | "prevented"
            )
        };
        self.kind == EntityKind::Dispute && self.current().is_some_and(open)
    }
}

impl Reached {
    fn record(&mut self, kind: EntityKind, state: &RecordedState<MoneyMovementFacts>) {
        let facts = &state.facts;
        self.done |= matches!(
            (kind, facts.status.as_str()),
            (EntityKind::Payment, "succeeded") | (EntityKind::Checkout, "complete")
        );
        if kind == EntityKind::Payment && facts.attempt_failed {
            self.failed.insert(fingerprint(
                facts.charge.as_ref().unwrap_or(&state.event_id),
            ));
            while self.failed.len() > MAX_ATTEMPTS {
                self.failed.pop_last();
            }
        }
    }

    fn contributions(&self, kind: EntityKind, tally: &mut Tally) {
        let failed = i64::try_from(self.failed.len()).unwrap_or(i64::MAX);
        match kind {
            EntityKind::Payment => {
                tally.add(
                    Bucket::Current,
                    &["payments_reached", "succeeded"],
                    self.done.into(),
                );
                tally.add(Bucket::Current, &["payments_reached", "failed"], failed);
            }
            EntityKind::Checkout => {
                tally.add(
                    Bucket::Current,
                    &["checkouts_reached", "complete"],
                    self.done.into(),
                );
            }
            _ => {}
        }
    }
}

impl Facts for MoneyMovementFacts {
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
            "succeeded" | "complete" | "partially_reversed" => 5,
            "canceled" | "expired" | "won" | "lost" | "warning_closed" | "prevented" | "failed"
            | "reversed" => 6,
            _ => 0,
        }
    }

    fn fields(&self) -> Vec<(&'static str, u32)> {
        vec![
            ("status", value_fingerprint(&self.status)),
            ("amount", value_fingerprint(self.amount_minor)),
        ]
    }
}
