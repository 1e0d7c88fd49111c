//! Discounts and their coupons, in all forms.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::fields::{Currency, DecimalNumber, Expandable, Minor, Seconds};
use super::lenient::Lenient;
use crate::entity::recurring::{
    AmountOff, AppliedDiscount, KnownDiscount, Percent, Products, Terms,
};

pub(super) type Discounts = Lenient<Vec<Lenient<Discount>>>;

/// Since 2025-03-31.basil an id, unless it was expanded.
pub(super) type Discount = Expandable<FullDiscount>;

/// From 2025-09-30.clover on, the coupon is below `source`.
#[derive(Debug, Deserialize, Default)]
#[serde(default)]
pub(super) struct FullDiscount {
    pub(super) id: Lenient<String>,
    coupon: Lenient<Expandable<Coupon>>,
    source: Lenient<Source>,
    /// When it ends.
    end: Lenient<Seconds>,
    pub(super) subscription: Lenient<String>,
}

/// Of a discount, or the `promotion` of a promotion code.
#[derive(Debug, Deserialize)]
pub(super) struct Source {
    /// Null if it is not a coupon.
    #[serde(default = "Lenient::odd")]
    pub(super) coupon: Lenient<Expandable<Coupon>>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
pub(super) struct Coupon {
    pub(super) id: Lenient<String>,
    duration: Lenient<String>,
    percent_off: Lenient<DecimalNumber>,
    amount_off: Lenient<Minor>,
    currency: Lenient<Currency>,
    /// The amounts in other currencies. Only an object that was fetched has them.
    currency_options: Lenient<BTreeMap<String, Lenient<CurrencyOption>>>,
    /// Only an object that was fetched with it has it, unless the coupon applies to all products.
    applies_to: Lenient<AppliesTo>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct CurrencyOption {
    amount_off: Lenient<Minor>,
}

#[derive(Debug, Deserialize)]
struct AppliesTo {
    products: Vec<String>,
}

/// Whether an event has the products to which a coupon applies.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum AppliesToIs {
    /// A coupon without them applies to all.
    Shown,
    /// Nothing is known if they are absent.
    LeftOut,
}

/// An amount that is larger than any.
pub(super) struct BeyondAnyAmount;

impl Discount {
    /// As it is applied to something.
    pub(super) fn applied(&self) -> Result<AppliedDiscount, BeyondAnyAmount> {
        Ok(match self {
            Self::Id(id) => AppliedDiscount {
                id: Some(id.clone()),
                terms: None,
            },
            Self::Object(discount) => match &discount.id {
                Lenient::Known(id) => AppliedDiscount {
                    id: Some(id.clone()),
                    terms: None,
                },
                _ => AppliedDiscount {
                    id: None,
                    terms: discount.known(AppliesToIs::LeftOut)?.terms,
                },
            },
        })
    }

