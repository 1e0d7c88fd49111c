//! A refund: a problem when it did not arrive.

use super::facts::{MovementRules, NO_RULES};
use crate::condition::ConditionKind;

/// What is different for refunds.
pub const RULES: MovementRules = MovementRules {
    condition: |facts| (facts.status == "failed").then_some(ConditionKind::RefundFailed),
    ..NO_RULES
};
