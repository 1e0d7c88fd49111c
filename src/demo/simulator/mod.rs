//! A marketplace and a software business that never were, as the webhooks Stripe would send about
//! them: `Simulator::new(seed)`, `history(now)`, `step(now)`, and the incidents as methods.
//!
//! Invariant: pure and seeded. The same seed and the same calls give the same events, byte for byte;
//! there is no clock. Nothing here depends on revwatch's own code, so that the simulator cannot share
//! its mistakes.

mod delivery;
mod event;
mod market;
mod saas;
mod shapes;

use std::collections::BTreeMap;

use serde_json::json;

pub use self::delivery::Delivery;
pub use self::event::SimEvent;
use self::event::{Draft, Mint, Shape};
use self::market::{LARGEST, Market};
use self::saas::{Saas, Status};

/// See the module.
pub struct Simulator {
    mint: Mint,
    saas: Saas,
    market: Market,
}

const DAY_S: i64 = 86_400;
const HOUR_S: i64 = 3600;

impl Simulator {
    /// Subscriptions that [`Self::history`] begins with.
    pub const SUBSCRIPTIONS: usize = 120;
    /// Of them, those that became past due three days ago: more than the 8 % that are allowed.
    pub const PAST_DUE: usize = 16;
    /// Providers that [`Self::history`] begins with.
    pub const PROVIDERS: usize = 14;
    /// Payouts that arrived within the last 20 hours of [`Self::history`].
    pub const PAYOUTS: usize = 40;

    /// An empty business.
    pub fn new(seed: u64) -> Self {
        Self { mint: Mint::new(seed), saas: Saas::default(), market: Market::default() }
    }

    /// The four days before `now_s`, oldest first: providers join, customers subscribe, and three days
    /// ago the cards of [`Self::PAST_DUE`] of them are declined.
    pub fn history(&mut self, now_s: i64) -> Vec<SimEvent> {
        let Self { mint, saas, market } = self;
        let mut events = Vec::new();
        let start_s = now_s - 4 * DAY_S;
        for index in 0..Self::PROVIDERS {
            let joined_s = mint.within(start_s, start_s + 2 * HOUR_S);
            events.extend(market.join(mint, joined_s));
            // The last two are still on their way.
            let steps: i64 = if index + 2 < Self::PROVIDERS { 3 } else { 1 };
            for step in 1..=steps {
                events.extend(market.onboard(mint, index, joined_s + step * 900));
            }
        }
        for index in 0..Self::SUBSCRIPTIONS {
            let began_s = mint.within(start_s, start_s + 12 * HOUR_S);
            let past_due = index < Self::PAST_DUE;
            events.extend(saas.start(mint, began_s, !past_due && index % 12 == 11));
            if past_due {
                let declined_s = mint.within(now_s - 3 * DAY_S - 2 * HOUR_S, now_s - 3 * DAY_S);
                events.extend(saas.decline(mint, index, declined_s, true));
                events.extend(saas.retry(mint, index, declined_s + DAY_S));
            }
        }
        // Two old failures, outside of the last 24 hours.
        for arrives in [true, false, true, false] {
            let sent_s = mint.within(start_s + 6 * HOUR_S, start_s + 12 * HOUR_S);
            events.extend(market.pay_out(mint, sent_s));
            events.extend(market.settle(mint, sent_s + DAY_S, arrives));
        }
        market.forget_payouts();
        for _ in 0..Self::PAYOUTS {
            let arrived_s = mint.within(now_s - 20 * HOUR_S, now_s - HOUR_S);
            events.extend(market.pay_out(mint, arrived_s - DAY_S));
            events.extend(market.settle(mint, arrived_s, true));
        }
        events.sort_by_key(|e| e.created_s);
        events
    }

    /// One thing that happens on an ordinary day: one to five events.
    pub fn step(&mut self, now_s: i64) -> Vec<SimEvent> {
        let Self { mint, saas, market } = self;
        let events = match mint.rng.u32(0..1000) {
            0..280 => with(saas.pick(mint, Status::Active, now_s), |i| saas.renew(mint, i, now_s)),
            280..350 => saas.start(mint, now_s, false),
            350..380 => saas.start(mint, now_s, true),
            380..410 => with(saas.pick(mint, Status::Trialing, now_s), |i| saas.convert(mint, i, now_s)),
            410..480 => with(saas.pick(mint, Status::Active, now_s), |i| saas.resize(mint, i, now_s)),
            480..520 => with(saas.pick(mint, Status::Active, now_s), |i| saas.cancel(mint, i, now_s)),
            520..530 => with(saas.pick(mint, Status::Active, now_s), |i| saas.decline(mint, i, now_s, false)),
            530..550 => with(saas.pick(mint, Status::PastDue, now_s), |i| saas.recover(mint, i, now_s)),
            550..690 => market.pay_out(mint, now_s),
            690..830 => market.settle(mint, now_s, true),
            830..840 => market.join(mint, now_s),
            840..880 => with(market.pick(mint, now_s, |a| a.stage < 3), |i| market.onboard(mint, i, now_s)),
            880..884 => {
                let largest = market.accounts.first().map(|a| a.id.clone());
                let leaver = market.pick(mint, now_s, |a| a.stage >= 3 && Some(&a.id) != largest.as_ref());
                with(leaver, |i| market.leave(mint, i, now_s))
            }
            884..892 => vec![undocumented(mint, now_s)],
            _ => Vec::new(),
        };
        // What could not happen now gives way to what always can.
        if events.is_empty() { vec![noise(mint, now_s)] } else { events }
    }

