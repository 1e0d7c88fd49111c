//! What a coupon takes off.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

/// The terms of a coupon, as a discount applies them. Stripe does not change them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Terms {
    /// Whether it lasts as long as the subscription. One that ends does not reduce MRR.
    /// Source: <https://support.stripe.com/questions/billing-analytics>.
    pub is_forever: bool,
    /// A share of the amount.
    pub percent_off: Option<Percent>,
    /// A fixed amount, off each invoice.
    pub amount_off: Option<AmountOff>,
    /// The only products to which it applies; `None`: all, as far as is known. Events do not have it.
    /// Source: <https://docs.stripe.com/api/coupons/object#coupon_object-applies_to>.
    pub products: Option<Vec<String>>,
}

/// An amount that a coupon takes off.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AmountOff {
    /// Minor units.
    pub minor: i64,
    /// Lower case; `None`: that of what it is taken off.
    pub currency: Option<String>,
}

/// 0 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Percent(#[serde(with = "decimal")] Decimal);

impl Terms {
    /// Of a discount that a script computes, or whose terms are not as Stripe documents them.
    pub const CANNOT_BE_PRICED: Self = Self {
        is_forever: true,
        percent_off: None,
        amount_off: None,
        products: None,
    };

    /// Of a discount that ends, whatever it takes off until then.
    pub fn ending() -> Self {
        Self::default()
    }

    /// Whether it is known what it takes off in the end. A script's discount is not.
    pub fn is_priced(&self) -> bool {
        !self.is_forever || self.percent_off.is_some() || self.amount_off.is_some()
    }

    pub(super) fn applies_to(&self, product: Option<&str>) -> bool {
        let is_listed = |products: &Vec<String>| {
            product.is_some_and(|product| products.iter().any(|listed| listed == product))
        };
        self.products.as_ref().is_none_or(is_listed)
    }
}

impl Percent {
    /// Nothing.
    pub const ZERO: Self = Self(Decimal::ZERO);

    /// `None` if it is not from 0 to 100.
    pub fn of(percent: Decimal) -> Option<Self> {
        let is_share = (Decimal::ZERO..=Decimal::ONE_HUNDRED).contains(&percent);
        // 20.0 and 20 are the same.
        is_share.then(|| Self(percent.normalize()))
    }

    /// What is left of an amount that contains so much on top.
    pub(super) fn without(self, amount: Decimal) -> Option<Decimal> {
        let whole = Decimal::ONE_HUNDRED.checked_add(self.0)?;
        amount.checked_mul(Decimal::ONE_HUNDRED)?.checked_div(whole)
    }

    /// The part that is left.
    pub(super) fn rest(self) -> Decimal {
        (Decimal::ONE_HUNDRED - self.0) / Decimal::ONE_HUNDRED
    }
}

impl std::fmt::Display for Percent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Decimals are stored as text.
pub(super) mod decimal {
    use std::borrow::Cow;

    use rust_decimal::Decimal;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(decimal: &Decimal, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(decimal)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Decimal, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        Decimal::from_str_exact(&text).map_err(D::Error::custom)
    }
}
