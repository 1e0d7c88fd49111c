//! A connected account: can it take charges, can it be paid out, is it still connected?

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::timeline::{Facts, Sighting, Timeline};
use super::words::CapabilityStatus;
use super::{EntityKey, EntityKind, Transition, keep_greater, keep_smaller, print};
use crate::condition::{Condition, ConditionKey, ConditionKind};
use crate::counters::{Bucket, Counters};

/// A connected account as far as its events told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// `acct_…`
    #[serde(skip)]
    pub id: String,
    /// Two letters.
    pub country: Option<String>,
    /// `created` of the account itself, Unix seconds.
    pub created_s: Option<i64>,
    /// The earliest event that bears the account (C1), Unix seconds.
    pub first_seen_s: Option<i64>,
    /// Milestones: the earliest event that shows each, Unix seconds.
    pub milestones: BTreeMap<Milestone, i64>,
    /// The latest `account.application.deauthorized`: Unix seconds and event.
    pub deauthorized: Option<(i64, String)>,
    /// The latest `account.application.authorized`.
    pub authorized: Option<(i64, String)>,
    /// By capability, such as `card_payments`.
    pub capabilities: BTreeMap<String, Timeline<CapabilityFacts>>,
    /// What `account.updated` told.
    pub timeline: Timeline<AccountFacts>,
}

/// Steps of onboarding that Stripe's events show, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Milestone {
    /// The account was seen.
    AccountCreated,
    /// Its holder has submitted the onboarding form (`details_submitted`).
    OnboardingStarted,
    /// A bank account or card to be paid out to.
    ExternalAccountAdded,
    /// It may take charges.
    ChargesEnabled,
    /// It may take charges and be paid out.
    OnboardingCompleted,
}

/// One view of an account.
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
    /// How many are overdue.
    pub past_due: u32,
    /// Fingerprints of the two lists.
    pub due_prints: (u32, u32),
}

/// One view of a capability.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapabilityFacts {
    /// Stripe's status.
    pub status: CapabilityStatus,
}

/// How much revenue an account's state endangers (C9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Risk {
    /// Active.
    Low,
    /// Onboarding is incomplete.
    Medium,
    /// Restricted, or it cannot be paid out.
    High,
    /// Disabled, disconnected, or it is paid out but cannot take charges.
    Critical,
}

/// What one event says of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccountNews {
    /// The account exists: any event that bears it.
    Seen,
    /// `account.updated`
    Snapshot {
        /// Two letters.
        country: Option<String>,
        /// Unix seconds.
        created_s: Option<i64>,
        /// The view.
        sighting: Sighting<AccountFacts>,
        /// Whether it lists an external account.
        has_external_account: bool,
    },
    /// `account.external_account.created`
    ExternalAccount,
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
        /// The view.
        sighting: Sighting<CapabilityFacts>,
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

    /// The name exports and metrics use.
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

impl Risk {
    /// All, from the least.
    pub const ALL: [Self; 4] = [Self::Low, Self::Medium, Self::High, Self::Critical];

