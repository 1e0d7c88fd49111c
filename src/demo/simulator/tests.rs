//! Checks the simulator's promises against the state that revwatch derives from its events.

use std::collections::HashMap;

use revwatch_core::class::Scope;
use revwatch_core::condition::ConditionKind;
use revwatch_core::counters::Counters;
use revwatch_core::entity::{Entity, EntityKey};
use revwatch_core::event::{Event, is_known_kind};
use revwatch_core::kpi::{Kpis, payout_failures};
use revwatch_core::observe::{ObserveSettings, Plans, observe};

use super::*;

const NOW_S: i64 = 1_790_000_000;

/// Some minutes of business with every incident.
fn minutes(seed: u64) -> (Simulator, Vec<SimEvent>) {
    let mut simulator = Simulator::new(seed);
    let mut events = simulator.history(NOW_S);
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
        let parsed = Event::parse(event.body.as_bytes()).expect("an event");
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
        assert!(events.iter().any(|e| !is_known_kind(e.kind)), "seed {seed}");
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
