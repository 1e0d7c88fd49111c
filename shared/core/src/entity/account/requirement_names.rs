//! Which requirements are due, by Stripe's names of them. Messages name them in words (C6, C14).
//!
//! The timeline keeps only how many are due, and fingerprints of the lists: a list may be long, and changes
//! with each step of onboarding. For messages, the names of the newest lists are enough.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::facts::AccountFacts;
use super::state::Account;
use crate::requirement::Detail;

/// What is due, and what is overdue.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequirementNames {
    /// `requirements.currently_due`
    due: NewestLists,
    /// `requirements.past_due`
    overdue: NewestLists,
}

/// The lists of the newest events that have one, those of one second: events of that second alone can
/// hold the newest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct NewestLists {
    at_s: i64,
    /// By the fingerprint that the state has of the list; without the empty ones.
    lists: BTreeMap<u32, Vec<String>>,
}

/// As many lists are kept of one second.
const MAX_LISTS: usize = 4;
/// As many names are kept of a list. How many there are is known of all.
const MAX_NAMES: usize = 20;
/// Stripe's longest names have about 60 characters.
const MAX_NAME_LEN: usize = 100;

impl RequirementNames {
    /// The lists of an event, as far as it says them, each with its fingerprint.
    pub fn of(created_s: i64, lists: [(u32, Option<&[String]>); 2]) -> Self {
        let [due, overdue] = lists.map(|(fingerprint, list)| match list {
            Some(list) => NewestLists::of(created_s, fingerprint, list),
            None => NewestLists::default(),
        });
        Self { due, overdue }
    }

    /// Commutative, associative and idempotent.
    pub(super) fn merge(&mut self, other: &Self) {
        self.due.merge(&other.due);
        self.overdue.merge(&other.overdue);
    }
}

impl NewestLists {
    fn of(at_s: i64, fingerprint: u32, list: &[String]) -> Self {
        let names = kept(list);
        let list = (!names.is_empty()).then_some((fingerprint, names));
        let lists = list.into_iter().collect();
        Self { at_s, lists }
    }

    /// The newest second wins. Of one second all are joined; of too many, the first ones by fingerprint.
    fn merge(&mut self, other: &Self) {
        if other.at_s > self.at_s {
            self.clone_from(other);
        } else if other.at_s == self.at_s {
            for (fingerprint, names) in &other.lists {
                let kept = self.lists.entry(*fingerprint).or_default();
                if names > kept {
                    kept.clone_from(names);
                }
            }
            while self.lists.len() > MAX_LISTS {
                self.lists.pop_last();
            }
        }
    }

    fn with(&self, fingerprint: u32) -> &[String] {
        self.lists.get(&fingerprint).map_or(&[], Vec::as_slice)
    }
}

/// The names of a list that are kept.
pub(super) fn kept(list: &[String]) -> Vec<String> {
    let names = list.iter().filter(|name| is_name(name));
    names.take(MAX_NAMES).cloned().collect()
}

/// Stripe's names are paths: `tos_acceptance.date`, `person_1A2b.verification.document`.
fn is_name(text: &str) -> bool {
    (1..=MAX_NAME_LEN).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

/// Which requirements a condition is about.
#[derive(Clone, Copy)]
pub(super) enum Wanted {
    /// All that are due.
    Due,
    /// What blocks the account now: the overdue ones, if there are any.
    Overdue,
}

/// `reason`, and the names of what the account's holder must provide, if that leads on: a rejection is not
/// resolved by it, and an unknown reason may be one.
/// Source: <https://docs.stripe.com/api/accounts/object#account_object-requirements>.
pub(super) fn detail(account: &Account, reason: Option<String>, wanted: Wanted) -> Option<String> {
    let facts = account.current()?;
    let leads_on = |r: &str| r.starts_with("requirements.") || r.starts_with("action_required.");
    let is_open = facts.reason().is_some_and(|r| r.is_none_or(leads_on));
    let list = needed(account, wanted).filter(|(_, names)| is_open && !names.is_empty());
    let Some((count, names)) = list else {
        return reason;
    };
    let unnamed = usize::try_from(count).map_or(0, |count| count.saturating_sub(names.len()));
    let reason = reason.unwrap_or_default();
    Some(Detail::text(&reason, names, unnamed))
}

/// How many are needed, and the names of some or all of them; `None` if one of the lists is unknown.
fn needed(account: &Account, wanted: Wanted) -> Option<(u32, &[String])> {
    // What an event does not say is as it was before it.
    let newest = |list: fn(&AccountFacts) -> (Option<u32>, u32)| {
        let states = account.timeline.in_order();
        let mut lists = states.iter().rev().map(|state| list(&state.facts));
        lists.find_map(|(count, fingerprint)| Some((count?, fingerprint)))
    };
    let (due, due_of) = newest(|f| (f.currently_due, f.due_fingerprints.0))?;
    let (overdue, overdue_of) = newest(|f| (f.past_due, f.due_fingerprints.1))?;
    let names = &account.requirement_names;
    Some(match wanted {
        Wanted::Overdue if overdue > 0 => (overdue, names.overdue.with(overdue_of)),
        Wanted::Due | Wanted::Overdue => (due, names.due.with(due_of)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(at_s: i64, lists: &[(u32, &[&str])]) -> NewestLists {
        let lists = lists.iter().map(|(fingerprint, list)| {
            let list = list.iter().map(|name| (*name).to_owned());
            (*fingerprint, list.collect())
        });
        NewestLists {
            at_s,
            lists: lists.collect(),
        }
    }

    /// Of many lists and seconds, also with equal fingerprints: every order, grouping and repetition.
    #[test]
    fn lists_merge_equally_in_any_order() {
        let many: Vec<(u32, &[&str])> = (0..4).map(|n| (n, &["many"][..])).collect();
        let all = [
            names(0, &[]),
            names(5, &[(1, &["a"]), (2, &["b"])]),
            names(5, &[(1, &["z"]), (9, &["c"])]),
            names(5, &many),
            names(5, &[(7, &["x"]), (8, &["y"])]),
            names(6, &[]),
            names(6, &[(1, &["a"])]),
        ];
        let joined = |a: &NewestLists, b: &NewestLists| {
            let mut a = a.clone();
            a.merge(b);
            a
        };
        for a in &all {
            assert_eq!(joined(a, a), *a);
            for b in &all {
                assert_eq!(joined(a, b), joined(b, a));
                assert_eq!(joined(&joined(a, b), b), joined(a, b));
                for c in &all {
                    assert_eq!(joined(&joined(a, b), c), joined(a, &joined(b, c)));
                }
            }
        }
    }

    #[test]
    fn only_what_has_the_form_of_a_name_is_kept_and_not_too_much_of_it() {
        let long_name = "a".repeat(101);
        let odd = [
            "Jane Doe",
            "",
            &long_name,
            "jane@example.com",
            "external_account",
        ];
        let odd = odd.map(str::to_owned);
        let long: Vec<_> = (0..40).map(|n| format!("owners.{n}")).collect();
        let found = RequirementNames::of(5, [(1, Some(&odd)), (2, Some(&long))]);
        assert_eq!(found.due.with(1), ["external_account"]);
        assert_eq!(found.overdue.with(2).len(), MAX_NAMES);
        let nothing = RequirementNames::of(5, [(1, None), (2, Some(&odd[..2]))]);
        assert_eq!((nothing.due.at_s, nothing.overdue.at_s), (0, 5));
        assert!(nothing.due.lists.is_empty() && nothing.overdue.lists.is_empty());
    }
}
