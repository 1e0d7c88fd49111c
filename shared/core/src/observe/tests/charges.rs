//! The amount of a subscription each month, or its bounds, as its events show it.

use serde_json::{Value, json};

use super::{observe_event, observe_object};
use crate::entity::recurring::{Monthly, MrrUnknown, Percent, Terms};
use crate::entity::{Entity, EntityKey, EntityKind, Update};
use crate::need::Need;
use crate::realm::Realm;

/// The subscription that these events show.
fn subscription(events: &[(&str, Value)]) -> Entity {
    let mut entity = Entity::new(&EntityKey::new(EntityKind::Subscription, "sub_1"));
    for (kind, object) in events {
        for observation in observe_object(kind, None, object).expect("readable") {
            entity.merge(&observation);
        }
    }
    entity
}

fn monthly(object: &Value) -> Monthly {
    let Entity::Subscription(entity) =
        subscription(&[("customer.subscription.updated", object.clone())])
    else {
        panic!("a subscription");
    };
    entity.mrr().expect("a state")
}

fn price(amount: i64) -> Value {
    json!({"unit_amount": amount, "currency": "usd", "product": "prod_1",
        "recurring": {"interval": "month", "interval_count": 1}})
}

fn with(item: &Value, more: &Value) -> Value {
    let mut object =
        json!({"id": "sub_1", "status": "active", "currency": "usd", "items": {"data": [item]}});
    let fields = more.as_object().expect("an object").clone();
    object.as_object_mut().expect("an object").extend(fields);
    object
}

#[test]
fn what_the_event_does_not_have_makes_a_bound() {
    let plain = json!({"price": price(10_000), "quantity": 1});
    let both = json!([plain, {"price": {"recurring": 7}, "quantity": 1}]);
    let script = json!({"id": "di_1", "source": {"type": "coupon", "coupon": {"id": "c", "duration": "forever",
        "type": "script", "script": {"id": "scr_1"}}}});
    let offer = json!({"id": "di_1", "source": {"type": "offer", "offer": "of_1"}});
    let other_duration =
        json!({"id": "di_1", "coupon": {"id": "c", "duration": "some_months", "percent_off": 50}});
    let yen = json!({"price": price(10_000), "quantity": 1});
    let tiers = json!({"price": {"unit_amount": null, "billing_scheme": "tiered", "tiers_mode": "volume",
        "recurring": {"interval": "month", "interval_count": 1}}, "quantity": 3});
    let unpriced = json!({"price": {"unit_amount": null, "billing_scheme": "per_unit", "tiers_mode": null,
        "recurring": {"interval": "month", "interval_count": 1}}, "quantity": 3});
    let at_least = |low_minor, reason| Monthly {
        low_minor,
        high_minor: None,
        reason: Some(reason),
    };
    let table = [
        (with(&plain, &json!({})), Monthly::exactly(10_000)),
        (
            with(
                &plain,
                &json!({"items": {"data": [plain], "has_more": true}}),
            ),
            at_least(10_000, MrrUnknown::Items),
        ),
        (
            with(&plain, &json!({"items": {"data": both}})),
            at_least(10_000, MrrUnknown::Price),
        ),
        (
            with(&plain, &json!({"items": 7})),
            Monthly::unknown(MrrUnknown::Items),
        ),
        (
            with(&plain, &json!({"discounts": ["di_1"]})),
            Monthly::at_most(10_000, MrrUnknown::Discount),
        ),
        (
            with(&plain, &json!({"discounts": [script]})),
            Monthly::at_most(10_000, MrrUnknown::Coupon),
        ),
        (
            with(&plain, &json!({"discounts": [other_duration]})),
            Monthly::at_most(10_000, MrrUnknown::Coupon),
        ),
        (
            with(&plain, &json!({"discounts": [offer]})),
            Monthly::at_most(10_000, MrrUnknown::Coupon),
        ),
        (
            with(&yen, &json!({"currency": "jpy"})),
            at_least(0, MrrUnknown::Currency),
        ),
        (with(&tiers, &json!({})), at_least(0, MrrUnknown::Tiers)),
        (with(&unpriced, &json!({})), at_least(0, MrrUnknown::Amount)),
        (
            with(&plain, &json!({"cancel_at": "soon"})),
            Monthly::at_most(10_000, MrrUnknown::Cancellation),
        ),
        // Nothing counts, whatever it is.
        (
            with(
                &plain,
                &json!({"discounts": ["di_1"], "status": "canceled"}),
            ),
            Monthly::exactly(0),
        ),
    ];
    for (object, expected) in table {
        assert_eq!(monthly(&object), expected, "{object}");
    }
}

