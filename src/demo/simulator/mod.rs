//! A fictitious marketplace and software business, as the webhooks that Stripe would send:
//! `Simulator::new(seed)`, `history(now)`, `step(now)`, and the incidents as methods. `application(now)` has what its
//! own application would send.
//!
//! Invariant: pure and seeded. The same seed and the same calls give the same events, byte for
//! byte; it reads no clock. Nothing here depends on revwatch's own code, so that the simulator
//! cannot share its mistakes.

mod account;
mod application;
mod back_office;
mod delivery;
mod event;
mod market;
mod saas;
mod shapes;
mod subscription;

use std::collections::BTreeMap;

use serde_json::json;

pub use self::application::{Application, ERRORS, Provider, SOURCES, TOPICS, Ticket};
use self::back_office::BackOffice;
pub use self::delivery::Delivery;
use self::event::{Draft, Mint, Shape};
pub use self::event::{Sender, SimEvent};
use self::market::{LARGEST, Market};
use self::saas::Saas;
use self::subscription::Status;

/// The simulated business.
pub struct Simulator {
    mint: Mint,
    saas: Saas,
    market: Market,
    back_office: BackOffice,
}

const DAY_S: i64 = 86_400;
const HOUR_S: i64 = 3600;

impl Simulator {
    /// The number of subscriptions at the start of [`Self::history`].
    pub const SUBSCRIPTIONS: usize = 120;
    /// Above this number, customers leave instead of joining, so that shares stay stable however
    /// long it runs.
    const MAX_SUBSCRIPTIONS: usize = 150;
    /// How many of [`Self::SUBSCRIPTIONS`] became past due three days ago: more than the limit of 8
    /// %.
    pub const PAST_DUE: usize = 16;
    /// The number of providers at the start of [`Self::history`].
    pub const PROVIDERS: usize = 14;
    /// Payouts that arrived within the last 20 hours of [`Self::history`].
    pub const PAYOUTS: usize = 40;

    /// An empty business.
    pub fn new(seed: u64) -> Self {
        Self {
            mint: Mint::new(seed),
            saas: Saas::default(),
            market: Market::default(),
            back_office: BackOffice::new(seed),
        }
    }

