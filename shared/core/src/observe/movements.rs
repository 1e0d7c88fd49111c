//! Payments, checkouts, disputes, refunds and transfers.

use serde::Deserialize;

use super::fields::{Minor, Reference, currency, required_currency};
use super::object::{ObserveError, read};
use super::plans::Plans;
use super::record::{observation, recorded_state};
use crate::entity::movement::{MoneyMovementFacts, MoneyMovementOrigin};
use crate::entity::{EntityKind, Observation, Update};
use crate::event::Event;

pub(super) fn payment(event: &Event<'_>, _: &Plans) -> Result<Option<Observation>, ObserveError> {
    let object: PaymentObject = read(event)?;
    let error = object.last_payment_error;
    let facts = MoneyMovementFacts {
        status: object.status,
        amount_minor: object.amount.0,
        reason: error.map(|e| {
            e.decline_code
                .or(e.code)
                .or(e.kind)
                .unwrap_or_else(|| "unknown".to_owned())
        }),
        attempt_failed: event.kind == "payment_intent.payment_failed",
        charge: object.latest_charge.map(Reference::into_id),
    };
    let origin = origin(
        event,
        object.customer,
        Some(object.currency),
        object.invoice,
    );
    movement(event, EntityKind::Payment, object.id, &origin, facts)
}

/// A session that was paid after it completed stays complete: if the status is missing, the event's
/// type decides.
pub(super) fn checkout(event: &Event<'_>, _: &Plans) -> Result<Option<Observation>, ObserveError> {
    let object: CheckoutObject = read(event)?;
    let status_by_type = match event.kind.rsplit_once('.').map(|(_, last)| last) {
        Some("expired") => "expired",
        Some("completed" | "async_payment_succeeded" | "async_payment_failed") => "complete",
        _ => "open",
    };
    let facts = MoneyMovementFacts {
        status: object.status.unwrap_or_else(|| status_by_type.to_owned()),
        amount_minor: object.amount_total.map_or(0, |a| a.0),
        reason: object.payment_status.filter(|s| s == "unpaid"),
        attempt_failed: event.kind == "checkout.session.async_payment_failed",
        charge: None,
    };
    let origin = origin(event, object.customer, object.currency, object.subscription);
    movement(event, EntityKind::Checkout, object.id, &origin, facts)
}

pub(super) fn dispute(event: &Event<'_>, _: &Plans) -> Result<Option<Observation>, ObserveError> {
    let object: DisputeObject = read(event)?;
    let (status, reason) = (object.status, object.reason);
    let facts = MoneyMovementFacts {
        status,
        amount_minor: object.amount.0,
        reason,
        attempt_failed: false,
        charge: None,
    };
    let origin = origin(event, None, Some(object.currency), object.charge);
    movement(event, EntityKind::Dispute, object.id, &origin, facts)
}

pub(super) fn refund(event: &Event<'_>, _: &Plans) -> Result<Option<Observation>, ObserveError> {
    let object: RefundObject = read(event)?;
    let facts = MoneyMovementFacts {
        status: object.status.unwrap_or_else(|| "succeeded".to_owned()),
        amount_minor: object.amount.0,
        reason: object.failure_reason,
        attempt_failed: false,
        charge: None,
    };
    let origin = origin(event, None, Some(object.currency), object.charge);
    movement(event, EntityKind::Refund, object.id, &origin, facts)
}

pub(super) fn transfer(event: &Event<'_>, _: &Plans) -> Result<Option<Observation>, ObserveError> {
    let object: TransferObject = read(event)?;
    let status = match (object.reversed, object.amount_reversed.0) {
        (true, _) => "reversed",
        (false, 1..) => "partially_reversed",
        (false, _) => "created",
    };
    let facts = MoneyMovementFacts {
        status: status.to_owned(),
        amount_minor: object.amount.0,
        reason: None,
        attempt_failed: false,
        charge: None,
    };
    let origin = origin(event, None, Some(object.currency), object.destination);
    movement(event, EntityKind::Transfer, object.id, &origin, facts)
}

fn origin(
    event: &Event<'_>,
    customer: Option<Reference>,
    currency: Option<String>,
    of: Option<Reference>,
) -> MoneyMovementOrigin {
    MoneyMovementOrigin {
        account: event.account.as_deref().map(str::to_owned),
        customer: customer.map(Reference::into_id),
        currency: currency.map(|c| c.to_ascii_lowercase()),
        of: of.map(Reference::into_id),
    }
}

fn movement(
    event: &Event<'_>,
    kind: EntityKind,
    id: String,
    origin: &MoneyMovementOrigin,
    facts: MoneyMovementFacts,
) -> Result<Option<Observation>, ObserveError> {
    let update = Update::Movement(origin.clone(), recorded_state(event, facts)?);
    Ok(Some(observation(event, kind, id, update)))
}

#[derive(Deserialize)]
struct PaymentObject {
    id: String,
    status: String,
    amount: Minor,
    #[serde(deserialize_with = "required_currency")]
    currency: String,
    customer: Option<Reference>,
    /// Up to acacia.
    invoice: Option<Reference>,
    last_payment_error: Option<PaymentError>,
    latest_charge: Option<Reference>,
}

/// Excludes the message: it may name a person or a card.
#[derive(Deserialize)]
struct PaymentError {
    /// Every error has a type; only some have codes.
    #[serde(rename = "type")]
    kind: Option<String>,
    code: Option<String>,
    decline_code: Option<String>,
}

#[derive(Deserialize)]
struct CheckoutObject {
    id: String,
    status: Option<String>,
    payment_status: Option<String>,
    amount_total: Option<Minor>,
    #[serde(default, deserialize_with = "currency")]
    currency: Option<String>,
    customer: Option<Reference>,
    subscription: Option<Reference>,
}

#[derive(Deserialize)]
struct DisputeObject {
    id: String,
    status: String,
    amount: Minor,
    #[serde(deserialize_with = "required_currency")]
    currency: String,
    reason: Option<String>,
    charge: Option<Reference>,
}

#[derive(Deserialize)]
struct RefundObject {
    id: String,
    /// Absent in the oldest API versions, which reported only refunds that had succeeded.
    status: Option<String>,
    amount: Minor,
    #[serde(deserialize_with = "required_currency")]
    currency: String,
    failure_reason: Option<String>,
    charge: Option<Reference>,
}

#[derive(Deserialize)]
struct TransferObject {
    id: String,
    amount: Minor,
    amount_reversed: Minor,
    reversed: bool,
    #[serde(deserialize_with = "required_currency")]
    currency: String,
    destination: Option<Reference>,
}
