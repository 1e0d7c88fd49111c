//! The items of a subscription with their prices and discounts, in all forms.

use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer};

use super::fields::{DecimalNumber, DecimalText, Expandable, Minor, Reference};
use super::lenient::Lenient;

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
pub(super) struct Item {
    price: Lenient<Price>,
    /// Old API versions have it instead of `price`.
    #[serde(deserialize_with = "plan")]
    plan: Lenient<Price>,
    pub(super) quantity: Lenient<u64>,
    pub(super) discounts: Discounts,
}

pub(super) type Discounts = Lenient<Vec<Lenient<Discount>>>;

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
    pub(super) unit_amount: Lenient<Minor>,
    pub(super) unit_amount_decimal: Lenient<DecimalText>,
    /// Null for a one-off price.
    #[serde(default = "Lenient::odd")]
    pub(super) recurring: Lenient<Recurring>,
    pub(super) transform_quantity: Lenient<Transform>,
}

/// A price in its form before 2020, with the fields of `recurring`. Source: <https://docs.stripe.com/api/plans/object>.
#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct Plan {
    id: Lenient<String>,
    product: Lenient<Reference>,
    amount: Lenient<Minor>,
    amount_decimal: Lenient<DecimalText>,
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
            unit_amount: self.amount,
            unit_amount_decimal: self.amount_decimal,
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

/// An id does not contain the amount. From 2025-09-30.clover on, the coupon is below `source`.
pub(super) type Discount = Expandable<FullDiscount>;

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
pub(super) struct FullDiscount {
    coupon: Lenient<Expandable<Coupon>>,
    source: Lenient<DiscountSource>,
}

#[derive(Debug, Deserialize)]
struct DiscountSource {
    /// Null if it is not a coupon.
    #[serde(default = "Lenient::odd")]
    coupon: Lenient<Expandable<Coupon>>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
pub(super) struct Coupon {
    duration: Lenient<String>,
    percent_off: Lenient<DecimalNumber>,
    amount_off: Lenient<Minor>,
}

/// What a coupon takes off.
#[derive(Clone, Copy)]
pub(super) enum Off {
    Percent(Decimal),
    Minor(Minor),
}

/// A coupon whose effect on the price the event does not have: one that a script computes, one with
/// another discount than Stripe documents.
pub(super) struct CannotBePriced;

impl Discount {
    /// The coupon, if the event has it.
    pub(super) fn coupon(&self) -> Result<Option<&Coupon>, CannotBePriced> {
        let Self::Object(FullDiscount { coupon, source }) = self else {
            return Ok(None);
        };
        let coupon = match (coupon, source) {
            (Lenient::Absent, Lenient::Known(source)) => &source.coupon,
            (Lenient::Absent, _) => return Err(CannotBePriced),
            (coupon, _) => coupon,
        };
        match coupon {
            Lenient::Known(Expandable::Object(coupon)) => Ok(Some(coupon)),
            Lenient::Known(Expandable::Id(_)) | Lenient::Absent => Ok(None),
            Lenient::Odd => Err(CannotBePriced),
        }
    }
}

impl Coupon {
    /// What it takes off each invoice for good; `None` if it ends.
    pub(super) fn forever_off(&self) -> Result<Option<Off>, CannotBePriced> {
        match self.duration.as_known().map(String::as_str) {
            Some("forever") => {}
            Some(_) => return Ok(None),
            None => return Err(CannotBePriced),
        }
        match (&self.percent_off, &self.amount_off) {
            (Lenient::Known(DecimalNumber(percent)), _)
                if (Decimal::ZERO..=Decimal::ONE_HUNDRED).contains(percent) =>
            {
                Ok(Some(Off::Percent(*percent)))
            }
            (Lenient::Absent, Lenient::Known(Minor::Within(..0))) => Err(CannotBePriced),
            (Lenient::Absent, Lenient::Known(minor)) => Ok(Some(Off::Minor(*minor))),
            _ => Err(CannotBePriced),
        }
    }
}
