//! A small business as Stripe's events, with the expected result: the model walks through time in
//! order and does not use revwatch's code.

pub(crate) mod application;
mod expected;
mod movements;
mod seasons;

use fastrand::Rng;
use serde_json::{Value, json};

pub(crate) use self::expected::Expected;
use self::expected::add;

/// Events in the order in which they happened, and the state at the end.
pub(crate) struct History {
    pub(crate) events: Vec<String>,
    pub(crate) expected: Expected,
}

struct HistoryBuilder {
    rng: Rng,
    /// Unix seconds.
    now_s: i64,
    events: Vec<String>,
}

impl History {
    /// `size` subscriptions, as many payouts and payments, and some accounts and transfers; ends
    /// shortly before `end_s`.
    pub(crate) fn new(seed: u64, size: usize, end_s: i64) -> Self {
        let mut builder = HistoryBuilder {
            rng: Rng::with_seed(seed),
            now_s: end_s - 20_000,
            events: Vec::new(),
        };
        let mut expected = Expected::default();
        for n in 0..size {
            builder.subscription(n, &mut expected);
            builder.payout(n, &mut expected);
            builder.payment(n, &mut expected);
            if n % 4 == 0 {
                builder.account(n, &mut expected);
                builder.transfer(n, &mut expected);
            }
        }
        assert!(builder.now_s < end_s, "the history ends before end_s");
        Self {
            events: builder.events,
            expected,
        }
    }

    /// The same events as Stripe might deliver them: in any order, one in five twice.
    pub(crate) fn delivered(&self, seed: u64) -> Vec<String> {
        let mut rng = Rng::with_seed(seed);
        let mut deliveries = self.events.clone();
        let repeats: Vec<_> = self
            .events
            .iter()
            .filter(|_| rng.u8(..5) == 0)
            .cloned()
            .collect();
        deliveries.extend(repeats);
        rng.shuffle(&mut deliveries);
        deliveries
    }
}

impl HistoryBuilder {
    /// Up to two seconds pass, often none: events within one second are the hard case.
    fn advance(&mut self) {
        self.now_s += self.rng.i64(0..=2);
    }

    fn emit(&mut self, kind: &str, account: Option<&str>, object: &Value, previous: Option<Value>) {
        // Random ids, so that they do not reveal the order.
        let id = format!("evt_{:016x}", self.rng.u64(..));
        let mut data = json!({ "object": object });
        if let Some(previous) = previous {
            data["previous_attributes"] = previous;
        }
        let mut event = json!({
            "id": id, "object": "event", "api_version": "2025-03-31.basil", "created": self.now_s, "livemode": true,
            "pending_webhooks": 1, "request": {"id": null, "idempotency_key": null}, "type": kind, "data": data,
        });
        if let Some(account) = account {
            event["account"] = account.into();
        }
        self.events.push(event.to_string());
    }

