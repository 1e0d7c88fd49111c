//! The items of a subscription with their prices and taxes, in all forms.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use super::coupons::Discounts;
use super::fields::{Currency, DecimalNumber, DecimalText, Minor, Reference};
use super::lenient::Lenient;

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
pub(super) struct Item {
    pub(super) id: Lenient<String>,
    price: Lenient<Price>,
    /// Old API versions have it instead of `price`.
    #[serde(deserialize_with = "plan")]
    plan: Lenient<Price>,
    pub(super) quantity: Lenient<u64>,
    pub(super) discounts: Discounts,
    pub(super) tax_rates: TaxRates,
}

impl Item {
    /// `None` if it cannot be read.
    pub(super) fn price(&self) -> Option<&Price> {
        match &self.price {
            Lenient::Absent => self.plan.as_known(),
            price => price.as_known(),
        }
    }
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
pub(super) struct Price {
    pub(super) id: Lenient<String>,
    pub(super) product: Lenient<Reference>,
    pub(super) lookup_key: Lenient<String>,
    pub(super) currency: Lenient<Currency>,
    unit_amount: Lenient<Minor>,
    unit_amount_decimal: Lenient<DecimalText>,
    /// Only an object that was fetched has them.
    tiers: Tiers,
    pub(super) tiers_mode: Lenient<TiersMode>,
    /// The amounts in other currencies. Only an object that was fetched has them.
    currency_options: Lenient<BTreeMap<String, Lenient<CurrencyOption>>>,
    pub(super) tax_behavior: Lenient<String>,
    /// Null for a one-off price.
    #[serde(default = "Lenient::odd")]
    pub(super) recurring: Lenient<Recurring>,
    pub(super) transform_quantity: Lenient<Transform>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct CurrencyOption {
    unit_amount: Lenient<Minor>,
    unit_amount_decimal: Lenient<DecimalText>,
    tiers: Tiers,
}

/// What a price costs in one currency.
#[derive(Clone, Copy)]
pub(super) struct Amounts<'a> {
    pub(super) unit_amount: &'a Lenient<Minor>,
    pub(super) unit_amount_decimal: &'a Lenient<DecimalText>,
    pub(super) tiers: &'a Tiers,
}

impl Price {
    /// What it costs in `currency`, the subscription's; `None` if the event does not have it.
    /// Source: <https://docs.stripe.com/products-prices/how-products-and-prices-work#multiple-currencies>.
    pub(super) fn amounts(&self, currency: Option<&str>) -> Option<Amounts<'_>> {
        let own = self.currency.as_known().map(Currency::code);
        let Some(other) = currency.filter(|currency| own.is_some_and(|own| own != *currency))
        else {
            return Some(Amounts {
                unit_amount: &self.unit_amount,
                unit_amount_decimal: &self.unit_amount_decimal,
                tiers: &self.tiers,
            });
        };
        let option = self.currency_options.as_known()?.get(other)?.as_known()?;
        Some(Amounts {
            unit_amount: &option.unit_amount,
            unit_amount_decimal: &option.unit_amount_decimal,
            tiers: &option.tiers,
        })
    }
}

/// A price in its form before 2020, with the fields of `recurring`. Source: <https://docs.stripe.com/api/plans/object>.
#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct Plan {
    id: Lenient<String>,
    product: Lenient<Reference>,
    currency: Lenient<Currency>,
    amount: Lenient<Minor>,
    amount_decimal: Lenient<DecimalText>,
    tiers: Tiers,
    tiers_mode: Lenient<TiersMode>,
    interval: Lenient<String>,
    interval_count: Lenient<u32>,
    usage_type: Lenient<String>,
    transform_usage: Lenient<Transform>,
}

fn plan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Lenient<Price>, D::Error> {
    Ok(Lenient::<Plan>::deserialize(deserializer)?.map(Plan::into_price))
}

impl Plan {
    fn into_price(self) -> Price {
        let recurring = match (self.interval, self.interval_count, self.usage_type) {
            (Lenient::Known(interval), Lenient::Known(interval_count), usage_type)
                if !usage_type.is_odd() =>
            {
                Lenient::Known(Recurring {
                    interval,
                    interval_count,
                    usage_type: usage_type.known(),
                })
            }
            _ => Lenient::Odd,
        };
        Price {
            id: self.id,
            product: self.product,
            lookup_key: Lenient::Absent,
            currency: self.currency,
            unit_amount: self.amount,
            unit_amount_decimal: self.amount_decimal,
            tiers: self.tiers,
            tiers_mode: self.tiers_mode,
            currency_options: Lenient::Absent,
            tax_behavior: Lenient::Absent,
            recurring,
            transform_quantity: self.transform_usage,
        }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Recurring {
    pub(super) interval: String,
    pub(super) interval_count: u32,
    pub(super) usage_type: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Transform {
    pub(super) divide_by: u32,
    pub(super) round: Round,
}

#[derive(Debug, Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Round {
    Up,
    Down,
}

/// Source: <https://docs.stripe.com/api/prices/object#price_object-tiers_mode>.
#[derive(Debug, Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum TiersMode {
    /// Each unit costs what its tier says.
    Graduated,
    /// Each unit costs what the tier of the quantity says.
    Volume,
}

pub(super) type Tiers = Lenient<Vec<Lenient<Tier>>>;

/// Source: <https://docs.stripe.com/api/prices/object#price_object-tiers>.
#[derive(Debug, Deserialize, Default)]
#[serde(default)]
pub(super) struct Tier {
    /// Null: no end.
    pub(super) up_to: Lenient<u64>,
    pub(super) unit_amount: Lenient<Minor>,
    pub(super) unit_amount_decimal: Lenient<DecimalText>,
    pub(super) flat_amount: Lenient<Minor>,
    pub(super) flat_amount_decimal: Lenient<DecimalText>,
}

pub(super) type TaxRates = Lenient<Vec<Lenient<TaxRate>>>;

/// Source: <https://docs.stripe.com/api/tax_rates/object>.
#[derive(Debug, Deserialize)]
pub(super) struct TaxRate {
    pub(super) inclusive: bool,
    pub(super) percentage: DecimalNumber,
}

/// Source: <https://docs.stripe.com/api/subscriptions/object#subscription_object-automatic_tax>.
#[derive(Debug, Deserialize)]
pub(super) struct AutomaticTax {
    pub(super) enabled: bool,
}
