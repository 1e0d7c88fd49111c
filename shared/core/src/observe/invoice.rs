//! What an event says about an invoice.

use serde::Deserialize;

use super::fields::{Minor, Reference, currency};
use super::object::{ObserveError, read, unreadable};
use super::plans::Plans;
use super::record::{observation, recorded_state};
use crate::entity::invoice::{InvoiceFacts, InvoiceOrigin};
use crate::entity::stripe_enums::InvoiceStatus;
use crate::entity::{EntityKind, Observation, Update};
use crate::event::Event;

/// The invoice of an `invoice.*` event.
pub(super) fn observe(event: &Event<'_>, _: &Plans) -> Result<Option<Observation>, ObserveError> {
    // A preview of a future invoice has no id and no invoice behind it.
    if event.kind == "invoice.upcoming" {
        return Ok(None);
    }
    let object: InvoiceObject = read(event)?;
    let status = match (event.kind.as_ref(), object.status) {
        ("invoice.deleted", _) => InvoiceStatus::Deleted,
        (_, Some(status)) => status.into(),
        // The oldest API versions have no status, only `paid`.
        (_, None) if object.paid == Some(true) => InvoiceStatus::Paid,
        (_, None) => return Err(unreadable(event, "status: missing")),
    };
    let parent = object
        .parent
        .and_then(|p| p.subscription_details)
        .and_then(|d| d.subscription);
    let facts = InvoiceFacts {
        status,
        amount_due_minor: object.amount_due.0,
        amount_paid_minor: object.amount_paid.0,
        attempts: object.attempt_count,
        action_required: event.kind == "invoice.payment_action_required",
    };
    let origin = InvoiceOrigin {
        account: event.account.as_deref().map(str::to_owned),
        customer: object.customer.map(Reference::into_id),
        subscription: object.subscription.or(parent).map(Reference::into_id),
        currency: object.currency.map(|c| c.to_ascii_lowercase()),
    };
    let update = Update::Invoice(origin, recorded_state(event, facts)?);
    Ok(Some(observation(
        event,
        EntityKind::Invoice,
        object.id,
        update,
    )))
}

#[derive(Deserialize)]
struct InvoiceObject {
    id: String,
    status: Option<String>,
    paid: Option<bool>,
    customer: Option<Reference>,
    /// Up to acacia; later versions have it under `parent`.
    subscription: Option<Reference>,
    parent: Option<InvoiceParent>,
    #[serde(default, deserialize_with = "currency")]
    currency: Option<String>,
    amount_due: Minor,
    amount_paid: Minor,
    attempt_count: u32,
}

#[derive(Deserialize)]
struct InvoiceParent {
    subscription_details: Option<SubscriptionDetails>,
}

#[derive(Deserialize)]
struct SubscriptionDetails {
    subscription: Option<Reference>,
}
