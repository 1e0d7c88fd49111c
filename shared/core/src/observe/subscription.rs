//! What an event says about a subscription.

use serde::Deserialize;

use super::fields::{
    Fingerprinted, FingerprintedItem, Reference, Seconds, currency, not_null, record,
};
use super::prices::{Discount, Item};
use super::{
    ObserveError, Plans, UNMAPPED_PLAN, mrr, observation, read, recorded_state, unreadable,
};
use crate::entity::subscription::{SubscriptionFacts, SubscriptionOrigin};
use crate::entity::{EntityKind, Observation, Update};
use crate::event::Event;

/// The subscription of a `customer.subscription.*` event.
pub(crate) fn observe(
    event: &Event<'_>,
    plans: &Plans,
) -> Result<Option<Observation>, ObserveError> {
    let object: SubscriptionObject = read(event)?;
    let recurring = mrr::recurring_minor(&object)
        .map_err(|reason| unreadable(event, &format!("items: {reason}")))?;
    let plan = object
        .items
        .data
        .0
        .iter()
        .find_map(|item| plans.name(&item.price));
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
pub(super) struct SubscriptionObject {
    id: String,
    status: String,
    customer: Option<Reference>,
    #[serde(default, deserialize_with = "currency")]
    currency: Option<String>,
    #[serde(deserialize_with = "record")]
    pub(super) items: Items,
    /// Up to acacia; later versions have only `discounts`.
    #[serde(default)]
    pub(super) discount: FingerprintedItem<Discount>,
    #[serde(default)]
    pub(super) discounts: Fingerprinted<Discount>,
    cancel_at_period_end: Option<bool>,
    cancel_at: Option<Seconds>,
    trial_end: Option<Seconds>,
}

#[derive(Deserialize)]
pub(super) struct Items {
    #[serde(deserialize_with = "not_null")]
    pub(super) data: Fingerprinted<Item>,
}
