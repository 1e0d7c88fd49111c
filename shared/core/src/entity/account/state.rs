//! The accumulated state of an account, its merge, and what is a function of it alone.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::facts::{AccountFacts, AccountUpdate, CapabilityFacts, ExternalAccount};
use super::milestone::Milestone;
use crate::entity::merge::{keep_greater, keep_smaller};
use crate::entity::risk::{Risk, risk};
use crate::entity::timeline::Timeline;

/// The state of a connected account, as known from its events.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// `acct_…`
    #[serde(skip)]
    pub id: String,
    /// Two letters.
    pub country: Option<String>,
    /// `created` of the account itself, Unix seconds.
    pub created_s: Option<i64>,
    /// The earliest event that names the account (C1), Unix seconds.
    pub first_seen_s: Option<i64>,
    /// Milestones: the earliest event that shows each, Unix seconds.
    pub milestones: BTreeMap<Milestone, i64>,
    /// The latest `account.application.deauthorized`: Unix seconds and event.
    pub deauthorized: Option<(i64, String)>,
    /// The latest `account.application.authorized`.
    pub authorized: Option<(i64, String)>,
    /// Capabilities by name, such as `card_payments`.
    pub capabilities: BTreeMap<String, Timeline<CapabilityFacts>>,
    /// The states from `account.updated`.
    pub timeline: Timeline<AccountFacts>,
    /// Payout destinations by id.
    pub external_accounts: BTreeMap<String, ExternalAccount>,
    /// The latest thin event, which reports that something changed but not what: Unix seconds and
    /// event.
    pub thin: Option<(i64, String)>,
}

impl Account {
    /// Merges one event, created at `created_s`.
    pub fn merge(&mut self, created_s: i64, update: AccountUpdate) {
        keep_smaller(&mut self.first_seen_s, created_s);
        match update {
            AccountUpdate::Seen => {}
            AccountUpdate::Snapshot {
                country,
                created_s: account_created_s,
                state,
                has_external_account,
            } => {
                keep_greater(&mut self.country, &country);
                if let Some(account_created_s) = account_created_s {
                    keep_smaller(&mut self.created_s, account_created_s);
                }
                let facts = &state.facts;
                let reached = [
                    (facts.details_submitted, Milestone::OnboardingStarted),
                    (has_external_account, Milestone::ExternalAccountAdded),
                    (facts.charges_enabled, Milestone::ChargesEnabled),
                    (
                        facts.charges_enabled && facts.payouts_enabled,
                        Milestone::OnboardingCompleted,
                    ),
                ];
                for (_, milestone) in reached.into_iter().filter(|(is, _)| *is) {
                    self.reach(milestone, created_s);
                }
                self.timeline.insert(state);
            }
            AccountUpdate::ExternalAccount { id, view } => {
                if !view.removed {
                    self.reach(Milestone::ExternalAccountAdded, created_s);
                }
                self.show(id, view);
            }
            AccountUpdate::Thin { event_id } => {
                keep_greater(&mut self.thin, &Some((created_s, event_id)));
            }
            AccountUpdate::Connection {
                connected,
                event_id,
            } => {
                let latest = if connected {
                    &mut self.authorized
                } else {
                    &mut self.deauthorized
                };
                keep_greater(latest, &Some((created_s, event_id)));
            }
            AccountUpdate::Capability { name, state } => {
                self.capabilities.entry(name).or_default().insert(state);
            }
        }
    }

    /// See [`crate::entity::Entity::union`].
    pub(in crate::entity) fn union(&mut self, other: &Self) {
        keep_greater(&mut self.country, &other.country);
        let times = [
            (&mut self.created_s, other.created_s),
            (&mut self.first_seen_s, other.first_seen_s),
        ];
        for (kept, new) in times {
            if let Some(new) = new {
                keep_smaller(kept, new);
            }
        }
        for (milestone, at_s) in &other.milestones {
            self.reach(*milestone, *at_s);
        }
        keep_greater(&mut self.deauthorized, &other.deauthorized);
        keep_greater(&mut self.authorized, &other.authorized);
        keep_greater(&mut self.thin, &other.thin);
        for (name, timeline) in &other.capabilities {
            let kept = self.capabilities.entry(name.clone()).or_default();
            kept.union(timeline);
        }
        for (id, view) in &other.external_accounts {
            self.show(id.clone(), view.clone());
        }
        self.timeline.union(&other.timeline);
    }

