//! What a subscription is charged, from the data in its events.
//!
//! Per item: quantity × unit amount, or what its tiers say, and how much of it is tax. Metered and one-off
//! prices are no part of it. The amount each month is computed from that in
//! [`crate::entity::recurring`]; what the event does not have makes a bound there.
//! Source: <https://docs.stripe.com/billing/subscriptions/analytics/glossary>.

use std::collections::BTreeSet;

use rust_decimal::Decimal;

use super::amounts::{Beyond, amount};
use super::coupons::{AppliesToIs, BeyondAnyAmount, Discount, Discounts};
use super::fields::{DecimalNumber, MAX_MINOR, Reference};
use super::lenient::Lenient;
use super::prices::{AutomaticTax, Item, Price, Recurring, TaxRate, TaxRates};
use crate::entity::recurring::{
    AppliedDiscount, Charges, Interval, Known, KnownDiscounts, KnownTaxes, Line, MrrUnknown,
    Percent, PricedItem,
};

/// The parts of a subscription that its charges depend on.
pub(super) struct Parts<'a> {
    pub(super) items: &'a [Lenient<Item>],
    /// Whether the event has only the first page of `items`.
    pub(super) has_more: bool,
    pub(super) currency: Option<&'a str>,
    pub(super) discounts: &'a Discounts,
    /// Of the coupons of `discounts`.
    pub(super) applies_to: AppliesToIs,
    /// The single discount of old API versions, which repeats one of `discounts`.
    pub(super) legacy: &'a Lenient<Discount>,
    pub(super) tax_rates: &'a TaxRates,
    pub(super) automatic_tax: &'a Lenient<AutomaticTax>,
    pub(super) latest_invoice: Option<&'a str>,
}

/// A field with which the subscription cannot be applied.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooMuch {
    pub(super) field: &'static str,
    pub(super) bound_minor: i64,
}

/// The largest monthly sum, in minor units. Stripe charges at most 12 digits at once, so this is more than
/// any subscription has, and the sum of 900,000 such subscriptions still fits into 64 bits.
/// Source: <https://docs.stripe.com/currencies#minimum-and-maximum-charge-amounts>.
const MAX_MONTHLY_MINOR: i64 = 10_000_000_000_000;

