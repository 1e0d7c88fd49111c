//! Checks the simulator's promises against the state that revwatch derives from its events.

use std::collections::HashMap;

use revwatch_core::app_event::{AppEvent, TYPES};
use revwatch_core::bucket::Bucket;
use revwatch_core::class::Scope;
use revwatch_core::condition::ConditionKind;
use revwatch_core::counters::Counters;
use revwatch_core::entity::{Entity, EntityKey};
use revwatch_core::event::{Event, is_known_kind};
use revwatch_core::kpi::{Kpis, payout_failures};
use revwatch_core::observe::{ObserveSettings, Plans, observe};
use revwatch_core::source::Source;

use serde_json::Value;

use super::*;

const NOW_S: i64 = 1_790_000_000;

/// Some minutes of business with every incident, and what its application says of it.
fn minutes(seed: u64) -> (Simulator, Vec<SimEvent>) {
    let mut simulator = Simulator::new(seed);
    let mut events = simulator.history(NOW_S);
    events.extend(simulator.application(NOW_S));
    for second in 0..200 {
        let now_s = NOW_S + second;
        events.extend((0..3).flat_map(|_| simulator.step(now_s)));
        events.extend(match second {
            40 => simulator.fail_payouts(now_s, 6),
            60 => simulator.set_largest_disabled(now_s, true),
            100 => simulator.set_largest_disabled(now_s, false),
            120 => simulator.succeed_payouts(now_s, 30),
            140 => simulator.recover_past_due(now_s),
            _ => Vec::new(),
        });
        events.extend(simulator.application(now_s));
    }
    (simulator, events)
}

/// The state that revwatch derives from `events`, in the given order.
fn derived_state(events: &[SimEvent]) -> HashMap<EntityKey, Entity> {
    let settings = ObserveSettings::from(Plans::new(BTreeMap::from([(
        "pro".to_owned(),
        "PRO".to_owned(),
    )])));
    let mut entities = HashMap::new();
    for event in events {
        let source = match event.sender {
            Sender::Stripe => Source::Stripe,
            Sender::Application => Source::App,
        };
        let parsed = Event::read(source, event.body.as_bytes()).expect("an event");
        assert_eq!(
            (parsed.kind.as_ref(), parsed.created_s),
            (event.kind, event.created_s)
        );
        for observation in observe(&parsed, &settings).expect("readable") {
            let key = observation.key.clone();
            entities
                .entry(key)
                .or_insert_with_key(Entity::new)
                .merge(&observation);
        }
    }
    entities
}

fn counters(entities: &HashMap<EntityKey, Entity>) -> Counters {
    let mut sum = Counters::default();
    entities
        .values()
        .for_each(|entity| sum.merge(entity.contributions(), 1));
    sum
}

#[test]
fn the_same_seed_gives_the_same_events() {
    assert_eq!(minutes(3).1, minutes(3).1);
    assert_ne!(minutes(3).1, minutes(4).1);
}

#[test]
fn every_event_is_readable_and_all_shapes_and_types_occur() {
    for seed in 0..2 {
        let events = minutes(seed).1;
        derived_state(&events);
        let has = |text: &str| events.iter().any(|e| e.body.contains(text));
        for text in [
            "2024-12-18.acacia",
            "2025-09-30.clover",
            "subscription_details",
            "\"paid\": true",
        ] {
            assert!(has(text), "seed {seed}: no {text}");
        }
        for currency in subscription::CURRENCIES {
            assert!(
                has(&format!("\"currency\": \"{currency}\"")),
                "seed {seed}: no {currency}"
            );
        }
        assert!(
            events
                .iter()
                .all(|e| e.created_s <= NOW_S + 200 && e.created_s >= NOW_S - 5 * DAY_S)
        );
        let mut of_stripe = events.iter().filter(|e| e.sender == Sender::Stripe);
        assert!(of_stripe.any(|e| !is_known_kind(e.kind)), "seed {seed}");
        for kind in [
            "customer.subscription.created",
            "customer.subscription.updated",
            "customer.subscription.deleted",
            "invoice.created",
            "invoice.finalized",
            "invoice.paid",
            "invoice.payment_failed",
            "account.updated",
            "account.external_account.created",
            "account.application.deauthorized",
            "capability.updated",
            "payout.created",
            "payout.paid",
            "payout.failed",
        ] {
            assert!(
                events.iter().any(|e| e.kind == kind),
                "seed {seed}: no {kind}"
            );
        }
    }
}

fn of_application(events: &[SimEvent]) -> impl Iterator<Item = &SimEvent> {
    events.iter().filter(|e| e.sender == Sender::Application)
}

fn data(event: &SimEvent) -> Value {
    let body: Value = serde_json::from_str(&event.body).expect("JSON");
    body["data"].clone()
}

#[test]
fn every_type_of_the_applications_events_occurs_and_each_is_after_its_schema() {
    let first = fastrand::u64(..u64::MAX / 2);
    for seed in first..first + 20 {
        let mut simulator = Simulator::new(seed);
        simulator.history(NOW_S);
        // The shortest demo has little more than this.
        let events = simulator.application(NOW_S);
        for row in TYPES {
            let is_there = events.iter().any(|e| e.kind == row.name);
            assert!(is_there, "seed {seed}: no {}", row.name);
        }
        for event in &events {
            let parsed = AppEvent::parse(event.body.as_bytes());
            let parsed = parsed.unwrap_or_else(|e| panic!("seed {seed}: {e}: {}", event.body));
            assert!(parsed.subject.is_some() && parsed.kind == event.kind);
        }
        assert!(events.iter().all(|e| e.sender == Sender::Application));
        assert!(events.is_sorted_by_key(|e| e.created_s), "seed {seed}");
        let tickets = simulator.tickets();
        for status in ["unanswered", "responded", "closed"] {
            assert!(tickets[status] > 1, "seed {seed}: {tickets:?}");
        }
    }
}

