//! What a subscription is charged each month: exactly, or between two bounds.
//!
//! An event may name a discount only by its id, and have only the first page of a subscription's items.
//! What it does not say makes a bound and has a reason; it is never guessed. The terms of a discount do not
//! change, so those that any event has shown count for all states of the subscription. Only a coupon's amounts
//! in other currencies are no bound while no event has shown them: they are not taken off.

mod discounts;
mod taxes;
mod terms;

use std::collections::BTreeSet;

use rust_decimal::prelude::ToPrimitive;
use rust_decimal::{Decimal, RoundingStrategy};
use serde::{Deserialize, Serialize};

pub use self::discounts::{KnownDiscount, KnownDiscounts};
pub use self::taxes::{INVOICES_LOOKED_UP, InvoiceTaxes, InvoicedTax, ItemTax, KnownTaxes};
pub use self::terms::{AmountOff, Percent, Terms};

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

/// Why an amount is not known exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MrrUnknown {
    /// The list of its items, or the rest of it: the event has only the first page.
    Items,
    /// An item, or its price.
    Price,
    /// The unit amount of a price.
    Amount,
    /// How many of an item.
    Quantity,
    /// A coupon that cannot be priced: for example one that a script computes.
    Coupon,
    /// Whether a cancellation is scheduled.
    Cancellation,
    /// The currency, or the amount of a price in it.
    Currency,
    /// The terms of a discount that is only named by its id.
    Discount,
    /// The tiers of a price: events do not have them.
    Tiers,
    /// How much of a price is tax.
    Tax,
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

/// An amount each month, in minor units: not less than `low_minor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Monthly {
    /// The lower bound.
    pub low_minor: i64,
    /// The upper bound; `None`: there is none.
    pub high_minor: Option<i64>,
    /// Why the two are not the same.
    pub reason: Option<MrrUnknown>,
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
            missing: None,
            latest_invoice: None,
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
        let tax = |is_reason: &dyn Fn(&Line) -> bool| {
            let mut lines = self.lines.iter();
            let has_any = lines.any(|line| line.has_unknown_tax && is_reason(line));
            has_any.then_some(MrrUnknown::Tax)
        };
        let discount = |it: &AppliedDiscount| it.unknown(known.discounts);
        let discount = self.applied().find_map(discount);
        discount.or_else(|| tax(&|_| true))
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

impl Monthly {
    /// An amount that is known.
    pub const fn exactly(minor: i64) -> Self {
        Self {
            low_minor: minor,
            high_minor: Some(minor),
            reason: None,
        }
    }

    /// Nothing is known of the amount.
    pub const fn unknown(reason: MrrUnknown) -> Self {
        Self {
            low_minor: 0,
            high_minor: None,
            reason: Some(reason),
        }
    }

    /// At most this, perhaps nothing.
    pub const fn at_most(minor: i64, reason: MrrUnknown) -> Self {
        Self {
            low_minor: 0,
            high_minor: Some(minor),
            reason: Some(reason),
        }
    }

    /// The amount, if it is known exactly.
    pub fn known(self) -> Option<i64> {
        let is_exact = self.high_minor == Some(self.low_minor) && self.reason.is_none();
        is_exact.then_some(self.low_minor)
    }

    /// How much more than the lower bound it may be, if that is bounded, and 1 if it is not.
    pub fn beyond_low(self) -> (i64, i64) {
        match self.high_minor {
            Some(high_minor) => (high_minor - self.low_minor, 0),
            None => (0, 1),
        }
    }

    /// Whether it may be more than nothing.
    pub fn may_be_positive(self) -> bool {
        self.high_minor.is_none_or(|minor| minor > 0)
    }
}

impl Interval {
    fn monthly(self, amount: Decimal) -> Option<Decimal> {
        amount
            .checked_mul(self.parts.into())?
            .checked_div(self.months.into())
    }

    fn is_shorter_than(self, other: Self) -> bool {
        let (months, others) = (u64::from(self.months), u64::from(other.months));
        months * u64::from(other.parts) < others * u64::from(self.parts)
    }

    fn shortest(intervals: impl Iterator<Item = Self>) -> Option<Self> {
        intervals.reduce(|shortest, next| {
            if next.is_shorter_than(shortest) {
                next
            } else {
                shortest
            }
        })
    }
}

