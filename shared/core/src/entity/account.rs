//! A connected account: can it take charges, can it be paid out, is it still connected?

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::events::{EventRef, event_refs};
use super::risk::{AccountStanding, Risk, risk, standing};
use super::stripe_enums::CapabilityStatus;
use super::timeline::{Facts, RecordedState, Timeline};
use super::{
    EntityKey, EntityKind, EntityState, Transition, compact, keep_greater, keep_smaller,
    value_fingerprint,
};
use crate::condition::{Condition, ConditionKey, ConditionKind};
use crate::counters::{Bucket, Tally};
use crate::histogram;

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

/// The steps of onboarding that Stripe's events show, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Milestone {
    /// An event named the account.
    AccountCreated,
    /// Its holder has submitted the onboarding form (`details_submitted`).
    OnboardingStarted,
    /// It has a bank account or card for payouts.
    ExternalAccountAdded,
    /// It may take charges.
    ChargesEnabled,
    /// It may take charges and be paid out.
    OnboardingCompleted,
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

impl Milestone {
    /// All, in order.
    pub const ALL: [Self; 5] = [
        Self::AccountCreated,
        Self::OnboardingStarted,
        Self::ExternalAccountAdded,
        Self::ChargesEnabled,
        Self::OnboardingCompleted,
    ];

    /// The name that exports and metrics use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AccountCreated => "account_created",
            Self::OnboardingStarted => "onboarding_started",
            Self::ExternalAccountAdded => "external_account_added",
            Self::ChargesEnabled => "charges_enabled",
            Self::OnboardingCompleted => "onboarding_completed",
        }
    }
}

/// The stored form of a milestone is its index here.
const MILESTONES: &[&str] = &[
    "account_created",
    "onboarding_started",
    "external_account_added",
    "charges_enabled",
    "onboarding_completed",
];

impl Serialize for Milestone {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        compact::write(self.as_str(), MILESTONES, serializer)
    }
}

impl<'de> Deserialize<'de> for Milestone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = compact::read(MILESTONES, deserializer)?;
        let found = Self::ALL
            .into_iter()
            .find(|milestone| milestone.as_str() == name);
        found.ok_or_else(|| serde::de::Error::unknown_variant(&name, MILESTONES))
    }
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

    /// Whether only other objects' events named the account. It may have been onboarded long ago,
    /// so its first event does not start an onboarding.
    fn is_only_named(&self) -> bool {
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

    /// When each milestone was reached, and the time since the previous one. Missing milestones are
    /// skipped, and one that came before its predecessor took no time.
    fn stages(&self, tally: &mut Tally) {
        let mut before_s = None;
        for milestone in Milestone::ALL {
            let Some(at_s) = self.milestone_s(milestone) else {
                continue;
            };
            let (hour, name) = (Bucket::hour_of(at_s), milestone.as_str());
            tally.add(hour, &["milestone", name], 1);
            if let Some(before_s) = before_s.replace(at_s) {
                let seconds = at_s.saturating_sub(before_s).max(0);
                tally.add(hour, &["stage", name, "count"], 1);
                tally.add(hour, &["stage", name, "seconds"], seconds);
                tally.add(
                    hour,
                    &[
                        "stage_bucket",
                        name,
                        &histogram::bucket(seconds).to_string(),
                    ],
                    1,
                );
            }
        }
    }

    /// The hourly changes of `accounts_charging`: the level at the end of an earlier hour is the
    /// current level minus the changes since.
    fn charging(&self, tally: &mut Tally) {
        let ordered = self.timeline.in_order();
        let Some(first) = ordered.first() else { return };
        let level = |facts: &AccountFacts, at_s| {
            i64::from(facts.charges_enabled && self.connected_at(at_s))
        };
        // If older states were dropped, the oldest remembered one is not a gain.
        let mut before = if self.timeline.is_cut() {
            level(&first.facts, first.created_s)
        } else {
            0
        };
        let connections = [&self.deauthorized, &self.authorized]
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
            let Some(recorded) = ordered[..ordered.partition_point(|s| s.created_s <= at_s)].last()
            else {
                continue;
            };
            let now = level(&recorded.facts, at_s);
            tally.add(Bucket::hour_of(at_s), &["charging_change"], now - before);
            before = now;
        }
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

    fn reach(&mut self, milestone: Milestone, at_s: i64) {
        self.milestones
            .entry(milestone)
            .and_modify(|first_s| *first_s = at_s.min(*first_s))
            .or_insert(at_s);
    }

    /// The earliest remembered event; empty if there is none.
    fn first_event(&self) -> &str {
        self.timeline
            .in_order()
            .first()
            .map_or("", |s| s.event_id.as_str())
    }

    /// `at` is the start, and the seconds after which the condition counts.
    fn condition(
        &self,
        kind: ConditionKind,
        at: (i64, i64),
        event_id: &str,
        detail: Option<String>,
    ) -> Condition {
        Condition {
            key: ConditionKey {
                kind,
                subject: EntityKey::new(EntityKind::Account, &self.id),
            },
            since_s: at.0,
            due_s: at.0.saturating_add(at.1),
            account: Some(self.id.clone()),
            customer: None,
            money: None,
            detail,
            event_id: event_id.to_owned(),
        }
    }
}