/// Its accounts and customers are those of Stripe's events, and it says nothing of what has not happened.
#[test]
fn what_the_application_says_fits_what_stripe_says() {
    for seed in 0..2 {
        let (simulator, events) = minutes(seed);
        let accounts: HashMap<&str, i64> = { simulator.market.accounts.iter() }
            .map(|account| (account.id.as_str(), account.created_s))
            .collect();
        let customers: HashMap<&str, i64> = { simulator.saas.customers.iter() }
            .map(|customer| (customer.id.as_str(), customer.since_s))
            .collect();
        let (mut registered, mut created) = (BTreeMap::new(), BTreeMap::new());
        let mut clicked = BTreeMap::new();
        for event in of_application(&events) {
            let (at_s, data) = (event.created_s, data(event));
            assert!(at_s <= NOW_S + 200);
            let text = |field: &str| data[field].as_str().map(ToOwned::to_owned);
            if let Some(account) = data["account"].as_str() {
                assert!(accounts[account] <= at_s, "seed {seed}: {}", event.body);
            }
            if let Some(customer) = data["customer"].as_str() {
                assert!(customers[customer] <= at_s, "seed {seed}: {}", event.body);
            }
            match event.kind {
                "provider.registered" => drop(registered.insert(text("user"), at_s)),
                "account.created_by_user" => {
                    assert!(registered[&text("user")] < at_s, "seed {seed}");
                    created.insert(text("account"), text("user"));
                }
                "account_link.clicked" => drop(clicked.insert(text("account"), at_s)),
                "job.paid" => assert!(clicked[&text("account")] < at_s, "seed {seed}"),
                _ => {}
            }
        }
        assert!(registered.len() > created.len(), "some never make one");
        assert_eq!(created.len(), accounts.len(), "seed {seed}");
    }
}

/// The benchmark posts only Stripe's.
#[test]
fn stripes_events_are_the_same_without_an_application() {
    let of_stripe = |is_followed: bool| {
        let mut simulator = Simulator::new(5);
        let mut events = simulator.history(NOW_S);
        for second in 0..100 {
            if is_followed {
                simulator.application(NOW_S + second);
            }
            events.extend(simulator.step(NOW_S + second));
        }
        events
    };
    assert_eq!(of_stripe(true), of_stripe(false));
}

/// The simulator keeps its own totals. Revwatch must agree with them, whatever the order of
/// delivery and the number of duplicates.
#[test]
fn revwatch_agrees_with_the_simulator_in_any_order_of_delivery() {
    for seed in 0..2 {
        let (simulator, events) = minutes(seed);
        let mut delivery = Delivery::new(seed);
        let mut deliveries = delivery.deliver(events.clone());
        deliveries.extend(delivery.flush());
        let entities = derived_state(&deliveries);
        assert_eq!(entities, derived_state(&events), "seed {seed}");
        let counters = counters(&entities);
        let kpis = Kpis::compute(&counters, NOW_S + 200);
        let mrr: BTreeMap<_, _> = kpis
            .main
            .billing
            .mrr_minor
            .into_iter()
            .filter(|(_, minor)| *minor != 0)
            .collect();
        assert_eq!(mrr, simulator.mrr_minor(), "seed {seed}");
        let (past_due, base) = simulator.past_due();
        assert_eq!(
            kpis.main.billing.past_due_ratio,
            Some(past_due as f64 / base as f64),
            "seed {seed}"
        );
        let tickets: BTreeMap<_, _> = counters
            .under(Bucket::Current, "tickets")
            .map(|(status, count)| (status.join("|"), usize::try_from(count).expect("a count")))
            .collect();
        let expected = simulator.tickets().into_iter();
        let expected = expected.map(|(status, count)| (status.to_owned(), count));
        assert_eq!(tickets, expected.collect(), "seed {seed}");
        let (paid, failed) = simulator.payouts();
        let ratio = payout_failures(&counters.of(&Scope::CONNECTED), NOW_S + 200, 24);
        assert_eq!(
            (ratio.part as u64, ratio.total as u64),
            (failed, paid + failed),
            "seed {seed}"
        );
    }
}

#[test]
fn the_incidents_trigger_the_built_in_rules() {
    let mut simulator = Simulator::new(1);
    let mut events = simulator.history(NOW_S);
    let (past_due, base) = simulator.past_due();
    assert!(past_due * 100 > base * 8, "{past_due} of {base}");
    events.extend(simulator.set_largest_disabled(NOW_S, true));
    let lost = |events: &[SimEvent]| {
        let entities = derived_state(events);
        entities
            .values()
            .flat_map(Entity::conditions)
            .filter(|c| c.key.kind == ConditionKind::ChargesLost)
            .count()
    };
    assert_eq!(lost(&events), 1);
    events.extend(simulator.set_largest_disabled(NOW_S + 5, false));
    assert_eq!(lost(&events), 0);
    events.extend(simulator.recover_past_due(NOW_S + 6));
    let (past_due, base) = simulator.past_due();
    assert!(
        past_due * 100 < base * 8 && past_due > 0,
        "{past_due} of {base}"
    );
}