    /// Its id, and what the event shows of it.
    pub(super) fn known(
        &self,
        applies_to: AppliesToIs,
    ) -> Result<Option<(&str, KnownDiscount)>, BeyondAnyAmount> {
        let Self::Object(discount) = self else {
            return Ok(None);
        };
        let Some(id) = discount.id.as_known() else {
            return Ok(None);
        };
        Ok(Some((id, discount.known(applies_to)?)))
    }
}

impl FullDiscount {
    /// What the event shows of it.
    pub(super) fn known(&self, applies_to: AppliesToIs) -> Result<KnownDiscount, BeyondAnyAmount> {
        let coupon = match (&self.coupon, &self.source) {
            (Lenient::Absent, Lenient::Known(source)) => &source.coupon,
            (Lenient::Absent, _) => &Lenient::Odd,
            (coupon, _) => coupon,
        };
        let (id, terms) = match coupon {
            Lenient::Known(Expandable::Id(id)) => (Some(id.clone()), None),
            Lenient::Known(Expandable::Object(coupon)) => (
                coupon.id.as_known().cloned(),
                Some(coupon.terms(applies_to)?),
            ),
            // It is of something else than a coupon, or cannot be read.
            Lenient::Absent | Lenient::Odd => (None, Some(Terms::CANNOT_BE_PRICED)),
        };
        let is_ending = matches!(self.end, Lenient::Known(_));
        Ok(KnownDiscount {
            coupon: id,
            terms: if is_ending {
                Some(Terms::ending())
            } else {
                terms
            },
        })
    }
}

/// More products than these are as good as unknown: the list is stored.
const MAX_PRODUCTS: usize = 100;

/// More than Stripe supports. Source: <https://docs.stripe.com/currencies>.
const MAX_CURRENCIES: usize = 256;

impl Coupon {
    pub(super) fn terms(&self, applies_to: AppliesToIs) -> Result<Terms, BeyondAnyAmount> {
        match self.duration.as_known().map(String::as_str) {
            Some("forever") => {}
            Some("once" | "repeating") => return Ok(Terms::ending()),
            // Whether one that Stripe adds later ends is not known.
            Some(_) | None => return Ok(Terms::CANNOT_BE_PRICED),
        }
        let products = match &self.applies_to {
            Lenient::Absent if applies_to == AppliesToIs::Shown => Products::All,
            Lenient::Absent => Products::NotShown,
            Lenient::Known(AppliesTo { products }) if products.len() <= MAX_PRODUCTS => {
                let mut products = products.clone();
                products.sort();
                Products::from(Some(products))
            }
            Lenient::Known(_) | Lenient::Odd => return Ok(Terms::CANNOT_BE_PRICED),
        };
        let forever = Terms {
            products,
            ..Terms::CANNOT_BE_PRICED
        };
        let off = self.amount_off()?;
        Ok(match &self.percent_off {
            Lenient::Known(DecimalNumber(percent)) => Terms {
                percent_off: Percent::of(*percent),
                ..forever
            },
            Lenient::Absent => Terms {
                amount_off: off,
                ..forever
            },
            Lenient::Odd => forever,
        })
    }

    /// `None` if a part of it cannot be read.
    fn amount_off(&self) -> Result<Option<AmountOff>, BeyondAnyAmount> {
        if self.amount_off == Lenient::Known(Minor::Beyond) {
            return Err(BeyondAnyAmount);
        }
        let currency = self.currency.as_known();
        let amount = not_negative(&self.amount_off).filter(|_| !self.currency.is_odd());
        let amounts = amount.zip(self.currency_options(currency));
        Ok(amounts.map(|(minor, currency_options)| AmountOff {
            minor,
            currency: currency.map(|currency| currency.code().to_owned()),
            currency_options,
        }))
    }

    /// Without its own currency, which Stripe has among them.
    fn currency_options(&self, own: Option<&Currency>) -> Option<BTreeMap<String, i64>> {
        let options = match &self.currency_options {
            Lenient::Absent => return Some(BTreeMap::new()),
            Lenient::Known(options) if options.len() <= MAX_CURRENCIES => options,
            Lenient::Known(_) | Lenient::Odd => return None,
        };
        let read = |(currency, option): (&String, &Lenient<CurrencyOption>)| {
            let currency = Currency::try_from(currency.clone()).ok()?;
            let minor = not_negative(&option.as_known()?.amount_off)?;
            Some((currency, minor))
        };
        let options: Vec<_> = options.iter().map(read).collect::<Option<_>>()?;
        let others = options.into_iter().filter(|(it, _)| Some(it) != own);
        Some(
            others
                .map(|(it, minor)| (it.code().to_owned(), minor))
                .collect(),
        )
    }
}

/// `None` if it is not an amount that a coupon can take off.
fn not_negative(amount: &Lenient<Minor>) -> Option<i64> {
    match amount {
        Lenient::Known(Minor::Within(minor @ 0..)) => Some(*minor),
        _ => None,
    }
}
