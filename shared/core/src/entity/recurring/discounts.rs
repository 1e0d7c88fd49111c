//! The discounts of a subscription whose coupons or terms any event has shown.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::super::merge::keep_greater;
use super::Terms;

/// The discounts of a subscription, and the coupons of which they were made.
///
/// Invariant: what is kept is a function of the set of all that were added. Which ids are kept depends on
/// nothing but the ids: one that is kept in the end was never dropped before.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KnownDiscounts {
    /// By id, `di_…`.
    discounts: BTreeMap<String, KnownDiscount>,
    /// The terms of coupons, by Stripe's id.
    coupons: BTreeMap<String, Terms>,
}

/// What is known of one discount.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KnownDiscount {
    /// The id of its coupon.
    pub coupon: Option<String>,
    /// What it takes off.
    pub terms: Option<Terms>,
}

/// Far more discounts than a subscription has in its life: at once, Stripe allows 20 on it and 20 on each item.
/// Source: <https://docs.stripe.com/billing/subscriptions/coupons#stacking-discounts>.
const KEPT: usize = 256;

impl KnownDiscounts {
    /// Adds what is known of a discount.
    pub fn add(&mut self, id: &str, new: &KnownDiscount) {
        let kept = self.discounts.entry(id.to_owned()).or_default();
        keep_greater(&mut kept.coupon, &new.coupon);
        match (&mut kept.terms, &new.terms) {
            (Some(kept), Some(new)) => kept.merge(new),
            (kept @ None, new) => kept.clone_from(new),
            (Some(_), None) => {}
        }
        if self.discounts.len() > KEPT {
            self.discounts.pop_first();
        }
    }

    /// Adds the terms of a coupon.
    pub fn add_coupon(&mut self, id: &str, terms: &Terms) {
        self.coupons.entry(id.to_owned()).or_default().merge(terms);
        if self.coupons.len() > KEPT {
            self.coupons.pop_first();
        }
    }

    /// Adds what another set knows.
    pub fn merge(&mut self, other: &Self) {
        for (id, new) in &other.discounts {
            self.add(id, new);
        }
        for (id, terms) in &other.coupons {
            self.add_coupon(id, terms);
        }
    }

    /// What the discount takes off, if that is known.
    pub fn terms(&self, id: &str) -> Option<&Terms> {
        let discount = self.discounts.get(id)?;
        let coupon = discount.coupon.as_deref();
        let of_coupon = coupon.and_then(|coupon| self.coupons.get(coupon));
        match (&discount.terms, of_coupon) {
            (Some(own), Some(coupon)) if own.lacks_products_of(coupon) => Some(coupon),
            (Some(own), _) => Some(own),
            (None, coupon) => coupon,
        }
    }

    /// The coupon of the discount, if that is known.
    pub fn coupon(&self, id: &str) -> Option<&str> {
        self.discounts.get(id)?.coupon.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{AmountOff, Products};
    use super::*;

    fn of(id: &str, coupon: Option<&str>, terms: Option<Terms>) -> KnownDiscounts {
        let mut known = KnownDiscounts::default();
        let coupon = coupon.map(str::to_owned);
        known.add(id, &KnownDiscount { coupon, terms });
        known
    }

    #[test]
    fn what_events_show_of_a_discount_adds_up() {
        let all = [
            of("di_1", Some("c_1"), None),
            of("di_1", None, Some(Terms::ending())),
            of("di_2", None, None),
        ];
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
            let mut merged = KnownDiscounts::default();
            order.iter().for_each(|i| merged.merge(&all[*i]));
            assert_eq!(merged.coupon("di_1"), Some("c_1"));
            assert_eq!(merged.terms("di_1"), Some(&Terms::ending()));
            assert_eq!(merged.terms("di_2"), None);
        }
    }

    #[test]
    fn a_discount_has_the_terms_of_its_coupon() {
        let mut known = of("di_1", Some("c_1"), None);
        let mut coupon = KnownDiscounts::default();
        coupon.add_coupon("c_1", &Terms::CANNOT_BE_PRICED);
        known.merge(&coupon);
        assert_eq!(known.terms("di_1"), Some(&Terms::CANNOT_BE_PRICED));
    }

    #[test]
    fn a_coupon_says_to_which_products_a_discount_applies() {
        let shown = |products| Terms {
            products,
            ..Terms::CANNOT_BE_PRICED
        };
        let of_coupon = shown(Products::All);
        let mut known = of("di_1", Some("c_1"), Some(shown(Products::NotShown)));
        known.add_coupon("c_1", &of_coupon);
        assert_eq!(known.terms("di_1"), Some(&of_coupon));
        // A discount that ends is not as its coupon.
        let mut ending = of("di_1", Some("c_1"), Some(Terms::ending()));
        ending.add_coupon("c_1", &of_coupon);
        assert_eq!(ending.terms("di_1"), Some(&Terms::ending()));
    }

    #[test]
    fn what_only_one_event_shows_of_a_coupon_is_kept_in_any_order() {
        let off = |minor, products: &[&str], options: &[(&str, i64)]| Terms {
            is_forever: true,
            percent_off: None,
            amount_off: Some(AmountOff {
                minor,
                currency: Some("usd".to_owned()),
                currency_options: options
                    .iter()
                    .map(|(it, n)| ((*it).to_owned(), *n))
                    .collect(),
            }),
            products: match products {
                [] => Products::NotShown,
                _ => Products::Only(products.iter().map(|it| (*it).to_owned()).collect()),
            },
        };
        let all = [
            off(500, &["prod_1"], &[]),
            off(500, &[], &[("brl", 20), ("jpy", 7)]),
            off(500, &[], &[("jpy", 7), ("pln", 9)]),
            // Of a coupon that had this id before.
            off(400, &["prod_2"], &[("eur", 8)]),
        ];
        let expected = off(500, &["prod_1"], &[("brl", 20), ("jpy", 7), ("pln", 9)]);
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1]] {
            let mut known = of("di_1", Some("c_1"), None);
            let mut of_coupon = of("di_2", Some("c_2"), None);
            for i in order {
                known.merge(&of("di_1", None, Some(all[i].clone())));
                of_coupon.add_coupon("c_2", &all[i]);
            }
            assert_eq!(known.terms("di_1"), Some(&expected), "{order:?}");
            assert_eq!(of_coupon.terms("di_2"), Some(&expected), "{order:?}");
        }
    }

    #[test]
    fn which_are_kept_does_not_depend_on_the_order() {
        let all: Vec<_> = (0..KEPT + 44)
            .flat_map(|n| {
                let id = format!("di_{n:03}");
                [
                    of(&id, Some("c"), None),
                    of(&id, None, Some(Terms::ending())),
                ]
            })
            .collect();
        let (mut up, mut down) = (KnownDiscounts::default(), KnownDiscounts::default());
        all.iter().for_each(|one| up.merge(one));
        all.iter().rev().for_each(|one| down.merge(one));
        assert_eq!(up, down);
        assert_eq!(
            (up.coupon("di_043"), up.coupon("di_044")),
            (None, Some("c"))
        );
    }
}
