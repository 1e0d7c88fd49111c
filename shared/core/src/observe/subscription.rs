//! What an event says about a subscription.

use serde::Deserialize;

use super::charges::{Parts, TooMuch};
use super::coupons::{AppliesToIs, Discount};
use super::fields::{Currency, Fingerprinted, Reference, Seconds, beyond};
use super::lenient::Lenient;
use super::metadata::Metadata;
use super::object::{ObserveError, read};
use super::plans::{Plans, UNMAPPED_PLAN};
use super::prices::{AutomaticTax, Item, TaxRates};
use super::record::{observation, recorded_state};
use super::settings::ObserveSettings;
use crate::class::Owner;
use crate::entity::recurring::{Charges, Known, KnownDiscounts, KnownTaxes, Monthly, MrrUnknown};
use crate::entity::subscription::{SubscriptionFacts, SubscriptionOrigin};
use crate::entity::{EntityKind, Observation, Update};
use crate::event::Event;

/// The subscription of a `customer.subscription.*` event.
pub(super) fn observe(
    event: &Event<'_>,
    settings: &ObserveSettings,
) -> Result<Option<Observation>, ObserveError> {
    let object: SubscriptionObject = read(event)?;
    let owner = Owner::of(event.account.as_deref());
    // The resolver asks for it with the discounts of a subscription.
    let applies_to = match event.is_fetched() {
        true => AppliesToIs::Shown,
        false => AppliesToIs::LeftOut,
    };
    let (charges, discounts) = object
        .charges(applies_to)
        .map_err(|TooMuch { field, bound_minor }| beyond(event, field, bound_minor))?;
    let currency = object.currency().map(str::to_owned);
    let known = Known {
        discounts: &discounts,
        taxes: &KnownTaxes::default(),
        currency: currency.as_deref(),
    };
    let monthly = charges.as_ref().map(|charges| charges.monthly(&known));
    let recurring_minor = monthly.and_then(Monthly::known);
    let mrr_unknown = match &charges {
        None => Some(MrrUnknown::Items),
        Some(_) => object.cancellation_unknown(),
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
        charges: charges.filter(|_| recurring_minor.is_none()).map(Box::new),
    };
    let ids = object.metadata.own_ids(event, &settings.metadata);
    let origin = SubscriptionOrigin {
        account: event.account.as_deref().map(str::to_owned),
        customer: object
            .customer
            .into_id()
            .or(object.customer_account.into_id()),
        currency,
        ids,
        discounts,
        taxes: KnownTaxes::default(),
        former_customer: None,
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
    /// Instead of `customer`, or in addition, if the customer is an account.
    /// Source: <https://docs.stripe.com/connect/use-accounts-as-customers>.
    customer_account: Lenient<Reference>,
    currency: Lenient<Currency>,
    items: Lenient<Items>,
    /// Up to acacia; later versions have only `discounts`.
    discount: Fingerprinted<Discount>,
    discounts: Fingerprinted<Vec<Lenient<Discount>>>,
    default_tax_rates: TaxRates,
    automatic_tax: Lenient<AutomaticTax>,
    latest_invoice: Lenient<Reference>,
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
    has_more: Lenient<bool>,
}

impl SubscriptionObject {
    fn items(&self) -> Option<&[Lenient<Item>]> {
        let data = self.items.as_known()?.data.0.as_known();
        data.map(Vec::as_slice)
    }

    /// What is charged, if its items can be read, and what the event shows of its discounts.
    fn charges(
        &self,
        applies_to: AppliesToIs,
    ) -> Result<(Option<Charges>, KnownDiscounts), TooMuch> {
        let items = self.items();
        let parts = Parts {
            items: items.unwrap_or_default(),
            has_more: !matches!(self.has_more(), Lenient::Absent | Lenient::Known(false)),
            currency: self.currency(),
            discounts: &self.discounts.0,
            applies_to,
            legacy: &self.discount.0,
            tax_rates: &self.default_tax_rates,
            automatic_tax: &self.automatic_tax,
            latest_invoice: self.latest_invoice.as_known().map(Reference::id),
        };
        let charges = items.map(|_| parts.charges()).transpose()?;
        Ok((charges, parts.known_discounts()?))
    }

    fn has_more(&self) -> &Lenient<bool> {
        match &self.items {
            Lenient::Known(items) => &items.has_more,
            Lenient::Absent | Lenient::Odd => &Lenient::Absent,
        }
    }

    /// Its own currency; of an API version in which it has none, that of all its prices. Stripe added the field
    /// together with prices in several currencies: <https://github.com/stripe/stripe-php/releases/tag/v8.10.0>.
    fn currency(&self) -> Option<&str> {
        match &self.currency {
            Lenient::Known(currency) => return Some(currency.code()),
            Lenient::Odd => return None,
            Lenient::Absent => {}
        }
        let items = self.items()?.iter();
        let mut currencies = items.map(|item| item.as_known()?.price()?.currency.as_known());
        let first = currencies.next()??;
        currencies
            .all(|other| other == Some(first))
            .then(|| first.code())
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
