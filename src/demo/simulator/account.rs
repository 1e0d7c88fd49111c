//! Connected accounts and their payouts, as the simulator remembers them.

use serde_json::Value;

use super::event::{Draft, Shape};

pub struct Account {
    pub id: String,
    pub name: String,
    pub country: &'static str,
    pub currency: &'static str,
    pub bank: String,
    pub created_s: i64,
    /// The stage of onboarding: 0 new, 1 form submitted, 2 bank account added, 3 active.
    pub stage: u8,
    /// It was active and lost the right to take charges.
    pub disabled: bool,
    pub connected: bool,
    pub changed_s: i64,
}

pub struct Payout {
    pub id: String,
    pub account: usize,
    pub amount_minor: i64,
    pub status: &'static str,
    pub created_s: i64,
}

impl Account {
    pub fn charges_enabled(&self) -> bool {
        self.stage >= 3 && !self.disabled
    }

    pub fn payouts_enabled(&self) -> bool {
        self.charges_enabled()
    }

    pub fn capability(&self) -> &'static str {
        match (self.charges_enabled(), self.stage) {
            (true, _) => "active",
            (false, 2) => "pending",
            _ => "inactive",
        }
    }

    pub fn draft(
        &self,
        kind: &'static str,
        at_s: i64,
        object: Value,
        previous: Option<Value>,
    ) -> Draft<'_> {
        Draft {
            kind,
            created_s: at_s,
            account: Some(&self.id),
            shape: Shape::Clover,
            object,
            previous,
        }
    }
}