#[test]
fn an_object_that_was_fetched_has_tiers_and_other_currencies() {
    let tiers = json!([
        {"up_to": 2, "unit_amount": 1000, "flat_amount": 500},
        {"up_to": 10, "unit_amount": 800},
        {"up_to": null, "unit_amount_decimal": "0.5", "flat_amount": null},
    ]);
    let tiered = |mode: &str, quantity: u64| {
        let price = json!({"unit_amount": null, "tiers_mode": mode, "tiers": tiers,
            "recurring": {"interval": "month", "interval_count": 1}});
        json!({"price": price, "quantity": quantity})
    };
    let mut priced = price(10_000);
    priced["currency_options"] =
        json!({"eur": {"unit_amount": 9000}, "usd": {"unit_amount": 10_000}});
    let item = json!({"price": priced, "quantity": 2});
    let table = [
        (with(&tiered("graduated", 1), &json!({})), 1500),
        (with(&tiered("graduated", 2), &json!({})), 2500),
        (with(&tiered("graduated", 3), &json!({})), 3300),
        (with(&tiered("graduated", 14), &json!({})), 8902),
        (with(&tiered("volume", 2), &json!({})), 2500),
        (with(&tiered("volume", 10), &json!({})), 8000),
        (with(&tiered("volume", 11), &json!({})), 6),
        (with(&item, &json!({"currency": "eur"})), 18_000),
        (with(&item, &json!({})), 20_000),
    ];
    for (object, expected) in table {
        assert_eq!(monthly(&object), Monthly::exactly(expected), "{object}");
    }
}

/// A coupon takes off what it has in the subscription's currency. Events do not have other currencies than its own.
#[test]
fn a_coupon_takes_off_its_amount_in_the_currency_of_the_subscription() {
    let mut yen = price(10_000);
    yen["currency"] = "jpy".into();
    let monthly_of = |currency: &str, options: &Value| {
        let coupon = json!({"id": "c", "duration": "forever", "amount_off": 5000, "currency": "usd",
            "currency_options": options});
        let amount = if currency == "jpy" {
            &yen
        } else {
            &price(10_000)
        };
        let item = json!({"price": amount, "quantity": 1});
        let discounts = json!([{"id": "di_1", "coupon": coupon}]);
        monthly(&with(
            &item,
            &json!({"currency": currency, "discounts": discounts}),
        ))
    };
    let cannot_be_read = Monthly::at_most(10_000, MrrUnknown::Coupon);
    let table = [
        (
            "jpy",
            json!({"jpy": {"amount_off": 700}}),
            Monthly::exactly(9300),
        ),
        (
            "jpy",
            json!({"EUR": {"amount_off": 4000}, "JPY": {"amount_off": 700}, "usd": {"amount_off": 5000}}),
            Monthly::exactly(9300),
        ),
        (
            "usd",
            json!({"jpy": {"amount_off": 700}}),
            Monthly::exactly(5000),
        ),
        (
            "jpy",
            json!({"eur": {"amount_off": 4000}}),
            Monthly::exactly(10_000),
        ),
        ("jpy", json!({}), Monthly::exactly(10_000)),
        ("jpy", json!(null), Monthly::exactly(10_000)),
        ("jpy", json!({"jpy": {"amount_off": -700}}), cannot_be_read),
        (
            "jpy",
            json!({"jpy": {"amount_off": i64::MAX}}),
            cannot_be_read,
        ),
        ("jpy", json!({"jpy": {}}), cannot_be_read),
        ("jpy", json!({"jpy": 700}), cannot_be_read),
        ("jpy", json!({"?": {"amount_off": 700}}), cannot_be_read),
        ("jpy", json!(["jpy"]), cannot_be_read),
    ];
    for (currency, options, expected) in table {
        assert_eq!(
            monthly_of(currency, &options),
            expected,
            "{currency} {options}"
        );
    }
}

