//! The risk table of connected accounts (C9): a total function of Stripe's data about an account.

use serde::{Deserialize, Serialize};

use super::account::facts::AccountFacts;

/// How much revenue the account's state puts at risk (C9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Risk {
    /// Active.
    Low,
    /// Onboarding is incomplete.
    Medium,
    /// Restricted, or it cannot be paid out.
    High,
    /// Disabled, disconnected, or payouts work but charges do not.
    Critical,
}

/// The rows of the risk table (C9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountStanding {
    /// Charges and payouts work, nothing is overdue.
    Active,
    /// Neither works yet.
    Onboarding,
    /// Something is overdue, or restricted although charges and payouts work.
    Restricted,
    /// Neither works, by decision of Stripe or the platform.
    Disabled,
    /// Charges work, payouts do not.
    PayoutsBlocked,
    /// Payouts work, charges do not.
    ChargesBlocked,
}

/// The row of the table for an account: a total function.
///
/// The account's holder can resolve a `disabled_reason` of the kinds `requirements.*` and
/// `action_required.*`; the others are a decision or a review by Stripe or the platform.
/// Source: <https://docs.stripe.com/api/accounts/object#account_object-requirements-disabled_reason>.
pub fn standing(facts: &AccountFacts) -> AccountStanding {
    let reason = facts.disabled_reason.as_deref();
    let resolvable =
        reason.is_none_or(|r| r.starts_with("requirements.") || r.starts_with("action_required."));
    let overdue = facts.past_due > 0 || reason == Some("requirements.past_due");
    match (facts.charges_enabled, facts.payouts_enabled) {
        (false, false) if !resolvable => AccountStanding::Disabled,
        (false, false) if overdue => AccountStanding::Restricted,
        (false, false) => AccountStanding::Onboarding,
        (false, true) => AccountStanding::ChargesBlocked,
        (true, false) => AccountStanding::PayoutsBlocked,
        (true, true) if overdue || !resolvable => AccountStanding::Restricted,
        (true, true) => AccountStanding::Active,
    }
}

/// The risk of each row.
pub fn risk(facts: &AccountFacts) -> Risk {
    match standing(facts) {
        AccountStanding::Active => Risk::Low,
        AccountStanding::Onboarding => Risk::Medium,
        AccountStanding::Restricted | AccountStanding::PayoutsBlocked => Risk::High,
        AccountStanding::Disabled | AccountStanding::ChargesBlocked => Risk::Critical,
    }
}

impl Risk {
    /// All, in ascending order.
    pub const ALL: [Self; 4] = [Self::Low, Self::Medium, Self::High, Self::Critical];

    /// The name that exports and metrics use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// C9, every combination of the table's inputs.
    #[test]
    fn the_risk_table_is_total() {
        use Risk::{Critical, High, Low, Medium};
        let reasons: [(Option<&str>, [Risk; 4]); 6] = [
            // charges × payouts:               no no    no yes    yes no  yes yes
            (None, [Medium, Critical, High, Low]),
            (
                Some("requirements.pending_verification"),
                [Medium, Critical, High, Low],
            ),
            (
                Some("action_required.requested_capabilities"),
                [Medium, Critical, High, Low],
            ),
            (Some("requirements.past_due"), [High, Critical, High, High]),
            (Some("rejected.fraud"), [Critical, Critical, High, High]),
            (
                Some("a reason that Stripe adds later"),
                [Critical, Critical, High, High],
            ),
        ];
        for (reason, expected) in reasons {
            for past_due in [0, 1] {
                for currently_due in [0, 3] {
                    for (i, &plain) in expected.iter().enumerate() {
                        let facts = AccountFacts {
                            charges_enabled: i >= 2,
                            payouts_enabled: i % 2 == 1,
                            details_submitted: true,
                            disabled_reason: reason.map(str::to_owned),
                            currently_due,
                            past_due,
                            due_fingerprints: (0, 0),
                        };
                        let expected = if past_due > 0 { plain.max(High) } else { plain };
                        assert_eq!(risk(&facts), expected, "{facts:?}");
                    }
                }
            }
        }
    }
}