impl EntityState for Account {
    fn set_key(&mut self, key: &EntityKey) {
        self.id.clone_from(&key.id);
    }

    /// Cohorts count in the hour in which onboarding began,
    /// everything else in the hour in which it happened.
    fn contributions(&self, tally: &mut Tally) {
        let Some(began_s) = self.began_s() else {
            return;
        };
        tally.add(
            Bucket::Current,
            &["accounts", self.risk().map_or("unknown", Risk::as_str)],
            1,
        );
        if self.connected() && self.current().is_some_and(|f| f.charges_enabled) {
            tally.add(Bucket::Current, &["accounts_charging"], 1);
        }
        if self.is_stale() {
            tally.add(Bucket::Current, &["accounts_stale"], 1);
        }
        let country = self.country.as_deref().unwrap_or("unknown");
        let furthest = self.stage();
        for milestone in Milestone::ALL.into_iter().filter(|m| *m <= furthest) {
            tally.add(Bucket::Current, &["funnel", milestone.as_str()], 1);
            if !self.is_only_named() {
                tally.add(
                    Bucket::hour_of(began_s),
                    &["cohort", milestone.as_str(), country],
                    1,
                );
            }
        }
        if let Some((seconds, done_s)) = self
            .onboarding_seconds()
            .zip(self.milestones.get(&Milestone::ChargesEnabled))
        {
            let bucket = histogram::bucket(seconds).to_string();
            tally.add(Bucket::Current, &["onboarding", &bucket], 1);
            let hour = Bucket::hour_of(*done_s);
            tally.add(hour, &["onboarded", "count"], 1);
            tally.add(hour, &["onboarded", "seconds"], seconds);
            tally.add(hour, &["onboarded_bucket", &bucket], 1);
        }
        if !self.is_only_named() {
            self.stages(tally);
        }
        self.charging(tally);
        if let Some((removed_s, _)) = self.deauthorized.as_ref().filter(|_| !self.connected()) {
            tally.add(Bucket::hour_of(*removed_s), &["deauthorized"], 1);
        }
    }

