//! What events say about an account.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::balance::Balance;
use super::requirement_names::RequirementNames;
use crate::entity::application_ids::ApplicationIds;
use crate::entity::disabled_reason::{
    ANY_REASON, explained, is_rejection, is_resolvable, reasons_with,
};
use crate::entity::reports::Report;
use crate::entity::stripe_enums::CapabilityStatus;
use crate::entity::timeline::{Before, Facts, RecordedState, value_fingerprint};

/// A payout destination: only last four digits, country and currency, never more (C4).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ExternalAccount {
    /// The latest event about it: Unix seconds and id.
    pub last_event: (i64, String),
    /// Whether it was removed.
    pub removed: bool,
    /// Last four digits.
    pub last4: Option<String>,
    /// Two letters.
    pub country: Option<String>,
    /// Lower case.
    pub currency: Option<String>,
}

/// The state of an account in one event, as far as the event says it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AccountFacts {
    /// May take charges.
    pub charges_enabled: bool,
    /// May be paid out.
    pub payouts_enabled: bool,
    /// The onboarding form was submitted; `None`: unknown.
    pub details_submitted: Option<bool>,
    /// `requirements.disabled_reason`; `None`: there is none, unless [`Self::reason_is_unknown`].
    pub disabled_reason: Option<String>,
    /// How many requirements are due; `None`: unknown.
    pub currently_due: Option<u32>,
    /// How many requirements are overdue; `None`: unknown.
    pub past_due: Option<u32>,
    /// Fingerprints of the two lists.
    pub due_fingerprints: (u32, u32),
    /// The event does not say whether there is a `disabled_reason`.
    #[serde(default)]
    pub reason_is_unknown: bool,
}

impl AccountFacts {
    /// The `disabled_reason`, if it is known: the inner `None` says that there is none.
    pub fn reason(&self) -> Option<Option<&str>> {
        (!self.reason_is_unknown).then_some(self.disabled_reason.as_deref())
    }

    /// Whether the event says everything.
    pub(super) fn is_complete(&self) -> bool {
        !self.reason_is_unknown
            && self.details_submitted.is_some()
            && self.currently_due.is_some()
            && self.past_due.is_some()
    }

    /// These facts; what they lack is as `before`.
    pub(super) fn or(&self, before: &Self) -> Self {
        let reason = if self.reason_is_unknown { before } else { self };
        Self {
            details_submitted: self.details_submitted.or(before.details_submitted),
            disabled_reason: reason.disabled_reason.clone(),
            reason_is_unknown: reason.reason_is_unknown,
            currently_due: self.currently_due.or(before.currently_due),
            past_due: self.past_due.or(before.past_due),
            ..*self
        }
    }
}

/// The state of a capability in one event.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CapabilityFacts {
    /// Stripe's status.
    pub status: CapabilityStatus,
    /// Its own `requirements.disabled_reason`; `None`: there is none, or the event does not say.
    #[serde(default)]
    pub disabled_reason: Option<String>,
    /// Whether it was requested; `None`: unknown.
    #[serde(default)]
    pub requested: Option<bool>,
}

impl CapabilityFacts {
    /// Whether it was refused for good. Today, the status of such a capability is `inactive`, and only the
    /// reason says it.
    /// Source: <https://docs.stripe.com/api/capabilities/object#capability_object-status>.
    pub fn is_disabled(&self) -> bool {
        let rejected = self.disabled_reason.as_deref().is_some_and(is_rejection);
        match self.status {
            CapabilityStatus::Disabled | CapabilityStatus::Rejected => true,
            CapabilityStatus::Active | CapabilityStatus::Unrequested => false,
            _ => rejected,
        }
    }

    /// Whether it was requested and is not usable yet, or no longer.
    pub fn is_waiting(&self) -> bool {
        let unusable = matches!(
            self.status,
            CapabilityStatus::Inactive | CapabilityStatus::Pending | CapabilityStatus::Restricted
        );
        unusable && self.requested != Some(false) && !self.is_disabled()
    }

    /// Whether its holder can lead on what it waits for: a review or a decision of Stripe is not resolved by that.
    pub(super) fn waits_for_its_holder(&self) -> bool {
        self.disabled_reason.as_deref().is_none_or(is_resolvable)
    }

    /// Why it is not usable, in Stripe's words and in plain ones, as far as the event says it.
    pub(super) fn reason(&self) -> Option<String> {
        self.disabled_reason.as_deref().map(explained)
    }
}

