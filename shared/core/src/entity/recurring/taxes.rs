//! How much of a subscription's items is inclusive tax, as its invoices show it. Stripe computes it when it
//! finalizes an invoice: <https://docs.stripe.com/tax/invoicing>.

use std::collections::{BTreeMap, BTreeSet};

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

/// The inclusive tax of an amount in an invoice, in minor units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct InvoicedTax {
    /// What is invoiced, before discounts.
    pub amount_minor: i64,
    /// The same after discounts: more than nothing.
    pub taxed_minor: i64,
    /// The part of `taxed_minor` that is tax.
    pub tax_minor: i64,
}

/// The inclusive tax of one item of a subscription at one price.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ItemTax {
    /// `si_…`
    pub item: String,
    /// `price_…`
    pub price: String,
    /// What the invoice shows.
    pub invoiced: InvoicedTax,
}

/// What one final invoice shows: its lines do not change any more.
/// Source: <https://docs.stripe.com/api/invoice-line-item/update>.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct InvoiceTaxes {
    /// When the invoice was created, Unix seconds.
    pub created_s: i64,
    /// By item and price.
    pub items: Vec<ItemTax>,
}

/// The taxes of a subscription's items, each as the newest invoice about the item shows it.
///
/// Invariant: what is kept is a function of the set of all that were added, as in [`super::KnownDiscounts`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownTaxes {
    /// The newest ones.
    invoices: BTreeSet<Invoice>,
    /// By item and price.
    items: BTreeMap<(String, String), (Invoice, InvoicedTax)>,
}

/// The greater one is newer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Invoice {
    created_s: i64,
    /// `in_…`
    id: String,
}

/// Far more items and prices than a subscription usually has in its life.
const KEPT: usize = 256;

/// Twice as many as are looked up at once, see [`INVOICES_LOOKED_UP`]: none of these is looked up again because newer
/// ones are known.
const INVOICES: usize = 2 * INVOICES_LOOKED_UP;

/// So many invoices, from the newest back, are looked up for a subscription. More than it has in one period: each
/// change of its items in it makes an invoice at most.
pub const INVOICES_LOOKED_UP: usize = 16;

impl KnownTaxes {
    /// What the invoice of this id shows.
    pub fn of_invoice(id: &str, taxes: InvoiceTaxes) -> Self {
        let invoice = Invoice {
            created_s: taxes.created_s,
            id: id.to_owned(),
        };
        let item = |of: ItemTax| ((of.item, of.price), (invoice.clone(), of.invoiced));
        let items = taxes.items.into_iter().map(item).collect();
        Self {
            items,
            invoices: BTreeSet::from([invoice]),
        }
    }

    /// Adds what another set knows.
    pub fn merge(&mut self, other: &Self) {
        self.invoices.extend(other.invoices.iter().cloned());
        while self.invoices.len() > INVOICES {
            self.invoices.pop_first();
        }
        for (key, new) in &other.items {
            let kept = self.items.entry(key.clone()).or_insert_with(|| new.clone());
            if new > kept {
                kept.clone_from(new);
            }
            if self.items.len() > KEPT {
                self.items.pop_first();
            }
        }
    }

    /// Whether this invoice is one of the newest that it knows. It may not be the newest: of two in one second, or if
    /// the newest was deleted.
    pub fn is_of(&self, invoice: &str) -> bool {
        self.invoices.iter().any(|it| it.id == invoice)
    }

    /// What is known of an item at a price.
    pub fn invoiced(&self, item: &str, price: &str) -> Option<&InvoicedTax> {
        let key = (item.to_owned(), price.to_owned());
        self.items.get(&key).map(|(_, invoiced)| invoiced)
    }
}

