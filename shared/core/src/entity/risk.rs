//! The risk table of connected accounts (C9): a total function of Stripe's data about an account.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::account::facts::AccountFacts;
use super::timeline::{Before, RecordedState, has_elements, value_fingerprint};

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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
    let overdue = facts.past_due.map(|count| count > 0);
    let possible = rows(
        one_or_both(Some(facts.charges_enabled)),
        one_or_both(Some(facts.payouts_enabled)),
        &reasons_of(facts),
        one_or_both(overdue),
    );
    match possible.first() {
        Some(row) if possible.len() == 1 => Some(*row),
        // It is that at least.
        _ => (overdue == Some(true)).then_some(AccountStanding::Restricted),
    }
}

/// The rows in which an account may have been before an event, as far as the event says it.
pub fn standings_before(state: &RecordedState<AccountFacts>) -> BTreeSet<AccountStanding> {
    let facts = &state.facts;
    let flag = |field, now: bool| {
        let before = state
            .unchanged(field)
            .map(|same| if same { now } else { !now });
        one_or_both(before)
    };
    let reasons = match state.before("requirements.disabled_reason") {
        Before::Same => reasons_of(facts),
        Before::Was(from) => reasons_with(from),
        Before::Nothing | Before::NotSaid | Before::Unknown => ANY_REASON.to_vec(),
    };
    let overdue = match state.before("requirements.past_due") {
        Before::Same => facts.past_due.map(|count| count > 0),
        Before::Was(from) => Some(has_elements(from)),
        Before::Nothing | Before::NotSaid | Before::Unknown => None,
    };
    rows(
        flag("charges_enabled", facts.charges_enabled),
        flag("payouts_enabled", facts.payouts_enabled),
        &reasons,
        one_or_both(overdue),
    )
}

/// The rows of all combinations.
fn rows(
    charges: &[bool],
    payouts: &[bool],
    reasons: &[Option<&str>],
    overdue: &[bool],
) -> BTreeSet<AccountStanding> {
    let mut rows = BTreeSet::new();
    for &charges in charges {
        for &payouts in payouts {
            for &reason in reasons {
                rows.extend(overdue.iter().map(|&o| row((charges, payouts), reason, o)));
            }
        }
    }
    rows
}

fn reasons_of(facts: &AccountFacts) -> Vec<Option<&str>> {
    facts
        .reason()
        .map_or_else(|| ANY_REASON.to_vec(), |reason| vec![reason])
}

fn one_or_both(known: Option<bool>) -> &'static [bool] {
    match known {
        Some(false) => &[false],
        Some(true) => &[true],
        None => &[false, true],
    }
}

/// The reason with this fingerprint. One that Stripe added since may be like any.
fn reasons_with(fingerprint: u32) -> Vec<Option<&'static str>> {
    let known = REASONS
        .iter()
        .find(|reason| value_fingerprint(reason) == fingerprint);
    known.map_or_else(|| ANY_REASON.to_vec(), |reason| vec![*reason])
}

/// One of each kind that the table distinguishes.
const ANY_REASON: &[Option<&str>] = &[None, Some("requirements.past_due"), Some("other")];

/// All known values of `disabled_reason`. The source is that of [`standing`].
const REASONS: &[Option<&str>] = &[
    None,
    Some("action_required.requested_capabilities"),
    Some("listed"),
    Some("other"),
    Some("platform_paused"),
    Some("rejected.fraud"),
    Some("rejected.incomplete_verification"),
    Some("rejected.listed"),
    Some("rejected.other"),
    Some("rejected.platform_fraud"),
    Some("rejected.platform_other"),
    Some("rejected.platform_terms_of_service"),
    Some("rejected.terms_of_service"),
    Some("requirements.past_due"),
    Some("requirements.pending_verification"),
    Some("under_review"),
];

fn row(enabled: (bool, bool), reason: Option<&str>, is_past_due: bool) -> AccountStanding {
    let resolvable =
        reason.is_none_or(|r| r.starts_with("requirements.") || r.starts_with("action_required."));
    let overdue = is_past_due || reason == Some("requirements.past_due");
    match enabled {
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