    /// A subscription is created and passes through some statuses, in either shape of the API.
    fn subscription(&mut self, n: usize, expected: &mut Expected) {
        let basil = n.is_multiple_of(2);
        let currency = ["usd", "eur", "jpy"][n % 3];
        let (quantity, unit) = (self.rng.i64(1..5), self.rng.i64(5..50) * 100);
        let customer = format!("cus_{n}");
        let id = format!("sub_{n}");
        let object = |status: &str, cancel: bool, quantity: i64| {
            let mut item = json!({"id": format!("si_{n}"), "quantity": quantity, "price": {
                "id": format!("price_{n}"), "currency": currency, "unit_amount": unit, "unit_amount_decimal": unit.to_string(),
                "product": "prod_1", "lookup_key": if n.is_multiple_of(3) { json!("pro") } else { Value::Null },
                "recurring": {"interval": "month", "interval_count": 1, "usage_type": "licensed"}}});
            let mut object = json!({
                "id": id, "object": "subscription", "customer": customer, "currency": currency, "status": status,
                "cancel_at_period_end": cancel, "cancel_at": null, "trial_end": null, "metadata": {},
            });
            let holder = if basil { &mut item } else { &mut object };
            holder["current_period_start"] = 1.into();
            holder["current_period_end"] = 2.into();
            object["items"] = json!({"object": "list", "data": [item]});
            object
        };
        let mut status = ["active", "trialing"][self.rng.usize(..2)];
        let mut quantity = quantity;
        let mut cancel = false;
        self.emit(
            "customer.subscription.created",
            None,
            &object(status, false, quantity),
            None,
        );
        for _ in 0..self.rng.usize(..5) {
            self.advance();
            let previous = match self.rng.u8(..4) {
                0 => {
                    cancel = !cancel;
                    json!({"cancel_at_period_end": !cancel})
                }
                1 => {
                    let before = object(status, cancel, quantity)["items"].clone();
                    quantity += 1;
                    json!({ "items": before })
                }
                _ => {
                    let before = status;
                    status = if status == "active" {
                        "past_due"
                    } else {
                        "active"
                    };
                    json!({ "status": before })
                }
            };
            self.emit(
                "customer.subscription.updated",
                None,
                &object(status, cancel, quantity),
                Some(previous),
            );
        }
        self.invoices(
            n,
            &customer,
            &id,
            currency,
            basil,
            unit * quantity,
            expected,
        );
        if self.rng.u8(..6) == 0 {
            status = "canceled";
            self.emit(
                "customer.subscription.deleted",
                None,
                &object(status, cancel, quantity),
                None,
            );
        }
        add(&mut expected.subscriptions, status, 1);
        if matches!(status, "active" | "past_due") && !cancel {
            add(&mut expected.mrr_minor, currency, unit * quantity);
            if status == "past_due" {
                add(&mut expected.mrr_past_due_minor, currency, unit * quantity);
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a history has many customers")]
    fn invoices(
        &mut self,
        n: usize,
        customer: &str,
        subscription: &str,
        currency: &str,
        basil: bool,
        due: i64,
        expected: &mut Expected,
    ) {
        let id = format!("in_{n}");
        let object = |status: &str, attempts: i64, next_attempt: Option<i64>| {
            let paid = if status == "paid" { due } else { 0 };
            let mut object = json!({
                "id": id, "object": "invoice", "customer": customer, "currency": currency, "status": status,
                "amount_due": due, "amount_paid": paid, "attempt_count": attempts,
                "collection_method": "charge_automatically", "next_payment_attempt": next_attempt,
            });
            if basil {
                object["parent"] = json!({"type": "subscription_details", "subscription_details": {"subscription": subscription}});
            } else {
                object["subscription"] = subscription.into();
                object["paid"] = (status == "paid").into();
            }
            object
        };
        // All within one second, as at Stripe when a card works immediately.
        self.emit("invoice.created", None, &object("draft", 0, None), None);
        self.emit("invoice.finalized", None, &object("open", 0, None), None);
        let status = match self.rng.u8(..3) {
            0 => {
                let in_days = |days: i64| Some(self.now_s + days * 86_400);
                let (soon, later) = (in_days(3), in_days(8).filter(|_| n.is_multiple_of(2)));
                self.emit(
                    "invoice.payment_failed",
                    None,
                    &object("open", 1, soon),
                    None,
                );
                self.advance();
                self.emit(
                    "invoice.payment_failed",
                    None,
                    &object("open", 2, later),
                    None,
                );
                add(&mut expected.invoices_open_minor, currency, due);
                let remains = match later {
                    Some(_) => &mut expected.retry_queue_minor,
                    None => &mut expected.invoices_uncollected_minor,
                };
                add(remains, currency, due);
                "open"
            }
            _ => {
                self.emit("invoice.paid", None, &object("paid", 1, None), None);
                self.emit(
                    "invoice.payment_succeeded",
                    None,
                    &object("paid", 1, None),
                    None,
                );
                "paid"
            }
        };
        add(&mut expected.invoices, status, 1);
    }

    /// Payouts, some of which fail after they were paid.
    fn payout(&mut self, n: usize, expected: &mut Expected) {
        let account = format!("acct_{}", n / 4 * 4);
        let object = |status: &str| {
            let failure = (status == "failed").then_some("account_closed");
            json!({"id": format!("po_{n}"), "object": "payout", "amount": 1000 + n, "currency": "usd", "status": status, "failure_code": failure})
        };
        self.emit("payout.created", Some(&account), &object("pending"), None);
        let mut status = "pending";
        for next in [
            ["in_transit", "paid"].as_slice(),
            &["paid", "failed"],
            &["failed"],
            &["canceled"],
            &[],
        ][self.rng.usize(..5)]
        {
            self.advance();
            let kind = if *next == "in_transit" {
                "payout.updated".to_owned()
            } else {
                format!("payout.{next}")
            };
            let previous = (*next == "in_transit").then(|| json!({ "status": status }));
            self.emit(&kind, Some(&account), &object(next), previous);
            status = next;
        }
        add(&mut expected.payouts, status, 1);
    }

    /// Accounts that are onboarded, and sometimes restricted again, within a few seconds.
    fn account(&mut self, n: usize, expected: &mut Expected) {
        let id = format!("acct_{n}");
        let object = |charges: bool| {
            json!({"id": id, "object": "account", "country": "DE", "created": 1_700_000_000, "charges_enabled": charges,
                "payouts_enabled": charges, "details_submitted": true,
                "requirements": {"currently_due": [], "past_due": [], "disabled_reason": null}})
        };
        let mut charges = false;
        let mut ever = false;
        self.capability(&id);
        self.emit(
            "account.updated",
            Some(&id),
            &object(charges),
            Some(json!({"details_submitted": false})),
        );
        for _ in 0..self.rng.usize(..4) {
            self.advance();
            let previous = json!({"charges_enabled": charges, "payouts_enabled": charges});
            charges = !charges;
            ever |= charges;
            self.emit(
                "account.updated",
                Some(&id),
                &object(charges),
                Some(previous),
            );
        }
        expected.charging_accounts += i64::from(charges);
        add(
            &mut expected.accounts,
            if charges { "low" } else { "medium" },
            1,
        );
        let stages = [
            "account_created",
            "onboarding_started",
            "external_account_added",
            "charges_enabled",
            "onboarding_completed",
        ];
        // A completed onboarding has passed all stages, including those that no event showed.
        for stage in &stages[..if ever { 5 } else { 2 }] {
            add(&mut expected.funnel, stage, 1);
        }
    }
}
