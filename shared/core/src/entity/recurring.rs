//! What a subscription is charged each month: exactly, or between two bounds.
//!
//! An event may name a discount only by its id, and have only the first page of a subscription's items.
//! What it does not say makes a bound and has a reason; it is never guessed. The terms of a discount do not
//! change, so those that any event has shown count for all states of the subscription. Only a coupon's amounts
//! in other currencies are no bound while no event has shown them: they are not taken off.

mod discounts;
mod monthly;
mod scenario;
mod taxes;
mod terms;

use std::cmp::Ordering;
use std::collections::BTreeSet;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

pub use self::discounts::{KnownDiscount, KnownDiscounts};
pub use self::monthly::{Monthly, MrrUnknown};
use self::scenario::{Scenario, Unknown};
pub use self::taxes::{INVOICES_LOOKED_UP, InvoiceTaxes, InvoicedTax, ItemTax, KnownTaxes};
pub use self::terms::{AmountOff, Percent, Products, Terms};

/// What a subscription is charged, as one event shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Charges {
    /// Its licensed recurring items, as far as their amounts are known.
    pub lines: Vec<Line>,
    /// The discounts of the subscription, in order.
    pub discounts: Vec<AppliedDiscount>,
    /// Why there are more items than `lines`.
    pub missing: Option<MrrUnknown>,
    /// The newest invoice, `in_…`, if only an invoice says how much of an amount is tax.
    #[serde(default)]
    pub latest_invoice: Option<String>,
    /// Whether it has an item of another product than `lines`: a metered one.
    #[serde(default)]
    pub has_other_products: bool,
}

/// An item of a subscription.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Line {
    /// In minor units each interval, before discounts. Earlier versions left out tax at a known rate.
    #[serde(with = "terms::decimal")]
    pub amount: Decimal,
    /// How often that is charged.
    pub interval: Interval,
    /// `prod_…`
    pub product: Option<String>,
    /// The discounts of this item, in order.
    pub discounts: Vec<AppliedDiscount>,
    /// Whether the amount contains tax at an unknown rate.
    pub has_unknown_tax: bool,
    /// Of which item at which price invoices say the tax, if the rate is unknown.
    #[serde(default)]
    pub priced_item: Option<PricedItem>,
    /// The inclusive tax, in percent of the amount without it.
    #[serde(default)]
    pub tax_percent: Option<Percent>,
}

/// What a line of an invoice is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PricedItem {
    /// `si_…`
    pub item: String,
    /// `price_…`
    pub price: String,
}

/// `months` ÷ `parts` months; separate so that a twelfth of a yearly price stays exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Interval {
    /// The numerator.
    pub months: u32,
    /// The denominator: 365 if the interval is counted in days.
    pub parts: u32,
}

/// A discount that an event names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AppliedDiscount {
    /// `di_…`
    pub id: Option<String>,
    /// Its terms, if the event has them without an id.
    pub terms: Option<Terms>,
}

/// What other events showed of a subscription, which its charges need.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    /// Its discounts.
    pub discounts: &'a KnownDiscounts,
    /// The tax of its items.
    pub taxes: &'a KnownTaxes,
    /// Its currency, lower case.
    pub currency: Option<&'a str>,
}

impl Charges {
    /// The sum of its lines each month, less its discounts, then less inclusive tax, rounded once, half to even.
    /// Item discounts come first. A fixed amount is taken off once per invoice, and invoices come as often as the
    /// shortest interval of what it applies to. Tax is calculated of what discounts leave.
    /// Sources: <https://docs.stripe.com/billing/subscriptions/coupons>,
    /// <https://docs.stripe.com/changelog/acacia/2024-10-28/billing-credits-invoice>.
    pub fn monthly(&self, known: &Known<'_>) -> Monthly {
        let known = *known;
        let bound = |unknown| Scenario { known, unknown };
        let high = bound(Unknown::TakesNothing).sum(self);
        let low = bound(Unknown::TakesAll).sum(self);
        let has_end = self.missing.is_none();
        let reason = self.missing.or_else(|| self.unknown(known));
        Monthly {
            low_minor: low,
            high_minor: has_end.then_some(high),
            reason: reason.filter(|_| !has_end || low != high),
        }
    }

