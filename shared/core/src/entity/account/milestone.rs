//! Onboarding: the milestones that an account has reached, and when.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Account;
use crate::entity::compact;

/// The steps of onboarding that Stripe's events show, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Milestone {
    /// An event named the account.
    AccountCreated,
    /// Its holder has submitted the onboarding form (`details_submitted`).
    OnboardingStarted,
    /// It has a bank account or card for payouts.
    ExternalAccountAdded,
    /// It may take charges.
    ChargesEnabled,
    /// It may take charges and be paid out.
    OnboardingCompleted,
}

impl Milestone {
    /// All, in order.
    pub const ALL: [Self; 5] = [
        Self::AccountCreated,
        Self::OnboardingStarted,
        Self::ExternalAccountAdded,
        Self::ChargesEnabled,
        Self::OnboardingCompleted,
    ];

    /// The name that exports and metrics use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AccountCreated => "account_created",
            Self::OnboardingStarted => "onboarding_started",
            Self::ExternalAccountAdded => "external_account_added",
            Self::ChargesEnabled => "charges_enabled",
            Self::OnboardingCompleted => "onboarding_completed",
        }
    }
}

/// The stored form of a milestone is its index here.
const MILESTONES: &[&str] = &[
    "account_created",
    "onboarding_started",
    "external_account_added",
    "charges_enabled",
    "onboarding_completed",
];

impl Serialize for Milestone {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        compact::write(self.as_str(), MILESTONES, serializer)
    }
}

impl<'de> Deserialize<'de> for Milestone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = compact::read(MILESTONES, deserializer)?;
        let found = Self::ALL
            .into_iter()
            .find(|milestone| milestone.as_str() == name);
        found.ok_or_else(|| serde::de::Error::unknown_variant(&name, MILESTONES))
    }
}

impl Account {
    /// The furthest milestone reached.
    pub fn stage(&self) -> Milestone {
        self.milestones
            .last_key_value()
            .map_or(Milestone::AccountCreated, |(m, _)| *m)
    }

    /// When onboarding began: the account's creation, else the first event.
    pub fn began_s(&self) -> Option<i64> {
        self.created_s.or(self.first_seen_s)
    }

    /// When it reached a milestone; the first milestone is the start of onboarding.
    pub fn milestone_s(&self, milestone: Milestone) -> Option<i64> {
        match milestone {
            Milestone::AccountCreated => self.began_s(),
            later => self.milestones.get(&later).copied(),
        }
    }

    /// From creation (else the first event) to charges enabled.
    pub fn onboarding_seconds(&self) -> Option<i64> {
        let done_s = self.milestones.get(&Milestone::ChargesEnabled)?;
        Some(done_s.saturating_sub(self.began_s()?).max(0))
    }

    /// Whether only other objects' events named the account. It may have been onboarded long ago,
    /// so its first event does not start an onboarding.
    pub(super) fn is_only_named(&self) -> bool {
        let has_own_events = self
            .created_s
            .or(self.timeline.last().map(|s| s.created_s))
            .is_some()
            || self.thin.is_some();
        let has_connection_events = self.authorized.is_some() || self.deauthorized.is_some();
        !has_own_events
            && !has_connection_events
            && self.capabilities.is_empty()
            && self.external_accounts.is_empty()
    }

    /// The earliest event that shows a milestone counts.
    pub(super) fn reach(&mut self, milestone: Milestone, at_s: i64) {
        self.milestones
            .entry(milestone)
            .and_modify(|first_s| *first_s = at_s.min(*first_s))
            .or_insert(at_s);
    }
}
