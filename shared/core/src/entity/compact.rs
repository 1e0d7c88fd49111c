//! A compact stored form for strings that recur in Stripe's events: known strings become numbers.
//!
//! Invariant: a string has one form, so that equal entities are equal bytes; and a number never
//! changes its meaning: the lists are only appended to. Human-readable formats (JSON) contain the
//! strings.

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserializer, Serializer};

/// Writes a string; in binary formats a known string becomes its index in `known`.
pub(super) fn write<S: Serializer>(
    word: &str,
    known: &[&str],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match known.iter().position(|k| *k == word) {
        Some(number) if !serializer.is_human_readable() => serializer.serialize_u64(number as u64),
        _ => serializer.serialize_str(word),
    }
}

/// Reads the output of [`write`].
pub(super) fn read<'de, D: Deserializer<'de>>(
    known: &'static [&'static str],
    from: D,
) -> Result<String, D::Error> {
    from.deserialize_any(Word(known))
}

/// For the paths within Stripe's objects, as format 1 stored them; for `#[serde(deserialize_with = …)]`.
pub(super) fn path<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    read(PATHS, from)
}

struct Word(&'static [&'static str]);

impl Visitor<'_> for Word {
    type Value = String;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a string, or a number below {}", self.0.len())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<String, E> {
        let word = usize::try_from(number).ok().and_then(|n| self.0.get(n));
        word.map(|w| (*w).to_owned())
            .ok_or_else(|| E::invalid_value(Unexpected::Unsigned(number), &self))
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<String, E> {
        Ok(word.to_owned())
    }

    fn visit_string<E: Error>(self, word: String) -> Result<String, E> {
        Ok(word)
    }
}

/// The paths that `previous_attributes` names most often, by their numbers in format 1.
#[rustfmt::skip]
const PATHS: &[&str] = &[
    // subscriptions
    "status", "items.data", "latest_invoice", "current_period_end", "current_period_start", "cancel_at_period_end",
    "cancel_at", "canceled_at", "ended_at", "trial_end", "trial_start", "quantity", "billing_cycle_anchor",
    "cancellation_details.reason", "default_payment_method", "discount", "discounts", "pending_update", "schedule",
    "plan.id", "plan.amount", "plan.amount_decimal", "plan.created", "plan.interval", "plan.nickname", "plan.product",
    // invoices
    "amount_due", "amount_paid", "amount_remaining", "attempt_count", "attempted", "auto_advance", "charge",
    "due_date", "effective_at", "ending_balance", "hosted_invoice_url", "invoice_pdf", "next_payment_attempt",
    "number", "paid", "payment_intent", "status_transitions.finalized_at", "status_transitions.paid_at",
    "webhooks_delivered_at",
    // payouts and movements
    "amount", "amount_capturable", "amount_received", "arrival_date", "balance_transaction", "failure_code",
    "failure_message", "failure_balance_transaction", "trace_id.status", "trace_id.value", "last_payment_error",
    "amount_reversed", "reversed", "evidence_details.has_evidence", "evidence_details.submission_count",
    // accounts and capabilities
    "charges_enabled", "payouts_enabled", "details_submitted", "requirements.currently_due", "requirements.past_due",
    "requirements.eventually_due", "requirements.pending_verification", "requirements.disabled_reason",
    "requirements.current_deadline", "requirements.errors", "future_requirements.currently_due",
    "future_requirements.past_due", "future_requirements.eventually_due", "future_requirements.pending_verification",
    "capabilities.card_payments", "capabilities.transfers", "external_accounts.data", "external_accounts.total_count",
    "tos_acceptance.date", "tos_acceptance.ip", "requested", "requested_at",
];

#[cfg(test)]
mod tests {
    use crate::entity::stripe_enums::SubscriptionStatus;

    #[test]
    fn a_status_is_a_number_in_binary_and_a_string_in_json() {
        for (status, bytes, json) in [
            (SubscriptionStatus::PastDue, vec![4], "\"past_due\""),
            (
                SubscriptionStatus::Other("new".into()),
                b"\xa3new".to_vec(),
                "\"new\"",
            ),
        ] {
            assert_eq!(rmp_serde::to_vec(&status).expect("encodes"), bytes);
            assert_eq!(
                rmp_serde::from_slice::<SubscriptionStatus>(&bytes).expect("decodes"),
                status
            );
            assert_eq!(serde_json::to_string(&status).expect("JSON"), json);
            assert_eq!(
                serde_json::from_str::<SubscriptionStatus>(json).expect("JSON"),
                status
            );
        }
        assert!(
            rmp_serde::from_slice::<SubscriptionStatus>(&[100]).is_err(),
            "a number of a later version"
        );
    }
}
