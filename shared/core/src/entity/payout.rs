//! A payout and its outcome.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::events::{EventRef, event_refs};
use super::key::EntityKey;
use super::kind::EntityKind;
use super::mention::{Mention, unanswered};
use super::merge::keep_greater;
use super::state::EntityState;
use super::stripe_enums::PayoutStatus;
use super::timeline::{Facts, RecordedState, Timeline, value_fingerprint};
use super::transition::{Transition, status_changes};
use crate::amounts::UncertainMoney;
use crate::class::{Class, Owner};
use crate::condition::{BeganBefore, Condition, ConditionKey, ConditionKind};
use crate::counters::{Bucket, Tally, UNKNOWN};
use crate::money::Money;
use crate::realm::Realm;

/// The state of a payout, as known from its events.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payout {
    /// `po_…`
    #[serde(skip)]
    pub id: String,
    /// Facts that never change.
    pub origin: PayoutOrigin,
    /// The recorded states.
    pub timeline: Timeline<PayoutFacts>,
    /// Every status that an event ever showed, with the event's currency. It keeps what the
    /// timeline drops.
    #[serde(default)]
    pub reached: BTreeSet<(PayoutStatus, String)>,
    /// Which of the platform's own Stripe accounts it is of; unknown of what earlier versions stored.
    #[serde(default)]
    pub realm: Option<Realm>,
    /// The newest thin event that names it.
    #[serde(default)]
    pub mention: Option<Mention>,
}

/// Facts that Stripe never changes during a payout's life.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayoutOrigin {
    /// The connected account it belongs to.
    pub account: Option<String>,
    /// Minor units.
    pub amount_minor: Option<i64>,
    /// Lower case.
    pub currency: Option<String>,
    /// The payout that it reverses.
    #[serde(default)]
    pub original: Option<String>,
}

/// The state of a payout in one event.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PayoutFacts {
    /// Stripe's status.
    pub status: PayoutStatus,
    /// For example `account_closed`.
    pub failure_code: Option<String>,
    /// Stripe's explanation of the failure (C6).
    #[serde(default)]
    pub failure_message: Option<String>,
    /// The payout that reverses it.
    #[serde(default)]
    pub reversed_by: Option<String>,
}

impl PayoutOrigin {
    fn merge(&mut self, other: &Self) {
        keep_greater(&mut self.account, &other.account);
        keep_greater(&mut self.amount_minor, &other.amount_minor);
        keep_greater(&mut self.currency, &other.currency);
        keep_greater(&mut self.original, &other.original);
    }

    /// Whether it takes money from the bank account instead of paying it out: it reverses a payout, or its amount
    /// is negative. It is a payout of its own, with the same events.
    /// Source: <https://docs.stripe.com/connect/payout-reversals>.
    fn is_debit(&self) -> bool {
        self.original.is_some() || self.amount_minor.is_some_and(|minor| minor < 0)
    }
}

impl Payout {
    /// Merges one event.
    pub fn merge(&mut self, origin: &PayoutOrigin, state: RecordedState<PayoutFacts>) {
        self.origin.merge(origin);
        let currency = origin
            .currency
            .clone()
            .unwrap_or_else(|| UNKNOWN.to_owned());
        self.reached.insert((state.facts.status.clone(), currency));
        self.timeline.insert(state);
    }

    /// See [`super::Entity::union`].
    pub(super) fn union(&mut self, other: &Self) {
        self.origin.merge(&other.origin);
        self.reached.extend(other.reached.iter().cloned());
        self.timeline.union(&other.timeline);
    }

    /// The current state.
    pub fn current(&self) -> Option<&PayoutFacts> {
        self.timeline.last().map(|s| &*s.facts)
    }

    /// When it reached its current status, and the event that showed it.
    pub fn since(&self) -> Option<(i64, &str)> {
        self.reached_status()
            .map(|s| (s.created_s, s.event_id.as_str()))
    }

    fn reached_status(&self) -> Option<&RecordedState<PayoutFacts>> {
        let status = &self.current()?.status;
        // Payouts only move forward: two events about one change may be seconds apart, but none is left
        // and reached again.
        self.timeline.since(|f| f.status == *status, |_| None)
    }

    /// Whether it had its current status already at an unknown time before.
    fn began_before(&self) -> Option<BeganBefore> {
        self.timeline
            .began_before(self.reached_status()?, |s| s.unchanged("status"))
    }
}

impl EntityState for Payout {
    fn set_key(&mut self, key: &EntityKey) {
        self.id.clone_from(&key.id);
    }

    fn partition_key(&self) -> &str {
        self.origin.account.as_ref().unwrap_or(&self.id)
    }

    fn account(&self) -> Option<&str> {
        self.origin.account.as_deref()
    }

    fn unanswered(&self) -> Option<&Mention> {
        unanswered(self.mention.as_ref(), self.timeline.newest_s())
    }

