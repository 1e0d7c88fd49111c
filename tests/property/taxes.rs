//! Critical property of inclusive tax, which other objects show: the state of a subscription is a function of the
//! set of its events and of the invoices that were fetched for it.

use fastrand::Rng;
use revwatch_core::entity::{Entity, EntityKey, EntityKind, Observation};
use revwatch_core::event::Event;
use revwatch_core::observe::{ObserveSettings, observe};
use serde_json::{Value, json};

use super::unions::two_parts;

fn observed(body: &Value) -> Vec<Observation> {
    let body = body.to_string();
    let event = Event::parse(body.as_bytes()).expect("an event");
    observe(&event, &ObserveSettings::default()).expect("readable")
}

fn one_of<'a>(rng: &mut Rng, all: &[&'a str]) -> &'a str {
    all[rng.usize(..all.len())]
}

const INVOICES: [&str; 4] = ["in_1", "in_2", "in_3", "in_4"];

/// A state, with items at some of two prices.
fn subscription(n: usize, rng: &mut Rng) -> Value {
    let item = |item: &str, rng: &mut Rng| {
        let price = json!({"id": one_of(rng, &["price_1", "price_2"]), "unit_amount": 100 * rng.i64(1..200), "currency": "eur",
            "recurring": {"interval": one_of(rng, &["month", "year"]), "interval_count": 1}});
        json!({"id": item, "quantity": rng.u8(1..3), "price": price})
    };
    let items = json!({"data": [item("si_1", rng), item("si_2", rng)]});
    let object = json!({"id": "sub_1", "status": "active", "currency": "eur", "items": items,
        "automatic_tax": {"enabled": rng.u8(..4) > 0}, "latest_invoice": one_of(rng, &INVOICES)});
    json!({"id": format!("evt_{n}"), "type": "customer.subscription.updated", "created": 1000 + rng.i64(0..9),
        "data": {"object": object}})
}

/// An invoice that was fetched for it, in either form; two of one id may contradict each other.
fn invoice(n: usize, rng: &mut Rng) -> Value {
    let line = |item: &str, rng: &mut Rng| {
        let (tax, price) = (rng.i64(0..100), one_of(rng, &["price_1", "price_2"]));
        if rng.bool() {
            json!({"amount": 500, "subscription_item": item, "proration": false, "price": {"id": price},
                "tax_amounts": [{"amount": tax, "inclusive": true}]})
        } else {
            json!({"amount": 500, "pricing": {"price_details": {"price": price}},
                "parent": {"subscription_item_details": {"subscription_item": item, "proration": false}},
                "taxes": [{"amount": tax, "tax_behavior": "inclusive"}]})
        }
    };
    let lines = json!({"data": [line("si_1", rng), line("si_2", rng), line("si_1", rng)]});
    let object = json!({"id": one_of(rng, &INVOICES), "status": one_of(rng, &["draft", "open", "paid"]),
        "created": 900 + rng.i64(0..3), "lines": lines});
    json!({"id": format!("evt_refresh_{n}"), "type": "invoice.updated", "created": 1000 + rng.i64(0..9),
        "data": {"object": object}, "related_object": {"id": "sub_1", "type": "subscription"}})
}

fn built<'a>(observed: impl IntoIterator<Item = &'a Observation>) -> Entity {
    let mut entity = Entity::new(&EntityKey::new(EntityKind::Subscription, "sub_1"));
    observed.into_iter().for_each(|it| entity.merge(it));
    entity
}

#[test]
fn in_any_order_and_any_parts_the_tax_is_the_same() {
    let first = fastrand::u64(..u64::MAX / 2);
    eprintln!("seeds from {first}");
    for seed in first..first + 300 {
        let mut rng = Rng::with_seed(seed);
        let bodies = (0..10).map(|n| match n % 2 {
            0 => subscription(n, &mut rng),
            _ => invoice(n, &mut rng),
        });
        let all: Vec<Observation> = bodies
            .collect::<Vec<_>>()
            .iter()
            .flat_map(observed)
            .collect();
        let expected = built(&all);
        let decoded = Entity::decode(&expected.key(), &expected.encode());
        assert_eq!(decoded.as_ref(), Ok(&expected), "seed {seed}");
        let mut repeated: Vec<&Observation> = all.iter().chain(&all).collect();
        rng.shuffle(&mut repeated);
        let shuffled = built(repeated);
        assert_eq!(shuffled.encode(), expected.encode(), "seed {seed}");
        assert_eq!(shuffled.contributions(), expected.contributions());
        let (one, other) = two_parts(&all, &mut rng);
        let (mut one, other) = (built(one), built(other));
        one.union(&other);
        assert_eq!(one.encode(), expected.encode(), "seed {seed}");
    }
}
