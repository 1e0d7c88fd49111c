//! What one event says of an invoice.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::entity::merge::keep_greater;
use crate::entity::recurring::InvoiceTaxes;
use crate::entity::stripe_enums::{CollectionMethod, InvoiceStatus};
use crate::entity::timeline::{Facts, value_fingerprint};

/// Facts that Stripe never changes during an invoice's life.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvoiceOrigin {
    /// The connected account it belongs to.
    pub account: Option<String>,
    /// `cus_…`
    pub customer: Option<String>,
    /// The subscription it bills.
    pub subscription: Option<String>,
    /// Lower case.
    pub currency: Option<String>,
    /// It is the first of its subscription (`billing_reason` is `subscription_create`).
    #[serde(default)]
    pub starts_subscription: bool,
    /// The tax of its subscription's items, once it is final, if some of it is inclusive.
    #[serde(default)]
    pub taxes: Option<Box<InvoiceTaxes>>,
}

/// The state of an invoice in one event.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct InvoiceFacts {
    /// Stripe's status, or `deleted`.
    pub status: InvoiceStatus,
    /// Minor units, if known.
    pub amount_due_minor: Option<i64>,
    /// Minor units, if known.
    pub amount_paid_minor: Option<i64>,
    /// Payment attempts so far, if known. Of those after the first, Stripe counts only its own retries.
    /// Source: <https://docs.stripe.com/api/invoices/object#invoice_object-attempt_count>.
    pub attempts: Option<u32>,
    /// The event itself requires the customer to act (`invoice.payment_action_required`).
    pub action_required: bool,
    /// The event itself reports a failed attempt (`invoice.payment_failed`). Not known of what earlier
    /// versions stored.
    #[serde(default)]
    pub attempt_failed: Option<bool>,
    /// When Stripe will try again.
    #[serde(default)]
    pub next_attempt: NextAttempt,
    /// Whether Stripe collects it or the customer has to pay it, if known.
    #[serde(default)]
    pub collection_method: Option<CollectionMethod>,
}

/// When Stripe will try to collect an invoice the next time. Stored as one number: 0 for never.
/// Source: <https://docs.stripe.com/api/invoices/object#invoice_object-next_payment_attempt>.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum NextAttempt {
    /// No event says it.
    #[default]
    Unknown,
    /// No attempt is scheduled.
    Never,
    /// At this Unix second.
    At(i64),
}

impl InvoiceOrigin {
    pub(super) fn merge(&mut self, other: &Self) {
        keep_greater(&mut self.account, &other.account);
        keep_greater(&mut self.customer, &other.customer);
        keep_greater(&mut self.subscription, &other.subscription);
        keep_greater(&mut self.currency, &other.currency);
        self.starts_subscription |= other.starts_subscription;
        keep_greater(&mut self.taxes, &other.taxes);
    }
}

impl InvoiceFacts {
    /// Whether it is finalized and neither settled nor written off.
    pub(super) fn is_open(&self) -> bool {
        matches!(
            self.status,
            InvoiceStatus::Open | InvoiceStatus::OpenPaymentPending
        )
    }

    /// How many attempts have failed at least. An attempt that is not known to have failed may be under way:
    /// a bank debit takes days. Stripe schedules a retry only of what has failed.
    pub(super) fn failed_attempts(&self) -> u32 {
        let attempts = self.attempts.unwrap_or(0);
        match self.attempt_failed {
            Some(true) => attempts.max(1),
            Some(false) if !matches!(self.next_attempt, NextAttempt::At(_)) => {
                attempts.saturating_sub(1)
            }
            // Earlier versions took every attempt on an open invoice for a failed one.
            Some(false) | None => attempts,
        }
    }
}

