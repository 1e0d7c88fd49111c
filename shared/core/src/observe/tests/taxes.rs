//! Inclusive tax that only an invoice says, in both forms.

use serde_json::{Value, json};

use super::*;
use crate::condition::{Condition, ConditionKind};
use crate::entity::EntityKey;
use crate::entity::invoice::Invoice;
use crate::entity::recurring::{ItemTax, Monthly, MrrUnknown};
use crate::entity::subscription::Subscription;
use crate::need::{Need, Stored};

/// A line of 119.00 with 19 % VAT, up to acacia.
fn old_line(more: &Value) -> Value {
    let tax =
        json!({"amount": 1900, "inclusive": true, "tax_rate": "txr_1", "taxable_amount": 10_000});
    let line = json!({"id": "il_1", "object": "line_item", "amount": 11_900, "type": "subscription", "proration": false,
        "subscription": "sub_1", "subscription_item": "si_1", "quantity": 1, "discount_amounts": [],
        "price": {"id": "price_1", "object": "price", "unit_amount": 11_900}, "tax_amounts": [tax], "tax_rates": []});
    with(line, more)
}

/// The same from basil on.
fn line(more: &Value) -> Value {
    let details = json!({"subscription": "sub_1", "subscription_item": "si_1", "proration": false, "invoice_item": null});
    let tax = json!({"amount": 1900, "tax_behavior": "inclusive", "taxable_amount": 10_000, "type": "tax_rate_details"});
    let line = json!({"id": "il_1", "object": "line_item", "amount": 11_900, "quantity": 1, "discount_amounts": [],
        "parent": {"type": "subscription_item_details", "invoice_item_details": null, "subscription_item_details": details},
        "pricing": {"type": "price_details", "price_details": {"price": "price_1", "product": "prod_1"}},
        "pretax_credit_amounts": [], "taxes": [tax]});
    with(line, more)
}

fn with(mut object: Value, more: &Value) -> Value {
    let more = more.as_object().expect("an object").clone();
    object.as_object_mut().expect("an object").extend(more);
    object
}

fn invoice(lines: &[Value], more: &Value) -> Value {
    let automatic = json!({"enabled": true, "status": "complete"});
    let object = json!({"id": "in_1", "object": "invoice", "created": 900, "status": "open", "amount_due": 11_900,
        "amount_paid": 0, "automatic_tax": automatic, "lines": {"object": "list", "data": lines, "has_more": false}});
    with(object, more)
}

/// The invoice as one that was fetched for `sub_1`.
fn fetched(object: &Value) -> Vec<Observation> {
    let body = json!({"id": "evt_refresh_1", "type": "invoice.updated", "created": 1000, "data": {"object": object},
        "related_object": {"id": "sub_1", "type": "subscription"}})
    .to_string();
    let event = Event::parse(body.as_bytes()).expect("an event");
    observe(&event, &ObserveSettings::default()).expect("readable")
}

fn item(unit_amount: i64, quantity: u64) -> Value {
    let price = json!({"id": "price_1", "unit_amount": unit_amount, "currency": "eur", "tax_behavior": "inclusive",
        "product": "prod_1", "recurring": {"interval": "month", "interval_count": 1}});
    json!({"id": "si_1", "price": price, "quantity": quantity})
}

fn subscription(item: &Value, more: &Value) -> Vec<Observation> {
    let object = json!({"id": "sub_1", "status": "active", "currency": "eur", "latest_invoice": "in_1",
        "automatic_tax": {"enabled": true}, "items": {"data": [item]}});
    let kind = "customer.subscription.updated";
    observe_object(kind, None, &with(object, more)).expect("readable")
}

fn entity<'a>(all: impl IntoIterator<Item = &'a Observation>) -> Subscription {
    let mut entity = Entity::new(&EntityKey::new(EntityKind::Subscription, "sub_1"));
    all.into_iter()
        .for_each(|observation| entity.merge(observation));
    let Entity::Subscription(subscription) = entity else {
        panic!("a subscription");
    };
    subscription
}

fn monthly(subscription: &[Observation], invoices: &[Vec<Observation>]) -> Monthly {
    let all = invoices.iter().flatten().chain(subscription);
    entity(all).mrr().expect("a state")
}

