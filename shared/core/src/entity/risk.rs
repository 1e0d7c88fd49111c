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

/// The row of the table for an account, if what it depends on is known.
///
/// The account's holder can resolve a `disabled_reason` of the kinds `requirements.*` and
/// `action_required.*`; the others are a decision or a review by Stripe or the platform.
/// Source: <https://docs.stripe.com/api/accounts/object#account_object-requirements-disabled_reason>.
pub fn standing(facts: &AccountFacts) -> Option<AccountStanding> {
    let reason = facts.reason();
    let is_resolvable =
        |r: &str| r.starts_with("requirements.") || r.starts_with("action_required.");
    let decided = reason.map(|r| r.is_some_and(|r| !is_resolvable(r)));
    let overdue = match (facts.past_due, reason) {
        (Some(1..), _) | (_, Some(Some("requirements.past_due"))) => Some(true),
        (Some(0), Some(_)) => Some(false),
        (Some(0) | None, _) => None,
    };
    match (facts.charges_enabled, facts.payouts_enabled) {
        (false, true) => Some(AccountStanding::ChargesBlocked),
        (true, false) => Some(AccountStanding::PayoutsBlocked),
        (false, false) if decided == Some(true) => Some(AccountStanding::Disabled),
        (true, true) if decided == Some(true) => Some(AccountStanding::Restricted),
        _ if overdue == Some(true) => Some(AccountStanding::Restricted),
        _ if decided.is_none() || overdue.is_none() => None,
        (false, false) => Some(AccountStanding::Onboarding),
        (true, true) => Some(AccountStanding::Active),
    }
}

/// The risk of each row.
pub fn risk(facts: &AccountFacts) -> Option<Risk> {
    Some(match standing(facts)? {
        AccountStanding::Active => Risk::Low,
        AccountStanding::Onboarding => Risk::Medium,
        AccountStanding::Restricted | AccountStanding::PayoutsBlocked => Risk::High,
        AccountStanding::Disabled | AccountStanding::ChargesBlocked => Risk::Critical,
    })
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
                            details_submitted: Some(true),
                            disabled_reason: reason.map(str::to_owned),
                            currently_due: Some(currently_due),
                            past_due: Some(past_due),
                            due_fingerprints: (0, 0),
                            reason_is_unknown: false,
                        };
                        let expected = if past_due > 0 { plain.max(High) } else { plain };
                        assert_eq!(risk(&facts), Some(expected), "{facts:?}");
                    }
                }
            }
        }
    }

    /// What an event does not say leaves the row open only if the row depends on it.
    #[test]
    fn a_row_that_depends_on_the_unknown_is_unknown() {
        use AccountStanding::{
            Active, ChargesBlocked, Disabled, Onboarding, PayoutsBlocked, Restricted,
        };
        let of = |flags: (bool, bool), reason: Option<Option<&str>>, past_due: Option<u32>| {
            standing(&AccountFacts {
                charges_enabled: flags.0,
                payouts_enabled: flags.1,
                details_submitted: None,
                disabled_reason: reason.flatten().map(str::to_owned),
                currently_due: None,
                past_due,
                due_fingerprints: (0, 0),
                reason_is_unknown: reason.is_none(),
            })
        };
        let rejected = Some(Some("rejected.fraud"));
        let table = [
            (
                None,
                None,
                [None, Some(ChargesBlocked), Some(PayoutsBlocked), None],
            ),
            (
                None,
                Some(0),
                [None, Some(ChargesBlocked), Some(PayoutsBlocked), None],
            ),
            (
                Some(None),
                None,
                [None, Some(ChargesBlocked), Some(PayoutsBlocked), None],
            ),
            (
                Some(None),
                Some(0),
                [
                    Some(Onboarding),
                    Some(ChargesBlocked),
                    Some(PayoutsBlocked),
                    Some(Active),
                ],
            ),
            (
                None,
                Some(1),
                [
                    Some(Restricted),
                    Some(ChargesBlocked),
                    Some(PayoutsBlocked),
                    Some(Restricted),
                ],
            ),
            (
                rejected,
                None,
                [
                    Some(Disabled),
                    Some(ChargesBlocked),
                    Some(PayoutsBlocked),
                    Some(Restricted),
                ],
            ),
        ];
        for (reason, past_due, expected) in table {
            let flags = [(false, false), (false, true), (true, false), (true, true)];
            let found = flags.map(|flags| of(flags, reason, past_due));
            assert_eq!(found, expected, "{reason:?} {past_due:?}");
        }
    }
}