    /// The latest state of a payout destination wins; within one second the greater one, which is the
    /// same in any order.
    fn show(&mut self, id: String, view: ExternalAccount) {
        let kept = self
            .external_accounts
            .entry(id)
            .or_insert_with(|| view.clone());
        if view > *kept {
            *kept = view;
        }
    }

    /// The current state.
    pub fn current(&self) -> Option<&AccountFacts> {
        self.timeline.last().map(|s| &*s.facts)
    }

    /// Whether the platform is still connected. If authorization and removal have the same second:
    /// removed.
    pub fn connected(&self) -> bool {
        self.connected_at(i64::MAX)
    }

    /// The risk, if the account's state is known. A disconnected account can earn nothing through
    /// the platform.
    pub fn risk(&self) -> Option<Risk> {
        if self.connected() {
            self.current().map(risk)
        } else {
            Some(Risk::Critical)
        }
    }

    /// Whether a thin event reported a change that no later state has shown. A removed account is
    /// never stale: its state can no longer be fetched.
    pub fn is_stale(&self) -> bool {
        let state_s = self.timeline.last().map(|s| s.created_s);
        self.connected()
            && self
                .thin
                .as_ref()
                .is_some_and(|(reported_s, _)| state_s.is_none_or(|v| v < *reported_s))
    }

    /// As far as the latest removal and the latest authorization show: disconnected from the
    /// removal to the authorization, or for good, and connected at all other times.
    pub(super) fn connected_at(&self, at_s: i64) -> bool {
        match (&self.deauthorized, &self.authorized) {
            (Some((removed_s, _)), _) if at_s < *removed_s => true,
            (Some((removed_s, _)), Some((authorized_s, _))) => {
                authorized_s > removed_s && *authorized_s <= at_s
            }
            (Some(_), None) => false,
            (None, _) => true,
        }
    }
}

/// Onboarding.
impl Account {
    /// The furthest milestone reached.
    pub fn stage(&self) -> Milestone {
        self.milestones
            .last_key_value()
            .map_or(Milestone::AccountCreated, |(m, _)| *m)
    }

    /// When onboarding began: the account's creation, else the first event.
    pub fn began_s(&self) -> Option<i64> {
        self.created_s.or(self.first_seen_s)
    }

    /// When it reached a milestone; the first milestone is the start of onboarding.
    pub fn milestone_s(&self, milestone: Milestone) -> Option<i64> {
        match milestone {
            Milestone::AccountCreated => self.began_s(),
            later => self.milestones.get(&later).copied(),
        }
    }

    /// From creation (else the first event) to charges enabled.
    pub fn onboarding_seconds(&self) -> Option<i64> {
        let done_s = self.milestones.get(&Milestone::ChargesEnabled)?;
        Some(done_s.saturating_sub(self.began_s()?).max(0))
    }

    /// Whether only other objects' events named the account. It may have been onboarded long ago,
    /// so its first event does not start an onboarding.
    pub(super) fn is_only_named(&self) -> bool {
        let has_own_events = self
            .created_s
            .or(self.timeline.last().map(|s| s.created_s))
            .is_some()
            || self.thin.is_some();
        let has_connection_events = self.authorized.is_some() || self.deauthorized.is_some();
        !has_own_events
            && !has_connection_events
            && self.capabilities.is_empty()
            && self.external_accounts.is_empty()
    }

    /// The earliest event that shows a milestone counts.
    pub(super) fn reach(&mut self, milestone: Milestone, at_s: i64) {
        self.milestones
            .entry(milestone)
            .and_modify(|first_s| *first_s = at_s.min(*first_s))
            .or_insert(at_s);
    }
}
