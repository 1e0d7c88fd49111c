//! What is wrong with one entity, from when on: the facts that alert rules of kind `condition` read.

use serde::{Deserialize, Serialize};

use crate::entity::EntityKey;
use crate::money::Money;

/// The kinds of trouble an entity can be in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConditionKind {
    /// A connected account could take charges and no longer can (C2).
    ChargesLost,
    /// A connected account removed the platform (C3).
    Deauthorized,
    /// A payout failed (C6).
    PayoutFailed,
    /// A subscription is past due (R5).
    PastDue,
}

impl ConditionKind {
    /// Every kind, for rule files and metrics.
    pub const ALL: [Self; 4] = [Self::ChargesLost, Self::Deauthorized, Self::PayoutFailed, Self::PastDue];

    /// The name rule files use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ChargesLost => "charges_lost",
            Self::Deauthorized => "deauthorized",
            Self::PayoutFailed => "payout_failed",
            Self::PastDue => "past_due",
        }
    }
}

/// Which condition of which entity.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ConditionKey {
    /// What.
    pub kind: ConditionKind,
    /// Whose.
    pub subject: EntityKey,
}

/// A condition that holds, or will from `due_s` on if nothing changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// What and whose.
    #[serde(flatten)]
    pub key: ConditionKey,
    /// Unix seconds at which it began.
    pub since_s: i64,
    /// Unix seconds from which it counts; equal to `since_s` when it counts at once.
    pub due_s: i64,
    /// The connected account concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The money concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub money: Option<Money>,
    /// Stripe's reason, such as a failure code or `requirements.past_due`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The event that began it.
    pub event_id: String,
}
