//! The inclusive tax of a subscription's items, from the lines of an invoice in both forms.
//!
//! The `amount` of a line is before discounts. Discounts and billing credits are taken off before tax is
//! calculated, so that its inclusive tax is a part of what they leave.
//! Sources: <https://docs.stripe.com/api/invoice-line-item/object>,
//! <https://docs.stripe.com/changelog/acacia/2024-10-28/billing-credits-invoice>.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::fields::{Minor, Reference};
use super::lenient::Lenient;
use crate::entity::recurring::{InvoicedTax, ItemTax};

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
pub(super) struct Lines {
    data: Lenient<Vec<Lenient<Line>>>,
    has_more: Lenient<bool>,
}

impl Lines {
    fn is_complete(&self) -> bool {
        matches!(self.has_more, Lenient::Absent | Lenient::Known(false))
    }
}

/// Source: <https://docs.stripe.com/api/invoices/object#invoice_object-automatic_tax>.
#[derive(Debug, Deserialize)]
pub(super) struct InvoiceAutomaticTax {
    enabled: bool,
    /// Of the newest calculation.
    status: Option<String>,
}

/// The taxes of an invoice's lines.
#[derive(Debug, Default)]
pub(super) struct LineTaxes {
    /// Of each item at each price: at most [`MAX_ITEMS`].
    pub(super) items: Vec<ItemTax>,
    /// Whether one of them has an inclusive tax, even one of nothing.
    pub(super) has_inclusive: bool,
}

/// More items than these are as good as unknown: the list is stored.
const MAX_ITEMS: usize = 100;

impl LineTaxes {
    /// What the lines say of the tax. A proration says nothing of the recurring amount. Of an item with several
    /// lines, such as those of tiers, all have to be readable, so a part of the list says nothing.
    pub(super) fn of(lines: &Lenient<Lines>, automatic: &Lenient<InvoiceAutomaticTax>) -> Self {
        let complete = lines.as_known().filter(|lines| lines.is_complete());
        let data = complete.and_then(|lines| lines.data.as_known());
        let Some(data) = data.filter(|_| is_calculated(automatic)) else {
            return Self::default();
        };
        let mut items = BTreeMap::<(&str, &str), Option<InvoicedTax>>::new();
        let mut has_inclusive = false;
        for line in data.iter().filter_map(Lenient::as_known) {
            let Some(key) = line.key() else { continue };
            has_inclusive |= line.has_inclusive();
            let sum = items.entry(key).or_insert(Some(NOTHING));
            *sum = sum.and_then(|sum| plus(sum, line.invoiced()?));
        }
        let items = items.into_iter().filter_map(|((item, price), sum)| {
            let invoiced = sum.filter(is_share)?;
            Some(ItemTax {
                item: item.to_owned(),
                price: price.to_owned(),
                invoiced,
            })
        });
        Self {
            items: items.take(MAX_ITEMS).collect(),
            has_inclusive,
        }
    }
}

/// Whether the lines have all their tax.
fn is_calculated(automatic: &Lenient<InvoiceAutomaticTax>) -> bool {
    match automatic {
        Lenient::Absent => true,
        Lenient::Known(tax) => !tax.enabled || tax.status.as_deref() == Some("complete"),
        Lenient::Odd => false,
    }
}

const NOTHING: InvoicedTax = InvoicedTax {
    amount_minor: 0,
    taxed_minor: 0,
    tax_minor: 0,
};

fn plus(one: InvoicedTax, other: InvoicedTax) -> Option<InvoicedTax> {
    Some(InvoicedTax {
        amount_minor: one.amount_minor.checked_add(other.amount_minor)?,
        taxed_minor: one.taxed_minor.checked_add(other.taxed_minor)?,
        tax_minor: one.tax_minor.checked_add(other.tax_minor)?,
    })
}

