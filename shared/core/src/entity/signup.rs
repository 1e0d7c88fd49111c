//! The funnel of the users who register as providers (C16): its stages, and how far an account has come.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The stages of the funnel, in order. The names are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The application says that a user registered as a provider.
    Registered,
    /// A connected account was created.
    AccountCreated,
    /// The account link was opened, or the form was submitted.
    Started,
    /// There is a bank account or a card for payouts.
    ExternalAccount,
    /// The account may take charges.
    ChargesEnabled,
    /// It took its first payment, or the application says that a job was paid.
    FirstPayment,
}

/// The stages after the registration that an account has reached, and when; `None`: at an unknown time.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Reached(BTreeMap<Stage, Option<i64>>);

impl Stage {
    /// All, in order.
    pub const ALL: [Self; 6] = [
        Self::Registered,
        Self::AccountCreated,
        Self::Started,
        Self::ExternalAccount,
        Self::ChargesEnabled,
        Self::FirstPayment,
    ];

    /// The name in counters, and in what is shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Registered => "provider_registered",
            Self::AccountCreated => "account_created",
            Self::Started => "onboarding_started",
            Self::ExternalAccount => "external_account_added",
            Self::ChargesEnabled => "charges_enabled",
            Self::FirstPayment => "first_payment",
        }
    }
}

impl Reached {
    /// Adds a stage.
    pub(super) fn add(&mut self, stage: Stage, at_s: Option<i64>) {
        self.0.insert(stage, at_s);
    }

    /// What either has reached, and when first: that is unknown if either reached it at an unknown time.
    pub(super) fn union(&mut self, other: &Self) {
        for (stage, at_s) in &other.0 {
            let kept = self.0.entry(*stage).or_insert(*at_s);
            *kept = kept.zip(*at_s).map(|(one_s, other_s)| one_s.min(other_s));
        }
    }

    /// The furthest stage.
    pub(super) fn furthest(&self) -> Option<Stage> {
        self.0.last_key_value().map(|(stage, _)| *stage)
    }

    /// When a stage was reached, in Unix seconds, if that is known.
    pub(super) fn at_s(&self, stage: Stage) -> Option<i64> {
        self.0.get(&stage).copied().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A provider may have several accounts.
    #[test]
    fn of_two_the_earlier_time_counts_and_with_an_unknown_one_none() {
        let of = |all: &[(Stage, Option<i64>)]| Reached(all.iter().copied().collect());
        let one = of(&[(Stage::AccountCreated, Some(5)), (Stage::Started, None)]);
        let other = of(&[
            (Stage::AccountCreated, Some(3)),
            (Stage::Started, Some(4)),
            (Stage::ExternalAccount, Some(9)),
        ]);
        let expected = of(&[
            (Stage::AccountCreated, Some(3)),
            (Stage::Started, None),
            (Stage::ExternalAccount, Some(9)),
        ]);
        for [first, second] in [[&one, &other], [&other, &one]] {
            let mut both = first.clone();
            both.union(second);
            assert_eq!(both, expected);
        }
    }
}