fn stored(object: &Value) -> Invoice {
    let mut entity = Entity::new(&EntityKey::new(EntityKind::Invoice, "in_1"));
    for observation in observe_object("invoice.updated", None, object).expect("readable") {
        entity.merge(&observation);
    }
    let Entity::Invoice(invoice) = entity else {
        panic!("an invoice");
    };
    invoice
}

fn needs(subscription: &Subscription) -> Vec<Condition> {
    let mut conditions = Entity::Subscription(subscription.clone()).conditions();
    conditions.retain(|condition| condition.key.kind == ConditionKind::InvoiceNeeded);
    conditions
}

fn bounds(low_minor: i64, high_minor: i64) -> Monthly {
    Monthly {
        low_minor,
        high_minor: Some(high_minor),
        reason: Some(MrrUnknown::Tax),
    }
}

#[test]
fn a_line_says_how_much_of_its_item_is_tax() {
    // A change of the line, what is invoiced, what of it is taxed, and the tax.
    let table = [
        (json!({}), Some((11_900, 11_900, 1900))),
        (
            json!({"amount": 23_800, "discount_amounts": [{"amount": 11_900, "discount": "di_1"}]}),
            Some((23_800, 11_900, 1900)),
        ),
        (
            json!({"amount": 23_800, "discount_amounts": [{"amount": 900}], "pretax_credit_amounts": [{"amount": 900,
                "type": "discount"}, {"amount": 11_000, "type": "credit_balance_transaction"}]}),
            Some((23_800, 11_900, 1900)),
        ),
        // A trial, and a discount of everything.
        (json!({"amount": 0, "tax_amounts": [], "taxes": []}), None),
        (json!({"discount_amounts": [{"amount": 11_900}]}), None),
        (
            json!({"tax_amounts": [], "taxes": []}),
            Some((11_900, 11_900, 0)),
        ),
        (json!({"tax_amounts": null, "taxes": null}), None),
        (json!({"tax_amounts": [7], "taxes": [7]}), None),
        (json!({"amount": "odd"}), None),
        (json!({"discount_amounts": 7}), None),
    ];
    for (change, expected) in table {
        for line in [old_line, line] {
            let object = invoice(&[line(&change)], &json!({}));
            let expected = expected.map(|(amount, taxed, tax)| {
                json!({"amount_minor": amount, "taxed_minor": taxed, "tax_minor": tax})
            });
            let known = entity(&fetched(&object)).origin.taxes;
            assert!(known.is_of("in_1"), "{object}");
            let invoiced = known.invoiced("si_1", "price_1");
            assert_eq!(invoiced.map(|it| json!(it)), expected, "{object}");
        }
    }
}

#[test]
fn only_exclusive_tax_is_no_inclusive_one_and_several_add_up() {
    let old = |taxes: &[(i64, bool)]| {
        let taxes = taxes
            .iter()
            .map(|(amount, inclusive)| json!({"amount": amount, "inclusive": inclusive}));
        old_line(&json!({"tax_amounts": taxes.collect::<Vec<_>>()}))
    };
    let new = |taxes: &[(i64, bool)]| {
        let behavior = |inclusive| if inclusive { "inclusive" } else { "exclusive" };
        let taxes = taxes.iter().map(
            |(amount, inclusive)| json!({"amount": amount, "tax_behavior": behavior(*inclusive)}),
        );
        line(&json!({"taxes": taxes.collect::<Vec<_>>()}))
    };
    let table: [(&[_], i64); 3] = [
        (&[(2000, false)], 0),
        (&[(1000, true), (900, true)], 1900),
        (&[(1900, true), (500, false)], 1900),
    ];
    for (taxes, expected) in table {
        for line in [old(taxes), new(taxes)] {
            let known = entity(&fetched(&invoice(&[line], &json!({})))).origin.taxes;
            let invoiced = known.invoiced("si_1", "price_1").expect("known");
            assert_eq!(invoiced.tax_minor, expected);
        }
    }
}

