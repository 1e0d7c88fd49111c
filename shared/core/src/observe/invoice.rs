//! What an event says about an invoice.

use serde::Deserialize;

use super::fields::{Currency, Minor, Reference};
use super::lenient::Lenient;
use super::object::{ObserveError, read, unreadable};
use super::record::{observation, recorded_state};
use super::settings::ObserveSettings;
use crate::entity::invoice::{InvoiceFacts, InvoiceOrigin};
use crate::entity::stripe_enums::InvoiceStatus;
use crate::entity::{EntityKind, Observation, Update};
use crate::event::Event;

/// The invoice of an `invoice.*` event.
pub(super) fn observe(
    event: &Event<'_>,
    _: &ObserveSettings,
) -> Result<Option<Observation>, ObserveError> {
    // A preview of a future invoice has no id and no invoice behind it.
    if event.kind == "invoice.upcoming" {
        return Ok(None);
    }
    let object: InvoiceObject = read(event)?;
    let facts = InvoiceFacts {
        status: status(event, object.status, &object.paid)?,
        amount_due_minor: object.amount_due.amount(event, "amount_due")?,
        amount_paid_minor: object.amount_paid.amount(event, "amount_paid")?,
        attempts: object.attempt_count.known(),
        action_required: event.kind == "invoice.payment_action_required",
    };
    let parent = object
        .parent
        .known()
        .and_then(|parent| parent.subscription_details.known())
        .and_then(|details| details.subscription.into_id());
    let origin = InvoiceOrigin {
        account: event.account.as_deref().map(str::to_owned),
        customer: object.customer.into_id(),
        subscription: object.subscription.into_id().or(parent),
        currency: object.currency.into_code(),
    };
    let id = object.id.id(event)?;
    let update = Update::Invoice(origin, recorded_state(event, facts));
    Ok(Some(observation(event, EntityKind::Invoice, id, update)))
}

fn status(
    event: &Event<'_>,
    status: Lenient<String>,
    paid: &Lenient<bool>,
) -> Result<InvoiceStatus, ObserveError> {
    if event.kind == "invoice.deleted" {
        return Ok(InvoiceStatus::Deleted);
    }
    match status.readable(event, "status")? {
        Some(status) => Ok(status.into()),
        // The oldest API versions have no status, only `paid`.
        None if *paid == Lenient::Known(true) => Ok(InvoiceStatus::Paid),
        None => Err(unreadable(event, "data.object.status: missing")),
    }
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
pub(super) struct InvoiceObject {
    id: Lenient<String>,
    status: Lenient<String>,
    paid: Lenient<bool>,
    customer: Lenient<Reference>,
    /// Up to acacia; later versions have it under `parent`.
    subscription: Lenient<Reference>,
    parent: Lenient<InvoiceParent>,
    currency: Lenient<Currency>,
    amount_due: Lenient<Minor>,
    amount_paid: Lenient<Minor>,
    attempt_count: Lenient<u32>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct InvoiceParent {
    subscription_details: Lenient<SubscriptionDetails>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct SubscriptionDetails {
    subscription: Lenient<Reference>,
}
