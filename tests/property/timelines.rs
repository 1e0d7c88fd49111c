//! What one may doubt of a timeline: that it forgets alike whatever the order, that what is derived from
//! forgotten events stays, and that a crowded second is put in order quickly.

use std::time::Duration;

use fastrand::Rng;
use revwatch_shared::counters::{Bucket, hour_of};
use revwatch_shared::entity::{Entity, EntityKey, EntityKind, Observation};
use revwatch_shared::event::Event;
use revwatch_shared::observe::{Plans, observe};
use serde_json::{Value, json};

fn read(created_s: i64, id: usize, kind: &str, object: &Value, previous: Option<&Value>) -> Observation {
    let body = json!({"id": format!("evt_{id:03}"), "type": kind, "created": created_s, "data": {"object": object, "previous_attributes": previous}});
    let body = body.to_string();
    let event = Event::parse(body.as_bytes()).expect("an event");
    observe(&event, &Plans::default()).expect("readable").remove(0)
}

fn built<'a>(key: &EntityKey, told: impl IntoIterator<Item = &'a Observation>) -> Entity {
    let mut entity = Entity::new(key);
    told.into_iter().for_each(|observation| entity.merge(observation));
    entity
}

fn subscription(status: &str, quantity: usize) -> Value {
    json!({"id": "sub_1", "status": status, "currency": "usd", "items": {"data": [{"quantity": quantity, "price":
        {"unit_amount": 100, "recurring": {"interval": "month", "interval_count": 1, "usage_type": "licensed"}}}]}})
}

/// Many more events than are kept, some in crowded seconds, in random orders with repeats.
#[test]
fn what_is_forgotten_depends_on_the_set_alone() {
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let mut rng = Rng::with_seed(seed);
    let account = |n: usize| {
        json!({"id": "acct_1", "created": 50, "country": "DE", "charges_enabled": n == 3, "payouts_enabled": n.is_multiple_of(5),
            "details_submitted": n == 4, "requirements": {"currently_due": vec!["x"; n % 3], "past_due": []}})
    };
    let capability = |n: usize| json!({"id": "transfers", "account": "acct_1", "status": if n.is_multiple_of(2) { "active" } else { "pending" }});
    let told: Vec<Observation> = (0..120)
        .map(|n| {
            let at_s = 1000 + i64::try_from(n / 7).expect("small") * 3;
            if n % 4 == 1 {
                read(at_s, n * 37 % 120, "capability.updated", &capability(n), None)
            } else {
                read(at_s, n * 37 % 120, "account.updated", &account(n), None)
            }
        })
        .collect();
    let key = EntityKey::new(EntityKind::Account, "acct_1");
    let truth = built(&key, &told);
    // Charges were enabled in an event that is forgotten by now; the milestone is not.
    assert_eq!(truth.contributions().get(Bucket::Standing, &["funnel", "charges_enabled"]), 1);
    for _ in 0..200 {
        let mut order: Vec<&Observation> = told.iter().chain(told.iter().filter(|_| rng.bool())).collect();
        rng.shuffle(&mut order);
        assert_eq!(built(&key, order).encode(), truth.encode());
    }
}

/// A subscription that changes every day was not gained anew whenever its beginning is forgotten.
#[test]
fn a_forgotten_beginning_is_no_gain() {
    let told: Vec<Observation> = (0..100_usize)
        .map(|day| {
            let kind = if day == 0 { "customer.subscription.created" } else { "customer.subscription.updated" };
            read(86_400 * i64::try_from(day).expect("small"), day, kind, &subscription("active", 10 + day), None)
        })
        .collect();
    let key = EntityKey::new(EntityKind::Subscription, "sub_1");
    let counters = built(&key, &told).contributions();
    assert_eq!(counters.get(Bucket::Standing, &["base", "paying"]), 1);
    for hour in 1..=hour_of(100 * 86_400) {
        assert_eq!(counters.get(Bucket::Hour(hour), &["churn", "gained"]), 0, "hour {hour}");
        assert!(counters.get(Bucket::Hour(hour), &["mrr_change", "usd"]) <= 100, "hour {hour}");
    }
    // One that is whole begins where it began.
    let counters = built(&key, &told[..20]).contributions();
    assert_eq!(counters.get(Bucket::Hour(0), &["churn", "gained"]), 1);
}

/// Circles that meet in one state: who takes the first way out at a crossing ends in the wrong place.
#[test]
fn a_crowded_second_with_crossings_ends_where_it_truly_did() {
    let walk = [
        "active", "past_due", "active", "unpaid", "active", "paused", "active", "trialing", "unpaid", "past_due",
        "paused",
    ];
    let told: Vec<Observation> = walk
        .iter()
        .enumerate()
        .map(|(i, status)| match i.checked_sub(1) {
            None => read(5, 99, "customer.subscription.created", &subscription(status, 1), None),
            // The way that leads to the end comes first by id.
            Some(before) => {
                let previous = json!({"status": walk[before]});
                read(5, 50 - i, "customer.subscription.updated", &subscription(status, 1), Some(&previous))
            }
        })
        .collect();
    let key = EntityKey::new(EntityKind::Subscription, "sub_1");
    let entity = built(&key, &told);
    assert_eq!(entity.contributions().get(Bucket::Standing, &["subscriptions", "paused", "unmapped"]), 1);
    let mut rng = Rng::with_seed(1);
    for _ in 0..50 {
        let mut order: Vec<&Observation> = told.iter().collect();
        rng.shuffle(&mut order);
        assert_eq!(built(&key, order).encode(), entity.encode());
    }
}

/// Nothing tells these apart, so every order is as good: that must be seen without trying them all.
#[test]
fn a_crowded_second_without_evidence_is_quick() {
    for count in [8_usize, 12, 40] {
        let told: Vec<Observation> = (0..count)
            .map(|n| read(5, n, "customer.subscription.updated", &subscription("active", 1 + n % 2), None))
            .collect();
        let key = EntityKey::new(EntityKind::Subscription, "sub_1");
        let entity = built(&key, &told);
        let began = std::time::Instant::now();
        entity.contributions();
        assert!(began.elapsed() < Duration::from_secs(2), "{count} events of one second took {:?}", began.elapsed());
    }
}
