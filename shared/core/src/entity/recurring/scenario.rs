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

/// What is left of a line.
struct Rest<'a> {
    line: &'a Line,
    /// On each invoice of each kind, as in [`Invoices`]. It is on those that come as often as it, or less often.
    each: Vec<Decimal>,
}

/// The kinds of invoices, by the longest interval of what is on them, shortest first. Intervals end together, so that
/// what is charged more often is on each of them, too.
struct Invoices(Vec<Interval>);

impl Invoices {
    fn of(lines: &[Line]) -> Self {
        let mut intervals: Vec<_> = lines.iter().map(|line| line.interval).collect();
        intervals.sort_by(|a, b| a.length_order(*b));
        intervals.dedup_by(|a, b| a.length_order(*b).is_eq());
        Self(intervals)
    }

    fn before_discounts<'a>(&self, line: &'a Line) -> Rest<'a> {
        let has_it = |kind: &Interval| line.interval.length_order(*kind).is_le();
        let each = self.0.iter().map(|kind| match has_it(kind) {
            true => line.amount,
            false => Decimal::ZERO,
        });
        let each = each.collect();
        Rest { line, each }
    }

    /// What is left of it each month.
    fn monthly(&self, rest: &Rest<'_>) -> Decimal {
        let of_kind = |(place, amount): (usize, &Decimal)| {
            let all = self.0[place].monthly(*amount)?;
            // The others are of a longer kind.
            let longer = self.0[place..].get(1);
            let others = longer.map_or(Some(Decimal::ZERO), |kind| kind.monthly(*amount));
            all.checked_sub(others?)
        };
        let of_kinds = rest.each.iter().enumerate();
        total(of_kinds.map(|it| of_kind(it).unwrap_or(Decimal::MAX)))
    }
}

impl Rest<'_> {
    /// Keeps this part of what is on each invoice.
    fn keep(&mut self, part: Decimal) {
        for amount in &mut self.each {
            *amount = amount.checked_mul(part).unwrap_or_default();
        }
    }
}

impl Scenario<'_> {
    /// Each month, rounded once, half to even.
    pub(super) fn sum(self, charges: &Charges) -> i64 {
        let invoices = Invoices::of(&charges.lines);
        let of_line = |line| {
            let mut rest = [invoices.before_discounts(line)];
            for discount in &line.discounts {
                self.take_off(discount, charges, false, &mut rest);
            }
            let [rest] = rest;
            rest
        };
        let mut rest: Vec<Rest<'_>> = charges.lines.iter().map(of_line).collect();
        let has_several = charges.has_several_products();
        for discount in &charges.discounts {
            self.take_off(discount, charges, has_several, &mut rest);
        }
        let sum = total(rest.iter().map(|rest| self.without_tax(rest, &invoices)));
        // A division may have left a digit at the far end.
        let sum = sum.round_dp(DECIMALS);
        let whole = sum.round_dp_with_strategy(0, RoundingStrategy::MidpointNearestEven);
        whole.to_i64().unwrap_or(i64::MAX)
    }

    fn without_tax(self, rest: &Rest<'_>, invoices: &Invoices) -> Decimal {
        let (line, monthly) = (rest.line, invoices.monthly(rest));
        if let Some(percent) = line.tax_percent {
            return percent.without(monthly).unwrap_or(Decimal::MAX);
        }
        if !line.has_unknown_tax {
            return monthly;
        }
        let invoiced = line.invoiced_tax(self.known.taxes);
        let before = line.interval.monthly(line.amount);
        let before = before.unwrap_or(Decimal::MAX);
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

    /// `has_several`: it may apply to some of the products only, or to none of these.
    fn take_off(
        self,
        discount: &AppliedDiscount,
        charges: &Charges,
        has_several: bool,
        rest: &mut [Rest<'_>],
    ) {
        let terms = discount
            .terms(self.known.discounts)
            .filter(|terms| terms.is_priced());
        let Some(terms) = terms else {
            if self.unknown == Unknown::TakesAll {
                rest.iter_mut().for_each(|rest| rest.keep(Decimal::ZERO));
            }
            return;
        };
        let may_apply_to_none = has_several && !terms.products.are_shown();
        if !terms.is_forever || may_apply_to_none && self.unknown == Unknown::TakesNothing {
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

    /// Takes a fixed amount off each invoice, at most what is on it.
    fn take_off_invoices(self, off_minor: i64, charges: &Charges, rest: &mut [&mut Rest<'_>]) {
        // What is missing may be charged more often, and take the amount off more often.
        if charges.missing.is_some() && self.unknown == Unknown::TakesAll {
            rest.iter_mut().for_each(|rest| rest.keep(Decimal::ZERO));
            return;
        }
        let off = Decimal::from(off_minor);
        let kinds = rest.first().map_or(0, |rest| rest.each.len());
        for kind in 0..kinds {
            let sum = total(rest.iter().map(|rest| rest.each[kind]));
            if sum <= Decimal::ZERO {
                continue;
            }
            let left = sum.saturating_sub(off).max(Decimal::ZERO).checked_div(sum);
            let left = left.unwrap_or_default();
            for rest in rest.iter_mut() {
                let amount = &mut rest.each[kind];
                *amount = amount.checked_mul(left).unwrap_or_default();
            }
        }
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
