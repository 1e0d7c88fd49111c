//! What a coupon takes off.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

/// The terms of a coupon, as a discount applies them. Stripe does not change them; amounts in further currencies may
/// be added. Source: <https://docs.stripe.com/api/coupons/update>.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Terms {
    /// Whether it lasts as long as the subscription. One that ends does not reduce MRR.
    /// Source: <https://support.stripe.com/questions/billing-analytics>.
    pub is_forever: bool,
    /// A share of the amount.
    pub percent_off: Option<Percent>,
    /// A fixed amount, off each invoice.
    pub amount_off: Option<AmountOff>,
    /// To which products it applies.
    pub products: Products,
}

/// To which products a coupon applies. Stored as an optional list, which is empty if they are all.
/// Source: <https://docs.stripe.com/api/coupons/object#coupon_object-applies_to>.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "Option<Vec<String>>", into = "Option<Vec<String>>")]
pub enum Products {
    /// Events do not have it: only an object that was fetched does.
    #[default]
    NotShown,
    /// To every product.
    All,
    /// To these, `prod_…`.
    Only(Vec<String>),
}

/// An amount that a coupon takes off.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AmountOff {
    /// Minor units.
    pub minor: i64,
    /// Lower case; `None`: that of what it is taken off.
    pub currency: Option<String>,
    /// Minor units in other currencies, as far as they are known. Events do not have them.
    /// Source: <https://docs.stripe.com/api/coupons/object#coupon_object-currency_options>.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub currency_options: BTreeMap<String, i64>,
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
        products: Products::NotShown,
    };

    /// Of a discount that ends, whatever it takes off until then.
    pub fn ending() -> Self {
        Self::default()
    }

    /// Whether it is known what it takes off in the end. A script's discount is not.
    pub fn is_priced(&self) -> bool {
        !self.is_forever || self.percent_off.is_some() || self.amount_off.is_some()
    }

    /// Adds what another event shows of the coupon: products and further currencies that only one of them has are
    /// kept. The greater of contradicting terms win, in any order.
    pub fn merge(&mut self, new: &Self) {
        let order = self.always_shown().cmp(&new.always_shown());
        match order {
            Ordering::Less => self.clone_from(new),
            Ordering::Equal => {
                if self.products < new.products {
                    self.products.clone_from(&new.products);
                }
                if let (Some(kept), Some(new)) = (&mut self.amount_off, &new.amount_off) {
                    kept.add_options(new);
                }
            }
            Ordering::Greater => {}
        }
    }

    /// Whether the terms of the coupon, as another event shows them, say more of the products.
    pub(super) fn lacks_products_of(&self, coupon: &Self) -> bool {
        !self.products.are_shown()
            && coupon.products.are_shown()
            && self.always_shown() == coupon.always_shown()
    }

    /// Whether both can be of one coupon, of which one event may show more currencies than another.
    pub fn agrees_with(&self, other: &Self) -> bool {
        let is_same = |(own, other): (&AmountOff, &AmountOff)| own.has_options_of(other);
        let amounts = self.amount_off.as_ref().zip(other.amount_off.as_ref());
        self.always_shown() == other.always_shown()
            && self.products.agree_with(&other.products)
            && amounts.is_none_or(is_same)
    }

    /// What every event about the coupon has.
    fn always_shown(&self) -> impl Ord {
        let amount_off = self.amount_off.as_ref();
        let amount_off = amount_off.map(|off| (off.minor, off.currency.as_deref()));
        (self.is_forever, self.percent_off, amount_off)
    }
}

impl Products {
    /// Whether an event has shown them.
    pub(super) const fn are_shown(&self) -> bool {
        !matches!(self, Self::NotShown)
    }

    /// Whether the coupon applies to this one; if its products are not known, it may.
    pub(super) fn contain(&self, product: Option<&str>) -> bool {
        match self {
            Self::NotShown | Self::All => true,
            Self::Only(listed) => {
                product.is_some_and(|product| listed.iter().any(|listed| listed == product))
            }
        }
    }

    fn agree_with(&self, other: &Self) -> bool {
        self == other || !self.are_shown() || !other.are_shown()
    }
}

impl From<Option<Vec<String>>> for Products {
    fn from(stored: Option<Vec<String>>) -> Self {
        match stored {
            None => Self::NotShown,
            Some(listed) if listed.is_empty() => Self::All,
            Some(listed) => Self::Only(listed),
        }
    }
}

impl From<Products> for Option<Vec<String>> {
    fn from(products: Products) -> Self {
        match products {
            Products::NotShown => None,
            Products::All => Some(Vec::new()),
            Products::Only(listed) => Some(listed),
        }
    }
}

impl AmountOff {
    /// What is taken off an amount in `currency`; `None`: nothing, as far as is known.
    pub(super) fn in_currency(&self, currency: Option<&str>) -> Option<i64> {
        if self.currency.is_none() || self.currency.as_deref() == currency {
            return Some(self.minor);
        }
        self.currency_options.get(currency?).copied()
    }

    fn add_options(&mut self, new: &Self) {
        for (currency, minor) in &new.currency_options {
            let kept = self.currency_options.entry(currency.clone());
            let kept = kept.or_insert(*minor);
            *kept = (*kept).max(*minor);
        }
    }

    /// Whether no currency has another amount there.
    fn has_options_of(&self, other: &Self) -> bool {
        let is_same = |(currency, minor): (&String, &i64)| {
            let own = self.currency_options.get(currency);
            own.is_none_or(|own| own == minor)
        };
        other.currency_options.iter().all(is_same)
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
        let left = Decimal::ONE_HUNDRED.saturating_sub(self.0);
        left.checked_div(Decimal::ONE_HUNDRED).unwrap_or_default()
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Otherwise the stored state of events without other currencies would change.
    #[test]
    fn an_amount_in_one_currency_is_stored_as_before_there_were_others() {
        let mut off = AmountOff {
            minor: 500,
            currency: Some("usd".to_owned()),
            currency_options: BTreeMap::new(),
        };
        let before = rmp_serde::to_vec(&(500, "usd")).expect("encodes");
        assert_eq!(rmp_serde::to_vec(&off).expect("encodes"), before);
        assert_eq!(
            rmp_serde::from_slice::<AmountOff>(&before).expect("decodes"),
            off
        );
        off.currency_options.insert("jpy".to_owned(), 700);
        let stored = rmp_serde::to_vec(&off).expect("encodes");
        assert_eq!(
            rmp_serde::from_slice::<AmountOff>(&stored).expect("decodes"),
            off
        );
    }
}