    /// `count` payouts come back from the bank, every other one after it had been reported as paid.
    pub fn fail_payouts(&mut self, now_s: i64, count: usize) -> Vec<SimEvent> {
        let Self { mint, market, .. } = self;
        let mut events = Vec::new();
        for turn in 0..count {
            if turn % 2 == 0 {
                events.extend(market.bounce(mint, now_s));
            } else {
                events.extend(market.pay_out(mint, now_s));
                events.extend(market.settle(mint, now_s, false));
            }
        }
        events
    }

    /// `count` payouts are sent and arrive.
    pub fn succeed_payouts(&mut self, now_s: i64, count: usize) -> Vec<SimEvent> {
        let Self { mint, market, .. } = self;
        let mut events = Vec::new();
        for _ in 0..count {
            events.extend(market.pay_out(mint, now_s));
            events.extend(market.settle(mint, now_s, true));
        }
        events
    }

    /// The largest provider loses the right to take charges, or gets it back.
    pub fn set_largest_disabled(&mut self, now_s: i64, disabled: bool) -> Vec<SimEvent> {
        self.market.set_disabled(&mut self.mint, LARGEST, now_s, disabled)
    }

    /// The cards of the past-due subscriptions work again, except for a few.
    pub fn recover_past_due(&mut self, now_s: i64) -> Vec<SimEvent> {
        let Self { mint, saas, .. } = self;
        let behind: Vec<usize> =
            (0..saas.subscriptions.len()).filter(|i| saas.subscriptions[*i].status == Status::PastDue).collect();
        let keep = behind.len() / 8;
        behind.into_iter().skip(keep).flat_map(|i| saas.recover(mint, i, now_s)).collect()
    }

    /// Name and id of the largest provider.
    pub fn largest(&self) -> Option<(&str, &str)> {
        self.market.accounts.get(LARGEST).map(|a| (a.name.as_str(), a.id.as_str()))
    }

    /// Payouts paid and failed since 20 hours before the end of the history.
    pub fn payouts(&self) -> (u64, u64) {
        (self.market.paid_count, self.market.failed_count)
    }

    /// Monthly recurring revenue by currency, as it must come out.
    pub fn mrr_minor(&self) -> BTreeMap<String, i64> {
        self.saas.mrr_minor()
    }

    /// Subscriptions past due, and of how many active and past due, as it must come out.
    pub fn past_due(&self) -> (usize, usize) {
        self.saas.past_due()
    }
}

fn with(index: Option<usize>, act: impl FnOnce(usize) -> Vec<SimEvent>) -> Vec<SimEvent> {
    index.map(act).unwrap_or_default()
}

/// Of a type that is in no documentation yet: it must do no harm.
fn undocumented(mint: &mut Mint, at_s: i64) -> SimEvent {
    let object = json!({"id": mint.short_id("fcst"), "object": "billing.forecast", "livemode": false});
    mint.event(Draft {
        kind: "billing.forecast.updated",
        created_s: at_s,
        account: None,
        shape: Shape::Clover,
        object,
        previous: Some(json!({"confidence": "low"})),
    })
}