/// Stripe has it among the currencies of a coupon that was fetched.
#[test]
fn the_own_currency_of_a_coupon_is_no_other() {
    let terms = |options: Value| {
        let coupon = json!({"id": "c", "duration": "forever", "amount_off": 5000, "currency": "usd",
            "currency_options": options});
        let observed = observe_object("coupon.created", None, &coupon).expect("readable");
        let Some(Update::Coupon(_, state)) = observed.last().map(|it| &it.update) else {
            panic!("a coupon");
        };
        state.facts.terms.clone()
    };
    let both = json!({"usd": {"amount_off": 5000}, "jpy": {"amount_off": 700}});
    assert_eq!(terms(both), terms(json!({"jpy": {"amount_off": 700}})));
    assert_eq!(
        terms(json!({"usd": {"amount_off": 5000}})),
        terms(json!(null))
    );
}

#[test]
fn inclusive_tax_is_no_revenue() {
    let rate = |percentage: f64, inclusive: bool| json!({"percentage": percentage, "inclusive": inclusive});
    let item = |behavior: &str, rates: Value| {
        let mut priced = price(11_900);
        priced["tax_behavior"] = behavior.into();
        json!({"price": priced, "quantity": 1, "tax_rates": rates})
    };
    let (automatic, by_default) = (
        json!({"automatic_tax": {"enabled": true}}),
        json!({"automatic_tax": {"enabled": false}, "default_tax_rates": [rate(19.0, true)]}),
    );
    let none = json!({});
    let unknown = Monthly::at_most(11_900, MrrUnknown::Tax);
    let table = [
        (
            item("inclusive", json!([])),
            &none,
            Monthly::exactly(11_900),
        ),
        (
            item("inclusive", json!([rate(19.0, true)])),
            &none,
            Monthly::exactly(10_000),
        ),
        (
            item("unspecified", json!([rate(19.0, false)])),
            &none,
            Monthly::exactly(11_900),
        ),
        (
            item("unspecified", json!([rate(14.0, true), rate(5.0, true)])),
            &none,
            Monthly::exactly(10_000),
        ),
        (
            item("unspecified", json!([])),
            &by_default,
            Monthly::exactly(10_000),
        ),
        (
            item("unspecified", json!([rate(0.0, true)])),
            &by_default,
            Monthly::exactly(11_900),
        ),
        (
            item("exclusive", json!([])),
            &automatic,
            Monthly::exactly(11_900),
        ),
        (item("inclusive", json!([])), &automatic, unknown),
        (item("unspecified", json!([])), &automatic, unknown),
        (item("inclusive", json!([7])), &none, unknown),
    ];
    for (item, more, expected) in table {
        assert_eq!(monthly(&with(&item, more)), expected, "{item} {more}");
    }
}

/// The discount is taken off what the customer pays; the rest of that is what is taxed.
#[test]
fn inclusive_tax_is_a_part_of_what_discounts_leave() {
    let coupon = json!({"id": "c", "duration": "forever", "amount_off": 1190, "currency": "usd"});
    let item = json!({"price": price(11_900), "quantity": 1, "tax_rates": [{"percentage": 19.0, "inclusive": true}]});
    let discounts = json!({"discounts": [{"id": "di_1", "coupon": coupon}]});
    assert_eq!(monthly(&with(&item, &discounts)), Monthly::exactly(9000));
}

