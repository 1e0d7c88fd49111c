//! A connected account: can it take charges, can it be paid out, is it still connected? The facts and
//! their merge; onboarding is in `milestone`.

mod conditions;
mod contributions;
mod milestone;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::milestone::Milestone;
use super::events::{EventRef, event_refs};
use super::risk::{Risk, risk};
use super::stripe_enums::CapabilityStatus;
use super::timeline::{Facts, RecordedState, Timeline};
use super::{EntityKey, EntityState, Transition, keep_greater, keep_smaller, value_fingerprint};
use crate::condition::Condition;
use crate::counters::Tally;

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

/// A payout destination: only last four digits, country and currency, never more (C4).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ExternalAccount {
    /// The latest event about it: Unix seconds and id.
    pub last_event: (i64, String),
    /// Whether it was removed.
    pub removed: bool,
    /// Last four digits.
    pub last4: Option<String>,
    /// Two letters.
    pub country: Option<String>,
    /// Lower case.
    pub currency: Option<String>,
}

/// The state of an account in one event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountFacts {
    /// May take charges.
    pub charges_enabled: bool,
    /// May be paid out.
    pub payouts_enabled: bool,
    /// The onboarding form was submitted.
    pub details_submitted: bool,
    /// `requirements.disabled_reason`
    pub disabled_reason: Option<String>,
    /// How many requirements are due.
    pub currently_due: u32,
    /// How many requirements are overdue.
    pub past_due: u32,
    /// Fingerprints of the two lists.
    pub due_fingerprints: (u32, u32),
}

/// The state of a capability in one event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapabilityFacts {
    /// Stripe's status.
    pub status: CapabilityStatus,
}

/// What one event says about an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccountUpdate {
    /// The account exists: any event that names it.
    Seen,
    /// `account.updated`
    Snapshot {
        /// Two letters.
        country: Option<String>,
        /// Unix seconds.
        created_s: Option<i64>,
        /// The state in the event.
        state: RecordedState<AccountFacts>,
        /// Whether it lists an external account.
        has_external_account: bool,
    },
    /// `account.external_account.*`
    ExternalAccount {
        /// `ba_…` or `card_…`
        id: String,
        /// The state in the event.
        view: ExternalAccount,
    },
    /// A thin event about it.
    Thin {
        /// The event.
        event_id: String,
    },
    /// `account.application.authorized` or `.deauthorized`
    Connection {
        /// Which of the two.
        connected: bool,
        /// The event.
        event_id: String,
    },
    /// `capability.updated`
    Capability {
        /// For example `transfers`.
        name: String,
        /// The state in the event.
        state: RecordedState<CapabilityFacts>,
    },
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
                // The latest state wins; within one second the greater one, which is the same in
                // any order.
                let kept = self
                    .external_accounts
                    .entry(id)
                    .or_insert_with(|| view.clone());
                if view > *kept {
                    *kept = view;
                }
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

    /// The current state.
    pub fn current(&self) -> Option<&AccountFacts> {
        self.timeline.last().map(|s| &s.facts)
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
    fn connected_at(&self, at_s: i64) -> bool {
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

impl EntityState for Account {
    fn set_key(&mut self, key: &EntityKey) {
        self.id.clone_from(&key.id);
    }

    fn contributions(&self, tally: &mut Tally) {
        contributions::add(self, tally);
    }

    fn conditions(&self) -> Vec<Condition> {
        conditions::of(self)
    }

    /// Every change for the audit trail, oldest first.
    fn transitions(&self) -> Vec<Transition> {
        let mut found = Vec::new();
        let mut before: Option<&AccountFacts> = None;
        for recorded in self.timeline.in_order() {
            let facts = &recorded.facts;
            let flags = [
                (
                    "charges_enabled",
                    before.map(|b| b.charges_enabled),
                    facts.charges_enabled,
                ),
                (
                    "payouts_enabled",
                    before.map(|b| b.payouts_enabled),
                    facts.payouts_enabled,
                ),
            ];
            for (name, was, is) in flags.into_iter().filter(|(_, was, is)| *was != Some(*is)) {
                found.push(Transition {
                    at_s: recorded.created_s,
                    event_id: recorded.event_id.clone(),
                    what: format!(
                        "{name} {} → {is}",
                        was.map_or_else(|| "(new)".to_owned(), |was| was.to_string())
                    ),
                    expected: was != Some(true),
                });
            }
            before = Some(facts);
        }
        for (latest, what) in [
            (&self.deauthorized, "disconnected"),
            (&self.authorized, "connected"),
        ] {
            if let Some((at_s, event_id)) = latest {
                found.push(Transition {
                    at_s: *at_s,
                    event_id: event_id.clone(),
                    what: what.to_owned(),
                    expected: what == "connected",
                });
            }
        }
        found
    }

    fn events(&self) -> Vec<EventRef> {
        let mut found = event_refs(&self.timeline, None);
        for (name, timeline) in &self.capabilities {
            found.extend(event_refs(timeline, Some(&format!("capability {name}"))));
        }
        let external = self
            .external_accounts
            .iter()
            .map(|(id, view)| (&view.last_event, format!("external account {id}")));
        let single = [
            (&self.authorized, "authorization"),
            (&self.deauthorized, "deauthorization"),
            (&self.thin, "a change that only the API shows"),
        ];
        let single = single
            .into_iter()
            .filter_map(|(event, about)| Some((event.as_ref()?, about.to_owned())));
        found.extend(
            external
                .chain(single)
                .map(|((created_s, event_id), about)| EventRef {
                    created_s: *created_s,
                    event_id: event_id.clone(),
                    stage: None,
                    about: Some(about),
                }),
        );
        found.sort_by_key(|t| t.created_s);
        found
    }
}

impl Facts for AccountFacts {
    /// All fields can change back and forth.
    fn progress(&self) -> u64 {
        0
    }

    fn fields(&self) -> Vec<(&'static str, u32)> {
        vec![
            ("charges_enabled", value_fingerprint(self.charges_enabled)),
            ("payouts_enabled", value_fingerprint(self.payouts_enabled)),
            (
                "details_submitted",
                value_fingerprint(self.details_submitted),
            ),
            (
                "requirements.disabled_reason",
                value_fingerprint(self.disabled_reason.as_deref()),
            ),
            ("requirements.currently_due", self.due_fingerprints.0),
            ("requirements.past_due", self.due_fingerprints.1),
        ]
    }
}

impl Facts for CapabilityFacts {
    fn progress(&self) -> u64 {
        0
    }

    fn fields(&self) -> Vec<(&'static str, u32)> {
        vec![("status", value_fingerprint(self.status.as_str()))]
    }
}