/// Documented, and no concern of revwatch.
fn noise(mint: &mut Mint, at_s: i64) -> SimEvent {
    let amount = mint.rng.i64(500..50_000);
    let (kind, prefix, status) = mint
        .rng
        .choice([("payment_intent.created", "pi", "requires_payment_method"), ("charge.succeeded", "ch", "succeeded")])
        .expect("there are two");
    let object = json!({"id": mint.id(prefix), "object": kind.split('.').next(), "amount": amount, "created": at_s,
        "currency": "usd", "customer": mint.short_id("cus"), "livemode": false, "metadata": {}, "status": status});
    mint.event(Draft { kind, created_s: at_s, account: None, shape: Shape::Acacia, object, previous: None })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use revwatch_shared::condition::ConditionKind;
    use revwatch_shared::counters::Counters;
    use revwatch_shared::entity::{Entity, EntityKey};
    use revwatch_shared::event::{Event, is_known_kind};
    use revwatch_shared::kpi::{Kpis, payout_failures};
    use revwatch_shared::observe::{Plans, observe};

    use super::*;

    const NOW_S: i64 = 1_790_000_000;

    /// Some minutes of business with every incident in them.
    fn minutes(seed: u64) -> (Simulator, Vec<SimEvent>) {
        let mut simulator = Simulator::new(seed);
        let mut events = simulator.history(NOW_S);
        for second in 0..200 {
            let now_s = NOW_S + second;
            events.extend((0..6).flat_map(|_| simulator.step(now_s)));
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

    /// What revwatch makes of `events`, in the order given.
    fn understood(events: &[SimEvent]) -> HashMap<EntityKey, Entity> {
        let plans = Plans::new(BTreeMap::from([("pro".to_owned(), "PRO".to_owned())]));
        let mut entities = HashMap::new();
        for event in events {
            let parsed = Event::parse(event.body.as_bytes()).expect("an event");
            assert_eq!((parsed.kind.as_ref(), parsed.created_s), (event.kind, event.created_s));
            for observation in observe(&parsed, &plans).expect("readable") {
                let key = observation.key.clone();
                entities.entry(key).or_insert_with_key(Entity::new).merge(&observation);
            }
        }
        entities
    }

    fn counters(entities: &HashMap<EntityKey, Entity>) -> Counters {
        let mut sum = Counters::default();
        entities.values().for_each(|entity| sum.merge(entity.contributions(), 1));
        sum
    }

    #[test]
    fn the_same_seed_gives_the_same_events() {
        assert_eq!(minutes(3).1, minutes(3).1);
        assert_ne!(minutes(3).1, minutes(4).1);
    }

    #[test]
    fn every_event_is_readable_and_both_shapes_and_all_kinds_are_there() {
        for seed in 0..3 {
            let events = minutes(seed).1;
            understood(&events);
            let has = |text: &str| events.iter().any(|e| e.body.contains(text));
            for text in ["2024-12-18.acacia", "2025-09-30.clover", "subscription_details", "\"paid\": true"] {
                assert!(has(text), "seed {seed}: no {text}");
            }
            for currency in saas::CURRENCIES {
                assert!(has(&format!("\"currency\": \"{currency}\"")), "seed {seed}: no {currency}");
            }
            assert!(events.iter().all(|e| e.created_s <= NOW_S + 200 && e.created_s >= NOW_S - 5 * DAY_S));
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
                assert!(events.iter().any(|e| e.kind == kind), "seed {seed}: no {kind}");
            }
        }
    }

    /// The simulator keeps its own books. Whatever the order of delivery, and however often something
    /// comes, revwatch's must agree with them.
    #[test]
    fn delivered_in_any_order_it_comes_to_the_simulators_own_figures() {
        for seed in 0..4 {
            let (simulator, events) = minutes(seed);
            let mut delivery = Delivery::new(seed);
            let mut deliveries = delivery.deliver(events.clone());
            deliveries.extend(delivery.flush());
            let entities = understood(&deliveries);
            assert_eq!(entities, understood(&events), "seed {seed}");
            let counters = counters(&entities);
            let kpis = Kpis::compute(&counters, NOW_S + 200);
            let mrr: BTreeMap<_, _> = kpis.mrr_minor.into_iter().filter(|(_, minor)| *minor != 0).collect();
            assert_eq!(mrr, simulator.mrr_minor(), "seed {seed}");
            let (past_due, base) = simulator.past_due();
            assert_eq!(kpis.past_due_ratio, Some(past_due as f64 / base as f64), "seed {seed}");
            let (paid, failed) = simulator.payouts();
            let ratio = payout_failures(&counters, NOW_S + 200, 24);
            assert_eq!((ratio.part as u64, ratio.whole as u64), (failed, paid + failed), "seed {seed}");
        }
    }

    #[test]
    fn the_incidents_are_what_the_shipped_rules_look_for() {
        let mut simulator = Simulator::new(1);
        let mut events = simulator.history(NOW_S);
        let (past_due, base) = simulator.past_due();
        assert!(past_due * 100 > base * 8, "{past_due} of {base}");
        events.extend(simulator.set_largest_disabled(NOW_S, true));
        let lost = |events: &[SimEvent]| {
            let entities = understood(events);
            entities.values().flat_map(Entity::conditions).filter(|c| c.key.kind == ConditionKind::ChargesLost).count()
        };
        assert_eq!(lost(&events), 1);
        events.extend(simulator.set_largest_disabled(NOW_S + 5, false));
        assert_eq!(lost(&events), 0);
        events.extend(simulator.recover_past_due(NOW_S + 6));
        let (past_due, base) = simulator.past_due();
        assert!(past_due * 100 < base * 8 && past_due > 0, "{past_due} of {base}");
    }
}
