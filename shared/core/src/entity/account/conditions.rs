//! The problems of an account.

use super::facts::AccountFacts;
use super::milestone::Milestone;
use super::state::Account;
use crate::condition::{Condition, ConditionKey, ConditionKind};
use crate::entity::key::EntityKey;
use crate::entity::kind::EntityKind;
use crate::entity::risk::{AccountStanding, standing};
use crate::entity::stripe_enums::CapabilityStatus;
use crate::entity::timeline::RecordedState;

const HOUR_S: i64 = 3600;

/// A removed account has no other condition than that.
pub(super) fn of(account: &Account) -> Vec<Condition> {
    if let Some((removed_s, event_id)) = &account.deauthorized
        && !account.connected()
    {
        let kind = ConditionKind::Deauthorized;
        return vec![condition(account, kind, (*removed_s, 0), event_id, None)];
    }
    [
        blocked(account),
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
    let row = standing(facts);
    let kind = match row {
        AccountStanding::Active | AccountStanding::Onboarding => return None,
        AccountStanding::Restricted => ConditionKind::AccountRestricted,
        AccountStanding::Disabled => ConditionKind::AccountDisabled,
        AccountStanding::PayoutsBlocked => ConditionKind::PayoutsBlocked,
        AccountStanding::ChargesBlocked => ConditionKind::ChargesBlocked,
    };
    let reason = facts.disabled_reason.clone();
    since(account, kind, 0, |f| standing(f) == row, reason)
}

fn charges_lost(account: &Account) -> Option<Condition> {
    let facts = account.current()?;
    if facts.charges_enabled || !has_charged(account) {
        return None;
    }
    let kind = ConditionKind::ChargesLost;
    let reason = facts.disabled_reason.clone();
    since(account, kind, 0, |f| !f.charges_enabled, reason)
}

fn requirements_due(account: &Account) -> Option<Condition> {
    let facts = account.current().filter(|f| f.currently_due > 0)?;
    let detail = format!("{} due, {} overdue", facts.currently_due, facts.past_due);
    let kind = ConditionKind::RequirementsDue;
    let is_due = |f: &AccountFacts| f.currently_due > 0;
    since(account, kind, 48 * HOUR_S, is_due, Some(detail))
}

/// An account that was only named by other events may have been onboarded long ago: no condition.
fn onboarding_incomplete(account: &Account) -> Option<Condition> {
    let states = account.timeline.in_order();
    let first = states.first().filter(|_| !has_charged(account))?;
    let kind = ConditionKind::OnboardingIncomplete;
    let at = (account.began_s()?, 24 * HOUR_S);
    let detail = Some(format!("reached {}", account.stage().as_str()));
    Some(condition(
        account,
        kind,
        at,
        first.event_id.as_str(),
        detail,
    ))
}

fn capability_waiting(account: &Account) -> Option<Condition> {
    let waits = |status: &CapabilityStatus| {
        matches!(
            status,
            CapabilityStatus::Inactive | CapabilityStatus::Pending
        )
    };
    capabilities(
        account,
        ConditionKind::CapabilityWaiting,
        72 * HOUR_S,
        waits,
    )
}

fn capability_disabled(account: &Account) -> Option<Condition> {
    let is_disabled = |status: &CapabilityStatus| *status == CapabilityStatus::Disabled;
    capabilities(account, ConditionKind::CapabilityDisabled, 0, is_disabled)
}

fn stale(account: &Account) -> Option<Condition> {
    let (reported_s, event_id) = account.thin.as_ref().filter(|_| account.is_stale())?;
    let kind = ConditionKind::AccountStale;
    Some(condition(account, kind, (*reported_s, 0), event_id, None))
}

fn has_charged(account: &Account) -> bool {
    account.milestones.contains_key(&Milestone::ChargesEnabled)
}

/// A condition of the current state: it began when `holds` became true.
fn since(
    account: &Account,
    kind: ConditionKind,
    after_s: i64,
    holds: impl Fn(&AccountFacts) -> bool,
    detail: Option<String>,
) -> Option<Condition> {
    let first = account
        .timeline
        .since(holds)
        .or_else(|| account.timeline.last())?;
    let at = (first.created_s, after_s);
    Some(condition(
        account,
        kind,
        at,
        first.event_id.as_str(),
        detail,
    ))
}

/// One condition for all capabilities with such a status: it began with the first of them.
fn capabilities(
    account: &Account,
    kind: ConditionKind,
    after_s: i64,
    holds: impl Fn(&CapabilityStatus) -> bool,
) -> Option<Condition> {
    let matching: Vec<(&str, &RecordedState<_>)> = account
        .capabilities
        .iter()
        .filter_map(|(name, states)| Some((name.as_str(), states.since(|f| holds(&f.status))?)))
        .collect();
    let (_, first) = matching
        .iter()
        .min_by_key(|(_, s)| (s.created_s, s.event_id.as_str()))?;
    let names: Vec<_> = matching.iter().map(|(name, _)| *name).collect();
    let at = (first.created_s, after_s);
    let detail = Some(names.join(", "));
    Some(condition(
        account,
        kind,
        at,
        first.event_id.as_str(),
        detail,
    ))
}

/// `at` is the start, and the seconds after which the condition counts.
fn condition(
    account: &Account,
    kind: ConditionKind,
    at: (i64, i64),
    event_id: &str,
    detail: Option<String>,
) -> Condition {
    Condition {
        key: ConditionKey {
            kind,
            subject: EntityKey::new(EntityKind::Account, &account.id),
        },
        since_s: at.0,
        due_s: at.0.saturating_add(at.1),
        account: Some(account.id.clone()),
        customer: None,
        money: None,
        detail,
        event_id: event_id.to_owned(),
    }
}
