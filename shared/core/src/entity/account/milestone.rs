//! The milestones of onboarding.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

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

/// The name of the last stage of the funnel: it took a payment (C16). It is no milestone of onboarding: it can come
/// before payouts work.
pub const FIRST_PAYMENT: &str = "first_payment";

/// A step that the user's application says: an account link was made.
pub const LINK_GENERATED: &str = "account_link_generated";

/// A step that the user's application says: an account link was opened.
pub const LINK_CLICKED: &str = "account_link_clicked";

impl Milestone {
    /// All, in order. New milestones are appended: their places are stored.
    pub const ALL: [Self; 5] = [
        Self::AccountCreated,
        Self::OnboardingStarted,
        Self::ExternalAccountAdded,
        Self::ChargesEnabled,
        Self::OnboardingCompleted,
    ];

    /// The name that exports and metrics use.
    pub const fn as_str(self) -> &'static str {
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
const NAMES: [&str; Milestone::ALL.len()] = {
    let mut names = [""; Milestone::ALL.len()];
    let mut index = 0;
    while index < names.len() {
        names[index] = Milestone::ALL[index].as_str();
        index += 1;
    }
    names
};

impl Serialize for Milestone {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        compact::write(self.as_str(), &NAMES, serializer)
    }
}

impl<'de> Deserialize<'de> for Milestone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = compact::read(&NAMES, deserializer)?;
        let found = Self::ALL
            .into_iter()
            .find(|milestone| milestone.as_str() == name);
        found.ok_or_else(|| serde::de::Error::unknown_variant(&name, &NAMES))
    }
}