    /// So much each month, less a discount of which nothing is known.
    pub(super) fn with_unknown_discount(minor: i64) -> Self {
        let unknown = AppliedDiscount {
            id: None,
            terms: None,
        };
        Self {
            lines: vec![Line {
                amount: minor.into(),
                interval: Interval {
                    months: 1,
                    parts: 1,
                },
                product: None,
                discounts: Vec::new(),
                has_unknown_tax: false,
                priced_item: None,
                tax_percent: None,
            }],
            discounts: vec![unknown],
            ..Self::default()
        }
    }

    /// Every discount that it names.
    pub fn applied(&self) -> impl Iterator<Item = &AppliedDiscount> {
        let of_lines = self.lines.iter().flat_map(|line| &line.discounts);
        of_lines.chain(&self.discounts)
    }

    /// The coupons of the discounts whose terms are not known, as far as these are.
    pub fn coupons_needed<'a>(&'a self, known: &'a KnownDiscounts) -> BTreeSet<&'a str> {
        let unknown = self.applied().filter(|it| it.terms(known).is_none());
        unknown
            .filter_map(|it| known.coupon(it.id.as_deref()?))
            .collect()
    }

    /// Why the bounds differ, if they do. What a discount lacks may be in the store.
    fn unknown(&self, known: Known<'_>) -> Option<MrrUnknown> {
        let discount = self.applied().find_map(|it| it.unknown(known.discounts));
        let products = || {
            self.has_unknown_products(known)
                .then_some(MrrUnknown::Products)
        };
        let tax = || self.has_unknown_tax().then_some(MrrUnknown::Tax);
        discount.or_else(products).or_else(tax)
    }

    /// Whether a discount of the subscription may apply to some of its products only.
    fn has_unknown_products(&self, known: Known<'_>) -> bool {
        let is_unknown = |it: &AppliedDiscount| {
            let terms = it.terms(known.discounts);
            terms.is_some_and(|terms| terms.is_forever && !terms.products.are_shown())
        };
        self.has_several_products() && self.discounts.iter().any(is_unknown)
    }

    fn has_several_products(&self) -> bool {
        let products: BTreeSet<_> = self.lines.iter().map(|line| &line.product).collect();
        products.len() > 1 || self.has_other_products
    }

    /// The items at their prices of which only an invoice says the tax, and none of `taxes` does.
    pub fn items_without_tax(&self, taxes: &KnownTaxes) -> Vec<&PricedItem> {
        let unknown = self.lines.iter().filter(|line| line.has_unknown_tax);
        let unsaid = unknown.filter(|line| line.invoiced_tax(taxes).is_none());
        unsaid
            .filter_map(|line| line.priced_item.as_ref())
            .collect()
    }

    /// Whether an invoice has to say how much of it is tax.
    pub fn has_unknown_tax(&self) -> bool {
        self.lines.iter().any(|line| line.has_unknown_tax)
    }
}

impl Line {
    /// Whether it is of one of these items, at the same price.
    pub fn is_one_of(&self, items: &[&PricedItem]) -> bool {
        self.priced_item
            .as_ref()
            .is_some_and(|item| items.contains(&item))
    }

    /// What an invoice shows of its tax.
    fn invoiced_tax<'a>(&self, taxes: &'a KnownTaxes) -> Option<&'a InvoicedTax> {
        let PricedItem { item, price } = self.priced_item.as_ref()?;
        taxes.invoiced(item, price)
    }
}

impl AppliedDiscount {
    /// One that cannot be read.
    pub const fn cannot_be_priced() -> Self {
        Self {
            id: None,
            terms: Some(Terms::CANNOT_BE_PRICED),
        }
    }

    fn terms<'a>(&'a self, known: &'a KnownDiscounts) -> Option<&'a Terms> {
        let by_id = || known.terms(self.id.as_deref()?);
        self.terms.as_ref().or_else(by_id)
    }

    fn unknown(&self, known: &KnownDiscounts) -> Option<MrrUnknown> {
        match self.terms(known) {
            None => Some(MrrUnknown::Discount),
            Some(terms) => (!terms.is_priced()).then_some(MrrUnknown::Coupon),
        }
    }
}

impl Interval {
    fn monthly(self, amount: Decimal) -> Option<Decimal> {
        amount
            .checked_mul(self.parts.into())?
            .checked_div(self.months.into())
    }

    fn length_order(self, other: Self) -> Ordering {
        let (months, others) = (u64::from(self.months), u64::from(other.months));
        months
            .saturating_mul(other.parts.into())
            .cmp(&others.saturating_mul(self.parts.into()))
    }
}

#[cfg(test)]
mod tests;
