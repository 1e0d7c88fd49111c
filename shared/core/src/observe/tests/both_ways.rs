//! What the strict way reads, the lenient way reads alike; what is odd costs only itself.

use std::fmt::Debug;

use serde::de::DeserializeOwned;

use super::odd_fields::{odd_values, samples};
use super::*;
use crate::observe::account::{
    AccountObject, BalanceObject, CapabilityObject, ExternalAccountObject,
};
use crate::observe::coupons::{Coupon, FullDiscount};
use crate::observe::customer::CustomerObject;
use crate::observe::invoice::{InvoiceObject, InvoicePaymentObject};
use crate::observe::movements::{
    CheckoutObject, DisputeObject, PaymentObject, RefundObject, TransferObject,
};
use crate::observe::payout::PayoutObject;
use crate::observe::subscription::SubscriptionObject;
use crate::observe::ways::{read_leniently, read_strictly};

/// What was read of each field of an object.
type Fields = BTreeMap<String, String>;

/// An object read strictly and leniently, unless that fails.
type Read = fn(&str) -> [Option<Fields>; 2];

fn both_ways<T: DeserializeOwned + Debug>(json: &str) -> [Option<Fields>; 2] {
    [read_strictly::<T>(json), read_leniently::<T>(json)]
        .map(|read| read.ok().map(|object| fields(&object)))
}

/// The lines of `{:#?}` that begin with four spaces name the fields.
fn fields(object: &impl Debug) -> Fields {
    let text = format!("{object:#?}");
    let mut fields = Fields::new();
    let mut last = String::new();
    for line in text.lines().filter(|line| line.starts_with("    ")) {
        if let Some((name, _)) = line[4..]
            .split_once(": ")
            .filter(|_| !line[4..].starts_with(' '))
        {
            name.clone_into(&mut last);
        }
        *fields.entry(last.clone()).or_default() += line;
    }
    fields
}

/// Documented objects of every kind, in each form, with all fields that are read.
fn documented() -> Vec<(Read, Value)> {
    let mut objects: Vec<(Read, Value)> = Vec::new();
    for (kind, object, _) in samples() {
        let read: Read = match object["object"].as_str().expect("a kind") {
            "subscription" => both_ways::<SubscriptionObject>,
            "invoice" => both_ways::<InvoiceObject>,
            "invoice_payment" => both_ways::<InvoicePaymentObject>,
            "payout" => both_ways::<PayoutObject>,
            "account" => both_ways::<AccountObject>,
            "payment_intent" => both_ways::<PaymentObject>,
            "checkout.session" => both_ways::<CheckoutObject>,
            "dispute" => both_ways::<DisputeObject>,
            "refund" => both_ways::<RefundObject>,
            "transfer" => both_ways::<TransferObject>,
            "capability" => both_ways::<CapabilityObject>,
            "balance" => both_ways::<BalanceObject>,
            "bank_account" => both_ways::<ExternalAccountObject>,
            "customer" => both_ways::<CustomerObject>,
            "coupon" => both_ways::<Coupon>,
            _ => panic!("{kind} is read by nothing"),
        };
        objects.push((read, object));
    }
    objects.push((both_ways::<SubscriptionObject>, subscription()));
    objects.push((both_ways::<FullDiscount>, discount()));
    objects
}

fn discount() -> Value {
    let coupon =
        json!({"id": "co_1", "duration": "forever", "percent_off": 12.5, "amount_off": null});
    json!({"id": "di_1", "object": "discount", "subscription": "sub_1", "end": null, "coupon": coupon,
        "source": {"type": "coupon", "coupon": "co_1"}})
}