/// Nothing has no share: that of a trial, or of a discount of 100 %.
fn is_share(invoiced: &InvoicedTax) -> bool {
    invoiced.taxed_minor > 0 && (0..=invoiced.taxed_minor).contains(&invoiced.tax_minor)
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct Line {
    amount: Lenient<Minor>,
    discount_amounts: Lenient<Vec<Lenient<Part>>>,
    /// Discounts and billing credits, since 2024-10-28.acacia.
    pretax_credit_amounts: Lenient<Vec<Lenient<Part>>>,
    /// Up to acacia, this and the next ones; later versions have them under `parent` and `pricing`.
    subscription_item: Lenient<Reference>,
    proration: Lenient<bool>,
    price: Lenient<Reference>,
    plan: Lenient<Reference>,
    tax_amounts: Lenient<Vec<Lenient<Tax>>>,
    parent: Lenient<LineParent>,
    pricing: Lenient<Pricing>,
    taxes: Lenient<Vec<Lenient<Tax>>>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct LineParent {
    subscription_item_details: Lenient<SubscriptionItemDetails>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct SubscriptionItemDetails {
    subscription_item: Lenient<Reference>,
    proration: Lenient<bool>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct Pricing {
    price_details: Lenient<PriceDetails>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct PriceDetails {
    price: Lenient<Reference>,
}

/// What is taken off.
#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct Part {
    amount: Lenient<Minor>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct Tax {
    amount: Lenient<Minor>,
    /// Up to acacia; later versions have `tax_behavior`.
    inclusive: Lenient<bool>,
    tax_behavior: Lenient<String>,
}

impl Line {
    /// Its item and price; `None`: it is none of a recurring amount.
    fn key(&self) -> Option<(&str, &str)> {
        let details = self.parent.as_known();
        let details = details.and_then(|parent| parent.subscription_item_details.as_known());
        let (item, proration) = match details {
            Some(details) => (&details.subscription_item, &details.proration),
            None => (&self.subscription_item, &self.proration),
        };
        let of_pricing = || {
            self.pricing
                .as_known()?
                .price_details
                .as_known()?
                .price
                .as_known()
        };
        let price = self.price.as_known().or_else(of_pricing);
        let price = price.or_else(|| self.plan.as_known())?;
        let is_recurring = *proration == Lenient::Known(false);
        is_recurring.then_some((item.as_known()?.id(), price.id()))
    }

    fn invoiced(&self) -> Option<InvoicedTax> {
        let amount_minor = within(&self.amount)?;
        let off = |parts: &Lenient<Vec<Lenient<Part>>>| match parts {
            Lenient::Absent => Some(0),
            Lenient::Known(parts) => sum(parts.iter().map(|it| within(&it.as_known()?.amount))),
            Lenient::Odd => None,
        };
        // Credits include the discounts.
        let off_minor = off(&self.discount_amounts)?.max(off(&self.pretax_credit_amounts)?);
        let inclusive = self.taxes()?.iter().map(|tax| {
            let tax = tax.as_known()?;
            let amount_minor = within(&tax.amount)?;
            Some(if tax.is_inclusive()? { amount_minor } else { 0 })
        });
        Some(InvoicedTax {
            amount_minor,
            taxed_minor: amount_minor.checked_sub(off_minor)?,
            tax_minor: sum(inclusive)?,
        })
    }

    fn taxes(&self) -> Option<&[Lenient<Tax>]> {
        let taxes = match &self.taxes {
            Lenient::Absent => &self.tax_amounts,
            taxes => taxes,
        };
        taxes.as_known().map(Vec::as_slice)
    }

    fn has_inclusive(&self) -> bool {
        let mut taxes = self.taxes().into_iter().flatten();
        taxes.any(|tax| tax.as_known().and_then(Tax::is_inclusive) == Some(true))
    }
}

impl Tax {
    fn is_inclusive(&self) -> Option<bool> {
        match (&self.tax_behavior, &self.inclusive) {
            (Lenient::Known(behavior), _) => match behavior.as_str() {
                "inclusive" => Some(true),
                "exclusive" => Some(false),
                _ => None,
            },
            (Lenient::Absent, Lenient::Known(inclusive)) => Some(*inclusive),
            _ => None,
        }
    }
}

fn within(amount: &Lenient<Minor>) -> Option<i64> {
    match amount {
        Lenient::Known(Minor::Within(minor)) => Some(*minor),
        _ => None,
    }
}

fn sum(mut parts: impl Iterator<Item = Option<i64>>) -> Option<i64> {
    parts.try_fold(0_i64, |sum, part| sum.checked_add(part?))
}
