//! Critical properties of timelines: the retained set does not depend on the order, values derived
//! from dropped events stay, and many events within one second are ordered quickly.

use std::time::Duration;

use fastrand::Rng;
use revwatch_core::counters::{Bucket, Counters, hour_of};
use revwatch_core::entity::{Entity, EntityKey, EntityKind, Observation};
use revwatch_core::event::Event;
use revwatch_core::observe::{ObserveSettings, observe};
use revwatch_core::relay::Relay;
use serde_json::{Value, json};

fn read(
    created_s: i64,
    id: usize,
    kind: &str,
    object: &Value,
    previous: Option<&Value>,
) -> Observation {
    let is_about_account = kind.starts_with("account.") || kind.starts_with("capability.");
    let body = json!({"id": format!("evt_{id:03}"), "type": kind, "created": created_s,
        "account": is_about_account.then_some("acct_1"),
        "data": {"object": object, "previous_attributes": previous}});
    let body = body.to_string();
    let event = Event::parse(body.as_bytes()).expect("an event");
    let mut observations = observe(&event, &ObserveSettings::default()).expect("readable");
    // Before it: that the account exists.
    observations.pop().expect("an observation")
}

fn built<'a>(key: &EntityKey, observed: impl IntoIterator<Item = &'a Observation>) -> Entity {
    let mut entity = Entity::new(key);
    observed
        .into_iter()
        .for_each(|observation| entity.merge(observation));
    entity
}

fn subscription(status: &str, quantity: usize) -> Value {
    json!({"id": "sub_1", "customer": "cus_1", "status": status, "currency": "usd", "items": {"data": [{"quantity": quantity, "price":
        {"unit_amount": 100, "recurring": {"interval": "month", "interval_count": 1, "usage_type": "licensed"}}}]}})
}

/// Many more events than are retained, some in the same second, in random orders with duplicates.
#[test]
fn dropped_events_depend_on_the_set_and_not_on_the_order() {
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let mut rng = Rng::with_seed(seed);
    let account = |n: usize| {
        json!({"id": "acct_1", "created": 50, "country": "DE", "charges_enabled": n == 3, "payouts_enabled": n.is_multiple_of(5),
            "details_submitted": n == 4, "requirements": {"currently_due": vec!["x"; n % 3], "past_due": []}})
    };
    // Most updates do not say what they changed, some changed a tracked field, and some another one.
    let previous = |n: usize| match n % 5 {
        0 | 1 => Some(json!({"metadata": {"usage": n}})),
        2 => Some(json!({"charges_enabled": true, "status": "inactive"})),
        _ => None,
    };
    let capability = |n: usize| json!({"id": "transfers", "account": "acct_1", "status": if n.is_multiple_of(2) { "active" } else { "pending" }});
    let observed: Vec<Observation> = (0..120)
        .map(|n| {
            let at_s = 1000 + i64::try_from(n / 7).expect("small") * 3;
            if n % 4 == 1 {
                read(
                    at_s,
                    n * 37 % 120,
                    "capability.updated",
                    &capability(n),
                    previous(n).as_ref(),
                )
            } else {
                let previous = previous(n);
                let id = n * 37 % 120;
                read(at_s, id, "account.updated", &account(n), previous.as_ref())
            }
        })
        .collect();
    let key = EntityKey::new(EntityKind::Account, "acct_1");
    let expected = built(&key, &observed);
    // Charges were enabled in an event that has been dropped; the milestone remains.
    assert_eq!(
        expected
            .contributions()
            .get(Bucket::Current, &["funnel", "charges_enabled"]),
        1
    );
    for _ in 0..200 {
        let mut order: Vec<&Observation> = observed
            .iter()
            .chain(observed.iter().filter(|_| rng.bool()))
            .collect();
        rng.shuffle(&mut order);
        assert_eq!(built(&key, order).encode(), expected.encode());
    }
    for _ in 0..200 {
        let (one, other) = super::unions::two_parts(&observed, &mut rng);
        let mut united = built(&key, one);
        united.union(&built(&key, other));
        assert_eq!(united.encode(), expected.encode());
    }
}