/// A proration is of a part of the interval; the lines of tiers are of one item.
#[test]
fn prorations_say_nothing_and_the_lines_of_an_item_add_up() {
    let proration = json!({"subscription_item": "si_1", "proration": true});
    let prorations = [
        old_line(&json!({"proration": true, "amount": 700})),
        old_line(&json!({"proration": null})),
        line(&json!({"parent": {"subscription_item_details": proration}})),
        line(
            &json!({"parent": {"invoice_item_details": proration, "subscription_item_details": null}}),
        ),
    ];
    for proration in prorations {
        let known = |lines: &[Value]| entity(&fetched(&invoice(lines, &json!({})))).origin.taxes;
        let alone = known(std::slice::from_ref(&proration));
        assert_eq!(alone.invoiced("si_1", "price_1"), None, "{proration}");
        let tier =
            line(&json!({"amount": 1190, "taxes": [{"amount": 190, "tax_behavior": "inclusive"}]}));
        let all = known(&[line(&json!({})), proration, tier]);
        let invoiced = all.invoiced("si_1", "price_1").expect("known");
        assert_eq!((invoiced.amount_minor, invoiced.tax_minor), (13_090, 2090));
        let odd = known(&[line(&json!({})), line(&json!({"amount": "odd"}))]);
        assert_eq!(odd.invoiced("si_1", "price_1"), None);
    }
}

/// B1, K11: decision by the newest invoice, whichever event comes first.
#[test]
fn the_tax_of_a_subscription_is_what_its_invoice_says() {
    let invoices = [
        fetched(&invoice(&[line(&json!({}))], &json!({}))),
        fetched(&invoice(&[old_line(&json!({}))], &json!({}))),
    ];
    let half =
        json!({"id": "di_1", "coupon": {"id": "half", "duration": "forever", "percent_off": 50}});
    let off =
        json!({"id": "di_2", "coupon": {"id": "off", "duration": "forever", "amount_off": 1190}});
    let (plain, none) = (item(11_900, 1), json!({}));
    let mut yearly = plain.clone();
    yearly["price"]["recurring"]["interval"] = json!("year");
    let mut other_price = plain.clone();
    other_price["price"]["id"] = json!("price_2");
    let mut other_item = plain.clone();
    other_item["id"] = json!("si_2");
    let table = [
        (subscription(&plain, &none), Monthly::exactly(10_000)),
        (subscription(&yearly, &none), Monthly::exactly(833)),
        // Discounts come first: 5950 and 10710, of which 19 % of the rest is tax.
        (
            subscription(&plain, &json!({"discounts": [half]})),
            Monthly::exactly(5000),
        ),
        // The invoice was without the discount, or of another quantity: the share is known to a minor unit of the invoice.
        (
            subscription(&plain, &json!({"discounts": [off]})),
            bounds(8_999, 9_001),
        ),
        (
            subscription(&item(11_900, 3), &none),
            bounds(29_997, 30_003),
        ),
        (subscription(&other_price, &none), bounds(0, 11_900)),
        (subscription(&other_item, &none), bounds(0, 11_900)),
    ];
    for (subscription, expected) in table {
        assert_eq!(monthly(&subscription, &[]).low_minor, 0);
        for invoice in &invoices {
            let found = monthly(&subscription, std::slice::from_ref(invoice));
            assert_eq!(found, expected);
            let late = entity(subscription.iter().chain(invoice));
            assert_eq!(late.mrr(), Some(expected));
        }
    }
}

#[test]
fn what_an_older_invoice_said_counts_until_the_newest_is_known() {
    let of = |id: &str, created_s: i64, tax: i64| {
        let line = line(&json!({"taxes": [{"amount": tax, "tax_behavior": "inclusive"}]}));
        fetched(&invoice(&[line], &json!({"id": id, "created": created_s})))
    };
    let (first, second) = (of("in_1", 900, 1900), of("in_2", 950, 2065));
    let current = subscription(&item(11_900, 1), &json!({"latest_invoice": "in_2"}));
    let before = entity(first.iter().chain(&current));
    assert_eq!(before.mrr(), Some(Monthly::exactly(10_000)));
    let [needed] = needs(&before).try_into().expect("one");
    assert_eq!(needed.detail.as_deref(), Some("in_2"));
    for order in [[&first, &second, &current], [&current, &second, &first]] {
        let after = entity(order.into_iter().flatten());
        assert_eq!(after.mrr(), Some(Monthly::exactly(9835)));
        assert_eq!(needs(&after), []);
    }
}

fn named(created_s: i64, item: &Value, latest_invoice: &str) -> Vec<Observation> {
    let object = json!({"id": "sub_1", "status": "active", "currency": "eur", "latest_invoice": latest_invoice,
        "automatic_tax": {"enabled": true}, "items": {"data": [item]}});
    let body = json!({"id": format!("evt_{created_s}"), "type": "customer.subscription.updated", "created": created_s,
        "data": {"object": object}});
    let body = body.to_string();
    let event = Event::parse(body.as_bytes()).expect("an event");
    observe(&event, &ObserveSettings::default()).expect("readable")
}

