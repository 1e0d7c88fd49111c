//! Subscriptions, their plans and their invoices, as the simulator remembers them.

use serde_json::Value;

use super::event::{Draft, Shape};

pub struct Subscription {
    pub id: String,
    pub item: String,
    pub customer: String,
    pub plan: &'static Plan,
    pub currency: &'static str,
    pub quantity: i64,
    pub shape: Shape,
    pub status: Status,
    pub created_s: i64,
    pub period_start_s: i64,
    pub trial_end_s: Option<i64>,
    pub cancelling: bool,
    pub latest_invoice: Option<String>,
    /// The unpaid invoice: the reason for being past due.
    pub open_invoice: Option<Invoice>,
    /// It stays past due until the incident ends.
    pub stuck: bool,
    /// Unix seconds of the latest change: the order of two changes within one second would be
    /// undefined.
    pub changed_s: i64,
}

pub struct Invoice {
    pub id: String,
    pub number: String,
    pub payment_intent: String,
    pub status: &'static str,
    pub reason: &'static str,
    pub amount_minor: i64,
    pub attempts: u32,
    /// Unix seconds of the next attempt, if one is scheduled.
    pub next_attempt_s: Option<i64>,
    pub created_s: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Trialing,
    Active,
    PastDue,
    Canceled,
}

pub struct Plan {
    pub lookup_key: &'static str,
    pub product: &'static str,
    pub interval: &'static str,
    /// In the order of [`CURRENCIES`]; yearly amounts are multiples of 12, so that the monthly
    /// amount is an integer.
    pub amounts_minor: [i64; 4],
}

/// JPY has no decimals.
pub const CURRENCIES: [&str; 4] = ["usd", "eur", "brl", "jpy"];

impl Plan {
    pub fn amount_minor(&self, currency: &str) -> i64 {
        let index = CURRENCIES.iter().position(|c| *c == currency);
        index.map_or(0, |i| self.amounts_minor[i])
    }
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trialing => "trialing",
            Self::Active => "active",
            Self::PastDue => "past_due",
            Self::Canceled => "canceled",
        }
    }
}

impl Subscription {
    pub fn period_end_s(&self) -> i64 {
        self.period_start_s
            + if self.plan.interval == "year" {
                365
            } else {
                30
            } * 86_400
    }

    pub fn mrr_minor(&self) -> i64 {
        if self.cancelling || !matches!(self.status, Status::Active | Status::PastDue) {
            return 0;
        }
        let months = if self.plan.interval == "year" { 12 } else { 1 };
        self.plan.amount_minor(self.currency) * self.quantity / months
    }

    pub fn draft(
        &self,
        kind: &'static str,
        at_s: i64,
        object: Value,
        previous: Option<Value>,
    ) -> Draft<'static> {
        Draft {
            kind,
            created_s: at_s,
            account: None,
            shape: self.shape,
            object,
            previous,
        }
    }
}
