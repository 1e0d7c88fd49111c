//! A dispute: open until it is decided. Until it is answered, the evidence is due.

use super::facts::{MoneyMovement, MoneyMovementFacts, MovementRules, NO_RULES};
use crate::condition::ConditionKind;
use crate::counters::{Bucket, Tally};

/// What is different for disputes.
pub const RULES: MovementRules = MovementRules {
    contributions,
    condition: |facts| is_open(facts).then_some(ConditionKind::DisputeOpen),
    answer_by: |facts| facts.evidence_due_s.filter(|_| needs_response(facts)),
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

/// Nothing was submitted yet, to the bank's inquiry or to its chargeback.
/// Source: the `status` of <https://docs.stripe.com/api/disputes/object>.
fn needs_response(facts: &MoneyMovementFacts) -> bool {
    matches!(
        facts.status.as_str(),
        "needs_response" | "warning_needs_response"
    )
}
