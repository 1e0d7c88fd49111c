//! Payments, checkouts, disputes, refunds and transfers.

use serde::Deserialize;

use super::fields::{Currency, MAX_MINOR, Minor, Reference, Seconds, beyond};
use super::lenient::Lenient;
use super::object::{ObserveError, read};
use super::record::{observation, recorded_state};
use super::settings::ObserveSettings;
use crate::counters::UNKNOWN;
use crate::entity::movement::{MoneyMovementFacts, MoneyMovementOrigin};
use crate::entity::{EntityKind, Observation, Update};
use crate::event::Event;

pub(super) fn payment(
    event: &Event<'_>,
    _: &ObserveSettings,
) -> Result<Option<Observation>, ObserveError> {
    let object: PaymentObject = read(event)?;
    let facts = MoneyMovementFacts {
        status: object.status.required(event, "status")?,
        amount_minor: object.amount.amount(event, "amount")?,
        reason: object.last_payment_error.known().map(PaymentError::reason),
        attempt_failed: event.kind == "payment_intent.payment_failed",
        charge: object.latest_charge.into_id(),
        reversed_minor: None,
        evidence_due_s: None,
    };
    let origin = origin(event, object.customer, object.currency, object.invoice);
    movement(event, EntityKind::Payment, object.id, origin, facts)
}

/// A session that was paid after it completed stays complete: if the status is missing, the event's
/// type decides.
pub(super) fn checkout(
    event: &Event<'_>,
    _: &ObserveSettings,
) -> Result<Option<Observation>, ObserveError> {
    let object: CheckoutObject = read(event)?;
    let status_by_type = match event.kind.rsplit_once('.').map(|(_, last)| last) {
        Some("expired") => "expired",
        Some("completed" | "async_payment_succeeded" | "async_payment_failed") => "complete",
        _ => "open",
    };
    let status = object.status.known();
    let facts = MoneyMovementFacts {
        status: status.unwrap_or_else(|| status_by_type.to_owned()),
        amount_minor: object.amount_total.amount(event, "amount_total")?,
        reason: object.payment_status.known().filter(|s| s == "unpaid"),
        attempt_failed: event.kind == "checkout.session.async_payment_failed",
        charge: None,
        reversed_minor: None,
        evidence_due_s: None,
    };
    let origin = origin(event, object.customer, object.currency, object.subscription);
    movement(event, EntityKind::Checkout, object.id, origin, facts)
}

pub(super) fn dispute(
    event: &Event<'_>,
    _: &ObserveSettings,
) -> Result<Option<Observation>, ObserveError> {
    let object: DisputeObject = read(event)?;
    let facts = MoneyMovementFacts {
        status: object.status.required(event, "status")?,
        amount_minor: object.amount.amount(event, "amount")?,
        reason: object.reason.known(),
        attempt_failed: false,
        charge: None,
        reversed_minor: None,
        evidence_due_s: object
            .evidence_details
            .known()
            .and_then(EvidenceDetails::due_s),
    };
    let origin = origin(event, Lenient::Absent, object.currency, object.charge);
    movement(event, EntityKind::Dispute, object.id, origin, facts)
}

pub(super) fn refund(
    event: &Event<'_>,
    _: &ObserveSettings,
) -> Result<Option<Observation>, ObserveError> {
    let object: RefundObject = read(event)?;
    // The oldest API versions have none: what they report has succeeded, unless the type says else.
    let status_by_type = match event.kind.as_ref() {
        "refund.failed" => "failed",
        _ => "succeeded",
    };
    let status = object.status.readable(event, "status")?;
    let facts = MoneyMovementFacts {
        status: status.unwrap_or_else(|| status_by_type.to_owned()),
        amount_minor: object.amount.amount(event, "amount")?,
        reason: object.failure_reason.known(),
        attempt_failed: false,
        charge: None,
        reversed_minor: None,
        evidence_due_s: None,
    };
    let origin = origin(event, Lenient::Absent, object.currency, object.charge);
    movement(event, EntityKind::Refund, object.id, origin, facts)
}