/// Whether events come one by one, so that each invoice is looked up while it is the newest, or all at once.
#[test]
fn while_the_newest_invoice_does_not_say_the_tax_the_ones_before_it_are_needed() {
    let (plain, mut dearer) = (item(11_900, 1), item(23_800, 1));
    dearer["price"]["id"] = json!("price_2");
    let proration = line(&json!({"parent": {"subscription_item_details":
        {"subscription_item": "si_1", "proration": true}}}));
    let of = |id: &str, created_s: i64, line: &Value| {
        fetched(&invoice(
            std::slice::from_ref(line),
            &json!({"id": id, "created": created_s}),
        ))
    };
    let renewal = of("in_1", 900, &line(&json!({})));
    let upgrade = of("in_2", 1000, &proration);
    let states = [
        named(800, &dearer, "in_0"),
        named(900, &plain, "in_1"),
        named(1000, &plain, "in_2"),
        named(1100, &plain, "in_3"),
    ];
    let after = |invoices: &[&Vec<Observation>]| {
        let entity = entity(states.iter().chain(invoices.iter().copied()).flatten());
        let needed = needs(&entity).pop().and_then(|condition| condition.detail);
        (needed, entity.mrr().expect("a state"))
    };
    let named = |ids: &str| Some(ids.to_owned());
    assert_eq!(after(&[]), (named("in_3,in_2,in_1"), bounds(0, 11_900)));
    assert_eq!(after(&[&upgrade]), (named("in_3,in_1"), bounds(0, 11_900)));
    let known = Monthly::exactly(10_000);
    assert_eq!(after(&[&renewal]), (named("in_3"), known));
    let newest = of("in_3", 1100, &proration);
    assert_eq!(after(&[&newest, &renewal]), (None, known));
}

#[test]
fn an_invoice_is_needed_only_where_its_tax_counts() {
    let (plain, none) = (item(11_900, 1), json!({}));
    let mut exclusive = plain.clone();
    exclusive["price"]["tax_behavior"] = json!("exclusive");
    let table = [
        (subscription(&plain, &none), 1),
        (subscription(&exclusive, &none), 0),
        (
            subscription(&plain, &json!({"automatic_tax": {"enabled": false}})),
            0,
        ),
        (subscription(&plain, &json!({"status": "trialing"})), 0),
        (subscription(&plain, &json!({"latest_invoice": null})), 0),
        (
            subscription(&plain, &json!({"latest_invoice": {"id": "in_1"}})),
            1,
        ),
    ];
    for (observed, expected) in table {
        let entity = entity(&observed);
        let conditions = needs(&entity);
        assert_eq!(conditions.len(), expected, "{observed:?}");
        for condition in conditions {
            let [need] = Need::of(&condition).try_into().expect("one");
            assert_eq!((need.kind, need.id.as_str()), (EntityKind::Invoice, "in_1"));
        }
        // Nothing else keeps it.
        let kept = entity.current().and_then(|facts| facts.charges.as_ref());
        let has_tax = kept.is_some_and(|charges| charges.lines.iter().any(|it| it.has_unknown_tax));
        let invoice = kept.and_then(|charges| charges.latest_invoice.as_ref());
        assert!(has_tax || invoice.is_none());
    }
}

#[test]
fn an_amount_of_before_automatic_tax_is_none_with_it() {
    let event = |id: &str, created_s: i64, enabled: bool, previous: Value| {
        let object = json!({"id": "sub_1", "status": "active", "currency": "eur", "latest_invoice": "in_1",
            "automatic_tax": {"enabled": enabled}, "items": {"data": [item(11_900, 1)]}});
        let data = json!({"object": object, "previous_attributes": previous});
        let body = json!({"id": id, "type": "customer.subscription.updated", "created": created_s, "data": data});
        let body = body.to_string();
        let event = Event::parse(body.as_bytes()).expect("an event");
        observe(&event, &ObserveSettings::default()).expect("readable")
    };
    let before = json!({"automatic_tax": {"enabled": false}});
    let events = [
        event("evt_1", 1000, false, json!({})),
        event("evt_2", 1001, true, before),
    ];
    let of_both = entity(events.iter().flatten());
    assert_eq!(of_both.mrr(), Some(bounds(0, 11_900)));
    let invoice = fetched(&invoice(&[line(&json!({}))], &json!({})));
    let all = entity(events.iter().flatten().chain(&invoice));
    assert_eq!(all.mrr(), Some(Monthly::exactly(10_000)));
}