impl MrrUnknown {
    /// All.
    pub const ALL: [Self; 10] = [
        Self::Items,
        Self::Price,
        Self::Amount,
        Self::Quantity,
        Self::Coupon,
        Self::Cancellation,
        Self::Currency,
        Self::Discount,
        Self::Tiers,
        Self::Tax,
    ];

    /// What is not known.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Items => "events have only the first page of its items",
            Self::Price => "a price cannot be read",
            Self::Amount => "the amount of a price cannot be read",
            Self::Quantity => "a quantity cannot be read",
            Self::Coupon => "a coupon cannot be priced",
            Self::Cancellation => "whether its cancellation is scheduled cannot be read",
            Self::Currency => "its currency, or what a price costs in it, is not known",
            Self::Discount => "a discount is named only by its id",
            Self::Tiers => "events do not have the tiers of a price",
            Self::Tax => "how much of a price is tax is not known",
        }
    }

    /// The word that counters, metrics and JSON use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Items => "items",
            Self::Price => "price",
            Self::Amount => "amount",
            Self::Quantity => "quantity",
            Self::Coupon => "coupon",
            Self::Cancellation => "cancellation",
            Self::Currency => "currency",
            Self::Discount => "discount",
            Self::Tiers => "tiers",
            Self::Tax => "tax",
        }
    }
}

/// What an unknown discount or an unknown tax takes off: the two ends of what is possible.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unknown {
    TakesNothing,
    TakesAll,
}

#[derive(Clone, Copy)]
struct Scenario<'a> {
    known: Known<'a>,
    unknown: Unknown,
}

/// A line's amount each month, so far.
struct Rest<'a> {
    line: &'a Line,
    monthly: Decimal,
}

impl<'a> Rest<'a> {
    fn before_discounts(line: &'a Line) -> Self {
        let monthly = line.interval.monthly(line.amount).unwrap_or(Decimal::MAX);
        Self { line, monthly }
    }
}

impl Scenario<'_> {
    fn sum(self, charges: &Charges) -> i64 {
        let of_line = |line| {
            let mut rest = [Rest::before_discounts(line)];
            for discount in &line.discounts {
                self.take_off(discount, charges, &mut rest);
            }
            let [rest] = rest;
            rest
        };
        let mut rest: Vec<Rest<'_>> = charges.lines.iter().map(of_line).collect();
        for discount in &charges.discounts {
            self.take_off(discount, charges, &mut rest);
        }
        let sum = total(rest.iter().map(|rest| self.without_tax(rest)));
        // A division may have left a digit at the far end.
        let sum = sum.round_dp(DECIMALS);
        let whole = sum.round_dp_with_strategy(0, RoundingStrategy::MidpointNearestEven);
        whole.to_i64().unwrap_or(i64::MAX)
    }

    fn without_tax(self, rest: &Rest<'_>) -> Decimal {
        let Rest { line, monthly } = *rest;
        if let Some(percent) = line.tax_percent {
            return percent.without(monthly).unwrap_or(Decimal::MAX);
        }
        if !line.has_unknown_tax {
            return monthly;
        }
        let invoiced = line.invoiced_tax(self.known.taxes);
        let before = Rest::before_discounts(line).monthly;
        let left = || line.amount.checked_mul(monthly)?.checked_div(before);
        let bounds = invoiced.and_then(|tax| {
            let left = left().unwrap_or(line.amount);
            tax.without_tax([line.amount, left], monthly)
        });
        let [least, most] = bounds.unwrap_or([Decimal::ZERO, monthly]);
        match self.unknown {
            Unknown::TakesAll => least,
            Unknown::TakesNothing => most,
        }
    }

    fn take_off(self, discount: &AppliedDiscount, charges: &Charges, rest: &mut [Rest<'_>]) {
        let terms = discount
            .terms(self.known.discounts)
            .filter(|terms| terms.is_priced());
        let Some(terms) = terms else {
            if self.unknown == Unknown::TakesAll {
                rest.iter_mut()
                    .for_each(|rest| rest.monthly = Decimal::ZERO);
            }
            return;
        };
        if !terms.is_forever {
            return;
        }
        let applies = |rest: &Rest<'_>| terms.applies_to(rest.line.product.as_deref());
        let factor = match (&terms.percent_off, &terms.amount_off) {
            (Some(percent), _) => percent.rest(),
            (None, Some(off)) => {
                // An amount in another currency is not taken off.
                let Some(off_minor) = off.in_currency(self.known.currency) else {
                    return;
                };
                let concerned = || rest.iter().filter(|rest| applies(rest));
                let sum = total(concerned().map(|rest| rest.monthly));
                let interval = Interval::shortest(concerned().map(|rest| rest.line.interval));
                self.rest_of(sum, off_minor, interval, charges)
            }
            (None, None) => return,
        };
        for rest in rest.iter_mut().filter(|rest| applies(rest)) {
            rest.monthly = rest.monthly.checked_mul(factor).unwrap_or_default();
        }
    }

    /// Which part of `sum` is left after a fixed amount.
    fn rest_of(
        self,
        sum: Decimal,
        off_minor: i64,
        interval: Option<Interval>,
        charges: &Charges,
    ) -> Decimal {
        let Some(interval) = interval.filter(|_| sum > Decimal::ZERO) else {
            return Decimal::ONE;
        };
        // What is missing may be charged more often, and take the amount off more often.
        if charges.missing.is_some() && self.unknown == Unknown::TakesAll {
            return Decimal::ZERO;
        }
        let off = interval.monthly(off_minor.into()).unwrap_or_default();
        let rest = (sum - off).max(Decimal::ZERO);
        rest.checked_div(sum).unwrap_or_default()
    }
}

