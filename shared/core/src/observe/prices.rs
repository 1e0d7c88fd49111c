//! The items of a subscription with their prices and discounts, in all forms.

use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer};

use super::fields::{DecimalNumber, DecimalText, Expandable, Minor, Reference};
use super::lenient::{Lenient, list, raw};

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Item {
    price: Lenient<Price>,
    /// Old API versions have it instead of `price`.
    #[serde(deserialize_with = "plan")]
    plan: Lenient<Price>,
    pub(super) quantity: Lenient<u64>,
    #[serde(deserialize_with = "list")]
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

/// A price, or a plan: its name before 2020. Source: <https://docs.stripe.com/api/plans/object>.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Price {
    pub(super) id: Lenient<String>,
    pub(super) product: Lenient<Reference>,
    pub(super) lookup_key: Lenient<String>,
    #[serde(alias = "amount")]
    pub(super) unit_amount: Lenient<Minor>,
    #[serde(alias = "amount_decimal")]
    pub(super) unit_amount_decimal: Lenient<DecimalText>,
    /// Null for a one-off price.
    #[serde(default = "Lenient::odd")]
    pub(super) recurring: Lenient<Recurring>,
    #[serde(alias = "transform_usage")]
    pub(super) transform_quantity: Lenient<Transform>,
}

/// A plan has the fields of `recurring` itself.
fn plan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Lenient<Price>, D::Error> {
    let json = raw(deserializer)?;
    let is_object = json.starts_with('{');
    let plan = match Lenient::<Price>::of(json) {
        Lenient::Known(price) if is_object => Lenient::Known(Price {
            recurring: Lenient::of(json),
            ..price
        }),
        Lenient::Absent => Lenient::Absent,
        _ => Lenient::Odd,
    };
    Ok(plan)
}

#[derive(Deserialize)]
pub(super) struct Recurring {
    pub(super) interval: String,
    pub(super) interval_count: u32,
    pub(super) usage_type: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Transform {
    pub(super) divide_by: u32,
    pub(super) round: Round,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Round {
    Up,
    Down,
}

/// An id does not contain the amount. From 2025-09-30.clover on, the coupon is below `source`.
pub(super) type Discount = Expandable<FullDiscount>;

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct FullDiscount {
    coupon: Lenient<Expandable<Coupon>>,
    source: Lenient<DiscountSource>,
}

#[derive(Deserialize)]
struct DiscountSource {
    /// Null if it is not a coupon.
    #[serde(default = "Lenient::odd")]
    coupon: Lenient<Expandable<Coupon>>,
}

#[derive(Deserialize, Default)]
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
