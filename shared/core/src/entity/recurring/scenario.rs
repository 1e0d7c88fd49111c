//! What is left of charges if what is unknown takes off nothing, or everything.

use rust_decimal::prelude::ToPrimitive;
use rust_decimal::{Decimal, RoundingStrategy};

use super::{AppliedDiscount, Charges, Interval, Known, Line};

/// What an unknown discount or an unknown tax takes off: the two ends of what is possible.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unknown {
    TakesNothing,
    TakesAll,
}

/// One of the two ends.
#[derive(Clone, Copy)]
pub(super) struct Scenario<'a> {
    pub(super) known: Known<'a>,
    pub(super) unknown: Unknown,
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
    /// Each month, rounded once, half to even.
    pub(super) fn sum(self, charges: &Charges) -> i64 {
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
