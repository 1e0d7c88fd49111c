//! Amounts within their bounds of which a sum does not fit into 64 bits. No subscription has them, but anyone who can
//! sign an event can send them.

use serde_json::{Value, json};

use super::first_sight::{UPDATED, after, hourly, subscription};

fn item(unit_minor: i64, quantity: u32, discounts: &[&str]) -> Value {
    json!({"quantity": quantity, "discounts": discounts, "price": {"unit_amount": unit_minor,
        "recurring": {"interval": "month", "interval_count": 1}}})
}

/// The items cost nothing together. If a discount of which nothing is known takes off all of some, the others are near
/// the least integer.
#[test]
fn a_change_of_mrr_that_is_too_large_is_not_known() {
    let (many, few) = (1_000_000_000_000_000, 372_036_000_000_000);
    let with = |items: &[Value]| {
        let mut object = subscription("active");
        object["items"]["data"] = items.into();
        object
    };
    let before = with(&[item(10_000_000_000_000, 1, &[])]);
    let now = with(&[
        item(many, 9223, &["di_1"]),
        item(few, 1, &["di_1"]),
        item(-many, 9223, &[]),
        item(-few, 1, &[]),
    ]);
    let entity = after(&[(1, UPDATED, &before, None), (2, UPDATED, &now, None)]);
    assert_eq!(
        hourly(&entity, &["mrr_change|"]),
        [
            "1 mrr_change|usd 10000000000000".to_owned(),
            format!("2 mrr_change|usd {}", -i64::MAX)
        ]
    );
}