/// One that ends at the largest decimal: it is beyond every bound.
fn total(amounts: impl Iterator<Item = Decimal>) -> Decimal {
    amounts.fold(Decimal::ZERO, |sum, amount| {
        sum.checked_add(amount).unwrap_or(Decimal::MAX)
    })
}

/// More than any price has: Stripe's have 12.
const DECIMALS: u32 = 16;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const MONTH: Interval = Interval {
        months: 1,
        parts: 1,
    };
    const YEAR: Interval = Interval {
        months: 12,
        parts: 1,
    };

    fn line(amount: i64, interval: Interval, product: &str) -> Line {
        Line {
            amount: amount.into(),
            interval,
            product: Some(product.to_owned()),
            discounts: Vec::new(),
            has_unknown_tax: false,
            priced_item: None,
            tax_percent: None,
        }
    }

    fn with(terms: Terms) -> AppliedDiscount {
        AppliedDiscount {
            id: None,
            terms: Some(terms),
        }
    }

    fn by_id(id: &str) -> AppliedDiscount {
        AppliedDiscount {
            id: Some(id.to_owned()),
            terms: None,
        }
    }

    fn off(minor: i64) -> Terms {
        Terms {
            is_forever: true,
            amount_off: Some(AmountOff {
                minor,
                currency: Some("usd".to_owned()),
                currency_options: BTreeMap::new(),
            }),
            ..Terms::default()
        }
    }

    fn percent(percent: i64) -> Terms {
        Terms {
            is_forever: true,
            percent_off: Percent::of(percent.into()),
            ..Terms::default()
        }
    }

    fn only(products: &[&str], terms: Terms) -> Terms {
        Terms {
            products: Some(products.iter().map(|p| (*p).to_owned()).collect()),
            ..terms
        }
    }

    fn monthly(charges: &Charges, discounts: &KnownDiscounts, currency: Option<&str>) -> Monthly {
        charges.monthly(&Known {
            discounts,
            taxes: &KnownTaxes::default(),
            currency,
        })
    }

    fn bounds(charges: &Charges) -> (i64, Option<i64>, Option<MrrUnknown>) {
        let monthly = monthly(charges, &KnownDiscounts::default(), Some("usd"));
        (monthly.low_minor, monthly.high_minor, monthly.reason)
    }

    fn exactly(minor: i64) -> (i64, Option<i64>, Option<MrrUnknown>) {
        (minor, Some(minor), None)
    }

    #[test]
    fn a_fixed_amount_is_taken_off_as_often_as_the_shortest_interval() {
        let lines = [line(60_000, YEAR, "a"), line(2000, MONTH, "b")];
        let table = [
            (off(1000), 6000),
            (only(&["a"], off(1200)), 6900),
            (only(&["b"], off(3000)), 5000),
            (only(&["c"], off(1000)), 7000),
            (percent(50), 3500),
            (only(&["a"], percent(50)), 4500),
            (Terms::default(), 7000),
        ];
        for (terms, expected) in table {
            for lines in [lines.to_vec(), lines.iter().rev().cloned().collect()] {
                let charges = Charges {
                    lines,
                    discounts: vec![with(terms.clone())],
                    missing: None,
                    latest_invoice: None,
                };
                assert_eq!(bounds(&charges), exactly(expected), "{terms:?}");
            }
        }
    }

    #[test]
    fn item_discounts_come_before_those_of_the_subscription() {
        let mut charges = Charges {
            lines: vec![line(10_000, MONTH, "a"), line(10_000, MONTH, "b")],
            discounts: vec![with(percent(50)), with(off(1000))],
            missing: None,
            latest_invoice: None,
        };
        charges.lines[0].discounts = vec![with(off(2000))];
        assert_eq!(bounds(&charges), exactly(8000));
    }

    #[test]
    fn what_is_unknown_makes_a_bound() {
        use MrrUnknown::{Coupon, Discount, Items, Tax};
        let charges = |discounts: Vec<AppliedDiscount>| Charges {
            lines: vec![line(10_000, MONTH, "a"), line(5000, MONTH, "b")],
            discounts,
            missing: None,
            latest_invoice: None,
        };
        let plain = charges(Vec::new());
        assert_eq!(bounds(&plain), exactly(15_000));
        let of_unknown = charges(vec![by_id("di_1")]);
        assert_eq!(bounds(&of_unknown), (0, Some(15_000), Some(Discount)));
        let mut of_item = plain.clone();
        of_item.lines[0].discounts = vec![by_id("di_1")];
        assert_eq!(bounds(&of_item), (5000, Some(15_000), Some(Discount)));
        let of_script = charges(vec![with(Terms {
            is_forever: true,
            ..Terms::default()
        })]);
        assert_eq!(bounds(&of_script), (0, Some(15_000), Some(Coupon)));
        let mut taxed = plain;
        taxed.lines[1].has_unknown_tax = true;
        assert_eq!(bounds(&taxed), (10_000, Some(15_000), Some(Tax)));
        let of_page = |discounts| Charges {
            missing: Some(Items),
            ..charges(discounts)
        };
        let at_least = |minor| (minor, None, Some(Items));
        assert_eq!(bounds(&of_page(Vec::new())), at_least(15_000));
        assert_eq!(bounds(&of_page(vec![with(percent(10))])), at_least(13_500));
        assert_eq!(bounds(&of_page(vec![with(off(10))])), at_least(0));
    }

    #[test]
    fn an_amount_in_another_currency_is_not_taken_off() {
        let charges = Charges {
            lines: vec![line(10_000, MONTH, "a")],
            discounts: vec![with(off(5000))],
            missing: None,
            latest_invoice: None,
        };
        for currency in [Some("jpy"), None] {
            let monthly = monthly(&charges, &KnownDiscounts::default(), currency);
            assert_eq!(monthly, Monthly::exactly(10_000));
        }
    }

    #[test]
    fn a_known_discount_counts_by_its_id() {
        let charges = Charges {
            lines: vec![line(10_000, MONTH, "a")],
            discounts: vec![by_id("di_1")],
            missing: None,
            latest_invoice: None,
        };
        let mut known = KnownDiscounts::default();
        let half = KnownDiscount {
            coupon: None,
            terms: Some(percent(50)),
        };
        known.add("di_1", &half);
        assert_eq!(monthly(&charges, &known, None), Monthly::exactly(5000));
    }

    #[test]
    fn what_was_stored_without_the_newest_fields_is_read() {
        let nothing: [u8; 0] = [];
        let stored_line = ("11900", (1, 1), Some("a"), nothing, true);
        let stored = rmp_serde::to_vec(&([stored_line], nothing, None::<MrrUnknown>));
        let found: Charges = rmp_serde::from_slice(&stored.expect("encodes")).expect("decodes");
        let mut taxed = line(11_900, MONTH, "a");
        taxed.has_unknown_tax = true;
        let expected = Charges {
            lines: vec![taxed],
            ..Charges::default()
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn thirds_are_rounded_as_if_they_were_exact() {
        let year = |amount| Charges {
            lines: vec![line(amount, YEAR, "a")],
            discounts: vec![with(off(10))],
            missing: None,
            latest_invoice: None,
        };
        // 100 ÷ 12 − 10 ÷ 12 = 7.5, and 112 ÷ 12 − 10 ÷ 12 = 8.5: half to even.
        assert_eq!(bounds(&year(100)), exactly(8));
        assert_eq!(bounds(&year(112)), exactly(8));
    }
}
