mod both_ways;
mod charges;
mod field_costs;
mod hostile;
mod odd_fields;
mod taxes;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::*;
use crate::entity::account::AccountUpdate;
use crate::entity::application_ids::ApplicationIds;
use crate::entity::{Entity, Update};

fn observe_object(
    kind: &str,
    account: Option<&str>,
    object: &Value,
) -> Result<Vec<Observation>, ObserveError> {
    observe_event("evt_1", kind, account, object)
}

fn observe_event(
    id: &str,
    kind: &str,
    account: Option<&str>,
    object: &Value,
) -> Result<Vec<Observation>, ObserveError> {
    let body = json!({"id": id, "type": kind, "created": 1000, "account": account, "data": {"object": object}});
    let body = body.to_string();
    let plans = Plans::new(BTreeMap::from([("pro".to_owned(), "PRO".to_owned())]));
    observe(
        &Event::parse(body.as_bytes()).expect("an event"),
        &plans.into(),
    )
}

fn monthly(price: &Value, quantity: u64) -> i64 {
    let object = json!({"id": "sub_1", "status": "active", "currency": "usd",
        "items": {"data": [{"price": price, "quantity": quantity}]}});
    match &observe_object("customer.subscription.updated", None, &object).expect("readable")[0]
        .update
    {
        Update::Subscription(_, state) => state.facts.recurring_minor.expect("known"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn recurring_amounts_are_normalised_to_a_month() {
    let every = |interval: &str, n: u32| json!({"interval": interval, "interval_count": n, "usage_type": "licensed"});
    let table = [
        (
            json!({"unit_amount": 2000, "recurring": every("month", 1)}),
            3,
            6000,
        ),
        (
            json!({"unit_amount_decimal": "0.5", "unit_amount": null, "recurring": every("month", 1)}),
            3,
            2,
        ),
        (
            json!({"unit_amount": 12_000, "recurring": every("year", 1)}),
            1,
            1000,
        ),
        (
            json!({"unit_amount": 3000, "recurring": every("month", 3)}),
            1,
            1000,
        ),
        (
            json!({"unit_amount": 700, "recurring": every("week", 1)}),
            1,
            3042,
        ),
        (
            json!({"unit_amount": 100, "recurring": every("day", 1)}),
            1,
            3042,
        ),
        (
            json!({"unit_amount": 100, "recurring": {"interval": "month", "interval_count": 1, "usage_type": "metered"}}),
            9,
            0,
        ),
        (json!({"unit_amount": 100, "recurring": null}), 9, 0),
        (
            json!({"unit_amount": 100, "recurring": every("month", 1), "transform_quantity": {"divide_by": 10, "round": "up"}}),
            21,
            300,
        ),
        (
            json!({"unit_amount": 100, "recurring": every("month", 1), "transform_quantity": {"divide_by": 10, "round": "down"}}),
            29,
            200,
        ),
    ];
    for (price, quantity, expected) in table {
        assert_eq!(monthly(&price, quantity), expected, "{price} × {quantity}");
    }
}

#[test]
fn only_permanent_discounts_count_items_first_then_the_subscription() {
    let price =
        json!({"unit_amount": 1000, "recurring": {"interval": "month", "interval_count": 2}});
    let percent = |p: f64, d: &str| json!({"id": "di_1", "coupon": {"id": "c", "duration": d, "percent_off": p}});
    let off = json!({"id": "di_2", "source": {"type": "coupon", "coupon": {"id": "c", "duration": "forever", "amount_off": 300}}});
    let table: [(Value, Value, i64); 9] = [
        (json!([]), json!({}), 1000),
        (json!([percent(25.5, "forever")]), json!({}), 745),
        (json!([percent(50.0, "once")]), json!({}), 1000),
        (
            json!([percent(50.0, "repeating")]),
            json!({"discounts": ["di_1"]}),
            1000,
        ),
        // 20.00 per two months, less 3.00 per two months.
        (json!([]), json!({"discounts": [off]}), 850),
        (
            json!([percent(50.0, "forever")]),
            json!({"discounts": [percent(50.0, "forever")]}),
            250,
        ),
        // Old versions: one discount next to the ids of all.
        (
            json!(null),
            json!({"discount": percent(10.0, "forever"), "discounts": ["di_1"]}),
            900,
        ),
        (
            json!(null),
            json!({"discount": percent(10.0, "forever"), "discounts": [percent(10.0, "forever")]}),
            900,
        ),
        (
            json!([]),
            json!({"discounts": [json!({"id": "d", "coupon": {"duration": "forever", "amount_off": 9_999_999}})]}),
            0,
        ),
    ];
    for (of_item, of_subscription, expected) in table {
        let mut object = json!({"id": "sub_1", "status": "active", "currency": "usd",
            "items": {"data": [{"price": price, "quantity": 2, "discounts": of_item}]}});
        object
            .as_object_mut()
            .expect("an object")
            .extend(of_subscription.as_object().expect("an object").clone());
        match &observe_object("customer.subscription.updated", None, &object).expect("readable")[0]
            .update
        {
            Update::Subscription(_, state) => {
                assert_eq!(state.facts.recurring_minor, Some(expected), "{object}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn payments_disputes_refunds_and_transfers_become_movements() {
    let amount = json!({"amount": 500, "currency": "USD"});
    let table = [
        (
            "payment_intent.payment_failed",
            json!({"id": "pi_1", "status": "requires_payment_method", "last_payment_error": {"code": "card_declined", "decline_code": "do_not_honor", "message": "Maria"}}),
            "payment_intent pi_1 requires_payment_method Some(\"do_not_honor\") true",
        ),
        (
            "payment_intent.succeeded",
            json!({"id": "pi_1", "status": "succeeded", "last_payment_error": null}),
            "payment_intent pi_1 succeeded None false",
        ),
        (
            "charge.dispute.created",
            json!({"id": "du_1", "status": "needs_response", "reason": "fraudulent", "charge": "ch_1"}),
            "dispute du_1 needs_response Some(\"fraudulent\") false",
        ),
        (
            "refund.failed",
            json!({"id": "re_1", "status": "failed", "failure_reason": "expired_or_canceled_card"}),
            "refund re_1 failed Some(\"expired_or_canceled_card\") false",
        ),
        (
            "charge.refund.updated",
            json!({"id": "re_1"}),
            "refund re_1 succeeded None false",
        ),
        (
            "transfer.created",
            json!({"id": "tr_1", "reversed": false, "amount_reversed": 0, "destination": "acct_1"}),
            "transfer tr_1 created None false",
        ),
        (
            "transfer.reversed",
            json!({"id": "tr_1", "reversed": false, "amount_reversed": 20}),
            "transfer tr_1 partially_reversed None false",
        ),
        (
            "checkout.session.expired",
            json!({"id": "cs_1", "status": null}),
            "checkout_session cs_1 expired None false",
        ),
    ];
    for (kind, mut object, expected) in table {
        object
            .as_object_mut()
            .expect("an object")
            .extend(amount.as_object().expect("an object").clone());
        let observation = observe_object(kind, None, &object)
            .expect("readable")
            .remove(0);
        let Update::Movement(_, state) = &observation.update else {
            panic!("{observation:?}")
        };
        let facts = &state.facts;
        let got = format!(
            "{} {} {:?} {}",
            observation.key, facts.status, facts.reason, facts.attempt_failed
        );
        assert_eq!(got, expected);
    }
}

/// Their sum could overflow that of all subscriptions.
#[test]
fn a_monthly_amount_beyond_the_bound_is_unreadable() {
    let monthly = json!({"interval": "month", "interval_count": 1});
    let per_item = |price: Value, quantity: u64| json!([{"price": price, "quantity": quantity}]);
    let fixed = json!([{"coupon": {"duration": "forever", "amount_off": i64::MAX}}]);
    let plain = json!({"unit_amount": 100, "recurring": monthly});
    let table = [
        (
            per_item(json!({"unit_amount": i64::MAX, "recurring": monthly}), 1),
            json!([]),
            "items.data.price.unit_amount",
        ),
        (
            per_item(
                json!({"unit_amount_decimal": "-79228162514264337593543950335", "recurring": monthly}),
                1,
            ),
            json!([]),
            "items.data.price.unit_amount_decimal",
        ),
        (per_item(plain.clone(), u64::MAX), json!([]), "items"),
        (per_item(plain.clone(), 100_000_000_001), json!([]), "items"),
        (per_item(plain, 1), fixed, "discounts.coupon.amount_off"),
    ];
    for (items, discounts, field) in table {
        let object = json!({"id": "sub_1", "status": "active", "items": {"data": items}, "discounts": discounts});
        let error = observe_object("customer.subscription.updated", None, &object)
            .expect_err("too large")
            .to_string();
        let expected = format!("customer.subscription.updated: data.object.{field}: larger");
        assert!(error.starts_with(&expected), "{error}");
    }
    let largest = json!({"data": per_item(json!({"unit_amount": 100, "recurring": monthly}), 100_000_000_000)});
    let object = json!({"id": "sub_1", "status": "active", "items": largest});
    observe_object("customer.subscription.updated", None, &object).expect("at the bound");
}

/// API versions before 2022 have the currency of a subscription in its prices only.
#[test]
fn a_subscription_without_a_currency_has_that_of_all_its_prices() {
    let currency = |own: &Value, of_prices: &[Value]| {
        let item = |currency: &Value| {
            json!({"quantity": 1, "price": {"id": "p", "unit_amount": 100, "currency": currency,
            "recurring": {"interval": "month", "interval_count": 1}}})
        };
        let items: Vec<Value> = of_prices.iter().map(item).collect();
        let mut object = json!({"id": "sub_1", "status": "active", "items": {"data": items}});
        if !own.is_null() {
            object["currency"] = own.clone();
        }
        let seen = observe_object("customer.subscription.updated", None, &object);
        match &seen.expect("readable")[0].update {
            Update::Subscription(origin, _) => origin.currency.clone(),
            other => panic!("{other:?}"),
        }
    };
    let table = [
        (Value::Null, vec![json!("EUR")], Some("eur")),
        (Value::Null, vec![json!("eur"), json!("eur")], Some("eur")),
        (Value::Null, vec![json!("eur"), json!("usd")], None),
        (Value::Null, vec![json!("eur"), json!(7)], None),
        (Value::Null, vec![json!("eur"), Value::Null], None),
        (Value::Null, vec![], None),
        (json!("jpy"), vec![json!("usd")], Some("jpy")),
        (json!(7), vec![json!("usd")], None),
    ];
    for (own, of_prices, expected) in table {
        assert_eq!(
            currency(&own, &of_prices).as_deref(),
            expected,
            "{own} {of_prices:?}"
        );
    }
}

#[test]
fn an_invoice_names_its_subscription_in_either_form() {
    for link in [
        json!({"subscription": "sub_1"}),
        json!({"subscription": {"id": "sub_1", "object": "subscription"}}),
        json!({"subscription": null, "parent": {"type": "subscription_details", "subscription_details": {"subscription": "sub_1"}}}),
        json!({"parent": {"subscription_details": {"subscription": {"id": "sub_1"}}}}),
    ] {
        let mut object = json!({"id": "in_1", "status": "open", "amount_due": 5, "amount_paid": 0, "attempt_count": 0});
        object
            .as_object_mut()
            .expect("an object")
            .extend(link.as_object().expect("an object").clone());
        match &observe_object("invoice.finalized", None, &object).expect("readable")[0].update {
            Update::Invoice(origin, _) => {
                assert_eq!(origin.subscription.as_deref(), Some("sub_1"));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(
        observe_object("invoice.upcoming", None, &json!({"status": "draft"})),
        Ok(Vec::new())
    );
}

#[test]
fn the_plan_is_found_by_price_product_or_lookup_key() {
    for price in [
        json!({"id": "pro", "recurring": null}),
        json!({"id": "p", "lookup_key": "pro", "recurring": null}),
        json!({"id": "p", "product": {"id": "pro"}, "recurring": null}),
    ] {
        let object =
            json!({"id": "sub_1", "status": "active", "items": {"data": [{"price": price}]}});
        match &observe_object("customer.subscription.created", None, &object).expect("readable")[0]
            .update
        {
            Update::Subscription(_, state) => assert_eq!(state.facts.plan, "PRO"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_price_of_a_connected_account_is_no_plan_of_the_platform() {
    let object = json!({"id": "sub_1", "status": "active",
        "items": {"data": [{"price": {"id": "p", "lookup_key": "pro", "recurring": null}}]}});
    let body = json!({"id": "evt_1", "type": "customer.subscription.created", "created": 1000, "account": "acct_1",
        "data": {"object": object}});
    let body = body.to_string();
    let names = BTreeMap::from([("pro".to_owned(), "PRO".to_owned())]);
    for (connected, expected) in [(BTreeMap::new(), UNMAPPED_PLAN), (names.clone(), "PRO")] {
        let platform = names.clone();
        let plans = Plans {
            platform,
            connected,
        };
        let event = Event::parse(body.as_bytes()).expect("an event");
        let seen = observe(&event, &plans.into()).expect("readable");
        match &seen.last().expect("the subscription").update {
            Update::Subscription(_, state) => assert_eq!(state.facts.plan, expected),
            other => panic!("{other:?}"),
        }
    }
}

/// What the metadata of a subscription, or of an account, says.
fn ids_in(account: Option<&str>, object: &Value) -> Option<ApplicationIds> {
    let kind = match object["object"].as_str() {
        Some("account") => "account.updated",
        _ => "customer.subscription.updated",
    };
    let observations = observe_object(kind, account, object).expect("readable");
    match &observations.last().expect("the object").update {
        Update::Subscription(origin, _) => origin.ids.clone(),
        Update::Account(AccountUpdate::Snapshot { ids, .. }) => ids.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_ids_of_the_application_are_in_the_metadata_that_the_platform_writes() {
    let ids = |app_id: Option<&str>, user_id: Option<&str>| ApplicationIds {
        at_s: 1000,
        app_id: app_id.map(str::to_owned),
        user_id: user_id.map(str::to_owned),
    };
    let subscription = |metadata: Value| json!({"id": "sub_1", "status": "active", "items": {"data": []}, "metadata": metadata});
    let (longest, too_long) = ("x".repeat(64), "x".repeat(65));
    for (metadata, expected) in [
        (
            json!({"app_id": "app_1", "user_id": "7"}),
            ids(Some("app_1"), Some("7")),
        ),
        (json!({"user_id": longest}), ids(None, Some(&longest))),
        (json!({"app_id": too_long, "user_id": ""}), ids(None, None)),
        (json!({"app_id": 5, "user_id": "a b"}), ids(None, None)),
        (json!({}), ids(None, None)),
    ] {
        assert_eq!(
            ids_in(None, &subscription(metadata.clone())),
            Some(expected),
            "{metadata}"
        );
    }
    for unknown in [Value::Null, json!([]), json!("app_1")] {
        assert_eq!(ids_in(None, &subscription(unknown)), None);
    }
    let own = subscription(json!({"app_id": "app_1"}));
    assert_eq!(
        ids_in(Some("acct_1"), &own),
        None,
        "it is the connected account's"
    );
    let account = json!({"id": "acct_1", "object": "account", "charges_enabled": true, "payouts_enabled": true,
        "metadata": {"user_id": "7"}});
    assert_eq!(ids_in(Some("acct_1"), &account), Some(ids(None, Some("7"))));
}

#[test]
fn the_newest_metadata_decides_in_any_order() {
    let observed = |id: &str, created_s: i64, metadata: Value| {
        let body = json!({"id": id, "type": "customer.subscription.updated", "created": created_s, "data": {"object":
            {"id": "sub_1", "status": "active", "items": {"data": []}, "metadata": metadata}}});
        let body = body.to_string();
        let event = Event::parse(body.as_bytes()).expect("an event");
        observe(&event, &ObserveSettings::default())
            .expect("readable")
            .remove(0)
    };
    let steps = [
        observed("evt_1", 100, json!({"app_id": "a", "user_id": "1"})),
        observed("evt_2", 200, json!({"app_id": "b"})),
        observed("evt_3", 150, json!({"app_id": "c", "user_id": "3"})),
    ];
    for order in [[0, 1, 2], [1, 0, 2], [2, 1, 0], [1, 2, 0]] {
        let mut entity = Entity::new(&steps[0].key);
        for step in order {
            entity.merge(&steps[step]);
        }
        let fields = entity.state().fields();
        let shown = |name: &str| {
            fields
                .iter()
                .find(|field| field.name == name)
                .expect("a column")
                .value
                .clone()
        };
        assert_eq!(
            (shown("app_id"), shown("user_id")),
            (json!("b"), Value::Null),
            "{order:?}"
        );
    }
}

#[test]
fn errors_name_the_field_and_never_the_value() {
    let table = [
        (
            "payout.paid",
            json!({"id": "po_1", "status": 4_242_424_242_424_242_i64, "amount": 1, "currency": "usd"}),
            "payout.paid: data.object.status: does not have the documented type",
        ),
        (
            "payout.paid",
            json!({"id": "po_1", "amount": 1, "currency": "usd"}),
            "payout.paid: data.object.status: missing",
        ),
        (
            "payout.paid",
            json!({"id": "", "status": "paid"}),
            "payout.paid: data.object.id: missing",
        ),
        (
            "account.updated",
            json!({"id": "acct_1", "charges_enabled": "secret", "payouts_enabled": true}),
            "account.updated: data.object.charges_enabled: does not have the documented type",
        ),
        (
            "invoice.paid",
            json!({"id": "in_1", "amount_due": 5, "amount_paid": 0, "attempt_count": 0}),
            "invoice.paid: data.object.status: missing",
        ),
        (
            "transfer.updated",
            json!({"id": "tr_1", "amount": 5, "reversed": "secret", "amount_reversed": 0}),
            "transfer.updated: data.object.reversed: does not have the documented type",
        ),
        (
            "payout.paid",
            json!({"id": "po_1", "status": "paid", "amount": i64::MAX, "currency": "usd"}),
            "payout.paid: data.object.amount: larger than any amount (1000000000000000 minor units)",
        ),
        (
            "invoice.paid",
            json!(7),
            "invoice.paid: data.object: does not have the documented type",
        ),
        (
            "invoice.paid",
            json!(["in_1", "paid"]),
            "invoice.paid: data.object: does not have the documented type",
        ),
    ];
    for (kind, object, expected) in table {
        assert_eq!(
            observe_object(kind, Some("acct_1"), &object)
                .expect_err("unreadable")
                .to_string(),
            expected
        );
    }
}

#[test]
fn any_event_with_an_account_makes_it_known() {
    let observations =
        observe_object("balance.available", Some("acct_1"), &json!({})).expect("readable");
    assert_eq!(observations.len(), 1);
    let mut entity = Entity::new(&observations[0].key);
    entity.merge(&observations[0]);
    assert_eq!(
        Entity::decode(&observations[0].key, &entity.encode()),
        Ok(entity)
    );
    assert_eq!(
        observe_object(
            "account.application.deauthorized",
            Some("acct_1"),
            &json!({"id": "ca_1"})
        )
        .expect("readable")
        .len(),
        2
    );
}

/// Own-account events reach a Connect endpoint, too (stripe-apps#810).
#[test]
fn an_event_of_the_platforms_own_account_makes_no_connected_account() {
    let account = json!({"id": "acct_1", "charges_enabled": true, "payouts_enabled": true});
    let capability = json!({"id": "transfers", "account": "acct_1", "status": "active"});
    for (kind, object) in [
        ("account.updated", &account),
        ("capability.updated", &capability),
    ] {
        let about = |account| {
            let observations = observe_object(kind, account, object).expect("readable");
            let ids = observations.into_iter().map(|it| it.key.id);
            ids.collect::<Vec<_>>()
        };
        assert_eq!(about(None), [""; 0], "{kind} of the own account");
        assert_eq!(about(Some("acct_1")), ["acct_1"; 2], "{kind}");
        // What it says is about another account than the one whose partition it is in.
        assert_eq!(about(Some("acct_2")), ["acct_2"], "{kind}");
    }
}

#[test]
fn a_thin_event_is_about_the_account_that_it_names_and_not_about_its_context() {
    let about = |related: &str| {
        let body = format!(
            r#"{{"id":"evt_1","type":"v2.core.account.updated","created":"2026-09-30T10:00:00Z",
                "context":"acct_P/acct_C","related_object":{{"id":"{related}"}}}}"#
        );
        let event = Event::parse(body.as_bytes()).expect("an event");
        let observations = observe(&event, &ObserveSettings::default()).expect("readable");
        let ids = observations.into_iter().map(|it| it.key.id);
        ids.collect::<Vec<_>>()
    };
    assert_eq!(about("acct_C"), ["acct_C"]);
    assert_eq!(about("po_1"), [""; 0]);
}

#[test]
fn a_country_is_two_letters_and_of_an_account_number_four_digits_are_kept() {
    let shown = |country: &str, last4: &str| {
        let object = json!({"id": "ba_1", "country": country, "last4": last4, "currency": "EUR"});
        let seen = observe_object("account.external_account.created", Some("acct_1"), &object)
            .expect("readable");
        match &seen.last().expect("an observation").update {
            Update::Account(AccountUpdate::ExternalAccount { view, .. }) => {
                assert_eq!(view.currency.as_deref(), Some("eur"));
                (view.country.clone(), view.last4.clone())
            }
            other => panic!("{other:?}"),
        }
    };
    let known = |country: &str, last4: &str| (Some(country.to_owned()), Some(last4.to_owned()));
    assert_eq!(shown("PT", "6789"), known("PT", "6789"));
    assert_eq!(shown("de", "DE89370400440532013000"), known("DE", "3000"));
    for (country, last4) in [
        ("Germany", "Jane"),
        ("D1", "789"),
        ("", ""),
        ("\u{e9}\u{e9}", "12\u{e9}3"),
    ] {
        assert_eq!(shown(country, last4), (None, None), "{country} {last4}");
    }
    let object = json!({"id": "acct_1", "country": "Jane Doe", "charges_enabled": true, "payouts_enabled": true});
    let seen = observe_object("account.updated", Some("acct_1"), &object).expect("readable");
    match &seen.last().expect("an observation").update {
        Update::Account(AccountUpdate::Snapshot { country, .. }) => assert_eq!(*country, None),
        other => panic!("{other:?}"),
    }
}