impl Parts<'_> {
    /// What is charged. `Err`: an amount is larger than any.
    pub(super) fn charges(&self) -> Result<Charges, TooMuch> {
        let mut charges = Charges {
            lines: Vec::new(),
            discounts: self.applied()?,
            missing: self.has_more.then_some(MrrUnknown::Items),
            ..Charges::default()
        };
        let mut others = BTreeSet::new();
        for item in self.items {
            match self.line(item) {
                Ok(Some(line)) => charges.lines.push(line),
                Ok(None) => {
                    let price = item.as_known().and_then(Item::price);
                    let product = price.and_then(|price| price.product.as_known());
                    others.insert(product.map(|product| product.id().to_owned()));
                }
                Err(NoLine::Missing(reason)) => charges.missing = charges.missing.or(Some(reason)),
                Err(NoLine::TooMuch(field)) => return Err(field),
            }
        }
        let of_lines: BTreeSet<_> = charges.lines.iter().map(|line| &line.product).collect();
        charges.has_other_products = others.iter().any(|product| !of_lines.contains(product));
        if charges.lines.iter().any(|line| line.has_unknown_tax) {
            charges.latest_invoice = self.latest_invoice.map(str::to_owned);
        }
        let before_discounts = Charges {
            lines: charges.lines.iter().map(only_amount).collect(),
            ..Charges::default()
        };
        let sum = before_discounts.monthly(&Known {
            discounts: &KnownDiscounts::default(),
            taxes: &KnownTaxes::default(),
            currency: None,
        });
        let bound = -MAX_MONTHLY_MINOR..=MAX_MONTHLY_MINOR;
        if sum.high_minor.is_some_and(|minor| bound.contains(&minor)) {
            Ok(charges)
        } else {
            Err(TOO_MUCH)
        }
    }

    /// What the event shows of the discounts that it names.
    pub(super) fn known_discounts(&self) -> Result<KnownDiscounts, TooMuch> {
        let mut known = KnownDiscounts::default();
        let mut add = |discounts: &[Lenient<Discount>], applies_to| {
            for discount in discounts.iter().filter_map(Lenient::as_known) {
                if let Some((id, discount)) = discount.known(applies_to)? {
                    known.add(id, &discount);
                }
            }
            Ok::<_, TooMuch>(())
        };
        for item in self.items.iter().filter_map(Lenient::as_known) {
            add(of_list(&item.discounts), AppliesToIs::LeftOut)?;
        }
        add(of_list(self.discounts), self.applies_to)?;
        add(std::slice::from_ref(self.legacy), AppliesToIs::LeftOut)?;
        Ok(known)
    }

    fn applied(&self) -> Result<Vec<AppliedDiscount>, TooMuch> {
        let list = applied(self.discounts)?;
        match self.legacy {
            Lenient::Known(legacy) if list.is_empty() => Ok(vec![legacy.applied()?]),
            Lenient::Odd if list.is_empty() => Ok(vec![AppliedDiscount::cannot_be_priced()]),
            _ => Ok(list),
        }
    }

    /// `None`: it is not licensed and recurring.
    fn line(&self, item: &Lenient<Item>) -> Result<Option<Line>, NoLine> {
        let item = item.as_known().ok_or(MrrUnknown::Price)?;
        let price = item.price().ok_or(MrrUnknown::Price)?;
        let Some(interval) = interval(price)? else {
            return Ok(None);
        };
        // Stripe omits the quantity only for metered items.
        let quantity = *item.quantity.as_known().ok_or(MrrUnknown::Quantity)?;
        let amounts = price.amounts(self.currency).ok_or(MrrUnknown::Currency)?;
        let amount = amount(price, amounts, quantity)?;
        let tax_percent = self.tax(item, price);
        let product = price.product.as_known().map(Reference::id);
        Ok(Some(Line {
            amount,
            interval,
            product: product.map(str::to_owned),
            discounts: applied(&item.discounts)?,
            has_unknown_tax: tax_percent.is_none(),
            priced_item: priced_item(item, price).filter(|_| tax_percent.is_none()),
            tax_percent: tax_percent.filter(|percent| *percent != Percent::ZERO),
        }))
    }

    /// The inclusive tax of an item, in percent of its amount without it; `None`: not known. Stripe calculates
    /// automatic tax when it makes an invoice; what a price does not say of it is the account's setting.
    /// Source: <https://docs.stripe.com/tax/products-prices-tax-codes-tax-behavior>,
    /// <https://docs.stripe.com/billing/taxes/tax-rates>.
    fn tax(&self, item: &Item, price: &Price) -> Option<Percent> {
        let is_exclusive = price
            .tax_behavior
            .as_known()
            .is_some_and(|b| b == "exclusive");
        match self.automatic_tax {
            Lenient::Known(AutomaticTax { enabled: true }) if is_exclusive => {
                return Some(Percent::ZERO);
            }
            Lenient::Known(AutomaticTax { enabled: true }) | Lenient::Odd => return None,
            Lenient::Known(AutomaticTax { enabled: false }) | Lenient::Absent => {}
        }
        let rates = match &item.tax_rates {
            Lenient::Absent => self.tax_rates,
            Lenient::Known(own) if own.is_empty() => self.tax_rates,
            own => own,
        };
        match rates {
            Lenient::Absent => Some(Percent::ZERO),
            Lenient::Odd => None,
            Lenient::Known(rates) => {
                let inclusive = |rate: &Lenient<TaxRate>| {
                    let TaxRate {
                        inclusive,
                        percentage: DecimalNumber(percent),
                    } = rate.as_known()?;
                    let is_rate = (Decimal::ZERO..=Decimal::ONE_HUNDRED).contains(percent);
                    is_rate.then_some(if *inclusive { *percent } else { Decimal::ZERO })
                };
                let sum: Option<Decimal> = rates.iter().map(inclusive).sum();
                sum.and_then(Percent::of)
            }
        }
    }
}