impl RecordedState<CapabilityFacts> {
    /// Whether something held of the capability before the event, if the event says enough of it.
    pub(super) fn capability_before(
        &self,
        holds: impl Fn(&CapabilityFacts) -> bool,
    ) -> Option<bool> {
        let now = &self.facts;
        let status = match self.before("status") {
            Before::Same => now.status.clone(),
            // One that this version does not know is neither.
            Before::Was(from) => CapabilityStatus::with_fingerprint(from)
                .unwrap_or(CapabilityStatus::Other(String::new())),
            Before::Nothing | Before::NotSaid | Before::Unknown => return None,
        };
        let reasons = match self.before("requirements.disabled_reason") {
            Before::Same => vec![now.disabled_reason.as_deref()],
            Before::Was(from) => reasons_with(from),
            Before::Nothing | Before::NotSaid | Before::Unknown => ANY_REASON.to_vec(),
        };
        let requested = match self.unchanged("requested") {
            Some(true) => vec![now.requested],
            Some(false) => vec![now.requested.map(|requested| !requested)],
            None => vec![Some(false), Some(true)],
        };
        let possible = reasons.iter().flat_map(|reason| {
            requested.iter().map(|requested| CapabilityFacts {
                status: status.clone(),
                disabled_reason: reason.map(str::to_owned),
                requested: *requested,
            })
        });
        let held: BTreeSet<bool> = possible.map(|facts| holds(&facts)).collect();
        held.first().copied().filter(|_| held.len() == 1)
    }
}

/// What an event says of something that is or is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    /// Whether it was so before the event, if the event says it.
    pub before: Option<bool>,
    /// Whether it is so in the event, if the event says it.
    pub now: Option<bool>,
}

/// What one event says about an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccountUpdate {
    /// The account exists: any event that names it.
    Seen,
    /// `account.updated`
    Snapshot {
        /// Two letters.
        country: Option<String>,
        /// Unix seconds.
        created_s: Option<i64>,
        /// The state in the event.
        state: RecordedState<AccountFacts>,
        /// Whether it lists an external account.
        external_account: Shown,
        /// Ids of the platform's own application, if the event shows metadata.
        ids: Option<ApplicationIds>,
        /// Which requirements it lists.
        requirement_names: RequirementNames,
    },
    /// `account.external_account.*`
    ExternalAccount {
        /// `ba_…` or `card_…`
        id: String,
        /// Whether the event reports that it was added.
        added: bool,
        /// The state in the event.
        view: ExternalAccount,
    },
    /// A thin event about it.
    Thin {
        /// The event.
        event_id: String,
    },
    /// `v2.core.account.closed`
    Closed {
        /// The event.
        event_id: String,
    },
    /// The user's application says something of it.
    Reported(Report),
    /// It took a payment: an event about a payment of its own.
    Paid,
    /// `balance.available`
    Balance(Balance),
    /// `account.application.authorized` or `.deauthorized`
    Connection {
        /// Which of the two.
        connected: bool,
        /// The event.
        event_id: String,
    },
    /// `capability.updated`
    Capability {
        /// For example `transfers`.
        name: String,
        /// The state in the event.
        state: RecordedState<CapabilityFacts>,
        /// Its own requirements that are due, by Stripe's names; `None`: the event does not say.
        needs: Option<Vec<String>>,
    },
}

impl Facts for AccountFacts {
    const FIELDS: &'static [&'static str] = &[
        "charges_enabled",
        "payouts_enabled",
        "details_submitted",
        "requirements.disabled_reason",
        "requirements.currently_due",
        "requirements.past_due",
    ];

    /// All fields can change back and forth.
    fn progress(&self) -> u64 {
        0
    }

    fn value(&self, place: usize) -> u32 {
        match place {
            0 => value_fingerprint(self.charges_enabled),
            1 => value_fingerprint(self.payouts_enabled),
            2 => value_fingerprint(self.details_submitted),
            3 => value_fingerprint(self.disabled_reason.as_deref()),
            4 => self.due_fingerprints.0,
            _ => self.due_fingerprints.1,
        }
    }
}

impl Facts for CapabilityFacts {
    const FIELDS: &'static [&'static str] =
        &["status", "requirements.disabled_reason", "requested"];

    fn progress(&self) -> u64 {
        0
    }

    fn value(&self, place: usize) -> u32 {
        match place {
            0 => value_fingerprint(self.status.as_str()),
            1 => value_fingerprint(self.disabled_reason.as_deref()),
            _ => value_fingerprint(self.requested),
        }
    }
}
