//! The problems of an account.

use super::balance::{BALANCE_UNKNOWN, Balance};
use super::facts::{AccountFacts, CapabilityFacts};
use super::milestone::Milestone;
use super::requirement_names::{Wanted, detail};
use super::state::Account;
use crate::condition::{BeganBefore, Condition, ConditionKey, ConditionKind};
use crate::entity::key::EntityKey;
use crate::entity::kind::EntityKind;
use crate::entity::risk::{AccountStanding, standing, standings_before};
use crate::entity::timeline::{RecordedState, has_elements, start_of_run};
use crate::requirement::Detail;

const HOUR_S: i64 = 3600;

/// A closed account has no conditions, and a removed one has no other than that.
pub(super) fn of(account: &Account) -> Vec<Condition> {
    if account.closed.is_some() {
        return Vec::new();
    }
    if let Some((removed_s, event_id)) = account.removed() {
        let kind = ConditionKind::Deauthorized;
        let start = Start::at(*removed_s, event_id);
        return vec![condition(account, kind, &start, 0, None)];
    }
    [
        blocked(account),
        balance_blocked(account),
        charges_lost(account),
        requirements_due(account),
        onboarding_incomplete(account),
        capability_waiting(account),
        capability_disabled(account),
        stale(account),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The account cannot work fully.
fn blocked(account: &Account) -> Option<Condition> {
    let facts = account.current()?;
    let row = standing(&facts)?;
    let kind = match row {
        AccountStanding::Active | AccountStanding::Onboarding => return None,
        AccountStanding::Restricted => ConditionKind::AccountRestricted,
        AccountStanding::Disabled => ConditionKind::AccountDisabled,
        AccountStanding::PayoutsBlocked => ConditionKind::PayoutsBlocked,
        AccountStanding::ChargesBlocked => ConditionKind::ChargesBlocked,
    };
    let reason = detail(account, facts.disabled_reason.clone(), Wanted::Overdue);
    let held_before = |s: &RecordedState<_>| {
        let possible = standings_before(s);
        match possible.contains(&row) {
            true => (possible.len() == 1).then_some(true),
            false => Some(false),
        }
    };
    since(
        account,
        kind,
        0,
        (|f| standing(f) == Some(row), held_before),
        reason,
    )
}

/// Money waits while payouts do not work, or it is unknown how much.
fn balance_blocked(account: &Account) -> Option<Condition> {
    let of_payouts = blocked(account)?;
    if of_payouts.key.kind != ConditionKind::PayoutsBlocked {
        return None;
    }
    let large = account.balance.as_ref().map(Balance::large);
    let detail = match large.as_deref() {
        None => Some(BALANCE_UNKNOWN.to_owned()),
        Some([]) => return None,
        Some(_) => of_payouts.detail,
    };
    let mut large = large.into_iter().flatten();
    Some(Condition {
        key: ConditionKey {
            kind: ConditionKind::BalanceBlocked,
            ..of_payouts.key
        },
        money: large.next(),
        further_money: large.collect(),
        detail,
        ..of_payouts
    })
}

fn charges_lost(account: &Account) -> Option<Condition> {
    let facts = account.current()?;
    if facts.charges_enabled || !has_charged(account) {
        return None;
    }
    let kind = ConditionKind::ChargesLost;
    let reason = detail(account, facts.disabled_reason.clone(), Wanted::Overdue);
    let held_before = |s: &RecordedState<_>| s.unchanged("charges_enabled");
    since(
        account,
        kind,
        0,
        (|f| !f.charges_enabled, held_before),
        reason,
    )
}

fn requirements_due(account: &Account) -> Option<Condition> {
    let is_due = |f: &AccountFacts| f.currently_due.is_some_and(|count| count > 0);
    let facts = account.current().filter(|f| is_due(f))?;
    let due = format!("{} due", facts.currently_due?);
    let overdue = facts.past_due.map(|count| format!("{count} overdue"));
    let counts = [Some(due), overdue].into_iter().flatten();
    let counts = counts.collect::<Vec<_>>().join(", ");
    let kind = ConditionKind::RequirementsDue;
    let held_before =
        |s: &RecordedState<_>| s.held_before("requirements.currently_due", has_elements);
    since(
        account,
        kind,
        48 * HOUR_S,
        (is_due, held_before),
        detail(account, Some(counts), Wanted::Due),
    )
}

/// Without a known start of onboarding there is no condition: it may have been onboarded long ago.
fn onboarding_incomplete(account: &Account) -> Option<Condition> {
    let states = account.timeline.in_order();
    let first = states.first().filter(|_| !has_charged(account))?;
    // An account whose form was submitted before the first event about it may have charged and lost that.
    let said = states.iter().find(|s| s.facts.details_submitted.is_some());
    let said = said.unwrap_or(first);
    // Of an old one, an event that does not say what it changed leaves that open.
    let is_silent = said.is_unsure(account.created_s) && account.is_old_at(said.created_s);
    let is_unknown = said.facts.details_submitted != Some(false)
        && (is_silent || said.was_so_before(&["details_submitted", "charges_enabled"]));
    if is_unknown || is_disabled(account) {
        return None;
    }
    let kind = ConditionKind::OnboardingIncomplete;
    let start = Start::at(account.began_s()?, first.event_id.as_str());
    let reached = Some(format!("reached {}", account.stage().as_str()));
    let detail = match account.current() {
        Some(_) => detail(account, reached, Wanted::Due),
        None => reached,
    };
    Some(condition(account, kind, &start, 24 * HOUR_S, detail))
}

/// By decision of Stripe or the platform: nothing that its holder submits leads on (C9).
fn is_disabled(account: &Account) -> bool {
    let row = account.current().and_then(|facts| standing(&facts));
    row == Some(AccountStanding::Disabled)
}

fn capability_waiting(account: &Account) -> Option<Condition> {
    let kind = ConditionKind::CapabilityWaiting;
    let waiting = capabilities(account, kind, 72 * HOUR_S, CapabilityFacts::is_waiting)?;
    let names = capability_needs(account);
    let detail = waiting.detail.map(|reason| match names.as_slice() {
        [] => reason,
        names => Detail::text(&reason, names, 0),
    });
    Some(Condition { detail, ..waiting })
}

/// What the account's holder must provide for capabilities that wait for it, by Stripe's names.
fn capability_needs(account: &Account) -> Vec<String> {
    let mut names = Vec::new();
    for (capability, states) in &account.capabilities {
        let waits = states
            .last()
            .is_some_and(|state| state.facts.is_waiting() && state.facts.waits_for_its_holder());
        let needed = account.capability_needs.get(capability).filter(|_| waits);
        for name in needed.into_iter().flat_map(|(_, names)| names) {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
    }
    names
}

fn capability_disabled(account: &Account) -> Option<Condition> {
    let kind = ConditionKind::CapabilityDisabled;
    capabilities(account, kind, 0, CapabilityFacts::is_disabled)
}

fn stale(account: &Account) -> Option<Condition> {
    let (reported_s, event_id) = account.thin.as_ref().filter(|_| account.is_stale())?;
    let kind = ConditionKind::AccountStale;
    let start = Start::at(*reported_s, event_id);
    Some(condition(account, kind, &start, 0, None))
}

fn has_charged(account: &Account) -> bool {
    account.milestones.contains_key(&Milestone::ChargesEnabled)
}

/// A condition of the current state: it began when `holds` became true. `held_before` is what an
/// event says of the time before it.
fn since(
    account: &Account,
    kind: ConditionKind,
    after_s: i64,
    (holds, held_before): (
        impl Fn(&AccountFacts) -> bool,
        impl Fn(&RecordedState<AccountFacts>) -> Option<bool>,
    ),
    detail: Option<String>,
) -> Option<Condition> {
    let timeline = &account.timeline;
    let states = account.known_states();
    let newest_first = states.iter().rev();
    let run = newest_first.take_while(|(_, facts)| holds(facts));
    let first = start_of_run(run.map(|(state, _)| *state), &held_before);
    let first = first.or_else(|| timeline.last())?;
    let start = Start {
        began_before: timeline.began_before(first, held_before),
        ..Start::at(first.created_s, first.event_id.as_str())
    };
    Some(condition(account, kind, &start, after_s, detail))
}

/// One condition for all capabilities of which something holds: it began with the first of them.
fn capabilities(
    account: &Account,
    kind: ConditionKind,
    after_s: i64,
    holds: fn(&CapabilityFacts) -> bool,
) -> Option<Condition> {
    let matching = account.capabilities.iter().filter_map(|(name, states)| {
        let held_before = |s: &RecordedState<CapabilityFacts>| s.capability_before(holds);
        let first = states.since(holds, held_before)?;
        let start = Start {
            began_before: states.began_before(first, held_before),
            ..Start::at(first.created_s, first.event_id.as_str())
        };
        let reason = states.last().and_then(|state| state.facts.reason());
        Some(((name.as_str(), reason), start))
    });
    let (named, starts): (Vec<_>, Vec<_>) = matching.unzip();
    let start = starts.into_iter().min_by_key(|s| (s.at_s, s.event_id))?;
    let detail = Some(names_and_reasons(&named));
    Some(condition(account, kind, &start, after_s, detail))
}

/// For example `card_payments, transfers; card_payments: requirements.fields_needed (information is
/// missing)`.
fn names_and_reasons(named: &[(&str, Option<String>)]) -> String {
    let names = named.iter().map(|(name, _)| *name);
    let names = names.collect::<Vec<_>>().join(", ");
    let reasons = named.iter().filter_map(|(name, reason)| {
        let reason = reason.as_ref()?;
        Some(format!("{name}: {reason}"))
    });
    let mut parts: Vec<_> = reasons.collect();
    if named.len() > 1 || parts.is_empty() {
        parts.insert(0, names);
    }
    parts.join("; ")
}

/// The start of a condition.
#[derive(Clone, Copy)]
struct Start<'a> {
    at_s: i64,
    event_id: &'a str,
    began_before: Option<BeganBefore>,
}

impl<'a> Start<'a> {
    fn at(at_s: i64, event_id: &'a str) -> Self {
        Self {
            at_s,
            event_id,
            began_before: None,
        }
    }
}

/// It counts `after_s` seconds after its start.
fn condition(
    account: &Account,
    kind: ConditionKind,
    start: &Start<'_>,
    after_s: i64,
    detail: Option<String>,
) -> Condition {
    Condition {
        key: ConditionKey {
            kind,
            subject: EntityKey::new(EntityKind::Account, &account.id),
        },
        since_s: start.at_s,
        began_before: start.began_before,
        due_s: start.at_s.saturating_add(after_s),
        account: Some(account.id.clone()),
        customer: None,
        realm: account.realm.clone().unwrap_or_default(),
        money: None,
        detail,
        event_id: start.event_id.to_owned(),
        times: None,
        answer_by_s: None,
        trial_end_s: None,
        further_money: Vec::new(),
        uncertain: None,
    }
}
