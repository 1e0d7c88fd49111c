//! What an event says about a subscription.

use serde::Deserialize;

use super::fields::{
    Fingerprinted, FingerprintedItem, Reference, Seconds, currency, not_null, record,
};
use super::mrr;
use super::object::{ObserveError, read, unreadable};
use super::plans::{Plans, UNMAPPED_PLAN};
use super::prices::{Discount, Item};
use super::record::{observation, recorded_state};
use crate::entity::subscription::{SubscriptionFacts, SubscriptionOrigin};
use crate::entity::{EntityKind, Observation, Update};
use crate::event::Event;

/// The subscription of a `customer.subscription.*` event.
pub(super) fn observe(
    event: &Event<'_>,
    plans: &Plans,
) -> Result<Option<Observation>, ObserveError> {
    let object: SubscriptionObject = read(event)?;
    let items = &object.items.data.0;
    let recurring = mrr::recurring_minor(items, &object.discounts.0, object.discount.0.as_ref())
        .map_err(|reason| unreadable(event, &format!("items: {reason}")))?;
    let plan = items.iter().find_map(|item| plans.name(&item.price));
    let facts = SubscriptionFacts {
        status: object.status.into(),
        plan: plan.unwrap_or(UNMAPPED_PLAN).to_owned(),
        recurring_minor: recurring,
        cancel_at_period_end: object.cancel_at_period_end.unwrap_or(false),
        cancel_at_s: object.cancel_at.map(|s| s.0),
        trial_end_s: object.trial_end.map(|s| s.0),
        items_fingerprint: object.items.data.1,
        discount_fingerprints: (object.discount.1, object.discounts.1),
    };
    let origin = SubscriptionOrigin {
        account: event.account.as_deref().map(str::to_owned),
        customer: object.customer.map(Reference::into_id),
        currency: object.currency.map(|c| c.to_ascii_lowercase()),
    };
    let update = Update::Subscription(origin, recorded_state(event, facts)?);
    Ok(Some(observation(
        event,
        EntityKind::Subscription,
        object.id,
        update,
    )))
}

#[derive(Deserialize)]
struct SubscriptionObject {
    id: String,
    status: String,
    customer: Option<Reference>,
    #[serde(default, deserialize_with = "currency")]
    currency: Option<String>,
    #[serde(deserialize_with = "record")]
    items: Items,
    /// Up to acacia; later versions have only `discounts`.
    #[serde(default)]
    discount: FingerprintedItem<Discount>,
    #[serde(default)]
    discounts: Fingerprinted<Discount>,
    cancel_at_period_end: Option<bool>,
    cancel_at: Option<Seconds>,
    trial_end: Option<Seconds>,
}

#[derive(Deserialize)]
struct Items {
    #[serde(deserialize_with = "not_null")]
    data: Fingerprinted<Item>,
}
