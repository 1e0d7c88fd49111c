//! Payments, checkouts, disputes, refunds and transfers.

use super::objects::{
    CheckoutObject, DisputeObject, PaymentObject, Reference, RefundObject, TransferObject,
};
use super::{ObserveError, read, recorded_state};
use crate::entity::movement::{MoneyMovementFacts, MoneyMovementOrigin};
use crate::entity::{EntityKey, EntityKind, Observation, Update};
use crate::event::Event;

pub(super) fn payment(event: &Event<'_>) -> Result<Observation, ObserveError> {
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
pub(super) fn checkout(event: &Event<'_>) -> Result<Observation, ObserveError> {
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

pub(super) fn dispute(event: &Event<'_>) -> Result<Observation, ObserveError> {
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

pub(super) fn refund(event: &Event<'_>) -> Result<Observation, ObserveError> {
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

pub(super) fn transfer(event: &Event<'_>) -> Result<Observation, ObserveError> {
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
) -> Result<Observation, ObserveError> {
    let update = Update::Movement(origin.clone(), recorded_state(event, facts)?);
    Ok(Observation {
        key: EntityKey::new(kind, id),
        created_s: event.created_s,
        update,
    })
}