    /// The name exports and metrics use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

/// The risk table (C9), total over its inputs.
///
/// A `disabled_reason` of the kinds `requirements.*` and `action_required.*` can be cured by the
/// account's holder; the others are Stripe's or the platform's decision, or a review by them.
/// Source: <https://docs.stripe.com/api/accounts/object#account_object-requirements-disabled_reason>.
pub fn risk(facts: &AccountFacts) -> Risk {
    let reason = facts.disabled_reason.as_deref();
    let curable = reason.is_none_or(|r| r.starts_with("requirements.") || r.starts_with("action_required."));
    let overdue = facts.past_due > 0 || reason == Some("requirements.past_due");
    match (facts.charges_enabled, facts.payouts_enabled) {
        (false, false) if !curable => Risk::Critical,
        (false, false) if overdue => Risk::High,
        (false, false) => Risk::Medium,
        (false, true) => Risk::Critical,
        (true, false) => Risk::High,
        (true, true) if overdue || !curable => Risk::High,
        (true, true) => Risk::Low,
    }
}

impl Account {
    /// Learns from one event, created at `created_s`.
    pub fn merge(&mut self, created_s: i64, news: AccountNews) {
        keep_smaller(&mut self.first_seen_s, created_s);
        match news {
            AccountNews::Seen => {}
            AccountNews::Snapshot { country, created_s: born_s, sighting, has_external_account } => {
                keep_greater(&mut self.country, &country);
                if let Some(born_s) = born_s {
                    keep_smaller(&mut self.created_s, born_s);
                }
                let facts = &sighting.facts;
                let reached = [
                    (facts.details_submitted, Milestone::OnboardingStarted),
                    (has_external_account, Milestone::ExternalAccountAdded),
                    (facts.charges_enabled, Milestone::ChargesEnabled),
                    (facts.charges_enabled && facts.payouts_enabled, Milestone::OnboardingCompleted),
                ];
                for (_, milestone) in reached.into_iter().filter(|(is, _)| *is) {
                    self.reach(milestone, created_s);
                }
                self.timeline.insert(sighting);
            }
            AccountNews::ExternalAccount => self.reach(Milestone::ExternalAccountAdded, created_s),
            AccountNews::Connection { connected, event_id } => {
                let latest = if connected { &mut self.authorized } else { &mut self.deauthorized };
                keep_greater(latest, &Some((created_s, event_id)));
            }
            AccountNews::Capability { name, sighting } => self.capabilities.entry(name).or_default().insert(sighting),
        }
    }

    /// How it stands.
    pub fn current(&self) -> Option<&AccountFacts> {
        self.timeline.last().map(|s| &s.facts)
    }

    /// Whether the platform may still act for it. Authorization and removal of one second: removed.
    pub fn connected(&self) -> bool {
        match (&self.deauthorized, &self.authorized) {
            (Some((gone_s, _)), Some((back_s, _))) => back_s > gone_s,
            (Some(_), None) => false,
            (None, _) => true,
        }
    }

    /// The risk, once its state is known: a disconnected account can earn nothing through the platform.
    pub fn risk(&self) -> Option<Risk> {
        if self.connected() { self.current().map(risk) } else { Some(Risk::Critical) }
    }

    /// The furthest milestone.
    pub fn stage(&self) -> Milestone {
        self.milestones.last_key_value().map_or(Milestone::AccountCreated, |(m, _)| *m)
    }

    /// From creation (else first sight) to charges enabled.
    pub fn onboarding_seconds(&self) -> Option<i64> {
        let start_s = self.created_s.or(self.first_seen_s)?;
        self.milestones.get(&Milestone::ChargesEnabled).map(|done_s| done_s.saturating_sub(start_s).max(0))
    }

    /// See [`super::Entity::contributions`].
    pub fn contributions(&self, counters: &mut Counters) {
        let Some(_) = self.first_seen_s else { return };
        counters.add(Bucket::Standing, &["accounts", self.risk().map_or("unknown", Risk::as_str)], 1);
        if self.connected() && self.current().is_some_and(|f| f.charges_enabled) {
            counters.add(Bucket::Standing, &["accounts_charging"], 1);
        }
        let furthest = self.stage();
        for milestone in Milestone::ALL.into_iter().filter(|m| *m <= furthest) {
            counters.add(Bucket::Standing, &["funnel", milestone.as_str()], 1);
        }
    }

    /// See [`super::Entity::conditions`].
    pub fn conditions(&self) -> Vec<Condition> {
        let mut found = Vec::new();
        let ordered = self.timeline.in_order();
        let off = ordered.iter().rev().take_while(|s| !s.facts.charges_enabled).last();
        let once_on = self.milestones.contains_key(&Milestone::ChargesEnabled);
        if let Some(lost) = off.filter(|_| once_on && self.connected()) {
            let detail = self.current().and_then(|f| f.disabled_reason.clone());
            found.push(self.condition(ConditionKind::ChargesLost, lost.created_s, &lost.event_id, detail));
        }
        if let Some((gone_s, event_id)) = self.deauthorized.as_ref().filter(|_| !self.connected()) {
            found.push(self.condition(ConditionKind::Deauthorized, *gone_s, event_id, None));
        }
        found
    }

