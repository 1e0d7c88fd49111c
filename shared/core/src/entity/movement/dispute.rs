//! A dispute: open until it is decided.

use super::facts::{MoneyMovement, MoneyMovementFacts, MovementRules, NO_RULES};
use crate::condition::ConditionKind;
use crate::counters::{Bucket, Tally};

/// What is different for disputes.
pub const RULES: MovementRules = MovementRules {
    contributions,
    condition: |facts| is_open(facts).then_some(ConditionKind::DisputeOpen),
    ..NO_RULES
};

fn contributions(dispute: &MoneyMovement, tally: &mut Tally) {
    if let Some(facts) = dispute.current().filter(|facts| is_open(facts)) {
        tally.add_amount(
            Bucket::Current,
            &["disputed_minor"],
            facts.amount_minor,
            dispute.origin.currency.as_deref(),
        );
    }
}

fn is_open(facts: &MoneyMovementFacts) -> bool {
    !matches!(
        facts.status.as_str(),
        "won" | "lost" | "warning_closed" | "prevented"
    )
}
