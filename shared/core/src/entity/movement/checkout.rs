//! A checkout session: whether it was ever completed.

use super::facts::{MovementRules, NO_RULES};
use crate::counters::Bucket;

/// What is different for checkouts.
pub const RULES: MovementRules = MovementRules {
    record: |reached, state| reached.done |= state.facts.status == "complete",
    contributions: |checkout, tally| {
        let completed = checkout.reached.done.into();
        tally.add(
            Bucket::Current,
            &["checkouts_reached", "complete"],
            completed,
        );
    },
    ..NO_RULES
};