/// Case: the default since basil is a discount by its id; its own event, or an earlier one, shows what it is.
#[test]
fn a_discount_by_its_id_counts_once_any_event_has_shown_it() {
    let coupon = json!({"id": "half", "duration": "forever", "percent_off": 50});
    let item = json!({"price": price(10_000), "quantity": 1});
    let by_id = (
        "customer.subscription.updated",
        with(&item, &json!({"discounts": ["di_1"]})),
    );
    let discount = |more: Value| {
        let mut object =
            json!({"id": "di_1", "object": "discount", "subscription": "sub_1", "end": null});
        let fields = more.as_object().expect("an object").clone();
        object.as_object_mut().expect("an object").extend(fields);
        ("customer.discount.created", object)
    };
    let inline = with(
        &item,
        &json!({"discounts": [{"id": "di_1", "coupon": coupon}]}),
    );
    let table = [
        (discount(json!({"coupon": coupon})), Monthly::exactly(5000)),
        (
            discount(json!({"source": {"type": "coupon", "coupon": coupon}})),
            Monthly::exactly(5000),
        ),
        (
            discount(json!({"source": {"type": "coupon", "coupon": "half"}})),
            Monthly::at_most(10_000, MrrUnknown::Discount),
        ),
        // It ends, whatever its coupon is.
        (
            discount(json!({"coupon": "half", "end": 2000})),
            Monthly::exactly(10_000),
        ),
        (
            discount(json!({"coupon": coupon, "subscription": null})),
            Monthly::at_most(10_000, MrrUnknown::Discount),
        ),
        (
            ("customer.subscription.created", inline),
            Monthly::exactly(5000),
        ),
    ];
    for ((kind, object), expected) in table {
        let shown = (kind, object);
        for order in [[&by_id, &shown], [&shown, &by_id]] {
            let events = order.map(|(kind, object)| (*kind, object.clone()));
            let Entity::Subscription(entity) = subscription(&events) else {
                panic!("a subscription");
            };
            assert_eq!(entity.mrr(), Some(expected), "{shown:?}");
        }
    }
}

/// Case: the event of a discount shows its coupon without other currencies, the fetched subscription with them.
#[test]
fn a_currency_of_a_coupon_counts_once_any_event_has_shown_it() {
    let coupon = |options: Value| {
        json!({"id": "c", "duration": "forever", "amount_off": 5000, "currency": "usd",
            "currency_options": options})
    };
    let mut yen = price(10_000);
    yen["currency"] = "jpy".into();
    let subscription_with = |discount: Value| {
        let item = json!({"price": yen, "quantity": 1});
        with(&item, &json!({"currency": "jpy", "discounts": [discount]}))
    };
    let fetched = json!({"id": "di_1", "coupon": coupon(json!({"jpy": {"amount_off": 700}}))});
    let events = [
        (
            "customer.subscription.created",
            subscription_with(json!("di_1")),
        ),
        (
            "customer.discount.created",
            json!({"id": "di_1", "object": "discount", "subscription": "sub_1", "coupon": coupon(json!(null))}),
        ),
        ("customer.subscription.updated", subscription_with(fetched)),
    ];
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let Entity::Subscription(entity) = subscription(&order.map(|i| events[i].clone())) else {
            panic!("a subscription");
        };
        assert_eq!(entity.mrr(), Some(Monthly::exactly(9300)), "{order:?}");
    }
}

