//! The problems of one entity, each with its start: the facts that alert rules of kind `condition`
//! read.

use serde::{Deserialize, Serialize};

use crate::amounts::UncertainMoney;
use crate::class::{Class, Owner};
use crate::entity::key::EntityKey;
use crate::entity::kind::EntityKind;
use crate::money::Money;
use crate::realm::Realm;

/// The kinds of problem that an entity can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConditionKind {
    /// A connected account could take charges and no longer can (C2).
    ChargesLost,
    /// A connected account removed the platform (C3).
    Deauthorized,
    /// A connected account has overdue requirements and cannot work fully (C9).
    AccountRestricted,
    /// Stripe or the platform disabled a connected account (C9).
    AccountDisabled,
    /// A connected account takes charges but cannot be paid out (C9).
    PayoutsBlocked,
    /// A connected account could be paid out but cannot take charges (C9).
    ChargesBlocked,
    /// A connected account has not reached charges; counts 24 hours after it was created (C1, C9).
    OnboardingIncomplete,
    /// A connected account has requirements due; counts 48 hours after they came up (C2).
    RequirementsDue,
    /// A capability is inactive or pending; counts after 72 hours (C5).
    CapabilityWaiting,
    /// A capability was disabled (C5).
    CapabilityDisabled,
    /// A thin event reported a change of an account that only the API can show.
    AccountStale,
    /// A payout failed (C6).
    PayoutFailed,
    /// A subscription is past due (R5).
    PastDue,
    /// A trial ends; counts from three days before (R4).
    TrialEnding,
    /// An invoice is open after a failed attempt to collect it, and its retries are not exhausted (K2).
    InvoicePaymentFailed,
    /// The same after three or more failed attempts (B6).
    DunningEscalation,
    /// An invoice is open, all attempts to collect it have failed, Stripe will not try again, and something is owed.
    RetriesExhausted,
    /// A customer must act before an invoice can be paid (B1).
    PaymentActionRequired,
    /// A payment failed and waits for another payment method (K2).
    PaymentFailed,
    /// A customer disputes a charge.
    DisputeOpen,
    /// A refund did not arrive.
    RefundFailed,
    /// A transfer to a connected account was taken back, completely or in part (C8).
    TransferReversed,
    /// The part of a subscription in MRR is only known to be between two bounds.
    MrrIncomplete,
    /// A payout that takes money back from a bank account failed: the reversal of a payout, or another
    /// one with a negative amount (C6).
    PayoutReversalFailed,
    /// A connected account takes charges but cannot be paid out, and its balance is above 100.00 or unknown
    /// (C9).
    BalanceBlocked,
    /// A thin event reported a change of an object other than an account, which only the API can show.
    StateNeeded,
    /// A subscription has a newer invoice than the one that showed the inclusive tax of its items, or none did.
    InvoiceNeeded,
    /// A past state of a subscription has a discount whose coupon is not known yet.
    CouponNeeded,
    /// A dispute waits for an answer; counts from three days before Stripe's deadline for the evidence.
    DisputeEvidenceDue,
    /// A retry of an invoice was planned, or an attempt is under way, and no event says how it ended; counts a day
    /// after the planned time, and three weeks after the attempt began.
    AttemptUnreported,
    /// A support ticket is open, and no first response was given (R3, R8).
    TicketUnanswered,
}

impl ConditionKind {
    /// Every kind, for rule files and metrics.
    pub const ALL: [Self; 31] = [
        Self::ChargesLost,
        Self::Deauthorized,
        Self::AccountRestricted,
        Self::AccountDisabled,
        Self::PayoutsBlocked,
        Self::ChargesBlocked,
        Self::OnboardingIncomplete,
        Self::RequirementsDue,
        Self::CapabilityWaiting,
        Self::CapabilityDisabled,
        Self::AccountStale,
        Self::PayoutFailed,
        Self::PastDue,
        Self::TrialEnding,
        Self::InvoicePaymentFailed,
        Self::DunningEscalation,
        Self::RetriesExhausted,
        Self::PaymentActionRequired,
        Self::PaymentFailed,
        Self::DisputeOpen,
        Self::RefundFailed,
        Self::TransferReversed,
        Self::MrrIncomplete,
        Self::PayoutReversalFailed,
        Self::BalanceBlocked,
        Self::StateNeeded,
        Self::InvoiceNeeded,
        Self::CouponNeeded,
        Self::DisputeEvidenceDue,
        Self::AttemptUnreported,
        Self::TicketUnanswered,
    ];

