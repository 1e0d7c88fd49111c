//! What is left of charges if what is unknown takes off nothing, or everything.

use rust_decimal::prelude::ToPrimitive;
use rust_decimal::{Decimal, RoundingStrategy};

use super::{AppliedDiscount, Charges, Known, Line};

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

    /// Keeps this part of it.
    fn keep(&mut self, part: Decimal) {
        self.monthly = self.monthly.checked_mul(part).unwrap_or_default();
    }

    /// How many invoices have it each month.
    fn invoices_a_month(&self) -> Decimal {
        let once = self.line.interval.monthly(Decimal::ONE);
        once.unwrap_or(Decimal::ONE)
    }

    fn on_each_invoice(&self) -> Decimal {
        let amount = self.monthly.checked_div(self.invoices_a_month());
        amount.unwrap_or(Decimal::MAX)
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
        let may_apply_to_none = !terms.products.are_shown() && are_several_products(rest);
        if may_apply_to_none && self.unknown == Unknown::TakesNothing {
            return;
        }
        let mut concerned: Vec<_> = rest
            .iter_mut()
            .filter(|rest| terms.products.contain(rest.line.product.as_deref()))
            .collect();
        match (&terms.percent_off, &terms.amount_off) {
            (Some(percent), _) => concerned
                .iter_mut()
                .for_each(|rest| rest.keep(percent.rest())),
            // An amount in another currency is not taken off.
            (None, Some(off)) => {
                if let Some(off_minor) = off.in_currency(self.known.currency) {
                    self.take_off_invoices(off_minor, charges, &mut concerned);
                }
            }
            (None, None) => {}
        }
    }

    /// Takes a fixed amount off each invoice, at most what is on it. Invoices come as often as the shortest interval;
    /// some of them have what is charged at a longer one, too.
    fn take_off_invoices(self, off_minor: i64, charges: &Charges, rest: &mut [&mut Rest<'_>]) {
        // What is missing may be charged more often, and take the amount off more often.
        if charges.missing.is_some() && self.unknown == Unknown::TakesAll {
            rest.iter_mut().for_each(|rest| rest.keep(Decimal::ZERO));
            return;
        }
        let mut rates: Vec<Decimal> = rest.iter().map(|rest| rest.invoices_a_month()).collect();
        rates.sort_by(|a, b| b.cmp(a));
        rates.dedup();
        let off = Decimal::from(off_minor);
        let mut kept = vec![Decimal::ONE; rest.len()];
        for (place, rate) in rates.iter().enumerate() {
            let is_on = |rest: &Rest<'_>| rest.invoices_a_month() >= *rate;
            let on_invoice = rest.iter().filter(|rest| is_on(rest));
            let sum = total(on_invoice.map(|rest| rest.on_each_invoice()));
            let longer = rates.get(place + 1).copied().unwrap_or_default();
            if sum <= Decimal::ZERO {
                continue;
            }
            let taken = off.min(sum) / sum;
            for (rest, kept) in rest.iter().zip(&mut kept).filter(|(rest, _)| is_on(rest)) {
                let such_invoices = (*rate - longer).checked_div(rest.invoices_a_month());
                *kept -= such_invoices.unwrap_or_default() * taken;
            }
        }
        for (rest, kept) in rest.iter_mut().zip(kept) {
            rest.keep(kept.max(Decimal::ZERO));
        }
    }
}

fn are_several_products(rest: &[Rest<'_>]) -> bool {
    let first = rest.first().map(|rest| &rest.line.product);
    rest.iter().any(|rest| Some(&rest.line.product) != first)
}

/// One that ends at the largest decimal: it is beyond every bound.
fn total(amounts: impl Iterator<Item = Decimal>) -> Decimal {
    amounts.fold(Decimal::ZERO, |sum, amount| {
        sum.checked_add(amount).unwrap_or(Decimal::MAX)
    })
}

/// More than any price has: Stripe's have 12.
const DECIMALS: u32 = 16;
