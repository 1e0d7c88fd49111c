//! A payment intent: its attempts, and whether it ever succeeded.

use std::collections::BTreeSet;

use super::facts::{MoneyMovement, MoneyMovementFacts, MovementRules, NO_RULES, Reached};
use crate::condition::ConditionKind;
use crate::counters::{Bucket, Tally};
use crate::entity::timeline::{RecordedState, fingerprint};

/// What is different for payments.
pub const RULES: MovementRules = MovementRules {
    record,
    contributions,
    condition: |facts| {
        let waits = facts.status == "requires_payment_method" && facts.reason.is_some();
        waits.then_some(ConditionKind::PaymentFailed)
    },
    ..NO_RULES
};

fn record(reached: &mut Reached, state: &RecordedState<MoneyMovementFacts>) {
    let facts = &state.facts;
    reached.done |= facts.status == "succeeded";
    if facts.attempt_failed {
        let attempt = facts.charge.as_deref().unwrap_or(state.event_id.as_str());
        reached.fail(fingerprint(attempt));
    }
}

/// Payments count in the hour of each failed attempt and of the success. `payments_reached` counts
/// what ever happened and only grows.
fn contributions(payment: &MoneyMovement, tally: &mut Tally) {
    let failed = i64::try_from(payment.reached.failed.len()).unwrap_or(i64::MAX);
    let succeeded = payment.reached.done.into();
    tally.add(
        Bucket::Current,
        &["payments_reached", "succeeded"],
        succeeded,
    );
    tally.add(Bucket::Current, &["payments_reached", "failed"], failed);
    let currency = payment.currency();
    let ordered = payment.timeline.in_order();
    let mut charges = BTreeSet::new();
    for failed in ordered.iter().filter(|s| s.facts.attempt_failed) {
        let charge = failed.facts.charge.as_ref();
        if charge.is_some_and(|charge| !charges.insert(charge)) {
            continue;
        }
        let minute = Bucket::minute_of(failed.created_s);
        tally.add(minute, &["payments", "failed", currency], 1);
        tally.add(Bucket::Current, &["payment_attempts", "failed"], 1);
    }
    let done = ordered.iter().find(|s| s.facts.status == "succeeded");
    let was_done =
        |s: &RecordedState<_>| payment.timeline.is_first(s) && s.was_so_before(&["status"]);
    if let Some(done) = done.filter(|s| !was_done(s)) {
        let minute = Bucket::minute_of(done.created_s);
        tally.add(minute, &["payments", "succeeded", currency], 1);
        tally.add_amount(
            minute,
            &["payments_minor", "succeeded"],
            done.facts.amount_minor,
            payment.origin.currency.as_deref(),
        );
        tally.add(Bucket::Current, &["payment_attempts", "succeeded"], 1);
    }
}