/// Case: the discount's own event came before the subscription, and its coupon is limited to one of two products.
#[test]
fn to_which_of_several_products_a_coupon_applies_is_known_once_the_subscription_is_fetched() {
    let coupon = |applies_to: Value| json!({"id": "c", "duration": "forever", "percent_off": 50, "applies_to": applies_to});
    let items = json!({"data": [
        {"price": price(2000), "quantity": 1},
        {"price": {"unit_amount": 2000, "currency": "usd", "product": "prod_2",
            "recurring": {"interval": "month", "interval_count": 1}}, "quantity": 1}]});
    let with_discount = |discount: Value| json!({"id": "sub_1", "status": "active", "currency": "usd", "items": items, "discounts": [discount]});
    let of_discount = json!({"id": "di_1", "object": "discount", "subscription": "sub_1", "coupon": coupon(json!(null))});
    let webhooks = [
        ("evt_1", "customer.discount.created", of_discount),
        (
            "evt_2",
            "customer.subscription.created",
            with_discount(json!("di_1")),
        ),
    ];
    let fetched = |applies_to| {
        let discount = json!({"id": "di_1", "coupon": coupon(applies_to)});
        (
            "evt_refresh_1",
            "customer.subscription.updated",
            with_discount(discount),
        )
    };
    let mrr = |events: &[&(&str, &str, Value)]| {
        let mut entity = Entity::new(&EntityKey::new(EntityKind::Subscription, "sub_1"));
        for (id, kind, object) in events {
            for observation in observe_event(id, kind, None, object).expect("readable") {
                entity.merge(&observation);
            }
        }
        let Entity::Subscription(subscription) = &entity else {
            panic!("a subscription");
        };
        let needs: Vec<_> = entity.conditions().iter().flat_map(Need::of).collect();
        (subscription.mrr().expect("a state"), needs.len())
    };
    let bounds = Monthly {
        low_minor: 2000,
        high_minor: Some(4000),
        reason: Some(MrrUnknown::Products),
    };
    let [discount, created] = &webhooks;
    let table = [(json!({"products": ["prod_1"]}), 3000), (json!(null), 2000)];
    for (applies_to, expected_minor) in table {
        let fetched = fetched(applies_to);
        for order in [[discount, created], [created, discount]] {
            assert_eq!(mrr(&order), (bounds, 1));
        }
        for order in [[discount, created, &fetched], [&fetched, created, discount]] {
            assert_eq!(mrr(&order), (Monthly::exactly(expected_minor), 0));
        }
    }
    // The second product may be metered.
    let mut metered = created.2.clone();
    metered["items"]["data"][1]["price"]["recurring"]["usage_type"] = json!("metered");
    let of_metered = (created.0, created.1, metered);
    let expected = Monthly {
        low_minor: 1000,
        high_minor: Some(2000),
        reason: Some(MrrUnknown::Products),
    };
    assert_eq!(mrr(&[discount, &of_metered]), (expected, 1));
    // A webhook leaves the products out, also where it has the coupon.
    let inline = json!({"id": "di_1", "coupon": coupon(json!(null))});
    let inline = (
        "evt_3",
        "customer.subscription.updated",
        with_discount(inline),
    );
    assert_eq!(mrr(&[&inline]), (bounds, 1));
}

#[test]
fn events_of_coupons_and_promotion_codes_show_a_coupon() {
    let coupon = json!({"id": "half", "duration": "forever", "percent_off": 50});
    let terms = Terms {
        is_forever: true,
        percent_off: Percent::of(50.into()),
        ..Terms::default()
    };
    let table = [
        ("coupon.created", coupon.clone(), true),
        ("coupon.deleted", coupon.clone(), true),
        (
            "promotion_code.created",
            json!({"id": "promo_1", "coupon": coupon}),
            true,
        ),
        (
            "promotion_code.updated",
            json!({"id": "promo_1", "promotion": {"type": "coupon", "coupon": coupon}}),
            true,
        ),
        (
            "promotion_code.created",
            json!({"id": "promo_1", "promotion": {"type": "coupon", "coupon": "half"}}),
            false,
        ),
    ];
    for (kind, object, is_shown) in table {
        let observed = observe_object(kind, Some("acct_1"), &object).expect("readable");
        let observed: Vec<_> = observed
            .iter()
            .filter(|it| it.key.kind == EntityKind::Coupon)
            .collect();
        assert_eq!(!observed.is_empty(), is_shown, "{kind} {object}");
        let Some(Update::Coupon(account, state)) = observed.first().map(|it| &it.update) else {
            continue;
        };
        assert_eq!(
            (account.as_deref(), &state.facts.terms),
            (Some("acct_1"), &terms)
        );
        assert_eq!(state.facts.deleted, kind == "coupon.deleted");
        let kernel = Realm::named("kernel").expect("a name");
        let of_kernel = observed[0].clone().of(&kernel);
        assert_eq!(of_kernel.key.id, "kernel/acct_1/half");
    }
}