/// The lines of a draft may change; those of a failed calculation lack their tax; those of a page may lack some
/// of an item.
#[test]
fn only_an_invoice_that_is_final_calculated_and_complete_says_anything() {
    let lines = [line(&json!({}))];
    let draft = invoice(&lines, &json!({"status": "draft"}));
    assert_eq!(fetched(&draft), []);
    assert_eq!(stored(&draft).origin.taxes, None);
    let page = json!({"lines": {"data": lines, "has_more": true}});
    assert_eq!(stored(&invoice(&lines, &page)).origin.taxes, None);
    let automatic = |value: Value| json!({"automatic_tax": value});
    let table = [
        (
            automatic(json!({"enabled": true, "status": "complete"})),
            true,
        ),
        (automatic(json!({"enabled": false, "status": null})), true),
        (automatic(json!(null)), true),
        (
            automatic(json!({"enabled": true, "status": "failed"})),
            false,
        ),
        (automatic(json!({"enabled": true, "status": null})), false),
        (automatic(json!(7)), false),
        (page, false),
    ];
    for (more, is_known) in table {
        let object = invoice(&lines, &more);
        let known = entity(&fetched(&object)).origin.taxes;
        assert_eq!(known.invoiced("si_1", "price_1").is_some(), is_known);
        assert!(known.is_of("in_1"), "it will not say more");
        assert_eq!(stored(&object).origin.taxes.is_some(), is_known);
    }
}

#[test]
fn an_invoice_stores_its_taxes_if_some_are_inclusive_and_shows_them_as_stripe_does() {
    let exclusive = json!({"taxes": [{"amount": 5, "tax_behavior": "exclusive"}]});
    let other = json!({"subscription_item": "si_2", "proration": false});
    let second = with(
        exclusive.clone(),
        &json!({"parent": {"subscription_item_details": other}}),
    );
    let need = Need {
        kind: EntityKind::Invoice,
        id: "in_1".to_owned(),
        account: None,
        realm: crate::realm::Realm::MAIN,
    };
    let resolved =
        |invoice: &Invoice, by_others| need.resolve(&Entity::Invoice(invoice.clone()), by_others);
    let without = stored(&invoice(&[line(&exclusive)], &json!({})));
    assert_eq!(without.origin.taxes, None);
    assert_eq!(resolved(&without, true), Stored::Unknown);
    assert_eq!(resolved(&without, false), Stored::Met);
    let draft = stored(&invoice(&[line(&json!({}))], &json!({"status": "draft"})));
    assert_eq!(resolved(&draft, true), Stored::Met, "Stripe knows no more");
    // A tax of nothing is a tax, too.
    let nothing = json!({"taxes": [{"amount": 0, "tax_behavior": "inclusive"}]});
    for first in [
        json!({}),
        nothing,
        json!({"discount_amounts": [{"amount": 100}]}),
    ] {
        let object = invoice(&[line(&first), line(&second)], &json!({}));
        let invoice = stored(&object);
        let items: Option<Vec<&ItemTax>> = invoice
            .origin
            .taxes
            .as_ref()
            .map(|it| it.items.iter().collect());
        assert_eq!(items.map_or(0, |items| items.len()), 2);
        let Stored::Object(shown) = resolved(&invoice, true) else {
            panic!("{object}");
        };
        let shown: Value = serde_json::from_str(&shown).expect("JSON");
        assert_eq!(fetched(&shown), fetched(&object), "{shown}");
    }
}

#[test]
fn the_items_that_are_stored_are_bounded() {
    let lines: Vec<_> = (0..120)
        .map(|n| {
            let details = json!({"subscription_item": format!("si_{n:03}"), "proration": false});
            line(&json!({"parent": {"subscription_item_details": details}}))
        })
        .collect();
    let taxes = stored(&invoice(&lines, &json!({})))
        .origin
        .taxes
        .expect("stored");
    assert_eq!(taxes.items.len(), 100);
}
