//! What an account adds to aggregates.

use super::facts::AccountFacts;
use super::milestone::{FIRST_PAYMENT, LINK_CLICKED, LINK_GENERATED, Milestone};
use super::state::Account;
use crate::counters::{Bucket, Tally, UNKNOWN};
use crate::entity::reports::{Field, Step};
use crate::entity::risk::{self, AccountStanding};
use crate::histogram;

/// Cohorts count at the time at which onboarding began, everything else at the time at which it
/// happened.
pub(super) fn add(account: &Account, tally: &mut Tally) {
    if account.first_seen_s.is_none() {
        return;
    }
    tally.add(Bucket::Current, &["accounts", account.risk_label()], 1);
    tally.add(Bucket::Current, &["standing", standing(account)], 1);
    if account.connected() && account.current().is_some_and(|f| f.charges_enabled) {
        tally.add(Bucket::Current, &["accounts_charging"], 1);
    }
    if account.is_stale() {
        tally.add(Bucket::Current, &["accounts_stale"], 1);
    }
    add_funnel(account, tally);
    add_onboarding(account, tally);
    add_stages(account, tally);
    add_first_payment(account, tally);
    add_charging(account, tally);
    add_reports(account, tally);
    if let Some((removed_s, _)) = account.removed() {
        tally.add(Bucket::minute_of(*removed_s), &["deauthorized"], 1);
    }
}

/// The row of the risk table, or why there is none.
fn standing(account: &Account) -> &'static str {
    match account.connected() {
        _ if account.closed.is_some() => "closed",
        false => "disconnected",
        true => {
            let row = account.current().and_then(|facts| risk::standing(&facts));
            row.map_or(UNKNOWN, AccountStanding::as_str)
        }
    }
}

/// Every milestone up to the furthest one, now and in the cohort of the account, and its first payment there. Without a
/// known start of onboarding it is in no cohort.
fn add_funnel(account: &Account, tally: &mut Tally) {
    let country = account.country.as_deref();
    let country = country.or_else(|| account.reports.text(Field::Country));
    let country = country.unwrap_or(UNKNOWN);
    let furthest = account.stage();
    for milestone in Milestone::ALL.into_iter().filter(|m| *m <= furthest) {
        let name = milestone.as_str();
        tally.add(Bucket::Current, &["funnel", name], 1);
        add_to_cohort(account, name, country, tally);
    }
    if account.reached_first_payment().is_some() {
        add_to_cohort(account, FIRST_PAYMENT, country, tally);
    }
}

/// By country and, where the application says it, by source.
fn add_to_cohort(account: &Account, step: &str, country: &str, tally: &mut Tally) {
    let Some(began_s) = account.began_s() else {
        return;
    };
    tally.add(Bucket::minute_of(began_s), &["cohort", step, country], 1);
    if let Some(source) = account.reports.text(Field::Source) {
        tally.add(
            Bucket::hour_of(began_s),
            &["cohort_source", step, source],
            1,
        );
    }
}

/// How long it took until the account could take charges.
fn add_onboarding(account: &Account, tally: &mut Tally) {
    let done_s = account.milestone_s(Milestone::ChargesEnabled);
    let Some((seconds, done_s)) = account.onboarding_seconds().zip(done_s) else {
        return;
    };
    let bucket = histogram::bucket(seconds).to_string();
    tally.add(Bucket::Current, &["onboarding", &bucket], 1);
    let hour = Bucket::hour_of(done_s);
    tally.add(hour, &["onboarded", "count"], 1);
    tally.add(hour, &["onboarded", "seconds"], seconds);
    tally.add(hour, &["onboarded_bucket", &bucket], 1);
}

/// When each milestone was reached, and the time since the previous one. Missing milestones are
/// skipped, and one that came before its predecessor took no time. What was reached at an unknown
/// time is neither counted nor a start of the next.
fn add_stages(account: &Account, tally: &mut Tally) {
    let mut before_s = None;
    for milestone in Milestone::ALL {
        let Some(at_s) = account.milestone_s(milestone) else {
            if account.milestones.contains_key(&milestone) {
                before_s = None;
            }
            continue;
        };
        let (hour, name) = (Bucket::hour_of(at_s), milestone.as_str());
        tally.add(hour, &["milestone", name], 1);
        if let Some(before_s) = before_s.replace(at_s) {
            let seconds = at_s.saturating_sub(before_s).max(0);
            let bucket = histogram::bucket(seconds).to_string();
            tally.add(hour, &["stage", name, "count"], 1);
            tally.add(hour, &["stage", name, "seconds"], seconds);
            tally.add(hour, &["stage_bucket", name, &bucket], 1);
        }
    }
}

