//! Payments, disputes, refunds and transfers.

use serde_json::{Value, json};

use super::HistoryBuilder;
use super::expected::{Expected, add};

impl HistoryBuilder {
    /// Payments that are sometimes refused, whether they succeed in the end or not. Every fourth
    /// success is disputed, every third refunded.
    pub(super) fn payment(&mut self, n: usize, expected: &mut Expected) {
        let object = |status: &str, charge: usize| {
            let refused = (status == "requires_payment_method" && charge > 0)
                .then(|| json!({"type": "card_error", "code": "card_declined", "charge": format!("ch_{n}_{charge}")}));
            json!({"id": format!("pi_{n}"), "object": "payment_intent", "amount": 500 + n, "currency": "usd", "customer": format!("cus_{n}"),
                "status": status, "last_payment_error": refused, "latest_charge": (charge > 0).then(|| format!("ch_{n}_{charge}"))})
        };
        self.emit(
            "payment_intent.created",
            None,
            &object("requires_payment_method", 0),
            None,
        );
        let mut status = "requires_payment_method";
        let refusals = self.rng.usize(..3);
        for charge in 1..=refusals {
            self.advance();
            self.emit(
                "payment_intent.payment_failed",
                None,
                &object(status, charge),
                None,
            );
            add(&mut expected.payment_attempts, "failed", 1);
        }
        match self.rng.u8(..4) {
            0 => {}
            1 => {
                self.advance();
                status = "canceled";
                self.emit(
                    "payment_intent.canceled",
                    None,
                    &object(status, refusals),
                    None,
                );
            }
            _ => {
                status = "succeeded";
                self.emit(
                    "payment_intent.processing",
                    None,
                    &object("processing", refusals + 1),
                    None,
                );
                self.advance();
                self.emit(
                    "payment_intent.succeeded",
                    None,
                    &object(status, refusals + 1),
                    None,
                );
                add(&mut expected.payment_attempts, "succeeded", 1);
                if n.is_multiple_of(4) {
                    self.dispute(n, expected);
                }
                if n.is_multiple_of(3) {
                    self.refund(n, expected);
                }
            }
        }
        add(&mut expected.payment_intents, status, 1);
    }

    fn dispute(&mut self, n: usize, expected: &mut Expected) {
        let object = |status: &str| {
            json!({"id": format!("dp_{n}"), "object": "dispute", "amount": 500 + n, "currency": "usd", "charge": format!("ch_{n}"),
                "reason": "fraudulent", "status": status})
        };
        let mut status = "needs_response";
        self.emit("charge.dispute.created", None, &object(status), None);
        self.emit(
            "charge.dispute.funds_withdrawn",
            None,
            &object(status),
            None,
        );
        for _ in 0..self.rng.usize(..4) {
            self.advance();
            let before = status;
            status = if status == "needs_response" {
                "under_review"
            } else {
                "needs_response"
            };
            self.emit(
                "charge.dispute.updated",
                None,
                &object(status),
                Some(json!({ "status": before })),
            );
        }
        if self.rng.bool() {
            status = ["won", "lost"][self.rng.usize(..2)];
            self.emit("charge.dispute.closed", None, &object(status), None);
        }
        add(&mut expected.disputes, status, 1);
    }

    /// Succeeded refunds may fail later.
    fn refund(&mut self, n: usize, expected: &mut Expected) {
        let object = |status: &str| {
            json!({"id": format!("re_{n}"), "object": "refund", "amount": 100, "currency": "usd", "charge": format!("ch_{n}"), "status": status,
                "failure_reason": (status == "failed").then_some("expired_or_canceled_card")})
        };
        let mut status = "pending";
        self.emit("refund.created", None, &object(status), None);
        for next in ["succeeded", "failed"]
            .into_iter()
            .take(self.rng.usize(..3))
        {
            self.advance();
            self.emit(
                "refund.updated",
                None,
                &object(next),
                Some(json!({ "status": status })),
            );
            status = next;
        }
        if status == "failed" {
            self.emit("refund.failed", None, &object(status), None);
        }
        add(&mut expected.refunds, status, 1);
    }

    pub(super) fn transfer(&mut self, n: usize, expected: &mut Expected) {
        let object = |back: i64| {
            json!({"id": format!("tr_{n}"), "object": "transfer", "amount": 900, "amount_reversed": back, "reversed": back == 900,
                "currency": "usd", "destination": "acct_0"})
        };
        self.emit("transfer.created", None, &object(0), None);
        let mut status = "created";
        for (back, next) in [(300, "partially_reversed"), (900, "reversed")]
            .into_iter()
            .take(self.rng.usize(..3))
        {
            self.advance();
            self.emit("transfer.reversed", None, &object(back), None);
            status = next;
        }
        add(&mut expected.transfers, status, 1);
    }

    /// Capabilities change within their account and do not affect its numbers.
    pub(super) fn capability(&mut self, account: &str) {
        let mut status = "pending";
        let object = |status: &str| -> Value {
            json!({"id": "card_payments", "object": "capability", "account": account, "requested": true, "status": status})
        };
        for next in ["active", "inactive", "active"]
            .into_iter()
            .take(self.rng.usize(..4))
        {
            self.emit(
                "capability.updated",
                Some(account),
                &object(next),
                Some(json!({ "status": status })),
            );
            status = next;
            self.advance();
        }
    }
}