/// A subscription that changes every day is not counted as new when its first event is dropped.
#[test]
fn a_dropped_first_event_is_not_counted_as_a_new_subscription() {
    let observed: Vec<Observation> = (0..400_usize)
        .map(|day| {
            let kind = if day == 0 {
                "customer.subscription.created"
            } else {
                "customer.subscription.updated"
            };
            read(
                86_400 * i64::try_from(day).expect("small"),
                day,
                kind,
                &subscription("active", 10 + day),
                None,
            )
        })
        .collect();
    let key = EntityKey::new(EntityKind::Subscription, "sub_1");
    let counters = with_customer(&built(&key, &observed));
    assert_eq!(counters.get(Bucket::Current, &["base", "paying"]), 1);
    for hour in 1..=hour_of(400 * 86_400) {
        assert_eq!(
            counters.get(Bucket::Hour(hour), &["churn", "gained"]),
            0,
            "hour {hour}"
        );
        assert!(
            counters.get(Bucket::Hour(hour), &["mrr_change", "usd"]) <= 100,
            "hour {hour}"
        );
    }
    // A complete timeline begins with its first event.
    let counters = with_customer(&built(&key, &observed[..20]));
    assert_eq!(counters.get(Bucket::Hour(0), &["churn", "gained"]), 1);
}

/// What a subscription adds, and its customer because of it.
fn with_customer(entity: &Entity) -> Counters {
    let relay = Relay::all_of(entity).pop().expect("a customer");
    let mut customer = Entity::new(&relay.to);
    let observed = relay.observe(Some(entity));
    customer.merge(&observed.expect("it is stored"));
    let mut counters = entity.contributions();
    counters.merge(customer.contributions(), 1);
    counters
}

/// Cycles that share one state: a search that takes the first way out at a crossing ends in the
/// wrong state.
#[test]
fn many_events_in_one_second_with_cycles_end_in_the_right_state() {
    let walk = [
        "active", "past_due", "active", "unpaid", "active", "paused", "active", "trialing",
        "unpaid", "past_due", "paused",
    ];
    let observed: Vec<Observation> = walk
        .iter()
        .enumerate()
        .map(|(i, status)| match i.checked_sub(1) {
            None => read(
                5,
                99,
                "customer.subscription.created",
                &subscription(status, 1),
                None,
            ),
            // The path that leads to the end sorts first by id.
            Some(before) => {
                let previous = json!({"status": walk[before]});
                read(
                    5,
                    50 - i,
                    "customer.subscription.updated",
                    &subscription(status, 1),
                    Some(&previous),
                )
            }
        })
        .collect();
    let key = EntityKey::new(EntityKind::Subscription, "sub_1");
    let entity = built(&key, &observed);
    assert_eq!(
        entity
            .contributions()
            .get(Bucket::Current, &["subscriptions", "paused", "unmapped"]),
        1
    );
    let mut rng = Rng::with_seed(1);
    for _ in 0..50 {
        let mut order: Vec<&Observation> = observed.iter().collect();
        rng.shuffle(&mut order);
        assert_eq!(built(&key, order).encode(), entity.encode());
    }
}

/// Nothing distinguishes these events, so every order is equally good. The search must detect that
/// without trying all orders.
#[test]
fn many_indistinguishable_events_in_one_second_are_ordered_quickly() {
    for count in [8_usize, 12, 40] {
        let observed: Vec<Observation> = (0..count)
            .map(|n| {
                read(
                    5,
                    n,
                    "customer.subscription.updated",
                    &subscription("active", 1 + n % 2),
                    None,
                )
            })
            .collect();
        let key = EntityKey::new(EntityKind::Subscription, "sub_1");
        let entity = built(&key, &observed);
        // Trying all orders of forty events would never end; a busy machine only makes this test
        // slower.
        let (sender, done) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            entity.contributions();
            let _ = sender.send(());
        });
        assert!(
            done.recv_timeout(Duration::from_secs(60)).is_ok(),
            "{count} events of one second take too long"
        );
    }
}