impl InvoicedTax {
    /// What may be left of `monthly` without tax: the least and the most. In one interval, as in the invoice, it is
    /// `amount` before discounts and `left` after them.
    ///
    /// The same amount has the same share of tax. Of another one, such as that of another quantity, or after a
    /// discount that the invoice had once, the share is known as precisely as the invoice shows it, in whole
    /// minor units.
    pub(super) fn without_tax(
        &self,
        [amount, left]: [Decimal; 2],
        monthly: Decimal,
    ) -> Option<[Decimal; 2]> {
        let is_same =
            |a: Decimal, minor: i64| a.saturating_sub(Decimal::from(minor)).abs() < Decimal::ONE;
        let is_precise = is_same(amount, self.amount_minor) && is_same(left, self.taxed_minor);
        let precision_minor = i64::from(!is_precise);
        let net_minor = self.taxed_minor.checked_sub(self.tax_minor)?;
        let least_minor = net_minor.saturating_sub(precision_minor).max(0);
        let most_minor = net_minor
            .saturating_add(precision_minor)
            .min(self.taxed_minor);
        let part = |minor: i64| {
            let of_all = monthly.checked_mul(minor.into())?;
            of_all.checked_div(self.taxed_minor.into())
        };
        Some([part(least_minor)?, part(most_minor)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(invoice: &str, created_s: i64, items: &[(&str, &str, i64)]) -> KnownTaxes {
        let item = |(item, price, tax_minor): &(&str, &str, i64)| ItemTax {
            item: (*item).to_owned(),
            price: (*price).to_owned(),
            invoiced: InvoicedTax {
                amount_minor: 11_900,
                taxed_minor: 11_900,
                tax_minor: *tax_minor,
            },
        };
        let items = items.iter().map(item).collect();
        KnownTaxes::of_invoice(invoice, InvoiceTaxes { created_s, items })
    }

    fn merged<'a>(all: impl IntoIterator<Item = &'a KnownTaxes>) -> KnownTaxes {
        let mut merged = KnownTaxes::default();
        all.into_iter().for_each(|one| merged.merge(one));
        merged
    }

    #[test]
    fn of_each_item_at_each_price_the_newest_invoice_counts() {
        let all = [
            of(
                "in_b",
                100,
                &[("si_1", "price_1", 1900), ("si_2", "price_2", 800)],
            ),
            of(
                "in_a",
                200,
                &[("si_1", "price_1", 2000), ("si_1", "price_2", 1)],
            ),
            of("in_c", 200, &[]),
            of("in_0", 200, &[("si_1", "price_2", 2)]),
            of("in_old", 50, &[]),
        ];
        for order in [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 0, 4, 3, 1]] {
            let known = merged(order.iter().chain(&order).map(|i| &all[*i]));
            let tax = |item, price| known.invoiced(item, price).map(|it| it.tax_minor);
            assert_eq!(tax("si_1", "price_1"), Some(2000));
            assert_eq!(tax("si_2", "price_2"), Some(800));
            assert_eq!(tax("si_1", "price_2"), Some(1));
            assert_eq!(tax("si_2", "price_1"), None);
            let ids = ["in_0", "in_a", "in_b", "in_c", "in_old"];
            assert!(ids.iter().all(|id| known.is_of(id)) && !known.is_of("in_d"));
        }
    }

    #[test]
    fn which_are_kept_does_not_depend_on_the_order() {
        let all: Vec<_> = (0..2 * KEPT)
            .flat_map(|n| {
                let item = format!("si_{n:03}");
                [1, 2].map(|s| of("in_1", s, &[(&item, "price_1", s)]))
            })
            .collect();
        let invoices: Vec<_> = (0..2 * INVOICES)
            .map(|n| of(&format!("in_{n}"), i64::try_from(n).expect("few"), &[]))
            .collect();
        let known = merged(&invoices);
        assert_eq!(known, merged(invoices.iter().rev()));
        assert!(known.is_of("in_63") && known.is_of("in_32") && !known.is_of("in_31"));
        let (up, down) = (merged(&all), merged(all.iter().rev()));
        assert_eq!(up, down);
        assert_eq!(up.items.len(), KEPT);
        assert!(
            up.invoiced("si_256", "price_1")
                .is_some_and(|it| it.tax_minor == 2)
        );
    }

    #[test]
    fn the_share_of_another_amount_is_as_precise_as_the_invoice() {
        let invoiced = InvoicedTax {
            amount_minor: 1000,
            taxed_minor: 500,
            tax_minor: 80,
        };
        let rest = |amount: i64, rest: i64| {
            let rest = invoiced.without_tax([amount.into(), rest.into()], rest.into());
            rest.map(|parts| parts.map(|part| part.to_string()))
        };
        let parts = |least: &str, most: &str| Some([least.to_owned(), most.to_owned()]);
        assert_eq!(rest(1000, 500), parts("420", "420"));
        assert_eq!(
            rest(1000, 1000),
            parts("838", "842"),
            "a discount of one invoice"
        );
        assert_eq!(rest(3000, 1500), parts("1257", "1263"));
        let none = InvoicedTax {
            tax_minor: 0,
            ..invoiced
        };
        let rest = none.without_tax([3000.into(), 500.into()], 500.into());
        assert_eq!(rest, Some([499.into(), 500.into()]));
    }
}