    /// A removed account has no other condition.
    fn conditions(&self) -> Vec<Condition> {
        use ConditionKind as K;
        if let Some((removed_s, event_id)) =
            self.deauthorized.as_ref().filter(|_| !self.connected())
        {
            return vec![self.condition(K::Deauthorized, (*removed_s, 0), event_id, None)];
        }
        let mut found = Vec::new();
        let mut add = |kind, at, event_id: &str, detail| {
            found.push(self.condition(kind, at, event_id, detail));
        };
        let charged = self.milestones.contains_key(&Milestone::ChargesEnabled);
        if let (Some(facts), Some(last)) = (self.current(), self.timeline.last()) {
            let row = standing(facts);
            let reason = facts.disabled_reason.clone();
            let kind = match row {
                AccountStanding::Active | AccountStanding::Onboarding => None,
                AccountStanding::Restricted => Some(K::AccountRestricted),
                AccountStanding::Disabled => Some(K::AccountDisabled),
                AccountStanding::PayoutsBlocked => Some(K::PayoutsBlocked),
                AccountStanding::ChargesBlocked => Some(K::ChargesBlocked),
            };
            let began =
                |holds: &dyn Fn(&AccountFacts) -> bool| self.timeline.since(holds).unwrap_or(last);
            if let Some(kind) = kind {
                let first = began(&|f| standing(f) == row);
                add(kind, (first.created_s, 0), &first.event_id, reason.clone());
            }
            if !facts.charges_enabled && charged {
                let first = began(&|f| !f.charges_enabled);
                add(
                    K::ChargesLost,
                    (first.created_s, 0),
                    &first.event_id,
                    reason,
                );
            }
            if facts.currently_due > 0 {
                let first = began(&|f| f.currently_due > 0);
                let detail = format!("{} due, {} overdue", facts.currently_due, facts.past_due);
                add(
                    K::RequirementsDue,
                    (first.created_s, 48 * HOUR_S),
                    &first.event_id,
                    Some(detail),
                );
            }
        }
        // An account that was only named by other events may have been onboarded long ago: no
        // condition.
        let incomplete = !charged && self.current().is_some();
        if let Some(began_s) = self.began_s().filter(|_| incomplete) {
            let detail = Some(format!("reached {}", self.stage().as_str()));
            add(
                K::OnboardingIncomplete,
                (began_s, 24 * HOUR_S),
                self.first_event(),
                detail,
            );
        }
        let waiting = |s: &CapabilityStatus| {
            matches!(s, CapabilityStatus::Inactive | CapabilityStatus::Pending)
        };
        let disabled = |s: &CapabilityStatus| *s == CapabilityStatus::Disabled;
        for (kind, after_s, is) in [
            (
                K::CapabilityWaiting,
                72 * HOUR_S,
                &waiting as &dyn Fn(&CapabilityStatus) -> bool,
            ),
            (K::CapabilityDisabled, 0, &disabled),
        ] {
            let matching = self
                .capabilities
                .iter()
                .filter_map(|(name, t)| Some((name, t.since(|f| is(&f.status))?)));
            let matching: Vec<_> = matching.collect();
            if let Some((_, first)) = matching
                .iter()
                .min_by_key(|(_, s)| (s.created_s, s.event_id.as_str()))
            {
                let names: Vec<_> = matching.iter().map(|(name, _)| name.as_str()).collect();
                add(
                    kind,
                    (first.created_s, after_s),
                    &first.event_id,
                    Some(names.join(", ")),
                );
            }
        }
        if let Some((reported_s, event_id)) = self.thin.as_ref().filter(|_| self.is_stale()) {
            add(K::AccountStale, (*reported_s, 0), event_id, None);
        }
        found
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

const HOUR_S: i64 = 3600;

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

#[cfg(test)]
mod tests {
    use super::super::timeline::{KEEP, Stage};
    use super::*;
    use crate::counters::Counters;

    /// Time and event: `+` a state that may take charges, `-` one that may not, `a` authorized, `d`
    /// deauthorized.
    type Story = [(i64, char)];

    fn account_after(story: &Story) -> Account {
        let mut account = Account {
            id: "acct_1".into(),
            ..Account::default()
        };
        for (i, (at_s, symbol)) in story.iter().enumerate() {
            let event_id = format!("evt_{i:03}");
            let update = match symbol {
                '+' | '-' => view(*at_s, event_id, *symbol == '+'),
                _ => AccountUpdate::Connection {
                    connected: *symbol == 'a',
                    event_id,
                },
            };
            account.merge(*at_s, update);
        }
        account
    }

    fn view(created_s: i64, event_id: String, charges_enabled: bool) -> AccountUpdate {
        let facts = AccountFacts {
            charges_enabled,
            payouts_enabled: false,
            details_submitted: false,
            disabled_reason: None,
            currently_due: 0,
            past_due: 0,
            due_fingerprints: (0, 0),
        };
        let state = RecordedState {
            created_s,
            event_id,
            stage: Stage::Updated,
            facts,
            changes: Vec::new(),
        };
        AccountUpdate::Snapshot {
            country: None,
            created_s: None,
            state,
            has_external_account: false,
        }
    }

    fn counters_of(account: &Account) -> Counters {
        let mut tally = Tally::default();
        account.contributions(&mut tally);
        Counters::from(&tally)
    }

    /// How many are charging now, and by how much that changed in which hour.
    fn charging(account: &Account) -> (i64, BTreeMap<Bucket, i64>) {
        let counters = counters_of(account);
        let changes = counters
            .iter()
            .filter(|(_, name, _)| *name == "charging_change");
        let changes = changes.map(|(bucket, _, by)| (bucket, by)).collect();
        (
            counters.get(Bucket::Current, &["accounts_charging"]),
            changes,
        )
    }

    #[test]
    fn charging_changes_count_in_their_hour() {
        const H: i64 = HOUR_S;
        let table: [(&Story, &[(u32, i64)]); 12] = [
            (&[], &[]),
            (&[(H, '-')], &[]),
            (&[(H, '+'), (2 * H, '+')], &[(1, 1)]),
            (
                &[(H, '+'), (2 * H, '-'), (5 * H, '+')],
                &[(1, 1), (2, -1), (5, 1)],
            ),
            (&[(H, '+'), (H + 1, '-'), (H + 1, '+'), (H + 2, '-')], &[]),
            (&[(H, '+'), (3 * H, 'd')], &[(1, 1), (3, -1)]),
            (
                &[(H, '+'), (3 * H, 'd'), (4 * H, 'a')],
                &[(1, 1), (3, -1), (4, 1)],
            ),
            (&[(H, '+'), (3 * H, 'd'), (3 * H, 'a')], &[(1, 1), (3, -1)]),
            (
                &[
                    (0, 'a'),
                    (H, '+'),
                    (3 * H, 'd'),
                    (4 * H, '-'),
                    (5 * H, 'a'),
                    (6 * H, '+'),
                ],
                &[(1, 1), (3, -1), (6, 1)],
            ),
            // Only the latest removal is remembered, so the first interruption is lost.
            (
                &[(H, '+'), (3 * H, 'd'), (4 * H, 'a'), (5 * H, 'd')],
                &[(1, 1), (5, -1)],
            ),
            (&[(3 * H, 'd'), (4 * H, '+')], &[]),
            (&[(3 * H, 'd'), (4 * H, '+'), (5 * H, 'a')], &[(5, 1)]),
        ];
        for (story, changes) in table {
            let standing = changes.iter().map(|(_, by)| by).sum();
            let changes = changes
                .iter()
                .map(|(hour, by)| (Bucket::Hour(*hour), *by))
                .collect();
            assert_eq!(
                charging(&account_after(story)),
                (standing, changes),
                "{story:?}"
            );
        }
    }

    #[test]
    fn changes_of_charging_add_up_to_the_current_level() {
        const SYMBOLS: [char; 4] = ['+', '-', 'a', 'd'];
        // Some in the same second, some in the same hour.
        const TIMES: [i64; 6] = [3600, 3600, 3601, 7200, 7200, 20_000];
        for number in 0..SYMBOLS.len().pow(6) {
            let mut rest = number;
            let story = TIMES.map(|at_s| {
                let symbol = SYMBOLS[rest % SYMBOLS.len()];
                rest /= SYMBOLS.len();
                (at_s, symbol)
            });
            let (standing, changes) = charging(&account_after(&story));
            assert_eq!(changes.values().sum::<i64>(), standing, "{story:?}");
            // The level at the end of an earlier hour is the current level minus the changes since,
            // unless a removal or an authorization was replaced by a later one.
            let repeated = |symbol| story.iter().filter(|(_, w)| *w == symbol).count() > 1;
            for hour in (0..6).filter(|_| !repeated('a') && !repeated('d')) {
                let until_hour: Vec<_> = story
                    .iter()
                    .copied()
                    .filter(|(at_s, _)| at_s / 3600 <= i64::from(hour))
                    .collect();
                let since: i64 = changes
                    .range(Bucket::Hour(hour + 1)..)
                    .map(|(_, by)| by)
                    .sum();
                assert_eq!(
                    charging(&account_after(&until_hour)).0,
                    standing - since,
                    "{story:?} at the end of hour {hour}"
                );
            }
        }
    }

    #[test]
    fn the_oldest_remembered_state_is_not_a_gain_of_charging() {
        let mut story: Vec<_> = (0..40).map(|hour| (hour * HOUR_S, '+')).collect();
        assert!(story.len() > KEEP);
        assert_eq!(charging(&account_after(&story)), (1, BTreeMap::new()));
        assert_eq!(
            charging(&account_after(&story[..5])),
            (1, BTreeMap::from([(Bucket::Hour(0), 1)]))
        );
        story.push((40 * HOUR_S, 'd'));
        assert_eq!(
            charging(&account_after(&story)),
            (0, BTreeMap::from([(Bucket::Hour(40), -1)]))
        );
        // It was disconnected and reconnected before the oldest remembered state.
        story.pop();
        story.extend([(HOUR_S, 'd'), (2 * HOUR_S, 'a')]);
        assert_eq!(charging(&account_after(&story)), (1, BTreeMap::new()));
    }

    #[test]
    fn an_account_named_only_by_other_events_starts_no_onboarding() {
        let starts_onboarding = |account: &Account| {
            let counters = counters_of(account);
            let found = counters
                .iter()
                .any(|(_, name, _)| name.starts_with("cohort|") || name.starts_with("milestone|"));
            (
                found,
                counters.get(Bucket::Current, &["accounts", "unknown"]),
            )
        };
        let named = Account {
            first_seen_s: Some(100),
            ..Account::default()
        };
        assert_eq!(
            starts_onboarding(&named),
            (false, 1),
            "it is only counted as known"
        );
        assert_eq!(
            starts_onboarding(&Account {
                created_s: Some(50),
                ..named.clone()
            }),
            (true, 1)
        );
        assert_eq!(
            starts_onboarding(&Account {
                thin: Some((100, "evt_1".into())),
                ..named
            }),
            (true, 1)
        );
    }

    #[test]
    fn stages_are_timed_from_the_previous_milestone() {
        use Milestone as M;
        // For an account created at 100: when each milestone was reached, and how long that took.
        let table: [&[(M, i64, i64)]; 4] = [
            &[],
            &[
                (M::OnboardingStarted, 3700, 3600),
                (M::ExternalAccountAdded, 7300, 3600),
                (M::ChargesEnabled, 11_000, 3700),
                (M::OnboardingCompleted, 15_000, 4000),
            ],
            // Missing milestones are skipped.
            &[
                (M::ExternalAccountAdded, 3700, 3600),
                (M::OnboardingCompleted, 7300, 3600),
            ],
            // One that came before its predecessor took no time, and the next is measured from it.
            &[
                (M::ExternalAccountAdded, 9000, 8900),
                (M::ChargesEnabled, 4000, 0),
                (M::OnboardingCompleted, 8000, 4000),
            ],
        ];
        for reached in table {
            let milestones = reached
                .iter()
                .map(|(milestone, at_s, _)| (*milestone, *at_s))
                .collect();
            let counters = counters_of(&Account {
                created_s: Some(100),
                milestones,
                ..Account::default()
            });
            let mut expected = Counters::default();
            expected.add(Bucket::Hour(0), &["milestone", "account_created"], 1);
            for (milestone, at_s, seconds) in reached {
                let (hour, name) = (Bucket::hour_of(*at_s), milestone.as_str());
                expected.add(hour, &["milestone", name], 1);
                expected.add(hour, &["stage", name, "count"], 1);
                expected.add(hour, &["stage", name, "seconds"], *seconds);
                expected.add(
                    hour,
                    &[
                        "stage_bucket",
                        name,
                        &histogram::bucket(*seconds).to_string(),
                    ],
                    1,
                );
                if *milestone == M::ChargesEnabled {
                    let all = histogram::bucket(at_s - 100).to_string();
                    expected.add(hour, &["onboarded_bucket", &all], 1);
                }
            }
            let mut found = Counters::default();
            for (bucket, name, by) in counters.iter() {
                if ["milestone|", "stage|", "stage_bucket|", "onboarded_bucket|"]
                    .iter()
                    .any(|f| name.starts_with(f))
                {
                    found.add_named(bucket, name.to_owned(), by);
                }
            }
            assert_eq!(found, expected, "{reached:?}");
        }
    }
}