impl Facts for InvoiceFacts {
    const FIELDS: &'static [&'static str] = &[
        "status",
        "amount_due",
        "amount_paid",
        "attempt_count",
        "next_payment_attempt",
    ];

    /// Invoices only go forward (draft, open, uncollectible, then paid, void or deleted), and attempts
    /// only grow; unknown ones come first. Source: <https://docs.stripe.com/invoicing/overview#invoice-statuses>.
    fn progress(&self) -> u64 {
        let status = match self.status {
            InvoiceStatus::Draft => 0,
            InvoiceStatus::Open | InvoiceStatus::OpenPaymentPending | InvoiceStatus::Other(_) => 1,
            InvoiceStatus::Uncollectible => 2,
            InvoiceStatus::Paid | InvoiceStatus::Void => 3,
            InvoiceStatus::Deleted => 4,
        };
        (status << 32) | u64::from(self.attempts.unwrap_or(0))
    }

    fn value(&self, place: usize) -> u32 {
        match place {
            0 => value_fingerprint(self.status.as_str()),
            1 => value_fingerprint(self.amount_due_minor),
            2 => value_fingerprint(self.amount_paid_minor),
            3 => value_fingerprint(self.attempts),
            _ => value_fingerprint(self.next_attempt.at_s()),
        }
    }
}

impl NextAttempt {
    /// Unix seconds, if an attempt is scheduled.
    pub fn at_s(self) -> Option<i64> {
        match self {
            Self::At(at_s) => Some(at_s),
            Self::Never | Self::Unknown => None,
        }
    }
}

const NEVER: i64 = 0;

impl Serialize for NextAttempt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Unknown => serializer.serialize_none(),
            Self::Never if serializer.is_human_readable() => serializer.serialize_str("never"),
            Self::Never => serializer.serialize_some(&NEVER),
            Self::At(at_s) => serializer.serialize_some(at_s),
        }
    }
}

/// Reads the stored form.
impl<'de> Deserialize<'de> for NextAttempt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let stored = Option::<i64>::deserialize(deserializer)?;
        Ok(match stored {
            None => Self::Unknown,
            Some(NEVER) => Self::Never,
            Some(at_s) => Self::At(at_s),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(
        attempts: Option<u32>,
        attempt_failed: Option<bool>,
        next_attempt: NextAttempt,
    ) -> InvoiceFacts {
        InvoiceFacts {
            status: InvoiceStatus::Open,
            amount_due_minor: Some(100),
            amount_paid_minor: Some(0),
            attempts,
            action_required: false,
            attempt_failed,
            next_attempt,
            collection_method: None,
        }
    }

    #[test]
    fn an_attempt_has_failed_if_the_event_says_so_or_stripe_will_try_again() {
        use NextAttempt::{At, Never, Unknown};
        let table = [
            (Some(2), Some(true), Never, 2),
            (Some(0), Some(true), Never, 1),
            (None, Some(true), Unknown, 1),
            (Some(2), Some(false), Never, 1),
            (Some(1), Some(false), Never, 0),
            (Some(1), Some(false), Unknown, 0),
            (Some(1), Some(false), At(5), 1),
            (Some(0), Some(false), At(5), 0),
            (None, Some(false), At(5), 0),
            (Some(1), None, Unknown, 1),
        ];
        for (attempts, failed, next, expected) in table {
            assert_eq!(
                facts(attempts, failed, next).failed_attempts(),
                expected,
                "{attempts:?} attempts, failed: {failed:?}, next: {next:?}"
            );
        }
    }

    #[test]
    fn the_next_attempt_comes_back_as_it_was_stored() {
        for next in [
            NextAttempt::Unknown,
            NextAttempt::Never,
            NextAttempt::At(1),
            NextAttempt::At(1_800_000_000),
        ] {
            let bytes = rmp_serde::to_vec(&next).expect("encodes");
            let found: NextAttempt = rmp_serde::from_slice(&bytes).expect("decodes");
            assert_eq!(found, next);
        }
        let shown = [NextAttempt::Unknown, NextAttempt::Never, NextAttempt::At(7)]
            .map(|next| serde_json::to_string(&next).expect("JSON"));
        assert_eq!(shown, ["null", "\"never\"", "7"]);
    }
}