/// Prometheus counters never decrease, whatever arrives in whatever order, and do not depend on the
/// order: also with more attempts than are retained, and with statuses that were left again.
#[test]
fn reached_milestones_stay_reached() {
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let mut rng = Rng::with_seed(seed);
    let at_s = |n: usize| 1000 + i64::try_from(n / 3).expect("small");
    let payments: Vec<Observation> = (0..100)
        .map(|n| {
            let failed = json!({"id": "pi_1", "amount": 5, "currency": "eur", "status": "requires_payment_method",
                "latest_charge": format!("ch_{}", n / 2), "last_payment_error": {"code": "card_declined"}});
            let good =
                json!({"id": "pi_1", "amount": 5, "currency": "eur", "status": "succeeded", "latest_charge": "ch_x"});
            match n {
                7 => read(at_s(n), n, "payment_intent.succeeded", &good, None),
                _ => read(at_s(n), n, "payment_intent.payment_failed", &failed, None),
            }
        })
        .collect();
    let payouts: Vec<Observation> = (0..90)
        .map(|n| {
            let status = ["pending", "in_transit", "paid", "failed"][if n < 60 { n % 2 } else { rng.usize(..4) }];
            let currency = if n == 80 { "usd" } else { "eur" };
            let object = json!({"id": "po_1", "amount": 5, "currency": currency, "status": status, "arrival_date": 1});
            read(at_s(n), n, "payout.updated", &object, None)
        })
        .collect();
    let checkouts: Vec<Observation> = ["open", "complete", "expired", "open"]
        .into_iter()
        .enumerate()
        .map(|(n, status)| {
            let object =
                json!({"id": "cs_1", "status": status, "amount_total": 5, "currency": "eur"});
            read(at_s(9 * n), n, "checkout.session.completed", &object, None)
        })
        .collect();
    for (kind, id, observed, sure) in [
        (
            EntityKind::Payment,
            "pi_1",
            payments,
            &["payments_reached|failed=50", "payments_reached|succeeded=1"][..],
        ),
        (
            EntityKind::Payout,
            "po_1",
            payouts,
            &[
                "payouts_reached|in_transit|eur=1",
                "payouts_reached|pending|eur=1",
            ],
        ),
        (
            EntityKind::Checkout,
            "cs_1",
            checkouts,
            &["checkouts_reached|complete=1"],
        ),
    ] {
        let key = EntityKey::new(kind, id);
        let reached = |entity: &Entity| {
            let counters = entity.contributions();
            let reached = counters
                .iter()
                .filter(|(_, name, _)| name.contains("_reached|"));
            reached
                .map(|(_, name, value)| (name.to_owned(), value))
                .collect::<std::collections::BTreeMap<_, _>>()
        };
        let expected = reached(&built(&key, &observed));
        for line in sure {
            let (name, value) = line.split_once('=').expect("written here");
            assert_eq!(
                expected.get(name),
                Some(&value.parse().expect("a number")),
                "{name} of {expected:?}"
            );
        }
        for _ in 0..50 {
            let mut order: Vec<&Observation> = observed
                .iter()
                .chain(observed.iter().filter(|_| rng.bool()))
                .collect();
            rng.shuffle(&mut order);
            let (mut entity, mut before) = (Entity::new(&key), std::collections::BTreeMap::new());
            for observation in order {
                entity.merge(observation);
                let now = reached(&entity);
                assert!(
                    before
                        .iter()
                        .all(|(name, value)| now.get(name) >= Some(value)),
                    "{before:?} then {now:?}"
                );
                before = now;
            }
            assert_eq!(before, expected);
        }
    }
}
