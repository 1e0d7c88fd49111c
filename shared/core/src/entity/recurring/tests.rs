//! Charges each month.

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
        products: Products::All,
        ..Terms::default()
    }
}

fn percent(percent: i64) -> Terms {
    Terms {
        is_forever: true,
        percent_off: Percent::of(percent.into()),
        products: Products::All,
        ..Terms::default()
    }
}

fn only(products: &[&str], terms: Terms) -> Terms {
    Terms {
        products: Products::Only(products.iter().map(|p| (*p).to_owned()).collect()),
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
                ..Charges::default()
            };
            assert_eq!(bounds(&charges), exactly(expected), "{terms:?}");
        }
    }
}

#[test]
fn a_fixed_amount_takes_no_more_off_an_invoice_than_is_on_it() {
    let week = Interval {
        months: 84,
        parts: 365,
    };
    let charges = |lines: [Line; 2], terms: Terms| Charges {
        lines: lines.to_vec(),
        discounts: vec![with(terms)],
        missing: None,
        ..Charges::default()
    };
    // Once a year USD 1,201.00 less 5.00, and 1.00 of it is the week's, which is nothing in the others.
    let both = [line(100, week, "a"), line(120_000, YEAR, "a")];
    assert_eq!(bounds(&charges(both, off(500))), exactly(9967));
    let both = [line(3000, MONTH, "a"), line(120_000, YEAR, "a")];
    assert_eq!(bounds(&charges(both.clone(), off(5000))), exactly(9833));
    assert_eq!(bounds(&charges(both, off(1000))), exactly(12_000));
}

/// Each takes off what the ones before it left on the invoice.
#[test]
fn several_fixed_amounts_take_no_more_off_an_invoice_than_is_on_it() {
    let week = Interval {
        months: 84,
        parts: 365,
    };
    let table = [
        ((100, week), (1000, MONTH), [500, 500], 100),
        ((300, MONTH), (120_000, YEAR), [500, 200], 9967),
        ((1000, MONTH), (120_000, YEAR), [700, 500], 9983),
    ];
    for ((often, interval), (seldom, longer), coupons, expected) in table {
        let mut charges = Charges {
            lines: vec![line(often, interval, "a"), line(seldom, longer, "a")],
            discounts: coupons.map(|minor| with(off(minor))).to_vec(),
            ..Charges::default()
        };
        assert_eq!(bounds(&charges), exactly(expected), "{coupons:?}");
        charges.lines.reverse();
        assert_eq!(bounds(&charges), exactly(expected), "{coupons:?}");
    }
}

#[test]
fn a_coupon_may_apply_only_to_what_is_metered() {
    let mut charges = Charges {
        lines: vec![line(10_000, MONTH, "a")],
        discounts: vec![with(Terms {
            products: Products::NotShown,
            ..percent(50)
        })],
        has_other_products: true,
        ..Charges::default()
    };
    let bounded = (5000, Some(10_000), Some(MrrUnknown::Products));
    assert_eq!(bounds(&charges), bounded);
    charges.discounts = vec![with(only(&["b"], percent(50)))];
    assert_eq!(bounds(&charges), exactly(10_000));
}

#[test]
fn whether_a_coupon_applies_to_all_of_several_products_is_unknown_until_it_is_shown() {
    let table = [
        (
            off(1000),
            (14_000, Some(15_000), Some(MrrUnknown::Products)),
        ),
        (
            percent(10),
            (13_500, Some(15_000), Some(MrrUnknown::Products)),
        ),
        (Terms::default(), exactly(15_000)),
    ];
    for (terms, expected) in table {
        let not_shown = Terms {
            products: Products::NotShown,
            ..terms
        };
        let mut charges = Charges {
            lines: vec![line(10_000, MONTH, "a"), line(5000, MONTH, "b")],
            discounts: vec![with(not_shown.clone())],
            missing: None,
            ..Charges::default()
        };
        assert_eq!(bounds(&charges), expected, "{not_shown:?}");
        charges.lines[1].product = charges.lines[0].product.clone();
        assert_eq!(bounds(&charges).2, None, "one product");
        charges.lines[0].discounts = std::mem::take(&mut charges.discounts);
        charges.lines[1].product = None;
        assert_eq!(bounds(&charges).2, None, "of one item");
    }
}

#[test]
fn item_discounts_come_before_those_of_the_subscription() {
    let mut charges = Charges {
        lines: vec![line(10_000, MONTH, "a"), line(10_000, MONTH, "b")],
        discounts: vec![with(percent(50)), with(off(1000))],
        missing: None,
        ..Charges::default()
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
        ..Charges::default()
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
        ..Charges::default()
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
        ..Charges::default()
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
        ..Charges::default()
    };
    // 100 ÷ 12 − 10 ÷ 12 = 7.5, and 112 ÷ 12 − 10 ÷ 12 = 8.5: half to even.
    assert_eq!(bounds(&year(100)), exactly(8));
    assert_eq!(bounds(&year(112)), exactly(8));
}