/// A transfer has no status: what was reversed decides.
pub(super) fn transfer(
    event: &Event<'_>,
    _: &ObserveSettings,
) -> Result<Option<Observation>, ObserveError> {
    let object: TransferObject = read(event)?;
    let reversed = object.reversed.required(event, "reversed")?;
    let amount_minor = object.amount.amount(event, "amount")?;
    let reversed_minor = match (reversed, object.amount_reversed) {
        (_, Lenient::Known(Minor::Beyond)) => {
            return Err(beyond(event, "amount_reversed", MAX_MINOR));
        }
        (_, Lenient::Known(Minor::Within(minor))) => Some(minor),
        (true, _) => amount_minor,
        (false, amount) => {
            amount.required(event, "amount_reversed")?;
            None
        }
    };
    let status = match (reversed, reversed_minor) {
        (true, _) => "reversed",
        (false, Some(1..)) => "partially_reversed",
        (false, _) => "created",
    };
    let facts = MoneyMovementFacts {
        status: status.to_owned(),
        amount_minor,
        reason: None,
        attempt_failed: false,
        charge: None,
        reversed_minor,
        evidence_due_s: None,
    };
    let origin = origin(event, Lenient::Absent, object.currency, object.destination);
    movement(event, EntityKind::Transfer, object.id, origin, facts)
}

fn origin(
    event: &Event<'_>,
    customer: Lenient<Reference>,
    currency: Lenient<Currency>,
    of: Lenient<Reference>,
) -> MoneyMovementOrigin {
    MoneyMovementOrigin {
        account: event.account.as_deref().map(str::to_owned),
        customer: customer.into_id(),
        currency: currency.into_code(),
        of: of.into_id(),
    }
}

fn movement(
    event: &Event<'_>,
    kind: EntityKind,
    id: Lenient<String>,
    origin: MoneyMovementOrigin,
    facts: MoneyMovementFacts,
) -> Result<Option<Observation>, ObserveError> {
    let update = Update::Movement(origin, recorded_state(event, facts));
    Ok(Some(observation(event, kind, id.id(event)?, update)))
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
pub(super) struct PaymentObject {
    id: Lenient<String>,
    status: Lenient<String>,
    amount: Lenient<Minor>,
    currency: Lenient<Currency>,
    customer: Lenient<Reference>,
    /// Up to acacia.
    invoice: Lenient<Reference>,
    last_payment_error: Lenient<PaymentError>,
    latest_charge: Lenient<Reference>,
}

/// Excludes the message: it may name a person or a card.
#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct PaymentError {
    /// Every error has a type; only some have codes.
    #[serde(rename = "type")]
    kind: Lenient<String>,
    code: Lenient<String>,
    decline_code: Lenient<String>,
}

impl PaymentError {
    /// The most exact of what is known.
    fn reason(self) -> String {
        let codes = [self.decline_code, self.code, self.kind];
        let known = codes.into_iter().find_map(Lenient::known);
        known.unwrap_or_else(|| UNKNOWN.to_owned())
    }
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
pub(super) struct CheckoutObject {
    id: Lenient<String>,
    status: Lenient<String>,
    payment_status: Lenient<String>,
    amount_total: Lenient<Minor>,
    currency: Lenient<Currency>,
    customer: Lenient<Reference>,
    subscription: Lenient<Reference>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
pub(super) struct DisputeObject {
    id: Lenient<String>,
    status: Lenient<String>,
    amount: Lenient<Minor>,
    currency: Lenient<Currency>,
    reason: Lenient<String>,
    charge: Lenient<Reference>,
    evidence_details: Lenient<EvidenceDetails>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct EvidenceDetails {
    due_by: Lenient<Seconds>,
}

impl EvidenceDetails {
    /// 0 means that the bank takes no answer.
    /// Source: `evidence_details.due_by` of <https://docs.stripe.com/api/disputes/object>.
    fn due_s(self) -> Option<i64> {
        let due = self.due_by.known().map(|Seconds(at_s)| at_s);
        due.filter(|at_s| *at_s > 0)
    }
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
pub(super) struct RefundObject {
    id: Lenient<String>,
    /// Absent in the oldest API versions, which reported only refunds that had succeeded.
    status: Lenient<String>,
    amount: Lenient<Minor>,
    currency: Lenient<Currency>,
    failure_reason: Lenient<String>,
    charge: Lenient<Reference>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
pub(super) struct TransferObject {
    id: Lenient<String>,
    amount: Lenient<Minor>,
    amount_reversed: Lenient<Minor>,
    reversed: Lenient<bool>,
    currency: Lenient<Currency>,
    destination: Lenient<Reference>,
}