    /// The four days before `now_s`, oldest first: providers join, customers subscribe, and three
    /// days ago the cards of [`Self::PAST_DUE`] of them are declined.
    pub fn history(&mut self, now_s: i64) -> Vec<SimEvent> {
        let Self {
            mint, saas, market, ..
        } = self;
        let mut events = Vec::new();
        let start_s = now_s - 4 * DAY_S;
        for index in 0..Self::PROVIDERS {
            let joined_s = mint.within(start_s, start_s + 2 * HOUR_S);
            events.extend(market.join(mint, joined_s));
            // The last two have not completed their onboarding.
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
        // Two old failures, outside the last 24 hours.
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

    /// One step of normal business: one to five events.
    pub fn step(&mut self, now_s: i64) -> Vec<SimEvent> {
        let Self {
            mint, saas, market, ..
        } = self;
        let events = match mint.rng.u32(0..1000) {
            0..280 => with(saas.pick(mint, Status::Active, now_s), |i| {
                saas.renew(mint, i, now_s)
            }),
            280..350 if saas.subscriptions.len() < Self::MAX_SUBSCRIPTIONS => {
                saas.start(mint, now_s, false)
            }
            350..380 if saas.subscriptions.len() < Self::MAX_SUBSCRIPTIONS => {
                saas.start(mint, now_s, true)
            }
            380..410 => with(saas.pick(mint, Status::Trialing, now_s), |i| {
                saas.convert(mint, i, now_s)
            }),
            410..480 => with(saas.pick(mint, Status::Active, now_s), |i| {
                saas.resize(mint, i, now_s)
            }),
            280..380 | 480..520 => with(saas.pick(mint, Status::Active, now_s), |i| {
                saas.cancel(mint, i, now_s)
            }),
            520..530 => with(saas.pick(mint, Status::Active, now_s), |i| {
                saas.decline(mint, i, now_s, false)
            }),
            530..550 => with(saas.pick(mint, Status::PastDue, now_s), |i| {
                saas.recover(mint, i, now_s)
            }),
            550..690 => market.pay_out(mint, now_s),
            690..830 => market.settle(mint, now_s, true),
            830..840 => market.join(mint, now_s),
            840..880 => with(market.pick(mint, now_s, |a| a.stage < 3), |i| {
                market.onboard(mint, i, now_s)
            }),
            880..888 => {
                let largest = market.accounts.first().map(|a| a.id.clone());
                let leaver = market.pick(mint, now_s, |a| {
                    a.stage >= 3 && Some(&a.id) != largest.as_ref()
                });
                with(leaver, |i| market.leave(mint, i, now_s))
            }
            888..896 => vec![undocumented(mint, now_s)],
            _ => Vec::new(),
        };
        // A step that is impossible now is replaced by one that is always possible.
        if events.is_empty() {
            vec![noise(mint, now_s)]
        } else {
            events
        }
    }

    /// What the application of the business has to say until `now_s` of what happened so far, oldest first.
    pub fn application(&mut self, now_s: i64) -> Vec<SimEvent> {
        self.back_office.catch_up(&self.saas, &self.market, now_s)
    }

    /// The bank returns `count` payouts, every other one after it was reported as paid.
    pub fn fail_payouts(&mut self, now_s: i64, count: usize) -> Vec<SimEvent> {
        let Self { mint, market, .. } = self;
        let mut events = Vec::new();
        for index in 0..count {
            if index % 2 == 0 {
                events.extend(market.bounce(mint, now_s));
            } else {
                events.extend(market.pay_out(mint, now_s));
                events.extend(market.settle(mint, now_s, false));
            }
        }
        events
    }

    /// `count` payouts are sent and succeed.
    pub fn succeed_payouts(&mut self, now_s: i64, count: usize) -> Vec<SimEvent> {
        let Self { mint, market, .. } = self;
        let mut events = Vec::new();
        for _ in 0..count {
            events.extend(market.pay_out(mint, now_s));
            events.extend(market.settle(mint, now_s, true));
        }
        events
    }

    /// The largest provider loses or regains the right to take charges.
    pub fn set_largest_disabled(&mut self, now_s: i64, disabled: bool) -> Vec<SimEvent> {
        self.market
            .set_disabled(&mut self.mint, LARGEST, now_s, disabled)
    }

    /// The cards of the past-due subscriptions work again, except for a few.
    pub fn recover_past_due(&mut self, now_s: i64) -> Vec<SimEvent> {
        let Self { mint, saas, .. } = self;
        let behind: Vec<usize> = (0..saas.subscriptions.len())
            .filter(|i| saas.subscriptions[*i].status == Status::PastDue)
            .collect();
        let keep = behind.len() / 8;
        behind
            .into_iter()
            .skip(keep)
            .flat_map(|i| saas.recover(mint, i, now_s))
            .collect()
    }

    /// Name and id of the largest provider.
    pub fn largest(&self) -> Option<(&str, &str)> {
        self.market
            .accounts
            .get(LARGEST)
            .map(|a| (a.name.as_str(), a.id.as_str()))
    }

    /// Payouts paid and failed since 20 hours before the end of the history.
    pub fn payouts(&self) -> (u64, u64) {
        (self.market.paid_count, self.market.failed_count)
    }

    /// Monthly recurring revenue by currency: the expected value.
    pub fn mrr_minor(&self) -> BTreeMap<String, i64> {
        self.saas.mrr_minor()
    }

    /// The number of tickets by status: the expected values.
    pub fn tickets(&self) -> BTreeMap<&'static str, usize> {
        self.back_office.tickets()
    }

    /// The number of past-due subscriptions, and of active and past-due ones: the expected values.
    pub fn past_due(&self) -> (usize, usize) {
        self.saas.past_due()
    }
}

fn with(index: Option<usize>, act: impl FnOnce(usize) -> Vec<SimEvent>) -> Vec<SimEvent> {
    index.map(act).unwrap_or_default()
}

/// An event of an undocumented type: it must do no harm.
fn undocumented(mint: &mut Mint, at_s: i64) -> SimEvent {
    let object =
        json!({"id": mint.short_id("fcst"), "object": "billing.forecast", "livemode": true});
    mint.event(Draft {
        kind: "billing.forecast.updated",
        created_s: at_s,
        account: None,
        shape: Shape::Clover,
        object,
        previous: Some(json!({"confidence": "low"})),
    })
}

/// An event of a payment without a subscription: a payment intent, or a charge, which revwatch ignores.
fn noise(mint: &mut Mint, at_s: i64) -> SimEvent {
    let amount = mint.rng.i64(500..50_000);
    let (kind, prefix, status) = mint
        .rng
        .choice([
            ("payment_intent.created", "pi", "requires_payment_method"),
            ("charge.succeeded", "ch", "succeeded"),
        ])
        .expect("there are two");
    let object = json!({"id": mint.id(prefix, at_s), "object": kind.split('.').next(), "amount": amount, "created": at_s,
        "currency": "usd", "customer": mint.short_id("cus"), "livemode": true, "metadata": {}, "status": status});
    mint.event(Draft {
        kind,
        created_s: at_s,
        account: None,
        shape: Shape::Acacia,
        object,
        previous: None,
    })
}

#[cfg(test)]
mod tests;
