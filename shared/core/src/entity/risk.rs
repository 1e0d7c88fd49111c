//! The risk table of connected accounts (C9): a total function of Stripe's data about an account.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::account::facts::AccountFacts;
use super::disabled_reason::{ANY_REASON, is_resolvable, reasons_with};
use super::timeline::{Before, RecordedState, has_elements};

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
    /// Neither works yet: nothing is overdue, or the form was not submitted.
    Onboarding,
    /// Something is overdue after the form was submitted, or restricted although charges and payouts work.
    Restricted,
    /// Neither works, by decision of Stripe or the platform.
    Disabled,
    /// Charges work, payouts do not.
    PayoutsBlocked,
    /// Payouts work, charges do not.
    ChargesBlocked,
}

impl AccountStanding {
    /// The name in counters and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Onboarding => "onboarding",
            Self::Restricted => "restricted",
            Self::Disabled => "disabled",
            Self::PayoutsBlocked => "payouts_blocked",
            Self::ChargesBlocked => "charges_blocked",
        }
    }
}

/// The row of the table for an account, if what it depends on is known.
pub fn standing(facts: &AccountFacts) -> Option<AccountStanding> {
    let overdue = facts.past_due.map(|count| count > 0);
    let possible = rows(
        facts.details_submitted,
        (Some(facts.charges_enabled), Some(facts.payouts_enabled)),
        &reasons_of(facts),
        overdue,
    );
    match possible.first() {
        Some(row) if possible.len() == 1 => Some(*row),
        // It is that at least.
        _ if overdue == Some(true) && !possible.contains(&AccountStanding::Onboarding) => {
            Some(AccountStanding::Restricted)
        }
        _ => None,
    }
}

/// The rows in which an account may have been before an event, as far as the event says it.
pub fn standings_before(state: &RecordedState<AccountFacts>) -> BTreeSet<AccountStanding> {
    let facts = &state.facts;
    let flag = |field, now: bool| state.unchanged(field).map(|same| now == same);
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
    let submitted = facts.details_submitted;
    rows(
        submitted.and_then(|now| flag("details_submitted", now)),
        (
            flag("charges_enabled", facts.charges_enabled),
            flag("payouts_enabled", facts.payouts_enabled),
        ),
        &reasons,
        overdue,
    )
}

/// The rows of all combinations of what is possible; of a flag that is unknown, both are.
fn rows(
    submitted: Option<bool>,
    (charges, payouts): (Option<bool>, Option<bool>),
    reasons: &[Option<&str>],
    overdue: Option<bool>,
) -> BTreeSet<AccountStanding> {
    let mut rows = BTreeSet::new();
    for &charges in one_or_both(charges) {
        for &payouts in one_or_both(payouts) {
            for &reason in reasons {
                for &submitted in one_or_both(submitted) {
                    let overdue = one_or_both(overdue).iter();
                    rows.extend(overdue.map(|&o| row(submitted, (charges, payouts), reason, o)));
                }
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

/// A new account whose form was not submitted has its requirements overdue from its first second: it is
/// being onboarded, and nothing was taken from it.
fn row(
    submitted: bool,
    enabled: (bool, bool),
    reason: Option<&str>,
    is_past_due: bool,
) -> AccountStanding {
    let resolvable = reason.is_none_or(is_resolvable);
    let overdue = is_past_due || reason == Some("requirements.past_due");
    match enabled {
        (false, false) if !resolvable => AccountStanding::Disabled,
        (false, false) if overdue && submitted => AccountStanding::Restricted,
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

    /// C9, every combination of the table's inputs after the form was submitted.
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

    /// A new account as Stripe makes it: everything is overdue from its first second.
    #[test]
    fn an_account_whose_form_was_not_submitted_is_onboarding_unless_it_was_rejected() {
        let of = |submitted, reason: Option<&str>, past_due| {
            standing(&AccountFacts {
                charges_enabled: false,
                payouts_enabled: false,
                details_submitted: submitted,
                disabled_reason: reason.map(str::to_owned),
                currently_due: Some(past_due),
                past_due: Some(past_due),
                due_fingerprints: (0, 0),
                reason_is_unknown: false,
            })
        };
        let overdue = Some("requirements.past_due");
        let table = [
            (Some(false), overdue, 3, Some(AccountStanding::Onboarding)),
            (Some(false), overdue, 0, Some(AccountStanding::Onboarding)),
            (Some(false), None, 3, Some(AccountStanding::Onboarding)),
            (
                Some(false),
                Some("rejected.fraud"),
                3,
                Some(AccountStanding::Disabled),
            ),
            (Some(true), overdue, 3, Some(AccountStanding::Restricted)),
            (None, overdue, 3, None),
            (None, None, 0, Some(AccountStanding::Onboarding)),
        ];
        for (submitted, reason, past_due, expected) in table {
            let found = of(submitted, reason, past_due);
            assert_eq!(found, expected, "{submitted:?} {reason:?} {past_due}");
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
                details_submitted: Some(true),
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
