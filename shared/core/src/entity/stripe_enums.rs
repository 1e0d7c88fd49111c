//! Stripe's enums. All are open: an unknown value is kept as text and counted; it is never an
//! error.

use super::timeline::value_fingerprint;

/// Stripe's statuses: the kind of object, the field and the value. The file names its sources and the API version.
pub fn documented_statuses() -> impl Iterator<Item = [&'static str; 3]> {
    let lines = include_str!("../statuses.txt").lines();
    let lines = lines.filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split(' ').collect::<Vec<_>>().try_into().ok())
}

/// Declares an enum of Stripe's values plus `Other(text)`. In storage a known value is its index in
/// the list: append new variants at the end.
macro_rules! open_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name {
            $($(#[$vdoc])* $variant,)+
            /// A value that this version does not know.
            Other(String),
        }

        impl $name {
            /// Stripe's value.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $word,)+
                    Self::Other(word) => word,
                }
            }

            /// Stripe's value if this version knows it, else `other`: bounded, for labels.
            pub fn label(&self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                    Self::Other(_) => "other",
                }
            }
        }

        impl From<String> for $name {
            fn from(word: String) -> Self {
                match word.as_str() {
                    $($word => Self::$variant,)+
                    _ => Self::Other(word),
                }
            }
        }

        impl $name {
            const WORDS: &[&str] = &[$($word),+];

            /// The known value with this fingerprint, as of [`super::timeline::Before::Was`].
            pub fn with_fingerprint(fingerprint: u32) -> Option<Self> {
                let word = Self::WORDS.iter().find(|w| value_fingerprint(w) == fingerprint)?;
                Some(Self::from((*word).to_owned()))
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                super::compact::write(self.as_str(), Self::WORDS, serializer)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                super::compact::read(Self::WORDS, deserializer).map(Self::from)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

open_enum! {
    /// Source: <https://docs.stripe.com/api/subscriptions/object#subscription_object-status>.
    SubscriptionStatus {
        /// The first payment has not succeeded yet.
        Incomplete = "incomplete",
        /// It did not succeed within 23 hours; terminal.
        IncompleteExpired = "incomplete_expired",
        /// In trial.
        Trialing = "trialing",
        /// Paid.
        Active = "active",
        /// A renewal payment failed and is being retried.
        PastDue = "past_due",
        /// Ended; terminal.
        Canceled = "canceled",
        /// Retries are exhausted, the subscription continues unpaid.
        Unpaid = "unpaid",
        /// A trial ended without a payment method.
        Paused = "paused",
    }
}

open_enum! {
    /// Source: <https://docs.stripe.com/api/invoices/object#invoice_object-status>.
    InvoiceStatus {
        /// Not finalized.
        Draft = "draft",
        /// Finalized, waiting for payment.
        Open = "open",
        /// Paid; terminal.
        Paid = "paid",
        /// Written off, may still be paid.
        Uncollectible = "uncollectible",
        /// Void; terminal.
        Void = "void",
        /// A deleted draft (`invoice.deleted`; not one of Stripe's statuses).
        Deleted = "deleted",
        /// Open, and a payment is processing. Named in
        /// <https://docs.stripe.com/billing/subscriptions/overview>, not in the API's list.
        OpenPaymentPending = "open_payment_pending",
    }
}

open_enum! {
    /// Source: <https://docs.stripe.com/api/invoices/object#invoice_object-collection_method>.
    CollectionMethod {
        /// Stripe tries to collect it, and tries again.
        ChargeAutomatically = "charge_automatically",
        /// The customer gets it and pays.
        SendInvoice = "send_invoice",
    }
}

open_enum! {
    /// Source: <https://docs.stripe.com/api/payouts/object#payout_object-status>.
    PayoutStatus {
        /// Not yet sent to the bank.
        Pending = "pending",
        /// On its way.
        InTransit = "in_transit",
        /// Expected to arrive; may still fail.
        Paid = "paid",
        /// Did not arrive.
        Failed = "failed",
        /// Canceled before it was sent.
        Canceled = "canceled",
    }
}

open_enum! {
    /// Source: <https://docs.stripe.com/api/capabilities/object#capability_object-status>;
    /// `disabled` is from API versions before 2024-06-20, `restricted`, `rejected` and `unsupported` are
    /// of Accounts v2: <https://docs.stripe.com/api/v2/core/accounts/object>.
    CapabilityStatus {
        /// In use.
        Active = "active",
        /// Not usable, for instance because of requirements.
        Inactive = "inactive",
        /// Being verified.
        Pending = "pending",
        /// Not requested.
        Unrequested = "unrequested",
        /// Not usable (old API versions).
        Disabled = "disabled",
        /// Not usable until something is resolved.
        Restricted = "restricted",
        /// Refused for good.
        Rejected = "rejected",
        /// Not offered for such an account.
        Unsupported = "unsupported",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::entity::disabled_reason::explained;
    use crate::entity::movement::MoneyMovementFacts;

    fn documented(object: &str, field: &str) -> BTreeSet<&'static str> {
        let statuses = documented_statuses();
        let of_object = statuses.filter(|[o, f, _]| (*o, *f) == (object, field));
        of_object.map(|[.., value]| value).collect()
    }

    #[test]
    fn the_known_statuses_are_the_documented_ones() {
        // A deleted draft has a status of our own, and one status is documented elsewhere.
        let others = ["deleted", "open_payment_pending"];
        let invoice = InvoiceStatus::WORDS.iter().filter(|w| !others.contains(*w));
        let table = [
            ("subscription", SubscriptionStatus::WORDS.iter().collect()),
            ("invoice", invoice.collect::<BTreeSet<_>>()),
            ("payout", PayoutStatus::WORDS.iter().collect()),
            ("capability", CapabilityStatus::WORDS.iter().collect()),
        ];
        for (object, known) in table {
            let known: BTreeSet<&str> = known.into_iter().copied().collect();
            assert_eq!(known, documented(object, "status"), "{object}");
        }
        for object in ["payment_intent", "checkout_session", "dispute", "refund"] {
            for status in documented(object, "status") {
                let facts = MoneyMovementFacts::with_status(status);
                assert_eq!(facts.status_label(), status, "{object}");
            }
        }
    }

    #[test]
    fn every_documented_reason_is_explained() {
        for object in ["account", "capability"] {
            let reasons = documented(object, "requirements.disabled_reason");
            assert!(reasons.len() >= 10);
            for reason in reasons {
                assert_ne!(explained(reason), reason, "{object}");
            }
        }
    }
}