    fn class(&self) -> Class<'_> {
        Class::of(
            self.realm.as_ref(),
            Owner::of(self.origin.account.as_deref()),
        )
    }

    /// An outcome counts in the hour in which it was reached:
    /// a payout that fails after it was paid moves from the hour of `paid` to that of `failed`. One
    /// that had it before the first event about it counts in no hour.
    /// `payouts_reached` counts every outcome ever reached and only grows. An outcome of unknown
    /// currency has the payout's; until that is known, it is not counted, so that it never moves.
    /// Debits count under names of their own: they are no payouts.
    fn contributions(&self, tally: &mut Tally) {
        if self.origin.is_debit() {
            return self.add_debit(tally);
        }
        let reached: BTreeSet<_> = self
            .reached
            .iter()
            .filter_map(|(status, currency)| match currency.as_str() {
                UNKNOWN => Some((status.label(), self.origin.currency.as_deref()?)),
                currency => Some((status.label(), currency)),
            })
            .collect();
        for (status, currency) in reached {
            tally.add(Bucket::Current, &["payouts_reached", status, currency], 1);
        }
        let (Some(facts), Some((since_s, _))) = (self.current(), self.since()) else {
            return;
        };
        let status = facts.status.label();
        let currency = self.origin.currency.as_deref().unwrap_or(UNKNOWN);
        tally.add(Bucket::Current, &["payouts", status, currency], 1);
        if self.began_before() == Some(BeganBefore::FirstSeen) {
            return;
        }
        let minute = Bucket::minute_of(since_s);
        tally.add(minute, &["payouts", status, currency], 1);
        tally.add_amount(
            minute,
            &["payouts_minor", status],
            self.origin.amount_minor,
            self.origin.currency.as_deref(),
        );
    }

    /// One that failed is no failed payout: no account waits for its money, and it is not retried.
    fn conditions(&self) -> Vec<Condition> {
        let Some(facts) = self.current().filter(|f| f.status == PayoutStatus::Failed) else {
            return Vec::new();
        };
        let Some((since_s, event_id)) = self.since() else {
            return Vec::new();
        };
        let is_debit = self.origin.is_debit();
        let kind = match is_debit {
            true => ConditionKind::PayoutReversalFailed,
            false => ConditionKind::PayoutFailed,
        };
        let minor = self.origin.amount_minor.map(|minor| match is_debit {
            true => minor.saturating_abs(),
            false => minor,
        });
        let original = self
            .origin
            .original
            .as_ref()
            .map(|id| format!("reverses {id}"));
        let detail: Vec<String> = [original, facts.failure()].into_iter().flatten().collect();
        vec![Condition {
            key: ConditionKey {
                kind,
                subject: EntityKey::new(EntityKind::Payout, &self.id),
            },
            since_s,
            began_before: self.began_before(),
            due_s: since_s,
            account: self.origin.account.clone(),
            customer: None,
            realm: self.realm.clone().unwrap_or_default(),
            money: Money::known(minor, self.origin.currency.as_deref()),
            detail: (!detail.is_empty()).then(|| detail.join("; ")),
            event_id: event_id.to_owned(),
            times: None,
            answer_by_s: None,
            trial_end_s: None,
            further_money: Vec::new(),
            uncertain: UncertainMoney::read(minor, None, self.origin.currency.as_deref()),
        }]
    }

    /// Every change of status, oldest first.
    fn transitions(&self) -> Vec<Transition> {
        status_changes(&self.timeline, "status", None, |facts| {
            facts.status.as_str()
        })
    }

    fn events(&self) -> Vec<EventRef> {
        event_refs(&self.timeline, None)
    }
}

impl Payout {
    /// The amount counts as what was taken back.
    fn add_debit(&self, tally: &mut Tally) {
        let (Some(facts), Some((since_s, _))) = (self.current(), self.since()) else {
            return;
        };
        let status = facts.status.label();
        let currency = self.origin.currency.as_deref().unwrap_or(UNKNOWN);
        let name = ["payout_reversals", status, currency];
        tally.add(Bucket::Current, &name, 1);
        if self.began_before() == Some(BeganBefore::FirstSeen) {
            return;
        }
        let hour = Bucket::hour_of(since_s);
        tally.add(hour, &name, 1);
        tally.add_amount(
            hour,
            &["payout_reversals_minor", status],
            self.origin.amount_minor.map(i64::saturating_abs),
            self.origin.currency.as_deref(),
        );
    }
}

impl PayoutFacts {
    /// For example `account_closed: The bank account has been closed.`
    fn failure(&self) -> Option<String> {
        let parts: Vec<&str> = [&self.failure_code, &self.failure_message]
            .into_iter()
            .flatten()
            .map(String::as_str)
            .collect();
        (!parts.is_empty()).then(|| parts.join(": "))
    }
}

impl Facts for PayoutFacts {
    const FIELDS: &'static [&'static str] =
        &["status", "failure_code", "failure_message", "reversed_by"];

    /// Payouts only move forward, and `paid` may still become `failed`.
    /// Source: <https://docs.stripe.com/payouts#payout-failures>.
    fn progress(&self) -> u64 {
        match self.status {
            PayoutStatus::Pending => 0,
            PayoutStatus::InTransit | PayoutStatus::Other(_) => 1,
            PayoutStatus::Paid => 2,
            PayoutStatus::Failed | PayoutStatus::Canceled => 3,
        }
    }

    fn value(&self, place: usize) -> u32 {
        match place {
            0 => value_fingerprint(self.status.as_str()),
            1 => value_fingerprint(self.failure_code.as_deref()),
            2 => value_fingerprint(self.failure_message.as_deref()),
            _ => value_fingerprint(self.reversed_by.as_deref()),
        }
    }
}