/// Both forms of prices, discounts and references at once.
fn subscription() -> Value {
    let coupon =
        json!({"id": "co_1", "duration": "forever", "percent_off": 12.5, "amount_off": null});
    let price = json!({"id": "price_1", "product": {"id": "prod_1", "name": "Pro"}, "lookup_key": "pro", "unit_amount": null,
        "unit_amount_decimal": "0.5", "recurring": {"interval": "year", "interval_count": 1, "usage_type": "licensed"},
        "transform_quantity": {"divide_by": 5, "round": "up"}});
    let plan = json!({"id": "plan_1", "product": "prod_1", "amount": 700, "amount_decimal": "700", "interval": "week",
        "interval_count": 2, "usage_type": "licensed", "transform_usage": null});
    json!({"id": "sub_1", "object": "subscription", "status": "trialing", "customer": {"id": "cus_1", "email": null},
        "currency": "eur", "cancel_at_period_end": false, "cancel_at": 1000, "trial_end": null, "discount": {"coupon": "co_1"},
        "discounts": ["di_1", {"source": {"coupon": coupon}}],
        "items": {"object": "list", "data": [
            {"price": price, "quantity": 12, "discounts": [{"coupon": coupon}]}, {"plan": plan, "price": null, "quantity": 1}]}})
}

#[test]
fn a_documented_object_is_read_in_one_pass_and_leniently_alike() {
    for (read, object) in documented() {
        let [strict, lenient] = read(&object.to_string());
        assert!(strict.is_some(), "{object}");
        assert_eq!(strict, lenient, "{object}");
    }
}

#[test]
fn a_corrupt_field_costs_only_itself_in_either_way() {
    let (mut refused, mut read_strictly) = (0, 0);
    for (read, object) in documented() {
        let [_, whole] = read(&object.to_string());
        let whole = whole.expect("an object");
        for path in paths(&object) {
            let field = path.split('/').nth(1).expect("a field");
            for text in corruptions(&object, &path) {
                let [strict, lenient] = read(&text);
                let lenient = lenient.expect("an object");
                match strict {
                    None => refused += 1,
                    Some(strict) => {
                        read_strictly += 1;
                        assert_eq!(strict, lenient, "{path}: {text}");
                    }
                }
                let mut others = lenient.iter().filter(|(name, _)| *name != field);
                assert!(
                    others.all(|it| whole.get(it.0) == Some(it.1)),
                    "{path}: {text}"
                );
            }
        }
    }
    assert!(
        refused > 500 && read_strictly > 500,
        "{refused} {read_strictly}"
    );
}

/// JSON pointers to everything in an object.
fn paths(value: &Value) -> Vec<String> {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(fields) => fields.iter().map(|(name, it)| (name.clone(), it)).collect(),
        Value::Array(list) => list
            .iter()
            .enumerate()
            .map(|(i, it)| (i.to_string(), it))
            .collect(),
        _ => Vec::new(),
    };
    let mut found = Vec::new();
    for (step, child) in children {
        found.push(format!("/{step}"));
        found.extend(paths(child).iter().map(|rest| format!("/{step}{rest}")));
    }
    found
}

/// The object with something else at `path`.
fn corruptions(object: &Value, path: &str) -> Vec<String> {
    let old = object.pointer(path).expect("a path of the object");
    let mut values: Vec<String> = odd_values()
        .iter()
        .flatten()
        .map(Value::to_string)
        .collect();
    values.extend(
        [
            "-0",
            "5.0",
            "1e400",
            "99999999999999999999999",
            r#""\ud800""#,
            r#"{"id":"x","id":"x"}"#,
        ]
        .map(str::to_owned),
    );
    values.push(format!("{}1{}", "[".repeat(200), "]".repeat(200)));
    if let Value::Object(fields) = old {
        // serde would read the fields from a list, too.
        values.push(json!(fields.values().collect::<Vec<_>>()).to_string());
        values.extend(fields.iter().map(|(name, it)| {
            old.to_string()
                .replacen('{', &format!("{{{name:?}:{it},"), 1)
        }));
    }
    let mut marked = object.clone();
    *marked.pointer_mut(path).expect("a path of the object") = json!("here");
    let marked = marked.to_string();
    values
        .iter()
        .map(|value| marked.replace(r#""here""#, value))
        .collect()
}

#[test]
fn a_field_that_is_there_twice_makes_the_object_unreadable() {
    for (read, object) in documented() {
        // A balance has no id.
        let name = object.get("id").map_or("available", |_| "id");
        let twice = format!("{{{name:?}:\"x\",");
        let twice = object.to_string().replacen('{', &twice, 1);
        assert_eq!(read(&twice), [None, None], "{twice}");
    }
}