    /// Every change that people want to read about, oldest first.
    pub fn transitions(&self) -> Vec<Transition> {
        let mut found = Vec::new();
        let mut before: Option<&AccountFacts> = None;
        for seen in self.timeline.in_order() {
            let facts = &seen.facts;
            let flags = [
                ("charges_enabled", before.map(|b| b.charges_enabled), facts.charges_enabled),
                ("payouts_enabled", before.map(|b| b.payouts_enabled), facts.payouts_enabled),
            ];
            for (name, was, is) in flags.into_iter().filter(|(_, was, is)| *was != Some(*is)) {
                found.push(Transition {
                    at_s: seen.created_s,
                    event_id: seen.event_id.clone(),
                    what: format!("{name} {} → {is}", was.map_or_else(|| "(new)".to_owned(), |was| was.to_string())),
                    expected: was != Some(true),
                });
            }
            before = Some(facts);
        }
        for (latest, what) in [(&self.deauthorized, "disconnected"), (&self.authorized, "connected")] {
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

    fn reach(&mut self, milestone: Milestone, at_s: i64) {
        self.milestones.entry(milestone).and_modify(|first_s| *first_s = at_s.min(*first_s)).or_insert(at_s);
    }

    fn condition(&self, kind: ConditionKind, since_s: i64, event_id: &str, detail: Option<String>) -> Condition {
        Condition {
            key: ConditionKey { kind, subject: EntityKey::new(EntityKind::Account, &self.id) },
            since_s,
            due_s: since_s,
            account: Some(self.id.clone()),
            money: None,
            detail,
            event_id: event_id.to_owned(),
        }
    }
}

impl Facts for AccountFacts {
    /// All of it comes and goes.
    fn progress(&self) -> u64 {
        0
    }

    fn fields(&self) -> Vec<(&'static str, u32)> {
        vec![
            ("charges_enabled", print(self.charges_enabled)),
            ("payouts_enabled", print(self.payouts_enabled)),
            ("details_submitted", print(self.details_submitted)),
            ("requirements.disabled_reason", print(self.disabled_reason.as_deref())),
            ("requirements.currently_due", self.due_prints.0),
            ("requirements.past_due", self.due_prints.1),
        ]
    }
}

impl Facts for CapabilityFacts {
    fn progress(&self) -> u64 {
        0
    }

    fn fields(&self) -> Vec<(&'static str, u32)> {
        vec![("status", print(self.status.as_str()))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// C9, every combination of what the table looks at.
    #[test]
    fn the_risk_table_is_total() {
        use Risk::{Critical, High, Low, Medium};
        let reasons: [(Option<&str>, [Risk; 4]); 6] = [
            // charges × payouts:               no no    no yes    yes no  yes yes
            (None, [Medium, Critical, High, Low]),
            (Some("requirements.pending_verification"), [Medium, Critical, High, Low]),
            (Some("action_required.requested_capabilities"), [Medium, Critical, High, Low]),
            (Some("requirements.past_due"), [High, Critical, High, High]),
            (Some("rejected.fraud"), [Critical, Critical, High, High]),
            (Some("a word Stripe adds tomorrow"), [Critical, Critical, High, High]),
        ];
        for (reason, expected) in reasons {
            for past_due in [0, 1] {
                for currently_due in [0, 3] {
                    for (i, &plain) in expected.iter().enumerate() {
                        let facts = AccountFacts {
                            charges_enabled: i >= 2,
                            payouts_enabled: i % 2 == 1,
                            details_submitted: true,
                            disabled_reason: reason.map(str::to_owned),
                            currently_due,
                            past_due,
                            due_prints: (0, 0),
                        };
                        let expected = if past_due > 0 { plain.max(High) } else { plain };
                        assert_eq!(risk(&facts), expected, "{facts:?}");
                    }
                }
            }
        }
    }
}
