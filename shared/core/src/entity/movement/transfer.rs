//! A transfer to a connected account: a problem when it was reversed.

use super::facts::{MovementRules, NO_RULES};
use crate::condition::ConditionKind;

/// What is different for transfers.
pub const RULES: MovementRules = MovementRules {
    condition: |facts| {
        let reversed = matches!(facts.status.as_str(), "reversed" | "partially_reversed");
        reversed.then_some(ConditionKind::TransferReversed)
    },
    ..NO_RULES
};
