//! Discounts and their coupons, in all forms.

use serde::Deserialize;

use super::fields::{Currency, DecimalNumber, Expandable, Minor, Seconds};
use super::lenient::Lenient;
use crate::entity::recurring::{AmountOff, AppliedDiscount, KnownDiscount, Percent, Terms};

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
    /// Only an object that was fetched has it.
    applies_to: Lenient<AppliesTo>,
}

#[derive(Debug, Deserialize)]
struct AppliesTo {
    products: Vec<String>,
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
                    terms: discount.known()?.terms,
                },
            },
        })
    }

    /// Its id, and what the event shows of it.
    pub(super) fn known(&self) -> Result<Option<(&str, KnownDiscount)>, BeyondAnyAmount> {
        let Self::Object(discount) = self else {
            return Ok(None);
        };
        let Some(id) = discount.id.as_known() else {
            return Ok(None);
        };
        Ok(Some((id, discount.known()?)))
    }
}

impl FullDiscount {
    /// What the event shows of it.
    pub(super) fn known(&self) -> Result<KnownDiscount, BeyondAnyAmount> {
        let coupon = match (&self.coupon, &self.source) {
            (Lenient::Absent, Lenient::Known(source)) => &source.coupon,
            (Lenient::Absent, _) => &Lenient::Odd,
            (coupon, _) => coupon,
        };
        let (id, terms) = match coupon {
            Lenient::Known(Expandable::Id(id)) => (Some(id.clone()), None),
            Lenient::Known(Expandable::Object(coupon)) => {
                (coupon.id.as_known().cloned(), Some(coupon.terms()?))
            }
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

impl Coupon {
    pub(super) fn terms(&self) -> Result<Terms, BeyondAnyAmount> {
        match self.duration.as_known().map(String::as_str) {
            Some("forever") => {}
            Some(_) => return Ok(Terms::ending()),
            None => return Ok(Terms::CANNOT_BE_PRICED),
        }
        let products = match &self.applies_to {
            Lenient::Absent => None,
            Lenient::Known(AppliesTo { products }) if products.len() <= MAX_PRODUCTS => {
                let mut products = products.clone();
                products.sort();
                Some(products)
            }
            Lenient::Known(_) | Lenient::Odd => return Ok(Terms::CANNOT_BE_PRICED),
        };
        let forever = Terms {
            products,
            ..Terms::CANNOT_BE_PRICED
        };
        let off = match (&self.amount_off, &self.currency) {
            (Lenient::Known(Minor::Beyond), _) => return Err(BeyondAnyAmount),
            (Lenient::Known(Minor::Within(minor @ 0..)), Lenient::Known(_) | Lenient::Absent) => {
                Some(AmountOff {
                    minor: *minor,
                    currency: self.currency.as_known().map(|c| c.code().to_owned()),
                })
            }
            _ => None,
        };
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
}