fn of_list(discounts: &Discounts) -> &[Lenient<Discount>] {
    let known = discounts.as_known().map(Vec::as_slice);
    known.unwrap_or_default()
}

/// The sum of items is too large, or an intermediate one overflowed.
const TOO_MUCH: TooMuch = TooMuch {
    field: "items",
    bound_minor: MAX_MONTHLY_MINOR,
};

/// Why an item has no line.
enum NoLine {
    Missing(MrrUnknown),
    TooMuch(TooMuch),
}

impl From<MrrUnknown> for NoLine {
    fn from(reason: MrrUnknown) -> Self {
        Self::Missing(reason)
    }
}

impl From<TooMuch> for NoLine {
    fn from(field: TooMuch) -> Self {
        Self::TooMuch(field)
    }
}

impl From<Beyond> for NoLine {
    fn from(beyond: Beyond) -> Self {
        match beyond {
            Beyond::NotKnown(reason) => Self::Missing(reason),
            Beyond::Amount(field) => Self::TooMuch(TooMuch {
                field,
                bound_minor: MAX_MINOR,
            }),
            Beyond::Sum => Self::TooMuch(TOO_MUCH),
        }
    }
}

impl From<BeyondAnyAmount> for TooMuch {
    fn from(_: BeyondAnyAmount) -> Self {
        Self {
            field: "discounts.coupon.amount_off",
            bound_minor: MAX_MINOR,
        }
    }
}

impl From<BeyondAnyAmount> for NoLine {
    fn from(beyond: BeyondAnyAmount) -> Self {
        Self::TooMuch(beyond.into())
    }
}

fn applied(discounts: &Discounts) -> Result<Vec<AppliedDiscount>, BeyondAnyAmount> {
    let one = |discount: &Lenient<Discount>| match discount.as_known() {
        Some(discount) => discount.applied(),
        None => Ok(AppliedDiscount::cannot_be_priced()),
    };
    match discounts {
        Lenient::Absent => Ok(Vec::new()),
        Lenient::Known(discounts) => discounts.iter().map(one).collect(),
        Lenient::Odd => Ok(vec![AppliedDiscount::cannot_be_priced()]),
    }
}

/// Without discounts and taxes.
fn only_amount(line: &Line) -> Line {
    Line {
        discounts: Vec::new(),
        has_unknown_tax: false,
        tax_percent: None,
        ..line.clone()
    }
}

/// How invoices name it.
fn priced_item(item: &Item, price: &Price) -> Option<PricedItem> {
    Some(PricedItem {
        item: item.id.as_known()?.clone(),
        price: price.id.as_known()?.clone(),
    })
}

/// How often a price is charged; `None` if it is not licensed and recurring.
fn interval(price: &Price) -> Result<Option<Interval>, MrrUnknown> {
    let Recurring {
        interval,
        interval_count,
        usage_type,
    } = match &price.recurring {
        Lenient::Known(recurring) => recurring,
        Lenient::Absent => return Ok(None),
        Lenient::Odd => return Err(MrrUnknown::Price),
    };
    if usage_type.as_deref() == Some("metered") {
        return Ok(None);
    }
    let (months, parts) = match interval.as_str() {
        "month" => (1, 1),
        "year" => (12, 1),
        // A week is 7, a day 1 of the 365 ÷ 12 days of a month.
        "week" => (7 * 12, 365),
        "day" => (12, 365),
        _ => return Err(MrrUnknown::Price),
    };
    let months = interval_count.max(&1).checked_mul(months);
    let months = months.ok_or(MrrUnknown::Price)?;
    Ok(Some(Interval { months, parts }))
}
