//! The items of a subscription with their prices and discounts, in all forms.

use rust_decimal::Decimal;
use serde::Deserialize;

use super::fields::{DecimalNumber, DecimalText, Minor, Reference, present, record};

#[derive(Deserialize)]
pub(super) struct Item {
    #[serde(deserialize_with = "record")]
    pub(super) price: Price,
    pub(super) quantity: Option<u64>,
    #[serde(default)]
    pub(super) discounts: Discounts,
}

/// A list of discounts; null is an empty one.
#[derive(Default)]
pub(super) struct Discounts(pub(super) Vec<Discount>);

impl<'de> Deserialize<'de> for Discounts {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Option::deserialize(deserializer)?.unwrap_or_default()))
    }
}

/// An id, or the discount itself. From 2025-09-30.clover on, the coupon is below `source`.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Discount {
    Id(#[expect(dead_code, reason = "an id does not contain the amount")] String),
    Object(FullDiscount),
}

#[derive(Deserialize)]
#[serde(try_from = "DiscountFields")]
pub(super) struct FullDiscount(Option<CouponRef>);

#[derive(Deserialize)]
struct DiscountFields {
    coupon: Option<CouponRef>,
    #[serde(default, deserialize_with = "record")]
    source: Option<DiscountSource>,
}

impl TryFrom<DiscountFields> for FullDiscount {
    type Error = &'static str;

    fn try_from(fields: DiscountFields) -> Result<Self, Self::Error> {
        match (fields.coupon, fields.source) {
            (Some(coupon), _) => Ok(Self(Some(coupon))),
            (None, Some(source)) => Ok(Self(source.coupon)),
            (None, None) => Err("a discount without its coupon"),
        }
    }
}

#[derive(Deserialize)]
struct DiscountSource {
    #[serde(deserialize_with = "present")]
    coupon: Option<CouponRef>,
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum CouponRef {
    Id(#[expect(dead_code, reason = "an id does not contain the amount")] String),
    Object(Coupon),
}

#[derive(Deserialize)]
#[serde(try_from = "CouponFields")]
pub(super) struct Coupon {
    pub(super) lasts_forever: bool,
    pub(super) off: CouponValue,
}

pub(super) enum CouponValue {
    Percent(Decimal),
    Minor(i64),
}

#[derive(Deserialize)]
struct CouponFields {
    duration: String,
    percent_off: Option<DecimalNumber>,
    amount_off: Option<Minor>,
}

impl TryFrom<CouponFields> for Coupon {
    type Error = &'static str;

    fn try_from(fields: CouponFields) -> Result<Self, Self::Error> {
        let off = match (fields.percent_off, fields.amount_off) {
            (Some(percent), _)
                if percent.0 >= Decimal::ZERO && percent.0 <= Decimal::ONE_HUNDRED =>
            {
                CouponValue::Percent(percent.0)
            }
            (None, Some(amount)) if amount.0 >= 0 => CouponValue::Minor(amount.0),
            _ => return Err("a coupon without a discount, or with more than 100 %"),
        };
        Ok(Self {
            lasts_forever: fields.duration == "forever",
            off,
        })
    }
}

impl Discount {
    pub(super) fn coupon(&self) -> Option<&Coupon> {
        let Self::Object(FullDiscount(coupon)) = self else {
            return None;
        };
        match coupon {
            Some(CouponRef::Object(coupon)) => Some(coupon),
            _ => None,
        }
    }
}

#[derive(Deserialize)]
pub(super) struct Price {
    pub(super) id: Option<String>,
    pub(super) product: Option<Reference>,
    pub(super) lookup_key: Option<String>,
    pub(super) unit_amount: Option<i64>,
    pub(super) unit_amount_decimal: Option<DecimalText>,
    /// Null for a one-off price.
    #[serde(deserialize_with = "record")]
    pub(super) recurring: Option<Recurring>,
    #[serde(default, deserialize_with = "record")]
    pub(super) transform_quantity: Option<Transform>,
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
    pub(super) round: String,
}