/// The last stage of the funnel (C16): of the accounts whose charges were enabled in an hour, those that took a payment,
/// and how long that took. Of an account whose charges were enabled at an unknown time, earlier payments may be
/// unknown.
fn add_first_payment(account: &Account, tally: &mut Tally) {
    if account.earliest_payment_s().is_some() {
        tally.add(Bucket::Current, &["funnel", FIRST_PAYMENT], 1);
    }
    if account.paid_s.is_some() {
        tally.add(Bucket::Current, &["took_payment"], 1);
    }
    if let Some(paid_s) = account.took_payment_s() {
        tally.add(Bucket::hour_of(paid_s), &["took_payment"], 1);
    }
    let Some(enabled_s) = account.milestone_s(Milestone::ChargesEnabled) else {
        return;
    };
    let country = account.country.as_deref().unwrap_or(UNKNOWN);
    let enabled_hour = Bucket::hour_of(enabled_s);
    tally.add(enabled_hour, &[FIRST_PAYMENT, "enabled", country], 1);
    let Some(paid_s) = account.first_payment_s() else {
        return;
    };
    tally.add(enabled_hour, &[FIRST_PAYMENT, "paid", country], 1);
    let (hour, seconds) = (Bucket::hour_of(paid_s), paid_s.saturating_sub(enabled_s));
    tally.add(hour, &["milestone", FIRST_PAYMENT], 1);
    tally.add(hour, &["stage", FIRST_PAYMENT, "count"], 1);
    tally.add(hour, &["stage", FIRST_PAYMENT, "seconds"], seconds);
    let bucket = histogram::bucket(seconds).to_string();
    tally.add(hour, &["stage_bucket", FIRST_PAYMENT, &bucket], 1);
}

/// What the application says: the links that led into onboarding, and what failed (C10, C11, C16).
fn add_reports(account: &Account, tally: &mut Tally) {
    let reports = &account.reports;
    for (step, name) in [
        (Step::LinkGenerated, LINK_GENERATED),
        (Step::LinkClicked, LINK_CLICKED),
    ] {
        if let Some(at_s) = reports.first_s(step) {
            tally.add(Bucket::Current, &["funnel", name], 1);
            tally.add(Bucket::hour_of(at_s), &["milestone", name], 1);
        }
    }
    if let Some(created_s) = reports.first_s(Step::CreatedByUser) {
        tally.add(Bucket::minute_of(created_s), &["account_creations"], 1);
    }
    for failed_s in reports.moments(Step::LinkFailed) {
        tally.add(Bucket::minute_of(failed_s), &["account_link_failures"], 1);
    }
}

/// The hourly changes of `accounts_charging`: the level at the end of an earlier hour is the current
/// level minus the changes since.
fn add_charging(account: &Account, tally: &mut Tally) {
    let ordered = account.timeline.in_order();
    let Some(first) = ordered.first() else { return };
    let level =
        |facts: &AccountFacts, at_s| i64::from(facts.charges_enabled && account.connected_at(at_s));
    // If older states were dropped, the oldest remembered one is not a gain. Neither is what the
    // first event does not say changed.
    let now = first.facts.charges_enabled;
    let is_cut = account.timeline.is_cut();
    let charged = first
        .flag_before("charges_enabled", now)
        .filter(|_| !is_cut && !first.is_unsure(account.created_s));
    let charged = charged.unwrap_or(now);
    let mut before = i64::from(charged && account.connected_at(first.created_s));
    let connections = [&account.deauthorized, &account.authorized, &account.closed]
        .into_iter()
        .flatten()
        .map(|(at_s, _)| *at_s);
    let mut moments: Vec<i64> = ordered
        .iter()
        .map(|s| s.created_s)
        .chain(connections)
        .collect();
    moments.sort_unstable();
    for at_s in moments {
        // The state before the first event is unknown.
        let until = ordered.partition_point(|s| s.created_s <= at_s);
        let Some(recorded) = ordered[..until].last() else {
            continue;
        };
        let now = level(&recorded.facts, at_s);
        tally.add(
            Bucket::hour_of(at_s),
            &["charging_change"],
            now.saturating_sub(before),
        );
        before = now;
    }
}
