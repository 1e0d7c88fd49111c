//! What an event says about a subscription.

use serde::Deserialize;

use super::fields::{Currency, Fingerprinted, Reference, Seconds, beyond};
use super::lenient::Lenient;
use super::metadata::Metadata;
use super::mrr::{self, NoAmount};
use super::object::{ObserveError, read};
use super::plans::{Plans, UNMAPPED_PLAN};
use super::prices::{Discount, Item};
use super::record::{observation, recorded_state};
use super::settings::ObserveSettings;
use crate::class::Owner;
use crate::entity::subscription::{MrrUnknown, SubscriptionFacts, SubscriptionOrigin};
use crate::entity::{EntityKind, Observation, Update};
use crate::event::Event;

/// The subscription of a `customer.subscription.*` event.
pub(super) fn observe(
    event: &Event<'_>,
    settings: &ObserveSettings,
) -> Result<Option<Observation>, ObserveError> {
    let object: SubscriptionObject = read(event)?;
    let owner = Owner::of(event.account.as_deref());
    let (recurring_minor, mrr_unknown) = match object.recurring_minor() {
        Ok(minor) => (Some(minor), object.cancellation_unknown()),
        Err(NoAmount::Unknown(reason)) => (None, Some(reason)),
        Err(NoAmount::Beyond(field, bound_minor)) => {
            return Err(beyond(event, field, bound_minor));
        }
    };
    let plan = object.plan(&settings.plans, owner);
    let facts = SubscriptionFacts {
        plan: plan.unwrap_or(UNMAPPED_PLAN).to_owned(),
        status: object.status.required(event, "status")?.into(),
        recurring_minor,
        cancel_at_period_end: object.cancel_at_period_end.known().unwrap_or(false),
        cancel_at_s: object.cancel_at.known().map(|s| s.0),
        trial_end_s: object.trial_end.known().map(|s| s.0),
        items_fingerprint: object.items.known().unwrap_or_default().data.1,
        discount_fingerprints: (object.discount.1, object.discounts.1),
        mrr_unknown,
    };
    let ids = object.metadata.own_ids(event, &settings.metadata);
    let origin = SubscriptionOrigin {
        account: event.account.as_deref().map(str::to_owned),
        customer: object.customer.into_id(),
        currency: object.currency.into_code(),
        ids,
        started_s: [object.start_date, object.created]
            .into_iter()
            .find_map(|at| at.known().map(|s| s.0)),
    };
    let id = object.id.id(event)?;
    let update = Update::Subscription(origin, recorded_state(event, facts));
    let kind = EntityKind::Subscription;
    Ok(Some(observation(event, kind, id, update)))
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
pub(super) struct SubscriptionObject {
    id: Lenient<String>,
    status: Lenient<String>,
    customer: Lenient<Reference>,
    currency: Lenient<Currency>,
    items: Lenient<Items>,
    /// Up to acacia; later versions have only `discounts`.
    discount: Fingerprinted<Discount>,
    discounts: Fingerprinted<Vec<Lenient<Discount>>>,
    cancel_at_period_end: Lenient<bool>,
    cancel_at: Lenient<Seconds>,
    trial_end: Lenient<Seconds>,
    start_date: Lenient<Seconds>,
    created: Lenient<Seconds>,
    metadata: Lenient<Metadata>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct Items {
    data: Fingerprinted<Vec<Lenient<Item>>>,
}

impl SubscriptionObject {
    fn items(&self) -> Option<&[Lenient<Item>]> {
        let data = self.items.as_known()?.data.0.as_known();
        data.map(Vec::as_slice)
    }

    fn recurring_minor(&self) -> Result<i64, NoAmount> {
        let items = self.items().ok_or(MrrUnknown::Items)?;
        mrr::recurring_minor(items, &self.discounts.0, &self.discount.0)
    }

    /// A subscription that will be cancelled is not in MRR.
    fn cancellation_unknown(&self) -> Option<MrrUnknown> {
        let is_odd = self.cancel_at_period_end.is_odd() || self.cancel_at.is_odd();
        is_odd.then_some(MrrUnknown::Cancellation)
    }

    fn plan<'a>(&self, plans: &'a Plans, owner: Owner) -> Option<&'a str> {
        let items = self.items().into_iter().flatten();
        let prices = items.filter_map(|item| item.as_known()?.price());
        prices
            .into_iter()
            .find_map(|price| plans.name(price, owner))
    }
}