    /// The name rule files use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ChargesLost => "charges_lost",
            Self::Deauthorized => "deauthorized",
            Self::AccountRestricted => "account_restricted",
            Self::AccountDisabled => "account_disabled",
            Self::PayoutsBlocked => "payouts_blocked",
            Self::ChargesBlocked => "charges_blocked",
            Self::OnboardingIncomplete => "onboarding_incomplete",
            Self::RequirementsDue => "requirements_due",
            Self::CapabilityWaiting => "capability_waiting",
            Self::CapabilityDisabled => "capability_disabled",
            Self::AccountStale => "account_stale",
            Self::PayoutFailed => "payout_failed",
            Self::PastDue => "past_due",
            Self::TrialEnding => "trial_ending",
            Self::InvoicePaymentFailed => "invoice_payment_failed",
            Self::DunningEscalation => "dunning_escalation",
            Self::RetriesExhausted => "retries_exhausted",
            Self::PaymentActionRequired => "payment_action_required",
            Self::PaymentFailed => "payment_failed",
            Self::DisputeOpen => "dispute_open",
            Self::RefundFailed => "refund_failed",
            Self::TransferReversed => "transfer_reversed",
            Self::MrrIncomplete => "mrr_incomplete",
            Self::PayoutReversalFailed => "payout_reversal_failed",
            Self::BalanceBlocked => "balance_blocked",
            Self::StateNeeded => "state_needed",
            Self::InvoiceNeeded => "invoice_needed",
            Self::CouponNeeded => "coupon_needed",
            Self::DisputeEvidenceDue => "dispute_evidence_due",
            Self::AttemptUnreported => "attempt_unreported",
            Self::TicketUnanswered => "ticket_unanswered",
        }
    }

    /// Whether an entity of this kind can have it.
    pub fn is_of(self, kind: EntityKind) -> bool {
        use EntityKind as Of;
        match self {
            Self::ChargesLost
            | Self::Deauthorized
            | Self::AccountRestricted
            | Self::AccountDisabled
            | Self::PayoutsBlocked
            | Self::ChargesBlocked
            | Self::OnboardingIncomplete
            | Self::RequirementsDue
            | Self::CapabilityWaiting
            | Self::CapabilityDisabled
            | Self::AccountStale
            | Self::BalanceBlocked => kind == Of::Account,
            Self::PayoutFailed | Self::PayoutReversalFailed => kind == Of::Payout,
            Self::TransferReversed => kind == Of::Transfer,
            Self::PastDue
            | Self::TrialEnding
            | Self::MrrIncomplete
            | Self::InvoiceNeeded
            | Self::CouponNeeded => kind == Of::Subscription,
            Self::InvoicePaymentFailed
            | Self::DunningEscalation
            | Self::RetriesExhausted
            | Self::PaymentActionRequired
            | Self::AttemptUnreported => kind == Of::Invoice,
            Self::PaymentFailed => kind == Of::Payment,
            Self::DisputeOpen | Self::DisputeEvidenceDue => kind == Of::Dispute,
            Self::RefundFailed => kind == Of::Refund,
            Self::StateNeeded => kind.is_needed_when_named(),
            Self::TicketUnanswered => kind == Of::Ticket,
        }
    }

    /// Whether it is due at a date that its entity has, whenever it began. The others are due at or after their
    /// beginning: if that is unknown, so is when they fell due.
    pub fn has_due_date(self) -> bool {
        matches!(
            self,
            Self::TrialEnding | Self::DisputeEvidenceDue | Self::AttemptUnreported
        )
    }
}

/// Identifies one condition of one entity.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ConditionKey {
    /// The kind of condition.
    pub kind: ConditionKind,
    /// The entity.
    pub subject: EntityKey,
}

/// Why a condition began at an unknown time before the first proof of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BeganBefore {
    /// The first event about its entity says that it was so before. No event explains it, and every
    /// event since revwatch began is there.
    FirstSeen,
    /// The event that began it was dropped from the remembered ones.
    Forgotten,
}

/// A condition that is true now, or becomes true at `due_s` if nothing changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// The kind and the entity.
    #[serde(flatten)]
    pub key: ConditionKey,
    /// Unix seconds at which it began; if `began_before`: of the first proof of it.
    pub since_s: i64,
    /// Whether it began at an unknown time before `since_s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began_before: Option<BeganBefore>,
    /// Unix seconds from which it counts; equal to `since_s` if it counts immediately.
    pub due_s: i64,
    /// The connected account concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Which of the platform's own Stripe accounts the entity came from.
    #[serde(default, skip_serializing_if = "Realm::is_main")]
    pub realm: Realm,
    /// The customer concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer: Option<String>,
    /// The money concerned, if it is exactly known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub money: Option<Money>,
    /// That of further currencies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub further_money: Vec<Money>,
    /// What is known of it otherwise, and why it is not all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uncertain: Option<UncertainMoney>,
    /// Stripe's reason, such as a failure code or `requirements.past_due`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The event that began it.
    pub event_id: String,
    /// How many times it has happened so far, such as the failed attempts to collect an invoice: each further time
    /// is news for those who know of it. `None`: it is one state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// Unix seconds by which it must be answered at Stripe, such as a dispute with evidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_by_s: Option<i64>,
    /// Unix seconds at which the trial ends that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial_end_s: Option<i64>,
}

impl Condition {
    /// The money concerned that is exactly known, one amount for each currency.
    pub fn all_money(&self) -> impl Iterator<Item = &Money> {
        self.money.iter().chain(&self.further_money)
    }

    /// Whose it is: that of an account is the platform's, as the account is, and so is that of a transfer, which
    /// the platform makes to the account.
    pub fn class(&self) -> Class<'_> {
        let owner = match self.key.subject.kind {
            EntityKind::Account | EntityKind::Transfer => Owner::Platform,
            _ => Owner::of(self.account.as_deref()),
        };
        Class {
            realm: &self.realm,
            owner,
        }
    }
}
